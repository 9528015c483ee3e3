"""Processes that fill a feature store are killed at any moment, and nothing they said was kept is lost or wrong.

    pytest -n 0 tests/data/test_store_crash.py                                    4 kills
    MANYMATCH_KILLS=200 pytest -m slow -n 0 tests/data/test_store_crash.py        as many as you like

Two children (`store_child.py`) put into one store; one is killed, sometimes both. Afterwards the store opens, every
picture that was acknowledged has its features, number by number, and checking finds nothing wrong.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from store_child import KIND, digest_of, features_of

from manymatch.data.store import FeatureStore, check_store
from manymatch.data.toy import write_toy

CHILD = Path(__file__).with_name("store_child.py")
KILLS = int(os.environ.get("MANYMATCH_KILLS", "20"))


class Child:
    """One child and the file of what it says, which outlives it."""

    def __init__(self, how: str, store: Path, more: object, told: Path) -> None:
        self.told = told
        with open(told, "wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, str(CHILD), how, str(store), str(more)],
                stdout=file,
                stderr=subprocess.PIPE,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )

    def wait_for(self, words: str) -> None:
        while words not in self.told.read_text():
            assert self.process.poll() is None, self.process.stderr.read().decode()  # type: ignore[union-attr]
            time.sleep(0.002)

    def kill(self) -> list[str]:
        """The whole lines it said."""
        self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        said = self.process.stderr.read().decode()
        self.process.stderr.close()
        assert not said, said
        return [line for line in self.told.read_text().split("\n")[:-1] if line != "ready"]


def look(store: Path, acknowledged: set[int]) -> None:
    """Every acknowledged picture is there as it was put."""
    shelf = FeatureStore(store).shelf(KIND)
    numbers = sorted(acknowledged)
    found = shelf.get([digest_of(number) for number in numbers])
    wanted = features_of(numbers)
    np.testing.assert_array_equal(found.vectors, wanted.vectors)
    np.testing.assert_array_equal(found.pooled, wanted.pooled)
    checked = check_store(store)
    assert checked.faults == () and checked.lost == 0 and checked.records >= len(numbers)
    shelf.store.close()


def killed(folder: Path, kills: int, seed: int) -> int:
    """Kill so many children of a store; how many pictures were acknowledged."""
    rng, store, acknowledged = random.Random(seed), folder / "store", set[int]()
    for n in range(kills):
        children = [Child("put", store, 1000 * seed + 2 * n + who, folder / f"told-{n}-{who}") for who in range(2)]
        for child in children:
            child.wait_for("ready")
        time.sleep(rng.uniform(0, 0.15))
        first, second = rng.sample(children, 2)
        said = first.kill()
        if rng.random() < 0.5:
            # The other one goes on beside what the first left behind.
            time.sleep(rng.uniform(0, 0.05))
        said += second.kill()
        acknowledged |= {int(number) for line in said for number in line.split()}
        if acknowledged:
            look(store, acknowledged)
    return len(acknowledged)


def test_a_few_kills_lose_nothing(tmp_path: Path) -> None:
    assert killed(tmp_path, 4, seed=1) > 100


@pytest.mark.slow
def test_many_kills_lose_nothing(tmp_path: Path) -> None:
    assert killed(tmp_path, KILLS, seed=2) > 100


@pytest.mark.slow
def test_filling_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    """Kills of a process that decodes, computes and keeps: the last one that is left alone finds most of it there."""
    data, store, rng = write_toy(tmp_path / "data", 400), tmp_path / "store", random.Random(3)
    before = 0
    for n in range(max(4, KILLS // 10)):
        child = Child("fill", store, data, tmp_path / f"told-{n}")
        child.wait_for("ready")
        time.sleep(rng.uniform(0, 0.3))
        child.kill()
        checked = check_store(store)
        assert checked.faults == () and checked.lost == 0 and checked.records >= before
        before = checked.records
    child = Child("fill", store, data, tmp_path / "told-last")
    child.wait_for("done")
    assert child.process.wait(60) == 0
    child.kill()
    assert check_store(store).records == 400
