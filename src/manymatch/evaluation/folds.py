"""Folds: consecutive images with their captions, ranked apart from the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.matches import Matches

__all__ = ["Folds"]

Ints = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Folds:
    """Consecutive images, each with its own consecutive captions; ranked apart from the others.

    Attributes:
        images, captions: the rows of each fold.
    """

    images: tuple[slice, ...]
    captions: tuple[slice, ...]

    @classmethod
    def of(cls, owner: Ints, images: int, size: int) -> Folds:
        """Folds of `size` images; what is left over is in none. `owner` (c,) ascends."""
        starts = np.searchsorted(owner, np.arange(images + 1))
        cuts = [(n, n + size) for n in range(0, images - size + 1, size)]
        return cls(tuple(slice(a, b) for a, b in cuts), tuple(slice(int(starts[a]), int(starts[b])) for a, b in cuts))

    def turned(self) -> Folds:
        """The same with captions asking."""
        return Folds(self.captions, self.images)

    def inside(self, matches: Matches) -> Matches:
        """The right answers that lie in one fold with their query."""
        bounds = np.array([s.start for s in self.images]), np.array([s.start for s in self.captions])
        fold = [
            np.searchsorted(b, rows, side="right") - 1
            for b, rows in zip(bounds, (matches.images, matches.captions), strict=True)
        ]
        ends = [np.array([s.stop for s in side]) for side in (self.images, self.captions)]
        kept = fold[0] == fold[1]
        for rows, place, end in zip((matches.images, matches.captions), fold, ends, strict=True):
            kept &= (place >= 0) & (rows < end[np.maximum(place, 0)])
        return Matches(matches.images[kept], matches.captions[kept], matches.shape)
