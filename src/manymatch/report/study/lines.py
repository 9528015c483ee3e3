"""A row in one state, its seeds together: means and spreads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...evaluation.measures import Floats
from .found import Found
from .plan import Plan, Row
from .quantities import STATES, Quantity

__all__ = ["LEVEL", "Line", "ends_of", "lines_of"]

LEVEL = 0.95
"""Of every interval."""


@dataclass(frozen=True)
class Line:
    """One row with or without its query bank.

    Attributes:
        row: of the plan.
        state: "raw" or "bank".
        seeds: of the runs that were measured.
        found: the numbers of each of them.
        notes: what was left out and why.
        at_least: costs are known in part.
        fixed: a closed form, or made of these alone, whose seeds differ in nothing or in what is not trained.
    """

    row: Row
    state: str
    seeds: tuple[int, ...]
    found: tuple[Mapping[str, Quantity], ...]
    notes: tuple[str, ...] = ()
    at_least: bool = False
    fixed: bool = False

    @cached_property
    def names(self) -> list[str]:
        """Quantities that every seed has."""
        return [name for name in self.found[0] if all(name in each for each in self.found)]

    def values(self, name: str) -> list[float]:
        """One a seed."""
        return [each[name].value for each in self.found]

    def mean(self, name: str) -> float:
        return float(np.mean(self.values(name)))

    def sd(self, name: str) -> float | None:
        """Of the sample, over seeds; None of one seed, or where a value is infinite."""
        values = self.values(name)
        if len(values) < 2 or not np.isfinite(values).all():
            return None
        # A mean of equal numbers may be off by a bit, and what is left of each would look like a spread.
        return float(np.std(values, ddof=1)) if len(set(values)) > 1 else 0.0

    def drawn(self, name: str) -> Floats | None:
        """(b,): the mean over seeds on each bootstrap sample of the images."""
        return _mean([each[name].drawn for each in self.found])

    def contributions(self, name: str) -> Floats | None:
        """(n,): what each image adds to the mean over seeds."""
        return _mean([each[name].contributions for each in self.found])

    def interval(self, name: str) -> tuple[float | None, float | None]:
        """Ends of the 95 % interval of the mean over seeds, over images."""
        return ends_of(self.drawn(name))


def _mean(parts: Sequence[Floats | None]) -> Floats | None:
    known = [part for part in parts if part is not None]
    return np.mean(known, axis=0) if known and len(known) == len(parts) else None


def ends_of(drawn: Floats | None) -> tuple[float | None, float | None]:
    """Ends of the 95 % interval of what was found on bootstrap samples; None without any."""
    known = None if drawn is None else drawn[np.isfinite(drawn)]
    if known is None or not len(known):
        return None, None
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def lines_of(plan: Plan, found: Mapping[str, Found]) -> list[Line]:
    """A line for each row and state in which some run was measured, in the order of the plan; `found` by run name."""
    out = []
    for row in plan.rows:
        done = [run for run in plan.runs if run.row is row and run.name in found]
        for state in STATES:
            kept = [(run.seed, found[run.name]) for run in done if state in found[run.name].states]
            if kept:
                quantities = tuple({**each.states[state].quantities, **each.training} for _, each in kept)
                notes = dict.fromkeys(note for _, each in kept for note in each.states[state].notes)
                unseen = any(each.at_least for _, each in kept)
                seeds = tuple(seed for seed, _ in kept)
                out.append(Line(row, state, seeds, quantities, tuple(notes), unseen, plan.fixed(row)))
    return out
