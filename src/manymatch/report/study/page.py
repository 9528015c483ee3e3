"""The page of a study: how it was made, RSUM at a glance, tables, tests, claims; one file that needs no other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..charts import Interval, figure, ladder
from ..frame import document, framed, section
from ..markup import Html, join, tag
from .claims import Test, Verdict
from .columns import Column, Group, decimals, in_part, shown, spelt
from .gaps import Gap
from .lines import Line
from .results import Results
from .table import of_group

__all__ = ["page"]

_WIDTH = 560
_STYLES = {"bank": 0, "raw": 1}


def page(found: Results) -> str:
    """The whole document."""
    made: list[tuple[str, str, Html | None]] = [
        ("Overview", "At a glance", _overview(found)),
        *([("Claims", "Claims", _claims(found))] if found.verdicts else []),
        *([("Tests", f"Against {_title(found, found.plan.against)}", _tests(found))] if found.tests else []),
        *([("Bank", "What the query bank adds", _gains(found))] if found.gains else []),
        *((group.name, group.title, _table(found, group)) for group in found.groups),
        *([("Notes", "Notes on rows", _asides(found))] if found.asides else []),
    ]
    parts = [section(number, name, title, inside) for number, (name, title, inside) in enumerate(made, 1)]
    return document(found.plan.title, [_head(found), *framed(parts, [name for name, _, _ in made])])


def _head(found: Results) -> Html:
    plan, lines = found.plan, found.lines
    rows = len({line.row.name for line in lines})
    runs = sum(len({seed for line in lines if line.row.name == row.name for seed in line.seeds}) for row in plan.rows)
    facts = [
        (str(rows), "rows"),
        (str(runs), "runs"),
        (f"{found.data['images']:,}", "test images"),
        (f"{found.data['captions']:,}", "test captions"),
    ]
    shown_facts = tag("dl", *(tag("div", tag("dt", what), tag("dd", value)) for value, what in facts), class_="facts")
    notes = [*found.story, *found.notes]
    told = tag("ul", *(tag("li", note) for note in notes), class_="notes")
    about = tag("p", plan.about, class_="lead") if plan.about else None
    return tag(
        "header", tag("p", "manymatch study", class_="overline"), tag("h1", plan.title), about, shown_facts, told
    )


# ---- at a glance


def _overview(found: Results) -> Html | None:
    name = next((each for each in ("RSUM", *found.plan.tested) if any(each in line.names for line in found.lines)), "")
    rows: dict[str, list[Line]] = {}
    for line in found.lines:
        if name in line.names and math.isfinite(line.mean(name)):
            rows.setdefault(line.row.name, []).append(line)
    if not rows:
        return tag("p", "Nothing was measured.", class_="none")
    order = sorted(rows.values(), key=lambda lines: -max(line.mean(name) for line in lines))
    drawn = [(lines[0].row.title, [_mark(line, name) for line in reversed(lines)]) for lines in order]
    told = [
        f"{name} on the test split, mean over seeds; the bar goes from the least seed to the best. ",
        tag("span", "● with the query bank", class_="run s0"),
        ", ",
        tag("span", "■ without", class_="run s1"),
        ".",
    ]
    return figure(ladder(f"{name} of each row", drawn, name, width=_WIDTH), *told, kind="overview")


def _mark(line: Line, name: str) -> Interval:
    values = line.values(name)
    low, high = (min(values), max(values)) if len(values) > 1 else (None, None)
    return Interval(line.row.title, line.mean(name), low, high, _STYLES[line.state])


# ---- tables


def _table(found: Results, group: Group) -> Html:
    lines = [
        line for line in of_group(found.lines, group) if any(each.quantity in line.names for each in group.columns)
    ]
    best = {column.quantity: _best(lines, column) for column in group.columns}
    heads = ["row", *(["bank"] if group.states else []), *(column.head for column in group.columns)]
    rows: dict[str, list[Html]] = {}
    for line in lines:
        state = [tag("td", "with" if line.state == "bank" else "", class_="state")] if group.states else []
        cells = [*state, *(_cell(line, column, best[column.quantity]) for column in group.columns)]
        rows.setdefault(line.row.title, []).append(join(cells))
    told = f"{group.told} Small: the standard deviation over seeds; bold: the best of a column."
    return join([tag("p", told.strip(), class_="lead"), _framed(heads, rows, group.title)])


def _framed(heads: Sequence[str], rows: Mapping[str, Sequence[Html]], name: str) -> Html:
    """A table of a body a row: its name, and a line for each of its states."""
    named = (tag("th", each, scope="col", class_="state" if each == "bank" else None) for each in heads)
    head = tag("thead", tag("tr", *named))
    bodies = []
    for title, lines in rows.items():
        first = tag("th", title, scope="rowgroup", rowspan=len(lines))
        bodies.append(tag("tbody", *(tag("tr", None if n else first, line) for n, line in enumerate(lines))))
    table = tag("table", head, *bodies, class_="numbers spreads")
    return tag("div", table, class_="scroll", tabindex=0, role="region", aria_label=f"Table of {name}")


def _best(lines: Sequence[Line], column: Column) -> float | None:
    known = [line for line in lines if column.quantity in line.names and not in_part(line, column.quantity)]
    values = [line.mean(column.quantity) for line in known]
    values = [value for value in values if math.isfinite(value)]
    if not column.best or len(set(values)) < 2:
        return None
    return max(values) if column.best > 0 else min(values)


def _cell(line: Line, column: Column, best: float | None) -> Html:
    if column.quantity not in line.names:
        return tag("td", "–")
    value, sd = line.mean(column.quantity), line.sd(column.quantity)
    text = shown(value, column.digits)
    if in_part(line, column.quantity):
        text = f"≥ {text}"
    spread = tag("small", f"± {shown(sd, column.digits)}") if sd else None
    bold = value == best and not in_part(line, column.quantity)
    return tag("td", tag("b", text) if bold else text, spread)


def _asides(found: Results) -> Html:
    return tag("ul", *(tag("li", each) for each in found.asides), class_="notes")


# ---- tests and claims


def _tests(found: Results) -> Html:
    told = (
        f"Each row less {_title(found, found.plan.against)}, both with or both without the query bank. Brackets: the "
        "95 % bootstrap interval over images, seeds averaged. p: paired randomisation test over images, two-sided, "
        f"corrected for all {len(found.tests)} tests (Holm); bold below 0.05."
    )
    return join([tag("p", told, class_="lead"), _grid(found, found.tests, states=True)])


def _gains(found: Results) -> Html:
    told = (
        "Each row with its bank less the same runs without. Brackets: the 95 % bootstrap interval over images, seeds "
        f"averaged. p: paired randomisation test over images, corrected for all {len(found.gains)} tests (Holm); bold "
        "below 0.05. The bank's numbers come from training queries and validation alone."
    )
    return join([tag("p", told, class_="lead"), _grid(found, found.gains, states=False)])


def _grid(found: Results, tests: Sequence[Test], *, states: bool) -> Html:
    """A line a row and state, a column a metric."""
    metrics = list(dict.fromkeys(test.metric for test in tests))
    known = {(test.row, test.state, test.metric): test for test in tests}
    rows: dict[str, list[Html]] = {}
    for row, state in dict.fromkeys((test.row, test.state) for test in tests):
        first = [tag("td", "with" if state == "bank" else "", class_="state")] if states else []
        cells = [*first, *(_difference(known.get((row, state, metric))) for metric in metrics)]
        rows.setdefault(_title(found, row), []).append(join(cells))
    return _framed(["row", *(["bank"] if states else []), *metrics], rows, "tests")


def _difference(test: Test | None) -> Html:
    if test is None:
        return tag("td", "–")
    text = _signed(test.difference)
    ends = "" if test.low is None or test.high is None else f"[{shown(test.low, 1)}, {shown(test.high, 1)}] "
    return tag(
        "td", tag("b", text) if test.corrected < 0.05 else text, tag("small", f"{ends}p {spelt(test.corrected)}")
    )


def _signed(value: float, digits: int = 1) -> str:
    text = shown(value, digits)
    return f"+{text}" if value > 0 else text


_ANSWERS = {"holds": "holds", "does not hold": "not", "not decided": "open", "not measured": "open"}


def _claims(found: Results) -> Html:
    counts = {answer: sum(each.answer == answer for each in found.verdicts) for answer in _ANSWERS}
    said = ", ".join(f"{answer}: {count}" for answer, count in counts.items() if count).capitalize()
    told = (
        f"{said}. A difference of two rows over images and seeds: variance over images from the paired bootstrap of "
        "the seed-averaged difference, where the quantity has one; variance over seeds from a row's own spread or that "
        "of all trained rows pooled, whichever is larger; the interval is Student's 95 %. A claim holds when p, "
        "corrected for all claims (Holm), is below 0.05 and the difference has the claimed sign; it does not hold when "
        "the sign is the other, or, where the sign is not shown, when the whole interval lies below a margin given for "
        "it; else it is not decided. A difference that is the same in every seed needs no p."
    )
    return join(
        [tag("p", told, class_="lead"), tag("div", *(_claim(found, each) for each in found.verdicts), class_="stack")]
    )


def _claim(found: Results, verdict: Verdict) -> Html:
    claim, gap = verdict.claim, verdict.gap
    answer = tag("span", verdict.answer, class_=f"verdict {_ANSWERS[verdict.answer]}")
    names = _title(found, claim.better), _title(found, claim.worse) if claim.worse else shown(claim.above or 0.0, 2)
    state = ", with the query bank" if claim.bank else ""
    measured = None
    if gap is not None and verdict.first is not None and verdict.second is not None:
        digits = 1 if abs(verdict.first) >= 10 else decimals((gap.value, gap.low, gap.high), 3)
        numbers = [shown(verdict.first, digits), shown(verdict.second, digits)]
        measured = tag(
            "p",
            f"{claim.metric}{state}: {names[0]} {numbers[0]}, {names[1]} {numbers[1]}; difference ",
            tag("b", _signed(gap.value, digits)),
            "" if verdict.corrected is None else _sure(verdict.corrected, gap, digits),
            class_="num",
        )
    why = f"{verdict.why[:1].upper()}{verdict.why[1:]}."
    parts = [tag("h4", answer, claim.text), measured, tag("p", why, class_="why")]
    parts += [tag("p", each, class_="why") for each in (claim.source, claim.note) if each]
    return tag("article", *parts, class_="query")


def _sure(p: float, gap: Gap, digits: int) -> str:
    return f" [{shown(gap.low, digits)}, {shown(gap.high, digits)}], corrected p {spelt(p)}"


def _title(found: Results, name: str | None) -> str:
    return next((row.title for row in found.plan.rows if row.name == name), name or "")
