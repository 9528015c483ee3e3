"""How well captions find images and images find captions: a table a protocol, with intervals and published numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..charts import Interval, figure, intervals
from ..gather import Material
from ..markup import Html, join, tag

__all__ = ["accuracy"]

_WAYS = {
    "i2t": ("image → text", "images", "captions"),
    "t2i": ("text → image", "captions", "images"),
    "i2i": ("image → image", "images", "images"),
    "t2t": ("text → text", "captions", "captions"),
    "both": ("both", "", ""),
}
_HEALTH = {"i2i": ("images", "", ""), "t2t": ("captions", "", "")}
_WIDEST = 110
"""Letters that the names of a table's columns may have; with more it has a line a metric and a column a run."""

Row = Mapping[str, Any]
Rows = Sequence[Row]
Column = tuple[str, str]


def accuracy(material: Material) -> Html:
    """Every number `evaluate` gave, in tables of one protocol each."""
    rows = [row for seen in material.seen for row in seen.report.rows]
    styles = {seen.name: seen.style for seen in material.seen}
    published: list[Row] = []
    for row in (row for seen in material.seen for row in seen.report.published):
        published += [row] if row not in published else []
    tables = [_protocol(name, rows, published, styles) for name in dict.fromkeys(row["protocol"] for row in rows)]
    text = (
        "Shares in percent. Small numbers are 95 % intervals over images. The better number of a column is bold; where "
        "intervals overlap that may be chance."
    )
    return join([tag("p", text, class_="lead"), _overview(rows, styles), *tables])


def _overview(rows: Rows, styles: Mapping[str, int]) -> Html | None:
    for metric, direction in (("RSUM", "both"), ("mAP@R", "t2i"), ("R@1", "t2i")):
        found = [r for r in rows if (r["metric"], r["direction"]) == (metric, direction)]
        found = [r for r in found if r["protocol"] == found[0]["protocol"] and math.isfinite(r["value"])]
        if found:
            drawn = [Interval(r["run"], r["value"], r["low"], r["high"], styles[r["run"]]) for r in found]
            name = metric if direction == "both" else f"{metric}, {_WAYS[direction][0]}"
            told = f"{name} of protocol {found[0]['protocol']}, with its 95 % interval over images."
            return figure(intervals(told, drawn, name), told, kind="overview")
    return None


def _protocol(protocol: str, rows: Rows, published: Rows, styles: Mapping[str, int]) -> Html:
    mine = [row for row in rows if row["protocol"] == protocol]
    theirs = [row for row in published if row["protocol"] == protocol]
    places = {name: n for n, name in enumerate(_WAYS)}
    columns: list[Column] = list(dict.fromkeys((row["direction"], row["metric"]) for row in mine))
    columns.sort(key=lambda column: places.get(column[0], len(places)))
    truth = next((row["truth"] for row in mine if row["truth"]), None)
    name = "Set health" if protocol == "health" else (truth or protocol)
    code = None if protocol == "health" else tag("code", protocol)
    title = tag("b", name[:1].upper() + name[1:])
    caption = tag("caption", tag("div", title, code, tag("span", _counted(mine), class_="counted")))
    runs = {run: {(r["direction"], r["metric"]): r for r in mine if r["run"] == run} for run in _runs(mine)}
    runs |= {run: {(r["direction"], r["metric"]): r for r in theirs if r["run"] == run} for run in _runs(theirs)}
    tall = sum(len(metric) for _, metric in columns) > _WIDEST
    lay = _tall if tall else _wide
    ways = _HEALTH if protocol == "health" else _WAYS
    table = tag(
        "table", caption, *lay(runs, columns, _best(mine), styles, ways), class_="numbers tall" if tall else "numbers"
    )
    return tag("div", table, class_="scroll", tabindex=0, role="region", aria_label=f"Table of {name}")


def _wide(
    runs: Mapping[str, Mapping[Column, Row]], columns: Sequence[Column], best: Any, styles: Any, ways: Any
) -> list[Html]:
    """A line a run."""
    grouped = [tag("th", ways[d][0], colspan=n, scope="colgroup") for d, n in _groups(columns)]
    starts = _starts(columns)
    named = [tag("th", m, scope="col", class_=starts.get((d, m))) for d, m in columns]
    head = tag("thead", tag("tr", tag("td"), *grouped), tag("tr", tag("th", "run", scope="col"), *named))
    lines = [
        tag(
            "tr",
            tag("th", _name(run, styles), scope="row"),
            *(_cell(found.get(column), best.get(column), starts.get(column)) for column in columns),
            class_=None if run in styles else "published",
        )
        for run, found in runs.items()
    ]
    return [head, tag("tbody", *lines)]


def _tall(
    runs: Mapping[str, Mapping[Column, Row]], columns: Sequence[Column], best: Any, styles: Any, ways: Any
) -> list[Html]:
    """A line a metric."""
    named = [tag("th", _name(run, styles), scope="col") for run in runs]
    out = [tag("thead", tag("tr", tag("th", "metric", scope="col"), *named))]
    for direction, _ in _groups(columns):
        title = tag("tr", tag("th", ways[direction][0], colspan=len(runs) + 1, scope="rowgroup"), class_="group")
        lines = [
            tag(
                "tr",
                tag("th", metric, scope="row"),
                *(_cell(f.get((d, metric)), best.get((d, metric))) for f in runs.values()),
            )
            for d, metric in columns
            if d == direction
        ]
        out.append(tag("tbody", title, *lines))
    return out


def _name(run: str, styles: Mapping[str, int]) -> Html | str:
    return tag("span", run, class_=f"run s{styles[run] % 6}") if run in styles else run


def _runs(rows: Rows) -> list[str]:
    return list(dict.fromkeys(row["run"] for row in rows))


def _groups(columns: Sequence[Column]) -> list[tuple[str, int]]:
    names = [direction for direction, _ in columns]
    return [(name, names.count(name)) for name in dict.fromkeys(names)]


def _starts(columns: Sequence[Column]) -> dict[Column, str]:
    """The first column of each direction, which a line sets off."""
    out: dict[str, Column] = {}
    for column in columns:
        out.setdefault(column[0], column)
    return dict.fromkeys(out.values(), "start")


def _counted(rows: Rows) -> str:
    if rows[0]["protocol"] == "health":
        return (
            "log circular variance: −0.7 for four elements at right angles, −4.5 and below for a set that is one point"
        )
    said = []
    for direction, (_, asking, asked) in _WAYS.items():
        found = [row for row in rows if row["direction"] == direction and row["queries"] is not None]
        if found and asking:
            sizes = [_span(row[what] for row in found) for what in ("queries", "gallery")]
            said.append(f"{sizes[0]} {asking} ask {sizes[1]} {asked}")
    return "; ".join(said)


def _span(counts: Iterable[int]) -> str:
    """A count, or the least and the most of several."""
    found = sorted(set(counts))
    return f"{found[0]:,}" if len(found) == 1 else f"{found[0]:,} to {found[-1]:,}"


def _best(rows: Rows) -> dict[Column, float]:
    """The better number of each column in which runs differ."""
    out: dict[Column, float] = {}
    for column in {(row["direction"], row["metric"]) for row in rows}:
        values = [row["value"] for row in rows if (row["direction"], row["metric"]) == column]
        said_of_the_data = rows[0]["protocol"] == "health" or column[1].startswith("AURC at ")
        if len(set(values)) > 1 and not said_of_the_data:
            out[column] = min(values) if _less_is_better(column[1]) else max(values)
    return out


def _less_is_better(metric: str) -> bool:
    return metric.startswith("AURC") or metric.endswith(" rank")


def _cell(row: Row | None, best: float | None, class_: str | None = None) -> Html:
    if row is None:
        return tag("td", "–", class_=class_)
    value = tag("b", _shown(row, row["value"])) if row["value"] == best else _shown(row, row["value"])
    low, high = row.get("low"), row.get("high")
    ends = None
    if low is not None and high is not None:
        ends = tag("small", f"{_shown(row, low)}{'–' if low >= 0 else ' … '}{_shown(row, high)}")
    return tag("td", value, ends, class_=class_)


def _shown(row: Row, value: float) -> str:
    if not math.isfinite(value):
        return "−∞" if value < 0 else "–"
    if row["metric"].endswith(" rank"):
        return f"{value:,.1f}".removesuffix(".0")
    fine = row["metric"].startswith(("spearman", "log "))
    return (f"{value:.2f}" if fine else f"{value:.1f}").replace("-", "−")
