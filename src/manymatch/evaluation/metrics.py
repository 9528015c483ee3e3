"""Numbers read from counts: hit rate, median and mean rank, R-precision, mAP@R, nDCG; of each query, and their mean.

Gallery items with equal scores have no order. `ties` says what is then reported: "expected" is the mean over every
order of the tied items, all equally likely (McSherry and Najork, ECIR 2008), "optimistic" puts right answers first,
"pessimistic" last. Queries without a right answer are left out. All functions give fractions or ranks, not percent.

Letters: within one query, a tie group of T items has a items above it and m right answers in it; the first K places
leave it s = K - a of its T slots, clipped to 0..T.
"""

from __future__ import annotations

from typing import Any, Literal, cast, get_args

import numpy as np

from ..errors import DataError, UnknownName
from .measures import median
from .ranks import Ranks

__all__ = [
    "Ties",
    "asking",
    "average_precisions",
    "check_ties",
    "first_ranks",
    "hit_rate",
    "hits",
    "map_at_r",
    "mean_rank",
    "median_rank",
    "middle_ranks",
    "ndcg",
    "normalized_gains",
    "queries",
    "r_precision",
    "r_precisions",
    "reach",
]

Ties = Literal["expected", "optimistic", "pessimistic"]

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]


def check_ties(ties: str) -> Ties:
    """The same word. Raises UnknownName when it is none of the three."""
    if ties not in get_args(Ties):
        raise UnknownName("ties", ties, get_args(Ties))
    return cast(Ties, ties)


def queries(ranks: Ranks) -> int:
    """How many queries have a right answer: what every mean below is over."""
    return int(np.count_nonzero(ranks.positives))


def asking(ranks: Ranks) -> Ints:
    """Rows of the queries that have a right answer: what the values of each query below stand for, in this order."""
    return np.flatnonzero(ranks.positives)


def reach(ranks: Ranks) -> int:
    """How deep every query's ranking is known, at least."""
    depth = ranks.depth
    return ranks.gallery if depth is None else int(depth[asking(ranks)].min(initial=ranks.gallery))


def hits(ranks: Ranks, k: int, ties: str = "expected") -> Floats:
    """Of each query, whether at least one right answer is in the first k; in a tie, how probably.

    A tie group on the border is hit with probability 1 - C(T - m, s) / C(T, s).
    """
    if k < 1:
        raise DataError(f"hit rate: k = {k}, expected at least 1")
    a, tied, m = _first(ranks)
    s = np.clip(k - a, 0, tied)
    chosen = check_ties(ties)
    if chosen == "optimistic":
        return (s > 0).astype(np.float64)
    if chosen == "pessimistic":
        # Right answers that no list holds look like a group of more right answers than places.
        return (s > np.maximum(tied - m, 0)).astype(np.float64)
    return np.asarray(1.0 - _all_missed(tied, m, s))


def hit_rate(ranks: Ranks, k: int, ties: str = "expected") -> float:
    """Share of queries with at least one right answer in the first k: the field's R@K, as a fraction."""
    return float(np.mean(hits(ranks, k, ties)))


def middle_ranks(ranks: Ranks, ties: str = "expected") -> Floats:
    """Of each query, the first right answer's rank, best is 1; a tie stands at the middle of its range."""
    first, last = _range(ranks)
    places = {"expected": (first + last) / 2, "optimistic": first, "pessimistic": last}[check_ties(ties)]
    return np.asarray(places, np.float64)


def median_rank(ranks: Ranks, ties: str = "expected") -> float:
    """Median of `middle_ranks`; of an even number of queries see `measures.median`."""
    return median(middle_ranks(ranks, ties))


def first_ranks(ranks: Ranks, ties: str = "expected") -> Floats:
    """Of each query, the first right answer's rank, best is 1; in a tie it is a + (T + 1) / (m + 1)."""
    first, last = _range(ranks)
    chosen = check_ties(ties)
    if chosen != "expected":
        return np.asarray(first if chosen == "optimistic" else last, np.float64)
    a, tied, m = _first(ranks)
    return np.asarray(a + (tied + 1) / (m + 1))


def mean_rank(ranks: Ranks, ties: str = "expected") -> float:
    """Mean of `first_ranks`."""
    return float(np.mean(first_ranks(ranks, ties)))


def r_precisions(ranks: Ranks, ties: str = "expected") -> Floats:
    """Of each query, the share of right answers among the first R, R being how many the query has."""
    chosen, r = check_ties(ties), _right(ranks)
    if chosen == "expected":
        tied = ranks.tied + 1
        inside = np.clip(r - ranks.above, 0, tied) / tied
    else:
        inside = (_Groups(ranks).place(chosen) <= r).astype(np.float64)
    return _shares(ranks, inside)


def r_precision(ranks: Ranks, ties: str = "expected") -> float:
    """Mean of `r_precisions`."""
    return float(np.mean(r_precisions(ranks, ties)))


def average_precisions(ranks: Ranks, ties: str = "expected") -> Floats:
    """Of each query, AP@R = 1/R sum_{r <= R} P@r rel_r (Musgrave et al. 2020; ECCV Caption, Chun et al. 2022)."""
    chosen, r, groups = check_ties(ties), _right(ranks), _Groups(ranks)
    place = groups.place("optimistic" if chosen == "expected" else chosen)
    gain = np.where(place <= r, (groups.before + groups.nth) / place, 0.0)
    if chosen == "expected":
        gain = np.where(ranks.tied > 0, _expected_precision(ranks, groups, r), gain)
    return _shares(ranks, gain)


def map_at_r(ranks: Ranks, ties: str = "expected") -> float:
    """mAP@R: mean of `average_precisions`."""
    return float(np.mean(average_precisions(ranks, ties)))


def normalized_gains(ranks: Ranks, k: int | None = None, ties: str = "expected") -> Floats:
    """Of each query, nDCG@k of right and wrong: sum of 1 / log2(1 + place) over right answers, by its largest value.

    Jaervelin and Kekaelaeinen, TOIS 2002; k = None is to the end of the gallery. A right answer is at each of its
    tie's places with the same probability, so it is expected to add their mean discount.
    """
    if k is not None and k < 1:
        raise DataError(f"nDCG: k = {k}, expected at least 1")
    deepest = ranks.gallery if k is None else min(k, ranks.gallery)
    sums = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(2.0 + np.arange(deepest)))])
    chosen, first, tied = check_ties(ties), ranks.above, ranks.tied + 1
    if chosen != "expected":
        first, tied = _Groups(ranks).place(chosen) - 1, np.ones_like(first)
    gain = (sums[np.minimum(first + tied, deepest)] - sums[np.minimum(first, deepest)]) / tied
    positives = ranks.positives[ranks.positives > 0]
    return np.asarray(_shares(ranks, gain) * positives / sums[np.minimum(positives, deepest)])


def ndcg(ranks: Ranks, k: int | None = None, ties: str = "expected") -> float:
    """nDCG@k: mean of `normalized_gains`."""
    return float(np.mean(normalized_gains(ranks, k, ties)))


def _first(ranks: Ranks) -> tuple[Ints, Ints, Ints]:
    """a, T and m of the tie group of each query's best right answer; queries without one are left out."""
    starts = _starts(ranks)
    a = np.minimum.reduceat(ranks.above, starts)
    best = ranks.above == np.repeat(a, ranks.positives[ranks.positives > 0])
    m = np.add.reduceat(best.astype(np.int64), starts)
    tied = np.maximum.reduceat(np.where(best, ranks.tied + 1, 0), starts)
    return a, tied, m


def _range(ranks: Ranks) -> tuple[Ints, Ints]:
    """Lowest and highest rank the first right answer can have."""
    a, tied, m = _first(ranks)
    return a + 1, a + tied - m + 1


def _all_missed(tied: Ints, m: Ints, s: Ints) -> Floats:
    """C(T - m, s) / C(T, s), as the shorter of two products: over the slots, or over the right answers."""
    short, long = np.minimum(m, s), np.maximum(m, s)
    out = np.ones(len(tied))
    for j in range(int(short.max(initial=0))):
        acts = j < short
        out[acts] *= np.maximum(tied - long - j, 0)[acts] / (tied - j)[acts]
    return out


def _right(ranks: Ranks) -> Ints:
    """R of its query, for each right answer (p,)."""
    return np.repeat(ranks.positives, ranks.positives)


class _Groups:
    """Tie groups among right answers; each field is (p,), in the order of `ranks.items`.

    Two right answers of a query have equal scores exactly when as many items stand above each.

    Attributes:
        before: right answers of the same query that score strictly higher.
        nth: 1 for the first right answer of its group, 2 for the second, ...
        size: m, right answers in the group.
    """

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        order = np.lexsort((ranks.items, ranks.above, ranks.query))
        query, above = ranks.query[order], ranks.above[order]
        new = np.ones(len(order), bool)
        new[1:] = (query[1:] != query[:-1]) | (above[1:] != above[:-1])
        start = np.flatnonzero(new)[np.cumsum(new) - 1]
        self.before, self.nth, self.size = (np.empty(len(order), np.int64) for _ in range(3))
        self.before[order] = start - ranks.indptr[query]
        self.nth[order] = np.arange(len(order)) - start + 1
        self.size[order] = np.bincount(start, minlength=len(order))[start]

    def place(self, ties: Literal["optimistic", "pessimistic"]) -> Ints:
        """Rank of each right answer when those of its group stand first, or last."""
        place: Ints = self.ranks.above + self.nth
        return place if ties == "optimistic" else place + (self.ranks.tied + 1 - self.size)


def _expected_precision(ranks: Ranks, groups: _Groups, r: Ints) -> Floats:
    """Expected [place <= R] P@place of each right answer (p,), all orders of its tie group equally likely.

    A right answer is at slot t of T with probability 1 / T, and has then (t - 1)(m - 1)/(T - 1) others before it:

        1/T sum_{t=1..s} (before + 1 + (t - 1)(m - 1)/(T - 1)) / (a + t)
    """
    a, tied = ranks.above, ranks.tied + 1
    s = np.clip(r - a, 0, tied)
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, ranks.gallery + 1))])
    inverse = harmonic[a + s] - harmonic[a]
    others = (groups.size - 1) / np.maximum(tied - 1, 1) * (s - (a + 1) * inverse)
    return np.asarray(((groups.before + 1) * inverse + others) / tied)


def _shares(ranks: Ranks, gains: Floats) -> Floats:
    """Gains (p,) summed within each query that has a right answer and divided by its R."""
    starts = _starts(ranks)
    return np.asarray(np.add.reduceat(gains, starts) / ranks.positives[ranks.positives > 0])


def _starts(ranks: Ranks) -> Ints:
    """Where the right answers of each query that has one begin."""
    starts = ranks.indptr[:-1][ranks.positives > 0]
    if len(starts) == 0:
        raise DataError("no query has a right answer, so there is nothing to average; is the truth of other data?")
    return starts
