"""Paired tests of the rows against one of them, and claims: what holds, what does not, what is not decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

from ...evaluation.measures import Floats
from ...evaluation.significance import holm, randomisation_test
from .gaps import Gap, gap, spread_of
from .lines import Line, ends_of
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
        corrected: p, of all claims together; None where there is none.
    """

    claim: Claim
    answer: str
    why: str
    gap: Gap | None = None
    first: float | None = None
    second: float | None = None
    corrected: float | None = None


def verdicts(plan: Plan, lines: Sequence[Line]) -> list[Verdict]:
    """One for each claim, p corrected for how many have one (Holm)."""
    found = [_weighed(claim, lines) for claim in plan.claims]
    tested = [
        None if isinstance(each, str) else _p(claim, each[0]) for claim, each in zip(plan.claims, found, strict=True)
    ]
    corrected = iter(holm([p for p in tested if p is not None]))
    out = []
    for claim, each, p in zip(plan.claims, found, tested, strict=True):
        if isinstance(each, str):
            out.append(Verdict(claim, "not measured", each))
            continue
        sure = None if p is None else next(corrected)
        answer, why = _plainly(claim, each[0]) if sure is None else _answer(claim, each[0], sure)
        out.append(Verdict(claim, answer, why, *each, sure))
    return out


def _p(claim: Claim, found: Gap) -> float | None:
    return found.p if claim.within is None else found.within(claim.within)


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


def _plainly(claim: Claim, found: Gap) -> tuple[str, str]:
    """The answer where there is nothing to test."""
    if found.doubt:
        return "not decided", found.doubt
    if claim.within is not None:
        return "holds" if abs(
            found.value
        ) < claim.within else "does not hold", "the difference is the same in every seed"
    if found.value == 0:
        return "does not hold", "both are the same in every seed"
    where = "in the claimed direction" if found.value > 0 else "in the other direction"
    return "holds" if found.value > 0 else "does not hold", f"the difference is {where}, the same in every seed"


def _answer(claim: Claim, found: Gap, p: float) -> tuple[str, str]:
    chance = " and ".join(name for name, size in (("images", found.images), ("seeds", found.seeds)) if size)
    if claim.within is not None:
        size = f"{claim.within:g}"
        if p < SURE:
            return "holds", f"the difference is smaller than {size}, by more than {chance} explain"
        if found.low > claim.within or found.high < -claim.within:
            return "does not hold", f"the whole interval is farther from 0 than {size}"
        return "not decided", f"{chance} allow differences below and above {size}"
    small = claim.margin is not None and found.high < claim.margin
    if p < SURE and found.value > 0:
        but = f"; it is smaller than {claim.margin:g}" if small else ""
        return "holds", f"the difference is in the claimed direction, and more than {chance} explain{but}"
    if p < SURE and found.value < 0:
        return "does not hold", f"the difference is in the other direction, and more than {chance} explain"
    if small:
        return "does not hold", f"if there is a difference, it is smaller than {claim.margin:g}"
    return "not decided", f"{chance} explain a difference of this size"
