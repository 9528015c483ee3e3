"""What a comparison found: the numbers of each run, their differences and how sure they are, the spread over seeds."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from .report import Report, Row, table

__all__ = ["Comparison"]


@dataclass(frozen=True)
class Comparison:
    """Result of `compare`. Printing it shows its tables.

    Attributes:
        measured: each run's own numbers, as `evaluate` reports them.
        rows: flat dicts `run, other, protocol, direction, metric, value, other_value, difference, low, high, p,
            p_corrected, comparisons, images`. `difference` is `value - other_value`, of `run` and of `other`; `low` and
            `high` are the ends of its 95 % interval over images; `p_corrected` is Holm's, of as many `comparisons`. A
            number that is no sum over images has neither.
        seeds: flat dicts `group, protocol, direction, metric, mean, sd, min, max, seeds` of runs that differ in the
            seed alone.
        groups: flat dicts `group, other, protocol, direction, metric, difference, standard_error, seeds, other_seeds`.
        notes: what was left out and why, in words.
        resamples, swaps: how many were drawn.
    """

    measured: Report
    rows: list[Row]
    seeds: list[Row]
    groups: list[Row]
    notes: tuple[str, ...] = ()
    resamples: int = 1000
    swaps: int = 10_000

    def json(self) -> str:
        """One JSON list of all rows; `table` says which: measured, compared, seeds or groups. No end is null."""
        tables = {"measured": self.measured.rows, "compared": self.rows, "seeds": self.seeds, "groups": self.groups}
        rows = [{"table": name, **_finite(row)} for name, found in tables.items() for row in found]
        return json.dumps(rows, indent=1, allow_nan=False)

    def __str__(self) -> str:
        tables = [table(lines) for lines in (self._compared(), self._seeds(), self._groups()) if lines]
        if self.rows:
            tables[0] = "\n".join([tables[0], *self._said()])
        said = [_SEEDS if self.seeds else _NO_SEEDS, *self.notes]
        return "\n\n".join([str(self.measured), *tables, "\n".join(said)])

    def _compared(self) -> list[list[str]]:
        others = list(dict.fromkeys(row["other"] for row in self.rows))
        one = len(others) == 1
        protocols = _protocols(self.rows)
        head = [f"compared with {others[0]}" if one else "compared", *protocols, "metric", "difference"]
        lines = [[*head, *(["95 %"] if self.resamples else []), "p", "corrected"]] if self.rows else []
        for row in self.rows:
            name = row["run"] if one else f"{row['run']} - {row['other']}"
            ends = [_ends(row)] if self.resamples else []
            lines.append([name, *_named(row, protocols), f"{row['difference']:+.2f}", *ends, _p(row, "p")])
            lines[-1].append(_p(row, "p_corrected"))
        return lines

    def _said(self) -> list[str]:
        """What the table's columns mean, and what they do not say."""
        if not self.rows:
            return []
        images = self.rows[0]["images"]
        out = []
        if self.resamples:
            out.append(
                f"95 %: bootstrap interval of the difference over {images:,} images, "
                f"both runs on the same {self.resamples:,} resamples"
            )
        tests = next((row["comparisons"] for row in self.rows if row["p"] is not None), 0)
        if tests:
            out.append(
                f"p: paired randomisation test over images, two-sided, {self.swaps:,} swaps (all, where few images "
                f"differ); corrected: for {tests} comparisons (Holm)"
            )
        without = dict.fromkeys(row["metric"] for row in self.rows if row["p"] is None)
        if without:
            out.append(f"no p of {', '.join(without)}: no sum over images, so there is only the interval")
        return out

    def _seeds(self) -> list[list[str]]:
        if not self.seeds:
            return []
        protocols = _protocols(self.seeds)
        lines = [["over training seeds", *protocols, "metric", "mean", "sd", "min", "max", "seeds"]]
        for row in self.seeds:
            numbers = [f"{row[name]:.2f}" for name in ("mean", "sd", "min", "max")]
            lines.append([row["group"], *_named(row, protocols), *numbers, str(row["seeds"])])
        return lines

    def _groups(self) -> list[list[str]]:
        if not self.groups:
            return []
        protocols = _protocols(self.groups)
        lines = [["means over seeds", *protocols, "metric", "difference", "standard error", "seeds"]]
        for row in self.groups:
            numbers = f"{row['difference']:+.2f}", f"{row['standard_error']:.2f}"
            name = f"{row['group']} - {row['other']}"
            lines.append([name, *_named(row, protocols), *numbers, f"{row['seeds']}, {row['other_seeds']}"])
        return lines


_SEEDS = (
    "intervals and p are over images, for these very weights, and say nothing about other seeds; "
    "the spread over seeds is on these very images, and says nothing about other images"
)

_NO_SEEDS = (
    "no two runs differ in the seed alone; intervals and p are over images, for these very weights, and say nothing "
    "about other seeds"
)


def _protocols(rows: Sequence[Row]) -> list[str]:
    """The head of a column for protocols, where there are several."""
    return ["protocol"] if len({row["protocol"] for row in rows}) > 1 else []


def _named(row: Row, protocols: Sequence[str]) -> list[str]:
    metric = row["metric"] if row["direction"] == "both" else f"{row['direction']} {row['metric']}"
    return [row["protocol"], metric] if protocols else [metric]


def _ends(row: Row) -> str:
    return "-" if row["low"] is None else f"{row['low']:+.2f} .. {row['high']:+.2f}"


def _p(row: Row, which: str) -> str:
    return "-" if row[which] is None else f"{row[which]:.4f}"


def _finite(row: Row) -> Row:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
