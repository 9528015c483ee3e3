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
        asking, asked = (
            _numbered(slices, size)[rows]
            for slices, size, rows in (
                (self.images, matches.shape[0], matches.images),
                (self.captions, matches.shape[1], matches.captions),
            )
        )
        kept = (asking == asked) & (asking >= 0)
        return Matches(matches.images[kept], matches.captions[kept], matches.shape)


def _numbered(slices: tuple[slice, ...], size: int) -> Ints:
    """(size,): the fold of each row, -1 for none."""
    out = np.full(size, -1, np.int64)
    for number, rows in enumerate(slices):
        out[rows] = number
    return out
