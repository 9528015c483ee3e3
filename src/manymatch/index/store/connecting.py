"""Connections to the SQLite file of an index, also where this process may only read."""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import DataError

__all__ = ["Frozen", "close_all", "connect", "read_connection", "told_of"]

_UNWRITABLE = ("full", "unable to open", "readonly", "disk I/O")
"""What SQLite says where there is no room, or no right to write."""

_SEEN = tuple[int, int, int, bool]


class Frozen(sqlite3.Connection):
    """A connection to a file where nothing can be written: without locks, so it tells whether the file changed.

    SQLite's write-ahead log needs a file of shared memory beside it, which only a writer can make. Where there is no
    log either, the file is whole by itself, and can be read as one that never changes.
    """

    path: Path
    seen: _SEEN

    @property
    def stale(self) -> bool:
        """Whether somebody else has changed the file, or begun to."""
        return _look(self.path) != self.seen

    def expect_same(self) -> None:
        """Raises DataError where the file changed, so that what was read may be of two generations."""
        if self.stale:
            raise DataError(f"{self.path}: somebody wrote while it was read by a user who cannot; try again")


def connect(path: Path, wait: float, *, create: bool = False) -> sqlite3.Connection:
    """A connection that reads and writes, whose commits are on the disk when they return.

    Args:
        wait: seconds to wait for another writer.
        create: whether to make a file that is missing.
    """
    with told_of(path):
        return _opened(path, wait, "rwc" if create else "rw")


def _opened(path: Path, wait: float, mode: str) -> sqlite3.Connection:
    # The pool hands a connection to one thread at a time.
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=wait,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA schema_version").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def read_connection(path: Path, wait: float) -> sqlite3.Connection:
    """A connection to read from, whether or not this process may write there.

    Raises:
        DataError: changes wait in a write-ahead log that cannot be read without writing.
    """
    try:
        return _opened(path, wait, "rw")
    except sqlite3.OperationalError as error:
        if any(word in str(error) for word in _UNWRITABLE):
            return _frozen(path, error)
        raise


def _frozen(path: Path, error: sqlite3.OperationalError) -> Frozen:
    try:
        seen = _look(path)
    except OSError:
        raise error from None
    if seen[-1]:
        raise DataError(
            f"{path.parent}: changes wait in {path.name}-wal, and reading them takes the right to write there; "
            "open the index once as a user who has it, or copy the whole folder to where this one has it"
        ) from error
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro&immutable=1",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        factory=Frozen,
    )
    connection.path, connection.seen = path, seen
    return connection


def _look(path: Path) -> _SEEN:
    about = path.stat()
    log = path.with_name(f"{path.name}-wal")
    return about.st_ino, about.st_size, about.st_mtime_ns, log.exists() and log.stat().st_size > 0


def close_all(idle: deque[sqlite3.Connection]) -> None:
    """Close and forget connections that nobody uses."""
    while idle:
        idle.pop().close()


@contextmanager
def told_of(path: Path) -> Iterator[None]:
    """Turns what SQLite says about a busy, full or damaged file into an error of ours."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "locked" in str(error) or "busy" in str(error):
            raise DataError(f"{path}: another process is writing to this index; wait for it and try again") from error
        if any(word in str(error) for word in _UNWRITABLE):
            raise DataError(f"{path}: {error}; make room or give this user the right to write there") from error
        raise
    except sqlite3.DatabaseError as error:
        if isinstance(error, (sqlite3.IntegrityError, sqlite3.ProgrammingError)):
            raise
        raise DataError(f"{path}: {error}; the index is damaged, build it again from its data") from error
