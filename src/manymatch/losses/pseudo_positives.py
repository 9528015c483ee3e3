"""Binary cross-entropy over all pairs, with whatever outscores a true pair taken for true (PCME++, ICLR 2024)."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional

from ..choices import Mode, check_mode
from ..errors import DataError
from .base import ScoreLoss, Scores, require_positives

__all__ = ["PseudoPositives", "pseudo_targets"]


def pseudo_targets(scores: Tensor, targets: Tensor, *, mode: Mode = "paper") -> Tensor:
    """Targets (rows, columns) with every pair that scores at least as high as its row's true one raised to its target.

    Args:
        scores: (rows, columns); no gradient comes back.
        targets: (rows, columns), probabilities of a match. The row's true pair is one with the largest of them.
        mode: where a row has several true pairs, "paper" compares with the best-scoring one, "released" with the first
            in the order of the batch, as the authors' code does.
    """
    best = targets.amax(dim=1, keepdim=True)
    if mode == "released":
        threshold = scores.gather(1, targets.argmax(dim=1, keepdim=True))
    else:
        threshold = scores.masked_fill(targets < best, -math.inf).amax(dim=1, keepdim=True)
    return best.where(scores.detach() >= threshold.detach(), targets)


class PseudoPositives(ScoreLoss):
    """Cross-entropy of the match probability, plus alpha times the same with pseudo-positives, both directions.

    Scores are log-odds of a match, `log p - log (1 - p)`. Each direction is a mean over all pairs; its pseudo-positives
    are taken along its own rows. Matches may be probabilities (mixed pictures) instead of bool.

    Args:
        alpha: weight of the part with pseudo-positives.
        smoothing: a match's target is one less this, another pair's is this.
        mode: as `pseudo_targets`.

    Raises:
        UnknownName: another mode.
        DataError: a negative alpha, or a smoothing outside 0 to 0.5; in a step, no match at all.
    """

    def __init__(self, alpha: float = 0.1, *, smoothing: float = 1e-4, mode: Mode = "paper") -> None:
        super().__init__()
        check_mode(mode)
        if not (0.0 <= alpha < math.inf and 0.0 <= smoothing < 0.5):
            raise DataError(
                f"pseudo_positives: alpha {alpha}, smoothing {smoothing}; expected alpha of at least 0 and smoothing "
                "from 0 to below 0.5"
            )
        self.alpha, self.smoothing, self.mode = alpha, smoothing, mode

    def forward(self, scores: Scores, matches: Tensor) -> Tensor:
        require_positives(matches)
        targets = matches.to(scores.i2t.dtype) * (1 - 2 * self.smoothing) + self.smoothing
        return self._direction(scores.i2t, targets) + self._direction(scores.t2i, targets.T)

    def _direction(self, scores: Tensor, targets: Tensor) -> Tensor:
        raised = pseudo_targets(scores, targets, mode=self.mode)
        plain = functional.binary_cross_entropy_with_logits(scores, targets)
        return plain + self.alpha * functional.binary_cross_entropy_with_logits(scores, raised)
