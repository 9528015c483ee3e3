"""README's tour and commands are true: the Python block runs as printed, every command it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_tour_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(block, "README.md", "exec"), names)
    assert names["scores"].shape == (1, 5)  # type: ignore[attr-defined]
    assert "RSUM" in capsys.readouterr().out


def test_every_command_in_the_readme_exists() -> None:
    from manymatch.cli import app

    named = set(re.findall(r"(?m)^ {4}(?:.*&& )?manymatch ([a-z][a-z-]+)", README))
    named |= set(re.findall(r"`manymatch ([a-z][a-z-]+)", README))
    known = {c.name or c.callback.__name__ for c in app.registered_commands}  # type: ignore[union-attr]
    assert named and named <= known, named - known


@pytest.mark.parametrize(
    "command", ["demo", "check", "train", "evaluate", "index", "search", "serve", "methods", "import-checkpoint"]
)
def test_help_teaches(command: str) -> None:
    from manymatch.cli import app

    told = CliRunner().invoke(app, [command, "--help"])
    assert told.exit_code == 0 and "Usage" in told.output and len(told.output.splitlines()) > 5


def test_links_lead_somewhere() -> None:
    root = Path(__file__).parents[1]
    for page in [root / "README.md", *root.glob("*.md"), *root.glob("docs/*.md")]:
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
