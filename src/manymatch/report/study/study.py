"""`study`: train what is missing, then measure everything, then write what was found."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from ...data.writing import whole_file, write_json
from ...errors import DataError, Error
from ...runs import make_folder
from .folders import lock, trained_in
from .found import Found, found_of
from .judge import Judge
from .lines import lines_of
from .page import page
from .plan import Plan, Run
from .reading import read_plan
from .records import Records
from .results import Results, results_of
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
    records: str | Path | None = None,
    train: bool = True,
    say: Say = _print,
) -> Path | None:
    """Train what a study's file asks for, measure it and write what was found.

    Args:
        file: the study, TOML.
        out: its folder; what is finished there is not done again.
        jobs: runs trained at once.
        threads: of each; by default the cores shared among the jobs.
        only: train only these rows, and what they are made of; tables are made when the others are trained too.
        records: folder of small files, one a run, of what was measured: what has one is neither trained nor measured,
            and what is trained gets one, also while others are missing.
        train: without it nothing is trained.
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
    chosen = plan.only(only) if only else plan
    chosen.expect_settings()
    work = _Work(plan, out, None if records is None else Path(records), say)
    share = threads or max(1, (os.cpu_count() or 1) // jobs)
    training = Training(chosen, work.runs, jobs, share, say, spared=work.spared)
    if train:
        training.go()
    missing = work.missing(training.failed)
    if missing:
        then = "the test split is read" if records is None else "tables are made"
        say(f"{len(missing)} runs are to be trained before {then}: {missing[0]}, ...")
        if records is None:
            return None
    Training(plan, work.runs, jobs, share, say, banks=True, spared=work.spared).go()
    try:
        with _alone(work.runs, say):
            return work.report(training.failed, missing)
    except KeyboardInterrupt:
        say("stopped; what was measured is kept, and the same command goes on from there")
        raise


class _Work:
    """What is measured of a study's runs, and written.

    Args:
        plan: the study.
        out: its folder.
        records: folder of records; None for none.
        say: told every line worth reading.
    """

    def __init__(self, plan: Plan, out: Path, records: Path | None, say: Say) -> None:
        self.plan, self.out, self.runs, self._say = plan, out, out / plan.runs_at, say
        self._judge = Judge(plan, self.runs, say)
        self._records = None if records is None else Records(records, self._judge, say)
        self._recorded = {} if self._records is None else self._records.found()
        if records is not None:
            say(f"{len(self._recorded)} of {len(plan.runs)} runs have a record in {records}")
        make_folder(self.runs, "study")

    @cached_property
    def spared(self) -> set[str]:
        """Runs that need no folder: recorded, and no part of one that is not."""
        open_ones = [run for run in self.plan.runs if run.name not in self._recorded]
        needed = {each.name for run in open_ones for each in (run, *run.parts)}
        return {run.name for run in self.plan.runs} - needed

    def missing(self, failed: Collection[str]) -> list[str]:
        """Runs that are to be trained and are not, without those that failed."""
        made = [run for run in self.plan.runs if not run.row.ensemble and run.name not in self.spared]
        return [run.name for run in made if not folder_of(self.runs, run).trained and run.name not in failed]

    def report(self, failed: Mapping[str, str], missing: Collection[str]) -> Path | None:
        """Measure what is trained on the test split, and write what was found; None while runs are missing."""
        gone = dict(failed)
        ready = []
        for run in self.plan.runs:
            broken = [member.name for member in run.members if member.name in gone]
            if run.name in self._recorded:
                ready.append(run)
            elif broken and run.row.ensemble:
                gone[run.name] = f"it is made of {broken[0]}, which failed"
            elif run.name not in gone and not {each.name for each in (run, *run.parts)} & set(missing):
                ready.append(run)
        if not ready and not missing:
            raise DataError(f"study: every run failed; the first: {next(iter(gone.items()))}")
        late = [] if missing else self._late([run.name for run in ready if not run.row.ensemble])
        found = {}
        for run in ready:
            try:
                found[run.name] = self._recorded.get(run.name) or self._measured(run)
            except Error as error:
                gone[run.name] = f"it cannot be measured: {error}"
                self._say(f"{run.name}: {gone[run.name]}")
        if missing:
            return None
        return self._write(results_of(self.plan, self._judge.pairs, lines_of(self.plan, found), gone, late))

    def _measured(self, run: Run) -> Found:
        found = found_of(run, self.runs, self._judge.measured(run))
        return found if self._records is None else self._records.keep(run, found, self.runs)

    def _late(self, trained: Sequence[str]) -> list[str]:
        if self._records is None:
            return _opened(self.runs, trained, trained_in(self.runs))
        now = {**trained_in(self.runs), **self._records.weights()}
        late = _opened(self._records.folder, trained, now, before=self.runs)
        if self.runs.is_dir():
            # Other studies of these runs, without the records, must know it too.
            _opened(self.runs, trained, trained_in(self.runs))
        return late

    def _write(self, found: Results) -> Path:
        for name, text in (
            ("results.json", json.dumps(found.json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"),
            ("table.md", markdown(found)),
            ("index.html", page(found)),
        ):
            with whole_file(self.out / name) as temporary:
                temporary.write_text(text, encoding="utf-8", newline="\n")
        return self.out / "index.html"


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


def _opened(folder: Path, trained: Sequence[str], now: Mapping[str, str], before: Path | None = None) -> list[str]:
    """Runs that were trained, or trained anew, after what was measured on the test split had been shown of others.

    What is there when it is first shown is written down in the folder, the runs of other studies with it.

    Args:
        folder: of runs or records.
        trained: runs to look at.
        now: SHA-256 of the weights of each run that is there.
        before: another folder, in which it may have been written down when this one held nothing yet.
    """
    path = folder / "test_read.json"
    written = next((each for each in (path, before and before / path.name) if each and each.is_file()), None)
    first = json.loads(written.read_text(encoding="utf-8"))["trained"] if written else dict(now)
    if not isinstance(first, dict):
        # Written when only names were.
        first = {name: now.get(name) for name in first}
    write_json(path, {"trained": first})
    return [name for name in trained if first.get(name) != now.get(name)]
