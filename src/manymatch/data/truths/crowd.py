"""Crowd judgments: does this caption describe this image, yes or no, by three or more people (Hodosh et al., 2013)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..matches import Matches
from ..pairs import Pairs
from .judged import Judgments

__all__ = ["CrowdJudgments"]

_ROUNDING = 0.01


class CrowdJudgments(Judgments):
    """Shares of yes (`CrowdFlowerAnnotations.txt` of Flickr8k)."""

    columns = "image, caption, share of yes, how many said yes, how many said no"

    @staticmethod
    def value(judgments: Sequence[str]) -> float:
        try:
            share, yes, no = float(judgments[0]), int(judgments[1]), int(judgments[2])
        except ValueError:
            raise ValueError(f"found {', '.join(judgments)}, expected a share of yes and two whole numbers") from None
        if yes < 0 or no < 0 or not yes + no:
            raise ValueError(f"{yes} said yes and {no} said no, expected at least one judge")
        if not math.isclose(share, yes / (yes + no), abs_tol=_ROUNDING):
            raise ValueError(f"the share of yes is {judgments[0]}, but {yes} of {yes + no} said yes")
        return yes / (yes + no)

    def positives(self, pairs: Pairs) -> tuple[Matches, Matches]:
        """Pairs (i, c) to which more than half said yes, and all that were judged. Raises DataError without any."""
        judged, share = self.among(pairs)
        kept = share > 0.5
        return Matches(judged.images[kept], judged.captions[kept], judged.shape), judged
