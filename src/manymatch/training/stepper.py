"""One step of training: the stage and the rate it stands in, the loss, the update, and the average that follows."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import DataError
from ..methods import Batch, Model
from .averaging import make_average
from .lines import stage_line
from .optimiser import Freezer, make_optimiser
from .plan import Plan, Plateau, Stretch
from .state import read_state, write_state

__all__ = ["Stepper"]


class Stepper:
    """All that changes from step to step, and nothing of the epoch.

    Args:
        model: on its device.
        plan: the recipe over steps.
        seed: with the step's number, of everything random in it.
        precision: of the towers, "float32" or "bfloat16".
        tell: told when a stage begins, where there are several or it freezes something.
    """

    def __init__(self, model: Model, plan: Plan, *, seed: int, precision: str, tell: Callable[[str], None]) -> None:
        self.model, self.plan, self.seed, self.precision, self.tell = model, plan, seed, precision, tell
        self.optimiser, self.freezer = make_optimiser(model, plan.recipe), Freezer(model)
        self.average, self.plateau = make_average(model, plan), Plateau(plan.recipe)
        self.stretch: Stretch | None = None

    def __call__(self, step: int, batch: Batch) -> dict[str, float]:
        """Learn from the batch; the value of each term. Raises DataError when loss or gradient is no number."""
        torch.manual_seed(self.seed * 1_000_003 + step)
        self._enter(self.plan.at(step), step)
        self.model.advance(step, self.plan.steps, self.plan.recipe.epochs)
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            terms = self.model.training_step(batch)
        values = {name: float(value.detach()) for name, value in terms.items()}
        if not math.isfinite(values["loss"]):
            raise DataError(
                f"training: the loss is {values['loss']} at step {step} "
                f"({', '.join(f'{k} {v:.3g}' for k, v in values.items())}); lower it with --set lr=..., "
                "or look at the data with: manymatch check"
            )
        self._learn(terms["loss"] * self.plan.loss_weight(step), step)
        return values

    def _enter(self, stretch: Stretch, step: int) -> None:
        """Stand in the stage, which may begin here or go on after an interruption."""
        stage = stretch.stage
        if stretch is not self.stretch:
            self.stretch = stretch
            frozen = self.freezer.freeze(stage)
            if stage.restart and step == stretch.first:
                self.optimiser.state.clear()
                self.plateau.restart()
            if len(self.plan.stretches) > 1 or stage.frozen:
                self.tell(stage_line(self.plan, stretch, frozen))
        self.freezer.settle(stage)

    def _learn(self, loss: Tensor, step: int) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = group["base"] * self.rate(step)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.plan.recipe.clip or math.inf))
        if not math.isfinite(norm):
            raise DataError(f"training: the gradient is {norm} at step {step}; lower the rate with --set lr=...")
        self.optimiser.step()
        # Now too, not only before the next way back: the forward pass in between needs the room.
        self.optimiser.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.follow(self.model, step)

    def rate(self, step: int) -> float:
        """Factor on every group's learning rate."""
        return self.plan.rate(step) * self.plateau.factor

    def swap(self) -> None:
        """Exchange the weights with their average, where one is kept; calling it twice changes nothing."""
        if self.average is not None:
            self.average.swap(self.model)

    # ---- saving and going on

    def write(self, path: Path, facts: dict[str, Any]) -> None:
        """Weights, average, optimiser, and `facts` with those of the stepper, in one file written whole."""
        relation = self.model.relation
        mine = {
            "plateau": self.plateau.facts(),
            "averaged": 0 if self.average is None else self.average.count,
            "acted": 0 if relation is None else relation.acted,
        }
        write_state(path, self.model, self.average, self.optimiser, {**facts, **mine})

    def read(self, path: Path, facts: dict[str, Any]) -> None:
        """Go on where the file was written; `facts` are its own. Raises CheckpointError."""
        read_state(path, self.model, self.average, self.optimiser)
        self.plateau.restore(facts["plateau"])
        if self.average is not None:
            self.average.count = int(facts["averaged"])
        if self.model.relation is not None:
            self.model.relation.acted = int(facts["acted"])
