"""PMRP, plausible-match R-precision: right is every item whose image has nearly the same categories.

Chun et al., Probabilistic Embeddings for Cross-Modal Retrieval, CVPR 2021, section 4.1, as its evaluation script counts
it, with one exception: the script reads rankings that were stored without their last item, here they are whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...data.pairs import Pairs
from ...errors import DataError
from ..dense import r_precisions_within
from ..folds import Folds
from ..measures import Mean
from .base import Asked, Direction, Found, Measured, Protocol
from .labels import LabelVectors, require_labels

__all__ = ["Pmrp"]

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]

_ZETAS = 3
"""Distances 0, 1 and 2 are plausible, each once."""

_FEWEST_FOLDS = 2


class Pmrp(Protocol):
    """R-precision where images whose category lists differ in at most zeta places match, the mean of zeta 0, 1 and 2.

    Images without categories leave queries and gallery, after the folds were cut.

    Args:
        fold: consecutive images of a fold.
    """

    name = "pmrp"
    truth_name = "similar categories"

    def __init__(self, fold: int = 1000) -> None:
        self.fold = fold

    def fits(self, pairs: Pairs) -> bool:
        """For lists of categories: some image has two. Where every right answer is known, none needs to be guessed."""
        return pairs.truth is None and any(len(set(item.labels)) > 1 for item in pairs)

    def ask(self, pairs: Pairs) -> Asked:
        plan = _Plan.of(pairs, require_labels(pairs, self.name), self.fold)
        if not len(plan.captions):
            raise DataError(f"protocol 'pmrp': no image of {pairs.name} has both a label and a caption")
        return Asked(rows=True, notes=tuple(plan.notes(self.fold)), extra=plan)

    def measure(self, found: Found) -> Iterator[Measured]:
        for direction in (found.i2t, found.t2i):
            yield from _measured(found, direction)


@dataclass(frozen=True)
class _Plan:
    """Which items take part, and in which fold.

    Attributes:
        labels: of every image.
        owner: (c,), the image of every caption.
        images, captions: rows of those with labels, ascending.
        folds: images and captions of each fold, from and to among all.
    """

    labels: LabelVectors
    owner: Ints
    images: Ints
    captions: Ints
    folds: tuple[tuple[slice, slice], ...]

    @classmethod
    def of(cls, pairs: Pairs, labels: LabelVectors, fold: int) -> _Plan:
        cut = Folds.of(pairs.owner, len(pairs), fold)
        folds = tuple(zip(cut.images, cut.captions, strict=True))
        kept = np.flatnonzero(labels.counts), np.flatnonzero(labels.counts[pairs.owner])
        return cls(labels, pairs.owner, *kept, folds if len(folds) >= _FEWEST_FOLDS else ())

    def sides(self, direction: str) -> tuple[Ints, Ints]:
        """Rows of the queries and of the gallery; an image without captions asks nothing."""
        if direction == "i2t":
            return np.unique(self.owner[self.captions]), self.captions
        return self.captions, self.images

    def distances(self, asking: Ints, asked: Ints) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """(b, g): in how many categories these images differ, `_ZETAS` for that many or more."""
        images, place = np.unique(asking, return_inverse=True)
        differ = self.labels.counts[images, None] + self.labels.counts - 2 * self.labels.common(images)
        return np.minimum(differ, _ZETAS).astype(np.uint8)[place].take(asked, axis=1)

    def notes(self, fold: int) -> Iterator[str]:
        """What is left out, and what the folds are."""
        images, captions = len(self.labels.counts), len(self.owner)
        bare, mute = images - len(self.images), len(self.images) - len(self.sides("i2t")[0])
        if bare:
            lost = captions - len(self.captions)
            yield f"pmrp: {bare} of {images} images have no label; they and their {lost} captions are left out"
        if mute:
            yield f"pmrp: {mute} of {images} images have no caption and ask nothing"
        if self.folds:
            used = [int(((self.images >= f.start) & (self.images < f.stop)).sum()) for f, _ in self.folds]
            labelled = f"with {min(used)} to {max(used)} labelled ones each" if bare else ""
            yield f"pmrp: 1K is the mean of {len(used)} folds of {fold:,} consecutive images {labelled}".rstrip()
        if self.folds and images > self.folds[-1][0].stop:
            yield f"pmrp: the last {images - self.folds[-1][0].stop} images fill no fold"


def _measured(found: Found, direction: Direction) -> Iterator[Measured]:
    """PMRP over everything, at each zeta, and over the folds."""
    plan: _Plan = found.asked.extra
    queries, gallery = plan.sides(direction.name)
    whole, folded = _shares(found, direction, queries, gallery)
    images, counts = direction.images[queries], (len(queries), len(gallery))
    yield Measured(direction.name, "PMRP", Mean(whole.mean(axis=1), images), *counts)
    for zeta in range(_ZETAS):
        yield Measured(direction.name, f"PMRP zeta {zeta}", Mean(whole[:, zeta], images), *counts)
    sides = [fold if direction.name == "i2t" else fold[::-1] for fold in plan.folds]
    inside = [_within(queries, asking) for asking, _ in sides]
    sizes = np.array([part.stop - part.start for part in inside])
    if not sizes.any():
        return
    # Every fold counts alike, however many of its images have labels.
    rows = np.concatenate([np.arange(part.start, part.stop) for part in inside])
    mean = Mean(folded[rows].mean(axis=1), images[rows], weights=np.repeat(1 / np.maximum(sizes, 1), sizes))
    ranked = max(part.stop - part.start for part in (_within(gallery, asked) for _, asked in sides))
    yield Measured(direction.name, "PMRP 1K", mean, len(rows), ranked)


def _shares(found: Found, direction: Direction, queries: Ints, gallery: Ints) -> tuple[Floats, Floats]:
    """(q, zetas) R-precision of each query over the whole gallery, and over its fold's."""
    plan: _Plan = found.asked.extra
    i2t = direction.name == "i2t"
    asked = plan.owner[gallery] if i2t else gallery
    whole, folded = (np.full((len(queries), _ZETAS), np.nan) for _ in range(2))
    for rows, scores in found.rows(direction.name):
        place = _within(queries, rows)
        own = queries[place]
        near = plan.distances(direction.images[own], asked)
        if near.shape != scores.shape:
            scores = scores[own - rows.start].take(gallery, axis=1)
        whole[place] = r_precisions_within(scores, near, _ZETAS, direction.ties)
        for fold in plan.folds:
            asks, lies = _within(own, fold[not i2t]), _within(gallery, fold[i2t])
            found_here = r_precisions_within(scores[asks, lies], near[asks, lies], _ZETAS, direction.ties)
            folded[place][asks] = found_here
    return whole, folded


def _within(rows: Ints, span: slice) -> slice:
    """Which of ascending rows lie in a span."""
    start, stop = np.searchsorted(rows, [span.start, span.stop])
    return slice(int(start), int(stop))
