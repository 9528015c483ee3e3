"""docs/data.md is true: every example runs as it stands, and every format has one."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from manymatch.cli import app
from manymatch.data.formats import formats

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"(?ms)^## (.*?)\n(.*?)(?=^## |\Z)", PAGE))
EXAMPLES = [
    pytest.param(heading, example, id=f"{heading}-{n}")
    for heading, text in SECTIONS.items()
    for n, example in enumerate(re.findall(r"(?ms)^```sh\n(.*?)^```$", text))
]


def run(example: str) -> list[str]:
    """What the commands print. A file is `cat > NAME <<'END'`, Python is `python - <<'END'`, both up to a line END."""
    told = []
    lines = iter(example.splitlines())
    for line in lines:
        if line.endswith("<<'END'"):
            text = "".join(f"{each}\n" for each in iter(lambda: next(lines), "END"))
            command = shlex.split(line.removesuffix("<<'END'"))
            if command[0] == "cat":
                Path(command[2]).write_text(text, encoding="utf-8")
            else:
                assert command == ["python", "-"]
                exec(compile(text, "docs/data.md", "exec"), {})
        elif line.startswith("manymatch "):
            result = CliRunner().invoke(app, shlex.split(line)[1:])
            assert result.exit_code == 0, f"{line}: {result.output} {result.exception!r}"
            told.append(result.output)
        else:
            subprocess.run(line, shell=True, check=True)
    return told


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "photos").mkdir()
    for name, colour in {"beach": "yellow", "dog": "brown", "street": "grey"}.items():
        Image.new("RGB", (32, 24), colour).save(tmp_path / "photos" / f"{name}.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("heading", "example"), EXAMPLES)
def test_every_example_runs_and_finds_nothing_wrong(photos: Path, heading: str, example: str) -> None:
    assert len(example.splitlines()) <= 12
    told = run(example)
    assert told
    name = re.search(r"\(`(\w+)`\)$", heading)
    for output in told:
        if output.startswith("format"):
            assert re.search(r"(?m)^problems\s+0$", output), output
            if name is not None:
                (title,) = (each.title for each in formats() if each.name == name[1])
                assert " ".join(output.splitlines()[0].split()) == f"format {title}"
    assert name is None or any(output.startswith("format") for output in told), "it shows what check says"


@pytest.mark.parametrize("name", [each.name for each in formats()])
def test_every_format_has_its_section_with_an_example(name: str) -> None:
    headings = [heading for heading in SECTIONS if heading.endswith(f"(`{name}`)")]
    assert len(headings) == 1, name
    assert "```sh\n" in SECTIONS[headings[0]]
    anchor = re.sub(r"[^a-z0-9 -]", "", headings[0].lower()).replace(" ", "-")
    assert f"| [`{name}`](#{anchor})" in PAGE
