"""The method of docs/extend.md is one file that works: it trains, saves, loads and indexes."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import manymatch as mm
import manymatch.methods as room
from manymatch.data.pairs import Pairs
from manymatch.training import TrainConfig, train

PAGE = Path(__file__).parent.parent / "docs" / "extend.md"


def test_a_method_is_one_file(featured: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    (tmp_path / "two_views.py").write_text(code, encoding="utf-8")
    monkeypatch.setattr(room, "__path__", [*room.__path__, str(tmp_path)])
    try:
        assert "two_views" in room.methods()
        small = {"dim": 16, "word_dim": 8, "hidden": 8, "batch": 32, "least_count": 1}
        model = mm.method("two_views", alpha="8", **small).build(featured)
        train(model, featured, out=tmp_path / "run", config=TrainConfig(epochs=2), say=None)
        index = mm.Index.build(mm.load(tmp_path / "run"), featured.take(range(10)), tmp_path / "x")
        assert len(list(index.search("a red circle", k=3))) == 3
        index.close()
    finally:
        sys.modules.pop("manymatch.methods.two_views", None)


def test_every_function_in_the_table_is_one_of_the_contract() -> None:
    for name in re.findall(r"^\| `(\w+)", PAGE.read_text(encoding="utf-8"), re.M):
        assert hasattr(room.Method, name), name
