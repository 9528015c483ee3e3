"""A row in one state, its seeds together: means, spreads, and how sure a difference of two rows is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ...evaluation.measures import Floats
from .plan import Plan, Row, Run
from .quantities import Measured, Quantity
from .runs import folder_of

__all__ = ["Gap", "Line", "Spread", "ends_of", "gap", "lines_of", "spread_of"]

_LEVEL = 0.95


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
    """

    row: Row
    state: str
    seeds: tuple[int, ...]
    found: tuple[Mapping[str, Quantity], ...]
    notes: tuple[str, ...] = ()
    at_least: bool = False

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
        return float(np.std(values, ddof=1)) if len(values) > 1 and np.isfinite(values).all() else None

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
    low, high = np.quantile(known, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return float(low), float(high)


def lines_of(plan: Plan, runs: Path, measured: Mapping[str, Mapping[str, Measured]]) -> list[Line]:
    """A line for each row and state in which some run was measured, in the order of the plan.

    Args:
        plan: the study.
        runs: folder of the runs.
        measured: run name -> state -> numbers.
    """
    out = []
    for row in plan.rows:
        done = [run for run in plan.runs if run.row is row and run.name in measured]
        own = {run.name: dict(_of_training(run, runs)) for run in done}
        for state in ("raw", "bank"):
            kept = [run for run in done if state in measured[run.name]]
            if kept:
                found = tuple({**measured[run.name][state].quantities, **own[run.name]} for run in kept)
                notes = dict.fromkeys(note for run in kept for note in measured[run.name][state].notes)
                seeds = tuple(run.seed for run in kept)
                out.append(Line(row, state, seeds, found, tuple(notes), any(_unseen(run, runs) for run in kept)))
    return out


def _of_training(run: Run, runs: Path) -> Iterator[tuple[str, Quantity]]:
    """What training noted and what it cost; of a run made of others with what those cost."""
    folder = folder_of(runs, run)
    if folder.validation is not None:
        yield "validation RSUM", Quantity(folder.validation)
    for name, value in folder.diary.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield f"diary {name}", Quantity(float(value))
    costs = [cost for cost in (folder_of(runs, each).cost for each in _everything(run)) if cost is not None]
    if costs:
        yield "minutes", Quantity(sum(cost.seconds for cost in costs) / 60)
        yield "CPU minutes", Quantity(sum(cost.cpu_seconds for cost in costs) / 60)
        yield "memory GiB", Quantity(max(cost.peak_bytes for cost in costs) / 2**30)
        yield "threads", Quantity(float(max(cost.threads for cost in costs)))


def _everything(run: Run) -> list[Run]:
    """A run and all it is made of, each once."""
    found = {run.name: run}
    for member in run.members:
        found |= {each.name: each for each in _everything(member)}
    return list(found.values())


def _unseen(run: Run, runs: Path) -> bool:
    costs = [folder_of(runs, each).cost for each in _everything(run) if not each.row.ensemble]
    return any(cost is None or not cost.whole for cost in costs)


# ---- differences


@dataclass(frozen=True)
class Spread:
    """How far apart seeds lie, all rows pooled.

    Attributes:
        sd: standard deviation.
        freedom: seeds less rows, of what was pooled.
    """

    sd: float
    freedom: int


def spread_of(lines: Sequence[Line], name: str, state: str) -> Spread | None:
    """Of the rows whose seeds differ at all; None where no row has two seeds that do."""
    total, freedom = 0.0, 0
    for line in lines:
        sd = line.sd(name) if line.state == state and name in line.names else None
        # A closed form gives every seed the same; it says nothing of those that do not.
        if sd is not None and sd > 0:
            total, freedom = total + sd**2 * (len(line.seeds) - 1), freedom + len(line.seeds) - 1
    return Spread(math.sqrt(total / freedom), freedom) if freedom else None


@dataclass(frozen=True)
class Gap:
    """A difference over images and seeds.

    Attributes:
        value: first less second.
        low, high: of its 95 % interval.
        p: two-sided, that it is 0.
        images, seeds: standard errors from either.
        freedom: degrees of freedom of its Student's t.
    """

    value: float
    low: float
    high: float
    p: float
    images: float
    seeds: float
    freedom: float = 2_000.0

    def within(self, size: float) -> float:
        """p of two one-sided tests that the difference is not smaller than so much (Schuirmann 1987)."""
        error = math.hypot(self.images, self.seeds)
        off = size - abs(self.value)
        if error == 0 or not math.isfinite(off):
            return 0.0 if off > 0 else 1.0
        tail = _Student(self.freedom).outside(abs(off) / error) / 2
        return tail if off > 0 else 1 - tail


def gap(first: Line, second: Line | float, name: str, spread: Spread | None) -> Gap:
    """How sure a difference of two rows, or of a row and a number, is over images and over seeds.

    Variance over images is that of the seed-averaged difference on the same bootstrap samples of images for both.
    Variance over seeds is sd^2 / n of each row, sd being its own or that of all rows pooled, whichever is larger: two
    or three seeds alone say little of how far seeds lie apart. The interval is Student's, its degrees of freedom those
    of Welch and Satterthwaite, images counting as many.
    """
    lines = [line for line in (first, second) if isinstance(line, Line)]
    other = second.mean(name) if isinstance(second, Line) else second
    value = first.mean(name) - other
    drawn = [each for line in lines if (each := line.drawn(name)) is not None]
    over_images = 0.0
    if len(drawn) == len(lines):
        over_images = float(np.nanvar(drawn[0] if len(drawn) == 1 else drawn[0] - drawn[1], ddof=1))
    parts = [_over_seeds(line, name, spread) for line in lines]
    total = over_images + sum(parts)
    if total == 0 or not math.isfinite(value):
        # Sets that have collapsed have a log variance of minus infinity.
        return Gap(value, value, value, 1.0 if value == 0 or math.isnan(value) else 0.0, 0.0, 0.0)
    # One estimate serves both rows, so their parts are one.
    crowd = sum(parts) ** 2
    freedom = total**2 * spread.freedom / crowd if spread is not None and crowd > 0 else float(_Student.MANY)
    student = _Student(freedom)
    wide = student.quantile(_LEVEL) * math.sqrt(total)
    p = student.outside(abs(value) / math.sqrt(total))
    return Gap(value, value - wide, value + wide, p, math.sqrt(over_images), math.sqrt(sum(parts)), freedom)


def _over_seeds(line: Line, name: str, spread: Spread | None) -> float:
    own = line.sd(name)
    if own == 0 or spread is None:
        return 0.0
    return max(own or 0.0, spread.sd) ** 2 / len(line.seeds)


class _Student:
    """Student's t by its angle: with t = sqrt(f) tan(a), the density of a is in proportion to cos(a)^(f - 1)."""

    _POINTS = 20_001
    MANY = 2_000

    def __init__(self, freedom: float) -> None:
        self.freedom = min(max(freedom, 1.0), self.MANY)
        self._angles = np.linspace(0, math.pi / 2, self._POINTS)
        height = np.cos(self._angles) ** (self.freedom - 1)
        steps = (height[1:] + height[:-1]) / 2
        left = np.concatenate([np.cumsum(steps[::-1])[::-1], [0.0]])
        self._outside = left / left[0]

    def outside(self, t: float) -> float:
        """Share farther from 0 than t, on both sides."""
        return float(np.interp(math.atan(t / math.sqrt(self.freedom)), self._angles, self._outside))

    def quantile(self, level: float) -> float:
        """The t that so large a share is nearer to 0 than."""
        angle = float(np.interp(1 - level, self._outside[::-1], self._angles[::-1]))
        return math.sqrt(self.freedom) * math.tan(angle)
