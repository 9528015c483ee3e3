"""One change of a store: what is put into it and deleted from it, all of it or nothing."""

from __future__ import annotations

import json
import secrets
import sqlite3
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ...errors import DataError
from .admission import Known, admit, encoded
from .amending import Amended, amend
from .facts import delete_facts, facts_of, insert_facts, json_rows, text_of
from .origins import drop_origins, insert_origins
from .rows import Added, Modality, Record, Snapshot
from .words import for_words

__all__ = ["Transaction"]

_MANY = 500
"""Parameters in one statement: below the limit of any SQLite in use."""


class Transaction(Snapshot):
    """One change: everything in it happens or nothing does."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(connection)
        self.changed = False

    def set(self, name: str, value: Any) -> None:
        """Change a setting."""
        self._connection.execute(
            "INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, encoded(value, "setting", name))
        )
        self.changed = True

    def next_generation(self, counter: int | None = None) -> None:
        """End the change with a generation of its own, the one after the last unless a counter is given."""
        if counter is None:
            counter = int(self.generation.partition("-")[0]) + 1
        # The counter alone could come again after a lost write-ahead log; the random part cannot.
        token = secrets.token_hex(8)
        self.set("generation", f"{counter}-{token}")
        self._connection.execute("INSERT INTO generations VALUES (?, ?, ?)", (counter, token, self.last_row))

    def forget(self, before: str | None = None) -> None:
        """Let go of the history before a generation, the current one unless told.

        What was made from an older one is then to be made anew.
        """
        counter = int((before or self.generation).partition("-")[0])
        self._connection.execute("DELETE FROM gone WHERE counter <= ?", (counter,))
        self._connection.execute("DELETE FROM generations WHERE counter < ?", (counter,))

    def merge_words(self) -> None:
        """Leave out of the full-text tables what was deleted."""
        for table in ("words", "fact_words"):
            self._connection.execute(f"INSERT INTO {table} ({table}) VALUES ('optimize')")

    def check_words(self, table: str) -> None:
        """Raises sqlite3.DatabaseError where a full-text table does not hold what it was made from; changes nothing."""
        self._connection.execute(f"INSERT INTO {table} ({table}, rank) VALUES ('integrity-check', 1)")

    def restore(self, row: int, vector: bytes) -> None:
        """Give an item's vector back what was written."""
        self._connection.execute("UPDATE items SET vector = ? WHERE row = ?", (vector, row))
        self.changed = True

    def put(self, modality: Modality, records: Sequence[Record], pictures: Mapping[str, Any] | None = None) -> Added:
        """Insert the records; a known id is replaced, and a replaced image loses its captions.

        Raises:
            DataError: an id twice, an id that is already another modality's or another image's, an owner that is not
                an image of the index, metadata that is not JSON, text that is not Unicode.
        """
        if not records:
            return Added()
        try:
            known = admit(modality, records, self._known)
            self._remove(known.values())
            self._insert(modality, records, None if pictures is None else self._source(pictures))
        except UnicodeEncodeError as error:
            raise DataError(f"text of a new {modality} is not valid Unicode: {error.object[:80]!r}; mend it") from None
        self.changed = True
        return Added(len(records) - len(known), len(known))

    def _insert(self, modality: Modality, records: Sequence[Record], source: int | None) -> None:
        texts = [
            for_words(record.caption if modality == "caption" else text_of(record.metadata, record.labels))
            for record in records
        ]
        first = self.last_row + 1
        self._connection.executemany(
            "INSERT INTO items (row, id, modality, owner, caption, text, metadata, labels, picture, source, crc,"
            " bias_caption, bias_image, vector) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    row,
                    r.id,
                    modality,
                    r.owner,
                    r.caption,
                    text,
                    encoded(r.metadata, "metadata of", r.id) if r.metadata else "{}",
                    encoded(list(r.labels), "labels of", r.id) if r.labels else "[]",
                    r.picture,
                    None if r.picture is None else source,
                    zlib.crc32(r.vector),
                    r.bias_caption,
                    r.bias_image,
                    r.vector,
                )
                for row, (r, text) in enumerate(zip(records, texts, strict=True), first)
            ),
        )
        self._connection.executemany(
            "INSERT INTO words (rowid, text) VALUES (?, ?)",
            ((row, text) for row, text in enumerate(texts, first) if text is not None),
        )
        if modality == "caption":
            self._connection.executemany(
                "INSERT INTO captions VALUES (?, (SELECT row FROM items WHERE id = ?))",
                ((row, record.owner) for row, record in enumerate(records, first)),
            )
        insert_origins(
            self._connection,
            ((row, r.id, r.origin) for row, r in enumerate(records, first) if r.origin is not None),
        )
        insert_facts(
            self._connection,
            (
                (name, value, row)
                for row, record in enumerate(records, first)
                if record.owner is None and (record.metadata or record.labels)
                for name, value in facts_of(record.metadata, record.labels)
            ),
        )

    def amend(self, amended: Sequence[Amended], pictures: Mapping[str, Any] | None = None) -> None:
        """Change what images are called and described as; they keep their rows. Raises DataError as `amend`."""
        source = None if pictures is None else self._source(pictures)
        try:
            changed = amend(self._connection, amended, source, self._known, lambda found: self._remove(found.values()))
        except UnicodeEncodeError as error:
            raise DataError(f"text of an image is not valid Unicode: {error.object[:80]!r}; mend it") from None
        # Origins alone say nothing to searches.
        self.changed |= changed

    def delete(self, ids: Sequence[str]) -> int:
        """Delete items and the captions of the images among them; how many items went. Raises UnknownName."""
        try:
            known = self._known(ids)
        except UnicodeEncodeError:
            known = {}
        for id in ids:
            if id not in known:
                self.item(id)
        count = self._remove(known.values())
        self.changed |= count > 0
        return count

    def _known(self, ids: Iterable[str]) -> Known:
        found: dict[str, tuple[int, Modality, str | None]] = {}
        for part in _parts(list(ids)):
            query = f"SELECT id, row, modality, owner FROM items WHERE id IN ({', '.join('?' * len(part))})"
            for id, *rest in self._connection.execute(query, part):
                found[id] = (rest[0], rest[1], rest[2])
        return found

    def _remove(self, known: Collection[tuple[int, Modality, str | None]]) -> int:
        """Delete items and the captions of the images among them; how many items went."""
        images = json_rows(row for row, modality, _ in known if modality == "image")
        captions = "SELECT row FROM captions WHERE image IN (SELECT value FROM json_each(?))"
        rows = {row for row, *_ in known} | {row for (row,) in self._connection.execute(captions, (images,))}
        if not rows:
            return 0
        gone = json_rows(sorted(rows))
        among, next_ = "row IN (SELECT value FROM json_each(?))", "(SELECT max(counter) + 1 FROM generations)"
        delete_facts(self._connection, gone)
        drop_origins(self._connection, gone)
        for statement in (
            f"INSERT INTO words (words, rowid, text) SELECT 'delete', row, text FROM texts WHERE {among} ORDER BY row",
            f"INSERT INTO gone SELECT row, modality, {next_} FROM items WHERE {among}",
            f"DELETE FROM captions WHERE {among}",
            f"DELETE FROM items WHERE {among}",
        ):
            self._connection.execute(statement, (gone,))
        return len(rows)

    def _source(self, pictures: Mapping[str, Any]) -> int:
        text = json.dumps(dict(pictures), sort_keys=True)
        self._connection.execute("INSERT OR IGNORE INTO sources (pictures) VALUES (?)", (text,))
        query = "SELECT source FROM sources WHERE pictures = ?"
        return int(self._connection.execute(query, (text,)).fetchone()[0])


def _parts(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(values), _MANY):
        yield values[start : start + _MANY]
