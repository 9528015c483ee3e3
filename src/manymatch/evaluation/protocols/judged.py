"""All that people judged right: own captions, what most of a crowd said yes to, and what experts graded as fitting."""

from __future__ import annotations

from collections.abc import Iterator

from ...data.matches import Matches
from ...data.pairs import Pairs
from ...errors import DataError
from .base import Asked, Found, Measured, Protocol
from .graded import RIGHT

__all__ = ["Judged", "judged"]

_DEPTH = 10


class Judged(Protocol):
    """Right answers are a query's own, those to which more than half said yes, and those with a mean grade of 3."""

    name = "judged"
    truth_name = "own captions and what people judged right"

    def fits(self, pairs: Pairs) -> bool:
        # With a crowd alone it has the right answers of protocol 'crowd'.
        return "graded" in pairs.truths

    def ask(self, pairs: Pairs) -> Asked:
        right = judged(pairs)
        own = len(pairs.captions)
        note = f"judged: {len(right) - own:,} right answers beside the {own:,} own captions"
        return Asked(right, right.transpose(), notes=(note,))

    def measure(self, found: Found) -> Iterator[Measured]:
        for direction in (found.i2t, found.t2i):
            yield from direction.precisions()
            yield from direction.gains(_DEPTH)


def judged(pairs: Pairs) -> Matches:
    """Own captions, and the pairs (i, c) that people judged right. Raises DataError where nobody judged."""
    own, parts = pairs.matches(), []
    if "crowd" in pairs.truths:
        parts.append(pairs.truths["crowd"].positives(pairs)[0])
    if "graded" in pairs.truths:
        graded, grades = pairs.truths["graded"].grades(pairs)
        right = grades >= RIGHT
        parts.append(Matches(graded.images[right], graded.captions[right], graded.shape))
    if not parts:
        raise DataError(
            f"truth 'judged': nobody judged pairs of {pairs.name}; give --truth FILE (crowd judgments or expert grades)"
        )
    return Matches.union((own, *parts), own.shape)
