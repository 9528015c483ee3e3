"""Where the right answers of every query stand, and what stands first: one pass over whole rows of scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.matches import Matches
from ..evaluation.scores import Source

__all__ = ["Standing", "standing"]

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Standing:
    """A direction of one run, q queries against g candidates.

    Attributes:
        top: (q, m), the best candidates, best first; the earlier of two equal ones is first.
        scores: (q, m), theirs.
        rank: (q,), of the first right answer, best is 1; the middle of its range where others score the same, 0 without
            a right answer.
        first: (q,), which candidate that is; -1 without one.
        gallery: g.
    """

    top: Ints
    scores: Floats
    rank: Ints
    first: Ints
    gallery: int


def standing(source: Source, direction: str, matches: Matches, depth: int) -> Standing:
    """Read whole rows of "i2t" or "t2i" of a source once.

    Args:
        source: of the scores.
        direction: which.
        matches: right answers (q, g).
        depth: m, candidates kept of a query.
    """
    queries, gallery = matches.shape
    starts, m = matches.indptr(), min(depth, gallery)
    top, scores = np.zeros((queries, m), np.int64), np.zeros((queries, m), np.float32)
    rank, first = np.zeros(queries, np.int64), np.full(queries, -1, np.int64)
    for rows, block in source.rows(direction):
        for row, line in zip(range(rows.start, rows.stop), block, strict=True):
            top[row], scores[row] = _best(line, m)
            right = matches.captions[starts[row] : starts[row + 1]]
            if len(right):
                rank[row], first[row] = _first(line, right)
    return Standing(top, scores, rank, first, gallery)


def _best(line: Floats, m: int) -> tuple[Ints, Floats]:
    least = np.partition(line, len(line) - m)[len(line) - m]
    # All that tie with the last are looked at, so that rows and not the partition decide which of them stays.
    near = np.flatnonzero(line >= least)
    chosen = near[np.argsort(-line[near], kind="stable")][:m]
    return chosen, line[chosen]


def _first(line: Floats, right: Ints) -> tuple[int, int]:
    best = int(right[np.argmax(line[right])])
    above, level = int((line > line[best]).sum()), int((line == line[best]).sum())
    equals = int((line[right] == line[best]).sum())
    return 1 + above + (level - equals) // 2, best
