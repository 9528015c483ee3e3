"""The command line's manners: one line and exit code 2 for what the user can mend, a trace for our bugs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from manymatch.cli import main


@dataclass
class Told:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Told]:
    """The command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def called(*arguments: str) -> Told:
        monkeypatch.setattr(sys, "argv", ["manymatch", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        return Told(int(left.value.code or 0), out, err)

    return called


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "dyve", "x.jsonl", "--out", "r"], "unknown method 'dyve': did you mean 'dive'?"),
        (["train", "dive", "x.jsonl", "--out", "r"], "no such file 'x.jsonl'"),
        (["train", "dive", "x.jsonl", "--out", "r", "--set", "element=8"], "did you mean 'elements'?"),
        (["train", "dive", "x.jsonl", "--out", "r", "--set", "elements=many"], "expected a whole number"),
        (["train", "dive", "x.jsonl", "--out", "r", "--set", "elements"], "expected FIELD=VALUE"),
        (["evaluate", "nowhere", "--data", "x.jsonl"], "no such file"),
        (["index", "x.jsonl", "--model", "nowhere", "--out", "i"], "no such f"),
        (["search", "nowhere", "words"], "nowhere"),
        (["methods", "dyve"], "did you mean 'dive'?"),
    ],
)
def test_a_mendable_error_is_one_line_and_exit_2(arguments: list[str], said: str, run: Callable[..., Told]) -> None:
    told = run(*arguments)
    assert told.returncode == 2, told
    assert said in told.stderr and "Traceback" not in told.stderr
    assert len([line for line in told.stderr.splitlines() if line.startswith("manymatch:")]) == 1


def test_methods_lists_and_explains(run: Callable[..., Told]) -> None:
    told = run("methods").stdout
    assert {line.split()[0] for line in told.splitlines()} >= {"cca", "dive", "vsepp"}
    told = run("methods", "dive").stdout
    assert "elements" in told and "published" in told
    from dataclasses import fields

    from manymatch.methods import method_class

    lines = {line.split()[0]: line for line in told.splitlines() if line.strip()}
    for spec in fields(method_class("dive")):
        assert len(lines[spec.name].split()) > 3, f"{spec.name} has no meaning"
    assert json.loads(run("methods", "--json").stdout)[0]["name"] == "cca"


def test_version_and_no_arguments(run: Callable[..., Told]) -> None:
    import manymatch

    assert run("--version").stdout.strip() == manymatch.__version__
    told = run()
    assert "Usage" in told.stdout + told.stderr


def test_as_a_module_it_is_the_same_command(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "manymatch", "methods", "dyve"], capture_output=True, text=True, cwd=tmp_path
    )
    assert told.returncode == 2 and told.stderr.startswith("manymatch: unknown method 'dyve'")
