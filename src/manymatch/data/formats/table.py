"""Tables: CSV and TSV, plain or gzipped, with a header. Rows of the same image are one image with their captions."""

from __future__ import annotations

import csv
import json
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from ...errors import DataError
from ..files import Unread, first_bytes, read_lines, regular_file
from ..pairs import Problem
from .base import Format, Row, Source
from .grouping import grouped
from .names import synonyms

__all__ = ["Table", "TableSource", "grouped"]

_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
_NEEDED = frozenset({"image", "captions", "id"})

_LONGEST = 2**20
"""Bytes of one line."""

_REACH = 200
"""Lines that one row may have: a quote that is not closed by then never will be, and the next line is a row again."""


class _Lines:
    """The lines of a file as text, with those given back read again first."""

    def __init__(self, path: Path) -> None:
        self._lines = read_lines(path, _LONGEST, blank=True)
        self._back: deque[tuple[int, str | Unread]] = deque()

    def next(self) -> tuple[int, str | Unread] | None:
        if self._back:
            return self._back.popleft()
        for number, line in self._lines:
            if isinstance(line, Unread):
                return number, line
            try:
                return number, line.decode("utf-8")
            except UnicodeDecodeError as error:
                return number, Unread("not UTF-8", f"byte {error.start + 1} of the line is not UTF-8")
        return None

    def give_back(self, lines: Sequence[tuple[int, str | Unread]]) -> None:
        self._back.extendleft(reversed(lines))


class _Records:
    """Rows as lists of cells, a row that is none of them as `Unread`, each with the line it begins at."""

    def __init__(self, path: Path, delimiter: str) -> None:
        self._lines, self._delimiter = _Lines(path), delimiter

    def __iter__(self) -> Iterator[tuple[int, list[str] | Unread]]:
        while (first := self._lines.next()) is not None:
            number, line = first
            if isinstance(line, Unread):
                yield number, line
            elif line.strip():
                yield number, self._record(line)

    def _record(self, line: str) -> list[str] | Unread:
        if '"' not in line and "\r" not in (bare := line.rstrip("\r\n")):
            return bare.split(self._delimiter)
        further: list[tuple[int, str | Unread]] = []

        def feed() -> Iterator[str]:
            yield line
            while len(further) < _REACH and (read := self._lines.next()) is not None:
                further.append(read)
                if isinstance(read[1], Unread):
                    return
                yield read[1]

        try:
            return next(csv.reader(feed(), delimiter=self._delimiter, strict=True, skipinitialspace=True))
        except (csv.Error, StopIteration) as error:
            # What a quote that was never closed has swallowed are rows of their own.
            self._lines.give_back(further)
            return Unread("not a row", f"{error}; a quote that opens and does not close?" if further else f"{error}")


class TableSource(Source):
    """The rows of one table, those of an image together.

    Raises:
        DataError: no header, a header that is no text, a column that is there twice.
    """

    texts: ClassVar[bool] = True

    def __init__(self, path: Path) -> None:
        self._delimiter = _delimiter(path)
        self._columns = _header(path, self._delimiter)
        named = [name for name in self._columns if name]
        names, seen = synonyms(named)
        said = [f"separated by {_DELIMITERS[self._delimiter]}", f"columns {', '.join(named[:12])}", *seen]
        if len(named) < len(self._columns):
            said.append(f"{len(self._columns) - len(named)} columns without a name are left out")
        super().__init__(path, names, tuple(said))

    def rows(self) -> Iterator[Row]:
        return grouped(self._single(), self.names, self.path)

    def _single(self) -> Iterator[Row]:
        """One row a row of the file."""
        records = iter(_Records(self.path, self._delimiter))
        next(records)
        for row, (line, cells) in enumerate(records):
            if isinstance(cells, Unread):
                yield Row(row, None, line, kind=cells.kind, detail=cells.detail)
            elif len(cells) != len(self._columns):
                what = "half a row" if len(cells) < len(self._columns) else "row too long"
                detail = f"{len(cells)} cells, expected {len(self._columns)} as in the header"
                yield Row(row, None, line, kind=what, detail=detail)
            else:
                yield Row(row, self._value(cells), line)

    def _value(self, cells: Sequence[str]) -> dict[str, Any]:
        # An empty cell says nothing, but of an empty caption something is said.
        captions = self.names.get("captions", "captions")
        found = {name: _cell(text) for name, text in zip(self._columns, cells, strict=True) if name}
        return {name: value for name, value in found.items() if value != "" or name == captions}


class Table(Format):
    """Comma- or tab-separated values with a header."""

    name: ClassVar[str] = "table"
    title: ClassVar[str] = "CSV or TSV with a header"
    rank: ClassVar[int] = 45

    def sees(self, path: Path) -> str | None:
        head = first_bytes(path)
        if head is None:
            return None
        for suffix in _SUFFIXES:
            if path.name.lower().endswith(suffix):
                return f"a {suffix} file"
        if not path.name.lower().endswith((".txt", ".txt.gz")):
            return None
        found = _known_columns(_first_line(head))
        return f"a header with the columns {' and '.join(found)}" if len(found) > 1 else None

    def open(self, path: Path) -> Source:
        return TableSource(regular_file(path, "pairs"))


def _cell(text: str) -> Any:
    text = text.strip()
    if text.startswith("[") and text.endswith("]"):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return text
        if all(isinstance(each, str) for each in value):
            return value
    return text


def _first_line(head: bytes) -> str:
    # The first that is not blank, as rows are counted.
    lines = head.removeprefix(b"\xef\xbb\xbf").splitlines()
    return next((line for line in lines if line.strip()), b"").decode("utf-8", "replace")


def _split(line: str, delimiter: str) -> list[str]:
    try:
        cells = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
    except csv.Error:
        return []
    return [cell.strip() for cell in cells]


def _known_columns(line: str) -> list[str]:
    """Our fields among the columns of a header, by the delimiter that finds most."""
    return max((_ours(_split(line, each)) for each in _DELIMITERS), key=len)


def _ours(cells: Sequence[str]) -> list[str]:
    return sorted(_NEEDED & (set(cells) | set(synonyms(cells)[0])))


def _delimiter(path: Path) -> str:
    head = first_bytes(path) or b""
    line = _first_line(head)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or "\0" in line:
        raise DataError(f"pairs: {str(path)!r} is UTF-16 or no text, expected a table in UTF-8; save it as that")
    split = {each: _split(line, each) for each in _DELIMITERS}
    # What finds columns we know is right; else what cuts most; a .tsv has tabs, a .csv commas, when all are equal.
    first = "\t" if ".tsv" in path.name.lower() else ","
    return max(split, key=lambda each: (len(_ours(split[each])), len(split[each]), each == first))


def _header(path: Path, delimiter: str) -> list[str]:
    number, cells = next(iter(_Records(path, delimiter)), (0, Unread("", "")))
    if not number:
        raise DataError(f"pairs: {str(path)!r} holds no lines, expected a header such as image,caption")
    if isinstance(cells, Unread):
        raise DataError(str(Problem(str(path), number, cells.kind, f"{cells.detail}; expected a header")))
    names = [cell.strip() for cell in cells]
    seen: set[str] = set()
    for name in filter(None, names):
        if name in seen:
            raise DataError(f"{path}:{number}: the column {name!r} is there twice, expected every column once")
        seen.add(name)
    return names
