"""`study`: train what is missing, then measure everything, then write what was found."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ...data.writing import whole_file, write_json
from ...errors import DataError, Error
from ...runs import make_folder
from .folders import lock, trained_in
from .judge import Judge
from .lines import lines_of
from .page import page
from .plan import Plan
from .reading import read_plan
from .results import results_of
from .runs import Training, folder_of
from .table import markdown

__all__ = ["study"]

Say = Callable[[str], None]

_LOOK = 0.2
"""Seconds between two looks whether another study is done."""


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def study(
    file: str | Path,
    out: str | Path,
    *,
    jobs: int = 1,
    threads: int | None = None,
    only: Sequence[str] = (),
    say: Say = _print,
) -> Path | None:
    """Train what a study's file asks for, measure it and write what was found.

    Args:
        file: the study, TOML.
        out: its folder; what is finished there is not done again.
        jobs: runs trained at once.
        threads: of each; by default the cores shared among the jobs.
        only: train only these rows, and what they are made of; measured is when the others are trained too.
        say: told every line worth reading.

    Returns:
        The page; None while runs of other rows are missing.

    Raises:
        DataError, UnknownName: as `read_plan`, or every run failed.
        CheckpointError: a folder holds a run of other settings.
        KeyboardInterrupt: after an interrupt, once the children have saved and ended.
    """
    plan = read_plan(file)
    if jobs < 1 or (threads is not None and threads < 1):
        raise DataError(f"study: {jobs} jobs and {threads} threads, expected at least 1")
    out = Path(out)
    make_folder(out, "study")
    runs = out / plan.runs_at
    chosen = plan.only(only) if only else plan
    chosen.expect_settings()
    share = threads or max(1, (os.cpu_count() or 1) // jobs)
    training = Training(chosen, runs, jobs, share, say)
    training.go()
    lacking = [run.name for run in plan.runs if not run.row.ensemble and not folder_of(runs, run).trained]
    lacking = [name for name in lacking if name not in training.failed]
    if lacking:
        say(f"{len(lacking)} runs of other rows are to be trained before the test split is read: {lacking[0]}, ...")
        return None
    Training(plan, runs, jobs, share, say, banks=True).go()
    try:
        with _alone(runs, say):
            return _report(plan, out, runs, training.failed, say)
    except KeyboardInterrupt:
        say("stopped; what was measured is kept, and the same command goes on from there")
        raise


def _report(plan: Plan, out: Path, runs: Path, failed: Mapping[str, str], say: Say) -> Path:
    """Measure what is trained on the test split, and write what was found."""
    judge = Judge(plan, runs, say)
    gone = dict(failed)
    ready = []
    for run in plan.runs:
        broken = [member.name for member in run.members if member.name in gone]
        if broken and run.row.ensemble:
            gone[run.name] = f"it is made of {broken[0]}, which failed"
        elif run.name not in gone:
            ready.append(run)
    if not ready:
        raise DataError(f"study: every run failed; the first: {next(iter(gone.items()))}")
    late = _opened(runs, [run.name for run in ready if not run.row.ensemble])
    measured = {}
    for run in ready:
        try:
            measured[run.name] = judge.measured(run)
        except Error as error:
            gone[run.name] = f"it cannot be measured: {error}"
            say(f"{run.name}: {gone[run.name]}")
    found = results_of(plan, judge.pairs, lines_of(plan, runs, measured), gone, late)
    for name, text in (
        ("results.json", json.dumps(found.json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"),
        ("table.md", markdown(found)),
        ("index.html", page(found)),
    ):
        with whole_file(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
    return out / "index.html"


@contextmanager
def _alone(runs: Path, say: Say) -> Iterator[None]:
    """Nobody else measures these runs."""
    path = runs / "measure.lock"
    handle = lock(path)
    if handle is None:
        say("another study is measuring these runs; waiting for it")
    while handle is None:
        time.sleep(_LOOK)
        handle = lock(path)
    try:
        yield
    finally:
        os.close(handle)


def _opened(runs: Path, trained: Sequence[str]) -> list[str]:
    """Runs that were trained, or trained anew, after the test split had been read for others.

    What lies there when it is first read is written down, the runs of other studies with it.
    """
    path, now = runs / "test_read.json", trained_in(runs)
    first = json.loads(path.read_text(encoding="utf-8"))["trained"] if path.is_file() else now
    if not isinstance(first, dict):
        # Written when only names were.
        first = {name: now.get(name) for name in first}
    write_json(path, {"trained": first})
    return [name for name in trained if first.get(name) != now.get(name)]
