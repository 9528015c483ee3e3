"""Graded judgments: does a model order the judged items of a query as people do, and do its scores follow grades?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from ...data.pairs import Pairs
from ...errors import DataError
from ..gains import judged_precisions, ndcgs
from ..measures import Correlation, Mean
from ..metrics import reach
from ..ranks import Ranks
from .base import Asked, Direction, Found, Measured, Protocol

__all__ = ["RIGHT", "Graded"]

Floats = np.ndarray[Any, np.dtype[np.float64]]

_DEPTH = 10
_LOWEST = 1.0
RIGHT = 3.0
"""Of four grades, the two upper ones say that the caption describes the image, perhaps with minor mistakes."""


class Graded(Protocol):
    """Mean expert grades; a query's gallery is what was judged for it, nothing is invented for the rest."""

    name = "graded"
    truth_name = "expert grades"
    left_out = "were not judged"

    def fits(self, pairs: Pairs) -> bool:
        return "graded" in pairs.truths

    def ask(self, pairs: Pairs) -> Asked:
        truth = pairs.truths.get("graded")
        if truth is None:
            raise DataError(
                f"protocol 'graded': {pairs.name} has no expert grades; give --truth FILE (tab-separated: image, "
                "caption id, three grades from 1 to 4)"
            )
        judged, grades = truth.grades(pairs)
        turned = grades[np.lexsort((judged.images, judged.captions))]
        return Asked(judged, judged.transpose(), extra=(grades, turned))

    def measure(self, found: Found) -> Iterator[Measured]:
        sides = list(zip((found.i2t, found.t2i), found.asked.extra, strict=True))
        for direction, grades in sides:
            if _ordered(direction.ranks):
                yield from _direction(direction, grades, found.said)
            else:
                found.said.append(
                    f"graded: some {direction.name} rankings hold too few of the judged items to order them; left out"
                )
        direction, grades = sides[0]
        scores = direction.ranks.scores
        if scores is None or not np.isfinite(scores).all():
            found.said.append("graded: rankings without a score for every judged pair; spearman is left out")
        else:
            measure = Correlation(scores, grades, direction.ranks.query)
            if np.isfinite(measure.value):
                yield Measured("both", "spearman", measure, len(grades), len(grades))
            else:
                found.said.append("graded: all scores or all grades are equal; spearman is left out")


def _ordered(ranks: Ranks) -> bool:
    """Whether the order of each query's judged items is known: of a list cut short, all but one must be in it."""
    if ranks.depth is None:
        return True
    missing = np.bincount(ranks.query, ranks.above >= ranks.gallery, minlength=1)
    return reach(ranks) > 0 and bool((missing <= 1).all())


def _direction(direction: Direction, grades: Floats, said: list[str]) -> Iterator[Measured]:
    ranks, gains, right = direction.ranks, grades - _LOWEST, grades >= RIGHT
    equal = replace(ranks, above=np.zeros_like(ranks.above))
    # An item is one of so many that were judged for its query; the mean says how hard ordering them is.
    judged = ranks.positives[ranks.positives > 0]
    ndcg = ndcgs(ranks, gains, _DEPTH, direction.ties), ndcgs(equal, gains, _DEPTH)
    precision = judged_precisions(ranks, right, direction.ties), judged_precisions(equal, right)
    chance = []
    for metric, used, (found, blind) in (
        (f"nDCG@{_DEPTH}", "an item above the lowest grade", ndcg),
        ("mAP", "a right answer", precision),
    ):
        rows, values = found
        if not len(rows):
            said.append(f"graded: {direction.name}: no query has {used}; {metric} is left out")
            continue
        measure = Mean(values, direction.images[rows])
        yield Measured(direction.name, metric, measure, len(rows), round(float(judged.mean())))
        chance.append(f"{metric} {100 * float(np.mean(blind[1])):.1f} ({len(rows)} with {used})")
    said.append(
        f"graded: {direction.name} ranks the {judged.min()} to {judged.max()} items judged for each of {len(judged)} "
        f"queries; equal scores would give {' and '.join(chance) or 'nothing'}"
    )
