"""Every right answer counts: R-precision, mAP@R and nDCG over all that a truth file lists or the data know."""

from __future__ import annotations

from collections.abc import Iterator

from ...data.pairs import Pairs
from ...errors import DataError
from .base import Asked, Direction, Found, Measured, Protocol

__all__ = ["EveryMatch", "table"]


class EveryMatch(Protocol):
    """Exhaustive right answers, both ways alike."""

    name = "matches"
    truth_name = "every match"

    def fits(self, pairs: Pairs) -> bool:
        return pairs.truth is not None

    def ask(self, pairs: Pairs) -> Asked:
        found = pairs.exhaustive()
        if found is None:
            raise DataError(
                f"protocol 'matches': {pairs.name} knows only each caption's own image; give --truth FILE "
                "(JSON Lines, a query's id and the ids of its matches), or use protocol 'own'"
            )
        if not len(found):
            raise DataError(
                f"protocol 'matches': of the right answers that the truth lists none is in {pairs.name}; is it of "
                "other data, or of another split? Protocol 'own' needs none of it"
            )
        return Asked(found, found.transpose())

    def measure(self, found: Found) -> Iterator[Measured]:
        for direction in (found.i2t, found.t2i):
            yield from table(direction)


def table(direction: Direction) -> Iterator[Measured]:
    """R-precision, mAP@R, nDCG to the end and at 10, R@1: each as far as the ranking reaches."""
    yield from direction.precisions()
    yield from direction.gains(None, 10)
    yield from direction.hits(1)
