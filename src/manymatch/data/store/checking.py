"""Is every record in a feature store still what was written? What is not is taken out, and later computed again.

A record holds the checksum of its bytes and the picture it is of, so that records and catalogue check each other, and
the catalogue can be made again from the records.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import DataError
from ..files import Progress
from ..writing import sync_folder
from .catalogue import Catalogue, Damaged
from .records import Kind, good
from .segments import SUFFIX, Segment
from .store import CATALOGUE, FeatureStore

__all__ = ["Checked", "check_store"]

_OLD = 3600.0
"""Seconds after which a temporary file is nobody's."""


@dataclass(frozen=True)
class Checked:
    """What checking found.

    Attributes:
        records: that are entered and whole.
        lost: that were entered, are not whole, and were taken out.
        faults: what was wrong, one sentence a segment or catalogue.
        rebuilt: whether the catalogue was made again.
        bytes: of the segments that were read.
    """

    records: int
    lost: int
    faults: tuple[str, ...]
    rebuilt: bool
    bytes: int


def check_store(folder: str | os.PathLike[str], progress: Progress | None = None) -> Checked:
    """Read every record, compare its checksum and its picture, and take out of the catalogue what is not whole.

    A catalogue that cannot be read is put aside and made again from the records that are whole. Others may read and
    write meanwhile.

    Args:
        folder: of the store.
        progress: called with (done, total) records.

    Raises:
        DataError: no store there, of another version, or it cannot be written.
    """
    path = Path(folder)
    if not (path / "segments").is_dir() and not (path / CATALOGUE).exists():
        raise DataError(f"feature store: {str(path)!r} is none; it is made by: manymatch features DATA --out {path}")
    faults: list[str] = []
    rebuilt = False
    try:
        store = _whole(path)
    except Damaged as error:
        faults.append(f"{error}; it was made again from the segments")
        store, rebuilt = _rebuilt(path), True
    try:
        records, lost, size = _checked(store, faults, progress)
    finally:
        store.close()
    _sweep(path)
    return Checked(records, lost, tuple(faults), rebuilt, size)


def _whole(folder: Path) -> FeatureStore:
    """The store, if its catalogue is whole. Raises Damaged."""
    path = folder / CATALOGUE
    if not path.exists():
        raise Damaged(f"there was no catalogue {str(path)!r}")
    store = FeatureStore(folder)
    wrong = store.catalogue.faults()
    if wrong:
        store.close()
        raise Damaged(f"the catalogue {str(path)!r} is damaged ({wrong[0]})")
    return store


def _checked(store: FeatureStore, faults: list[str], progress: Progress | None) -> tuple[int, int, int]:
    found = {key: (kind, store.catalogue.entered(key)) for key, kind in store.catalogue.kinds().items()}
    total = sum(len(rows) for _, entered in found.values() for rows in entered.values())
    done = lost = size = 0
    for key, (kind, entered) in found.items():
        gone: list[tuple[bytes, str, int]] = []
        for name, rows in sorted(entered.items()):
            bad, why = _bad_rows(store.folder / "segments" / key / name, kind, rows)
            gone += [(rows[row], name, row) for row in bad]
            if bad:
                faults.append(f"segment {key[:12]}/{name}: {why}, {len(bad)} of {len(rows)} records are taken out")
            done, size = done + len(rows), size + len(rows) * kind.row_bytes
            if progress is not None:
                progress(done, total)
        if gone:
            store.catalogue.take_out(key, gone)
        lost += len(gone)
    return total - lost, lost, size


def _bad_rows(path: Path, kind: Kind, rows: Mapping[int, bytes]) -> tuple[list[int], str]:
    """The entered rows that are not what was written, and in words what is wrong."""
    try:
        segment = Segment(path)
        if not segment.kind.same(kind):
            raise DataError("it is of another backbone")
    except DataError as error:
        return sorted(rows), str(error)
    there = segment.count()
    bad = [row for row in rows if row >= there]
    why = [f"cut short after {there} records"] if bad else []
    for start, records in segment.blocks(min(there, max(rows) + 1)):
        whole = good(records)
        entered = [(n, rows[start + n]) for n in range(len(records)) if start + n in rows]
        wrong = [n for n, _ in entered if not whole[n]]
        moved = [n for n, picture in entered if whole[n] and _picture(records, n) != picture]
        why += ["bytes have changed (another checksum)"] if wrong else []
        why += ["the catalogue names another picture than the record"] if moved else []
        bad += [start + n for n in (*wrong, *moved)]
    return sorted(bad), ", ".join(dict.fromkeys(why))


def _picture(records: np.ndarray[tuple[int], np.dtype[np.void]], row: int) -> bytes:
    return bytes(records["picture"][row].tobytes())


def _rebuilt(folder: Path) -> FeatureStore:
    """The store with a catalogue made from its segments; the damaged one is put aside."""
    aside = f"{CATALOGUE}.damaged-{time.strftime('%Y%m%d-%H%M%S')}"
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            os.replace(folder / f"{CATALOGUE}{suffix}", folder / f"{aside}{suffix}")
    sync_folder(folder)
    store = FeatureStore(folder)
    for path in sorted((folder / "segments").glob(f"*/*{SUFFIX}")):
        with suppress(DataError):
            _enter_all(store.catalogue, Segment(path))
    return store


def _enter_all(catalogue: Catalogue, segment: Segment) -> None:
    for start, records in segment.blocks(segment.count()):
        whole = np.flatnonzero(good(records)).tolist()
        catalogue.enter(segment.kind, [(_picture(records, n), segment.path.name, start + n) for n in whole])


def _sweep(folder: Path) -> None:
    """Remove what killed processes left behind under a temporary name."""
    for path in (folder / "segments").glob("*/.*.tmp"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _OLD:
                path.unlink()
