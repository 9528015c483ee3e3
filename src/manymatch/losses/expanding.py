"""Self-expanding loss: the worst of a row's own columns must still beat the best of the others (ESA, TCSVT 2023)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import DataError
from .base import Scores, require_positives
from .choices import Positives, Reduction, Siblings
from .hinge import Hinge

__all__ = ["Expanding"]


class Expanding(Hinge):
    """`[margin + max over negatives - min over positives]_+` of every row, both directions.

    The authors pool each item into h views and take for a row's positive the least similar of the h columns of its own
    pair. Here the least similar of all its matches counts, which is the same where an item has one: every right answer
    has to be found, not the easiest. Scores may so be of h views of every item, each item's next to each other: of
    (h i, h c) scores, the matches stay (i, c).

    Args:
        margin: in units of similarity.
        reduction: "sum" over the rows of a direction (the authors' code), or their "mean".
        all_until: share of the run during which a row pays for all its negatives and not only for the hardest, in whole
            epochs and at least one where the run has epochs (the authors': the first of 25); 1 never takes the hardest.
        positives, siblings: as `Pairing`; "diagonal" with "negatives" is the authors' code, in whose batches another
            caption of the same picture is a negative.

    Raises:
        UnknownName: another word for a setting.
        DataError: a share outside 0 to 1; in a step, no match at all, no square batch for "diagonal", or scores that
            are not so many times the matches.
    """

    def __init__(
        self,
        margin: float = 0.2,
        *,
        reduction: Reduction = "mean",
        all_until: float = 0.0,
        positives: Positives = "matches",
        siblings: Siblings = "masked",
    ) -> None:
        super().__init__(margin, reduction, all_until, positives, siblings)

    def forward(self, scores: Scores, matches: Tensor) -> Tensor:
        require_positives(matches)
        return self._direction(scores.i2t, matches) + self._direction(scores.t2i, matches.T)

    def _direction(self, scores: Tensor, matches: Tensor) -> Tensor:
        own, others = (_viewed(mask, scores) for mask in self.pairing.masks(matches))
        asked = own.any(dim=1)
        scores, own, others = scores[asked], own[asked], others[asked]
        worst = scores.masked_fill(~own, math.inf).amin(dim=1)
        against = scores.masked_fill(~others, -math.inf)
        if not self._warming:
            hinges = (self.margin + against.amax(dim=1) - worst).clamp(min=0)
            return hinges.sum() if self.reduction == "sum" else hinges.mean()
        hinges = (self.margin + against - worst[:, None]).clamp(min=0)
        return hinges.sum() if self.reduction == "sum" else hinges.sum() / others.sum().clamp(min=1)


def _viewed(mask: Tensor, scores: Tensor) -> Tensor:
    """A mask of items (rows, columns) as one of their views, as many as the scores have."""
    rows, columns = (size // of for size, of in zip(scores.shape, mask.shape, strict=True))
    if (rows * mask.shape[0], columns * mask.shape[1]) != tuple(scores.shape):
        raise DataError(
            f"expanding: scores of shape {tuple(scores.shape)} for matches of {tuple(mask.shape)}, expected as many "
            "views of every item"
        )
    return mask if rows == columns == 1 else torch.repeat_interleave(mask.repeat_interleave(rows, 0), columns, 1)
