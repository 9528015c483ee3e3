"""Areas under curves as measures: ROC (is true told from false?), risk-coverage (do errors fall with confidence?)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .measures import Floats, Ints
from .metrics import check_ties

__all__ = ["RiskCoverage", "RocArea"]

_TIED = {"expected": 0.5, "optimistic": 1.0, "pessimistic": 0.0}

_AT_ONCE = 1 << 21
"""Numbers of resamples times values that are worked on together."""


class _Weighted:
    """What both have in common: the value is that of weights of one, and it is no sum over images."""

    images: Ints

    def _areas(self, weights: Floats) -> Floats:
        """(b, m) how often each value counts -> (b,)."""
        raise NotImplementedError

    @property
    def value(self) -> float:
        return float(self._areas(np.ones((1, len(self.images))))[0])

    def contributions(self, images: int) -> Floats | None:
        # Each image meets all others: to give each pair of images half to either would let a sign-flip test believe
        # in half the true spread.
        return None

    def drawn(self, weights: Floats) -> Floats:
        step = max(1, _AT_ONCE // max(len(self.images), 1))
        parts = [self._areas(weights[n : n + step, self.images]) for n in range(0, len(weights), step)]
        return np.concatenate([np.zeros(0), *parts])


@dataclass(frozen=True)
class RocArea(_Weighted):
    """Share of pairs of a true and a false item in which the true one scores higher, in percent.

    This is the area under the ROC curve (Hanley and McNeil, Radiology 1982); by default equal scores count one half.

    Attributes:
        scores: (m,).
        right: (m,) bool, whether the item is true.
        images: (m,), the image row of each.
        groups: (m,) whole numbers; only items of one group are compared.
        ties: how equal scores count.
    """

    scores: Floats
    right: np.ndarray[Any, np.dtype[np.bool_]]
    images: Ints
    groups: Ints
    ties: str = "expected"

    @cached_property
    def _runs(self) -> tuple[Ints, Ints, Ints, Ints]:
        """Order by group and score; where equal scores begin; of those runs, where groups begin, and each one's."""
        order = np.lexsort((self.scores, self.groups))
        groups, scores = self.groups[order], self.scores[order]
        other = np.ones(len(order), bool)
        other[1:] = groups[1:] != groups[:-1]
        new = other.copy()
        new[1:] |= scores[1:] != scores[:-1]
        runs = np.flatnonzero(new)
        starts = np.flatnonzero(other[runs])
        return order, runs, starts, np.repeat(starts, np.diff(np.append(starts, len(runs))))

    def _areas(self, weights: Floats) -> Floats:
        order, runs, starts, start = self._runs
        weights, right = weights[:, order], self.right[order]
        true, false = (np.add.reduceat(weights * flags, runs, axis=1) for flags in (right, ~right))
        before = np.cumsum(false, axis=1) - false
        below = before - before[:, start]
        won = (true * (below + _TIED[check_ties(self.ties)] * false)).sum(axis=1)
        met = (np.add.reduceat(true, starts, axis=1) * np.add.reduceat(false, starts, axis=1)).sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(100.0 * won / met)


@dataclass(frozen=True)
class RiskCoverage(_Weighted):
    """Area under the risk-coverage curve, in percent (AURC; Geifman, Uziel and El-Yaniv, ICLR 2019); lower is better.

    Queries are answered from the most confident on; the area is the mean, over n = 1 ... q answered queries, of the
    mean risk of those n. Equal confidences have no order: by default every order of them is equally likely.

    Attributes:
        confidence: (q,), higher is surer.
        risk: (q,), in [0, 1].
        images: (q,), the image row of each.
        ties: how equal confidences count.
    """

    confidence: Floats
    risk: Floats
    images: Ints
    ties: str = "expected"

    @cached_property
    def _runs(self) -> tuple[Ints, Ints]:
        """Order of answering, and where each run that has no order within begins."""
        chosen = check_ties(self.ties)
        within = {"expected": np.zeros(len(self.risk)), "optimistic": self.risk, "pessimistic": -self.risk}[chosen]
        order = np.lexsort((within, -self.confidence))
        new = np.ones(len(order), bool)
        for each in (self.confidence, within):
            new[1:] &= each[order][1:] == each[order][:-1]
        new[1:] = ~new[1:]
        return order, np.flatnonzero(new)

    def _areas(self, weights: Floats) -> Floats:
        """T tied queries of mean risk m, behind N of summed risk S, add `sum over t = 1..T of (S + t m) / (N + t)`."""
        order, runs = self._runs
        weights = weights[:, order]
        size = np.add.reduceat(weights, runs, axis=1)
        summed = np.add.reduceat(weights * self.risk[order], runs, axis=1)
        ends, total = np.cumsum(size, axis=1).astype(np.int64), np.cumsum(summed, axis=1)
        harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, int(ends[:, -1].max()) + 1))])
        before, behind = ends - size.astype(np.int64), total - summed
        inverse = harmonic[ends] - harmonic[before]
        mean = np.divide(summed, size, out=np.zeros_like(summed), where=size > 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(100.0 * (behind * inverse + mean * (size - before * inverse)).sum(axis=1) / ends[:, -1])
