"""docs/methods.md names every method, every preset, and files that are there."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import manymatch
from manymatch.methods import method, method_class, methods

PAGE = (Path(__file__).parents[2] / "docs" / "methods.md").read_text(encoding="utf-8")
SOURCE = Path(manymatch.__file__).parent


def rows_under(heading: str) -> list[list[str]]:
    """Cells of every row of every table under a heading (all up to the next one)."""
    part = PAGE.partition(heading)[2].partition("\n## ")[0]
    return [[c.strip() for c in line.strip("|").split(" | ")] for line in part.splitlines() if line.startswith("|")]


def test_every_method_has_a_row_with_its_presets() -> None:
    rows = {row[0].strip("` |"): row for row in rows_under("# Methods\n") if row[0].lstrip("| ").startswith("`")}
    assert sorted(rows) == methods()
    for name, row in rows.items():
        presets = re.findall(r"`(\w+)`", " ".join(row[1:]))
        assert presets == list(method_class(name).presets), name


def test_every_ablation_is_a_setting() -> None:
    part = PAGE.partition("## Ablations")[2].partition("\n## ")[0]
    tables = re.split(r"^\| `(\w+)` \| \|$", part, flags=re.M)
    assert tables[1::2] == ["hrem", "dive", "msrm"]
    for name, text in zip(tables[1::2], tables[2::2], strict=True):
        found = re.findall(r"`(\w+)=(\w+)`", text)
        assert found
        for field, value in found:
            made = method(name, **{field: value})
            default = {spec.name: spec.default for spec in fields(made)}[field]
            assert getattr(made, field) != default, field


def test_every_switch_is_where_the_page_says() -> None:
    switches = rows_under("## Where the authors'")[2:]
    assert len(switches) > 10
    for row in switches:
        text = (SOURCE / row[-1].strip("` |")).read_text(encoding="utf-8")
        assert '"released"' in text or "released:" in text or 'mode == "paper"' in text, row
