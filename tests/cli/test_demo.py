"""The demo in small: the whole line once, and a second call that goes on instead of starting over."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import CliRunner

from manymatch.cli import app


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    # The package's attribute `demo` is the command; its module is found by name.
    module = import_module("manymatch.cli.demo")
    monkeypatch.setattr(module, "_IMAGES", 200)
    monkeypatch.setattr(module, "_SIZE", 32)
    monkeypatch.setattr(module, "_EPOCHS", {"dive": 1, "vsepp": 1})
    monkeypatch.setattr(module, "_SETTINGS", {"dim": 16, "word_dim": 8, "batch": 32, "least_count": 1})


def call(folder: Path) -> str:
    told = CliRunner().invoke(app, ["demo", "--no-serve", "--dir", str(folder)], catch_exceptions=False)
    assert told.exit_code == 0
    return told.output


def test_the_whole_line_and_a_second_call(tmp_path: Path) -> None:
    first = call(tmp_path)
    for said in ("own captions", "every match", "log circular variance", "one seed proves nothing", "Done in"):
        assert said in first
    assert len(re.findall(r"is true of \d+ of 20 pictures", first)) == 3
    assert len(re.findall(r"^   \d\. -?\d\.\d{3}  (?:right|wrong)  toy-", first, re.MULTILINE)) == 15
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.name in ("captions.jsonl", "model.safetensors")}
    second = call(tmp_path)
    assert second.count("already") == 4 and "epoch 1/1" not in second
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps


def test_it_goes_on_where_training_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from manymatch.methods import Model

    step = Model.training_step
    seen = 0

    def stops(self: Model, *arguments: object) -> object:
        nonlocal seen
        seen += 1
        if seen == 3:
            raise KeyboardInterrupt
        return step(self, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Model, "training_step", stops)
        told = CliRunner().invoke(app, ["demo", "--no-serve", "--dir", str(tmp_path)])
        assert told.exit_code != 0
    assert "Done in" in call(tmp_path)
