"""Negative log-likelihood of every pair being what it is, match or not (PCME's soft contrastive loss, CVPR 2021)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from ..choices import check_choice
from .anchors import diagonal
from .base import ScoreLoss, Scores, require_positives
from .choices import Positives, Reduction

__all__ = ["MatchNLL"]


class MatchNLL(ScoreLoss):
    """`-log p` of every match and `-log (1 - p)` of every other pair, both directions (PCME, section 3.2).

    Scores are log-odds of a match, `log p - log (1 - p)`, so a term is a softplus of them and finite however sure they
    are. Under a symmetric similarity the directions are equal and the loss is twice one of them.

    Args:
        reduction: "sum" over all pairs of a direction, unbalanced (the authors' code), or "mean", whose size does not
            depend on the batch.
        positives: "matches", or "diagonal": only caption i of row i is a match and its siblings are not, as in the
            authors' code.

    Raises:
        UnknownName: another word for a setting.
        DataError: in a step, no match at all, or no square batch for "diagonal".
    """

    def __init__(self, *, reduction: Reduction = "sum", positives: Positives = "matches") -> None:
        super().__init__()
        check_choice("match_nll reduction", reduction, Reduction)
        check_choice("positives", positives, Positives)
        self.reduction, self.positives = reduction, positives

    def forward(self, scores: Scores, matches: Tensor) -> Tensor:
        require_positives(matches)
        i2t, t2i = self.of_pairs(scores, matches)
        return i2t.sum() + t2i.sum() if self.reduction == "sum" else i2t.mean() + t2i.mean()

    def of_pairs(self, scores: Scores, matches: Tensor) -> tuple[Tensor, Tensor]:
        """Every pair's own term, (i, c) and (c, i)."""
        truth = diagonal(matches) if self.positives == "diagonal" else matches
        targets = truth.to(scores.i2t.dtype)
        return (
            functional.binary_cross_entropy_with_logits(scores.i2t, targets, reduction="none"),
            functional.binary_cross_entropy_with_logits(scores.t2i, targets.T, reduction="none"),
        )
