"""One modality at one generation, ready to be scored by the run's own similarity."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import torch

from ..embeddings import Embedding
from ..errors import DataError
from ..similarity import Role, Similarity
from .vectors import Space, Vectors

__all__ = ["Gallery", "best", "one_thread", "proxy"]

Array = np.ndarray[Any, Any]

_KEPT_BYTES = 64 * 2**20
"""A gallery whose float32 numbers fit here stays unpacked in memory; a larger one is read from its map each time."""

_BLOCK_NUMBERS = 2**20
"""Float32 numbers unpacked at once: 4 MB, which stays in a core's cache."""

_QUERIES = 16
"""Queries scored at once, so that a similarity's inner table (q, k, g, l) stays small."""


class Gallery:
    """Items of one modality. Position p is row `vectors.rows[p]` of the store.

    Args:
        vectors: the mapped rows.
        space: how they become an embedding.
        similarity: the run's.
    """

    def __init__(self, vectors: Vectors, space: Space, similarity: Similarity) -> None:
        self.vectors, self.space, self.similarity = vectors, space, similarity

    def __len__(self) -> int:
        return len(self.vectors.rows)

    @cached_property
    def _kept(self) -> Embedding | None:
        fits = 4 * self.vectors.data.size <= _KEPT_BYTES
        return self.space.unpack(self.vectors.data) if fits else None

    def embedding(self, positions: Array | slice) -> Embedding:
        """The items at these positions, float32."""
        if self._kept is not None:
            return self._kept[positions]
        return self.space.unpack(self.vectors.data[positions])

    def scores(self, queries: Embedding) -> Array:
        """Every query against every item: (q, n) float32. Raises DataError when a score is not finite."""
        out = np.empty((len(queries), len(self)), np.float32)
        step = max(1, _BLOCK_NUMBERS // max(1, self.vectors.data.shape[1]))
        for start in range(0, len(self), step):
            block = self.embedding(slice(start, start + step))
            for first in range(0, len(queries), _QUERIES):
                out[first : first + _QUERIES, start : start + step] = self._scored(
                    queries[first : first + _QUERIES], block
                )
        return out

    def scores_at(self, query: Embedding, positions: Array) -> Array:
        """One query against chosen items: (len(positions),) float32. Raises DataError when a score is not finite."""
        scores: Array = self._scored(query, self.embedding(positions))[0]
        return scores

    def _scored(self, queries: Embedding, block: Embedding) -> Array:
        with torch.inference_mode():
            scores: Array = self.similarity(queries, block).float().cpu().numpy()
        if not np.isfinite(scores).all():
            raise DataError(
                "the run's similarity gave a score that is not finite; train it again, or index another run"
            )
        return scores

    def proxies(self) -> Array | None:
        """One vector an item (n, p) float32 for an engine, or None where the similarity has none."""
        parts = []
        step = max(1, 8 * _BLOCK_NUMBERS // max(1, self.vectors.data.shape[1]))
        for start in range(0, len(self), step):
            part = proxy(self.similarity, self.embedding(slice(start, start + step)), "gallery")
            if part is None:
                return None
            parts.append(part)
        return np.concatenate(parts) if parts else None


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
    places = np.flatnonzero(scores >= last)
    order = np.argsort(-scores[places], kind="stable")
    return np.asarray(places[order[:count]], np.int64)


@contextmanager
def one_thread() -> Iterator[None]:
    """One core for what is made of many small steps: on busy cores, sharing them costs 15 to 50 times more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
