"""What is measured, by name: a file for a protocol or a family of them; a new one takes its place in `PROTOCOLS`."""

from __future__ import annotations

from collections.abc import Sequence

from ...data.pairs import Pairs
from ...errors import DataError, UnknownName
from .base import Asked, Direction, Found, Measured, Protocol
from .coco import Coco1K, Coco5K
from .crowd import Crowd
from .cxc import Crisscrossed
from .eccv import EccvCaption
from .graded import Graded
from .judged import Judged
from .labels import Labels
from .matches import EveryMatch
from .own import Own
from .pmrp import Pmrp
from .slices import Slices
from .true_false import TrueFalse
from .uncertainty import Uncertainty

__all__ = ["PROTOCOLS", "WIDEST_FIRST", "Asked", "Direction", "Found", "Measured", "Protocol", "choose"]

WIDEST_FIRST: tuple[Protocol, ...] = (EveryMatch(), EccvCaption(), Crowd())
"""Protocols whose right answers are more than a query's own; of those that fit the data the first knows most."""

PROTOCOLS: dict[str, Protocol] = {
    each.name: each
    for each in (
        Own(),
        Coco5K(),
        Coco1K(),
        EccvCaption(),
        Crisscrossed(),
        Pmrp(),
        Labels(),
        EveryMatch(),
        Graded(),
        Crowd(),
        Judged(),
        TrueFalse(),
        Slices(),
        Uncertainty(WIDEST_FIRST),
    )
}
"""Every protocol by its name, in the order of reports."""


def choose(asked: str | Sequence[str] | None, pairs: Pairs) -> list[str]:
    """Names of the protocols to run: those asked for, else what the data's truth allows. Raises UnknownName."""
    if asked is None:
        return [name for name, protocol in PROTOCOLS.items() if protocol.fits(pairs)]
    names = list(dict.fromkeys([asked] if isinstance(asked, str) else asked))
    for name in names:
        if name not in PROTOCOLS:
            raise UnknownName("protocol", name, PROTOCOLS)
    if not names:
        raise DataError(f"protocol: found an empty list, expected one or more of {', '.join(PROTOCOLS)}")
    return names
