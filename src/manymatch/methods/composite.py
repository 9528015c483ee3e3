"""Methods of several members: each is trained apart by its own recipe, and the trained ones are joined."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ..data.pairs import Pairs
from ..errors import DataError, UnknownName
from ..similarity import Similarity, SmoothChamfer
from .base import Method, Ranges
from .recipe import SETTLED, Recipe

if TYPE_CHECKING:
    from ..data.store import Where
    from .joint import Joint

__all__ = ["Composite", "JoinedRuns", "Member"]

Member = tuple[str, Mapping[str, Any]]
"""A method's name, and what it has otherwise than by default: fields of its own and of its training."""

_APART = "its members train apart, each with numbers of its own"


@dataclass(frozen=True, kw_only=True)
class Composite(Method):
    """A method whose model is several trained ones, joined.

    Attributes:
        dim: width of the joint elements; members that are wider together are rotated to it.
    """

    parts: ClassVar[Mapping[str, Member]] = {}
    """Member -> what it is. A field of the same name holds what the user sets of it."""
    fixed: ClassVar[Mapping[str, str]] = dict.fromkeys({spec.name for spec in fields(Method)} - {"dim"}, _APART)
    ranges: ClassVar[Ranges] = {"dim": (2, math.inf)}

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.parts:
            found = getattr(self, name)
            if not isinstance(found, Mapping):
                raise DataError(
                    f"{self.name}.{name}: found {found!r}, expected settings of that member (--set {name}.FIELD=VALUE)"
                )
            self._split(name)

    def similarity(self) -> Similarity:
        return SmoothChamfer()

    def resolve(self, pairs: Pairs) -> Self:
        return self

    # ---- the members

    def settings_of(self, name: str) -> dict[str, Any]:
        """What a member has otherwise than by default; a preset that the user names takes the place of its part's."""
        asked = getattr(self, name)
        return dict(asked) if "preset" in asked else {**self.parts[name][1], **asked}

    def members(self) -> Mapping[str, Method]:
        """The methods of all members, by name."""
        from . import method

        return {name: method(self.parts[name][0], **self._split(name)[0]) for name in self.parts}

    def training_of(self, name: str) -> dict[str, Any]:
        """What a member's training has otherwise than its method's recipe says."""
        return self._split(name)[1]

    def _split(self, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Settings of a member that are fields of its method, and those of its training. Raises UnknownName."""
        from . import method_class

        kind = method_class(self.parts[name][0])
        known, trains = {spec.name for spec in fields(kind)} - set(kind.fixed), set[str]()
        if not kind.fitted:
            trains = {spec.name for spec in fields(Recipe)} - SETTLED
        settings = self.settings_of(name)
        for setting in settings:
            if setting not in known | trains:
                raise UnknownName(f"field of {name} ({kind.name}) or of its training", setting, known | trains)
        own = {k: v for k, v in settings.items() if k in known}
        return own, {k: v for k, v in settings.items() if k not in known}

    def chosen(self, pairs: Pairs, image_tower: str | None, say: Callable[[str], None] | None) -> Mapping[str, Method]:
        """The members that these pairs and towers allow; what is left out is said."""
        return self.members()

    def towers_of(self, name: str, image_tower: str | None, text_tower: str | None) -> dict[str, str | None]:
        """The towers that a member is built with, of those the user named."""
        return {"image_tower": image_tower, "text_tower": text_tower}

    def build(
        self,
        pairs: Pairs,
        *,
        image_tower: str | None = None,
        text_tower: str | None = None,
        seed: int = 0,
        store: Where = None,
        say: Callable[[str], None] | None = None,
    ) -> Joint:
        """As `Method.build`, of every member with the same seed; `train` trains them, and then joins them.

        Before that the joint turns what its untrained members give with a seeded random rotation.
        """
        from .joint import Joint

        members = {
            name: method.build(pairs, **self.towers_of(name, image_tower, text_tower), seed=seed, store=store, say=say)
            for name, method in self.chosen(pairs, image_tower, say).items()
        }
        return Joint.of(self, members, seed=seed)


@dataclass(frozen=True, kw_only=True)
class JoinedRuns(Composite):
    """What `manymatch join` makes of runs: there is nothing to train."""

    name: ClassVar[str] = "joint"
    summary: ClassVar[str] = "trained runs as one set model"
