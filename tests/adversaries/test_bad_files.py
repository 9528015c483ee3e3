"""Every bad file is told in one line or listed with its reason, in bounded time and memory; good rows stay."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bad_case import Case
from bad_files import CASES
from outcomes import OUTCOMES

SECONDS = 30
"""How long one command may take on a busy machine; most take a hundredth of a second."""


class Child:
    """A process that runs commands one after another, and a new one where it had to be ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def run(self, folder: Path, args: list[str], room: int) -> dict[str, Any]:
        if self._process is None:
            start = [sys.executable, "-W", "error", str(Path(__file__).with_name("bad_child.py"))]
            environment = {
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "MALLOC_ARENA_MAX": "2",
                "ARROW_DEFAULT_MEMORY_POOL": "system",
            }
            self._process = subprocess.Popen(
                start, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
            )
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps({"folder": str(folder), "args": args, "room": room}) + "\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], SECONDS)
        answer = process.stdout.readline() if ready else ""
        if not answer:
            self.end()
            pytest.fail(f"{args}: " + ("the process ended" if ready else f"no answer after {SECONDS} s"))
        found: dict[str, Any] = json.loads(answer)
        assert not found["trace"], found["trace"]
        assert found["open"] < 60, "files are left open"
        return found

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
        self._process = None


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    made = Child()
    yield made
    made.end()


def test_there_are_enough() -> None:
    names = {case.name for case in CASES}
    assert len(CASES) >= 1000 and len(names) == len(CASES) and names >= SLOW and names >= OUTCOMES.keys()


SLOW = {
    *("bomb-one-line", "bomb-real", "bomb-behind-its-numbers", "bomb-behind-good-lines", "bomb-whole.png"),
    *("karpathy-bomb", "table-bomb", "parquet-odd-many-columns", "eight-of-the-largest", "shard-pattern-of-patterns"),
    *("line-too-long", "tokens-too-long", "table-open-quote-of-100-MB", "photos-sidecar-huge"),
}
"""Hundreds of megabytes, or as many names, have to be made for these; one of each sort is among the quick ones."""


def marked(case: Case) -> Any:
    return pytest.param(case, marks=pytest.mark.slow if case.name in SLOW else (), id=case.name)


@pytest.mark.parametrize("case", [marked(case) for case in CASES])
def test_what_is_bad_is_told(case: Case, child: Child, tmp_path: Path) -> None:
    args = ["check", *case.write(tmp_path)]
    found = child.run(tmp_path, [*args, "--json"], case.room)
    if case.name in OUTCOMES:
        assert outcome(found) == OUTCOMES[case.name]
    if case.refused and not (case.good < 0 and found["code"] == 0):
        assert found["code"] == 2, found
        if found["out"]:
            # Every row was read, and every picture is bad: all of them are listed.
            assert json.loads(found["out"])["images"] == 0 and json.loads(found["out"])["problems"]
            return
        one_line(found["err"])
        assert re.search(case.refused, found["err"]), found["err"]
        return
    assert found["code"] == 0 and found["err"] == "", found
    said = json.loads(found["out"])
    problems = said["problems"]
    assert case.good < 0 or said["images"] == case.good, said
    if case.fine:
        assert problems == []
    if case.fine or not problems:
        assert case.fine or case.good < 0, said
        return
    listed(case, problems)
    strict = child.run(tmp_path, [*args, "--strict"], case.room)
    assert strict["code"] == 2
    one_line(strict["err"] or strict["out"].splitlines()[-1] + "\n")


def outcome(found: dict[str, Any]) -> tuple[int | str, ...]:
    """As `OUTCOMES` has it."""
    if found["code"]:
        return ("refused",)
    said = json.loads(found["out"])
    return (said["images"], *sorted({problem["kind"] for problem in said["problems"]}))


def listed(case: Case, problems: list[dict[str, Any]]) -> None:
    """Each with its file, its line where there is one, its kind and why."""
    wanted = [p for p in problems if p["kind"] in case.kinds and case.line in (None, p["line"])]
    assert wanted, problems
    for problem in problems:
        assert problem["file"] and problem["kind"] and problem["detail"], problem
        assert "Traceback" not in problem["detail"] and len(problem["detail"]) < 2000, problem


def one_line(text: str) -> None:
    assert text.endswith("\n") and text.count("\n") == 1 and len(text) < 10_000, text
    assert "Traceback" not in text
