"""`manymatch serve`: what its options mean, the address it prints, and how it stops."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from manymatch.cli import app
from manymatch.cli.serve import run
from manymatch.errors import DataError
from manymatch.web import serving
from manymatch.web.settings import Settings

FAKES = Path(__file__).parents[1] / "web"
SCRIPT = f"""
import sys
sys.path.insert(0, {str(FAKES)!r})
from serving_fakes import Tiny
from manymatch.cli.serve import run
run(Tiny(), port=0)
print("done")
"""


@pytest.fixture
def served(monkeypatch, tmp_path):
    """Calls the command, and says what the server was asked for in place of starting it."""
    monkeypatch.chdir(tmp_path)
    Path("k.json").touch()
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(serving, "serve", lambda *given: asked.append(given))

    def call(*options: str) -> dict[str, Any]:
        CliRunner().invoke(app, ["serve", "X", *options], catch_exceptions=False, standalone_mode=False)
        names = ("opener", "settings", "host", "port", "workers", "open_browser", "told")
        return dict(zip(names, asked.pop(), strict=True))

    return call


def test_by_default_this_machine_alone_is_let_in_and_by_its_own_names(served):
    asked = served()
    assert asked["opener"] == serving.Folders(Path("X"))
    assert asked["settings"] == Settings(hosts=("localhost", "127.0.0.1", "[::1]"))
    assert (asked["host"], asked["port"], asked["workers"], asked["open_browser"]) == ("127.0.0.1", 8421, 1, False)


def test_every_option_reaches_the_server(served):
    options = (
        "--compare Y --host ::1 --port 0 --workers 3 --key-file k.json --public --title Birds --name a.org "
        "--name b.org --origin https://c.org --proxy 127.0.0.1 --proxy 10.0.0.0/8 --rate 2.5 "
        "--searches 4 --max-upload 0.5 --open"
    )
    asked = served(*options.split())
    assert asked["opener"] == serving.Folders(Path("X"), Path("Y"))
    assert (asked["host"], asked["port"], asked["workers"], asked["open_browser"]) == ("::1", 0, 3, True)
    assert asked["settings"] == Settings(
        title="Birds",
        upload_bytes=500_000,
        rate=2.5,
        searches=4,
        keys=Path("k.json"),
        public=True,
        hosts=("localhost", "127.0.0.1", "[::1]", "a.org", "b.org"),
        origins=("https://c.org",),
        proxies=("127.0.0.1", "10.0.0.0/8"),
    )


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "pictures.example.org"])
def test_whoever_lets_others_in_says_who_may_read(served, host):
    with pytest.raises(DataError, match=rf"--host {host} lets other machines in.*--key-file F .*or --public") as said:
        served("--host", host)
    assert "\n" not in str(said.value)
    assert served("--host", host, "--public")["settings"].hosts == ()
    assert served("--host", host, "--key-file", "k.json", "--name", "a.org")["settings"].hosts == (
        "localhost",
        "127.0.0.1",
        "[::1]",
        "a.org",
    )


def test_a_key_file_that_is_not_there_is_to_be_made(served):
    with pytest.raises(DataError, match=r"--key-file no.json: no such file; make it with: manymatch key new --file no"):
        served("--key-file", "no.json")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost", "LOCALHOST"])
def test_addresses_of_this_machine_alone(served, host):
    assert served("--host", host)["settings"].keys is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--rate", "0"), "--rate 0: expected requests a second"),
        (("--rate", "nan"), "--rate nan: expected"),
        (("--max-upload", "-1"), "--max-upload -1: expected megabytes"),
        (("--proxy", "nginx"), "--proxy 'nginx': expected an address"),
    ],
)
def test_options_out_of_range(served, options, said):
    with pytest.raises(DataError, match=said):
        served(*options)


def test_help_says_how_to_begin():
    told = CliRunner().invoke(app, ["serve", "--help"]).output
    for word in ("manymatch key new", "--workers", "0.0.0.0", "/docs", "503", "429", "Repeat it"):
        assert word in told


def test_an_index_that_is_not_there_is_one_line(tmp_path):
    told = subprocess.run(
        [sys.executable, "-m", "manymatch", "serve", tmp_path / "no.index", "--port", "0"],
        capture_output=True,
        text=True,
    )
    assert told.returncode == 2 and told.stdout == ""
    assert told.stderr.startswith("manymatch: ") and told.stderr.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_open_index_is_served_at_the_printed_address_until_stopped(number):
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        address = said.split()[2]
        assert address.startswith("http://127.0.0.1:") and "Ctrl-C" in said
        assert httpx.get(f"{address}/health").json() == {"status": "ok"}
        assert httpx.get(f"{address}/api/info", headers={"Host": "evil.example"}).status_code == 400
        process.send_signal(number)
        out, errors = process.communicate(timeout=20)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, out, errors) == (0, "done\n", "")


def test_a_port_in_use_is_one_line_that_suggests_another():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            DataError, match=rf"cannot listen on 127.0.0.1 port {port} \(.*in use\); try --port \d+"
        ) as said:
            run(None, port=port)
    assert "\n" not in str(said.value)


def test_an_open_index_is_not_served_to_others_by_mistake():
    with pytest.raises(DataError, match="lets other machines in"):
        run(None, "0.0.0.0", 0)
