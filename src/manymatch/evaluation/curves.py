"""Fitting a calibration curve: logistic regression on a piecewise linear, rising function of the score.

Likelihood of right and wrong answers is what is maximised (Platt 1999, with his smoothed targets), over log-odds that
are linear between knots; where they would fall from one knot to the next, the two are pooled, as isotonic regression
does with its blocks (Ayer et al. 1955), and the rest is fitted again. At the optimum the probabilities add up to the
number of right answers, over all pairs and around every knot: that is what makes their sum over a whole collection
worth reading, where most pairs are poor and a block would be a floor. Knots stand where right answers are, closer
below, because there few of them decide about nearly all pairs.

Where the truth names only some of the right answers, the curve is that of being named, and the share that is named
turns it into that of being right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..calibration import Curve
from ..errors import DataError
from .measures import Floats
from .reliability import calibration_error

__all__ = ["FEWEST", "LEAST_NAMED", "Tally", "fit_curve"]

FEWEST = 10
"""Right answers a curve needs at least; also what a stretch between knots needs, of right and of wrong ones."""

_FEW = 50
"""Below so many right answers log-odds are one line; above, one more knot for every so many."""

_MOST_SEGMENTS = 12
_QUANTILES = 512
_SINGLE = 256
"""Highest scores of each side that get a cell of their own: there the curve bends most, and quantiles lie far apart."""

_SAMPLED = 1_000_000
"""Scores whose quantiles are where cells are cut."""

_LEAST_RISE = 1e-3
"""Log-odds by which a standard deviation of the scores must rise at least, or neighbours are pooled."""

_HIGHEST = 0.03
_HIGHEST_LEAST = 50
"""The named right answers with the highest scores, and no fewer (or half, of fewer than a hundred), tell what share of
the right ones is named: fewer would leave it to chance, and further down what scores as high is less often right."""

LEAST_NAMED = 0.1
"""A smaller share is never assumed: where a run is poor, what scores highest is not all right."""

_STEPS = 100
_FARTHEST = 2.0
"""Log-odds that a step may change a knot by."""

_CLOSE = 1e-10


@dataclass(frozen=True)
class Tally:
    """Scores counted in c narrow cells, apart for each of f folds; equal scores share a cell.

    Attributes:
        scores: (c,) the mean score of each cell, ascending.
        right, wrong: (f, c) how many right and wrong answers each fold has there.
    """

    scores: Floats
    right: Floats
    wrong: Floats

    @classmethod
    def of(cls, right: Sequence[Any], wrong: Sequence[Any]) -> Tally:
        """Count the scores of right and of wrong answers, one array a fold.

        Raises:
            DataError: a score that is not finite, or nothing to fit: too few right answers, no wrong one.
        """
        sides = [[np.sort(np.asarray(fold).ravel()) for fold in side] for side in (right, wrong)]
        for fold in (fold for side in sides for fold in side):
            # NaN sorts last, minus infinity first.
            if len(fold) and not (np.isfinite(fold[0]) and np.isfinite(fold[-1])):
                raise DataError("calibration: a score is a NaN or an infinity, expected finite numbers")
        counts = [sum(map(len, side)) for side in sides]
        if counts[0] < FEWEST or not counts[1]:
            raise DataError(f"{counts[0]:,} right and {counts[1]:,} wrong answers, expected at least {FEWEST} and 1")
        edges = _edges(
            *(np.concatenate([f[:: 1 + count // _SAMPLED] for f in s]) for s, count in zip(sides, counts, strict=True))
        )
        cut = [[np.concatenate([[0], np.searchsorted(f, edges), [len(f)]]) for f in side] for side in sides]
        tallied = [np.array([np.diff(places) for places in side], np.float64) for side in cut]
        sums = sum(
            _sums(fold, places)
            for side, starts in zip(sides, cut, strict=True)
            for fold, places in zip(side, starts, strict=True)
        )
        total = tallied[0].sum(axis=0) + tallied[1].sum(axis=0)
        used = total > 0
        return cls((sums[used] / total[used]), tallied[0][:, used], tallied[1][:, used])  # type: ignore[index]

    @property
    def count(self) -> tuple[int, int]:
        """How many right and wrong answers there are."""
        return int(self.right.sum()), int(self.wrong.sum())

    def without(self, fold: int) -> Tally:
        """All other folds."""
        others = np.arange(len(self.right)) != fold
        return Tally(self.scores, self.right[others], self.wrong[others])


def _edges(*sides: Floats) -> Floats:
    levels = np.linspace(0.0, 1.0, _QUANTILES)
    cuts = [cut for side in sides if len(side) for cut in (np.quantile(side, levels), np.sort(side)[-_SINGLE:])]
    return np.unique(np.concatenate(cuts))


def _sums(fold: Any, places: Any) -> Floats:
    """The sum of a sorted fold between consecutive places."""
    total = np.add.reduceat(np.append(fold, 0), np.minimum(places[:-1], len(fold)), dtype=np.float64)
    return np.where(np.diff(places) > 0, total, 0.0)


def fit_curve(
    tally: Tally, *, truth: str = "given", queries: int = 0, gallery: int = 0, complete: bool = True
) -> Curve:
    """The curve of these scores, and its calibration error across folds.

    Args:
        tally: of the scores.
        truth, queries, gallery: noted in the curve.
        complete: whether the truth names every right answer. Where it does not, as a photo's own captions do not, what
            is not named may be right as well; the share of the named is estimated where scores are highest, and the
            probability is that of being right, named or not.

    Raises:
        DataError: nothing tells right from wrong: all scores are equal, or right answers score no higher.
    """
    right, wrong = tally.count
    kind, knots, odds = _fitted(tally)
    pairs = right + wrong
    ceiling = (right + 1.0) / (right + 2.0)
    numbers = tuple(knots.tolist()), tuple(odds.tolist())
    ece = _across(tally) if len(tally.right) > 1 else None
    named = 1.0 if complete else _named(tally)
    return Curve(kind, *numbers, ceiling, truth, queries, gallery, pairs, right, ece, named)


def _named(tally: Tally) -> float:
    """Share of the right answers that the truth names: the share it names of the highest scores, taken to be all right.

    The named ones are taken to score like the others that are right (Elkan and Noto, KDD 2008, section 2). Of both
    assumptions the first makes the share too small, the second too large. Equal scores count together.
    """
    right = np.cumsum(tally.right.sum(axis=0)[::-1])
    total = right + np.cumsum(tally.wrong.sum(axis=0)[::-1])
    count = float(right[-1])
    enough = max(_HIGHEST * count, min(_HIGHEST_LEAST, count / 2))
    place = int(np.searchsorted(right, enough))
    return float(np.clip(right[place] / total[place], LEAST_NAMED, 1.0))


def _across(tally: Tally) -> float | None:
    """Calibration error of every fold by a curve of the others; None where one of these cannot be fitted."""
    found = []
    for fold, (right, wrong) in enumerate(zip(tally.right, tally.wrong, strict=True)):
        rest = tally.without(fold)
        try:
            kind, knots, odds = _fitted(rest)
        except DataError:
            return None
        ceiling = (rest.count[0] + 1.0) / (rest.count[0] + 2.0)
        curve = Curve(kind, tuple(knots.tolist()), tuple(odds.tolist()), ceiling, "", 0, 0, 0, 0)
        used = right + wrong > 0
        total = (right + wrong)[used]
        found.append((curve.probability(tally.scores[used]), right[used] / total, total))
    return calibration_error(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _fitted(tally: Tally) -> tuple[str, Floats, Floats]:
    """Kind, knots and log-odds."""
    scores, right, wrong = tally.scores, tally.right.sum(axis=0), tally.wrong.sum(axis=0)
    total = right + wrong
    spread = float(np.sqrt(np.average((scores - np.average(scores, weights=total)) ** 2, weights=total)))
    if len(scores) < 2 or spread <= 0:
        raise DataError("all scores are equal: nothing tells right answers from wrong ones")
    knots = _knots(scores, right, wrong)
    kind = "isotonic" if len(knots) > 2 else "logistic"
    while True:
        odds = _maximised(scores, right, wrong, knots)
        rises = np.diff(odds) / np.diff(knots) * spread
        lowest = int(rises.argmin())
        if rises[lowest] >= _LEAST_RISE:
            return kind, knots, odds
        if len(knots) == 2:
            raise DataError("right answers score no higher than wrong ones: nothing tells them apart")
        knots = np.delete(knots, _pooled(rises, lowest))


def _pooled(rises: Floats, lowest: int) -> int:
    """The knot between the segment that falls most and its flatter neighbour."""
    before = rises[lowest - 1] if lowest else np.inf
    after = rises[lowest + 1] if lowest + 1 < len(rises) else np.inf
    return lowest if before < after else lowest + 1


def _knots(scores: Floats, right: Floats, wrong: Floats) -> Floats:
    """Where log-odds may bend, and a point below and above that the first and the last line go through."""
    count = float(right.sum())
    reached = np.cumsum(right)
    below = np.cumsum(wrong)
    kept: list[int] = []
    if count >= _FEW:
        segments = int(np.clip(count // _FEW, 2, _MOST_SEGMENTS))
        levels = np.array([0.25, 0.5, *range(1, segments)]) / segments
        seen, missed = 0.0, 0.0
        for place in np.searchsorted(reached, levels * count).tolist():
            enough = min(reached[place] - seen, count - reached[place]) >= FEWEST
            if place and enough and min(below[place] - missed, below[-1] - below[place]) >= FEWEST:
                kept.append(place)
                seen, missed = float(reached[place]), float(below[place])
    inner = scores[kept]
    first = _middle(scores, wrong, scores < inner[0] if kept else None)
    last = _middle(scores, right, scores > inner[-1] if kept else None)
    if first >= last:
        first, last = float(scores[0]), float(scores[-1])
    return np.array([first, *inner, last])


def _middle(scores: Floats, weight: Floats, among: Any) -> float:
    """The weighted median."""
    weight = weight if among is None else weight * among
    reached = np.cumsum(weight)
    return float(scores[int(np.searchsorted(reached, reached[-1] / 2))])


def _maximised(scores: Floats, right: Floats, wrong: Floats, knots: Floats) -> Floats:
    """Log-odds at the knots of highest likelihood, by Newton's method with steps that are halved until they help."""
    places = np.clip(np.searchsorted(knots, scores, side="right") - 1, 0, len(knots) - 2)
    share = (scores - knots[places]) / (knots[places + 1] - knots[places])
    basis = np.zeros((len(scores), len(knots)))
    rows = np.arange(len(scores))
    basis[rows, places], basis[rows, places + 1] = 1.0 - share, share
    total = right + wrong
    # Platt's targets: one answer more of each kind, so that scores which part right from wrong keep finite odds.
    wanted = right * (right.sum() + 1) / (right.sum() + 2) + wrong / (wrong.sum() + 2)
    odds = np.full(len(knots), np.log(wanted.sum() / (total.sum() - wanted.sum())))

    def loss(at: Floats) -> float:
        z = basis @ at
        return float(total @ np.logaddexp(0.0, z) - wanted @ z)

    now = loss(odds)
    for _ in range(_STEPS):
        p = 1.0 / (1.0 + np.exp(-np.clip(basis @ odds, -700.0, 700.0)))
        slope = basis.T @ (total * p - wanted)
        bend = (basis * (total * p * (1.0 - p))[:, None]).T @ basis
        bend[np.diag_indices_from(bend)] *= 1.0 + 1e-9
        step = np.linalg.lstsq(bend, slope, rcond=None)[0]
        # A longer one would leap to where every probability is 0 or 1, and no bend tells the way back.
        step *= _FARTHEST / max(_FARTHEST, float(np.abs(step).max()))
        size = 1.0
        while size > 1e-8 and not loss(odds - size * step) <= now:
            size /= 2
        if size <= 1e-8:
            break
        odds = odds - size * step
        then = loss(odds)
        if now - then <= _CLOSE * abs(now):
            now = then
            break
        now = then
    return odds
