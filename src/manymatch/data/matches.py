"""Which image and which caption belong together: the truth, sparse, many to many."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import DataError

__all__ = ["Matches"]

Ints = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Matches:
    """Matching (image, caption) rows.

    Attributes:
        images, captions: (p,) int64, row numbers of the p matching pairs, sorted by image then caption, no repeats.
        shape: (i, c), how many images and captions there are.
    """

    images: Ints
    captions: Ints
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        _check(self.images, self.captions, self.shape)

    @classmethod
    def of(cls, images: Any, captions: Any, shape: tuple[int, int]) -> Matches:
        """Any order, repeats allowed. Raises DataError for rows outside the shape or lists of unequal length."""
        images, captions = np.asarray(images, np.int64), np.asarray(captions, np.int64)
        # Before flattening: afterwards a row outside would be another pair.
        _check(images, captions, shape)
        # np.unique hashes whole numbers since numpy 2.3, which takes seconds for millions of pairs.
        flat = np.sort(images.ravel() * shape[1] + captions.ravel())
        flat = flat[np.concatenate([[True], flat[1:] != flat[:-1]])[: len(flat)]]
        return cls(flat // max(shape[1], 1), flat % max(shape[1], 1), shape)

    @classmethod
    def from_owner(cls, owner: Any, images: int) -> Matches:
        """Each caption c matches the one image `owner[c]`: a caption's own image."""
        rows = np.asarray(owner, np.int64)
        return cls.of(rows, np.arange(len(rows)), (images, len(rows)))

    @classmethod
    def from_dense(cls, dense: Any) -> Matches:
        """From a bool matrix (i, c)."""
        array = np.asarray(dense, bool)
        images, captions = np.nonzero(array)
        return cls.of(images, captions, (array.shape[0], array.shape[1]))

    @classmethod
    def union(cls, several: Iterable[Matches], shape: tuple[int, int]) -> Matches:
        """Every pair that matches in one of several truths of one shape, which may be none."""
        images, captions = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for each in several:
            images.append(each.images)
            captions.append(each.captions)
        return cls.of(np.concatenate(images), np.concatenate(captions), shape)

    def __len__(self) -> int:
        return len(self.images)

    def dense(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Bool matrix (i, c)."""
        out = np.zeros(self.shape, bool)
        out[self.images, self.captions] = True
        return out

    def transpose(self) -> Matches:
        """Captions as rows: shape (c, i), sorted by caption then image."""
        return Matches.of(self.captions, self.images, (self.shape[1], self.shape[0]))

    def indptr(self) -> Ints:
        """(i + 1,): the pairs of image r are entries indptr[r]:indptr[r + 1]."""
        return np.concatenate([[0], np.cumsum(np.bincount(self.images, minlength=self.shape[0]))]).astype(np.int64)

    def subset(self, images: Any, captions: Any) -> Matches:
        """The truth among the chosen rows, renumbered in the order given. Raises DataError when a row repeats."""
        i = _renumbered("image", images, self.shape[0])[self.images]
        c = _renumbered("caption", captions, self.shape[1])[self.captions]
        kept = (i >= 0) & (c >= 0)
        return Matches.of(i[kept], c[kept], (len(images), len(captions)))


def _check(images: Ints, captions: Ints, shape: tuple[int, int]) -> None:
    if len(images) != len(captions):
        raise DataError(f"matches: {len(images)} images, {len(captions)} captions; expected as many")
    for name, rows, size in (("image", images, shape[0]), ("caption", captions, shape[1])):
        if len(rows) and (rows.min() < 0 or rows.max() >= size):
            raise DataError(f"matches: {name} row {rows.min()}..{rows.max()}, expected 0..{size - 1}")


def _renumbered(name: str, rows: Any, size: int) -> Ints:
    """(size,): old row -> its place in `rows`, -1 where it is not chosen."""
    chosen = np.asarray(rows, np.int64)
    out = np.full(size, -1, np.int64)
    out[chosen] = np.arange(len(chosen))
    twice = chosen[out[chosen] != np.arange(len(chosen))]
    if len(twice):
        raise DataError(f"matches: {name} row {twice[0]} is chosen twice, expected every row once")
    return out
