"""Tables of Parquet and Arrow files: their columns read in pieces, so that no file is ever held whole.

Arrow files (and the streams that the `datasets` library writes) are memory-mapped; Parquet is read group by group. What
a file says of its own lengths is checked before it is believed: tables are input too.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ..errors import DataError
from .files import first_bytes, regular_file
from .footers import Chunk, read_footer

__all__ = ["Piece", "Table", "is_table", "open_table", "told"]

PIECE = 256
"""Rows that are looked at together."""

_HELD = 2**28
"""Bytes of an Arrow stream that may have to be held because it is compressed."""

_BOMB = 100
"""How many times larger than its bytes in the file a column may be, once it is large at all."""

_LONGEST_LIST = 2**16
"""Values of one list, on average over a group."""

_MAGIC = {b"PAR1": "Parquet", b"ARRO": "Arrow", b"\xff\xff\xff\xff": "Arrow"}


def is_table(path: Path) -> str | None:
    """ "Parquet" or "Arrow", by the first bytes of a file; None of anything else. Never raises."""
    return _MAGIC.get((first_bytes(path, 8) or b"")[:4])


@dataclass(frozen=True)
class Piece:
    """Some rows that follow each other.

    Attributes:
        first, count: which rows of the table.
        batch: their columns (an Arrow record batch), None where they cannot be read.
        why: what was wrong then.
    """

    first: int
    count: int
    batch: Any
    why: str = ""


class Table:
    """One file.

    Attributes:
        path: of the file.
        schema: the Arrow schema.
        starts: the first row of each group of rows that is read at once, and last the number of rows.
        cut: what was lost where the file breaks off, in words.
    """

    kind: ClassVar[str]

    path: Path
    schema: Any
    starts: list[int]
    cut: str = ""

    @property
    def rows(self) -> int:
        return self.starts[-1]

    def group_of(self, row: int) -> int:
        """The group that a row is in."""
        return bisect.bisect_right(self.starts, row) - 1

    def pieces(self, group: int, columns: Sequence[str], rows: int = PIECE) -> Iterator[Any]:
        """Record batches of at most `rows` rows of a group; of a struct `name.field` is one field.

        Raises:
            DataError: damaged.
        """
        raise NotImplementedError

    def size(self, group: int, column: str) -> int:
        """Bytes of memory that a column of a group takes when read, about; 0 where it stays in the file."""
        raise NotImplementedError

    def rows_in(self, group: int, column: str, size: int) -> int:
        """How many rows of a group to read at once, for their column to take no more than `size` bytes, about."""
        return max(1, self.starts[group + 1] - self.starts[group])

    def has_nulls(self, column: str) -> bool:
        """Whether a column may have empty cells, as far as that is known without reading it."""
        return True

    def scan(self, columns: Sequence[str]) -> Iterator[Piece]:
        """All rows in pieces, those that cannot be read as pieces without a batch."""
        for group, (first, end) in enumerate(zip(self.starts, self.starts[1:], strict=False)):
            if not columns:
                yield from (Piece(n, min(PIECE, end - n), None) for n in range(first, end, PIECE))
                continue
            try:
                for batch in self.pieces(group, columns):
                    yield Piece(first, len(batch), batch)
                    first += len(batch)
                why = f"{str(self.path)!r} ends before them"
            except DataError as error:
                why = str(error)
            if first < end:
                yield Piece(first, end - first, None, why)


def open_table(path: str | Path) -> Table:
    """The table of a file. Raises DataError: no pyarrow, no such file, neither Parquet nor Arrow, damaged."""
    path = regular_file(path, "table")
    kind = is_table(path)
    if kind is None:
        raise DataError(f"table: {str(path)!r} is neither Parquet nor Arrow by its first bytes")
    _pyarrow()
    with told(path, kind):
        table = ParquetTable(path) if kind == "Parquet" else ArrowTable(path)
        _read_names(table.schema)
        return table


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError:
        raise DataError(
            'table: Parquet and Arrow files are read with pyarrow; install it with: pip install "manymatch[arrow]"'
        ) from None
    return pyarrow


@contextmanager
def told(path: Path, kind: str) -> Iterator[None]:
    """What pyarrow raises on files that are damaged or strange, as one line."""
    pa = _pyarrow()
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, KeyError, OverflowError, NotImplementedError) as error:
        words = " ".join(str(error).split())[:200].rstrip(" .")
        raise DataError(f"table: {str(path)!r} is not a whole {kind} file ({words})") from None


def _read_names(fields: Iterable[Any]) -> None:
    """Raises UnicodeDecodeError where one is no UTF-8; later it would be raised wherever a name is looked at."""
    for each in fields:
        _ = each.name
        _read_names(each.type.field(n) for n in range(each.type.num_fields))


class ParquetTable(Table):
    """A Parquet file. Columns with a dictionary keep it, so that a value that stands on every row is held once."""

    kind = "Parquet"

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self.path = path
        self._groups = read_footer(path)
        self.starts = [0, *itertools.accumulate(group.rows for group in self._groups)]
        if self.rows > path.stat().st_size:
            raise ValueError(f"{self.rows} rows are more than the file has bytes")
        every = [chunk for group in self._groups for chunk in group.chunks]
        shared = {chunk.name for chunk in every if chunk.shared} - {chunk.name for chunk in every if not chunk.shared}
        self.schema = pq.read_schema(path)
        self._file = pq.ParquetFile(path, pre_buffer=False, buffer_size=2**20, read_dictionary=sorted(shared))

    def pieces(self, group: int, columns: Sequence[str], rows: int = PIECE) -> Iterator[Any]:
        with told(self.path, self.kind):
            self._refuse_bombs(group, columns)
            pa = _pyarrow()
            for batch in self._file.iter_batches(rows, row_groups=[group], columns=list(columns), use_threads=False):
                yield pa.RecordBatch.from_arrays([_field(batch, name) for name in columns], names=list(columns))

    def _refuse_bombs(self, group: int, columns: Sequence[str]) -> None:
        rows = max(1, self._groups[group].rows)
        for chunk in self._chunks(group, columns):
            if chunk.unpacked > max(_HELD, _BOMB * chunk.packed):
                raise ValueError(f"{chunk.name!r} unpacks to {chunk.unpacked} bytes")
            if chunk.values > _LONGEST_LIST * rows:
                raise ValueError(f"{chunk.name!r} has lists of {chunk.values // rows} values")

    def _chunks(self, group: int, columns: Sequence[str]) -> Iterator[Chunk]:
        for chunk in self._groups[group].chunks:
            if any(chunk.name == name or chunk.name.startswith(f"{name}.") for name in columns):
                yield chunk

    def size(self, group: int, column: str) -> int:
        return sum(chunk.unpacked for chunk in self._chunks(group, [column]))

    def rows_in(self, group: int, column: str, size: int) -> int:
        rows = max(1, self._groups[group].rows)
        for chunk in self._chunks(group, [column]):
            # A value of a dictionary that is not kept as one may stand on every row, unpacked there each time.
            largest = 0 if chunk.shared else chunk.dictionary
            rows = min(rows, size // max(1, chunk.unpacked // rows, largest))
        return max(1, rows)

    def has_nulls(self, column: str) -> bool:
        groups = range(len(self._groups))
        return any(chunk.nulls != 0 for group in groups for chunk in self._chunks(group, [column]))


class ArrowTable(Table):
    """An Arrow file or stream, memory-mapped: what is not compressed is never copied."""

    kind = "Arrow"

    def __init__(self, path: Path) -> None:
        pa = _pyarrow()
        self.path = path
        self._options = pa.ipc.IpcReadOptions(use_threads=False)
        self._held: list[Any] = []
        self._file: Any = None
        source = pa.memory_map(str(path))
        if first_bytes(path, 6) == b"ARROW1":
            self._file = pa.ipc.open_file(source, options=self._options)
            self.schema = self._file.schema
            lengths = self._counted()
        else:
            self._hold(pa.ipc.open_stream(source, options=self._options))
            lengths = [batch.num_rows for batch in self._held]
        self.starts = [0, *itertools.accumulate(lengths)]
        if self.rows > path.stat().st_size:
            raise ValueError(f"{self.rows} rows are more than the file has bytes")

    def _counted(self) -> list[int]:
        """The rows of each batch; of one that cannot be read nobody knows, and it is left out."""
        pa = _pyarrow()
        lengths, whys = [], []
        for n in range(self._file.num_record_batches):
            try:
                lengths.append(self._file.get_batch(n).num_rows)
            except (pa.ArrowException, OSError, ValueError) as error:
                lengths.append(0)
                whys.append(" ".join(str(error).split())[:200])
        if whys:
            self.cut = f"{len(whys)} of {len(lengths)} batches of rows cannot be read ({whys[0]})"
        return lengths

    def _hold(self, stream: Any) -> None:
        """The batches of a stream: a few hundred bytes each, their columns stay in the file."""
        pa = _pyarrow()
        self.schema = stream.schema
        before = pa.total_allocated_bytes()
        while True:
            try:
                self._held.append(stream.read_next_batch())
            except StopIteration:
                return
            except (pa.ArrowException, OSError, ValueError) as error:
                words = " ".join(str(error).split())[:200]
                self.cut = f"the stream breaks off after {sum(map(len, self._held))} whole rows ({words})"
                return
            if pa.total_allocated_bytes() - before > _HELD:
                raise ValueError("a stream with compressed columns would have to be held whole; write it uncompressed")

    def batch(self, group: int) -> Any:
        return self._held[group] if self._file is None else self._file.get_batch(group)

    def pieces(self, group: int, columns: Sequence[str], rows: int = PIECE) -> Iterator[Any]:
        pa = _pyarrow()
        with told(self.path, self.kind):
            batch = self.batch(group)
            chosen = pa.RecordBatch.from_arrays([_field(batch, name) for name in columns], names=list(columns))
            for first in range(0, len(chosen), rows):
                yield chosen.slice(first, rows)

    def size(self, group: int, column: str) -> int:
        return 0


def _field(batch: Any, column: str) -> Any:
    """A column, or one field of a struct, checked: lengths and offsets that lead out of the file would crash us."""
    import pyarrow.compute as pc
    import pyarrow.types as types

    name, field = (column, "") if column in batch.schema.names else column.rsplit(".", 1)
    array = batch.column(name)
    array.validate()
    if field:
        array = pc.struct_field(array, field)
    # What text holds is looked at when it is read, so that one bad cell is not a bad table.
    if types.is_binary(array.type) or types.is_large_binary(array.type) or types.is_binary_view(array.type):
        array.validate(full=True)
    return array
