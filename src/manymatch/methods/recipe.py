"""How a method is trained: optimiser, rates, schedule, stages and weight averaging, as numbers that a loop reads."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from ..errors import DataError
from .settings import check_ranges, check_value, hints_of

__all__ = ["RANGES", "SETTLED", "Keep", "Optimiser", "Recipe", "Schedule", "Stage"]

Optimiser = Literal["adamw", "adam"]
Schedule = Literal["cosine", "step", "plateau", "constant"]
Keep = Literal["best", "last"]

RANGES: dict[str, tuple[float, float]] = {
    "epochs": (1, math.inf),
    "lr": (1e-12, 1e3),
    "weight_decay": (0.0, 1e3),
    "warmup": (0.0, 1.0),
    "step_factor": (0.0, 1.0),
    "plateau_factor": (0.0, 1.0),
    "patience": (0, math.inf),
    "clip": (0.0, math.inf),
    "average": (0.0, 0.99999),
    "average_from": (0.0, 0.999),
}

SETTLED = frozenset(
    ("amsgrad", "average_every", "betas", "groups", "no_decay", "note", "plateau_factor", "plateau_mode", "stages")
)
"""Fields of a recipe that a method alone says; a training config may change all others."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stretch of whole epochs that trains in its own way.

    Attributes:
        epochs: how many.
        lr: base learning rate; None leaves the recipe's.
        frozen: starts of parameter names that get no gradient and no update.
        frozen_eval: the frozen parts also run as in evaluation: no dropout, batch normalisation by its running
            statistics. Off, they run as in training, as in the official PVSE, whose frozen backbone still normalises
            by the batch.
        restart: optimiser and schedule begin anew (PCME's two trainings); otherwise both go on (VSE-infinity).
        loss_ramp: the loss is multiplied by the share of the stage that is done, from 0 (VSE-infinity's second epoch).
    """

    epochs: int
    lr: float | None = None
    frozen: tuple[str, ...] = ()
    frozen_eval: bool = False
    restart: bool = True
    loss_ramp: bool = False

    def __post_init__(self) -> None:
        _check("stage", self)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a method is trained. TrainConfig may override most of these.

    Attributes:
        epochs: passes over the training images, of all stages together.
        lr: base learning rate.
        groups: start of a parameter's name -> factor on the rate; the longest start that fits counts.
        optimiser: "adamw", or "adam", whose weight decay is an L2 term of the gradient.
        amsgrad: the optimiser divides by the largest second moment so far.
        weight_decay, betas: of the optimiser.
        no_decay: parts of parameter names; what has one in its name is trained without weight decay.
        warmup: share of the steps over which the rate rises from 0; of a stage's steps where it restarts.
        schedule: "cosine" to 0, "step", "plateau" or "constant".
        milestones: epochs after which "step" multiplies the rate by `step_factor`, counted as `warmup` is.
        step_factor: of "step".
        plateau_factor: "plateau" multiplies the rate by it once validation RSUM stood still for more than `patience`
            epochs.
        patience: of "plateau".
        plateau_mode: "max" waits for a higher RSUM; "min" for a lower one, as the official PVSE does by mistake.
        clip: largest norm of all gradients together; 0 is none.
        average: decay of the running average of the weights that is validated and kept; 0 keeps the last weights.
        average_from: share of the epochs after which the plain mean of the weights is kept instead (PCME++); None is
            no such mean.
        average_every: the mean is taken over the ends of "epoch"s or over every "step".
        keep: the epoch that is kept, the "best" by RSUM on validation or the "last".
        stages: what changes along the way; empty is one stage of `epochs`.
        note: what the published recipe has that this one has not; printed when training begins, and kept in the run.
    """

    epochs: int = 12
    lr: float = 1e-3
    groups: Mapping[str, float] = field(default_factory=dict)
    optimiser: Optimiser = "adamw"
    amsgrad: bool = False
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    no_decay: tuple[str, ...] = ()
    warmup: float = 0.05
    schedule: Schedule = "cosine"
    milestones: tuple[int, ...] = ()
    step_factor: float = 0.1
    plateau_factor: float = 0.5
    patience: int = 10
    plateau_mode: Literal["max", "min"] = "max"
    clip: float = 2.0
    average: float = 0.99
    average_from: float | None = None
    average_every: Literal["epoch", "step"] = "epoch"
    keep: Keep = "best"
    stages: tuple[Stage, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        _check("recipe", self)
        if self.stages and sum(stage.epochs for stage in self.stages) != self.epochs:
            shares = " + ".join(str(stage.epochs) for stage in self.stages)
            raise DataError(f"recipe.epochs: found {self.epochs}, expected the sum of its stages, {shares}")
        if self.schedule == "step" and not self.milestones:
            raise DataError(
                "recipe: schedule 'step' without milestones would never step; take a preset that has some, "
                "or schedule=cosine"
            )
        if self.average and self.average_from is not None:
            raise DataError(
                f"recipe: average {self.average:g} and average_from {self.average_from:g} are two ways to average; "
                "set average=0 or average_from=none"
            )

    @property
    def all_stages(self) -> tuple[Stage, ...]:
        """Its stages; one over all epochs where it names none."""
        return self.stages or (Stage(epochs=self.epochs),)

    def lasting(self, epochs: int) -> Recipe:
        """The same recipe over other epochs: stages and milestones keep their shares, rounded to whole epochs.

        Every stage keeps at least one epoch; with fewer epochs than stages, the first stages have one each.
        """
        shares = _share(epochs, [stage.epochs for stage in self.stages])
        stages = tuple(replace(stage, epochs=n) for stage, n in zip(self.stages, shares, strict=False))
        milestones = tuple(max(1, round(m * epochs / self.epochs)) for m in self.milestones)
        left_out = len(self.stages) - len(stages)
        notes = [f"{epochs} epochs leave out the last {left_out} of {len(self.stages)} stages"] if left_out else []
        note = "; ".join([self.note] * bool(self.note) + notes)
        return replace(self, epochs=epochs, stages=stages, milestones=milestones, note=note)

    def at_rate(self, lr: float) -> Recipe:
        """The same recipe at another base rate; rates of stages change in proportion."""
        stages = tuple(
            stage if stage.lr is None else replace(stage, lr=stage.lr * lr / self.lr) for stage in self.stages
        )
        return replace(self, lr=lr, stages=stages)


def _check(owner: str, holder: Any) -> None:
    hints = hints_of(type(holder))
    for spec in fields(holder):
        check_value(owner, spec.name, getattr(holder, spec.name), hints)
    check_ranges(owner, holder, RANGES)


def _share(total: int, parts: list[int]) -> list[int]:
    """`total` in whole numbers of at least 1, as near to the proportions of `parts` as they go."""
    if total < len(parts):
        return [1] * total
    wanted = [total * part / sum(parts) for part in parts]
    out = [max(1, round(want)) for want in wanted]
    while parts and sum(out) != total:
        step = 1 if sum(out) < total else -1
        open_to = [n for n, have in enumerate(out) if have + step >= 1]
        out[max(open_to, key=lambda n: step * (wanted[n] - out[n]))] += step
    return out


PLAIN = Recipe(weight_decay=1e-4, betas=(0.9, 0.999), warmup=0.0, clip=2.0, average=0.0)
"""What most authors' scripts have in common: Adam's own betas, no warm-up, the last weights, gradients cut at 2."""
