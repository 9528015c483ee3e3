"""Processes that write to an index are killed at any moment, and nothing that they were told is kept is lost.

    pytest -m slow -n 0 tests/index/test_crash.py                          60 kills
    MANYMATCH_KILLS=300 pytest -m slow -n 0 -s tests/index/test_crash.py   as many as you like, with what was hit

Children (`crash_child.py`) add, update, describe, delete and compact, build candidates and compact with them, until
SIGKILL. After each kill the index is opened anew: every call that returned is there whole, the one that had not is
there whole or not at all, and everything derived is of the store's history. Two more processes read all the while and
see only whole changes. Half of the kills come at a random moment, half in a call of the kind that was hit least.
"""

from __future__ import annotations

import itertools
import json
import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crash_child import WIDTH, Group, groups_of, numbers_of
from index_fakes import FakeModel, some_pairs

from manymatch.index import Index
from manymatch.index.care.checkup import Checkup
from manymatch.index.care.database import check_truth
from manymatch.index.care.inspecting import inspect_derived
from manymatch.index.local.derived import leftovers
from manymatch.index.store.store import Store

KILLS = int(os.environ.get("MANYMATCH_KILLS", "40"))
LONGEST = 0.1
"""Seconds from a child's first breath to a random kill, at most."""

WRITTEN = ("add", "update", "caption", "delete", "compact")
BUILT = ("build", "compact")


class Children:
    """A process that forks children, and what they say."""

    def __init__(self, *options: str) -> None:
        path = Path(__file__).with_name("crash_child.py")
        self.process = subprocess.Popen(
            [sys.executable, str(path), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        self.said: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.looks: dict[int, dict[str, Any]] = {}
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()
        assert self._next("ready")

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.put(json.loads(line))

    def _next(self, *keys: str) -> dict[str, Any]:
        while True:
            told = self.said.get(timeout=60)
            assert "failed" not in told, told["failed"] + "\n" + told["trace"]
            if "looks" in told:
                self.looks[told["from"]] = told
            if any(key in told for key in keys):
                return told

    def _send(self, *command: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        self.process.stdin.flush()

    def start(self, role: str, folder: Path, seed: int) -> tuple[int, list[dict[str, Any]]]:
        """A child's process, and what it said before the process it comes from told which that is."""
        self._send(role, str(folder), seed)
        told = [self._next("pid", "begin", "done", "step")]
        while "pid" not in told[-1]:
            told.append(self._next("pid", "begin", "done", "step"))
        return told[-1]["pid"], [one for one in told if one["from"] == told[-1]["pid"]]

    def kill(self, pid: int) -> list[dict[str, Any]]:
        """All that a child says from now until it is gone."""
        os.kill(pid, signal.SIGKILL)
        self._send("reap", pid)
        told: list[dict[str, Any]] = []
        while not told or told[-1].get("gone") != pid:
            told.append(self._next("begin", "done", "step", "gone"))
        return [one for one in told[:-1] if one["from"] == pid]

    def end(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        # With its children: one that lives on would hold the pipe open, and the reader below would never end.
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join()
        self.process.stdout.close()


class Victim:
    """A child that is killed, at a random moment or while it does what is wanted."""

    def __init__(self, children: Children, role: str, folder: Path, seed: int) -> None:
        self._children = children
        self._pid, self.said = children.start(role, folder, seed)

    def until(self, kind: str) -> None:
        """Wait until a call of that kind begins."""
        while not (self.said and self.said[-1].get("begin") == kind):
            told = self._children._next("begin", "done", "step")
            if told["from"] == self._pid:
                self.said.append(told)

    def kill(self) -> str:
        """What was under way."""
        self.said += self._children.kill(self._pid)
        calls = calls_of(self.said)
        return str(calls[-1]["begin"]) if len(calls) % 2 else "between"


def calls_of(said: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The beginnings and returns of calls, in turns."""
    return [told for told in said if "begin" in told or "done" in told]


class Ledger:
    """What an index may hold, by what its writers were told.

    After a kill the call that never returned is there or not. A commit that was cut off between the last byte of
    SQLite's log and the log's index is not seen while others keep that index alive, and is once it is read anew from
    the log; so both stay possible until a later call returns.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.possible, self.calls = folder, [dict[str, Group]()], 0

    def settle(self, said: list[dict[str, Any]]) -> None:
        """Take over what a writer said, and expect it in the store."""
        returned, last = 0, None
        for told, answer in itertools.zip_longest(calls_of(said)[::2], calls_of(said)[1::2]):
            if answer is None:
                last = told
            else:
                self.possible, returned = [_after(groups, told) for groups in self.possible], returned + 1
        self.calls += returned
        with_last = [] if last is None else [_after(groups, last) for groups in self.possible]
        found = self.look()
        assert found in self.possible or found in with_last, _differing(found, self.possible[0])
        if returned and found in self.possible:
            # What was possible before and is not there has been written over.
            self.possible = [found] if last is None else [found, _after(found, last)]
        elif returned:
            self.possible = [found]
        else:
            self.possible += [groups for groups in with_last if groups not in self.possible]

    def look(self) -> dict[str, Group]:
        """What is in the store, all of it checked."""
        store, out = Store(self.folder / "index.sqlite"), Checkup(str(self.folder))
        with store.reading() as snapshot:
            found = groups_of(snapshot)
        check_truth(store, out, lambda *step: None)
        store.close()
        assert not out.findings, out.findings
        return found

    def derived(self, model: FakeModel) -> None:
        """Whatever was derived is whole, or not there."""
        out = Checkup(str(self.folder))
        inspect_derived(self.folder, Store(self.folder / "index.sqlite"), model.similarity, out, lambda *step: None)
        assert [one for one in out.problems if one.kind != "agreement"] == [], out.problems


def _after(groups: dict[str, Group], told: dict[str, Any]) -> dict[str, Group]:
    assert "begin" in told, "a call returned that had not begun"
    out = {name: group for name, group in groups.items() if name != told["group"]}
    return out if told["after"] is None else out | {told["group"]: Group(*told["after"])}


def _differing(found: dict[str, Group], expected: dict[str, Group]) -> str:
    return str(
        {
            name: (found.get(name), expected.get(name))
            for name in {*found, *expected}
            if found.get(name) != expected.get(name)
        }
    )


@pytest.fixture
def cold() -> Iterator[Children]:
    children = Children()
    yield children
    children.end()


@pytest.fixture
def warm() -> Iterator[Children]:
    children = Children("--warm")
    yield children
    children.end()


@pytest.fixture
def readers() -> Iterator[Children]:
    children = Children()
    yield children
    children.end()


def built(folder: Path, engine: str | None = None) -> Ledger:
    index = Index.build(FakeModel("points", d=WIDTH), some_pairs(1, captions=0), folder, engine=engine)  # type: ignore[arg-type]
    index.delete(["p0"])
    index.close()
    return Ledger(folder)


@pytest.mark.slow
def test_nothing_acknowledged_is_lost(tmp_path: Path, cold: Children, warm: Children, readers: Children) -> None:
    rng, model, began = random.Random(KILLS), FakeModel("points", d=WIDTH), time.perf_counter()
    plain, built_on = built(tmp_path / "plain"), built(tmp_path / "candidates", "faiss")
    looking = [readers.start("read", ledger.folder, n)[0] for n, ledger in enumerate((plain, built_on))]
    hit, lasted, half_written, kills, seed = Counter[str](), dict[str, float](), 0, 0, 0
    wanted = max(1, KILLS // 15)
    while kills < KILLS or min(hit[kind] for kind in _all()) < wanted:
        assert kills < 3 * KILLS + 60, f"no way to hit all: {hit}"
        seed += 1
        building = seed % 3 == 0
        ledger = built_on if building else plain
        writer = Victim(cold, "write", ledger.folder, seed)
        victims = [writer]
        if building:
            victims.insert(0, Victim(warm, "build", ledger.folder, seed))
        kinds = BUILT if building else WRITTEN
        prefix = "warm " if building else ""
        if rng.random() < 0.5:
            time.sleep(rng.uniform(0, LONGEST))
        else:
            kind = min(kinds, key=lambda kind: hit[prefix + kind])
            victims[0].until(kind)
            time.sleep(rng.uniform(0, lasted.get(prefix + kind, 0.01)))
        for victim in victims:
            hit[(prefix if victim is not writer else "") + victim.kill()] += 1
            kills += 1
        for told, done in zip(victims[0].said, victims[0].said[1:], strict=False):
            if "begin" in told and "done" in done:
                lasted[prefix + told["begin"]] = done["t"] - told["t"]
        half_written += len(leftovers(ledger.folder))
        ledger.settle(writer.said)
        if building:
            ledger.derived(model)
    for pid in looking:
        readers.kill(pid)
    looks = [(readers.looks[pid]["looks"], readers.looks[pid]["mapped"]) for pid in looking]
    assert all(mapped > 0 for _, mapped in looks)
    seconds = time.perf_counter() - began
    print(
        f"\n{kills} kills in {seconds:.1f} s, {plain.calls + built_on.calls} calls acknowledged, none lost; under way: "
        f"{dict(hit.most_common())}; {half_written} half-written files; looks of readers, at mapped rows too: {looks}"
    )
    for ledger in (plain, built_on):
        _is_searched(ledger, model)


def _all() -> list[str]:
    return [*WRITTEN, *(f"warm {kind}" for kind in BUILT)]


def _is_searched(ledger: Ledger, model: FakeModel) -> None:
    """What is there in the end is mended, and found as the ledger says."""
    index = Index.open(ledger.folder, model)  # type: ignore[arg-type]
    found = index.repair()
    assert not [one for one in found.findings if one.kind != "agreement"] and not leftovers(ledger.folder)
    held = ledger.look()
    assert held in ledger.possible, _differing(held, ledger.possible[0])
    numbers = {
        f"{name}.{n}": row
        for name, group in held.items()
        for n, row in enumerate(numbers_of(group.batch, group.count).astype(np.float32))
    }
    assert index.count("image") == len(numbers)
    if numbers:
        first = sorted(numbers)[0]
        hits = index.search(like=first, k=len(numbers), exact=True).hits
        assert sorted(hit.id for hit in hits) == sorted(set(numbers) - {first})
        scores = [float(numbers[first] @ numbers[hit.id]) for hit in hits]
        assert np.allclose([hit.score for hit in hits], scores, atol=2e-3)
