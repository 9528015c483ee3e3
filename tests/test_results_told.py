"""What README and docs tell of a study is what its results.json holds: every number of every table that names one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"
NAMED = re.compile(r"<!-- results: (\S+) -->")
"""Stands above a table: the folder of docs/results that it is taken from."""

NUMBER = re.compile(r"(?P<mean>-?\d+(?:\.(?P<digits>\d+))?)(?: ± (?P<sd>\d+(?:\.\d+)?))?")


def tables(path: Path) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Study, head and rows of each table."""
    lines = path.read_text("utf-8").splitlines()
    for number, line in enumerate(lines):
        found = NAMED.fullmatch(line.strip())
        if found:
            below = lines[number + 1 :]
            start = next(n for n, each in enumerate(below) if each.startswith("|"))
            assert not any(each.strip() for each in below[:start]), f"{path.name}: words between {line} and its table"
            stop = next((n for n, each in enumerate(below) if n > start and not each.startswith("|")), len(below))
            cells = [[cell.strip() for cell in each.strip("|").split("|")] for each in below[start:stop]]
            yield found[1], cells[0], cells[2:]


def told(study: dict[str, Any], row: str, head: str) -> dict[str, Any] | None:
    """The quantity of a head such as "RSUM" or "RSUM, bank"."""
    name, _, state = head.partition(", ")
    lines = [each for each in study["rows"] if each["row"] == row]
    assert lines, f"no row {row}"
    line = next((each for each in lines if each["state"] == (state or "raw")), None)
    return None if line is None else line["quantities"].get(name)


@pytest.mark.parametrize("path", [ROOT / "README.md", ROOT / "docs" / "results.md"], ids=lambda path: path.name)
def test_tables_say_what_was_measured(path: Path) -> None:
    found = list(tables(path))
    assert found, "no table names its study"
    for name, head, rows in found:
        study = json.loads((RESULTS / name / "results.json").read_text("utf-8"))
        names = {quantity for row in study["rows"] for quantity in row["quantities"]}
        for column in head[1:]:
            assert column.partition(", ")[0] in names, f"{path.name}, {name}: no quantity {column!r}"
        for row in rows:
            for column, cell in zip(head[1:], row[1:], strict=True):
                quantity = told(study, row[0].strip("`"), column)
                where = f"{path.name}, {name}, {row[0]}, {column}: {cell!r}"
                if not cell:
                    assert quantity is None, f"{where}: there is a number"
                    continue
                parts = NUMBER.fullmatch(cell.replace("**", ""))
                assert parts is not None and quantity is not None, f"{where}: no number"
                digits = len(parts["digits"] or "")
                assert parts["mean"] == f"{quantity['mean']:.{digits}f}", f"{where}: measured {quantity['mean']}"
                if parts["sd"]:
                    assert parts["sd"] == f"{quantity['sd']:.{digits}f}", f"{where}: sd {quantity['sd']}"
