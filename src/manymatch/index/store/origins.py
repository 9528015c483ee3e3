"""Where the images of an index came from and what they were then: what indexing again compares with.

The table lies beside the others and is made when it is first written to, so an index that was made without it goes on
working. A row of it counts as long as the item of that row has its id: what a program that does not know the table
replaces or deletes leaves rows here that nobody reads.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass

__all__ = ["Origin", "drop_origins", "has_origins", "insert_origins", "origins"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS origins (
    row INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    source TEXT NOT NULL,
    place TEXT NOT NULL,
    stamp TEXT NOT NULL,
    seen TEXT NOT NULL,
    said TEXT NOT NULL,
    told TEXT NOT NULL
)"""


@dataclass(frozen=True, slots=True)
class Origin:
    """What an image was when it was indexed.

    Attributes:
        source: the data it came from, as whoever indexes calls them; "" where nobody said.
        place: digest of where its picture lies and what it is called there.
        stamp: size and times of the file its picture lies in; "" where these say nothing.
        seen: digest of what was encoded, the picture's bytes or its features; "" where there was neither.
        said: digest of its captions.
        told: digest of its metadata and labels.
    """

    source: str
    place: str
    stamp: str
    seen: str
    said: str
    told: str


def has_origins(connection: sqlite3.Connection) -> bool:
    """Whether the table is there."""
    query = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'origins'"
    return bool(connection.execute(query).fetchone()[0])


def origins(connection: sqlite3.Connection) -> Iterator[tuple[str, Origin]]:
    """Id and origin of the images whose origin is known."""
    if has_origins(connection):
        # The sign has SQLite look ids up in their index, and not read every item for it.
        query = """
            SELECT origins.id, origins.source, place, stamp, seen, said, told
            FROM origins JOIN items ON items.id = origins.id AND +items.row = origins.row ORDER BY origins.row"""
        for id, *rest in connection.execute(query):
            yield id, Origin(*rest)


def insert_origins(connection: sqlite3.Connection, found: Iterable[tuple[int, str, Origin]]) -> None:
    """Store row, id and origin of images, in place of what was known of these rows."""
    rows = [(row, id, *astuple(origin)) for row, id, origin in found]
    if rows:
        connection.execute(_SCHEMA)
        connection.executemany("INSERT OR REPLACE INTO origins VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)


def drop_origins(connection: sqlite3.Connection, rows: str) -> None:
    """Forget the origins of items at rows, given as `json_rows`."""
    if has_origins(connection):
        connection.execute("DELETE FROM origins WHERE row IN (SELECT value FROM json_each(?))", (rows,))
