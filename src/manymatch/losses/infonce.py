"""InfoNCE over a match matrix: each positive against the negatives of its anchor."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..errors import DataError
from .anchors import Anchors, Pairing
from .base import ScoreLoss, Scores, require_positives
from .choices import Positives, Siblings

__all__ = ["InfoNCE"]


class InfoNCE(ScoreLoss):
    """Cross-entropy of each positive pair against its anchor's negatives (van den Oord et al. 2018; CLIP).

    Mean over the positives of a direction, then over the two directions. Siblings are left out of the denominator, so a
    caption never competes with another caption of its own image.

    Args:
        temperature: divides the similarities, at the start.
        learned: let it train (its logarithm is the parameter); kept above 0.01.
        positives, siblings: which pairs count, and whether an anchor's other matches are negatives, as `Pairing`;
            "diagonal" with "negatives" is CLIP's form.

    Raises:
        UnknownName: another word for a setting.
        DataError: a temperature below 0.01; in a step, no match at all, or no square batch for "diagonal".
    """

    def __init__(
        self,
        temperature: float = 0.05,
        *,
        learned: bool = True,
        positives: Positives = "matches",
        siblings: Siblings = "masked",
    ) -> None:
        super().__init__()
        if not 0.01 <= temperature < math.inf:
            raise DataError(f"infonce: temperature {temperature}, expected at least 0.01")
        self.pairing = Pairing(positives, siblings)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)), requires_grad=learned)

    def forward(self, scores: Scores, matches: Tensor) -> Tensor:
        require_positives(matches)
        scale = self.log_scale.clamp(max=math.log(100.0)).exp()
        first = self._direction(scores.i2t * scale, self.pairing.anchors(matches))
        return (first + self._direction(scores.t2i * scale, self.pairing.anchors(matches.T))) / 2

    @staticmethod
    def _direction(logits: Tensor, anchors: Anchors) -> Tensor:
        negatives = anchors.against(logits).logsumexp(dim=1)
        return nn.functional.softplus(negatives[anchors.lists] - anchors.positive(logits)).mean()
