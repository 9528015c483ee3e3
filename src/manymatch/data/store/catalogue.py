"""The catalogue of a feature store: which picture's features lie in which record, and which file is which picture.

SQLite with a write-ahead log. A record is entered after its bytes are on the disk; what is entered here is what the
store has acknowledged. The catalogue can be made anew from the segments, whose records name their pictures.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...errors import DataError
from .records import Kind

__all__ = ["Catalogue", "Damaged", "Place"]

FORMAT = 1
_MANY = 500
_WAIT = 60.0

Place = tuple[str, int]
"""A record: name of its segment, row in it."""

_TABLES = """
CREATE TABLE IF NOT EXISTS kinds (
    kind INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, fragments INTEGER NOT NULL, fragment_width INTEGER NOT NULL,
    pooled_width INTEGER NOT NULL, identity TEXT NOT NULL, source TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS segments (segment INTEGER PRIMARY KEY, kind INTEGER NOT NULL, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS records (
    kind INTEGER NOT NULL, picture BLOB NOT NULL, segment INTEGER NOT NULL, row INTEGER NOT NULL,
    PRIMARY KEY (kind, picture)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files (
    place BLOB PRIMARY KEY, stamp TEXT NOT NULL, picture BLOB NOT NULL) WITHOUT ROWID;
"""


class Damaged(DataError):
    """The catalogue cannot be read; it can be made again from the segments."""


class Catalogue:
    """The catalogue at a path, made when it is not there. Threads may share one, processes open their own.

    Attributes:
        writable: whether this process may write it.

    Raises:
        DataError: cannot be made or opened, or was written by another version.
        Damaged: it is there and damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._lock = path, threading.RLock()
        self.writable = os.access(path if path.exists() else path.parent, os.W_OK) and os.access(path.parent, os.W_OK)
        with self._told():
            self._connection = self._open()
        weakref.finalize(self, self._connection.close)

    def _open(self) -> sqlite3.Connection:
        if self.writable:
            return self._connected("mode=rwc")
        try:
            return self._connected("mode=ro")
        except sqlite3.OperationalError:
            # SQLite reads its log through a file that only a writer can make; without one, nobody writes now.
            return self._connected("mode=ro&immutable=1")

    def _connected(self, how: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?{how}",
            uri=True,
            timeout=_WAIT,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            if self.writable:
                # Two processes that make the file at once would find it locked when they choose its log.
                with _locked(self.path.with_name("catalogue.lock")):
                    _prepare(connection)
            (found,) = connection.execute("PRAGMA user_version").fetchone()
            if found != FORMAT:
                raise DataError(
                    f"feature store: {str(self.path)!r} has format {found}, this version reads {FORMAT}; name another "
                    "folder with --store or MANYMATCH_STORE"
                )
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What SQLite says, as an error of ours."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if "malformed" in str(error) or "no such table" in str(error):
                raise self._damaged(error) from error
            raise DataError(
                f"feature store: {str(self.path)!r}: {error}; make room, wait for who writes, or name another folder "
                "with --store or MANYMATCH_STORE"
            ) from error
        except sqlite3.ProgrammingError:
            raise
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> Damaged:
        return Damaged(
            f"feature store: {str(self.path)!r} is damaged ({error}); it is made again from the features themselves "
            "by: manymatch features DATA --check"
        )

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction, on the disk when the block ends."""
        if not self.writable:
            raise DataError(
                f"feature store: {str(self.path.parent)!r} cannot be written by this user; name another folder with "
                "--store or MANYMATCH_STORE"
            )
        with self._lock, self._told():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _asked(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        with self._lock, self._told():
            return self._connection.execute(query, values).fetchall()

    # ---- kinds and records

    def kinds(self) -> dict[str, Kind]:
        """Every kind of features there is, by its key."""
        rows = self._asked("SELECT key, fragments, fragment_width, pooled_width, identity, source FROM kinds")
        return {str(row[0]): Kind(*row) for row in rows}

    def places(self, key: str, pictures: Iterable[bytes]) -> dict[bytes, Place]:
        """Where the features of these pictures are, of those that have some."""
        wanted, out = list(dict.fromkeys(pictures)), {}
        for some in _parts(wanted):
            for picture, name, row in self._asked(
                "SELECT picture, segments.name, row FROM records JOIN segments USING (segment) WHERE records.kind = "
                f"(SELECT kind FROM kinds WHERE key = ?) AND picture IN ({_marks(some)})",
                (key, *some),
            ):
                out[bytes(picture)] = (str(name), int(row))
        return out

    def enter(self, kind: Kind, records: Iterable[tuple[bytes, str, int]]) -> None:
        """Enter (picture, segment, row), in the place of what is there; on the disk when it returns."""
        with self._writing() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO kinds (key, fragments, fragment_width, pooled_width, identity, source) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (kind.key, kind.fragments, kind.fragment_width, kind.pooled_width, kind.identity, kind.source),
            )
            (number,) = connection.execute("SELECT kind FROM kinds WHERE key = ?", (kind.key,)).fetchone()
            numbers: dict[str, int] = {}
            for picture, name, row in records:
                if name not in numbers:
                    connection.execute("INSERT OR IGNORE INTO segments (kind, name) VALUES (?, ?)", (number, name))
                    asked = connection.execute("SELECT segment FROM segments WHERE name = ?", (name,))
                    (numbers[name],) = asked.fetchone()
                connection.execute(
                    "INSERT OR REPLACE INTO records (kind, picture, segment, row) VALUES (?, ?, ?, ?)",
                    (number, picture, numbers[name], row),
                )

    def entered(self, key: str) -> dict[str, dict[int, bytes]]:
        """Segment -> row -> picture of one kind, all of it: what checking reads."""
        out: dict[str, dict[int, bytes]] = {}
        for name, row, picture in self._asked(
            "SELECT segments.name, row, picture FROM records JOIN segments USING (segment) "
            "WHERE records.kind = (SELECT kind FROM kinds WHERE key = ?)",
            (key,),
        ):
            out.setdefault(str(name), {})[int(row)] = bytes(picture)
        return out

    def take_out(self, key: str, gone: Iterable[tuple[bytes, str, int]]) -> None:
        """Forget these records, where they are still entered as (picture, segment, row)."""
        with self._writing() as connection:
            connection.executemany(
                "DELETE FROM records WHERE kind = (SELECT kind FROM kinds WHERE key = ?) AND picture = ? "
                "AND segment = (SELECT segment FROM segments WHERE name = ?) AND row = ?",
                ((key, *one) for one in gone),
            )

    # ---- files

    def remembered(self, stamps: Mapping[bytes, str]) -> dict[bytes, bytes]:
        """Place -> SHA-256 of the picture there, where the stamp is the one it had when it was read."""
        out = {}
        for some in _parts(list(stamps)):
            query = f"SELECT place, stamp, picture FROM files WHERE place IN ({_marks(some)})"
            for place, stamp, picture in self._asked(query, some):
                if stamps[bytes(place)] == stamp:
                    out[bytes(place)] = bytes(picture)
        return out

    def remember(self, files: Iterable[tuple[bytes, str, bytes]]) -> None:
        """Keep (place, stamp, picture), in the place of what was known of a place."""
        with self._writing() as connection:
            connection.executemany("INSERT OR REPLACE INTO files (place, stamp, picture) VALUES (?, ?, ?)", files)

    # ---- health

    def faults(self) -> list[str]:
        """What SQLite finds wrong with its own file."""
        rows = self._asked("PRAGMA integrity_check")
        return [str(row[0]) for row in rows if row[0] != "ok"]


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    if connection.execute("PRAGMA user_version").fetchone() == (0,):
        connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {FORMAT}; COMMIT;")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _parts(values: list[bytes]) -> Iterator[list[bytes]]:
    for start in range(0, len(values), _MANY):
        yield values[start : start + _MANY]


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))
