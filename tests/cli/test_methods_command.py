"""`manymatch methods NAME` explains every field, in columns that hold whatever the fields are called."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import fields

import pytest

from manymatch.cli import main
from manymatch.cli.methods import field_meanings
from manymatch.methods import method_class, methods
from manymatch.methods.composite import Composite
from manymatch.training import TrainConfig
from manymatch.training.member_settings import SHARED

EACH = pytest.mark.parametrize("name", methods())


@pytest.fixture
def explain(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[str], list[str]]:
    def called(name: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", ["manymatch", "methods", name])
        with pytest.raises(SystemExit) as left:
            main()
        assert not left.value.code
        return capsys.readouterr().out.splitlines()

    return called


@EACH
def test_every_field_has_a_line_with_its_meaning(name: str, explain: Callable[[str], list[str]]) -> None:
    lines, cls = explain(name), method_class(name)
    tables = [(cls, "field")] if cls.fitted else [(cls, "field"), (TrainConfig, "training")]
    for holder, title in tables:
        (head,) = [n for n, line in enumerate(lines) if line.split()[:2] == [title, "default"]]
        starts = [lines[head].index(f" {column}") + 1 for column in ("default", "meaning")]
        meanings = field_meanings(holder)
        listed = [spec for spec in fields(holder) if spec.name not in getattr(holder, "fixed", {})]
        if issubclass(cls, Composite) and holder is TrainConfig:
            listed = [spec for spec in listed if spec.name in SHARED]
        for line, spec in zip(lines[head + 1 :], listed, strict=False):
            assert line.startswith(f"{spec.name} ")
            # Columns start where the head says, after a blank.
            assert all(line[start - 1] == " " and line[start] != " " for start in starts[1:]), line
            assert line[starts[1] :] == meanings[spec.name] and len(meanings[spec.name].split()) > 2, spec.name


@EACH
def test_presets_show_what_they_change(name: str, explain: Callable[[str], list[str]]) -> None:
    lines, cls = explain(name), method_class(name)
    (head,) = [line for line in lines if line.startswith("field ")]
    for preset, changes in cls.presets.items():
        start = head.index(f" {preset} ") + 1
        for spec in (one for one in fields(cls) if one.name not in cls.fixed):
            (line,) = [each for each in lines if each.startswith(f"{spec.name} ")][:1]
            value = changes.get(spec.name, spec.default)
            shown = str(value) if value != spec.default else ""
            assert line[start:].startswith(shown or " "), f"{preset}.{spec.name}"


def test_on_a_terminal_meanings_are_wrapped(
    explain: Callable[[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for columns in (80, 130):
        monkeypatch.setenv("COLUMNS", str(columns))
        lines = explain("dive")
        assert max(len(line) for line in lines[4:] if not line.startswith("change any")) <= columns
        assert any("what text slots attend to" in line for line in lines)


def test_a_composite_says_its_members(explain: Callable[[str], list[str]]) -> None:
    lines = explain("manymatch")
    assert "linear: cca_tuned" in lines and any(line.startswith("sets: dive with elements=4") for line in lines)
    assert not any(line.startswith("epochs ") for line in lines), "which member's?"
    assert lines[-1] == "change any with --set FIELD=VALUE", "it has no presets"
