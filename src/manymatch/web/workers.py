"""Several processes that serve one address.

The parent alone accepts connections and hands each to the worker that has fewest open. Left to accept by themselves
from one socket, whichever worker wakes first takes all that arrived; and by the system's own sharing (SO_REUSEPORT) it
is a matter of chance. The parent opens no index and loads no torch. Workers are spawned, never forked, because torch
keeps threads; one that dies is begun anew.
"""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import selectors
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..errors import Error
from .metrics import gone
from .serving import GRACE
from .worker import HANDED, work

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

    from .serving import Opener
    from .settings import Settings

__all__ = ["Workers"]

_SPAWN = multiprocessing.get_context("spawn")

_ENOUGH = 64
"""Connections taken at a time before anything else is looked at."""

_YOUNG = 10.0
"""Seconds within which a worker that dies has begun in vain: the next one is begun later each time."""

_SLOWEST = 30.0
"""Seconds between two beginnings at most."""

_OVERDUE = 5.0
"""Seconds that a worker may take to end beyond what its answers may take."""

_PAUSE = 0.01


@dataclass(eq=False)
class _Worker:
    """One worker process, as the parent knows it."""

    number: int
    process: SpawnProcess
    channel: socket.socket
    state: Literal["starting", "serving", "leaving"] = "starting"
    handed: int = 0
    begun: float = field(default_factory=time.monotonic)
    said: bytes = b""
    trouble: str | None = None


class Workers:
    """Worker processes behind one listening socket.

    Args:
        opener: called in each worker.
        settings: of the server.
        listener: already listens.
        count: workers.
    """

    def __init__(self, opener: Opener, settings: Settings, listener: socket.socket, count: int) -> None:
        self._opener, self._settings, self._listener, self._count = opener, settings, listener, count
        self._closed = _SPAWN.RawArray(ctypes.c_uint64, count)
        self._workers: dict[int, _Worker] = {}
        self._due: dict[int, float] = {}
        self._failed = [0] * count
        self._last = 0
        self._pending: deque[socket.socket] = deque()
        self._is_told = self._is_listening = False
        self._stops = 0
        self._waker, self._woken = socket.socketpair()
        for end in (self._waker, self._woken, listener):
            end.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._folder = Path()

    def run(self, started: Callable[[], None]) -> None:
        """Serve until stopped.

        Args:
            started: called once every worker answers.

        Raises:
            Error: a worker cannot start, and none serves that could go on meanwhile.
        """
        self._folder = Path(tempfile.mkdtemp(prefix="manymatch-metrics-"))
        self._selector.register(self._woken, selectors.EVENT_READ, lambda: self._woken.recv(4096))
        try:
            with self._stopped_by_signals():
                for number in range(self._count):
                    self._begin(number)
                while not self._stops:
                    self._turn(started)
                self._end()
        finally:
            self._kill()
            shutil.rmtree(self._folder, ignore_errors=True)

    def stop(self) -> None:
        """Let the workers finish what they answer, and end; called again, hurry. From any thread or signal."""
        self._stops += 1
        with suppress(BlockingIOError):
            self._waker.send(b"s")

    @property
    def processes(self) -> list[int]:
        """The ids of the workers' processes."""
        return [worker.process.pid or 0 for worker in self._workers.values()]

    # ---- one turn of the loop

    def _turn(self, started: Callable[[], None]) -> None:
        self._listen_if_served()
        for number in [number for number, then in self._due.items() if then <= time.monotonic()]:
            del self._due[number]
            self._begin(number)
        wait = _PAUSE if self._pending else min(self._due.values()) - time.monotonic() if self._due else None
        for key, _ in self._selector.select(None if wait is None else max(wait, 0)):
            # One that was looked at in this turn may have taken another one with it.
            if key.fd in self._selector.get_map():
                key.data()
        for _ in range(len(self._pending)):
            self._hand(self._pending.popleft())
        if not self._is_told and len(self._serving()) == self._count:
            self._is_told = True
            started()

    def _listen_if_served(self) -> None:
        """What cannot be handed on waits in the system's queue."""
        wanted = bool(self._serving()) and not self._pending
        if wanted and not self._is_listening:
            self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        elif self._is_listening and not wanted:
            self._selector.unregister(self._listener)
        self._is_listening = wanted

    def _serving(self) -> list[_Worker]:
        return [worker for worker in self._workers.values() if worker.state == "serving"]

    # ---- connections

    def _accept(self) -> None:
        for _ in range(_ENOUGH):
            try:
                connection, _address = self._listener.accept()
            except OSError:
                # No more of them, or one that has gone already. Where no file can be opened, it comes again.
                return
            self._hand(connection)

    def _hand(self, connection: socket.socket) -> None:
        """To the worker that has fewest; in turn, where several have."""
        count = self._count
        for worker in sorted(self._serving(), key=lambda w: (self._open(w), (w.number - self._last - 1) % count)):
            try:
                socket.send_fds(worker.channel, [HANDED], [connection.fileno()])
            except ConnectionError:
                # It has ended; that is seen to when its process has.
                worker.state = "leaving"
                continue
            except OSError:
                # It has not taken up those before.
                continue
            worker.handed += 1
            self._last = worker.number
            connection.close()
            return
        self._pending.append(connection)

    def _open(self, worker: _Worker) -> int:
        return worker.handed - self._closed[worker.number]

    # ---- workers

    def _begin(self, number: int) -> None:
        ours, theirs = socket.socketpair()
        self._closed[number] = 0
        given = (number, self._opener, self._settings, theirs, self._closed, self._folder)
        process = _SPAWN.Process(target=work, args=given, name=f"manymatch-{number}", daemon=True)
        with theirs:
            process.start()
        ours.setblocking(False)
        worker = self._workers[number] = _Worker(number, process, ours)
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._hear(worker))
        self._selector.register(process.sentinel, selectors.EVENT_READ, lambda: self._ended(worker))

    def _hear(self, worker: _Worker) -> None:
        try:
            said = worker.channel.recv(65536)
        except OSError:
            said = b""
        if not said:
            self._selector.unregister(worker.channel)
            return
        *lines, worker.said = (worker.said + said).split(b"\n")
        for line in lines:
            told = json.loads(line)
            worker.state, worker.trouble = told["state"], told.get("trouble")
            if worker.state == "serving":
                self._failed[worker.number] = 0

    def _ended(self, worker: _Worker) -> None:
        """Its process has ended: begin another one, now or later, or give up where none can start."""
        self._forget(worker)
        served = worker.state != "starting"
        if not served and not (self._is_told and self._serving()):
            raise Error(self._reason(worker))
        if not served or time.monotonic() - worker.begun < _YOUNG:
            self._failed[worker.number] += 1
        wait = min(_SLOWEST, 2.0 ** self._failed[worker.number] / 2) if self._failed[worker.number] else 0.0
        if worker.process.exitcode:
            when = f"in {wait:.0f} s" if wait else "at once"
            print(f"serve: {self._reason(worker)}; begun anew {when}", file=sys.stderr, flush=True)
        self._due[worker.number] = time.monotonic() + wait

    def _forget(self, worker: _Worker) -> None:
        # What it said last may still lie in the channel.
        if worker.channel in self._selector.get_map():
            self._hear(worker)
        for end in (worker.channel, worker.process.sentinel):
            with suppress(KeyError, ValueError):
                self._selector.unregister(end)
        worker.channel.close()
        worker.process.join()
        gone(self._folder, worker.process.pid or 0)
        del self._workers[worker.number]

    def _reason(self, worker: _Worker) -> str:
        code = worker.process.exitcode or 0
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return worker.trouble or f"worker process {worker.process.pid} ended ({how})"

    # ---- the end

    def _end(self) -> None:
        """Listen no more, ask the workers to stop, and wait for them as long as their answers may take."""
        if self._is_listening:
            self._selector.unregister(self._listener)
        self._listener.close()
        for worker in self._workers.values():
            # What they say from now on is read once they have ended; unread it would not let the loop rest.
            with suppress(KeyError, ValueError):
                self._selector.unregister(worker.channel)
            worker.process.terminate()
        asked, until = 1, time.monotonic() + GRACE + _OVERDUE
        while self._workers and (left := until - time.monotonic()) > 0:
            if asked < self._stops:
                asked = self._stops
                for worker in self._workers.values():
                    worker.process.terminate()
            for key, _ in self._selector.select(left):
                if key.fileobj is self._woken:
                    key.data()
            for worker in [worker for worker in self._workers.values() if not worker.process.is_alive()]:
                self._forget(worker)

    def _kill(self) -> None:
        """Whatever happened, no worker is left behind."""
        for worker in list(self._workers.values()):
            worker.process.kill()
            self._forget(worker)
        for connection in self._pending:
            connection.close()
        self._selector.close()
        for end in (self._waker, self._woken):
            end.close()

    @contextmanager
    def _stopped_by_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        # Without it Python would go on to wait in `select` after a signal.
        woken = signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, lambda *_: self.stop()) for number in numbers}
        try:
            yield
        finally:
            signal.set_wakeup_fd(woken)
            for number, handler in before.items():
                signal.signal(number, handler)
