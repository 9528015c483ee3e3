"""What a training run may change about a method's recipe, and the plan that comes out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_type_hints

from ..errors import UnknownName
from ..methods import Method, Recipe, change
from ..methods.base import check_ranges, check_value

__all__ = ["Plan", "TrainConfig", "split_settings"]


_RANGES: dict[str, tuple[float, float]] = {
    "epochs": (1, math.inf),
    "lr": (1e-12, 1e3),
    "weight_decay": (0.0, 1e3),
    "warmup": (0.0, 1.0),
    "clip": (0.0, math.inf),
    "average": (0.0, 0.99999),
    "seed": (0, 2**31),
    "save_minutes": (0.0, math.inf),
}


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How to train; None leaves it to the method's recipe.

    Attributes:
        epochs: passes over the training images.
        lr: base learning rate.
        weight_decay, warmup, schedule, clip, average: as in Recipe.
        seed: of starting weights, order, dropout and augmentation.
        precision: "auto" takes bfloat16 for the towers where the device multiplies it in hardware, else float32;
            similarity and losses are always float32.
        save_minutes: between two saves in the middle of an epoch; every epoch's end is saved too.
        device: "auto" takes a GPU when there is one.
    """

    epochs: int | None = None
    lr: float | None = None
    weight_decay: float | None = None
    warmup: float | None = None
    schedule: Literal["cosine", "step", "constant"] | None = None
    clip: float | None = None
    average: float | None = None
    seed: int = 0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    save_minutes: float = 3.0
    device: str = "auto"

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for spec in fields(self):
            check_value("the training config", spec.name, getattr(self, spec.name), hints)
        check_ranges("the training config", self, _RANGES)

    def recipe(self, method: Method) -> Recipe:
        """The method's recipe with what this config says instead."""
        own = {f.name for f in fields(Recipe)}
        said = {k: v for k, v in asdict(self).items() if k in own and v is not None}
        return replace(method.recipe(), **said)


def split_settings(method: str, settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """`--set` values that belong to the method, and those of the training config.

    Raises:
        UnknownName: neither has such a field; offers the nearest of both.
        DataError: a value that is not of the field's type.
    """
    from ..methods import method_class

    cls = method_class(method)
    of_method = {f.name for f in fields(cls)}
    of_config = {f.name for f in fields(TrainConfig)}
    for name in settings:
        if name not in of_method | of_config:
            raise UnknownName(f"field of {method} or of the training config", name, of_method | of_config)
    mine = {k: v for k, v in settings.items() if k in of_method}
    config = {k: v for k, v in settings.items() if k in of_config}
    return change(method, cls, mine), change("the training config", TrainConfig, config)


@dataclass(frozen=True)
class Plan:
    """A recipe laid out over steps: everything that depends on a step is a function of its number alone.

    Attributes:
        recipe: with the config's changes.
        epoch_steps: steps of an epoch.
    """

    recipe: Recipe
    epoch_steps: int

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return self.epoch_steps * self.recipe.epochs

    def rate(self, step: int) -> float:
        """Factor on every group's learning rate at this step."""
        r = self.recipe
        warm = round(r.warmup * self.steps)
        if step < warm:
            return (step + 1) / warm
        if r.schedule == "constant":
            return 1.0
        if r.schedule == "step":
            return float(r.step_factor ** sum(step // self.epoch_steps >= m for m in r.milestones))
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(self.steps - warm, 1)))

    def averaging(self, step: int) -> float:
        """Decay of the running average: short at first, so that the start is forgotten."""
        return min(self.recipe.average, (1 + step) / (10 + step))

    def group_of(self, parameter: str) -> str:
        """The longest start in `recipe.groups` that fits the parameter's name, "" for none."""
        return max((g for g in self.recipe.groups if parameter.startswith(g)), key=len, default="")
