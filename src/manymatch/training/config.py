"""What a training run may change about a method's recipe."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_type_hints

from ..errors import UnknownName
from ..methods import Method, Recipe, change
from ..methods.composite import Composite
from ..methods.recipe import RANGES, Keep, Optimiser, Schedule
from ..methods.settings import check_ranges, check_value
from .member_settings import split_members

__all__ = ["TrainConfig", "split_settings"]

_RANGES: dict[str, tuple[float, float]] = {
    **RANGES,
    "seed": (0, 2**31),
    "save_minutes": (0.0, math.inf),
    "bank": (0, 2**31),
}


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How to train; None leaves it to the method's recipe.

    Attributes:
        epochs: passes over the training images; stages and milestones of the recipe keep their shares.
        lr: base learning rate; the rates of the recipe's stages and groups change in proportion.
        optimiser: "adamw" or "adam".
        weight_decay: of the optimiser.
        warmup: share of the steps over which the rate rises from 0.
        schedule: "cosine" to 0, "step" at the recipe's milestones, "plateau" of validation RSUM, or "constant".
        milestones: epochs after which "step" multiplies the rate, such as 10,12.
        step_factor: by which it does.
        patience: epochs that "plateau" waits.
        clip: largest norm of all gradients together; 0 is none.
        average: decay of the running average of the weights that is validated and kept; 0 keeps the last weights.
        average_from: share of the epochs after which the plain mean of each epoch's weights is kept instead.
        keep: the epoch that is kept, the "best" by RSUM on validation or the "last".
        seed: of starting weights, order, dropout and augmentation.
        precision: "auto" takes bfloat16 for the towers where the device multiplies it in hardware, else float32;
            similarity and losses are always float32.
        bank: training captions, and images, whose scores correct rankings (query bank), of each at most; 0 is no bank.
        save_minutes: between two saves in the middle of an epoch; every epoch's end is saved too.
        device: "auto" takes a GPU when there is one.
    """

    epochs: int | None = None
    lr: float | None = None
    optimiser: Optimiser | None = None
    weight_decay: float | None = None
    warmup: float | None = None
    schedule: Schedule | None = None
    milestones: tuple[int, ...] | None = None
    step_factor: float | None = None
    patience: int | None = None
    clip: float | None = None
    average: float | None = None
    average_from: float | None = None
    keep: Keep | None = None
    seed: int = 0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    bank: int = 5_000
    save_minutes: float = 3.0
    device: str = "auto"

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for spec in fields(self):
            check_value("the training config", spec.name, getattr(self, spec.name), hints)
        check_ranges("the training config", self, _RANGES)

    def recipe(self, method: Method) -> Recipe:
        """The method's recipe with what this config says instead."""
        recipe = method.recipe()
        recipe = recipe if self.epochs is None else recipe.lasting(self.epochs)
        recipe = recipe if self.lr is None else recipe.at_rate(self.lr)
        own = {f.name for f in fields(Recipe)} - {"epochs", "lr"}
        said = {k: v for k, v in asdict(self).items() if k in own and v is not None}
        # One kind of average takes the place of the other, unless both are asked for.
        if "average_from" in said:
            said = {"average": 0.0, **said}
        elif said.get("average"):
            said = {"average_from": None, **said}
        return replace(recipe, **said)


def split_settings(method: str, settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """`--set` values that belong to the method, and those of the training config; `MEMBER.FIELD` to a method's member.

    Raises:
        UnknownName: neither has such a field; offers the nearest of both.
        DataError: a value that is not of the field's type.
    """
    from ..methods import method_class

    cls = method_class(method)
    if issubclass(cls, Composite):
        return split_members(cls, settings, TrainConfig)
    of_method = {f.name for f in fields(cls)}
    of_config = {f.name for f in fields(TrainConfig)}
    for name in settings:
        if name not in of_method | of_config:
            raise UnknownName(f"field of {method} or of the training config", name, of_method | of_config)
    mine = {k: v for k, v in settings.items() if k in of_method}
    config = {k: v for k, v in settings.items() if k in of_config}
    return change(method, cls, mine), change("the training config", TrainConfig, config)
