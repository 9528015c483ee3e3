"""Labels as truth: two items match when they share one. A class column, as for birds, or lists of tags."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...data.matches import Matches
from ...data.pairs import Pairs
from ...errors import DataError
from ..dense import ranks_of_rows
from ..measures import Mean
from .base import Asked, Direction, Found, Measured, Protocol
from .matches import table
from .true_false import says_false

__all__ = ["LabelVectors", "Labels", "require_labels"]

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float32]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]

_FEW_PAIRS = 1_000_000
"""Up to so many matching pairs they are listed and counted in the pass over the scores, some 200 bytes each; more are
read from whole rows: a sort of each row, nothing kept, and scores of a large or one-way matrix computed once more."""


@dataclass(frozen=True)
class LabelVectors:
    """The images' labels as numbers.

    Attributes:
        shared: (n, l) 0 and 1, of labels that at least two images have.
        counts: (n,), labels of each image, those it alone has included.
    """

    shared: Floats
    counts: Ints

    @classmethod
    def of(cls, pairs: Pairs) -> LabelVectors:
        """Of every image of `pairs`; a label listed twice counts once."""
        having: dict[str, list[int]] = {}
        for row, item in enumerate(pairs):
            for label in dict.fromkeys(item.labels):
                having.setdefault(label, []).append(row)
        kept = [rows for rows in having.values() if len(rows) > 1]
        shared = np.zeros((len(pairs), len(kept)), np.float32)
        for column, rows in enumerate(kept):
            shared[rows, column] = 1
        counts = np.array([len(set(item.labels)) for item in pairs], np.int64)
        return cls(shared, counts)

    def common(self, rows: Any) -> Floats:
        """(b, n): how many labels the images at `rows` share with every image."""
        common = self.shared[rows] @ self.shared.T
        place = np.arange(len(common))
        common[place, rows] = self.counts[rows]
        return common


def require_labels(pairs: Pairs, protocol: str) -> LabelVectors:
    """The images' labels. Raises DataError when no image has one."""
    vectors = LabelVectors.of(pairs)
    if not vectors.counts.any():
        raise DataError(
            f"protocol {protocol!r}: no image of {pairs.name} has a label; say which field of the data holds them, "
            "such as --field labels=class_name, or use protocol 'own'"
        )
    return vectors


class Labels(Protocol):
    """Right is every item that shares a label, the own ones with it: captions have their image's labels."""

    name = "labels"
    truth_name = "a shared label"

    def fits(self, pairs: Pairs) -> bool:
        """For a class column: no image has two labels, and some two images share one."""
        found = [set(item.labels) for item in pairs if item.labels]
        classes = all(len(labels) == 1 for labels in found) and len(set().union(*found)) < len(found)
        return classes and not says_false(pairs)

    def ask(self, pairs: Pairs) -> Asked:
        vectors = require_labels(pairs, self.name)
        bare = int((vectors.counts == 0).sum())
        said = f"labels: {bare} of {len(pairs)} images have no label: they ask nothing and are wrong answers to all"
        notes = (said,) if bare else ()
        captions = np.bincount(pairs.owner, minlength=len(pairs))
        if len(pairs.captions) + vectors.shared.sum(axis=0) @ (captions @ vectors.shared) > _FEW_PAIRS:
            return Asked(rows=True, notes=notes, extra=vectors)
        right = _listed(vectors, pairs.owner)
        return Asked(right, right.transpose(), notes=notes)

    def measure(self, found: Found) -> Iterator[Measured]:
        for direction in (found.i2t, found.t2i):
            yield from _dense(found, direction) if found.asked.rows else table(direction)


def _listed(vectors: LabelVectors, owner: Ints) -> Matches:
    """Matches (i, c), label by label."""
    own = np.flatnonzero(vectors.counts[owner])
    images, captions = [owner[own]], [own]
    for column in vectors.shared.T:
        asking, asked = np.flatnonzero(column), np.flatnonzero(column[owner])
        images.append(np.repeat(asking, len(asked)))
        captions.append(np.tile(asked, len(asking)))
    return Matches.of(np.concatenate(images), np.concatenate(captions), (len(vectors.counts), len(owner)))


def _dense(found: Found, direction: Direction) -> Iterator[Measured]:
    """The same numbers of one direction, block by block."""
    owner, vectors = found.pairs.owner, found.asked.extra
    asked = owner if direction.name == "i2t" else np.arange(len(found.pairs))
    blocks = []
    for rows, scores in found.rows(direction.name):
        images = direction.images[rows]
        right = (vectors.common(images) > 0)[:, asked]
        if right.any():
            blocks.append(list(table(Direction(direction.name, ranks_of_rows(scores, right), images, direction.ties))))
    for same in zip(*blocks, strict=True):
        yield _joined(same)


def _joined(parts: Sequence[Measured]) -> Measured:
    """One number over the queries of all blocks."""
    means = [part.measure for part in parts if isinstance(part.measure, Mean)]
    values, images = (np.concatenate([getattr(mean, name) for mean in means]) for name in ("values", "images"))
    first, queries = parts[0], sum(part.queries for part in parts)
    return Measured(first.direction, first.metric, Mean(values, images), queries, first.gallery)
