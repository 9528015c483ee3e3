"""Hinge triplet over a match matrix (VSE++; DivE section 3: hardest negative, siblings never negatives)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from ..choices import check_choice
from .anchors import Anchors
from .base import Scores, require_positives
from .choices import Positives, Reduction, Siblings
from .hinge import Hinge

__all__ = ["Negatives", "Triplet"]

Negatives = Literal["hardest", "all", "semi_hard"]


class Triplet(Hinge):
    """`[margin + s(anchor, negative) - s(anchor, positive)]_+` in both directions.

    For every positive pair, each side is the anchor once.

    Args:
        margin: in units of similarity.
        negatives: "hardest" takes each pair's best-scoring negative, "all" every negative; "semi_hard" every negative
            too, but a hinge counts at most the margin, so that nobody learns from a negative above the positive (an
            option of DivE's code).
        reduction: "mean" over the hinges of a direction (PVSE, DivE; of "semi_hard" over those above zero), or "sum"
            (VSE++, VSE-infinity).
        all_until: share of the run during which all negatives are used before the hardest, in whole epochs and at
            least one where the run has epochs (VSE-infinity: the first); the hardest negative alone often does not
            start on small data. 0 is the hardest from the start, 1 never the hardest (VSE0).
        positives, siblings: which pairs are ranked, and whether an anchor's other matches are negatives, as `Pairing`.
            "diagonal" with "negatives" is the released VSE++, VSE-infinity and PVSE; "diagonal" with "masked" is HREM's
            hinge.

    Raises:
        UnknownName: another word for a setting.
        DataError: a share outside 0 to 1; in a step, no match at all, or no square batch for "diagonal".
    """

    def __init__(
        self,
        margin: float = 0.2,
        *,
        negatives: Negatives = "hardest",
        reduction: Reduction = "mean",
        all_until: float = 0.0,
        positives: Positives = "matches",
        siblings: Siblings = "masked",
    ) -> None:
        super().__init__(margin, reduction, all_until, positives, siblings)
        check_choice("triplet negatives", negatives, Negatives)
        self.negatives = negatives

    def forward(self, scores: Scores, matches: Tensor) -> Tensor:
        require_positives(matches)
        negatives: Negatives = "all" if self._warming else self.negatives
        return self._direction(scores.i2t, self.pairing.anchors(matches), negatives) + self._direction(
            scores.t2i, self.pairing.anchors(matches.T), negatives
        )

    def _direction(self, scores: Tensor, anchors: Anchors, negatives: Negatives) -> Tensor:
        positive, against = anchors.positive(scores), anchors.against(scores)
        if negatives == "hardest":
            hinges = (self.margin + against.amax(dim=1)[anchors.lists] - positive).clamp(min=0)
            return hinges.mean() if self.reduction == "mean" else hinges.sum()
        most = self.margin if negatives == "semi_hard" else None
        hinges = (self.margin + against[anchors.lists] - positive[:, None]).clamp(min=0, max=most)
        if self.reduction == "sum":
            return hinges.sum()
        counted = hinges > 0 if negatives == "semi_hard" else anchors.negatives[anchors.lists]
        return hinges.sum() / counted.sum().clamp(min=1)
