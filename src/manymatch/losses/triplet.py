"""Hinge triplet over a match matrix (VSE++; DivE section 3: hardest negative, siblings never negatives)."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor

from ..errors import DataError, UnknownName
from .base import ScoreLoss, Scores, require_positives

__all__ = ["Triplet"]

Negatives = Literal["hardest", "all"]


def _one_direction(scores: Tensor, matches: Tensor, margin: float, negatives: Negatives) -> tuple[Tensor, int]:
    """Sum of hinges over positive pairs (row anchors), and how many hinges there are."""
    rows, columns = matches.nonzero(as_tuple=True)
    positive = scores[rows, columns]
    against = scores.masked_fill(matches, -math.inf)
    if negatives == "hardest":
        return (margin + against.amax(dim=1)[rows] - positive).clamp(min=0).sum(), len(rows)
    hinges = (margin + against[rows] - positive[:, None]).clamp(min=0)
    return hinges.sum(), int((~matches)[rows].sum())


class Triplet(ScoreLoss):
    """`[margin + s(anchor, negative) - s(anchor, positive)]_+` in both directions.

    For every positive pair, each side is the anchor once. Items that match the anchor are never negatives.

    Args:
        margin: in units of similarity.
        negatives: "hardest" takes each anchor's best-scoring negative, "all" every negative.
        reduction: "mean" over the hinges of a direction (PVSE, DivE) or "sum" (VSE++, VSE-infinity).
        all_until: share of the run's steps during which all negatives are used before the hardest
            (0 = from the start hardest); the hardest negative alone often does not start on small data.
    """

    def __init__(
        self,
        margin: float = 0.2,
        *,
        negatives: Negatives = "hardest",
        reduction: Literal["mean", "sum"] = "mean",
        all_until: float = 0.0,
    ) -> None:
        super().__init__()
        if negatives not in ("hardest", "all"):
            raise UnknownName("triplet negatives", negatives, ("hardest", "all"))
        if reduction not in ("mean", "sum"):
            raise UnknownName("triplet reduction", reduction, ("mean", "sum"))
        if not 0.0 <= all_until <= 1.0:
            raise DataError(f"triplet: all_until {all_until}, expected a share between 0 and 1")
        self.margin, self.negatives, self.reduction, self.all_until = margin, negatives, reduction, all_until
        self._progress = 1.0

    def advance(self, step: int, steps: int) -> None:
        self._progress = step / max(steps, 1)

    def forward(self, scores: Scores, matches: Tensor) -> Tensor:
        require_positives(matches)
        negatives: Negatives = "all" if self._progress < self.all_until else self.negatives
        total = scores.i2t.new_zeros(())
        for side, truth in ((scores.i2t, matches), (scores.t2i, matches.T)):
            hinges, count = _one_direction(side, truth, self.margin, negatives)
            total = total + (hinges / max(count, 1) if self.reduction == "mean" else hinges)
        return total
