"""Pictures kept in the index folder: whether those that items name are there and whole, and which no item names."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from pathlib import Path

from ...data.writing import sync_folder
from ..local.derived import locked
from ..store.rows import Snapshot
from ..store.store import Store
from ..uploads import NAME, PICTURES, SOURCE, digest_of
from .checkup import MEND, Checkup, Told

__all__ = ["check_uploads", "remove_unnamed", "size_of_uploads"]

_AGAIN = f"put the picture again, or restore {PICTURES}/ from a backup"


def check_uploads(folder: Path, store: Store, out: Checkup, told: Told) -> None:
    """Every picture that an item names: there, and with the content its name was made from."""
    pictures = folder / PICTURES
    if not pictures.is_dir():
        _check(pictures, store, out, told)
        return
    # So that nobody removes what the items of an older moment name.
    with locked(pictures, fcntl.LOCK_SH):
        _check(pictures, store, out, told)
        unnamed = _unnamed(pictures, store)
    if unnamed:
        size = sum(path.stat().st_size for path in unnamed)
        found = f"{len(unnamed):,} ({size:,} bytes)"
        out.say("leftover", f"{PICTURES}/", "pictures that no item has", found, "none", MEND, harmless=True)


def _check(pictures: Path, store: Store, out: Checkup, told: Told) -> None:
    named = _named(store)
    whole = 0
    for done, (name, id) in enumerate(named.items()):
        told("pictures", done, len(named))
        path = pictures / name
        where = f"{PICTURES}/{name}"
        if not path.is_file():
            out.say("picture", where, f"the picture of {id!r}", "no file", "one", _AGAIN)
        elif digest_of(path.read_bytes()) != path.stem:
            out.say("picture", where, f"the picture of {id!r}", "other bytes", "those that were put", _AGAIN)
        else:
            whole += 1
    if named:
        out.looked.append(f"{PICTURES}/: {whole:,} of {len(named):,} whole")


def remove_unnamed(folder: Path, store: Store) -> int:
    """Remove the pictures that no item names; how many.

    None while somebody puts one, or where the file system has no locks to tell.
    """
    pictures = folder / PICTURES
    if not pictures.is_dir():
        return 0
    with locked(pictures, fcntl.LOCK_EX | fcntl.LOCK_NB) as alone:
        found = _unnamed(pictures, store) if alone else []
        for path in found:
            path.unlink(missing_ok=True)
        if found:
            sync_folder(pictures)
        return len(found)


def size_of_uploads(folder: Path) -> int:
    """Bytes of all of them."""
    return sum(path.stat().st_size for path in (folder / PICTURES).glob("*") if path.is_file())


def _unnamed(pictures: Path, store: Store) -> list[Path]:
    named = _named(store)
    return sorted(path for path in pictures.iterdir() if NAME.fullmatch(path.name) and path.name not in named)


def _named(store: Store) -> dict[str, str]:
    """File name -> an item that has it."""
    with store.reading() as snapshot:
        return dict(_Naming(snapshot._connection).pictures())


class _Naming(Snapshot):
    """One generation, asked which uploaded pictures it has."""

    def pictures(self) -> Iterator[tuple[str, str]]:
        query = """
            SELECT items.picture, items.id FROM items JOIN sources USING (source)
            WHERE sources.pictures = ? AND items.picture IS NOT NULL ORDER BY items.row"""
        yield from self._connection.execute(query, (json.dumps(dict(SOURCE), sort_keys=True),))
