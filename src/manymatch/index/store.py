"""The truth of an index: one SQLite file, one transaction for each acknowledged change.

Readers work on a snapshot and never wait; one writer at a time, a second waits and is then told.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import weakref
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import DataError, IndexMismatch
from .rows import Snapshot, Transaction

__all__ = ["FORMAT", "Store"]

FORMAT = 1
"""Raised whenever an older program could misread what a newer one wrote."""

_REQUIRED = {
    "format": int,
    "fingerprint": str,
    "similarity": str,
    "model": str,
    "precision": str,
    "engine": str,
    "agreement": float,
    "spaces": dict,
    "generation": str,
}

_SCHEMA = """
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE sources (source INTEGER PRIMARY KEY, pictures TEXT NOT NULL UNIQUE);
CREATE TABLE items (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    modality TEXT NOT NULL CHECK (modality IN ('image', 'caption')),
    owner TEXT,
    caption TEXT,
    metadata TEXT NOT NULL,
    labels TEXT NOT NULL,
    picture TEXT,
    source INTEGER REFERENCES sources (source),
    vector BLOB NOT NULL
);
CREATE INDEX items_modality ON items (modality);
CREATE INDEX items_owner ON items (owner) WHERE owner IS NOT NULL;
CREATE VIEW captions AS SELECT row, caption FROM items WHERE caption IS NOT NULL;
CREATE VIRTUAL TABLE words USING fts5 (caption, content = 'captions', content_rowid = 'row');
CREATE TRIGGER words_of_new AFTER INSERT ON items WHEN new.caption IS NOT NULL BEGIN
    INSERT INTO words (rowid, caption) VALUES (new.row, new.caption);
END;
CREATE TRIGGER words_of_gone AFTER DELETE ON items WHEN old.caption IS NOT NULL BEGIN
    INSERT INTO words (words, rowid, caption) VALUES ('delete', old.row, old.caption);
END;
"""


class Store:
    """Connections to one index file. Safe to use from many threads and many processes.

    Raises:
        DataError: the file is not there, is not an index, is damaged, or another process keeps writing.
        IndexMismatch: the file has another format number.
    """

    wait_seconds = 30.0
    """How long a writer waits for another one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._idle: deque[sqlite3.Connection] = deque()
        self._closer = weakref.finalize(self, _close_all, self._idle)
        if not path.is_file():
            raise DataError(f"{path.parent}: no index here ({path.name} is missing); make one with `manymatch index`")
        with self.reading() as snapshot:
            _check(self.path, snapshot)

    @classmethod
    def create(cls, path: Path, settings: Mapping[str, Any]) -> Store:
        """A new, empty store. `settings` lacks only what the store itself keeps: format, spaces, generation."""
        connection = _connect(path, cls.wait_seconds)
        try:
            with _told(path):
                # Vectors are kilobytes: on small pages each would leave half a page empty.
                connection.execute("PRAGMA page_size = 16384")
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("BEGIN IMMEDIATE")
                for statement in _statements(_SCHEMA):
                    connection.execute(statement)
                transaction = Transaction(connection)
                for name, value in {**settings, "format": FORMAT, "spaces": {}}.items():
                    transaction.set(name, value)
                transaction.set("generation", f"0-{secrets.token_hex(8)}")
                connection.execute("COMMIT")
        finally:
            connection.close()
        return cls(path)

    @staticmethod
    def is_blank(path: Path) -> bool:
        """True for a store whose making was interrupted before anything was in it. Raises DataError."""
        connection = _connect(path, Store.wait_seconds)
        try:
            with _told(path):
                return Snapshot(connection).is_blank()
        finally:
            connection.close()

    @contextmanager
    def reading(self) -> Iterator[Snapshot]:
        """One whole generation, whatever is written meanwhile."""
        with self._connection("BEGIN") as connection:
            yield Snapshot(connection)

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """One change: committed and flushed to the disk when the block ends, undone when it raises."""
        with self._connection("BEGIN IMMEDIATE") as connection:
            transaction = Transaction(connection)
            yield transaction
            if transaction.changed:
                counter = int(str(transaction.setting("generation")).split("-")[0]) + 1
                # The counter alone could come again after a lost write-ahead log; the random part cannot.
                transaction.set("generation", f"{counter}-{secrets.token_hex(8)}")

    @contextmanager
    def _connection(self, begin: str) -> Iterator[sqlite3.Connection]:
        with _told(self.path):
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = _connect(self.path, self.wait_seconds)
            try:
                connection.execute(begin)
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                connection.close()
                raise
            self._idle.append(connection)

    def close(self) -> None:
        """Close idle connections; the next use opens new ones."""
        _close_all(self._idle)


def _connect(path: Path, wait: float) -> sqlite3.Connection:
    with _told(path):
        # The pool hands a connection to one thread at a time.
        connection = sqlite3.connect(path, timeout=wait, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA synchronous = FULL")
        return connection


def _close_all(idle: deque[sqlite3.Connection]) -> None:
    while idle:
        idle.pop().close()


def _statements(script: str) -> Iterator[str]:
    """Single statements of a script: `executescript` would commit the open transaction."""
    text = ""
    for line in script.strip().splitlines():
        text += line + "\n"
        if sqlite3.complete_statement(text):
            yield text
            text = ""


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turns what SQLite says about a busy, full or damaged file into an error of ours."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "locked" in str(error) or "busy" in str(error):
            raise DataError(f"{path}: another process is writing to this index; wait for it and try again") from error
        if any(word in str(error) for word in ("full", "unable to open", "readonly", "disk I/O")):
            raise DataError(f"{path}: {error}; make room or give this user the right to write there") from error
        raise
    except sqlite3.DatabaseError as error:
        if isinstance(error, (sqlite3.IntegrityError, sqlite3.ProgrammingError)):
            raise
        raise DataError(f"{path}: {error}; the index is damaged, build it again from its data") from error


def _check(path: Path, snapshot: Snapshot) -> None:
    """Settings present and of the right type; the format number is looked at first."""
    if not snapshot.has_settings():
        raise DataError(f"{path}: not an index, or its making was interrupted; delete it and build it again")
    for name, kind in _REQUIRED.items():
        try:
            value = snapshot.setting(name)
        except (KeyError, json.JSONDecodeError):
            raise DataError(f"{path}: setting {name!r} is missing or damaged; build the index again") from None
        if not isinstance(value, kind):
            raise DataError(f"{path}: setting {name!r} is {value!r}, expected {kind.__name__}; build the index again")
        if name == "format" and value != FORMAT:
            raise IndexMismatch(
                f"{path}: index format {value}, this version reads {FORMAT}; "
                "build the index again, or use the version that made it"
            )
