"""A server of one process and of several: the address, who gets which connection, deaths, and how it stops."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from serving_fakes import Spoken, Tiny, TinyOpener, serving

from manymatch.errors import DataError, Error
from manymatch.index import Index
from manymatch.web import serving as module
from manymatch.web.connections import Connections
from manymatch.web.serving import Folders, address_of, configured, listen, serve
from manymatch.web.settings import Settings
from manymatch.web.workers import Workers

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent


def test_a_port_in_use_is_one_line_that_suggests_another():
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(DataError, match=rf"cannot listen on 127.0.0.1 port {port} \(.*in use\); try --port \d+"):
            serve(TinyOpener(), port=port)


def test_an_address_of_no_machine_is_an_error():
    with pytest.raises(DataError, match=r"cannot listen on no\.such\.host\.invalid port 0"):
        listen("no.such.host.invalid", 0)


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", "http://127.0.0.1:5"), ("0.0.0.0", "http://127.0.0.1:5"), ("::", "http://[::1]:5")],
)
def test_the_address_is_one_that_a_browser_here_can_open(host, address):
    assert address_of(host, 5) == address


def test_what_cannot_be_opened_is_told_before_anything_is_served(tmp_path):
    told: list[str] = []
    with pytest.raises(DataError, match="damaged; mend it"):
        serve(TinyOpener(damage=tmp_path), port=0, told=told.append)
    assert told == []


def test_nobody_is_believed_about_who_asks_unless_named():
    """Behind a proxy on this machine everybody comes from 127.0.0.1."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            body = f"{scope['scheme']} {scope['client'][0]}".encode()
            await send(
                {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]}
            )
            await send({"type": "http.response.body", "body": body})

    headers = "X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\n"
    with serving(app, Settings()) as (port, _, _):
        assert Spoken(port).ask(headers=headers) == (200, b"http 127.0.0.1")
    with serving(app, Settings(proxies=("127.0.0.0/8",))) as (port, _, _):
        assert Spoken(port).ask(headers=headers) == (200, b"https 9.9.9.9")


def test_strangers_write_nothing_into_the_log(capfd):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "lifespan"

    with serving(app, Settings()) as (port, _, _):
        bad = Spoken(port)
        bad.send(b"nonsense\r\n\r\n")
        assert bad.answer()[0] == 400
    assert capfd.readouterr() == ("", "")


# ---- stopping, as signals do it

SCRIPT = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
from pathlib import Path
from serving_fakes import TinyOpener
from manymatch.web.serving import serve

if __name__ == "__main__":
    serve(TinyOpener(gate=Path(sys.argv[1])), port=0, workers=int(sys.argv[2]))
    print("done")
"""


@contextmanager
def started(folder: Path, workers: int) -> Iterator[tuple[subprocess.Popen[str], int]]:
    script = folder / "server.py"
    script.write_text(SCRIPT)
    os.mkfifo(folder / "gate")
    process = subprocess.Popen(
        [sys.executable, script, folder / "gate", str(workers)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(r"searching at http://127.0.0.1:(\d+) \(Ctrl-C stops\)\n", line)
        assert found, (line, process.stderr and process.stderr.read())
        yield process, int(found[1])
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGTERM, 1), (signal.SIGINT, 1), (signal.SIGTERM, 2)])
def test_what_is_being_answered_is_finished_and_the_end_is_no_failure(tmp_path, workers, number):
    with started(tmp_path, workers) as (process, port):
        idle, busy = Spoken(port), Spoken(port)
        assert idle.ask("/ready")[0] == 200
        busy.send(b"GET /api/search?q=wait HTTP/1.1\r\nHost: localhost\r\n\r\n")
        gate = tmp_path / "gate"
        assert gate.read_text() == "waiting\n"
        process.send_signal(number)
        assert idle.is_cut()
        with pytest.raises(ConnectionError):
            Spoken(port)
        gate.write_text("go on")
        assert busy.answer()[0] == 200
        assert process.wait(20) == 0
        assert process.communicate() == ("done\n", "")
        assert not list(tmp_path.glob("manymatch-metrics-*"))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_second_signal_does_not_wait(tmp_path, workers):
    with started(tmp_path, workers) as (process, port):
        busy = Spoken(port)
        busy.send(b"GET /api/search?q=wait HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (tmp_path / "gate").read_text() == "waiting\n"
        idle = Spoken(port)
        process.send_signal(signal.SIGTERM)
        assert idle.is_cut()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert "before everything was answered" in process.communicate()[1]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="tells how long a process has computed")
def test_waiting_for_the_last_answers_takes_no_time_of_a_core(tmp_path):
    with started(tmp_path, 2) as (process, port):

        def computed() -> int:
            return sum(map(int, Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]))

        busy, idle = Spoken(port), Spoken(port)
        busy.send(b"GET /api/search?q=wait HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (tmp_path / "gate").read_text() == "waiting\n"
        process.send_signal(signal.SIGTERM)
        assert idle.is_cut()
        before = computed()
        time.sleep(1)
        assert (computed() - before) / os.sysconf("SC_CLK_TCK") < 0.3
        (tmp_path / "gate").write_text("go on")
        assert process.wait(20) == 0


def test_folders_are_opened_by_their_whole_path(tmp_path, monkeypatch):
    """A message that begins with `search: ` is not one about the folder `search`."""
    opened: list[Any] = []
    monkeypatch.setattr(Index, "open", lambda path: opened.append(path))
    monkeypatch.chdir(tmp_path)
    Folders(Path("search"), Path("where"))()
    assert opened == [str(tmp_path / "search"), str(tmp_path / "where")]


# ---- several processes


@contextmanager
def two(opener: TinyOpener, settings: Settings | None = None) -> Iterator[tuple[int, Workers]]:
    up = threading.Event()
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    workers = Workers(opener, settings or Settings(), listener, 2)
    thread = threading.Thread(target=workers.run, args=(up.set,))
    thread.start()
    try:
        assert up.wait(60)
        yield port, workers
    finally:
        workers.stop()
        thread.join()
        listener.close()


def ended(process: int) -> None:
    """Wait for the end of a process."""
    stat = Path(f"/proc/{process}/stat")
    with suppress(FileNotFoundError):
        while stat.read_text().rpartition(")")[2].split()[0] not in "ZX":
            os.sched_yield()


def who(port: int) -> int:
    """Who answers the next connection. What one that is being killed was handed is lost with it."""
    while True:
        with suppress(ConnectionError):
            return process_of(Spoken(port))


def process_of(one: Spoken) -> int:
    return int(one.json("/api/search?q=who")["query"].split()[1])


def test_connections_that_come_at_once_are_shared_out_and_workers_that_die_come_again(capfd):
    with two(TinyOpener()) as (port, workers):
        eight = [Spoken(port) for _ in range(8)]
        shared = Counter(map(process_of, eight))
        assert sorted(shared.values()) == [4, 4] and set(shared) == set(workers.processes)
        # One process brings up to date what is derived.
        assert (
            sorted(one.json("/api/search?q=who")["query"].split()[-1] for one in eight) == ["False"] * 4 + ["True"] * 4
        )
        text = eight[0].ask("/metrics")[1].decode()
        assert "manymatch_connections_open 8.0" in text
        assert 'manymatch_requests_total{method="GET",route="/api/search",status="200"} 16.0' in text

        # Those of one worker leave: the next ones go there.
        leaver = process_of(eight[0])
        for one in eight:
            if process_of(one) == leaver:
                one.close()
        while "manymatch_connections_open 5.0" not in Spoken(port).ask("/metrics")[1].decode():
            pass
        assert {process_of(Spoken(port)) for _ in range(3)} == {leaver}

        os.kill(leaver, signal.SIGKILL)
        other = who(port)
        while (new := who(port)) == other:
            pass
        assert len({leaver, other, new}) == 3
        assert re.search(
            rf"worker process {leaver} ended \(signal SIGKILL\); begun anew (at once|in \d+ s)", capfd.readouterr().err
        )


def test_a_worker_that_cannot_start_ends_everything_with_its_reason(tmp_path, capfd):
    told: list[str] = []
    with pytest.raises(Error, match=r"^tiny\.index: damaged; mend it$"):
        serve(TinyOpener(damage=tmp_path), port=0, workers=2, told=told.append)
    assert told == [] and capfd.readouterr() == ("", "")


def test_a_worker_that_cannot_start_again_leaves_the_others_alone(tmp_path, capfd):
    damage = tmp_path / "damage"
    with two(TinyOpener(damage=damage)) as (port, workers):
        damage.touch()
        first, second = workers.processes
        os.kill(first, signal.SIGKILL)
        said = ""
        while "damaged" not in said:
            assert who(port) == second
            said += capfd.readouterr().err
        assert re.search(r"serve: tiny.index: damaged; mend it; begun anew in \d s", said)


def test_workers_end_when_their_parent_is_killed(tmp_path):
    with started(tmp_path, 2) as (process, port):
        both = [Spoken(port), Spoken(port)]
        workers = list(map(process_of, both))
        assert len(set(workers)) == 2 and list(tmp_path.glob("manymatch-metrics-*/*.db"))
        process.kill()
        assert all(one.is_cut() for one in both)
        for worker in workers:
            ended(worker)
        assert not list(tmp_path.glob("manymatch-metrics-*"))


def test_the_browser_is_opened_where_there_is_a_screen(monkeypatch):
    opened: list[str] = []
    monkeypatch.setattr(module.webbrowser, "open", opened.append)
    monkeypatch.setattr(module.sys, "platform", "linux")
    for variable in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(variable, raising=False)
    with listen("127.0.0.1", 0) as listener:
        module._announce("127.0.0.1", listener, True, print)
        assert opened == []
        monkeypatch.setenv("DISPLAY", ":0")
        module._announce("127.0.0.1", listener, True, print)
        assert opened == [f"http://127.0.0.1:{listener.getsockname()[1]}"]


def test_indexes_are_made_ready_and_kept_up():
    first, second = Tiny(), Tiny()
    module.warmed(first, second)  # type: ignore[arg-type]
    assert first.kept and second.kept


def test_the_headers_name_no_software():
    config = configured(Tiny(), Settings(), Connections(Settings()))  # type: ignore[arg-type]
    assert not config.server_header and config.forwarded_allow_ips == []
