"""Connections over real sockets: what takes too long is cut off, and everybody else is answered."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from typing import Any

import pytest
from serving_fakes import Spoken, serving

from manymatch.web.connections import LEFT, Connections, raise_open_files
from manymatch.web.settings import Settings

SOON = Settings(patience=0.2, idle=0.2)
LATE = Settings(patience=60.0, idle=60.0)
LARGE = 30_000_000


async def app(scope: Any, receive: Any, send: Any) -> None:
    """`/large` answers much; `/wait` waits until the client has left; anything else says its path."""
    if scope["type"] != "http":
        return
    body = b"x" * LARGE if scope["path"] == "/large" else scope["path"].encode()
    if scope["path"] == "/wait":
        gone = asyncio.Event()
        scope["extensions"][LEFT].append(gone.set)
        await gone.wait()
        seen.set()
        return
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


seen = threading.Event()


def cut(metrics: Counted) -> list[str]:
    return metrics.reasons


class Counted:
    """In place of `Metrics`."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.open = 0

    def opened(self) -> None:
        self.open += 1

    def closed(self) -> None:
        self.open -= 1

    def cut(self, reason: str) -> None:
        self.reasons.append(reason)


@pytest.fixture
def soon():
    metrics = Counted()
    with serving(app, SOON, Connections(SOON, metrics)) as (port, _, _):
        yield port, metrics


@pytest.fixture(scope="module")
def late():
    with serving(app, LATE) as (port, _, _):
        yield port


@pytest.mark.parametrize("begun", [b"", b"G", b"GET / HTTP/1.1\r\nHost: a\r\nX-"], ids=["nothing", "a letter", "half"])
def test_headers_that_do_not_come(soon, begun):
    port, metrics = soon
    slow = Spoken(port)
    slow.send(begun)
    assert slow.is_cut()
    assert cut(metrics) == ["slow"]


def test_headers_that_come_letter_by_letter_are_cut_off_all_the_same(soon):
    port, metrics = soon
    slow = Spoken(port, timeout=0.02)
    slow.send(b"GET / HTTP/1.1\r\nX-A: ")
    began = time.monotonic()
    with pytest.raises(ConnectionError):
        while time.monotonic() - began < 10:
            slow.send(b"a")
            if slow.is_cut():
                raise ConnectionError
    assert cut(metrics) == ["slow"]


def test_idle_after_an_answer(soon):
    port, _ = soon
    idle = Spoken(port)
    assert idle.ask("/a") == (200, b"/a")
    assert idle.is_cut()


def test_idle_with_empty_lines_in_between(soon):
    """They are no request, but they reset the timer of the library."""
    port, metrics = soon
    idle = Spoken(port, timeout=0.02)
    assert idle.ask("/a")[0] == 200
    began = time.monotonic()
    with pytest.raises(ConnectionError):
        while time.monotonic() - began < 10:
            idle.send(b"\r\n")
            if idle.is_cut():
                raise ConnectionError
    assert cut(metrics) == ["idle"]


def test_an_answer_that_is_not_taken_up(soon):
    port, metrics = soon
    stuck = Spoken(port, buffer=4096)
    stuck.send(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
    while not metrics.reasons:
        assert Spoken(port).ask("/others") == (200, b"/others")
    assert "stuck" in cut(metrics)
    with pytest.raises(ConnectionError):
        stuck.answer()


def test_an_answer_that_is_taken_up_slowly_arrives(soon):
    """It takes several times as long as the patience, but always goes on."""
    port, metrics = soon
    slow = Spoken(port, buffer=65536)
    slow.send(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
    began, read, pause = time.monotonic(), 0, threading.Event()
    while read < LARGE:
        data = slow.socket.recv(1_000_000)
        assert data
        read += len(data)
        if time.monotonic() - began < 4 * SOON.patience:
            pause.wait(0.01)
    assert "stuck" not in cut(metrics)


def test_answers_that_are_not_taken_up_hold_so_much_memory(monkeypatch):
    metrics = Counted()
    monkeypatch.setattr("manymatch.web.connections._HELD", 2 * LARGE)
    with serving(app, LATE, Connections(LATE, metrics)) as (port, _, _):
        stuck = []
        for _ in range(4):
            stuck.append(Spoken(port, buffer=4096))
            stuck[-1].send(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
            # It was written once its first bytes are here.
            stuck[-1].socket.recv(1)
        with pytest.raises(ConnectionError):
            stuck[0].answer()
        assert Spoken(port).ask("/others") == (200, b"/others")
        assert set(cut(metrics)) == {"memory"}
        assert len(stuck[3].socket.recv(1000)) == 1000


def test_a_body_that_nobody_reads_any_more(soon):
    port, metrics = soon
    slow = Spoken(port)
    slow.send(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nx")
    assert slow.answer() == (200, b"/a")
    assert slow.is_cut()
    assert cut(metrics) in (["slow"], [])


def test_the_rest_of_such_a_body_makes_room_for_the_next_request(late):
    one = Spoken(late)
    one.send(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nx")
    assert one.answer() == (200, b"/a")
    one.send(b"yz")
    assert one.ask("/b") == (200, b"/b")


def test_requests_sent_at_once_are_answered_in_order(late):
    one = Spoken(late)
    one.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(20)))
    assert [one.answer()[1] for _ in range(20)] == [b"/%d" % n for n in range(20)]
    assert one.ask("/last")[1] == b"/last"


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nX-A: " + b"a" * 70_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X-A: a\r\n" * 20_000,
    ],
    ids=["header", "path", "many"],
)
def test_headers_without_end(late, sent):
    long = Spoken(late)
    long.send(sent)
    status, body = long.answer()
    assert status == 400
    assert (
        json.loads(body)["error"]["type"] == "BadRequest"
        and "longer than 65536" in json.loads(body)["error"]["message"]
    )


@pytest.mark.parametrize(
    "sent",
    [
        b"hello\r\n\r\n",
        b"GET nothing HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_no_request_is_answered_in_the_shape_of_all_errors(late, sent):
    bad = Spoken(late)
    bad.send(sent)
    status, body = bad.answer()
    assert status == 400 and json.loads(body)["error"]["type"] == "BadRequest"
    assert bad.is_cut()


def test_where_there_are_too_many_the_one_that_waits_longest_makes_room():
    metrics = Counted()
    with serving(app, LATE, Connections(LATE, metrics, most=5)) as (port, connections, _):
        waiting = [Spoken(port) for _ in range(5)]
        for one in waiting:
            assert one.ask("/")[0] == 200
        assert waiting[0].ask("/again")[0] == 200
        new = Spoken(port)
        assert new.ask("/new") == (200, b"/new")
        assert waiting[1].is_cut()
        assert [one.ask("/")[0] for one in (waiting[0], *waiting[2:], new)] == [200] * 5
        assert len(connections) == 5 and cut(metrics) == ["crowded"]


def test_one_that_is_being_answered_makes_no_room():
    with serving(app, LATE, Connections(LATE, most=1)) as (port, _, _):
        seen.clear()
        busy = Spoken(port)
        busy.send(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        assert Spoken(port).is_cut()
        busy.close()
        assert seen.wait(20)
        assert Spoken(port).ask("/")[0] == 200


def test_who_waits_for_an_answer_and_leaves_is_told_of(late):
    seen.clear()
    one = Spoken(late)
    one.send(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
    one.close()
    assert seen.wait(20)


def test_every_connection_is_counted_out_again(soon):
    port, metrics = soon
    for _ in range(10):
        one = Spoken(port)
        one.ask("/")
        one.close()
    half = Spoken(port)
    half.send(b"G")
    assert half.is_cut()
    while metrics.open:
        assert Spoken(port).is_cut()
    assert metrics.open == 0


def test_as_many_files_as_the_system_allows():
    import resource

    most = raise_open_files()
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == most


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["headers", "idle", "unread", "body"])
def test_a_thousand_slow_ones_stop_nobody(kind):
    settings = Settings(patience=3.0, idle=3.0)
    begun = {
        "headers": b"GET / HTTP/1.1\r\nX-",
        "idle": b"",
        "unread": b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n",
        "body": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx",
    }[kind]
    with serving(app, settings) as (port, connections, _):
        slow = []
        for _ in range(30 if kind == "unread" else 1000):
            one = socket.create_connection(("127.0.0.1", port))
            one.sendall(begun)
            slow.append(one)
        took = []
        for _ in range(200):
            began = time.perf_counter()
            assert Spoken(port).ask("/quick") == (200, b"/quick")
            took.append(time.perf_counter() - began)
        assert sorted(took)[190] < 0.25
        until = time.monotonic() + 30
        while len(connections) > 50 and time.monotonic() < until:
            time.sleep(0.1)
        assert len(connections) <= 50
        for one in slow:
            one.close()
