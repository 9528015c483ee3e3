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


ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_and_option_of_a_page_exists(page: Path) -> None:
    from typer.main import get_command

    from manymatch.cli import app

    known = get_command(app).commands  # type: ignore[attr-defined]
    text = page.read_text(encoding="utf-8")
    lines = re.findall(r"(?m)^ {4}(?:.*&& )?manymatch ([a-z][^\n]*(?:\\\n[^\n]*)*)", text)
    for line in [*lines, *re.findall(r"`manymatch ([a-z][^`]*)`", text)]:
        name, *rest = line.split()
        assert name in known, f"{page.name}: manymatch {line}"
        command = known[name]
        while hasattr(command, "commands") and rest:
            below = rest.pop(0)
            assert below in command.commands, f"{page.name}: manymatch {line}"
            command = command.commands[below]
        options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        asked = {word.split("=")[0] for word in rest if re.fullmatch(r"--?[a-z][a-z-]*(=.*)?", word)}
        assert asked <= options | {"--help"}, f"{page.name}: {asked - options} of manymatch {line}"


@pytest.mark.parametrize(
    "command",
    [
        *(
            "demo",
            "check",
            "convert",
            "features",
            "train",
            "join",
            "evaluate",
            "compare",
            "report",
            "index",
            "search",
            "serve",
        ),
        *("join", "key", "methods", "import-checkpoint"),
    ],
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
