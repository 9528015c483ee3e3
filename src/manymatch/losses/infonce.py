"""InfoNCE over a match matrix: each positive against the items that do not match its anchor."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..errors import DataError
from .base import ScoreLoss, Scores, require_positives

__all__ = ["InfoNCE"]


class InfoNCE(ScoreLoss):
    """Cross-entropy of each positive pair against its anchor's negatives (van den Oord et al. 2018; CLIP).

    Siblings are left out of the denominator, so a caption never competes with another caption of its own image.

    Args:
        temperature: divides the similarities, at the start.
        learned: let it train (its logarithm is the parameter); kept above 0.01.
    """

    def __init__(self, temperature: float = 0.05, *, learned: bool = True) -> None:
        super().__init__()
        if not 0.01 <= temperature < math.inf:
            raise DataError(f"infonce: temperature {temperature}, expected at least 0.01")
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)), requires_grad=learned)

    def forward(self, scores: Scores, matches: Tensor) -> Tensor:
        require_positives(matches)
        scale = self.log_scale.clamp(max=math.log(100.0)).exp()
        return (self._direction(scores.i2t * scale, matches) + self._direction(scores.t2i * scale, matches.T)) / 2

    @staticmethod
    def _direction(logits: Tensor, matches: Tensor) -> Tensor:
        rows, columns = matches.nonzero(as_tuple=True)
        positive = logits[rows, columns]
        negatives = logits.masked_fill(matches, -math.inf).logsumexp(dim=1)
        return nn.functional.softplus(negatives[rows] - positive).mean()
