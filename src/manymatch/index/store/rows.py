"""Items as they go into a store and come out of it, and what can be asked of one whole generation."""

from __future__ import annotations

import json
import random
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Literal

import numpy as np

from ...errors import UnknownName
from ..filters import Value, Where
from . import facts, words
from .origins import Origin, origins
from .overview import FieldSeen, overview

__all__ = ["MODALITIES", "Added", "Changes", "Modality", "Record", "Snapshot", "Stored"]

Array = np.ndarray[Any, Any]

Modality = Literal["image", "caption"]

MODALITIES: tuple[Modality, ...] = ("image", "caption")


@dataclass(frozen=True)
class Record:
    """One item on its way into the store.

    Attributes:
        vector: its packed embedding in the index's precision.
        owner: of a caption, the id of its image.
        bias_caption, bias_image: what is taken off its score when a caption or an image asks.
        origin: of an image, where it came from, where that is to be known when it is indexed again.
    """

    id: str
    vector: bytes
    owner: str | None = None
    caption: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    labels: Sequence[str] = ()
    picture: str | None = None
    bias_caption: float = 0.0
    bias_image: float = 0.0
    origin: Origin | None = None


@dataclass(frozen=True)
class Stored:
    """One item as it lies in the store, without its vector."""

    row: int
    id: str
    modality: Modality
    owner: str | None
    caption: str | None
    metadata: dict[str, Any]
    labels: list[str]
    picture: str | None
    source: int | None


@dataclass(frozen=True)
class Added:
    """How many items a change added, and how many known ones it replaced. Captions are counted with their images."""

    added: int = 0
    replaced: int = 0

    def __add__(self, other: Added) -> Added:
        return Added(self.added + other.added, self.replaced + other.replaced)


@dataclass(frozen=True)
class Changes:
    """What happened since a generation: items with a row after `last_row` are new, and those at `gone` left.

    Rows are never used twice, so what was made then is brought up to date by these two.

    Attributes:
        last_row: the last row that had been given out then.
        gone: (n,) int64 ascending, rows up to `last_row` that were deleted since.
    """

    last_row: int
    gone: Array


class Snapshot:
    """Reads one whole generation. The order of items is the order of their rows."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    # ---- the store

    def has_settings(self) -> bool:
        query = "SELECT count(*) FROM sqlite_master WHERE name = 'settings'"
        return bool(self._connection.execute(query).fetchone()[0])

    def is_blank(self) -> bool:
        return not self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]

    def setting(self, name: str) -> Any:
        """The value of a setting. Raises KeyError."""
        found = self._connection.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
        if found is None:
            raise KeyError(name)
        return json.loads(found[0])

    def settings(self) -> dict[str, Any]:
        """All settings."""
        return {name: json.loads(value) for name, value in self._connection.execute("SELECT name, value FROM settings")}

    @property
    def generation(self) -> str:
        return str(self.setting("generation"))

    @property
    def last_row(self) -> int:
        """The last row that was ever given out, 0 before the first."""
        found = self._connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'items'").fetchone()
        return 0 if found is None else int(found[0])

    def changes_since(self, generation: str, modality: Modality | None = None) -> Changes | None:
        """What to do to something made from `generation`, or None where that is not in this store's history.

        It is not when it was made by another index, in a future that was lost with a write-ahead log, or before what
        was forgotten.
        """
        counter, _, token = generation.partition("-")
        query = "SELECT counter, last_row FROM generations WHERE counter = CAST(? AS INTEGER) AND token = ?"
        found = self._connection.execute(query, (counter, token)).fetchone()
        if found is None:
            return None
        # The sign keeps SQLite from walking over all rows that ever left.
        query = "SELECT row FROM gone WHERE counter > ? AND +row <= ? AND modality = coalesce(?, modality) ORDER BY row"
        return Changes(found[1], facts.row_array(self._connection.execute(query, (*found, modality))))

    # ---- items

    def count(self, modality: Modality | None = None) -> int:
        where, values = ("WHERE modality = ?", (modality,)) if modality else ("", ())
        return int(self._connection.execute(f"SELECT count(*) FROM items {where}", values).fetchone()[0])

    def longest(self, modality: Modality) -> int:
        """Bytes of the longest vector, 0 when there is none."""
        query = "SELECT max(length(vector)) FROM items WHERE modality = ?"
        return int(self._connection.execute(query, (modality,)).fetchone()[0] or 0)

    def vectors(self, modality: Modality, after: int = 0) -> Iterator[tuple[int, bytes]]:
        """Row and packed vector of the items after a row, in the order of rows."""
        query = "SELECT row, vector FROM items WHERE modality = ? AND row > ? ORDER BY row"
        yield from self._connection.execute(query, (modality, after))

    def biases(self, modality: Modality, asking: Modality, after: int = 0) -> tuple[Array, Array]:
        """Rows (n,) int64 ascending of the items after a row, and their biases (n,) float32 when `asking` asks."""
        column = {"image": "bias_image", "caption": "bias_caption"}[asking]
        query = f"SELECT row, {column} FROM items WHERE modality = ? AND row > ? ORDER BY row"
        found = np.fromiter(
            self._connection.execute(query, (modality, after)), np.dtype([("row", np.int64), ("bias", np.float32)])
        )
        return np.ascontiguousarray(found["row"]), np.ascontiguousarray(found["bias"])

    def vector(self, row: int) -> bytes:
        return bytes(self._connection.execute("SELECT vector FROM items WHERE row = ?", (row,)).fetchone()[0])

    def damaged_rows(self) -> list[tuple[int, str, Modality, int]]:
        """Row, id, modality and checksum of the items whose vector is not what was written."""
        query = "SELECT row, id, modality, crc, vector FROM items ORDER BY row"
        return [(*found[:4],) for found in self._connection.execute(query) if zlib.crc32(found[4]) != found[3]]

    def items(self, rows: Sequence[int]) -> list[Stored]:
        """The items at these rows, in this order. A caption carries the metadata of its image."""
        where = "items.row IN (SELECT value FROM json_each(?))"
        found = {stored.row: stored for stored in self._select(where, facts.json_rows(rows))}
        return [found[row] for row in rows]

    def item(self, id: str) -> Stored:
        """The item called `id`. Raises UnknownName with near ids."""
        # What is not Unicode cannot be bound, and cannot be in the store either.
        if _encodable(id):
            for stored in self._select("items.id = ?", id):
                return stored
        known = [found[0] for found in self._connection.execute("SELECT id FROM items ORDER BY row LIMIT 10000")]
        near = get_close_matches(id, known, n=3, cutoff=0.5)
        raise UnknownName("id in this index", id, near or known[:3])

    def _select(self, where: str, value: str) -> Iterator[Stored]:
        query = f"""
            SELECT items.row, items.id, items.modality, items.owner, items.caption,
                   coalesce(image.metadata, items.metadata), coalesce(image.labels, items.labels),
                   coalesce(image.picture, items.picture), coalesce(image.source, items.source)
            FROM items LEFT JOIN items AS image ON image.id = items.owner WHERE {where}"""
        for row, id, modality, owner, caption, metadata, labels, picture, source in self._connection.execute(
            query, (value,)
        ):
            told = {} if metadata == "{}" else json.loads(metadata), [] if labels == "[]" else json.loads(labels)
            yield Stored(row, id, modality, owner, caption, *told, picture, source)

    def captions(self, id: str) -> list[str]:
        """Texts of the captions of an image, in their order."""
        query = "SELECT caption FROM items WHERE owner = ? AND caption IS NOT NULL ORDER BY row"
        return [found[0] for found in self._connection.execute(query, (id,))]

    def first_captions(self, ids: Sequence[str]) -> dict[str, str]:
        """Image -> text of its first caption, of those that have one."""
        # Of the columns beside it, `min` chooses the row.
        query = """
            SELECT owner, caption, min(row) FROM items
            WHERE owner IN (SELECT value FROM json_each(?)) AND caption IS NOT NULL GROUP BY owner"""
        return {owner: caption for owner, caption, _ in self._connection.execute(query, (json.dumps(ids),))}

    def examples(self, n: int, seed: int) -> list[str]:
        """Up to n different captions; the same seed and generation give the same ones."""
        query = "SELECT row FROM items WHERE modality = 'caption' AND caption IS NOT NULL ORDER BY row"
        rows = [found[0] for found in self._connection.execute(query)]
        chosen = random.Random(seed).sample(rows, min(len(rows), 4 * n))
        return list(dict.fromkeys(str(stored.caption) for stored in self.items(chosen)))[:n]

    def source(self, number: int) -> dict[str, Any]:
        """What `Pictures.describe` said of the pictures of this source."""
        query = "SELECT pictures FROM sources WHERE source = ?"
        return dict(json.loads(self._connection.execute(query, (number,)).fetchone()[0]))

    def origins(self) -> Iterator[tuple[str, Origin]]:
        """Id and origin of the images whose origin is known."""
        return origins(self._connection)

    def images_among(self, ids: Sequence[str]) -> set[str]:
        """Those of the ids that are images of the index."""
        query = "SELECT id FROM items WHERE modality = 'image' AND id IN (SELECT value FROM json_each(?))"
        return {id for (id,) in self._connection.execute(query, (json.dumps(list(ids)),))}

    # ---- filters, facets, words

    def passing(self, modality: Modality, where: Where) -> Array:
        """Rows (n,) int64 ascending of the items that pass; a caption passes by the metadata of its image."""
        return facts.passing(self._connection, modality, where)

    def fields(self, modality: Modality | None = None) -> list[str]:
        """Names of the fields that can be asked about: those that some item has."""
        return facts.fields(self._connection, modality)

    def overview(self) -> list[FieldSeen]:
        """The fields that images have, and what these hold."""
        return overview(self._connection)

    def values(self, field: str, rows: Iterable[int]) -> list[list[Value]]:
        """A field's values of each item at `rows`, as `facts.values`."""
        return facts.values(self._connection, field, rows)

    def facet(
        self, modality: Modality, field: str, rows: Array | None = None, limit: int = 20
    ) -> list[tuple[Value, int]]:
        """Values of a field and how many items have each, as `facts.facet`."""
        return facts.facet(self._connection, modality, field, rows, limit)

    def words(self, modality: Modality, text: str, count: int, rows: Array | None = None) -> list[int]:
        """Rows of the items whose words fit best, as `words.best_rows`."""
        return words.best_rows(self._connection, modality, text, count, rows)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
