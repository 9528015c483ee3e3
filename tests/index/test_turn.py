"""One process at a time makes what is derived; who comes next looks what is left to do; who dies lets go."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from index_fakes import FakeModel, some_pairs

from manymatch.index import Index
from manymatch.index.filters import Where
from manymatch.index.local.view import View
from manymatch.index.turn import Turn

HOLDER = """
import sys
from pathlib import Path
from manymatch.index.turn import Turn
with Turn(Path(sys.argv[1])).taken() as ours:
    print(ours, flush=True)
    sys.stdin.read()
"""


@contextmanager
def held(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process whose turn it is."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdin is not None
    try:
        assert process.stdout.readline() == "True\n"
        yield process
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


def passing(turn: Turn, **options: Any) -> bool:
    with turn.taken(**options) as ours:
        return ours


def test_another_process_is_waited_for_or_left_to_it(tmp_path: Path) -> None:
    turn, told = Turn(tmp_path), list[str]()
    waiting = threading.Event()

    def say(what: str) -> None:
        told.append(what)
        waiting.set()

    with held(tmp_path) as other:
        assert not passing(turn, wait=False)
        thread = threading.Thread(target=passing, args=(turn,), kwargs={"told": say})
        thread.start()
        assert waiting.wait(10) and thread.is_alive() and "another process" in told[0]
        assert not passing(turn, wait=False), "a thread waits here already"
        assert other.stdin is not None
        other.stdin.close()
        thread.join(10)
        assert not thread.is_alive()
    assert passing(turn, wait=False)


def test_a_killed_process_lets_go(tmp_path: Path) -> None:
    with held(tmp_path) as other:
        other.send_signal(signal.SIGKILL)
        assert passing(Turn(tmp_path))


def test_threads_take_turns_too(tmp_path: Path) -> None:
    turn = Turn(tmp_path)
    with turn.taken():
        assert not passing(turn, wait=False) and not passing(Turn(tmp_path), wait=False)
    assert passing(turn, wait=False)


def test_an_error_ends_the_turn(tmp_path: Path) -> None:
    turn = Turn(tmp_path)
    with pytest.raises(ValueError, match="made"), turn.taken():
        raise ValueError("made")
    assert passing(turn, wait=False)


def test_where_nothing_can_be_written_nobody_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*given: Any) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refused)
    with Turn(tmp_path).taken(wait=False) as ours:
        assert ours
    assert not list(tmp_path.iterdir())


# ---- an index


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("manymatch.index.local.view._QUERIES", 20)
    Index.build(FakeModel(), some_pairs(60, captions=1), tmp_path / "x", engine="faiss").close()
    for path in (tmp_path / "x").glob("candidates-*"):
        path.unlink()
    return tmp_path / "x"


def ready(index: Index) -> bool:
    """Whether its searches have candidates."""
    with index._collection.reading() as reading:
        pool: Any = reading.pool("image", Where())
        return pool._shelf.candidates is not None


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The modalities whose candidates were built."""
    out: list[str] = []
    build = View.build

    def counted(self: View, modality: Any, *given: Any) -> None:
        out.append(modality)
        build(self, modality, *given)

    monkeypatch.setattr(View, "build", counted)
    return out


def test_what_another_has_built_is_taken_not_built_again(folder: Path, built: list[str]) -> None:
    with Index.open(folder, FakeModel()) as one, Index.open(folder, FakeModel()) as two:  # type: ignore[arg-type]
        assert not ready(one) and not ready(two)
        one.refresh()
        assert sorted(built) == ["caption", "image"] and ready(one)
        assert not ready(two), "it has not looked again yet"
        two.refresh()
        assert len(built) == 2 and ready(two)
        assert two.search("red").to_json() == one.search("red").to_json()


def test_refresh_waits_and_then_finds_nothing_left(folder: Path, built: list[str]) -> None:
    one, two = (Index.open(folder, FakeModel()) for _ in range(2))  # type: ignore[arg-type]
    assert not ready(one) and not ready(two)
    threads = [threading.Thread(target=index.refresh) for index in (one, two)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(built) == ["caption", "image"]
    assert ready(one) and ready(two)


def test_keeping_up_leaves_it_to_whoever_does_it(
    folder: Path, built: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    index, rounds = Index.open(folder, FakeModel()), threading.Semaphore(0)  # type: ignore[arg-type]
    refresh = index._collection.refresh

    def counted(*given: Any, **options: Any) -> None:
        refresh(*given, **options)
        rounds.release()

    monkeypatch.setattr(index._collection, "refresh", counted)
    with held(folder):
        index.keep_up(0.001)
        for _ in range(5):
            assert rounds.acquire(timeout=10)
        assert not built and not ready(index)
    for _ in range(10):
        assert rounds.acquire(timeout=10)
    index.close()
    assert sorted(built) == ["caption", "image"] and ready(index)
