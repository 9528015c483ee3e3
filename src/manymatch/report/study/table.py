"""The tables of a study as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .claims import Test
from .columns import Column, Group, decimals, in_part, shown, spelt
from .lines import Line
from .results import Results

__all__ = ["markdown", "of_group"]


def markdown(found: Results) -> str:
    """All tables, one below the other."""
    plan = found.plan
    parts = [f"# {plan.title}", plan.about]
    parts += [_how(found), _bullets([*found.story, *found.notes])]
    for group in found.groups:
        parts += [f"## {group.title}", group.told, _table(_lines(found.lines, group))]
    if found.tests:
        told = f"Row less `{plan.against}`, each in the same state; {_TESTED}"
        parts += [f"## Against {plan.against}", told, _table(_tests(found.tests, True))]
    if found.gains:
        parts += ["## What the bank adds", f"With less without; {_TESTED}", _table(_tests(found.gains))]
    if found.verdicts:
        parts += ["## Claims", _table(_claims(found))]
    if found.asides:
        parts += ["## Notes on rows", _bullets(found.asides)]
    return "\n\n".join(part for part in parts if part) + "\n"


_TESTED = "p of a paired randomisation test over images, seeds averaged, corrected for all tests of the table (Holm)."


def _how(found: Results) -> str:
    counts = sorted({len(line.seeds) for line in found.lines})
    seeds = " to ".join(map(str, dict.fromkeys([counts[0], counts[-1]]))) if counts else "no"
    return (
        f"{found.data['name']}: {found.data['images']:,} images, {found.data['captions']:,} captions. Mean ± standard "
        f"deviation over {seeds} seed{'' if seeds == '1' else 's'}."
    )


def _bullets(said: Sequence[str]) -> str:
    return "\n".join(f"- {each}" for each in said)


def _lines(lines: Sequence[Line], group: Group) -> Iterator[list[str]]:
    yield ["row", *(["bank"] if group.states else []), *(column.head for column in group.columns)]
    for line in of_group(lines, group):
        if any(column.quantity in line.names for column in group.columns):
            state = [("with" if line.state == "bank" else "")] if group.states else []
            yield [line.row.title, *state, *(_cell(line, column) for column in group.columns)]


def of_group(lines: Sequence[Line], group: Group) -> Iterator[Line]:
    """Both states, or where they do not differ each row once."""
    seen = set()
    for line in lines:
        if group.states or line.row.name not in seen:
            seen.add(line.row.name)
            yield line


def _cell(line: Line, column: Column) -> str:
    if column.quantity not in line.names:
        return ""
    sd = line.sd(column.quantity)
    least = "≥ " if in_part(line, column.quantity) else ""
    spread = f" ± {shown(sd, column.digits)}" if sd else ""
    return f"{least}{shown(line.mean(column.quantity), column.digits)}{spread}"


def _tests(tests: Sequence[Test], states: bool = False) -> Iterator[list[str]]:
    yield ["row", *(["bank"] if states else []), "metric", "difference", "95 % over images", "p", "corrected"]
    for test in tests:
        state = [("with" if test.state == "bank" else "")] if states else []
        ends = "" if test.low is None or test.high is None else f"{shown(test.low, 2)} to {shown(test.high, 2)}"
        yield [test.row, *state, test.metric, shown(test.difference, 2), ends, spelt(test.p), spelt(test.corrected)]


def _claims(found: Results) -> Iterator[list[str]]:
    yield ["claim", "answer", "metric", "difference", "95 %", "p corrected", "why"]
    for each in found.verdicts:
        gap, numbers = each.gap, ["", ""]
        if gap is not None:
            digits = decimals((gap.value, gap.low, gap.high), 2)
            numbers = [shown(gap.value, digits), f"{shown(gap.low, digits)} to {shown(gap.high, digits)}"]
        yield [each.claim.text, f"**{each.answer}**", each.claim.metric, *numbers, spelt(each.corrected), each.why]


def _table(rows: Iterator[list[str]]) -> str:
    head, *lines = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *lines])
