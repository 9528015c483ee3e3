"""Not ten times the same: answers that are relevant and not yet covered by those before them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import Tensor

from ...embeddings import Embedding, Sets
from ...errors import DataError
from .explain import elements_of, means_of

__all__ = ["mmr"]

Array = np.ndarray[Any, Any]

_DECIMALS = 6
"""Cosines are rounded to these: float32 gives equal items other last digits in other rows of one product."""


def mmr(scores: Array, embedding: Embedding, count: int, balance: float = 0.5) -> Array:
    """Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998), over elements.

    The best answer comes first. Each next one has the highest `balance * relevance - (1 - balance) * redundancy`.

    Redundancy is how much of an answer those already taken cover: the mean over its elements of the highest cosine
    with any of their elements. For kinds other than sets an answer is its unit mean, and this is the paper's highest
    similarity with an answer already taken.

    Relevance is the score, moved and stretched until over the answers behind the best one it has the mean and the
    standard deviation of their redundancy with the best one. So half and half trades a usual difference in score for
    a usual difference in likeness, whatever the scale of the similarity and however narrow the cone of the embeddings.

    Args:
        scores: (n,), higher is better, on any scale.
        embedding: the n answers.
        count: how many are wanted.
        balance: from 0, after the best answer only what is unlike, to 1, the plain order.

    Returns:
        min(count, n) positions, int64. Of equals the one with the higher score comes first, then the lower position.

    Raises:
        DataError: other numbers of scores and answers, a score that is not finite, a negative count, or a balance
            outside [0, 1].
    """
    scores = np.asarray(scores, np.float64)
    _check(scores, len(embedding), count, balance)
    order = np.argsort(-scores, kind="stable")
    count = min(count, len(order))
    if balance == 1 or count < 2:
        return order[:count]
    items = _elements(embedding[order])
    covered = _closest(items, 0)
    relevance = _like(scores[order], covered.mean(axis=1))
    taken = [0]
    for _ in range(count - 1):
        gain = balance * relevance - (1 - balance) * covered.mean(axis=1)
        gain[taken] = -np.inf
        taken.append(int(gain.argmax()))
        np.maximum(covered, _closest(items, taken[-1]), out=covered)
    return order[taken]


def _check(scores: Array, items: int, count: int, balance: float) -> None:
    if scores.shape != (items,):
        raise DataError(f"diverse: scores of shape {scores.shape} for {items} answers, expected ({items},)")
    if not np.isfinite(scores).all():
        raise DataError(f"diverse: score {int((~np.isfinite(scores)).argmax())} is not finite")
    if count < 0:
        raise DataError(f"diverse: count {count}, expected 0 or more")
    if not (math.isfinite(balance) and 0 <= balance <= 1):
        raise DataError(f"diverse: balance {balance}, expected a number from 0 (unlike) to 1 (the plain order)")


def _elements(embedding: Embedding) -> Tensor:
    """What covers and is covered, unit length (n, m, d)."""
    return elements_of(embedding)[0] if isinstance(embedding, Sets) else means_of(embedding)[:, None]


def _closest(items: Tensor, taken: int) -> Array:
    """Of every element its highest cosine with an element of the item taken: (n, m) float64."""
    cosines: Array = (items @ items[taken].T).amax(dim=-1).cpu().numpy()
    return np.round(cosines.astype(np.float64), _DECIMALS)


def _like(scores: Array, redundancy: Array) -> Array:
    """Scores (n,) with mean and deviation of the redundancy, both measured without the first."""
    others, target = scores[1:], redundancy[1:]
    if np.ptp(others) == 0:
        return np.zeros_like(scores)
    spread = target.std() if np.ptp(target) > 0 else 1.0
    return target.mean() + (scores - others.mean()) / others.std() * spread
