"""What an evaluation found: flat rows for code, the field's table for people."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import UnknownName
from .protocols import PROTOCOLS, Row

__all__ = ["Report"]

_ARROWS = ("i2t", "t2i")


@dataclass(frozen=True)
class Report:
    """Result of `evaluate`. Printing it shows one table a protocol.

    Attributes:
        rows: flat dicts `run, protocol, direction, metric, value, low, high, queries, gallery, truth`. Shares are
            percent, unrounded. Protocol "health" says how the embeddings themselves are.
        notes: what was left out and why, in words.
        made: how each run was made, one line a run.
    """

    rows: list[Row]
    notes: tuple[str, ...] = ()
    made: tuple[str, ...] = ()

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
        parts = [_table(lines) for lines in (self._own(), self._matches(), self._health()) if len(lines) > 1]
        return "\n\n".join([*parts, *("\n".join(lines) for lines in (self.made, self.notes) if lines)])

    def _runs(self, protocol: str) -> list[dict[tuple[str, str], Row]]:
        """Rows of a protocol by metric and direction, one mapping a run, in order of appearance."""
        out: dict[str, dict[tuple[str, str], Row]] = {}
        for row in self.rows:
            if row["protocol"] == protocol:
                out.setdefault(row["run"], {})[row["metric"], row["direction"]] = row
        return list(out.values())

    def _own(self) -> list[list[str]]:
        depths = ("R@1", "R@5", "R@10")
        head = ["own captions", *(f"{d} {m}" if m == "R@1" else m for d in _ARROWS for m in depths), "RSUM"]
        lines = [[*head, "median i2t", "t2i", *_COUNTS]]
        for found in self._runs("own"):
            shares = [f"{found[m, d]['value']:.1f}" for d in _ARROWS for m in depths]
            medians = [f"{found['median rank', d]['value']:g}" for d in _ARROWS]
            first = found["R@1", "i2t"]
            lines.append([first["run"], *shares, f"{found['RSUM', 'both']['value']:.1f}", *medians, *_counts(found)])
        return lines

    def _matches(self) -> list[list[str]]:
        metrics = ("R-precision", "mAP@R", "R@1")
        head = [f"{d} {m}" if m == metrics[0] else m for d in _ARROWS for m in metrics]
        lines = [[PROTOCOLS["matches"].truth_name, *head, *_COUNTS]]
        for found in self._runs("matches"):
            shares = [f"{found[m, d]['value']:.1f}" for d in _ARROWS for m in metrics]
            lines.append([found["R@1", "i2t"]["run"], *shares, *_counts(found)])
        return lines

    def _health(self) -> list[list[str]]:
        metric = "log circular variance"
        lines = [[metric, "images", "captions"]]
        for found in self._runs("health"):
            shown = [found.get((metric, d)) for d in ("i2i", "t2t")]
            run = next(row["run"] for row in shown if row is not None)
            lines.append([run, *("-" if row is None else f"{row['value']:.2f}" for row in shown)])
        return lines


_COUNTS = ("queries i2t", "t2i", "gallery i2t", "t2i", "truth")


def _counts(found: dict[tuple[str, str], Row]) -> list[str]:
    counted = [str(found["R@1", d][name]) for name in ("queries", "gallery") for d in _ARROWS]
    return [*counted, str(found["R@1", "i2t"]["truth"])]


def _table(lines: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell; the first is flush left, numbers flush right."""
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
