"""What hinge losses over a match matrix share: margin, reduction, which pairs, and a start with all negatives."""

from __future__ import annotations

from ..choices import check_choice
from ..errors import DataError
from .anchors import Pairing
from .base import ScoreLoss
from .choices import Positives, Reduction, Siblings

__all__ = ["Hinge", "in_first_part"]


class Hinge(ScoreLoss):
    """Base of losses `[margin + negative - positive]_+`; what each setting does there is told by the loss.

    Raises:
        UnknownName: another word for a setting.
        DataError: a share outside 0 to 1.
    """

    def __init__(
        self,
        margin: float,
        reduction: Reduction,
        all_until: float,
        positives: Positives,
        siblings: Siblings,
    ) -> None:
        super().__init__()
        name = type(self).__name__.lower()
        check_choice(f"{name} reduction", reduction, Reduction)
        if not 0.0 <= all_until <= 1.0:
            raise DataError(f"{name}: all_until {all_until}, expected a share between 0 and 1")
        self.margin, self.reduction, self.all_until = margin, reduction, all_until
        self.pairing = Pairing(positives, siblings)
        self._warming = all_until == 1.0

    def advance(self, step: int, steps: int, epochs: int = 0) -> None:
        self._warming = in_first_part(self.all_until, step, steps, epochs)


def in_first_part(share: float, step: int, steps: int, epochs: int = 0) -> bool:
    """Whether a step lies in the first share of a run, in whole epochs and at least one where the run has epochs; 0 is
    never, 1 always."""
    if share and epochs:
        share = max(1, round(share * epochs)) / epochs
    return share == 1.0 or step / max(steps, 1) < share
