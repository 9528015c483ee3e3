"""What is measured, by name: which right answers a protocol asks for, and which numbers it reads from their ranks.

A new protocol is one entry of `PROTOCOLS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..data.matches import Matches
from ..data.pairs import Pairs
from ..errors import DataError, UnknownName
from .metrics import hit_rate, map_at_r, mean_rank, median_rank, queries, r_precision
from .ranks import Ranks

__all__ = ["PROTOCOLS", "Protocol", "Row", "choose", "row"]

Row = dict[str, Any]
"""`protocol, direction, metric, value, low, high, queries, gallery, truth`, and `run` first."""

_DEPTHS = (1, 5, 10)


@dataclass(frozen=True)
class Protocol:
    """One way to judge a ranking.

    Attributes:
        truth: the right answers among the pairs. Raises DataError when the data do not know them.
        truth_name: how tables call them.
        measures: (image to text, text to image, ties) -> (direction, metric, value) each, shares in percent.
    """

    truth: Callable[[Pairs], Matches]
    truth_name: str
    measures: Callable[[Ranks, Ranks, str], list[tuple[str, str, float]]]

    def rows(self, name: str, i2t: Ranks, t2i: Ranks, ties: str) -> list[Row]:
        """The measures as flat rows; "both" counts the queries and items of both directions."""
        asked = {"i2t": queries(i2t), "t2i": queries(t2i)}
        ranked = {"i2t": i2t.gallery, "t2i": t2i.gallery}
        for counts in (asked, ranked):
            counts["both"] = counts["i2t"] + counts["t2i"]
        return [
            row(name, direction, metric, value, asked[direction], ranked[direction], self.truth_name)
            for direction, metric, value in self.measures(i2t, t2i, ties)
        ]


def row(protocol: str, direction: str, metric: str, value: float, asked: int, ranked: int, truth: str | None) -> Row:
    """One measured number; `low` and `high` are the ends of its confidence interval where one was computed."""
    return {
        "protocol": protocol,
        "direction": direction,
        "metric": metric,
        "value": value,
        "low": None,
        "high": None,
        "queries": asked,
        "gallery": ranked,
        "truth": truth,
    }


def _own(i2t: Ranks, t2i: Ranks, ties: str) -> list[tuple[str, str, float]]:
    """The field's table: R@1, 5 and 10 both ways and their sum, median and mean rank."""
    both = {"i2t": i2t, "t2i": t2i}
    out = [(d, f"R@{k}", 100 * hit_rate(r, k, ties)) for d, r in both.items() for k in _DEPTHS]
    out.append(("both", "RSUM", sum(value for _, _, value in out)))
    out += [(d, "median rank", median_rank(r, ties)) for d, r in both.items()]
    return out + [(d, "mean rank", mean_rank(r, ties)) for d, r in both.items()]


def _matches(i2t: Ranks, t2i: Ranks, ties: str) -> list[tuple[str, str, float]]:
    """Every right answer counts: R-precision and mAP@R, and whether the first answer is right."""
    return [
        (direction, metric, 100 * value)
        for direction, ranks in (("i2t", i2t), ("t2i", t2i))
        for metric, value in (
            ("R-precision", r_precision(ranks, ties)),
            ("mAP@R", map_at_r(ranks, ties)),
            ("R@1", hit_rate(ranks, 1, ties)),
        )
    ]


def _exhaustive(pairs: Pairs) -> Matches:
    found = pairs.exhaustive()
    if found is None:
        raise DataError(
            f"protocol 'matches': {pairs.name} knows only each caption's own image; give --truth FILE "
            "(JSON Lines, a query's id and the ids of its matches), or use protocol 'own'"
        )
    return found


PROTOCOLS: dict[str, Protocol] = {
    "own": Protocol(Pairs.matches, "own captions", _own),
    "matches": Protocol(_exhaustive, "every match", _matches),
}


def choose(asked: str | Sequence[str] | None, pairs: Pairs) -> list[str]:
    """Names of the protocols to run: those asked for, else what the data's truth allows. Raises UnknownName."""
    if asked is None:
        return ["own"] if pairs.truth is None else ["own", "matches"]
    names = list(dict.fromkeys([asked] if isinstance(asked, str) else asked))
    for name in names:
        if name not in PROTOCOLS:
            raise UnknownName("protocol", name, PROTOCOLS)
    if not names:
        raise DataError(f"protocol: found an empty list, expected one or more of {', '.join(PROTOCOLS)}")
    return names
