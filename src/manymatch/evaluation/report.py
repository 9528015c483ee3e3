"""What an evaluation found: flat rows for code, the field's tables for people."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from ..errors import UnknownName
from .protocols import Measured

__all__ = ["Report", "Row", "distinct", "plain_row", "row", "table"]

Row = dict[str, Any]
"""`protocol, direction, metric, value, low, high, queries, gallery, truth, bank`, and `run` first."""

_SAID = ("own", "matches")
"""Protocols whose truth says all that their name would."""

_PLAIN = ("median rank", "mean rank")
"""Metrics that are no shares: printed as short as they are."""


def row(
    protocol: str, found: Measured, value: float, ends: tuple[float | None, float | None], truth: str | None
) -> Row:
    """One measured number; `low` and `high` are the ends of its confidence interval where one was computed."""
    out = plain_row(protocol, found.direction, found.metric, value, found.queries, found.gallery)
    return {**out, "low": ends[0], "high": ends[1], "truth": truth}


def plain_row(protocol: str, direction: str, metric: str, value: float, asked: int | None, ranked: int | None) -> Row:
    """A number without interval and truth, and no ranking that a query bank may have corrected."""
    return {
        "protocol": protocol,
        "direction": direction,
        "metric": metric,
        "value": value,
        "low": None,
        "high": None,
        "queries": asked,
        "gallery": ranked,
        "truth": None,
        "bank": None,
    }


@dataclass(frozen=True)
class Report:
    """Result of `evaluate`. Printing it shows one table a protocol.

    Attributes:
        rows: flat dicts `run, protocol, direction, metric, value, low, high, queries, gallery, truth, bank`. Shares
            are percent, unrounded. `low` and `high` are the ends of a 95 % interval over images. `bank` says whether a
            query bank corrected the ranking; None of what is no ranking (health). Protocol "health" says how
            the embeddings themselves are.
        notes: what was left out and why, in words.
        made: how each run was made, one line a run.
        published: rows of other people's numbers, by the same protocols on the same data; `run` begins "published: ".
            They are printed below the measured ones.
    """

    rows: list[Row]
    notes: tuple[str, ...] = ()
    made: tuple[str, ...] = ()
    published: tuple[Row, ...] = ()

    def value(self, metric: str, direction: str, protocol: str = "own") -> float:
        """The one number. Raises UnknownName when it was not measured."""
        for row in self.rows:
            if (row["metric"], row["direction"], row["protocol"]) == (metric, direction, protocol):
                return float(row["value"])
        known = (f"{r['metric']} {r['direction']} {r['protocol']}" for r in self.rows)
        raise UnknownName("measure", f"{metric} {direction} {protocol}", set(known))

    def json(self) -> str:
        """`rows` as a JSON list; a value without end (a collapsed set's log variance) is null."""
        rows = [{**row, "value": row["value"] if math.isfinite(row["value"]) else None} for row in self.rows]
        return json.dumps(rows, indent=1, allow_nan=False)

    def __str__(self) -> str:
        protocols = list(dict.fromkeys(row["protocol"] for row in self.rows))
        parts = [table(lines) for name in protocols for lines in [self._table(name)] if len(lines) > 1]
        return "\n\n".join([*parts, *("\n".join(lines) for lines in (self.made, self.notes) if lines)])

    def _table(self, protocol: str) -> list[list[str]]:
        """Head, and a line a run: its numbers but mean ranks, what they were counted over, and intervals below."""
        runs = _runs(self.rows, protocol)
        columns = list(dict.fromkeys(c for found in runs.values() for c in found if c[1] != "mean rank"))
        counted = [d for d in dict.fromkeys(d for d, _ in columns) if d != "both"]
        truth = next((row["truth"] for found in runs.values() for row in found.values()), None)
        title = protocol if truth is None else truth if protocol in _SAID else f"{protocol}: {truth}"
        head = [title, *_heads(columns)]
        if truth is not None:
            head += _heads([(d, "queries") for d in counted]) + _heads([(d, "gallery") for d in counted])
        lines = [head]
        for run, found in runs.items():
            cells = [_shown(found[column]) if column in found else "-" for column in columns]
            if truth is not None:
                cells += [_count(found, d, what) for what in ("queries", "gallery") for d in counted]
            lines.append([run, *cells])
            ends = [_ends(found[column]) if column in found else "" for column in columns]
            if any(ends):
                lines.append(["  95 %", *ends])
        for run, found in _runs(self.published, protocol).items():
            cells = [_shown(found[column]) if column in found else "-" for column in columns]
            lines += [[run, *cells]] if any(column in found for column in columns) else []
        return lines


def _runs(rows: Iterable[Row], protocol: str) -> dict[str, dict[tuple[str, str], Row]]:
    """Run -> rows of a protocol by direction and metric, in order of appearance."""
    out: dict[str, dict[tuple[str, str], Row]] = {}
    for row in rows:
        if row["protocol"] == protocol:
            out.setdefault(row["run"], {})[row["direction"], row["metric"]] = row
    return out


def _heads(columns: Sequence[tuple[str, str]]) -> list[str]:
    """Names of columns; a direction is said where it changes."""
    out, last = [], ""
    for direction, metric in columns:
        short = metric.removesuffix(" rank")
        out.append(short if direction in (last, "both") else f"{direction} {short}")
        last = direction
    return out


def _shown(found: Row) -> str:
    value = found["value"]
    if found["metric"] in _PLAIN:
        return f"{value:.1f}".removesuffix(".0")
    correlation = found["metric"].startswith("spearman") or found["protocol"] == "health"
    return f"{value:.2f}" if correlation else f"{value:.1f}"


def _ends(found: Row) -> str:
    if found["low"] is None:
        return ""
    low, high = (_shown({**found, "value": found[end]}) for end in ("low", "high"))
    return f"{low}-{high}" if found["low"] >= 0 else f"{low}..{high}"


def _count(found: dict[tuple[str, str], Row], direction: str, what: str) -> str:
    """How many asked or were ranked; the least and the most where metrics of one direction differ in it."""
    counts = [row[what] for (d, _), row in found.items() if d == direction]
    low, high = min(counts, default=None), max(counts, default=None)
    return "-" if low is None else str(low) if low == high else f"{low}-{high}"


def distinct(names: Iterable[str]) -> list[str]:
    """The same names, of equal ones the second as "name (2)": rows of a table are told apart by name alone."""
    out: list[str] = []
    for name in names:
        copies = (f"{name} ({n})" for n in count(2))
        out.append(name if name not in out else next(copy for copy in copies if copy not in out))
    return out


def table(lines: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell; the first is flush left, numbers flush right."""
    longest = max(len(line) for line in lines)
    filled = [[*line, *[""] * (longest - len(line))] for line in lines]
    widths = [max(len(cell) for cell in column) for column in zip(*filled, strict=True)]
    return "\n".join(_line(line, widths) for line in filled)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    placed: Iterator[str] = (
        cell.ljust(width) if place == 0 else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join(placed).rstrip()
