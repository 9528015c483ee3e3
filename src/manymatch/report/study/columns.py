"""Which quantities stand in which table, under which heading, and how a number is written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from .lines import Line
from .plan import Plan

__all__ = ["Column", "Group", "decimals", "groups_of", "in_part", "shown", "spelt"]

_COSTS = ("minutes", "CPU minutes", "memory GiB")


@dataclass(frozen=True)
class Column:
    """One quantity in a table.

    Attributes:
        quantity: its name.
        head: what stands above it.
        digits: behind the point.
        best: +1 where more is better, -1 where less is, 0 where neither is.
    """

    quantity: str
    head: str
    digits: int = 1
    best: int = 1


@dataclass(frozen=True)
class Group:
    """One table.

    Attributes:
        name: in the bar of the page.
        title: above it.
        told: what its numbers are, in a sentence.
        columns: left to right.
        states: whether rows with and without bank differ in it.
    """

    name: str
    title: str
    told: str
    columns: tuple[Column, ...]
    states: bool = True


_OWN = Group(
    "Captions",
    "Own captions",
    "Each photo's own captions are right. RSUM is the sum of R@1, R@5 and R@10 both ways; val is RSUM on validation, "
    "without the bank, by which epochs and settings were chosen.",
    (
        Column("RSUM", "RSUM"),
        *(Column(f"{way} R@{k}", f"{way} R@{k}") for way in ("i2t", "t2i") for k in (1, 5, 10)),
        Column("validation RSUM", "val"),
    ),
)
_JUDGED = Group(
    "Judged",
    "What people judged right",
    "Right are own captions, what more than half of a crowd said yes to, and what experts graded 3 of 4 or more; the "
    "whole split is ranked. Spearman is of raw scores with the expert grades, the same with and without bank.",
    (
        *(
            Column(f"judged {way} {metric}", f"{way} {metric}")
            for way in ("i2t", "t2i")
            for metric in ("R-precision", "mAP@R", "nDCG@10")
        ),
        Column("graded spearman", "Spearman", 3),
    ),
)
_HUBS = Group(
    "Hubs",
    "Hubs",
    "Skewness of how often an item is in the first ten: 0 where every item is found as often, high where a few hubs "
    "are found by everybody.",
    (Column("i2t hub skew", "captions", 2, -1), Column("t2i hub skew", "images", 2, -1)),
)
_SETS = Group(
    "Sets",
    "Sets and candidates",
    "Log circular variance of the elements: -0.7 for four at right angles, -4.5 and below for a set that is one point, "
    "-16.1 and below told as -16.1; one element has none. "
    "Elements in use: the percentage of places of a set over which wins are spread. Proxy recall: how many percent of "
    "the exact first ten are among the 200 best by one vector an item.",
    (
        Column("image log circular variance", "log variance, images", 2, 0),
        Column("caption log circular variance", "captions", 2, 0),
        Column("image effective slots", "in use, images", 0, 0),
        Column("caption effective slots", "captions", 0, 0),
        Column("diary elements with gradient", "with gradient", 2, 0),
        Column("i2t proxy recall", "proxy recall i2t", 1, 1),
        Column("t2i proxy recall", "t2i", 1, 1),
    ),
    states=False,
)
_COST = Group(
    "Cost",
    "Cost",
    "Of training one seed: wall minutes (other work may have shared the cores), minutes of all cores together, the "
    "most memory held at once. A row made of others costs what those cost, and the making.",
    (
        Column("minutes", "minutes", 1, -1),
        Column("CPU minutes", "CPU minutes", 1, -1),
        Column("memory GiB", "GiB", 1, -1),
        Column("threads", "threads", 0, 0),
    ),
    states=False,
)
_NAMED = {"own", "judged", "graded"}


def groups_of(plan: Plan, lines: Sequence[Line]) -> list[Group]:
    """The tables that these lines fill, each with the columns that some line has."""
    known = {name for line in lines for name in line.names}
    others = [_other(protocol, known) for protocol in plan.protocols if protocol not in _NAMED]
    asked = dict.fromkeys(name for row in plan.rows for name in row.measure)
    asked |= dict.fromkeys(claim.metric for claim in plan.claims)
    tables = [_OWN, _JUDGED, *others, _HUBS, _SETS, _COST]
    seen = {column.quantity for group in tables for column in group.columns}
    means = {name: [line.mean(name) for line in lines if name in line.names] for name in asked if name not in seen}
    more = tuple(Column(name, name, decimals(values, 3), 0) for name, values in means.items())
    tables.append(Group("Further", "Also measured", "Asked for by rows and claims.", more))
    kept = []
    for group in tables:
        columns = tuple(column for column in group.columns if column.quantity in known)
        if columns:
            kept.append(replace(group, columns=columns))
    return kept


def _other(protocol: str, known: set[str]) -> Group:
    names = sorted(name for name in known if name.startswith(f"{protocol} "))
    columns = tuple(
        Column(
            name,
            name.removeprefix(f"{protocol} "),
            3 if "spearman" in name or "AURC" in name else 1,
            -1 if any(each in name for each in _LESS) else 1,
        )
        for name in names
    )
    return Group(protocol, f"Protocol {protocol}", "", columns)


_LESS = ("AURC", "mean rank", "median rank")
"""In names of quantities of which less is better."""


def in_part(line: Line, quantity: str) -> bool:
    """Whether a number is the least that it may be: a cost of which a part was not seen."""
    return line.at_least and quantity in _COSTS


def decimals(values: Iterable[float], least: int) -> int:
    """Digits behind the point that tell small numbers: two that count of the largest, and never fewer than `least`."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    return least if largest == 0 else max(least, 1 - math.floor(math.log10(largest)))


def shown(value: float, digits: int) -> str:
    """A number as tables write it."""
    if not math.isfinite(value):
        return "−∞" if value < 0 else "∞" if value > 0 else "–"
    text = f"{value:.{digits}f}"
    return (text.lstrip("-") if float(text) == 0 else text).replace("-", "−")


def spelt(p: float | None) -> str:
    """A p."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
