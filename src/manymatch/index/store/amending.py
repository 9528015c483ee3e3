"""Images that keep their rows, vectors and captions while their ids, pictures or metadata change.

Nothing that is derived has to be made again: mapped rows and candidates go by rows and vectors, which stay.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import DataError
from .admission import Known, encoded
from .facts import delete_facts, facts_of, insert_facts, json_rows, text_of
from .origins import Origin, insert_origins
from .words import for_words

__all__ = ["Amended", "amend", "caption_id"]


@dataclass(frozen=True)
class Amended:
    """An image as it is to be called and described from now on.

    Attributes:
        before: its id so far.
    """

    before: str
    id: str
    origin: Origin
    metadata: Mapping[str, Any] = field(default_factory=dict)
    labels: Sequence[str] = ()
    picture: str | None = None


def caption_id(id: str, before: str, after: str) -> str:
    """What a caption called `id` of the image `before` is called once that is called `after`."""
    return after + id[len(before) :] if id.startswith(f"{before}#") else id


def amend(
    connection: sqlite3.Connection,
    amended: Sequence[Amended],
    source: int | None,
    known: Callable[[Iterable[str]], Known],
    remove: Callable[[Known], object],
) -> bool:
    """Change ids, pictures, metadata and origins; an image that has an id somebody else takes is removed.

    Args:
        source: number of the source that pictures are read from now.
        known: what is stored under ids.
        remove: removes such items, with their captions.

    Returns:
        Whether anything but origins was changed.

    Raises:
        DataError: an image that is not there any more, or an id that is a caption's.
    """
    rows = {id: row for id, (row, modality, _) in known([one.before for one in amended]).items() if modality == "image"}
    lost = next((one.before for one in amended if one.before not in rows), None)
    if lost is not None:
        raise DataError(f"image {lost!r} was deleted or replaced by another process meanwhile; try again")
    taken = {id: found for id, found in known([one.id for one in amended]).items() if id not in rows}
    if taken:
        _expect_images(taken)
        remove(taken)
    moved = [one for one in amended if one.id != one.before]
    _rename(connection, moved, rows)
    changed = _describe(connection, [(rows[one.before], one) for one in amended], source)
    insert_origins(connection, ((rows[one.before], one.id, one.origin) for one in amended))
    return bool(moved or taken or changed)


def _expect_images(taken: Known) -> None:
    for id, (_, modality, owner) in taken.items():
        if modality != "image":
            whose = f" of {owner!r}" if owner is not None else ""
            raise DataError(f"id {id!r} of an image is already that of the {modality}{whose}; rename one")


def _rename(connection: sqlite3.Connection, moved: Sequence[Amended], rows: Mapping[str, int]) -> None:
    if not moved:
        return
    after = {one.before: one.id for one in moved}
    query = "SELECT row, id, owner FROM items WHERE owner IN (SELECT value FROM json_each(?))"
    captions = connection.execute(query, (json.dumps(list(after)),)).fetchall()
    names: list[tuple[int, str, str | None]] = [(rows[one.before], one.id, None) for one in moved]
    names += [(row, caption_id(id, owner, after[owner]), after[owner]) for row, id, owner in captions]
    # Ids may go round in a ring: first every one of them lets go of its own.
    connection.executemany("UPDATE items SET id = char(0) || row WHERE row = ?", [(row,) for row, _, _ in names])
    try:
        connection.executemany("UPDATE items SET id = ?2, owner = ?3 WHERE row = ?1", names)
    except sqlite3.IntegrityError:
        there = "SELECT id FROM items WHERE id IN (SELECT value FROM json_each(?)) AND row NOT IN"
        new = json.dumps([id for _, id, _ in names])
        others = f"{there} (SELECT value FROM json_each(?))"
        found = connection.execute(others, (new, json_rows(row for row, _, _ in names))).fetchone()
        raise DataError(f"id {found[0]!r} of a caption is already that of another item; rename one") from None


def _describe(connection: sqlite3.Connection, amended: Sequence[tuple[int, Amended]], source: int | None) -> bool:
    """Metadata, labels and pictures; whether any is another one now."""
    query = "SELECT row, metadata, labels, picture, source FROM items WHERE row IN (SELECT value FROM json_each(?))"
    found = {row: rest for row, *rest in connection.execute(query, (json_rows(row for row, _ in amended),))}
    told, placed = [], []
    for row, one in amended:
        metadata = encoded(one.metadata, "metadata of", one.id) if one.metadata else "{}"
        labels = encoded(list(one.labels), "labels of", one.id) if one.labels else "[]"
        of = None if one.picture is None else source
        if found[row][:2] != [metadata, labels]:
            told.append((row, metadata, labels, for_words(text_of(one.metadata, one.labels)), one))
        if found[row][2:] != [one.picture, of]:
            placed.append((row, one.picture, of))
    connection.executemany("UPDATE items SET picture = ?2, source = ?3 WHERE row = ?1", placed)
    if told:
        rows = json_rows(row for row, *_ in told)
        delete_facts(connection, rows)
        among = "row IN (SELECT value FROM json_each(?))"
        connection.execute(
            f"INSERT INTO words (words, rowid, text) SELECT 'delete', row, text FROM texts WHERE {among} ORDER BY row",
            (rows,),
        )
        connection.executemany(
            "UPDATE items SET metadata = ?2, labels = ?3, text = ?4 WHERE row = ?1", [change[:4] for change in told]
        )
        connection.executemany(
            "INSERT INTO words (rowid, text) VALUES (?, ?)",
            [(row, text) for row, _, _, text, _ in told if text is not None],
        )
        insert_facts(
            connection,
            [(name, value, row) for row, *_, one in told for name, value in facts_of(one.metadata, one.labels)],
        )
    return bool(told or placed)
