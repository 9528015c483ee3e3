"""How sure a difference of two rows is, over images and over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .lines import LEVEL, Line

__all__ = ["Gap", "Spread", "gap", "spread_of"]


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
    """Of all rows that are trained with two seeds or more; None where there is no such row.

    Closed forms say nothing of how far others' seeds lie apart, and rows made of others share runs with these.
    """
    total, freedom = 0.0, 0
    for line in lines:
        if line.state != state or line.fixed or line.row.method is None or name not in line.names:
            continue
        sd = line.sd(name)
        if sd is not None:
            total, freedom = total + sd**2 * (len(line.seeds) - 1), freedom + len(line.seeds) - 1
    return Spread(math.sqrt(total / freedom), freedom) if freedom else None


@dataclass(frozen=True)
class Gap:
    """A difference over images and seeds.

    Attributes:
        value: first less second.
        low, high: of its 95 % interval; infinite where nothing is known of it.
        p: two-sided, that it is 0; None where it is the same in every seed and image, or cannot be decided.
        images, seeds: standard errors from either.
        freedom: degrees of freedom of its Student's t.
        doubt: why it cannot be decided, in words; empty where it can.
    """

    value: float
    low: float
    high: float
    p: float | None
    images: float = 0.0
    seeds: float = 0.0
    freedom: float = 2_000.0
    doubt: str = ""

    def within(self, size: float) -> float | None:
        """p of two one-sided tests that the difference is not smaller than so much (Schuirmann 1987); None as `p`."""
        if self.p is None:
            return None
        off = size - abs(self.value)
        tail = _Student(self.freedom).outside(abs(off) / math.hypot(self.images, self.seeds)) / 2
        return tail if off > 0 else 1 - tail


def gap(first: Line, second: Line | float, name: str, spread: Spread | None) -> Gap:
    """How sure a difference of two rows, or of a row and a number, is over images and over seeds.

    Variance over images is that of the seed-averaged difference on the same bootstrap samples of images for both.
    Variance over seeds is sd^2 / n of each row, sd being its own or that of all rows pooled, whichever is larger: two
    or three seeds alone say little of how far seeds lie apart. A closed form has its own, usually 0. The interval is
    Student's with the degrees of freedom of Satterthwaite (1946): n - 1 of a row's own variance, those of the pool of
    what is estimated by it, which is one estimate for both rows; images count as many.
    """
    lines = [line for line in (first, second) if isinstance(line, Line)]
    value = first.mean(name) - (second.mean(name) if isinstance(second, Line) else second)
    doubt = _doubt(lines, name, spread, value)
    if doubt:
        return Gap(value, -math.inf, math.inf, None, doubt=doubt)
    over_images = _over_images(lines, name) if math.isfinite(value) else 0.0
    parts = [_over_seeds(line, name, spread) for line in lines] if math.isfinite(value) else []
    over_seeds = sum(part for part, _ in parts)
    total = over_images + over_seeds
    if total == 0:
        return Gap(value, value, value, None)
    known = spread.freedom if spread is not None else 1
    parted = sum(part**2 / own for part, own in parts if own) + sum(part for part, own in parts if not own) ** 2 / known
    freedom = min(total**2 / parted, _Student.MANY) if parted > 0 else float(_Student.MANY)
    student = _Student(freedom)
    error = math.sqrt(total)
    wide = student.quantile(LEVEL) * error
    p = student.outside(abs(value) / error)
    return Gap(value, value - wide, value + wide, p, math.sqrt(over_images), math.sqrt(over_seeds), freedom)


def _doubt(lines: Sequence[Line], name: str, spread: Spread | None, value: float) -> str:
    """Why nothing can be said of a difference, whatever its size."""
    for line in lines:
        endless = [not math.isfinite(each) for each in line.values(name)]
        if any(endless) and not all(endless):
            return f"{sum(endless)} of {len(endless)} seeds of {line.row.name} have no finite number"
    if math.isnan(value):
        return "neither side has a finite number"
    for line in lines:
        if len(line.seeds) < 2 and not line.fixed and not (spread is not None and spread.sd > 0):
            return f"one seed of {line.row.name}, and no rows that say how far seeds lie apart"
    return ""


def _over_images(lines: Sequence[Line], name: str) -> float:
    drawn = [each for line in lines if (each := line.drawn(name)) is not None]
    if len(drawn) < len(lines):
        return 0.0
    return float(np.nanvar(drawn[0] if len(drawn) == 1 else drawn[0] - drawn[1], ddof=1))


def _over_seeds(line: Line, name: str, spread: Spread | None) -> tuple[float, int]:
    """The variance of a row's mean, and the degrees of freedom of its own estimate; 0 of the pool's."""
    own = line.sd(name) or 0.0
    pooled = spread.sd if spread is not None and not line.fixed else 0.0
    n = len(line.seeds)
    return max(own, pooled) ** 2 / n, n - 1 if own > pooled else 0


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
