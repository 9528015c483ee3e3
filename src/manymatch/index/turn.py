"""Whose turn it is to make what is derived of an index: of all threads and processes one at a time."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Turn"]

_FILE = "refresh.lock"


class Turn:
    """The turn of one index folder: a lock file, which the kernel lets go of with the process that holds it.

    Where the folder cannot be written, or its file system has no locks, no other process is kept out. What they make is
    the same and put in place whole, so that nothing but their work is lost.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._here = folder, threading.Lock()

    @contextmanager
    def taken(self, wait: bool = True, told: Callable[[str], object] = lambda what: None) -> Iterator[bool]:
        """Whether it was got; always, unless waiting is not wanted.

        Args:
            told: called before waiting for another process.
        """
        if not self._here.acquire(blocking=wait):
            yield False
            return
        try:
            with self._file() as handle:
                yield handle is None or _locked(handle, wait, told)
        finally:
            self._here.release()

    @contextmanager
    def _file(self) -> Iterator[int | None]:
        try:
            handle = os.open(self._folder / _FILE, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:
            yield None
            return
        try:
            yield handle
        finally:
            os.close(handle)


def _locked(handle: int, wait: bool, told: Callable[[str], object]) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if not wait:
            return False
        told("waiting for another process, which makes them now")
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError:
        # No locks here.
        return True
    return True
