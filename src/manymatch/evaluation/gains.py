"""Graded judgments of a few items a query: nDCG and average precision within what was judged.

Only judged items are ranked: what nobody judged is neither right nor wrong. Equal scores have no order, see `metrics`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .metrics import check_ties
from .ranks import Ranks

__all__ = ["judged_precisions", "ndcgs"]

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]


def ndcgs(ranks: Ranks, gains: Floats, k: int, ties: str = "expected") -> tuple[Ints, Floats]:
    """nDCG@k with linear gain: `sum gain / log2(1 + place)` over the first k, by its largest possible value.

    Jaervelin and Kekaelaeinen, TOIS 2002. Tied places are expected to gain their mean (McSherry and Najork 2008).

    Args:
        ranks: of the judged items, which are each query's gallery.
        gains: (p,) of those items, at least 0.
        k: places that count.
        ties: how equal scores count.

    Returns:
        Rows (m,) of the queries with some gain, and their values (m,).
    """
    order = _Order(ranks, gains, ties)
    queries = len(ranks.indptr) - 1
    best = np.lexsort((-gains, ranks.query))
    discount = np.where(order.place <= k, 1.0 / np.log2(1.0 + order.place), 0.0)
    found, ideal = (np.bincount(ranks.query, g * discount, minlength=queries) for g in (order.values, gains[best]))
    rows = np.flatnonzero(ideal > 0)
    return rows, np.asarray(found[rows] / ideal[rows], np.float64)


def judged_precisions(ranks: Ranks, right: Any, ties: str = "expected") -> tuple[Ints, Floats]:
    """Average precision: of each right answer the share of right ones down to its place, and their mean.

    Slot t of a tie of T items, m of them right, behind a others of which b were right, holds a right answer with
    probability m / T, and then (t - 1)(m - 1) / (T - 1) right ones of the tie stand before it.

    Args:
        ranks: of the judged items, which are each query's gallery.
        right: (p,) bool, which of them are right answers.
        ties: how equal scores count.

    Returns:
        Rows (m,) of the queries with a right answer, and their values (m,).
    """
    flags = np.asarray(right, np.float64)
    order = _Order(ranks, flags, ties)
    queries = len(ranks.indptr) - 1
    total = np.bincount(ranks.query, flags, minlength=queries)
    passed = np.concatenate([[0.0], np.cumsum(order.values)])
    before = passed[order.start] - passed[ranks.indptr[ranks.query]]
    share, size = order.values, order.size
    beside = order.slot * (share * size - 1) / np.maximum(size - 1, 1)
    gain = share * (before + 1 + beside) / order.place
    rows = np.flatnonzero(total > 0)
    return rows, np.asarray(np.bincount(ranks.query, gain, minlength=queries)[rows] / total[rows], np.float64)


class _Order:
    """Judged items in the order of their scores, query by query; every field is (p,), by place.

    Attributes:
        values: the value at each place; in a tie, when values are expected, the tie's mean.
        place: 1 for a query's best item.
        start: where the item's tie begins among all p.
        slot: 0 for the first of its tie.
        size: items of the tie.
    """

    def __init__(self, ranks: Ranks, values: Floats, ties: str) -> None:
        chosen = check_ties(ties)
        within = {"expected": np.zeros(len(values)), "optimistic": -values, "pessimistic": values}[chosen]
        query, at = ranks.query, np.arange(len(values))
        order = np.lexsort((within, ranks.above, query))
        above = ranks.above[order]
        new = np.ones(len(order), bool)
        if chosen == "expected":
            new[1:] = (query[1:] != query[:-1]) | (above[1:] != above[:-1])
        starts = np.flatnonzero(new)
        sizes = np.diff(np.append(starts, len(order)))
        means = np.add.reduceat(values[order], starts) / sizes
        self.values: Floats = np.repeat(means, sizes)
        self.place: Ints = at - ranks.indptr[query] + 1
        self.start: Ints = np.repeat(starts, sizes)
        self.slot: Ints = at - self.start
        self.size: Ints = np.repeat(sizes, sizes)
