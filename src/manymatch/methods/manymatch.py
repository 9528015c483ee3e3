"""manymatch: our best recipe. A tuned linear model and a model of sets, trained apart and joined into one set model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..data.pairs import Pairs
from ..encoders.pretrained import is_pretrained
from .base import Method, Ranges
from .composite import Composite, Member
from .settings import change

__all__ = ["ManyMatch"]


@dataclass(frozen=True, kw_only=True)
class ManyMatch(Composite):
    """Members `linear` (cca_tuned) and `sets` (dive), joined: `unit(R [sqrt(w) linear, sqrt(1 - w) sets_k])`.

    A linear map of strong features is right where small data teach a network little, and errs elsewhere than it does.
    Weight and rotation are chosen on validation, after both are trained.

    Attributes:
        elements: k, size of each set.
        linear: settings of the linear member, such as linear.dropout=0.2. It needs features, or a pretrained network.
        sets: settings of the set member, such as sets.epochs=20; a preset of its own, such as sets.preset=published,
            takes the place of spread with 16 epochs.
    """

    name: ClassVar[str] = "manymatch"
    paper: ClassVar[str] = "this project"
    summary: ClassVar[str] = "members linear (cca_tuned) and sets (dive), trained apart, joined into one set model"
    parts: ClassVar[Mapping[str, Member]] = {
        "linear": ("cca_tuned", {}),
        "sets": ("dive", {"preset": "spread", "epochs": 16}),
    }
    ranges: ClassVar[Ranges] = {"elements": (1, math.inf)}

    elements: int = 4
    linear: Mapping[str, Any] = field(default_factory=dict)
    sets: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.sets, Mapping) and "elements" in self.sets:
            # One number under two names: the member's own is the nearer.
            asked = change(self.name, type(self), {"elements": self.sets["elements"]})
            object.__setattr__(self, "elements", asked["elements"])
        super().__post_init__()

    def settings_of(self, name: str) -> dict[str, Any]:
        settings = super().settings_of(name)
        return {"elements": self.elements, **settings} if name == "sets" else settings

    def chosen(self, pairs: Pairs, image_tower: str | None, say: Callable[[str], None] | None) -> Mapping[str, Method]:
        members = self.members()
        if is_pretrained(image_tower) or (pairs.features is not None and image_tower in (None, "features")):
            return members
        if say is not None:
            say(
                "manymatch: without features there is no linear member (--features FILE, or --image-tower hf:NAME); "
                "sets alone"
            )
        return {name: method for name, method in members.items() if name != "linear"}

    def towers_of(self, name: str, image_tower: str | None, text_tower: str | None) -> dict[str, str | None]:
        towers = super().towers_of(name, image_tower, text_tower)
        return towers | {"text_tower": None} if name == "linear" else towers
