"""What README and docs tell of a study is what its results.json holds: every number of every table that names one."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"
NAMED = re.compile(r"<!-- (results|claims): (\S+) -->")
"""Stands above a table: what it holds, and the folder of docs/results that it is taken from."""

NUMBER = re.compile(r"(?P<mean>-?\d+(?:\.(?P<digits>\d+))?)(?: ± (?P<sd>\d+(?:\.\d+)?))?")


def tables(path: Path, kind: str) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Study, head and rows of each table of a kind."""
    lines = path.read_text("utf-8").splitlines()
    for number, line in enumerate(lines):
        found = NAMED.fullmatch(line.strip())
        if found and found[1] == kind:
            below = lines[number + 1 :]
            start = next(n for n, each in enumerate(below) if each.startswith("|"))
            assert not any(each.strip() for each in below[:start]), f"{path.name}: words between {line} and its table"
            stop = next((n for n, each in enumerate(below) if n > start and not each.startswith("|")), len(below))
            cells = [[cell.strip() for cell in each.strip("|").split("|")] for each in below[start:stop]]
            yield found[2], cells[0], cells[2:]


def told(study: dict[str, Any], row: str, head: str) -> dict[str, Any] | None:
    """The quantity of a head such as "RSUM" or "RSUM, bank"."""
    name, _, state = head.partition(", ")
    lines = [each for each in study["rows"] if each["row"] == row]
    assert lines, f"no row {row}"
    line = next((each for each in lines if each["state"] == (state or "raw")), None)
    return None if line is None else line["quantities"].get(name)


@pytest.mark.parametrize("path", [ROOT / "README.md", ROOT / "docs" / "results.md"], ids=lambda path: path.name)
def test_tables_say_what_was_measured(path: Path) -> None:
    found = list(tables(path, "results"))
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


def test_claims_are_answered_as_they_were() -> None:
    found = list(tables(ROOT / "docs" / "results.md", "claims"))
    assert found, "no table of claims names its study"
    for name, head, rows in found:
        claims = json.loads((RESULTS / name / "results.json").read_text("utf-8"))["claims"]
        assert head == ["claim", "answer", "of", "difference", "95 %"]
        assert len(rows) == len(claims), f"{name}: {len(claims)} claims were asked"
        for cells, claim in zip(rows, claims, strict=True):
            gap = claim["difference"]
            largest = max(abs(gap[key]) for key in ("low", "value", "high"))
            digits = 2 if largest >= 0.1 else 1 - math.floor(math.log10(largest))
            low, value, high = (f"{gap[key]:.{digits}f}" for key in ("low", "value", "high"))
            assert cells == [claim["text"], claim["answer"], claim["metric"], value, f"{low} to {high}"], name
