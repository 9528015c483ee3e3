"""Arrays on disk as one: several `.npy` files behind each other, and any of their rows in memory, copied once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from .arrays import Array, open_arrays
from .files import regular_file

__all__ = ["Stacked", "StackedRows", "gathered", "open_stacked"]

_LARGE_ROW = 2**14
"""Numbers from which on rows are copied one by one: together they would stand in memory twice."""


@dataclass(frozen=True)
class Stacked:
    """`.npy` files whose rows are counted through: row 0 of the second follows the last row of the first."""

    paths: tuple[Path, ...]

    def __str__(self) -> str:
        return " + ".join(map(str, self.paths))


class StackedRows:
    """Mapped arrays one behind the other. Rows leave by `gathered`.

    Args:
        parts: (n, ...) each, at least one, alike behind their first axis.
    """

    def __init__(self, parts: Sequence[Array]) -> None:
        self.parts = tuple(parts)
        self.ends = np.cumsum([len(part) for part in parts])
        self.shape: tuple[int, ...] = (int(self.ends[-1]), *parts[0].shape[1:])
        self.ndim = len(self.shape)
        self.dtype: np.dtype[Any] = np.result_type(*(part.dtype for part in parts))

    def __len__(self) -> int:
        return self.shape[0]


def open_stacked(files: Stacked) -> StackedRows:
    """Map the files. Raises DataError: not there, not `.npy`, damaged, or not alike."""
    parts: list[Array] = []
    for path in files.paths:
        array = open_arrays(regular_file(path, "features"), frozenset()).get("")
        if array is None:
            raise DataError(f"features: {str(path)!r} is an .npz, expected an .npy")
        if not array.ndim:
            raise DataError(f"features: {str(path)!r} has shape (), expected (rows, fragments, width) or (rows, width)")
        if parts and array.shape[1:] != parts[0].shape[1:]:
            raise DataError(
                f"features: {str(path)!r} has shape {array.shape} and {str(files.paths[0])!r} {parts[0].shape}, "
                "expected the same behind the first axis"
            )
        parts.append(array)
    return StackedRows(parts)


def gathered(values: Array | StackedRows, rows: np.ndarray[Any, np.dtype[np.int64]]) -> Array:
    """(n, ...) float32: these rows, in memory of their own, copied straight from the file."""
    out = np.empty((len(rows), *values.shape[1:]), np.float32)
    for here, part, wanted in _by_part(values, rows):
        first, count = int(wanted[0]), len(wanted)
        if count == len(rows) and wanted[-1] - first + 1 == count and bool((np.diff(wanted) == 1).all()):
            out[:] = part[first : first + count]
        elif out[0].size < _LARGE_ROW:
            out[here] = part[wanted]
        else:
            for place, row in zip(here.tolist(), wanted.tolist(), strict=True):
                out[place] = part[row]
    return out


def _by_part(
    values: Array | StackedRows, rows: np.ndarray[Any, np.dtype[np.int64]]
) -> Iterator[tuple[np.ndarray[Any, np.dtype[np.int64]], Array, np.ndarray[Any, np.dtype[np.int64]]]]:
    """(places in `rows`, array, rows of that array) for each array that has some of them."""
    if not isinstance(values, StackedRows):
        if len(rows):
            yield np.arange(len(rows)), values, rows
        return
    of = np.searchsorted(values.ends, rows, side="right")
    for n in np.unique(of).tolist():
        here = np.flatnonzero(of == n)
        yield here, values.parts[n], rows[here] - (int(values.ends[n]) - len(values.parts[n]))
