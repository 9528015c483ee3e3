"""Every right answer counts: R-precision and mAP@R over all that a truth file lists or the data know."""

from __future__ import annotations

from collections.abc import Iterator

from ...data.pairs import Pairs
from ...errors import DataError
from .base import Asked, Found, Measured, Protocol

__all__ = ["EveryMatch"]


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
        return Asked(found, found.transpose())

    def measure(self, found: Found) -> Iterator[Measured]:
        for direction in (found.i2t, found.t2i):
            yield from direction.precisions()
            yield from direction.hits(1)
