"""Which images and captions meet in a batch.

An epoch's order depends only on (seed, epoch), so a run resumes anywhere by its step number alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..errors import DataError
from .pairs import Pairs

__all__ = ["ImagesWithCaptions", "Rows", "Sampler", "ShuffledPairs", "cut", "usable"]

Ints = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Rows:
    """One batch: image rows (i,) and caption rows (c,) of the training pairs, and which belong together (i, c) bool."""

    images: Ints
    captions: Ints
    matches: np.ndarray[Any, np.dtype[np.bool_]]

    @classmethod
    def of(cls, images: Ints, captions: Ints, owner: Ints) -> Rows:
        """Images and captions that meet, given the image row of each of these captions (c,)."""
        return cls(images, captions, owner[None, :] == images[:, None])


class Sampler(Protocol):
    """How an epoch is cut into batches."""

    def steps(self, pairs: Pairs) -> int:
        """Batches in an epoch."""
        ...

    def epoch(self, pairs: Pairs, *, seed: int, epoch: int) -> Iterator[Rows]:
        """The batches of one epoch, the same for the same seed and epoch."""
        ...


def cut(order: Ints, size: int) -> list[Ints]:
    """Batches as equal as can be, at most a quarter above the size: a rest of one or two would have no negatives."""
    return np.array_split(order, max(1, math.ceil(len(order) / size - 0.25)))


def usable(pairs: Pairs) -> Ints:
    """Rows of the images that have a caption. Raises DataError when they are fewer than two."""
    rows = np.array([n for n, item in enumerate(pairs.items) if item.captions], np.int64)
    if len(rows) < 2:
        raise DataError(f"training: {len(rows)} images with captions, expected at least 2")
    return rows


@dataclass(frozen=True)
class ImagesWithCaptions:
    """Every image once an epoch, with `captions` of its own drawn without repetition (DivE: all of them).

    Attributes:
        batch: images a batch.
        captions: captions an image; None takes all it has.
    """

    batch: int = 192
    captions: int | None = None

    def steps(self, pairs: Pairs) -> int:
        return len(cut(usable(pairs), self.batch))

    def epoch(self, pairs: Pairs, *, seed: int, epoch: int) -> Iterator[Rows]:
        draw = np.random.default_rng([seed, epoch])
        counts = np.bincount(pairs.owner, minlength=len(pairs))
        first = np.concatenate([[0], np.cumsum(counts)])[:-1]
        for images in cut(draw.permutation(usable(pairs)), self.batch):
            chosen = []
            for image in images:
                have = int(counts[image])
                taken = have if self.captions is None else min(self.captions, have)
                chosen.append(first[image] + np.sort(draw.permutation(have)[:taken]))
            captions = np.concatenate(chosen)
            yield Rows.of(images, captions, pairs.owner[captions])


@dataclass(frozen=True)
class ShuffledPairs:
    """Every caption once an epoch, each with its image (VSE++ and its descendants).

    Two captions of one image can meet, and both are its matches.

    Attributes:
        batch: captions a batch.
        repeat_images: row n is the image of caption n, so an image stands there once for each of its captions: what
            losses that take the diagonal for the matches expect ("released" modes). Otherwise it has one row.
    """

    batch: int = 128
    repeat_images: bool = False

    def steps(self, pairs: Pairs) -> int:
        return len(cut(np.arange(len(pairs.captions)), self.batch))

    def epoch(self, pairs: Pairs, *, seed: int, epoch: int) -> Iterator[Rows]:
        order = np.random.default_rng([seed, epoch]).permutation(len(pairs.captions))
        for captions in cut(order, self.batch):
            owner = pairs.owner[captions]
            yield Rows.of(owner if self.repeat_images else np.unique(owner), captions, owner)
