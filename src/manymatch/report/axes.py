"""Scales, ticks and the frame that every chart of the page shares."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .markup import Html, join, tag

__all__ = ["Frame", "Scale", "scale_of", "short"]

_TEXT = 6.4
"""Pixels a character of a label takes, about."""

_LEAST = 1e-30
"""What differs by less is drawn as equal."""


def short(value: float) -> str:
    """A number as a tick or a label: three significant digits, no needless zero."""
    if not math.isfinite(value):
        return "−∞" if value < 0 else "∞" if value > 0 else "none"
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace("-", "−")
    text = f"{value:.3g}"
    if "e" in text:
        mantissa, exponent = text.split("e")
        text = f"{mantissa}e{int(exponent)}"
    return text.replace("-", "−")


@dataclass(frozen=True)
class Scale:
    """Numbers to a range of 0 to 1, evenly or by their logarithm.

    Attributes:
        low, high: ends, `low < high`; both above 0 where `log`.
        ticks: where the axis is marked, inside the ends.
        log: by the logarithm.
    """

    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool = False

    def __call__(self, value: float) -> float:
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def scale_of(
    values: Iterable[float], *, log: bool = False, zero: bool = False, count: int = 4, whole: bool = False
) -> Scale:
    """A scale that holds all values, its ends at round numbers.

    Args:
        values: finite; above 0 where `log`.
        log: by the logarithm.
        zero: begin at 0 where no value is below.
        count: of ticks, about.
        whole: whole numbers only.
    """
    found = sorted(values) or [0.0, 1.0]
    low, high = found[0], found[-1]
    if log:
        return _log_scale(low, high)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    most = max(abs(low), abs(high))
    if high - low <= max(1e-9 * most, _LEAST):
        edge = 0.1 * most if most > _LEAST else 0.5
        low, high = low - edge, high + edge
    step = _round_step((high - low) / count)
    if whole:
        step = max(1.0, float(math.ceil(step)))
        return Scale(low, high, tuple(n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return Scale(first * step, last * step, tuple(float(f"{n * step:.12g}") for n in range(first, last + 1)))


def _round_step(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(m for m in (1, 2, 2.5, 5, 10) if m * power >= step * (1 - 1e-9)) * power


def _log_scale(low: float, high: float) -> Scale:
    marks = [
        m * 10.0**n for n in range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2) for m in (1, 2, 5)
    ]
    first = max(m for m in marks if m <= low * (1 + 1e-9))
    last = min(m for m in marks if m >= high * (1 - 1e-9) and m > first)
    ticks = [m for m in marks if first <= m <= last]
    whole = [m for m in ticks if math.isclose(math.log10(m) % 1, 0, abs_tol=1e-9)]
    return Scale(first, last, tuple(ticks if len(ticks) <= 7 else whole), log=True)


@dataclass(frozen=True)
class Frame:
    """A plot's box inside its picture, and its two scales.

    Attributes:
        x, y: scales.
        width, height: of the whole picture.
        right: what is kept free for labels right of the box.
        labels: name of the x axis, and of the y axis, which stands above it.
    """

    x: Scale
    y: Scale
    labels: tuple[str, str]
    width: int = 400
    height: int = 240
    right: int = 14

    @property
    def left(self) -> float:
        return 10 + _TEXT * max((len(short(tick)) for tick in self.y.ticks), default=0)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom."""
        return self.left, 26.0, float(self.width - self.right), float(self.height - 38)

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where a point lies."""
        left, top, right, bottom = self.box
        return left + self.x(x) * (right - left), bottom - self.y(y) * (bottom - top)

    def drawn(self, inside: Sequence[Html], title: str) -> Html:
        """The whole picture, named for those who cannot see it."""
        content = [tag("title", title), *self._grid(), *inside]
        return tag("svg", *content, viewBox=f"0 0 {self.width} {self.height}", role="img", class_="chart")

    def _grid(self) -> list[Html]:
        left, _, right, bottom = self.box
        out = [tag("text", self.labels[1], x=0, y=12, class_="axis")]
        for tick in self.y.ticks:
            y = self.place(self.x.low, tick)[1]
            out.append(tag("line", x1=_n(left), x2=_n(right), y1=_n(y), y2=_n(y), class_="rule"))
            out.append(tag("text", short(tick), x=_n(left - 6), y=_n(y + 3.8), class_="tick end"))
        for tick in self.x.ticks:
            x = self.place(tick, self.y.low)[0]
            out.append(tag("line", x1=_n(x), x2=_n(x), y1=_n(bottom), y2=_n(bottom + 4), class_="rule"))
            out.append(tag("text", short(tick), x=_n(x), y=_n(bottom + 16), class_="tick middle"))
        out.append(tag("text", self.labels[0], x=_n(right), y=self.height - 5, class_="axis end"))
        return [join(out)]


def _n(value: float) -> str:
    """A coordinate, a tenth of a pixel fine, so that rounding of the last bit never shows."""
    return f"{value:.1f}".removesuffix(".0")
