"""Which query's distribution a candidate came from (our reading of MSRM, CVPR 2023, on HIST, CVPR 2022, equation 2)."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor

from ..choices import check_choice
from ..errors import DataError
from .base import ScoreLoss, Scores, require_positives

__all__ = ["SemanticDistribution"]

Over = Literal["queries", "candidates"]


class SemanticDistribution(ScoreLoss):
    """`-mean log softmax(tau s)` at the match, on negative squared Mahalanobis distances s, both directions added.

    In each direction every candidate is shared out among the queries of the batch, each of which is a distribution.
    Where several queries match, their shares are added before the logarithm. What has no match is left out.

    Args:
        tau: multiplies the scores; 16 to 32 in HIST.
        over: "queries", softmax over the queries for each candidate (HIST's classes for each item), or "candidates",
            over the candidates for each query, as retrieval asks.

    Raises:
        UnknownName: another word for `over`.
        DataError: tau that is not positive; in a step, no match at all.
    """

    def __init__(self, tau: float = 16.0, *, over: Over = "queries") -> None:
        super().__init__()
        check_choice("semantic_distribution over", over, Over)
        if not 0.0 < tau < math.inf:
            raise DataError(f"semantic_distribution: tau {tau}, expected a positive number")
        self.tau, self.over = tau, over

    def forward(self, scores: Scores, matches: Tensor) -> Tensor:
        require_positives(matches)
        return self._direction(scores.i2t, matches) + self._direction(scores.t2i, matches.T)

    def _direction(self, scores: Tensor, matches: Tensor) -> Tensor:
        """Scores (queries, candidates) -> mean over the candidates, or the queries, that have a match."""
        logits = self.tau * scores
        if self.over == "queries":
            logits, matches = logits.T, matches.T
        known = matches.any(dim=1)
        logits, matches = logits[known], matches[known]
        return (logits.logsumexp(dim=1) - logits.masked_fill(~matches, -math.inf).logsumexp(dim=1)).mean()
