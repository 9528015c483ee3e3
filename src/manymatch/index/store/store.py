"""The truth of an index: one SQLite file, one transaction for each acknowledged change.

Readers work on a snapshot and never wait; one writer at a time, a second waits and is then told.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...errors import DataError, IndexMismatch
from .changes import Transaction
from .connecting import Frozen, close_all, connect, read_connection, told_of
from .facts import SCHEMA as FACTS_SCHEMA
from .rows import Snapshot
from .words import TOKENS

__all__ = ["FORMAT", "Store"]

FORMAT = 2
"""Raised whenever an older program could misread what a newer one wrote."""

_READ, _WRITE = "BEGIN", "BEGIN IMMEDIATE"

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
    "identity": str,
    "calibration": dict,
}

_SCHEMA = f"""
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE sources (source INTEGER PRIMARY KEY, pictures TEXT NOT NULL UNIQUE);
CREATE TABLE generations (counter INTEGER PRIMARY KEY, token TEXT NOT NULL, last_row INTEGER NOT NULL);
CREATE TABLE gone (row INTEGER PRIMARY KEY, modality TEXT NOT NULL, counter INTEGER NOT NULL);
CREATE INDEX gone_counter ON gone (counter);
CREATE TABLE items (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    modality TEXT NOT NULL CHECK (modality IN ('image', 'caption')),
    owner TEXT,
    caption TEXT,
    text TEXT,
    metadata TEXT NOT NULL,
    labels TEXT NOT NULL,
    picture TEXT,
    source INTEGER REFERENCES sources (source),
    crc INTEGER NOT NULL,
    bias_caption REAL NOT NULL DEFAULT 0,
    bias_image REAL NOT NULL DEFAULT 0,
    vector BLOB NOT NULL
);
CREATE INDEX items_modality ON items (modality, row, bias_caption, bias_image);
CREATE INDEX items_owner ON items (owner) WHERE owner IS NOT NULL;
CREATE TABLE captions (row INTEGER PRIMARY KEY, image INTEGER);
CREATE INDEX captions_image ON captions (image);
CREATE VIEW texts AS SELECT row, text FROM items WHERE text IS NOT NULL;
CREATE VIRTUAL TABLE words USING fts5 (text, content = 'texts', content_rowid = 'row', {TOKENS});
{FACTS_SCHEMA.strip()}
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
        self._closer = weakref.finalize(self, close_all, self._idle)
        if not path.is_file():
            raise DataError(f"{path.parent}: no index here ({path.name} is missing); make one with `manymatch index`")
        with self.reading() as snapshot:
            _check(self.path, snapshot)

    @classmethod
    def create(cls, path: Path, settings: Mapping[str, Any]) -> Store:
        """A new, empty store.

        Args:
            settings: all that a store must have, except what it names or begins by itself: format, spaces,
                generation, identity, calibration.

        Raises:
            DataError: something is there already, or nothing can be written there.
        """
        connection = connect(path, cls.wait_seconds, create=True)
        try:
            with told_of(path):
                # Vectors are kilobytes: on small pages each would leave half a page empty.
                connection.execute("PRAGMA page_size = 16384")
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("BEGIN IMMEDIATE")
                if not Snapshot(connection).is_blank():
                    raise DataError(f"{path.parent}: another process has just made an index here; try again")
                for statement in _statements(_SCHEMA):
                    connection.execute(statement)
                transaction = Transaction(connection)
                begun = {"format": FORMAT, "spaces": {}, "identity": secrets.token_hex(16), "calibration": {}}
                for name, value in {**begun, **settings}.items():
                    transaction.set(name, value)
                transaction.next_generation(0)
                connection.execute("COMMIT")
        finally:
            connection.close()
        return cls(path)

    @staticmethod
    def is_blank(path: Path) -> bool:
        """True for a store whose making was interrupted before anything was in it. Raises DataError."""
        connection = connect(path, Store.wait_seconds)
        try:
            with told_of(path):
                return Snapshot(connection).is_blank()
        finally:
            connection.close()

    @contextmanager
    def reading(self) -> Iterator[Snapshot]:
        """One whole generation, whatever is written meanwhile."""
        with self._connection(_READ) as connection:
            yield Snapshot(connection)

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """One change: committed and flushed to the disk when the block ends, undone when it raises."""
        with self._connection(_WRITE) as connection:
            transaction = Transaction(connection)
            yield transaction
            if transaction.changed:
                transaction.next_generation()

    def compact(self, since: str | None = None, told: Callable[[str], object] = lambda what: None) -> bool:
        """Give the room of what was deleted back to the disk. Needs about as much room again while it works.

        What was made from a former generation is then to be made anew; searches go on meanwhile.

        Args:
            since: a generation from which on the history is kept, the current one unless told.
            told: called with the name of each step.

        Returns:
            False where others read the log and so keep its room.
        """
        told("history and words")
        with self.writing() as change:
            change.forget(since)
            change.merge_words()
        with told_of(self.path):
            connection = connect(self.path, self.wait_seconds)
            try:
                told("free room")
                connection.execute("VACUUM")
                connection.execute("PRAGMA busy_timeout = 1000")
                (busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                connection.close()
        return not busy

    def reindex(self) -> None:
        """Make the indexes of all tables again."""
        with self._connection(_WRITE) as connection:
            connection.execute("REINDEX")

    @contextmanager
    def _connection(self, begin: str) -> Iterator[sqlite3.Connection]:
        with told_of(self.path):
            connection = self._pooled(begin)
            try:
                connection.execute(begin)
                yield connection
                connection.execute("COMMIT")
                if isinstance(connection, Frozen):
                    connection.expect_same()
            except BaseException as error:
                connection.close()
                if isinstance(connection, Frozen) and isinstance(error, Exception):
                    # What was read from a file that changed says nothing about the file.
                    connection.expect_same()
                raise
            self._idle.append(connection)

    def _pooled(self, begin: str) -> sqlite3.Connection:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                make = read_connection if begin == _READ else connect
                return make(self.path, self.wait_seconds)
            if not isinstance(connection, Frozen) or (begin == _READ and not connection.stale):
                return connection
            connection.close()

    def close(self) -> None:
        """Close idle connections; the next use opens new ones."""
        close_all(self._idle)


def _statements(script: str) -> Iterator[str]:
    """Single statements of a script: `executescript` would commit the open transaction."""
    text = ""
    for line in script.strip().splitlines():
        text += line + "\n"
        if sqlite3.complete_statement(text):
            yield text
            text = ""


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
