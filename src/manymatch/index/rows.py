"""What can be asked of a store inside one transaction, and what can be changed in it."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Literal

from ..errors import DataError, UnknownName

__all__ = ["Added", "Modality", "Record", "Snapshot", "Stored", "Transaction"]

Modality = Literal["image", "caption"]

_MANY = 500
"""Parameters in one statement: below the limit of any SQLite in use."""


@dataclass(frozen=True)
class Record:
    """One item on its way into the store; `vector` is its packed embedding in the index's precision."""

    id: str
    vector: bytes
    owner: str | None = None
    caption: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    labels: Sequence[str] = ()
    picture: str | None = None


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


class Snapshot:
    """Reads one whole generation."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

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

    @property
    def generation(self) -> str:
        return str(self.setting("generation"))

    def count(self, modality: Modality | None = None) -> int:
        where, values = ("WHERE modality = ?", (modality,)) if modality else ("", ())
        return int(self._connection.execute(f"SELECT count(*) FROM items {where}", values).fetchone()[0])

    def longest(self, modality: Modality) -> int:
        """Bytes of the longest vector, 0 when there is none."""
        query = "SELECT max(length(vector)) FROM items WHERE modality = ?"
        return int(self._connection.execute(query, (modality,)).fetchone()[0] or 0)

    def vectors(self, modality: Modality) -> Iterator[tuple[int, bytes]]:
        """Row and packed vector, in the order of rows."""
        query = "SELECT row, vector FROM items WHERE modality = ? ORDER BY row"
        yield from self._connection.execute(query, (modality,))

    def vector(self, row: int) -> bytes:
        return bytes(self._connection.execute("SELECT vector FROM items WHERE row = ?", (row,)).fetchone()[0])

    def items(self, rows: Sequence[int]) -> list[Stored]:
        """The items at these rows, in this order. A caption carries the metadata of its image."""
        found: dict[int, Stored] = {}
        for part in _parts(rows):
            for stored in self._select(f"items.row IN ({_marks(part)})", part):
                found[stored.row] = stored
        return [found[row] for row in rows]

    def item(self, id: str) -> Stored:
        """The item called `id`. Raises UnknownName with near ids."""
        for stored in self._select("items.id = ?", (id,)):
            return stored
        known = [found[0] for found in self._connection.execute("SELECT id FROM items ORDER BY row LIMIT 10000")]
        near = get_close_matches(id, known, n=3, cutoff=0.5)
        raise UnknownName("id in this index", id, near or known[:3])

    def _select(self, where: str, values: Sequence[Any]) -> Iterator[Stored]:
        query = f"""
            SELECT items.row, items.id, items.modality, items.owner, items.caption,
                   coalesce(image.metadata, items.metadata), coalesce(image.labels, items.labels),
                   coalesce(image.picture, items.picture), coalesce(image.source, items.source)
            FROM items LEFT JOIN items AS image ON image.id = items.owner WHERE {where}"""
        for row, id, modality, owner, caption, metadata, labels, picture, source in self._connection.execute(
            query, tuple(values)
        ):
            yield Stored(row, id, modality, owner, caption, json.loads(metadata), json.loads(labels), picture, source)

    def captions(self, id: str, limit: int = -1) -> list[str]:
        """Texts of the captions of an image, in their order; at most `limit` of them when it is not negative."""
        query = "SELECT caption FROM items WHERE owner = ? AND caption IS NOT NULL ORDER BY row LIMIT ?"
        return [found[0] for found in self._connection.execute(query, (id, limit))]

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


class Transaction(Snapshot):
    """One change: everything in it happens or nothing does."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(connection)
        self.changed = False

    def set(self, name: str, value: Any) -> None:
        self._connection.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, _json(value, name)))

    def put(self, modality: Modality, records: Sequence[Record], pictures: Mapping[str, Any] | None = None) -> Added:
        """Insert the records; a known id is replaced, and a replaced image loses its captions.

        Raises:
            DataError: an id twice, an id that is already another modality's or another image's, an owner that is not
                an image of the index, metadata that is not JSON.
        """
        if not records:
            return Added()
        known = self._known([record.id for record in records])
        self._refuse(modality, records, known)
        self._remove([(row, modality, record.id) for record in records for row, *_ in known.get(record.id, [])])
        source = None if pictures is None else self._source(pictures)
        self._connection.executemany(
            "INSERT INTO items (id, modality, owner, caption, metadata, labels, picture, source, vector)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    r.id,
                    modality,
                    r.owner,
                    r.caption,
                    _json(r.metadata, f"metadata of {r.id!r}"),
                    _json(list(r.labels), f"labels of {r.id!r}"),
                    r.picture,
                    None if r.picture is None else source,
                    r.vector,
                )
                for r in records
            ),
        )
        self.changed = True
        return Added(len(records) - len(known), len(known))

    def delete(self, ids: Sequence[str]) -> int:
        """Delete items and the captions of the images among them; how many items went. Raises UnknownName."""
        known = self._known(ids)
        for id in ids:
            if id not in known:
                self.item(id)
        before = self._connection.total_changes
        gone = [(row, modality, id) for id, found in known.items() for row, modality, _ in found]
        count = self.count()
        self._remove(gone)
        self.changed |= self._connection.total_changes > before
        return count - self.count()

    def _known(self, ids: Iterable[str]) -> dict[str, list[tuple[int, Modality, str | None]]]:
        found: dict[str, list[tuple[int, Modality, str | None]]] = {}
        for part in _parts(list(ids)):
            query = f"SELECT id, row, modality, owner FROM items WHERE id IN ({_marks(part)})"
            for id, *rest in self._connection.execute(query, part):
                found[id] = [(rest[0], rest[1], rest[2])]
        return found

    def _refuse(
        self,
        modality: Modality,
        records: Sequence[Record],
        known: Mapping[str, list[tuple[int, Modality, str | None]]],
    ) -> None:
        seen: set[str] = set()
        for record in records:
            if record.id in seen:
                raise DataError(f"id {record.id!r} is given twice, expected every id once")
            seen.add(record.id)
            for _, other, owner in known.get(record.id, []):
                if (other, owner) != (modality, record.owner):
                    whose = f" of {owner!r}" if owner is not None else ""
                    raise DataError(
                        f"id {record.id!r} of a new {modality} is already that of the {other}{whose}; rename one"
                    )
        owners = {record.owner for record in records if record.owner is not None}
        images = {id for id, found in self._known(sorted(owners)).items() if found[0][1] == "image"}
        if owners - images:
            raise DataError(
                f"owner {min(owners - images)!r} of a caption is not an image of this index; add the image first"
            )

    def _remove(self, items: Sequence[tuple[int, Modality, str]]) -> None:
        images = [(id,) for _, modality, id in items if modality == "image"]
        self._connection.executemany("DELETE FROM items WHERE owner = ?", images)
        self._connection.executemany("DELETE FROM items WHERE row = ?", [(row,) for row, _, _ in items])

    def _source(self, pictures: Mapping[str, Any]) -> int:
        text = json.dumps(dict(pictures), sort_keys=True)
        self._connection.execute("INSERT OR IGNORE INTO sources (pictures) VALUES (?)", (text,))
        query = "SELECT source FROM sources WHERE pictures = ?"
        return int(self._connection.execute(query, (text,)).fetchone()[0])


def _json(value: Any, what: str) -> str:
    try:
        return json.dumps(dict(value) if isinstance(value, Mapping) else value, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise DataError(f"{what}: {error}; expected what JSON can hold") from None


def _parts(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(values), _MANY):
        yield values[start : start + _MANY]


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))
