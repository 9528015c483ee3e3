"""Precomputed features in `.npy` and `.npz` files, read row by row from disk.

Row i of a file belongs to line i of the pairs (blank lines not counted, bad ones counted), unless the file has an
array `ids`. Arrays of an `.npz`:

    q (n, f, c) or (n, p) int8   with `scale` (c,) or (): value = q * scale; then vectors and pooled are not read
    vectors (n, f, c)            fragments, with an optional `scale`
    lengths (n,)                 how many fragments of each item are real; None: all
    pooled (n, p)                one vector an item
    ids (n,)                     text or bytes: the item of each row

A `.npy` holds fragments when it has three axes, pooled vectors when it has two. Several of them may be read as one
(`Stacked`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from .arrays import Array, open_arrays
from .features import Features
from .files import Progress, regular_file
from .pairs import Item
from .scanned import remember, stamp_of, verdict, verdict_file
from .stacked import Stacked, StackedRows, gathered, open_stacked

__all__ = ["FeatureFiles", "Stacked", "open_features"]

_NAMES = frozenset({"q", "vectors", "pooled", "lengths", "ids", "scale"})
_BLOCK = 2**20
"""Numbers looked at in one go by the scan: 4 MB as float32."""

_WORTH = 2**27
"""Numbers from which on it is worth remembering what the scan found: less is looked through in a second."""


@dataclass(frozen=True)
class _Part:
    """One array of one file: fragments (n, f, c) or pooled vectors (n, p)."""

    path: str
    values: Array | StackedRows
    scale: Array | None
    lengths: Array | None
    row_of: dict[str, int] | None
    files: tuple[Path, ...] = ()
    stamp: str = ""

    def rows(self, items: Sequence[Item]) -> np.ndarray[Any, np.dtype[np.int64]]:
        """(n,) row of each item, -1 where the file has none."""
        if self.row_of is not None:
            return np.array([self.row_of.get(item.id, -1) for item in items], np.int64)
        return np.array([item.row if item.row < len(self.values) else -1 for item in items], np.int64)

    def read(self, rows: np.ndarray[Any, np.dtype[np.int64]]) -> Array:
        """Float32 values of these rows; padding behind `lengths` is zero."""
        with np.errstate(over="ignore", invalid="ignore"):
            out = gathered(self.values, rows)
            if self.scale is not None:
                out *= self.scale
        if self.lengths is not None:
            out[np.arange(out.shape[1]) >= np.asarray(self.lengths[rows])[:, None]] = 0.0
        return out


class FeatureFiles:
    """Features of items, read when asked for (`FeatureRows`). Make it with `open_features`.

    Attributes:
        fresh: what `get` gives is in memory of its own.
    """

    fresh = True

    def __init__(self, fragments: _Part | None, pooled: _Part | None) -> None:
        self._fragments, self._pooled = fragments, pooled

    def _parts(self) -> list[_Part]:
        return [part for part in (self._fragments, self._pooled) if part is not None]

    def sizes(self) -> dict[str, int]:
        """`fragments` (f), `fragment_width` (c), `pooled_width` (p), each where it exists."""
        out = {}
        if self._fragments is not None:
            out = {"fragments": self._fragments.values.shape[1], "fragment_width": self._fragments.values.shape[2]}
        if self._pooled is not None:
            out["pooled_width"] = self._pooled.values.shape[1]
        return out

    def get(self, items: Sequence[Item]) -> Features:
        """Float32 features of the items. Raises DataError naming an item the files do not have."""
        fragments, pooled, lengths = self._fragments, self._pooled, None
        if fragments is not None and fragments.lengths is not None:
            lengths = np.asarray(fragments.lengths[_all_rows(fragments, items)], np.int64)
        return Features(
            None if fragments is None else fragments.read(_all_rows(fragments, items)),
            lengths,
            None if pooled is None else pooled.read(_all_rows(pooled, items)),
        )

    def faults(self, items: Sequence[Item], progress: Progress | None = None) -> dict[str, str]:
        """Item id -> why its features cannot be used: no row, no fragments, or a value that is not finite.

        One pass over the files in blocks; whole numbers are finite and are not read. What was found in a large file is
        remembered until the file changes.
        """
        out: dict[str, str] = {}
        for part in self._parts():
            rows = part.rows(items)
            for n in np.flatnonzero(rows < 0).tolist():
                out.setdefault(items[n].id, f"{part.path!r} has no row for it")
            for n in np.flatnonzero(rows >= 0)[_bad_lengths(part, rows[rows >= 0])].tolist():
                out.setdefault(items[n].id, f"{part.path!r} says it has no fragments, or more than there are")
            for n in _not_finite(part, rows, progress):
                out.setdefault(items[n].id, f"row {rows[n]} of {part.path!r} holds NaN or infinity")
        return out


def _all_rows(part: _Part, items: Sequence[Item]) -> np.ndarray[Any, np.dtype[np.int64]]:
    rows = part.rows(items)
    if (rows < 0).any():
        raise DataError(f"features: {part.path!r} has no row for item {items[int(np.argmin(rows))].id!r}")
    return rows


def _bad_lengths(part: _Part, rows: Array) -> np.ndarray[Any, np.dtype[np.bool_]]:
    if part.lengths is None:
        return np.zeros(len(rows), bool)
    lengths = np.asarray(part.lengths[rows])
    return np.asarray((lengths < 1) | (lengths > part.values.shape[1]))


def _not_finite(part: _Part, rows: Array, progress: Progress | None) -> Iterator[int]:
    if part.values.dtype.kind != "f":
        return
    there = np.flatnonzero(rows >= 0)
    kept = None
    if part.stamp and len(there) * int(np.prod(part.values.shape[1:])) >= _WORTH:
        kept = verdict_file(part.stamp, part.values.shape, rows[there])
        known = verdict(kept)
        if known is not None and all(place < len(there) for place in known):
            yield from there[known].tolist()
            return
    found: list[int] = []
    for places in _scanned(part, rows, there, progress):
        found += places
        yield from there[places].tolist()
    # A file that changed meanwhile may not be the one that was looked through.
    if kept is not None and part.stamp == stamp_of(part.files):
        remember(kept, found)


def _scanned(part: _Part, rows: Array, there: Array, progress: Progress | None) -> Iterator[list[int]]:
    """Places in `there` whose rows are not finite, block by block."""
    step = max(1, _BLOCK // max(1, int(np.prod(part.values.shape[1:]))))
    for start in range(0, len(there), step):
        block = there[start : start + step]
        values = part.read(rows[block])
        finite = np.isfinite(values).reshape(len(block), -1).all(axis=1)
        yield (start + np.flatnonzero(~finite)).tolist()
        if progress is not None:
            progress(start + len(block), len(there))


def open_features(
    features: str | Path | Stacked | None = None,
    pooled: str | Path | Stacked | None = None,
    *,
    items: Sequence[Item],
    rows: int | None = None,
) -> FeatureFiles:
    """Open feature files for these items.

    Args:
        features: `.npy` or `.npz` with fragments (or with pooled vectors, told by the number of axes), or several
            `.npy` as one (`Stacked`).
        pooled: `.npy` or `.npz` with pooled vectors; where both files have some, these count.
        items: whose features they are, for their ids.
        rows: non-blank lines of the pairs; default: up to the last item's row.

    Raises:
        DataError: no such file, not NumPy, objects, another number of axes or type than expected, other row count.
    """
    if rows is None:
        rows = max((item.row for item in items), default=-1) + 1
    found: dict[str, _Part] = {}
    if features is not None:
        found |= _open_any(features, "features")
    if pooled is not None:
        if found and "fragments" not in found:
            raise DataError(f"pooled: {str(features)!r} holds pooled vectors too, expected fragments in one of the two")
        found["pooled"] = _open_pooled(pooled)
    if not found:
        raise DataError("features: neither features nor pooled given, expected at least one")
    for part in found.values():
        _check_rows(part, items, rows)
    return FeatureFiles(found.get("fragments"), found.get("pooled"))


def _open_any(file: str | Path | Stacked, what: str) -> dict[str, _Part]:
    if not isinstance(file, Stacked):
        # Before it is opened: what is remembered of one file is not to be said of another that took its place.
        files: tuple[Path, ...] = (regular_file(file, what),)
        stamp, parts = stamp_of(files), _open(files[0])
        return {name: replace(part, files=files, stamp=stamp) for name, part in parts.items()}
    stamp, rows = stamp_of(file.paths), open_stacked(file)
    values = rows.parts[0] if len(rows.parts) == 1 else rows
    part = _part(file, values, None, None, None)
    return {"fragments" if values.ndim == 3 else "pooled": replace(part, files=file.paths, stamp=stamp)}


def _open(path: Path) -> dict[str, _Part]:
    arrays = open_arrays(path, _NAMES)
    if "q" in arrays:
        arrays = {name: value for name, value in arrays.items() if name not in ("vectors", "pooled")}
    main = arrays.get("", arrays.get("q", arrays.get("vectors")))
    if main is None and "pooled" not in arrays:
        raise DataError(f"features: {str(path)!r} has none of the arrays q, vectors, pooled; see the documentation")
    if "q" in arrays and "scale" not in arrays:
        raise DataError(f"features: {str(path)!r} has q without scale, expected both (value = q * scale)")
    ids, scale = _ids(path, arrays.get("ids")), arrays.get("scale")
    out = {}
    if "vectors" in arrays and arrays["vectors"].ndim != 3:
        raise DataError(f"features: vectors of {str(path)!r} has shape {arrays['vectors'].shape}, expected three axes")
    if main is not None:
        name = "fragments" if main.ndim == 3 else "pooled"
        lengths = _lengths(path, arrays.get("lengths"), len(main) if main.ndim else 0) if main.ndim == 3 else None
        out[name] = _part(path, main, scale, lengths, ids)
    if "pooled" in arrays:
        out["pooled"] = _part(path, arrays["pooled"], scale if main is None else None, None, ids)
        if out["pooled"].values.ndim != 2:
            raise DataError(f"features: pooled of {str(path)!r} has shape {arrays['pooled'].shape}, expected two axes")
    return out


def _open_pooled(file: str | Path | Stacked) -> _Part:
    parts = _open_any(file, "pooled")
    if "pooled" not in parts:
        shape = parts["fragments"].values.shape
        raise DataError(f"pooled: {str(file)!r} has shape {shape}, expected two axes (rows, width)")
    return parts["pooled"]


def _part(
    path: Path | Stacked,
    values: Array | StackedRows,
    scale: Array | None,
    lengths: Array | None,
    ids: dict[str, int] | None,
) -> _Part:
    if values.ndim not in (2, 3) or 0 in values.shape[1:]:
        raise DataError(
            f"features: {str(path)!r} has shape {values.shape}, expected (rows, fragments, width) or (rows, width)"
        )
    if values.dtype.kind != "f" and values.dtype not in (np.dtype(np.uint8), np.dtype(np.int8)):
        raise DataError(f"features: {str(path)!r} has type {values.dtype}, expected float16, 32, 64, uint8 or int8")
    if ids is not None and len(ids) != len(values):
        raise DataError(f"features: {str(path)!r} has {len(ids)} ids and {len(values)} rows, expected as many")
    if scale is not None:
        if scale.dtype.kind != "f" or scale.shape not in ((), (1,), values.shape[-1:]):
            raise DataError(
                f"features: scale of {str(path)!r} is {scale.dtype} {scale.shape}, expected float ({values.shape[-1]},)"
            )
        scale = np.asarray(scale, np.float32)
        if not np.isfinite(scale).all():
            raise DataError(f"features: scale of {str(path)!r} holds NaN or infinity")
    return _Part(str(path), values, scale, lengths, ids)


def _lengths(path: Path, lengths: Array | None, rows: int) -> Array | None:
    if lengths is not None and (lengths.shape != (rows,) or lengths.dtype.kind not in "iu"):
        raise DataError(
            f"features: lengths of {str(path)!r} is {lengths.dtype} {lengths.shape}, expected whole numbers ({rows},)"
        )
    return lengths


def _ids(path: Path, ids: Array | None) -> dict[str, int] | None:
    if ids is None:
        return None
    if ids.ndim != 1 or ids.dtype.kind not in "US":
        raise DataError(f"features: ids of {str(path)!r} is {ids.dtype} {ids.shape}, expected one text a row")
    try:
        names = [x.decode() if isinstance(x, bytes) else x for x in ids.tolist()]
    except UnicodeDecodeError as error:
        raise DataError(f"features: ids of {str(path)!r} is not UTF-8 ({error})") from None
    out: dict[str, int] = {}
    for row, name in enumerate(names):
        if out.setdefault(name, row) != row:
            raise DataError(f"features: {str(path)!r} has id {name!r} in rows {out[name]} and {row}, expected it once")
    return out


def _check_rows(part: _Part, items: Sequence[Item], rows: int) -> None:
    if part.row_of is not None:
        if items and not any(item.id in part.row_of for item in items):
            one = next(iter(part.row_of), "none")
            raise DataError(
                f"features: none of the ids of {part.path!r} (such as {one!r}) is an item (such as {items[0].id!r})"
            )
    elif len(part.values) != rows:
        images = (
            "; as many as there are images: `manymatch convert` writes a file with one line an image, which they fit"
            if len(part.values) == len(items)
            else ""
        )
        raise DataError(
            f"features: {part.path!r} has {len(part.values)} rows, but the pairs have {rows} lines; expected one row "
            f"a line, in the same order (or an array `ids`){images}"
        )
