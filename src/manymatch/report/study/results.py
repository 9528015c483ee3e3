"""Everything a study found, as plain values: what results.json holds and what the tables and the page are made of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from typing import Any

from ... import __version__
from ...data.pairs import Pairs
from .claims import Test, Verdict, bank_gains, paired_tests, verdicts
from .columns import Group, groups_of
from .judge import RESAMPLES
from .lines import Line
from .plan import TESTED, Plan

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
        late: runs that were trained after numbers of the test split had been shown of others.
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
        """Plain values, numbers of six digits; null where one is not finite, which "not_finite" beside it says."""
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

    @property
    def story(self) -> list[str]:
        """How the study went, in sentences: what was chosen on what, which runs were late and which failed."""
        out = ["Epochs, settings and the numbers of the query bank were chosen on the validation split."]
        if not self.late and not self.failed:
            out[0] += (
                " No number of the test split was shown of a run of this study before all of them had been trained."
            )
        if self.late:
            why = "Trained after numbers of the test split had been shown of other runs, by settings of the file alone"
            out.append(f"{why}: {', '.join(self._late_in_short())}.")
        return out + [f"{name} failed: {why}" for name, why in self.failed.items()]

    def _late_in_short(self) -> list[str]:
        """Late runs by name, and a row by its own where all its runs are."""
        out: list[str] = []
        for row in self.plan.rows:
            own = [run.name for run in self.plan.runs if run.row.name == row.name]
            late = [name for name in own if name in self.late]
            out += [row.name] if late == own else late
        return out

    @property
    def asides(self) -> list[str]:
        """Notes that are not of all rows, with the rows they are of; notes of the same rows stand together."""
        states: dict[str, set[str]] = {}
        noted: dict[str, dict[str, set[str]]] = {}
        for line in self.lines:
            states.setdefault(line.row.name, set()).add(line.state)
            for note in line.notes:
                noted.setdefault(note, {}).setdefault(line.row.name, set()).add(line.state)
        together: dict[str, list[str]] = {}
        for note, rows in noted.items():
            named = [
                name if found == states[name] else f"{name} {'with' if 'bank' in found else 'without'} bank"
                for name, found in rows.items()
            ]
            together.setdefault(", ".join(named), []).append(note)
        return [f"{named}: {'; '.join(notes)}" for named, notes in together.items()]

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
            "notes": list(line.notes),
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
    notes += _untested(plan, lines)
    kept = [replace(line, notes=tuple(note for note in line.notes if note not in common)) for line in lines]
    gains, tests = bank_gains(plan, lines), paired_tests(plan, lines)
    return Results(plan, data, kept, groups_of(plan, lines), tests, gains, verdicts(plan, lines), failed, late, notes)


def _untested(plan: Plan, lines: Sequence[Line]) -> list[str]:
    """A note for what was to be tested and no row has; what is tested unasked may well be lacking."""
    known = list(dict.fromkeys(name for line in lines for name in line.names))
    out = []
    for name in plan.tested:
        if known and name not in known and name not in TESTED:
            near = get_close_matches(name, known, n=1, cutoff=0.4)
            out.append(f"tested: no row has {name!r}" + (f"; the nearest that one has is {near[0]!r}" if near else ""))
    return out


def _summary(line: Line, name: str) -> dict[str, Any]:
    low, high = line.interval(name)
    values = {f"values[{n}]": value for n, value in enumerate(line.values(name))}
    found = _plain({"mean": line.mean(name), "sd": line.sd(name), "low": low, "high": high, **values})
    return {"values": [found.pop(key) for key in values], **found}


def _claim(verdict: Verdict) -> dict[str, Any]:
    claim = {key: value for key, value in asdict(verdict.claim).items() if value not in ("", None)}
    found = {"first": verdict.first, "second": verdict.second, "p_corrected": verdict.corrected}
    differs = {} if verdict.gap is None else {"difference": _plain(asdict(verdict.gap))}
    return {**claim, "answer": verdict.answer, "why": verdict.why, **_plain(found), **differs}


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Floats of six digits; one that is not finite is null, and named with what it is under "not_finite"."""
    floats = {key: value for key, value in values.items() if isinstance(value, float)}
    odd = {key: repr(value) for key, value in floats.items() if not math.isfinite(value)}
    short = {key: None if key in odd else float(f"{value:.6g}") for key, value in floats.items()}
    return {**values, **short, **({"not_finite": odd} if odd else {})}
