"""Pictures in a column of Parquet or Arrow files: encoded bytes, read by their row, never more than a few at once."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...errors import DataError
from ..cells import bytes_in
from ..columns import Table, open_table, told
from ..decoding import PictureError
from .base import StoredPictures, checked, labels_of, not_huge

__all__ = ["TablePictures"]

_KEPT = 2**26
"""Bytes of unpacked groups that are kept in all."""

_GROUP = 2**25
"""Bytes beyond which a group is not kept but walked through, a few pictures at a time."""

_STEP = 2**23
"""Bytes of pictures taken at a step of such a walk, about."""

_OPEN = 16
"""Files that are open at once."""


class _Walk:
    """Where reading a large group has come to: pictures in the order of the file are found at the next step."""

    def __init__(self, table: Table, group: int, column: str) -> None:
        self.table, self.group = table, group
        self._steps = table.pieces(group, [column], table.rows_in(group, column, _STEP))
        self._first, self._array = table.starts[group], None

    def at(self, row: int) -> Any | None:
        """The cell of a row; None where the walk has passed it."""
        if row < self._first:
            return None
        while self._array is None or row >= self._first + len(self._array):
            self._first += 0 if self._array is None else len(self._array)
            batch = next(self._steps, None)
            if batch is None:
                raise DataError(f"table: {str(self.table.path)!r} has fewer rows than it says")
            self._array = batch.column(0)
        return self._array[row - self._first]


class _Reader:
    """What is open and what is kept, of one process. One thread at a time."""

    def __init__(self, paths: Sequence[Path], column: str) -> None:
        self._paths, self._column = paths, column
        self._tables: OrderedDict[int, Table] = OrderedDict()
        self._kept: OrderedDict[tuple[int, int], _Joined] = OrderedDict()
        self._large: set[tuple[int, int]] = set()
        self._sizes: dict[tuple[int, int], int] = {}
        self._walk: tuple[int, _Walk] | None = None

    def table(self, file: int) -> Table:
        if file not in self._tables:
            while len(self._tables) >= _OPEN:
                closed, _ = self._tables.popitem(last=False)
                self._forget(key for key in list(self._kept) if key[0] == closed)
            self._tables[file] = open_table(self._paths[file])
        self._tables.move_to_end(file)
        return self._tables[file]

    def column(self, file: int) -> str:
        """The column as `Table.pieces` takes it. Raises DataError: no such column, or no pictures in it."""
        schema, column = self.table(file).schema, self._column
        where = None if column not in schema.names else bytes_in(schema.field(column).type)
        if where is None:
            found = str(schema.field(column).type)[:80] if column in schema.names else f"columns {schema.names[:12]}"
            raise DataError(
                f"pictures: {str(self._paths[file])!r}: {column!r} holds no pictures, found {found}, expected encoded "
                "bytes or a struct of bytes and path"
            )
        return f"{column}.{where}" if where else column

    def cell(self, file: int, row: int) -> Any:
        table, column = self.table(file), self.column(file)
        group = table.group_of(row)
        if table.size(group, column) <= _GROUP and (file, group) not in self._large:
            whole = self._group(file, table, group, column)
            if whole is not None:
                return whole[row - table.starts[group]]
            self._large.add((file, group))
        return self._walked(file, table, group, column, row)

    def _group(self, file: int, table: Table, group: int, column: str) -> _Joined | None:
        """All pictures of a group, kept; None where they are more than the file says, and too many to be."""
        key = (file, group)
        if key not in self._kept:
            arrays, size = [], 0
            for batch in table.pieces(group, [column], table.rows_in(group, column, _STEP)):
                arrays.append(batch.column(0))
                # What stays in the file takes no memory, but a few objects all the same.
                size += 4096 + (batch.nbytes if table.size(group, column) else 0)
                if size > 2 * _GROUP:
                    return None
            if sum(map(len, arrays)) < table.starts[group + 1] - table.starts[group]:
                raise DataError(f"table: {str(table.path)!r} has fewer rows than it says")
            self._sizes[key] = size
            while self._kept and sum(self._sizes.values()) > _KEPT:
                self._forget([next(iter(self._kept))])
            self._kept[key] = _Joined(arrays)
        self._kept.move_to_end(key)
        return self._kept[key]

    def _forget(self, keys: Any) -> None:
        for key in list(keys):
            del self._kept[key], self._sizes[key]

    def _walked(self, file: int, table: Table, group: int, column: str, row: int) -> Any:
        if self._walk is not None and self._walk[0] == file and self._walk[1].group == group:
            found = self._walk[1].at(row)
            if found is not None:
                return found
        walk = _Walk(table, group, column)
        self._walk = (file, walk)
        return walk.at(row)


class _Joined:
    """Several arrays one behind the other."""

    def __init__(self, arrays: Sequence[Any]) -> None:
        self._arrays = arrays

    def __getitem__(self, row: int) -> Any:
        for array in self._arrays:
            if row < len(array):
                return array[row]
            row -= len(array)
        raise IndexError(row)


_live: weakref.WeakSet[TablePictures] = weakref.WeakSet()
"""What a forked process has to open anew: a lock may be held there by a thread that it does not have."""


def _after_fork() -> None:
    for pictures in list(_live):
        pictures._renew()


os.register_at_fork(after_in_child=_after_fork)


class TablePictures(StoredPictures):
    """A column of pictures in Parquet or Arrow files, as encoded bytes or as a struct with `bytes`.

    A picture is called by its row, from 0; in one of several files `<file>/<row>`, the file by its path below the
    common folder without its suffix. Arrow is mapped; of Parquet some unpacked row groups are kept, 64 MB at most, and
    larger ones are walked through in their order, which is quick in that order and slow in any other. Threads and
    forked processes may share one.

    Args:
        paths: a file, or several with the same column.
        column: its name.

    Raises:
        DataError: no pyarrow, no such file, neither Parquet nor Arrow, no such column, or one that holds no pictures.
    """

    def __init__(self, paths: str | Path | Sequence[str | Path], column: str) -> None:
        listed = [paths] if isinstance(paths, str | Path) else list(paths)
        if not listed:
            raise DataError("pictures: no table given, expected at least one Parquet or Arrow file")
        self.paths, self.column = tuple(map(Path, listed)), column
        self._labels = {label: n for n, label in enumerate(labels_of(self.paths))}
        self._rows: dict[int, int] = {}
        self._renew()
        # Any file that is there tells whether the column holds pictures; one that is gone is said of its pictures.
        there = (n for n, path in enumerate(self.paths) if os.path.isfile(path))
        with self._lock:
            self._reader.column(next(there, 0))
        _live.add(self)

    def _renew(self) -> None:
        self._lock, self._reader = threading.Lock(), _Reader(self.paths, self.column)

    def prefix(self, path: Path) -> str:
        """What comes before the row in the names of the pictures of one file, with its slash; empty of a single one."""
        label = list(self._labels)[self.paths.index(path)]
        return f"{label}/" if label else ""

    def _length(self, file: int) -> int:
        if file not in self._rows:
            self._reader.column(file)
            self._rows[file] = self._reader.table(file).rows
        return self._rows[file]

    def _locate(self, name: str) -> tuple[int, int]:
        """The file and the row. Raises PictureError."""
        label, _, row = checked(name).rpartition("/")
        file = self._labels.get(label)
        if file is None or not (row.isascii() and row.isdecimal() and len(row) < 16):
            expected = "ROW" if "" in self._labels else "FILE/ROW"
            raise PictureError("missing picture", f"picture {name!r}: not in the table, expected {expected}")
        with self._told(name):
            length = self._length(file)
        if int(row) >= length:
            where = str(self.paths[file])
            raise PictureError("missing picture", f"picture {name!r}: {where!r} has only {length} rows")
        return file, int(row)

    @contextmanager
    def _told(self, name: str) -> Iterator[None]:
        """One thread at a time; what is wrong with a file is wrong with this picture, not with everything."""
        try:
            with self._lock:
                yield
        except PictureError:
            raise
        except DataError as error:
            raise PictureError("unreadable picture", f"picture {name!r}: {error}") from None

    def require(self, name: str) -> None:
        self._locate(name)

    def read(self, name: str) -> bytes:
        file, row = self._locate(name)
        with self._told(name):
            cell = self._reader.cell(file, row)
            if not cell.is_valid:
                raise PictureError("missing picture", f"picture {name!r}: its cell in {self.column!r} is empty")
            # Where pictures share a dictionary, the cell is a place in it.
            with told(self.paths[file], self._reader.table(file).kind):
                data = (cell if hasattr(cell, "as_buffer") else cell.value).as_buffer()
            not_huge(name, data.size)
            return data.to_pybytes()

    def names(self) -> Sequence[str]:
        return list(self._listed())

    def _listed(self) -> Iterator[str]:
        for label in sorted(self._labels):
            with self._lock:
                rows = self._length(self._labels[label])
            yield from sorted(f"{label}/{row}" if label else str(row) for row in range(rows))

    def describe(self) -> dict[str, Any]:
        return self._described("table", paths=[os.path.realpath(path) for path in self.paths], column=self.column)

    def __reduce__(self) -> tuple[type[TablePictures], tuple[Any, ...], dict[str, Any]]:
        return (TablePictures, (self.paths, self.column), {"max_pixels": self.max_pixels})
