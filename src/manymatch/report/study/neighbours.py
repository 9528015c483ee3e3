"""Who is found: how often an item is in a first ten (hubs), and whether candidates by proxy hold the exact ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ...embeddings import Embedding
from ...evaluation.scores import ModelScores

__all__ = ["CANDIDATES", "DEPTH", "hub_skew", "proxy_recall"]

DEPTH = 10
CANDIDATES = 200

Array = np.ndarray[Any, Any]


def hub_skew(source: ModelScores, direction: str, gallery: int) -> float:
    """Skewness of how often each gallery item is among the ten best of a query: 0 where all are found as often.

    Radovanovic, Nanopoulos and Ivanovic. Hubs in Space. JMLR 2010. As rankings are, less the biases of a query bank.

    Args:
        source: of the scores.
        direction: "i2t" or "t2i".
        gallery: how many items are ranked.
    """
    counts = np.zeros(gallery)
    for _, scores in source.rows(direction):
        np.add.at(counts, _best(scores, DEPTH).ravel(), 1)
    off = counts - counts.mean()
    spread = np.mean(off**2)
    return float(np.mean(off**3) / spread**1.5) if spread > 0 else 0.0


def proxy_recall(source: ModelScores, direction: str, queries: Embedding, gallery: Embedding) -> float | None:
    """Share, in percent, of the exact ten best of a query that are among its 200 best by proxy; None without a proxy.

    Of raw scores: a bias is one more dimension of the proxy.
    """
    keys = source.similarity.proxy(gallery, "gallery")
    if keys is None:
        return None
    found = [
        np.mean([len(np.intersect1d(a, b)) / len(a) for a, b in zip(exact, near, strict=True)])
        for exact, near in _sides(source, direction, queries, keys)
    ]
    return 100.0 * float(np.mean(found))


def _sides(
    source: ModelScores, direction: str, queries: Embedding, keys: torch.Tensor
) -> Iterator[tuple[Array, Array]]:
    """Of a band of queries the exact first ten and the candidates, rows of the gallery."""
    for rows, scores in source.raw_rows(direction):
        asked = source.similarity.proxy(queries[rows], "query")
        yield _best(scores, DEPTH), _best((asked @ keys.T).float().cpu().numpy(), CANDIDATES)


def _best(scores: Array, k: int) -> Array:
    """(q, k): rows of the k highest, in no order."""
    k = min(k, scores.shape[1])
    return np.asarray(np.argpartition(-scores, k - 1, axis=1)[:, :k])
