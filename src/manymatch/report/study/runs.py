"""Trains what a study lacks: children side by side, each in its run's folder, each able to go on where it stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from .folders import RunFolder
from .plan import Plan, Run

__all__ = ["Training", "folder_of"]

Say = Callable[[str], None]

_LOOK = 0.2
"""Seconds between two looks at the children."""


def folder_of(runs: Path, run: Run) -> RunFolder:
    """Where a run lies."""
    return RunFolder(runs / run.name, run)


@dataclass
class _Child:
    """A child at work."""

    run: Run
    folder: RunFolder
    work: str
    process: subprocess.Popen[bytes]
    began: float
    lock: int


@dataclass
class Training:
    """What is to be trained, and how.

    Attributes:
        plan: the study.
        runs: folder of the runs.
        jobs: children at once.
        threads: of each.
        say: told every line worth reading.
        banks: fit the query banks of trained runs that have none, and train nothing.
        spared: names of runs that are not needed.
        program: what a child is, before the words of its command.
        failed: run name -> the last words of what failed.
    """

    plan: Plan
    runs: Path
    jobs: int
    threads: int
    say: Say
    banks: bool = False
    spared: Collection[str] = ()
    program: Sequence[str] = (sys.executable, "-m", "manymatch")
    failed: dict[str, str] = field(default_factory=dict)

    def go(self) -> None:
        """Until every run is trained or failed; with `banks` until every trained run has its query bank.

        Raises:
            CheckpointError: a folder holds a run of other settings.
            KeyboardInterrupt: after an interrupt, once the children have saved and ended.
        """
        made = [run for run in self.plan.runs if not run.row.ensemble and run.name not in self.spared]
        folders = {run.name: folder_of(self.runs, run) for run in made}
        for run in made:
            folders[run.name].claim(self.plan.data)
        self._total, self._folders = len(made), folders
        waiting = [run for run in made if self._work(run) is not None]
        if not waiting:
            if made and not self.banks:
                self.say(f"all {len(made)} runs are trained")
            return
        at_once = f"{self.jobs} at a time with {self.threads} thread{'s' if self.threads > 1 else ''} each"
        lack = "their query bank" if self.banks else "training"
        self.say(f"{len(waiting)} of {len(made)} runs lack {lack}; {at_once}; logs: {self.runs}/*/train.log")
        self._children: list[_Child] = []
        with _told_to_stop():
            try:
                self._until_done(waiting)
            except KeyboardInterrupt:
                self._stop()
                self.say("stopped; what was trained is kept, and the same command goes on from there")
                raise

    def _until_done(self, waiting: list[Run]) -> None:
        locked: set[str] = set()
        while waiting or self._children:
            for run in list(waiting):
                if len(self._children) >= self.jobs:
                    break
                folder = self._folders[run.name]
                broken = [member.name for member in run.members if member.name in self.failed]
                work = self._work(run)
                if broken or work is None:
                    waiting.remove(run)
                    if broken:
                        self._fail(run, f"it is made of {broken[0]}, which failed")
                    else:
                        self._tell(run, waiting)
                elif all(self._work(member) is None for member in run.members):
                    child = self._start(run, folder, work)
                    if child is not None:
                        waiting.remove(run)
                        self._children.append(child)
                    elif run.name not in locked:
                        locked.add(run.name)
                        self.say(f"{run.name}: another process is training it; waiting for it")
            self._look(waiting)
            if waiting or self._children:
                time.sleep(_LOOK)

    def _start(self, run: Run, folder: RunFolder, work: str) -> _Child | None:
        lock = folder.lock()
        if lock is None:
            return None
        try:
            folder.begin(work, self.threads)
            # A session of its own: Ctrl-C reaches the children once, through us, and they have time to save.
            with open(folder.log, "ab") as log:
                process = subprocess.Popen(
                    [*self.program, *self._command(run, folder, work)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **_threads(self.threads)},
                    start_new_session=True,
                    pass_fds=(lock,),
                )
        except BaseException:
            os.close(lock)
            raise
        return _Child(run, folder, work, process, time.perf_counter(), lock)

    def _command(self, run: Run, folder: RunFolder, work: str) -> list[str]:
        row = run.row
        data = self.plan.data.options(row.pictures)
        if work == "bank":
            size = ["--size", row.settings["bank"]] if "bank" in row.settings else []
            return ["bank", str(folder.path), "--data", *data, *size]
        if work == "join":
            members = [str(self._folders[member.name].path) for member in run.members]
            return ["join", *members, "--data", *data, "--out", str(folder.path), *row.options]
        assert row.method is not None
        command = ["train", row.method, *data, "--out", str(folder.path), "--resume"]
        for name, tower in (("--image-tower", row.image_tower), ("--text-tower", row.text_tower)):
            command += [] if tower is None else [name, tower]
        for name, value in {**row.settings, "seed": str(run.seed)}.items():
            command += ["--set", f"{name}={value}"]
        return command

    def _look(self, waiting: list[Run]) -> None:
        """Take leave of the children that have ended."""
        for child in list(self._children):
            status = self._ended(child, os.WNOHANG)
            if status is None:
                continue
            self._children.remove(child)
            if status == 0 and child.folder.trained:
                self._tell(child.run, waiting)
            else:
                self._fail(child.run, child.folder.last_words() if status else "it wrote no run")

    def _ended(self, child: _Child, how: int) -> int | None:
        """The exit status of a child that has ended, its cost noted; None while it runs."""
        pid, state, used = os.wait4(child.process.pid, how)
        if not pid:
            return None
        status = child.process.returncode = os.waitstatus_to_exitcode(state)
        peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        child.folder.end(time.perf_counter() - child.began, used.ru_utime + used.ru_stime, peak, status)
        os.close(child.lock)
        return status

    def _stop(self) -> None:
        """Let the children save and end; asked again, they break off at once."""
        while self._children:
            # One that an interrupt overtook after its end was seen.
            self._children = [child for child in self._children if child.process.returncode is None]
            for child in self._children:
                # Not by its Popen, which would look for its end first, and leave none to `wait4`.
                os.kill(child.process.pid, signal.SIGINT)
            try:
                for child in list(self._children):
                    self._ended(child, 0)
                    self._children.remove(child)
            except KeyboardInterrupt:
                continue

    def _work(self, run: Run) -> str | None:
        """What is to be done for a run now; None when there is nothing."""
        folder = self._folders[run.name]
        value = folder.described
        if not self.banks:
            return None if value is not None else "join" if run.row.join else "train"
        lacks = value is not None and "bank" not in value and run.row.settings.get("bank") != "0"
        return "bank" if lacks and folder.validation is not None and not folder.tried("bank") else None

    # ---- what is said

    def _fail(self, run: Run, why: str) -> None:
        self.failed[run.name] = why
        self.say(f"{run.name}: failed: {why}")

    def _tell(self, run: Run, waiting: list[Run]) -> None:
        folder = self._folders[run.name]
        cost, found = folder.cost, folder.validation
        parts = [] if cost is None else [f"{'' if cost.whole else 'more than '}{cost.seconds / 60:.1f} minutes"]
        parts += [] if found is None else [f"validation RSUM {found:.1f}"]
        left = len(waiting) + len(self._children)
        parts.append(f"{self._total - left - len(self.failed)} of {self._total} trained")
        if left:
            seconds, seen = self._left(waiting)
            parts.append(f"about {_span(seconds)} left{'' if seen else ', if the other rows cost what these did'}")
        self.say(f"{run.name}: {', '.join(parts)}")

    def _left(self, waiting: list[Run]) -> tuple[float, bool]:
        """Seconds until the last run is trained, by what runs of the row, of the method, or else of any have cost; and
        whether some run of each row or method that is left has been seen."""
        costs = [(folder.run, folder.cost) for folder in self._folders.values() if folder.trained]
        known = [(run.row, cost.seconds) for run, cost in costs if cost is not None]

        def guess(run: Run) -> tuple[float, bool]:
            row = run.row
            same = [seconds for other, seconds in known if other.name == row.name]
            same = same or [seconds for other, seconds in known if row.method and other.method == row.method]
            found = same or [seconds for _, seconds in known]
            return sum(found) / max(len(found), 1), bool(same)

        now = time.perf_counter()
        guesses = {run.name: guess(run) for run in [*waiting, *(child.run for child in self._children)]}
        at_work = [max(0.0, guesses[child.run.name][0] - (now - child.began)) for child in self._children]
        to_come = sum(guesses[run.name][0] for run in waiting) + sum(at_work)
        return max(to_come / self.jobs, *at_work, 0.0), all(seen for _, seen in guesses.values())


def _threads(threads: int) -> Mapping[str, str]:
    return {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}


def _span(seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"


@contextmanager
def _told_to_stop() -> Iterator[None]:
    """A polite kill or a closed terminal stop as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        for each, handler in before.items():
            # What a shell starts in the background ignores SIGINT, and so would the children we have to send it to.
            if handler is not signal.SIG_IGN or each == signal.SIGINT:
                signal.signal(each, stop)
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
