"""The field's table: own captions, R@1, R@5, R@10 both ways and their sum, median and mean rank."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...data.pairs import Pairs
from ..measures import Sum
from .base import Asked, Direction, Found, Measured, Protocol
from .true_false import says_false

__all__ = ["DEPTHS", "Own", "in_order", "table"]

DEPTHS = (1, 5, 10)


def table(directions: Sequence[Direction]) -> Iterator[Measured]:
    """R@K of every direction, RSUM where all are known, median and mean rank."""
    shares = [share for direction in directions for share in direction.hits(*DEPTHS)]
    middles = [middle for direction in directions for middle in direction.middles()]
    yield from in_order(shares, middles, len(directions))


def in_order(shares: Sequence[Measured], middles: Sequence[Measured], directions: int) -> Iterator[Measured]:
    """The field's order: R@K, their sum where every direction has all of them, median ranks, mean ranks."""
    yield from shares
    if len(shares) == directions * len(DEPTHS):
        asked, ranked = (sum(getattr(s, what) for s in shares[:: len(DEPTHS)]) for what in ("queries", "gallery"))
        yield Measured("both", "RSUM", Sum([share.measure for share in shares]), asked, ranked)
    yield from sorted(middles, key=lambda middle: middle.metric != "median rank")


class Own(Protocol):
    """Each image's own captions, each caption's own image."""

    name = "own"
    truth_name = "own captions"

    def fits(self, pairs: Pairs) -> bool:
        return not says_false(pairs)

    def ask(self, pairs: Pairs) -> Asked:
        own = pairs.matches()
        return Asked(own, own.transpose())

    def measure(self, found: Found) -> Iterator[Measured]:
        yield from table([found.i2t, found.t2i])
