"""Right answers of which there are very many: read from whole rows of scores, with one sort of each row.

Counting above every right answer apart, as `ranks` does, is the faster way while they are few.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .metrics import check_ties
from .ranks import Ranks

__all__ = ["r_precisions_within", "ranks_of_rows"]

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]


def r_precisions_within(scores: Any, level: Any, levels: int, ties: str = "expected") -> Floats:
    """R-precision of each query under a truth that widens step by step: at step z all items of level <= z are right.

    With t the R-th highest score, right answers above t are among the first R, and those that tie with t share the
    places left to them: `(above + tied right * (R - above all) / tied all) / R`.

    Args:
        scores: (b, g), finite.
        level: (b, g) whole numbers; items at `levels` or beyond are never right.
        levels: how many steps.
        ties: how equal scores count, see `metrics`.

    Returns:
        (b, levels) fractions; NaN where a query has no right answer.
    """
    chosen = check_ties(ties)
    scores, level = np.ascontiguousarray(scores), np.ascontiguousarray(level)
    rows, gallery = scores.shape
    flat = np.flatnonzero(level < levels)
    query, own, step = flat // max(gallery, 1), scores.ravel()[flat], level.ravel()[flat]
    many = np.bincount(query * levels + step, minlength=rows * levels).reshape(rows, levels).cumsum(axis=1)
    ordered = _ordered(scores, many[:, -1])
    out = np.full((rows, levels), np.nan)
    for z in range(levels):
        right, some = step <= z, np.flatnonzero(many[:, z])
        r = many[some, z]
        border = np.zeros(rows, scores.dtype)
        border[some] = ordered[some, gallery - r]
        t = border[query]
        above, tied = (np.bincount(query[right & f], minlength=rows)[some] for f in (own > t, own == t))
        higher, equal = _beside(ordered, some, r)
        out[some, z] = (above + _inside(tied, r - higher, equal, chosen)) / r
    return out


def _ordered(scores: Any, most: Ints) -> Any:
    """A copy in which the `most` (b,) highest of each row and the one below them stand in order, at its end."""
    out, gallery = scores.copy(), scores.shape[1]
    for row, many in zip(out, most, strict=True):
        start = max(gallery - int(many) - 1, 0)
        row.partition(start)
        row[start:].sort()
    return out


def _beside(ordered: Any, rows: Ints, r: Ints) -> tuple[Ints, Ints]:
    """How many items score above the r-th highest of their row, and how many score the same, itself included.

    Args:
        ordered: (b, g) scores as `_ordered` gives them, r at most its `most`.
        rows: (m,) which of them.
        r: (m,) at least 1.
    """
    last = ordered.shape[1] - 1
    higher, equal, place = r - 1, np.ones_like(r), last + 1 - r
    border = ordered[rows, place]
    ties = (place > 0) & (ordered[rows, np.maximum(place - 1, 0)] == border)
    ties |= (r > 1) & (ordered[rows, np.minimum(place + 1, last)] == border)
    for n in np.flatnonzero(ties):
        row = ordered[rows[n]]
        higher[n], equal[n] = np.count_nonzero(row > border[n]), np.count_nonzero(row == border[n])
    return higher, equal


def _inside(right: Ints, places: Ints, tied: Ints, ties: str) -> Floats:
    """How many of `right` among `tied` equal items stand in the first `places` of them."""
    if ties == "optimistic":
        return np.minimum(right, places).astype(np.float64)
    if ties == "pessimistic":
        return np.maximum(right + places - tied, 0).astype(np.float64)
    return np.asarray(right * places / tied, np.float64)


def ranks_of_rows(scores: Any, right: Any) -> Ranks:
    """Where the right answers of some queries stand, as `ranks` counts it.

    Args:
        scores: (b, g), finite.
        right: (b, g) bool.
    """
    scores = np.asarray(scores)
    query, items = np.nonzero(right)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(query, minlength=len(scores)))]).astype(np.int64)
    own = scores[query, items]
    above, tied = np.empty(len(own), np.int64), np.empty(len(own), np.int64)
    for n, row in enumerate(np.sort(scores, axis=1)):
        part = slice(indptr[n], indptr[n + 1])
        low, high = np.searchsorted(row, own[part], "left"), np.searchsorted(row, own[part], "right")
        above[part], tied[part] = scores.shape[1] - high, high - low - 1
    return Ranks(indptr, items, above, tied, scores.shape[1], own.astype(np.float64))
