"""Expert ratings: how well a caption describes an image, 1 to 4, by three judges (Hodosh et al., JAIR 2013)."""

from __future__ import annotations

from collections.abc import Sequence

from ..matches import Matches
from ..pairs import Pairs
from .judged import Floats, Judgments

__all__ = ["ExpertRatings"]

_GRADES = ("1", "2", "3", "4")


class ExpertRatings(Judgments):
    """Mean grades: 1 does not describe the image, 4 describes it (`ExpertAnnotations.txt` of Flickr8k)."""

    columns = "image, caption, three grades from 1 to 4"

    @staticmethod
    def value(judgments: Sequence[str]) -> float:
        if any(grade not in _GRADES for grade in judgments):
            raise ValueError(f"the grades are {', '.join(judgments)}, expected three whole numbers from 1 to 4")
        return sum(map(int, judgments)) / len(judgments)

    def grades(self, pairs: Pairs) -> tuple[Matches, Floats]:
        """The judged pairs (i, c) and the mean grade of each, in their order (p,). Raises DataError without any."""
        return self.among(pairs)
