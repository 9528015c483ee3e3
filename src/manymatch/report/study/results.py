"""Everything a study found, as plain values: what results.json holds and what the tables and the page are made of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ... import __version__
from ...data.pairs import Pairs
from .claims import Test, Verdict, bank_gains, paired_tests, verdicts
from .columns import Group, groups_of
from .judge import RESAMPLES
from .lines import Line
from .plan import Plan

__all__ = ["Results", "results_of"]

_FORMAT = 1


@dataclass(frozen=True)
class Results:
    """What a study found.

    Attributes:
        plan: what was asked.
        data: what was measured on, in plain values.
        lines: rows in both states.
        groups: tables.
        tests: rows against the plan's one.
        gains: rows with their bank against without.
        verdicts: of the claims.
        failed: run -> why it is not there.
        late: runs that were trained after the test split had been read.
        notes: what the reader should know.
    """

    plan: Plan
    data: Mapping[str, Any]
    lines: Sequence[Line]
    groups: Sequence[Group]
    tests: Sequence[Test]
    gains: Sequence[Test]
    verdicts: Sequence[Verdict]
    failed: Mapping[str, str]
    late: Sequence[str]
    notes: Sequence[str]

    def json(self) -> dict[str, Any]:
        """Plain values, numbers of six digits, no infinity: null, and what is infinite named beside it."""
        plan = self.plan
        return {
            "format": _FORMAT,
            "manymatch": __version__,
            "title": plan.title,
            "about": plan.about,
            "data": dict(self.data),
            "resamples": RESAMPLES,
            "rows": [self._row(line) for line in self.lines],
            "tests": [_plain(asdict(test)) for test in self.tests],
            "bank": [_plain(asdict(test)) for test in self.gains],
            "claims": [_claim(verdict) for verdict in self.verdicts],
            "failed": dict(self.failed),
            "trained_after_test_was_read": list(self.late),
            "notes": list(self.notes),
        }

    def _row(self, line: Line) -> dict[str, Any]:
        row = line.row
        made = {"method": row.method, "join": list(row.join), "ensemble": list(row.ensemble), "set": dict(row.settings)}
        return {
            "row": row.name,
            "title": row.title,
            **{key: value for key, value in made.items() if value},
            "state": line.state,
            "seeds": list(line.seeds),
            "costs_known_in_part": line.at_least,
            "quantities": {name: _summary(line, name) for name in self._kept(line)},
        }

    def _kept(self, line: Line) -> list[str]:
        """What tables, tests and claims speak of."""
        asked = [column.quantity for group in self.groups for column in group.columns]
        asked += [*self.plan.tested, *line.row.measure, *(claim.metric for claim in self.plan.claims)]
        return [name for name in dict.fromkeys(asked) if name in line.names]


def results_of(
    plan: Plan, pairs: Pairs, lines: Sequence[Line], failed: Mapping[str, str], late: Sequence[str]
) -> Results:
    """Test, weigh and gather."""
    data = {**pairs.describe(), "captions": len(pairs.captions), "truth": [path.name for path in plan.data.truth]}
    common = set.intersection(*(set(line.notes) for line in lines)) if lines else set()
    notes = [note for note in lines[0].notes if note in common] if lines else []
    kept = [replace(line, notes=tuple(note for note in line.notes if note not in common)) for line in lines]
    gains, tests = bank_gains(plan, lines), paired_tests(plan, lines)
    return Results(plan, data, kept, groups_of(plan, lines), tests, gains, verdicts(plan, lines), failed, late, notes)


def _summary(line: Line, name: str) -> dict[str, Any]:
    low, high = line.interval(name)
    values = [_number(value) for value in line.values(name)]
    return _plain({"mean": line.mean(name), "sd": line.sd(name), "low": low, "high": high, "values": values})


def _claim(verdict: Verdict) -> dict[str, Any]:
    claim = {key: value for key, value in asdict(verdict.claim).items() if value not in ("", None)}
    found = {"first": verdict.first, "second": verdict.second, "p_corrected": verdict.corrected}
    differs = {} if verdict.gap is None else {"difference": _plain(asdict(verdict.gap))}
    return {**claim, "answer": verdict.answer, "why": verdict.why, **_plain(found), **differs}


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _number(value) if isinstance(value, float) else value for key, value in values.items()}


def _number(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None
