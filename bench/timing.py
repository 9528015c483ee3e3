"""Times and memory of one query after the other, printed as rows; for benchmarks of searching."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from memory import anonymous

__all__ = ["Timed", "head", "peak", "row"]


@contextmanager
def peak() -> Iterator[list[float]]:
    """The largest anonymous memory meanwhile, in MiB above that at the start; read it after the block."""
    out, stop, before = [0.0], threading.Event(), anonymous()

    def watch() -> None:
        while not stop.wait(0.05):
            out[0] = max(out[0], anonymous() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield out
    finally:
        stop.set()
        watcher.join()


class Timed:
    """Clock and processor milliseconds of a query: of `repeat` medians the lowest, as others only make it higher."""

    def __init__(self, ask: Callable[[int], Any], queries: int, repeat: int) -> None:
        for n in range(3):
            ask(n)
        passes = [self._pass(ask, queries) for _ in range(repeat)]
        self.p50 = min(float(np.median(clock)) for clock, _ in passes)
        self.cpu = min(float(np.median(used)) for _, used in passes)
        self.p99 = min(float(np.quantile(clock, 0.99)) for clock, _ in passes)

    @staticmethod
    def _pass(ask: Callable[[int], Any], queries: int) -> tuple[list[float], list[float]]:
        clock, used = [], []
        for n in range(queries):
            began, begun = time.perf_counter(), time.thread_time()
            ask(n)
            clock.append(1000 * (time.perf_counter() - began))
            used.append(1000 * (time.thread_time() - begun))
        return clock, used


def row(name: str, timed: Timed, against: Timed | None = None, agreement: float | None = None, note: str = "") -> None:
    times = "" if against is None else f"{against.cpu / timed.cpu:.1f}"
    shared = "" if agreement is None else f"{agreement:.4f}"
    print(f"  {name:38}{timed.p50:9.2f}{timed.p99:9.2f}{timed.cpu:9.2f}{times:>8}{shared:>11}  {note}", flush=True)


def head(what: str) -> None:
    print(f"{what}\n  {'':38}{'p50 ms':>9}{'p99 ms':>9}{'cpu ms':>9}{'times':>8}{'agreement':>11}", flush=True)
