"""What accuracy costs: each run's accuracy beside the time of a query."""

from __future__ import annotations

from typing import Any

from ...errors import UnknownName
from ..charts import Series, figure, scatter
from ..gather import Material, Seen
from ..markup import Html, join, tag

__all__ = ["speed"]

_MEASURES = (("both", "RSUM"), ("t2i", "mAP@R"), ("t2i", "R@1"))


_WIDE = 5
"""From this ratio of the slowest to the fastest on, times stand on a logarithmic axis."""


def speed(material: Material) -> Html:
    """A table and a plot; a sentence where times were not measured."""
    timed = [(seen, 1000 * seen.seconds) for seen in material.seen if seen.seconds is not None]
    if not timed:
        return tag("p", "Times were not measured.", class_="none")
    measure = next((m for m in _MEASURES if all(_value(seen, *m) is not None for seen, _ in timed)), None)
    name = "" if measure is None else measure[1]
    lines = [tag("tr", *(tag("th", text, scope="col") for text in ("run", "ms a query", *([name] if name else []))))]
    points = []
    for seen, ms in timed:
        value = None if measure is None else _value(seen, *measure)
        cells = [f"{ms:.2f}", *([f"{value:.1f}"] if value is not None else [])]
        label = tag("span", seen.name, class_=f"run s{seen.style % 6}")
        lines.append(tag("tr", tag("th", label, scope="row"), *(tag("td", cell) for cell in cells)))
        points += [Series(seen.name, [(ms, value)], seen.style)] if value is not None else []
    text = (
        f"One caption encoded and scored against {len(material.pairs):,} images, on one thread, without an index: the "
        "median of 30 captions. It depends on the machine; compare runs of one page only."
    )
    table = tag("div", tag("table", *lines, class_="numbers slim"), class_="scroll")
    plot = None
    if points:
        wide = max(ms for _, ms in timed) > _WIDE * min(ms for _, ms in timed)
        picture = scatter(f"{name} against the time of a query", points, "ms a query", name, log_x=wide, named=True)
        plot = figure(picture, "Up and to the left is better.")
    return join([tag("p", text, class_="lead"), tag("div", table, plot, class_="beside")])


def _value(seen: Seen, direction: str, metric: str) -> float | None:
    report: Any = seen.report
    for protocol in dict.fromkeys(row["protocol"] for row in report.rows):
        try:
            return float(report.value(metric, direction, protocol))
        except UnknownName:
            continue
    return None
