"""Paired tests of the rows against one of them, and claims: what holds, what does not, what is not decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

from ...evaluation.measures import Floats
from ...evaluation.significance import holm, randomisation_test
from .lines import Gap, Line, ends_of, gap, spread_of
from .plan import Claim, Plan

__all__ = ["Test", "Verdict", "bank_gains", "paired_tests", "verdicts"]

SURE = 0.05


@dataclass(frozen=True)
class Test:
    """One paired test over images, seeds averaged.

    Attributes:
        row, other: whose difference; of a bank's gain the same row.
        state: of both; "bank" of a gain.
        metric: what differs.
        difference: `row` less `other`.
        low, high: of its 95 % interval over images.
        p, corrected: of the paired randomisation test, and Holm's of all that are tested together.
    """

    __test__ = False

    row: str
    other: str
    state: str
    metric: str
    difference: float
    low: float | None
    high: float | None
    p: float
    corrected: float


def paired_tests(plan: Plan, lines: Sequence[Line]) -> list[Test]:
    """Each row against the plan's, in the same state, by every tested metric that is a sum over images."""
    found = []
    for line in lines:
        other = _line(lines, plan.against, line.state)
        if other is not None and line.row.name != plan.against:
            found += [(line, other, name) for name in plan.tested if name in line.names and name in other.names]
    return _tested(found)


def bank_gains(plan: Plan, lines: Sequence[Line]) -> list[Test]:
    """Each row with its bank against the same row without, by every tested metric that is a sum over images."""
    found = []
    for line in lines:
        raw = _line(lines, line.row.name, "raw")
        if line.state == "bank" and raw is not None and raw.seeds == line.seeds:
            found += [(line, raw, name) for name in plan.tested if name in line.names and name in raw.names]
    return _tested(found)


def _tested(couples: Sequence[tuple[Line, Line, str]]) -> list[Test]:
    known: list[tuple[Line, Line, str, Floats, Floats | None]] = []
    for line, other, name in couples:
        sums, drawn = (line.contributions(name), other.contributions(name)), (line.drawn(name), other.drawn(name))
        if sums[0] is not None and sums[1] is not None:
            less = None if drawn[0] is None or drawn[1] is None else drawn[0] - drawn[1]
            known.append((line, other, name, sums[0] - sums[1], less))
    if not known:
        return []
    p = randomisation_test(np.stack([each[3] for each in known], axis=1)).tolist()
    out = []
    for (line, other, name, _, less), one, corrected in zip(known, p, holm(p), strict=True):
        low, high = ends_of(less)
        value = line.mean(name) - other.mean(name)
        out.append(Test(line.row.name, other.row.name, line.state, name, value, low, high, one, corrected))
    return out


def _line(lines: Sequence[Line], row: str | None, state: str) -> Line | None:
    return next((line for line in lines if line.row.name == row and line.state == state), None)


@dataclass(frozen=True)
class Verdict:
    """What became of a claim.

    Attributes:
        claim: as the plan says it.
        answer: "holds", "does not hold", "not decided" or "not measured".
        why: in words.
        gap: the difference; None where it was not measured.
        first, second: means of both sides.
        corrected: p, of all claims together.
    """

    claim: Claim
    answer: str
    why: str
    gap: Gap | None = None
    first: float | None = None
    second: float | None = None
    corrected: float | None = None


def verdicts(plan: Plan, lines: Sequence[Line]) -> list[Verdict]:
    """One for each claim, p corrected for their number (Holm)."""
    found = [_weighed(claim, lines) for claim in plan.claims]
    known = [
        each[0].p if claim.within is None else each[0].within(claim.within)
        for claim, each in zip(plan.claims, found, strict=True)
        if not isinstance(each, str)
    ]
    corrected = iter(holm(known))
    out = []
    for claim, each in zip(plan.claims, found, strict=True):
        if isinstance(each, str):
            out.append(Verdict(claim, "not measured", each))
        else:
            p = next(corrected)
            answer, why = _answer(claim, each[0], p)
            out.append(Verdict(claim, answer, why, *each, p))
    return out


def _weighed(claim: Claim, lines: Sequence[Line]) -> tuple[Gap, float, float] | str:
    """The difference and both means, or why there is none."""
    state = "bank" if claim.bank else "raw"
    sides = []
    for name in (claim.better, *([claim.worse] if claim.worse is not None else [])):
        line = _line(lines, name, state)
        if line is None:
            return f"no run of {name} was measured{' with a query bank' if claim.bank else ''}"
        if claim.metric not in line.names:
            near = get_close_matches(claim.metric, line.names, n=1, cutoff=0.4)
            hint = f"; the nearest that it has is {near[0]!r}" if near else ""
            return f"{name} has no quantity {claim.metric!r}{hint}"
        sides.append(line)
    second: Line | float = sides[1] if len(sides) > 1 else float(claim.above or 0.0)
    found = gap(sides[0], second, claim.metric, spread_of(lines, claim.metric, state))
    return found, sides[0].mean(claim.metric), second.mean(claim.metric) if isinstance(second, Line) else second


def _answer(claim: Claim, found: Gap, p: float) -> tuple[str, str]:
    if claim.within is not None:
        size = f"{claim.within:g}"
        if p < SURE:
            return "holds", f"the difference is smaller than {size}, by more than images and seeds explain"
        if found.low > claim.within or found.high < -claim.within:
            return "does not hold", f"the whole interval is farther from 0 than {size}"
        return "not decided", f"images and seeds allow differences below and above {size}"
    if p < SURE and found.value > 0:
        return "holds", "the difference is in the claimed direction, and more than images and seeds explain"
    if p < SURE and found.value < 0:
        return "does not hold", "the difference is in the other direction, and more than images and seeds explain"
    if claim.margin is not None and found.high < claim.margin:
        return "does not hold", f"if there is a difference, it is smaller than {claim.margin:g}"
    return "not decided", "images and seeds explain a difference of this size"
