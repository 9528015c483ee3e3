"""Line charts, scatter plots, histograms, bars and intervals as inline SVG, labelled where the eye already is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from .axes import Frame, Scale, scale_of, short
from .markup import Html, join, tag

__all__ = ["Interval", "Series", "bars", "figure", "heat", "histogram", "intervals", "ladder", "line_chart", "scatter"]

Point = tuple[float, float]
_TEXT = 6.6
_WIDE = 7.6
_ROW = 30


@dataclass(frozen=True)
class Series:
    """Points that belong together.

    Attributes:
        name: written beside them; empty for none.
        points: (x, y); those that are not finite are left out.
        style: number of its colour, dash and mark.
        notes: what a pointer that rests on a point is told.
    """

    name: str
    points: Sequence[Point]
    style: int = 0
    notes: Sequence[str] = ()

    @property
    def finite(self) -> list[Point]:
        return [(x, y) for x, y in self.points if math.isfinite(x) and math.isfinite(y)]


def figure(picture: Html, *caption: object, kind: str = "") -> Html:
    """A picture with what it shows written below it."""
    return tag("figure", picture, tag("figcaption", *caption), class_=kind or None)


def line_chart(title: str, series: Sequence[Series], x: str, y: str, *, small: bool = False) -> Html:
    """Lines over whole numbers such as epochs, each named at its right end."""
    points = [point for each in series for point in each.finite]
    names = max((len(each.name) for each in series), default=0)
    size = {"width": 260, "height": 150} if small else {"width": 420, "height": 240}
    frame = Frame(
        scale_of([p[0] for p in points], whole=True, count=4 if small else 6),
        scale_of([p[1] for p in points], count=3 if small else 4),
        (x, y),
        right=14 + int(_WIDE * names),
        **size,
    )
    drawn, ends = [], []
    for each in series:
        placed = [frame.place(*point) for point in sorted(each.finite)]
        if not placed:
            continue
        way = "L".join(f"{a:.1f} {b:.1f}" for a, b in placed)
        dots = [_mark(each.style, *placed[-1])] if len(placed) > 1 else [_mark(each.style, *placed[0])]
        drawn.append(tag("g", tag("path", d=f"M{way}", class_="line"), *dots, class_=_style(each.style)))
        ends.append((placed[-1], each))
    labels = [
        tag("text", each.name, x=f"{at[0] + 8:.1f}", y=f"{height:.1f}", class_=f"label {_style(each.style)}")
        for (at, each), height in zip(ends, _apart([at[1] + 3.8 for at, _ in ends]), strict=True)
        if each.name
    ]
    return frame.drawn([*drawn, *labels], title)


def scatter(
    title: str,
    series: Sequence[Series],
    x: str,
    y: str,
    *,
    log_x: bool = False,
    named: bool = False,
    trend: Sequence[Point] = (),
) -> Html:
    """Points, and a line through those of `trend`; with `named` each series' name stands beside its first point."""
    points = [point for each in series for point in each.finite]
    frame = Frame(scale_of([p[0] for p in points], log=log_x), scale_of([p[1] for p in points]), (x, y), 420, 280, 20)
    drawn = []
    for each in series:
        placed = [frame.place(*point) for point in each.finite]
        notes = each.notes if len(each.notes) == len(each.points) else [None] * len(each.points)
        kept = [n for n, p in zip(notes, each.points, strict=True) if math.isfinite(p[0]) and math.isfinite(p[1])]
        marks = [_mark(each.style, *at, note=note) for at, note in zip(placed, kept, strict=True)]
        if named and placed:
            a, b = placed[0]
            left = a + 10 + _TEXT * len(each.name) > frame.width
            anchor = {"x": f"{a - 10:.1f}", "class_": f"label end {_style(each.style)}"}
            anchor = anchor if left else {"x": f"{a + 10:.1f}", "class_": f"label {_style(each.style)}"}
            marks.append(tag("text", each.name, y=f"{b + 4:.1f}", **anchor))
        drawn.append(tag("g", *marks, class_=f"{_style(each.style)} {'bold' if named else 'cloud'}"))
    placed = [frame.place(*point) for point in trend]
    if placed:
        way = "L".join(f"{a:.1f} {b:.1f}" for a, b in placed)
        knots = [tag("circle", cx=f"{a:.1f}", cy=f"{b:.1f}", r=2.6, class_="knot") for a, b in placed]
        drawn.append(tag("g", tag("path", d=f"M{way}", class_="line"), *knots, class_="trend"))
    return frame.drawn(drawn, title)


def histogram(title: str, series: Sequence[Series], x: str, *, bins: int = 24) -> Html:
    """How often each value was found, as a share of its series; the x of a series' points are its values."""
    values = [p[0] for each in series for p in each.finite]
    across = scale_of(values)
    width = (across.high - across.low) / bins
    heights = []
    for each in series:
        counts = [0] * bins
        for value, _ in each.finite:
            counts[min(int((value - across.low) / width), bins - 1)] += 1
        heights.append([100 * c / max(len(each.finite), 1) for c in counts])
    frame = Frame(
        across, scale_of([min(1.1 * h, 100.0) for row in heights for h in row], zero=True), (x, "% of them"), 420, 220
    )
    drawn, labels = [], []
    for number, (each, row) in enumerate(zip(series, heights, strict=True)):
        steps = [(across.low + (n + side) * width, h) for n, h in enumerate(row) for side in (0, 1)]
        corners = [(across.low, 0.0), *steps, (across.high, 0.0)]
        way = "L".join(f"{a:.1f} {b:.1f}" for a, b in (frame.place(*c) for c in corners))
        peak = max(range(bins), key=lambda n, row=row: row[n])  # type: ignore[misc]
        at = frame.place(across.low + (peak + 0.5) * width, row[peak])
        look = _style(each.style)
        drawn.append(tag("path", d=f"M{way}Z", class_=f"area {look}"))
        x_of, y_of = max(at[0], frame.left + 4 * len(each.name)), max(at[1] - 5, 20 + 11 * number)
        labels.append(tag("text", each.name, x=f"{x_of:.1f}", y=f"{y_of:.1f}", class_=f"label middle {look}"))
    return frame.drawn([*drawn, *labels], title)


@dataclass(frozen=True)
class Interval:
    """A number with the ends of its interval; None where there is none."""

    name: str
    value: float
    low: float | None
    high: float | None
    style: int = 0


def intervals(title: str, rows: Sequence[Interval], x: str) -> Html:
    """One line a number: a dot, a bar from end to end, and the name left of it."""
    return ladder(title, [(row.name, [row]) for row in rows], x)


def ladder(title: str, rows: Sequence[tuple[str, Sequence[Interval]]], x: str, *, width: int = 460) -> Html:
    """As `intervals`, with several numbers of one name on its line; the name has the style of the first."""
    ends = [v for _, marks in rows for row in marks for v in (row.value, row.low, row.high) if v is not None]
    left = 16 + _WIDE * max(len(name) for name, _ in rows)
    height = 14 + _ROW * len(rows) + 34
    across: Scale = scale_of(ends, count=4)

    def place(value: float) -> float:
        return left + across(value) * (width - left - 24)

    bottom = height - 34
    drawn = [tag("title", title)]
    for tick in across.ticks:
        at = f"{place(tick):.1f}"
        drawn.append(tag("line", x1=at, x2=at, y1=4, y2=bottom, class_="rule"))
        drawn.append(tag("text", short(tick), x=at, y=bottom + 14, class_="tick middle"))
    drawn.append(tag("text", x, x=width - 24, y=height - 4, class_="axis end"))
    for number, (called, marks) in enumerate(rows):
        y = 18 + _ROW * number
        for first, row in enumerate(marks):
            bar = None
            if row.low is not None and row.high is not None:
                bar = tag("line", x1=f"{place(row.low):.1f}", x2=f"{place(row.high):.1f}", y1=y, y2=y, class_="whisker")
            name = tag("text", called, x=0, y=y + 4, class_="label") if not first else None
            drawn.append(tag("g", name, bar, _mark(row.style, place(row.value), y), class_=f"{_style(row.style)} bold"))
    return tag("svg", *drawn, viewBox=f"0 0 {width:.0f} {height}", role="img", class_="chart wide")


def bars(title: str, values: Sequence[float], names: Sequence[str], style: int = 0) -> Html:
    """A small bar for each value of at least 0, its name below."""
    width, height = 160, 78
    top = max([*values, 1e-12])
    step = width / max(len(values), 1)
    drawn = [tag("title", title)]
    for n, (value, name) in enumerate(zip(values, names, strict=True)):
        tall = 56 * value / top
        x, wide = f"{n * step + step * 0.12:.1f}", f"{step * 0.76:.1f}"
        drawn.append(tag("rect", x=x, y=f"{60 - tall:.1f}", width=wide, height=f"{tall:.1f}", class_="area full"))
        if len(values) <= 16:
            drawn.append(tag("text", name, x=f"{(n + 0.5) * step:.1f}", y=74, class_="tick middle"))
    drawn.append(tag("line", x1=0, x2=width, y1=60, y2=60, class_="rule"))
    return tag("svg", *drawn, viewBox=f"0 0 {width} {height}", role="img", class_=f"chart {_style(style)}")


def heat(
    title: str, rows: Sequence[Sequence[float]], names: tuple[Sequence[str], Sequence[str]], axes: tuple[str, str]
) -> Html:
    """A matrix as cells, the stronger the darker, each with its number; `axes` name what goes down and across."""
    cell, left, top = 40, 30, 34
    most = max((v for row in rows for v in row), default=0.0) or 1.0
    drawn = [tag("title", title), tag("text", f"{axes[1]} →", x=left, y=11, class_="axis")]
    for c, name in enumerate(names[1]):
        drawn.append(tag("text", name, x=left + cell * (c + 0.5), y=28, class_="tick middle"))
    for r, row in enumerate(rows):
        y = top + cell * r
        drawn.append(tag("text", names[0][r], x=left - 8, y=y + cell / 2 + 4, class_="tick end"))
        for c, value in enumerate(row):
            share = max(value, 0.0) / most
            x, own = left + cell * c, "cell own" if r == c else "cell"
            box = tag(
                "rect", x=x + 1, y=y + 1, width=cell - 2, height=cell - 2, fill_opacity=f"{share:.2f}", class_=own
            )
            ink = "tick middle over" if share > 0.55 else "tick middle"
            drawn.append(join([box, tag("text", f"{value:.2g}", x=x + cell / 2, y=y + cell / 2 + 4, class_=ink)]))
    width, height = left + cell * len(names[1]) + 2, top + cell * len(rows) + 20
    drawn.append(tag("text", f"{axes[0]} ↓", x=0, y=height - 4, class_="axis"))
    return tag("svg", *drawn, viewBox=f"0 0 {width} {height}", role="img", class_="chart heat")


def _style(style: int) -> str:
    return f"s{style % 6}"


def _mark(style: int, x: float, y: float, *, note: str | None = None) -> Html:
    """Every style has its own shape too, so that colour never carries a meaning alone."""
    told = tag("title", note) if note else None
    r = 3.6
    if style % 3 == 0:
        return tag("circle", told, cx=f"{x:.1f}", cy=f"{y:.1f}", r=r, class_="mark")
    corners = [(-r, -r), (r, -r), (r, r), (-r, r)] if style % 3 == 1 else [(0, -4.6), (4.4, 3.4), (-4.4, 3.4)]
    at = " ".join(f"{x + a:.1f},{y + b:.1f}" for a, b in corners)
    return tag("polygon", told, points=at, class_="mark")


def _apart(heights: Sequence[float], gap: float = 13.0) -> list[float]:
    """The same heights moved so that no two labels overlap, in their order."""
    order = sorted(range(len(heights)), key=lambda n: heights[n])
    out = list(heights)
    for above, below in pairwise(order):
        out[below] = max(out[below], out[above] + gap)
    shift = max((max(out) - max(heights)) / 2, 0.0) if out else 0.0
    return [h - shift for h in out]
