"""The server of `bench/serve.py`, and what its processes take: started, looked at and stopped.

    python bench/serve_processes.py FOLDER --port P --workers N [--world W ...]

serves a collection of `bench/search.py` with its stand-in for a run.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from memory import anonymous
from search_worlds import World

__all__ = ["Opener", "Processes", "Watched"]

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Opener:
    """Opens the index of a made-up collection in a worker process."""

    folder: Path
    world: World

    def __call__(self) -> tuple[Any, None]:
        from search import Run

        from manymatch.index import Index

        run: Any = Run(self.world)
        return Index.open(self.folder, run), None


class Processes:
    """A server and its workers, from outside."""

    def __init__(self, folder: Path, world: World, port: int, workers: int) -> None:
        command = [sys.executable, __file__, str(folder), "--port", str(port), "--workers", str(workers)]
        self._process = subprocess.Popen([*command, "--world", *map(str, astuple(world))])
        self._port, self.count = port, workers

    def wait(self, seconds: float = 120) -> None:
        """Until it is ready to answer."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self._process.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self._port}/ready", timeout=5).close()
                return
            except (OSError, urllib.error.URLError):
                time.sleep(0.2)
        raise SystemExit(f"the server did not get ready (exit code {self._process.poll()})")

    def workers(self) -> list[int]:
        """The processes that answer: those with the most processor time."""
        found = sorted(_tree(self._process.pid), key=cpu, reverse=True)
        return found[: self.count]

    def all(self) -> list[int]:
        """Every process of the server."""
        return _tree(self._process.pid)

    def stop(self) -> int:
        """Its exit code."""
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


class Watched:
    """What processes take while something happens; read it afterwards.

    Attributes:
        cpu: processor seconds of each.
        memory: MiB of anonymous memory of all, largest.
        slope: MiB a minute by which it grew, from the half of the time on: before, caches fill.
    """

    def __init__(self, pids: list[int]) -> None:
        self._pids, self._before = pids, [cpu(pid) for pid in pids]
        self._seen: list[tuple[float, float]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)

    @classmethod
    @contextmanager
    def while_(cls, pids: list[int]) -> Iterator[Watched]:
        watched = cls(pids)
        watched._thread.start()
        try:
            yield watched
        finally:
            watched._stop.set()
            watched._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.5):
            self._seen.append((time.monotonic(), sum(anonymous(pid) for pid in self._pids)))

    @property
    def cpu(self) -> list[float]:
        return [cpu(pid) - before for pid, before in zip(self._pids, self._before, strict=True)]

    @property
    def memory(self) -> float:
        return max(size for _, size in self._seen)

    @property
    def slope(self) -> float:
        late = np.array(self._seen[len(self._seen) // 2 :])
        return float(np.polyfit(late[:, 0] / 60, late[:, 1], 1)[0])


def _tree(pid: int) -> list[int]:
    """A process and all that come from it."""
    out = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            out += _tree(int(child))
    return out


def cpu(pid: int) -> float:
    """Seconds of processor time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--world", nargs=6, required=True)
    args = parser.parse_args()
    name, items, k, d, spread, seed = args.world
    world = World(name, int(items), int(k), int(d), float(spread), int(seed))

    from manymatch.web.serving import serve
    from manymatch.web.settings import Settings

    serve(Opener(args.folder, world), Settings(), "127.0.0.1", args.port, args.workers)


if __name__ == "__main__":
    main()
