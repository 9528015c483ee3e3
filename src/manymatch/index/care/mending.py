"""Mending what can be made again, and compacting: each safe to kill at any moment."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import DataError
from ..local.collection import LocalCollection
from ..local.derived import remove_leftovers, sound
from ..local.vectors import Space, Vectors
from ..local.view import View
from ..store.changes import Transaction
from ..store.facts import facts_of, insert_facts, text_of
from ..store.store import Store
from ..store.words import for_words
from ..uploads import PICTURES
from .checking import check
from .checkup import Checkup, Finding, Told
from .inspecting import derived_files
from .uploads import remove_unnamed, size_of_uploads

if TYPE_CHECKING:
    from ...methods import Model
    from ..collection import Collection

__all__ = ["Compacted", "compact", "repair"]

_TEXTS = {"text"}
_FILES = {"derived", "agreement"}


def repair(folder: Path, store: Store, collection: Collection, model: Callable[[], Model], told: Told) -> Checkup:
    """Remove and make again what is derived and not as it should be; what `check` then finds, with what was mended.

    Vectors that are damaged in the store are taken from the mapped file where that holds what was once written. What
    cannot be mended so is found again.

    Raises:
        DataError: another process keeps writing, or nothing can be written there.
    """
    before = check(folder, store, collection, model, told)
    mended = [f"{path.name}: removed, its writer was killed" for path in remove_leftovers(folder)]
    if any(finding.kind == "database" and "index" in finding.found for finding in before.findings):
        store.reindex()
        mended.append(f"{store.path.name}: indexes of the tables made again")
    mended += _tidied(folder, store, before.findings)
    mended += _restored(folder, store, before.findings)
    if any(finding.kind in _TEXTS for finding in before.findings):
        with store.writing() as change:
            _Texts(change).remake(told)
        mended.append(f"{store.path.name}: words, facts and links made again from the items")
    failed = ""
    try:
        mended += _remade(folder, collection, before, told)
    except DataError as error:
        # Items that are damaged may have no score.
        failed = str(error)
    after = check(folder, store, collection, model, told)
    after.mended = mended
    if failed:
        after.skipped.append(f"derived files were not all made: {failed}")
    after.seconds += before.seconds
    return after


def _tidied(folder: Path, store: Store, findings: Sequence[Finding]) -> list[str]:
    """Pictures that no item has, where what is read can be believed."""
    if not any(finding.kind == "leftover" and finding.where == f"{PICTURES}/" for finding in findings):
        return []
    removed = remove_unnamed(folder, store)
    return [f"{PICTURES}/: {removed:,} removed that no item has"] if removed else []


def _remade(folder: Path, collection: Collection, before: Checkup, told: Told) -> list[str]:
    """Derived files that were bad or missing."""
    bad = [finding for finding in before.findings if finding.kind in _FILES]
    if not bad or any(finding.kind == "run" for finding in before.findings):
        return []
    for finding in bad:
        (folder / finding.where).unlink(missing_ok=True)
    # What is open was made of what has been removed.
    collection.close()
    collection.refresh(lambda what: told(what, 0, 0))
    return [
        f"{name}: made again" if (folder / name).exists() else f"{name}: removed"
        for name in dict.fromkeys(finding.where for finding in bad)
    ]


def _restored(folder: Path, store: Store, findings: Sequence[Finding]) -> list[str]:
    """Vectors of the store that were damaged and whose bytes the mapped file still has."""
    with store.reading() as snapshot:
        damaged = snapshot.damaged_rows()
        view = View(folder, snapshot, _no_similarity)
        precision = snapshot.setting("precision")
    whole: dict[str, Vectors | None] = {}
    mended = []
    for row, id, modality, crc in damaged:
        if modality not in whole:
            found, path = view.space(modality), view.vectors_at(modality)
            fine = found is not None and path.exists() and sound(path)
            whole[modality] = Vectors.open(path, Space(found.kind, found.layout, precision)) if fine and found else None
        blob = _mapped(whole[modality], row, crc)
        if blob is not None:
            with store.writing() as change:
                change.restore(row, blob)
            mended.append(f"{store.path.name}, {id!r}: vector taken from {view.vectors_at(modality).name}")
    return mended


def _mapped(rows: Vectors | None, row: int, crc: int) -> bytes | None:
    """The bytes with that checksum which a file holds of a row."""
    if rows is None or not len(rows):
        return None
    place = int(np.searchsorted(rows.rows, row))
    if place == len(rows) or rows.rows[place] != row:
        return None
    numbers = np.asarray(rows.data[place])
    # Short rows are filled with NaN behind their last number.
    for blob in (numbers.tobytes(), numbers[~np.isnan(numbers)].tobytes()):
        if zlib.crc32(blob) == crc:
            return blob
    return None


def _no_similarity() -> Any:
    raise AssertionError("rows are mended without the run")


class _Texts(Transaction):
    """What words, filters and facets read, made again from the items."""

    def __init__(self, change: Transaction) -> None:
        super().__init__(change._connection)
        # The store gives the change its generation.
        change.changed = True

    def remake(self, told: Told) -> None:
        run = self._connection.execute
        told("links", 0, 0)
        run("DELETE FROM captions")
        run("""
            INSERT INTO captions SELECT items.row, image.row FROM items
            LEFT JOIN items AS image ON image.id = items.owner WHERE items.modality = 'caption'""")
        told("facts and words", 0, 0)
        run("DELETE FROM facts")
        query = "SELECT row, modality, owner, caption, text, metadata, labels FROM items ORDER BY row"
        last = 0
        while part := run(f"{query.replace('ORDER', 'WHERE row > ? ORDER')} LIMIT 1000", (last,)).fetchall():
            self._part(part)
            last = part[-1][0]
        for table in ("words", "fact_words"):
            run(f"INSERT INTO {table} ({table}) VALUES ('rebuild')")

    def _part(self, part: Sequence[tuple[Any, ...]]) -> None:
        facts = []
        for row, modality, owner, caption, text, metadata, labels in part:
            own = _read(metadata, {}), _read(labels, [])
            wanted = for_words(caption if modality == "caption" else text_of(*own))
            if text != wanted:
                self._connection.execute("UPDATE items SET text = ? WHERE row = ?", (wanted, row))
            if owner is None:
                facts += [(name, value, row) for name, value in facts_of(*own)]
        insert_facts(self._connection, facts)


def _read(text: str, otherwise: Any) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return otherwise


# ---- compacting


@dataclass(frozen=True)
class Compacted:
    """Bytes of the files of an index before and after.

    Attributes:
        notes: what could not be done, a line each.
    """

    before: dict[str, int]
    after: dict[str, int]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {"before": self.before, "after": self.after, "notes": list(self.notes)}


def compact(folder: Path, store: Store, collection: Collection, told: Told) -> Compacted:
    """Forget the history, give back the room of what was deleted, and make anew what is derived.

    Searches go on meanwhile; writers wait. It takes free space of about twice the truth.

    Raises:
        DataError: another process keeps writing, or the disk is full; the index is as it was then, or further along.
    """
    before = _sizes(folder)
    remove_leftovers(folder)

    def step(what: str) -> None:
        told(what, 0, 0)

    # Before the history goes, so that at no moment searches lack what is derived.
    generation = collection.rebuild(step) if isinstance(collection, LocalCollection) else None
    ended = store.compact(generation, step)
    if isinstance(collection, LocalCollection):
        remove_unnamed(folder, store)
    notes = () if ended else (f"{store.path.name}-wal keeps its size: somebody is reading from it",)
    return Compacted(before, _sizes(folder), notes)


def _sizes(folder: Path) -> dict[str, int]:
    files = [folder / f"index.sqlite{end}" for end in ("", "-wal")] + derived_files(folder)
    sizes = {path.name: path.stat().st_size for path in files if path.exists()}
    return sizes | {f"{PICTURES}/": size_of_uploads(folder)} if (folder / PICTURES).is_dir() else sizes
