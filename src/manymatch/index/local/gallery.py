"""All items of one modality at one generation, ready to be scored by the run's own similarity.

Most of them lie in a memory-mapped file made from an earlier generation; what was added since is held in memory behind
them, and what is gone since is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch

from ...embeddings import Embedding
from ...errors import DataError
from ...similarity import Role, Similarity
from ..store.rows import Modality
from .vectors import ASKING, Vectors

__all__ = ["Gallery", "best", "finite_scores", "places", "proxy"]

Array = np.ndarray[Any, Any]

_BLOCK_NUMBERS = 2**19
"""Float32 numbers unpacked at once: 2 MB, which stays near a core."""

_QUERIES = 16
"""Queries scored at once, so that a similarity's inner table (q, k, g, l) stays small."""


class Gallery:
    """Items of one modality. Position p is row `rows[p]` of the store, ascending.

    Args:
        base: the mapped rows.
        tail: the rows that came after them.
        gone: rows of either that are deleted, in any order.
        similarity: the run's.
    """

    def __init__(self, base: Vectors, tail: Vectors, gone: Array, similarity: Similarity) -> None:
        self.base, self.tail, self.gone, self.similarity = base, tail, gone, similarity
        self.rows = np.concatenate([base.rows, tail.rows]) if len(tail) else base.rows
        lost = places(self.rows, gone)
        self.alive: Array | None = None
        """(n,) bool, or None where nothing is gone."""
        if len(lost):
            self.alive = np.ones(len(self.rows), bool)
            self.alive[lost] = False
        self._count = len(self.rows) - len(lost)

    def __len__(self) -> int:
        """Items that are there."""
        return self._count

    def positions(self) -> Array:
        """Of the items that are there, ascending."""
        return np.arange(len(self.rows)) if self.alive is None else np.flatnonzero(self.alive)

    def embedding(self, positions: Array | slice) -> Embedding:
        """The items at these positions, float32."""
        first = len(self.base)
        if not len(self.tail):
            return self.base.embedding(positions)
        if isinstance(positions, slice):
            positions = np.arange(*positions.indices(len(self.rows)))
        late = positions >= first
        if not late.any():
            return self.base.embedding(positions)
        if late.all():
            return self.tail.embedding(positions - first)
        # Rows of different lengths (fragments) are filled up with NaN.
        lengths = self.base.data.shape[1], self.tail.data.shape[1]
        rows = np.full((len(positions), max(lengths)), np.nan, self.base.data.dtype)
        rows[~late, : lengths[0]] = self.base.data[positions[~late]]
        rows[late, : lengths[1]] = self.tail.data[positions[late] - first]
        return self.base.space.unpack(rows)

    def blocks(self, positions: Array | None = None) -> Iterator[tuple[Array, Embedding]]:
        """Positions and their items, a few MB at a time; every item that is there unless told."""
        stride = max(1, self.base.data.shape[1], self.tail.data.shape[1])
        step = max(1, _BLOCK_NUMBERS // stride)
        if positions is None and self.alive is None:
            for start in range(0, len(self.rows), step):
                stop = min(start + step, len(self.rows))
                yield np.arange(start, stop), self.embedding(slice(start, stop))
            return
        positions = self.positions() if positions is None else positions
        for start in range(0, len(positions), step):
            part = positions[start : start + step]
            # Neighbours are read as one piece, which a map does far quicker than one by one.
            together = len(part) and part[-1] - part[0] + 1 == len(part)
            yield part, self.embedding(slice(int(part[0]), int(part[-1]) + 1) if together else part)

    def scored(self, queries: Embedding, positions: Array | None = None) -> Iterator[tuple[Array, Array]]:
        """Positions (b,) and raw scores (q, b) float32, block by block. Raises DataError: one is not finite."""
        for part, block in self.blocks(positions):
            scores = [
                finite_scores(self.similarity, queries[first : first + _QUERIES], block)
                for first in range(0, len(queries), _QUERIES)
            ]
            yield part, scores[0] if len(scores) == 1 else np.concatenate(scores)

    def scores(self, queries: Embedding, positions: Array | None = None) -> Array:
        """Every query against every item that is there: (q, n) float32. Raises DataError: one is not finite."""
        n = len(self) if positions is None else len(positions)
        out, done = np.empty((len(queries), n), np.float32), 0
        for part, scores in self.scored(queries, positions):
            out[:, done : done + len(part)] = scores
            done += len(part)
        return out

    def biases(self, positions: Array) -> Array:
        """(2, len(positions)) float32, in the order of `ASKING`."""
        first = len(self.base)
        if not len(self.tail):
            return np.asarray(self.base.biases[:, positions])
        late = positions >= first
        out = np.empty((2, len(positions)), np.float32)
        out[:, ~late] = self.base.biases[:, positions[~late]]
        out[:, late] = self.tail.biases[:, positions[late] - first]
        return out

    @cached_property
    def _biased(self) -> Array:
        """(2,) whether any item that is there has a bias, in the order of `ASKING`."""
        some = np.any(self.base.biases, axis=1) | np.any(self.tail.biases, axis=1)
        if not some.any() or self.alive is None:
            return np.asarray(some)
        return np.asarray(np.any(self.biases(np.flatnonzero(self.alive)), axis=1))

    def biased(self, asking: Modality) -> bool:
        """Whether any item that is there has a bias for queries of this modality."""
        return bool(self._biased[ASKING.index(asking)])

    def bias(self, positions: Array, asking: Modality) -> Array:
        """(len(positions),) float32: subtracted from scores when a query of this modality asks."""
        if not self.biased(asking):
            return np.zeros(len(positions), np.float32)
        return np.asarray(self.biases(positions)[ASKING.index(asking)])

    def proxies(self, positions: Array | None = None) -> Iterator[tuple[Array, Array]]:
        """Positions (b,) and vectors (b, p + 2) float32 for an engine; nothing where the similarity has no proxy.

        The last two numbers are minus the biases: one more inner product takes them off.
        """
        for part, block in self.blocks(positions):
            given = proxy(self.similarity, block, "gallery")
            if given is None:
                return
            yield part, np.hstack([given, -self.biases(part).T])


def places(rows: Array, wanted: Array) -> Array:
    """Positions in `rows`, ascending, of those of `wanted` that are in it."""
    if not len(rows) or not len(wanted):
        return np.empty(0, np.int64)
    found = np.minimum(np.searchsorted(rows, wanted), len(rows) - 1)
    return np.asarray(found[rows[found] == wanted], np.int64)


def finite_scores(similarity: Similarity, queries: Embedding, block: Embedding) -> Array:
    """Raw scores (q, n) float32. Raises DataError when one is not finite."""
    with torch.inference_mode():
        scores: Array = similarity(queries, block).float().cpu().numpy()
    if not np.isfinite(scores).all():
        raise DataError("the run's similarity gave a score that is not finite; train it again, or index another run")
    return scores


def proxy(similarity: Similarity, embedding: Embedding, role: Role) -> Array | None:
    """The similarity's proxy as a float32 array (n, p)."""
    with torch.inference_mode():
        given = similarity.proxy(embedding, role)
    return None if given is None else np.ascontiguousarray(given.float().cpu().numpy())


def best(scores: Array, count: int) -> Array:
    """Places of the `count` highest scores (n,), highest first, ties in the order given."""
    count = min(count, len(scores))
    if count <= 0:
        return np.empty(0, np.int64)
    last = np.partition(scores, len(scores) - count)[len(scores) - count]
    found = np.flatnonzero(scores >= last)
    order = np.argsort(-scores[found], kind="stable")
    return np.asarray(found[order[:count]], np.int64)
