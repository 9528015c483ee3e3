"""docs/serve.md is true: its calls run, their answers have the shape shown, its tables say what holds."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from typer.main import get_command

from manymatch.cli import app
from manymatch.index import Index
from manymatch.web.problems import TYPES
from manymatch.web.routes.conditions import LONGEST, MOST
from manymatch.web.settings import Settings
from served import Served, copied, keyed, served, small_index

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```\n", PAGE, re.DOTALL)
CALLS = [block for kind, block in BLOCKS if kind == "sh" and "curl " in block]
SHOWN = {block: BLOCKS[n + 1][1] for n, (_, block) in enumerate(BLOCKS[:-1]) if BLOCKS[n + 1][0] == "json"}
(KNOWN_ID,) = re.findall(r"(?m)^ID=(\S+)", PAGE)

# Shows what was refused, and counts it as a failure.
CURL = 'curl() { command curl --silent --show-error --fail-with-body --max-time 20 "$@" && echo; }\n'


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    return small_index(folder, folder / "found")


@pytest.fixture(scope="module")
def work(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the examples are run: there is a photo."""
    folder = tmp_path_factory.mktemp("work")
    shutil.copy(small.parent / "found" / KNOWN_ID, folder / "photo.jpg")
    return folder


@pytest.fixture(scope="module")
def key(work: Path) -> str:
    return keyed(work / "keys.json", "--write")


@pytest.fixture(scope="module")
def server(small: Path, work: Path, key: str) -> Iterator[Served]:
    with served(small, "--key-file", work / "keys.json", "--public") as running:
        yield running


def ran(script: str, work: Path, **names: str) -> str:
    if shutil.which("curl") is None:
        pytest.skip("curl is not here: the calls of docs/serve.md are not run")
    lines = f"set -euo pipefail\n{CURL}{script}"
    told = subprocess.run(
        ["bash", "-c", lines], cwd=work, env=os.environ | names, capture_output=True, text=True, timeout=120
    )
    assert told.returncode == 0, f"{script}\n{told.stdout}\n{told.stderr}"
    return told.stdout


def shape(value: Any) -> Any:
    """What kind of thing it is: null may stand for any, and of a list the first tells."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def fits(shown: Any, found: Any) -> bool:
    if "NoneType" in (shown, found) or [] in (shown, found):
        return True
    if isinstance(shown, dict) and isinstance(found, dict):
        return shown.keys() == found.keys() and all(fits(shown[name], found[name]) for name in shown)
    if isinstance(shown, list) and isinstance(found, list):
        return fits(shown[0], found[0])
    return bool(shown == found)


def test_the_page_has_calls_of_every_kind() -> None:
    for part in (
        "where=", "like=", "unlike=", "search/image", "search/many", "meanings=", "group_by=", "confident=", "explain=",
        "/elements", "/picture", "/thumbnail", "-X PUT", "-X DELETE", "/api/info", "/health", "/ready", "/metrics",
    ):  # fmt: skip
        assert any(part in block for block in CALLS), part


@pytest.mark.parametrize("block", CALLS, ids=lambda block: block.split("\n")[0][:60])
def test_a_call_is_answered(block: str, server: Served, work: Path, key: str) -> None:
    if "DELETE" in block:
        ran(next(other for other in CALLS if "-X PUT" in other), work, URL=server.url, KEY=key)
    if "-X PUT" in block:
        # Left behind by the test before, it would be replaced.
        subprocess.run(
            ["curl", "-s", "-X", "DELETE", f"{server.url}/api/items/new.jpg", "-H", f"Authorization: Bearer {key}"],
            capture_output=True,
        )
    answers = ran(block, work, URL=server.url, ID=KNOWN_ID, KEY=key).splitlines()
    assert answers
    if block in SHOWN:
        assert fits(shape(json.loads(SHOWN[block])), shape(json.loads(answers[0]))), answers[0]
    for answer in answers if "/metrics" not in block and "-o " not in block else ():
        found = json.loads(answer)
        assert "error" not in found
        assert found.get("hits", found) or "confident" in block


def test_pictures_are_pictures(server: Served, work: Path, small: Path) -> None:
    (block,) = [block for block in CALLS if "/thumbnail" in block]
    ran(block, work, URL=server.url, ID=KNOWN_ID)
    assert (work / "picture.png").read_bytes() == (small.parent / "found" / KNOWN_ID).read_bytes()
    assert (work / "thumbnail.jpg").read_bytes().startswith(b"\xff\xd8")


def test_the_python_runs(
    server: Served, work: Path, key: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = [block for kind, block in BLOCKS if kind == "python"]
    monkeypatch.chdir(work)
    exec(compile(block.replace("http://127.0.0.1:8421", server.url), "docs/serve.md", "exec"), {"KEY": key})
    assert len(capsys.readouterr().out.splitlines()) == 5


def test_the_metrics_named_are_told(server: Served, work: Path) -> None:
    told = ran(next(block for block in CALLS if "/metrics" in block), work, URL=server.url)
    text = told[told.index("# HELP") :]
    lines = set(re.findall(r"(?m)^(?:# TYPE )?(manymatch_\w+)", text))
    assert len(list(text_string_to_metric_families(text))) > 5
    named = set(re.findall(r"manymatch_[a-z_]+", PAGE)) - {"manymatch_search_seconds_bucket"}
    assert len(named) > 5 and named <= lines, named - lines


def test_the_backup_is_an_index(small: Path, tmp_path: Path) -> None:
    if shutil.which("sqlite3") is None:
        pytest.skip("the command sqlite3 is not here: the backup of docs/serve.md is not run")
    (block,) = [block for kind, block in BLOCKS if kind == "sh" and ".backup" in block]
    copied(small, tmp_path / "photos.index")
    picture = (small.parent / "found" / KNOWN_ID).read_bytes()
    with Index.open(tmp_path / "photos.index") as index:
        index.put_picture("put", picture, ["one that was put"], {})
        # Open, as it is while a server runs: what was put lies in the write-ahead log.
        ran(f'manymatch() {{ "$PYTHON" -m manymatch "$@"; }}\n{block}', tmp_path, PYTHON=sys.executable)
        expected = index.search("a red star", k=20)
    with Index.open(tmp_path / "backup.index") as backup:
        assert [hit.id for hit in backup.search("a red star", k=20)] == [hit.id for hit in expected]
        assert backup.picture("put") == picture


def commands() -> list[list[str]]:
    """Every `manymatch ...` of a block, with what is before and behind it left out."""
    lines = [line for kind, block in BLOCKS if kind == "sh" for line in block.replace("\\\n", " ").splitlines()]
    found = [re.search(r"^(?:\S*/bin/)?manymatch ([^#]*)", line) for line in lines]
    found += [re.search(r"^docker run .* manymatch ([a-z][^#]*)", line) for line in lines]
    return [re.findall(r'"[^"]*"|\S+', one[1]) for one in found if one]


def test_the_commands_exist() -> None:
    assert len(commands()) > 7
    for words in commands():
        given = [word.strip('"') for word in words]
        command: Any = get_command(app)
        while hasattr(command, "commands"):
            assert given and given[0] in command.commands, words
            command, given = command.commands[given[0]], given[1:]
        # Refuses an option that does not exist.
        command.make_context("manymatch", given)


def test_the_options_named_exist() -> None:
    serve: Any = get_command(app).commands["serve"]  # type: ignore[attr-defined]
    known = {option for parameter in serve.params for option in parameter.opts}
    prose = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
    others = {"--json", "--data-urlencode", "--repair"}
    named = set(re.findall(r"--[a-z][a-z-]+", prose)) - others
    assert len(named) > 7 and named <= known, named - known


def test_the_errors_are_those_there_are() -> None:
    rows = re.findall(r"(?m)^\| (\d{3}) \| ([\w, ]+) \|", PAGE)
    assert {int(status): tuple(types.split(", ")) for status, types in rows} == dict(TYPES)


def test_the_limits_are_those_there_are() -> None:
    is_, table = Settings(), PAGE[PAGE.index("### Limits") : PAGE.index("Overload is told")]
    for row in (
        f"| a body with a picture | {is_.upload_bytes // 10**6} MB |",
        f"| any other body | {is_.body_bytes // 10**6} MB |",
        f"| a picture | {is_.pixels // 10**6} megapixels |",
        f"| a query | {is_.query_length:,} characters |",
        f"| {is_.most}; {is_.deepest:,} |",
        f"| queries in a batch | {is_.queries} |",
        f"| {MOST}; {LONGEST:,} characters |",
        f"in each worker process | {is_.searches} |",
        f"| {is_.patience:.0f} s |",
        f"idle | {is_.idle:.0f} s |",
    ):
        assert row in table, row
    assert is_.rate is None and "| requests a second of one client | none |" in table
    assert f"before the server's {is_.idle:.0f} seconds" in PAGE.replace("\n", " ")
