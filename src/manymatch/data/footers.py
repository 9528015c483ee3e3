"""What a Parquet file says of its column chunks, read from its footer by ourselves.

The library's own way to ask ends the whole process on some damaged footers; reading data it reports them as errors.
Format: Thrift's compact protocol, and `FileMetaData` of the Parquet specification.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Chunk", "Group", "read_footer"]

_LARGEST = 2**25
"""Bytes of a footer. A thousand row groups of twenty columns need one."""

_DEEPEST = 32
_DATA_PAGES, _DICTIONARY = (0, 3), (2, 8)
_BYTE_ARRAY = 6
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT, _UUID = 1, 2, 3, 7, 8, 9, 10, 11, 12, 13

_WANTED: Mapping[int, Any] = {
    4: {1: {3: {1: {}, 3: {}, 5: {}, 6: {}, 7: {}, 9: {}, 11: {}, 12: {3: {}}, 13: {1: {}, 2: {}}}}, 3: {}}
}
"""Numbers of the fields that are kept: of the row groups the columns' metadata, and the number of rows."""


@dataclass(frozen=True)
class Chunk:
    """One column of one row group.

    Attributes:
        name: the path of the column, `image.bytes` or `captions.list.element`.
        values: how many there are, those inside lists counted each.
        unpacked, packed: bytes in memory, still encoded, and in the file.
        shared: texts or bytes of which all are places in a dictionary.
        dictionary: bytes of the dictionary in the file, 0 where there is none.
        nulls: how many values are missing, None where the file does not say.
    """

    name: str
    values: int
    unpacked: int
    packed: int
    shared: bool
    dictionary: int
    nulls: int | None


@dataclass(frozen=True)
class Group:
    """A row group: how many rows, and its column chunks."""

    rows: int
    chunks: tuple[Chunk, ...]


def read_footer(path: Path) -> list[Group]:
    """The row groups of a Parquet file. Raises ValueError (damaged) or OSError."""
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 8))
        tail = file.read(8)
        length = int.from_bytes(tail[:4], "little")
        if len(tail) < 8 or tail[4:] != b"PAR1" or length + 12 > size:
            raise ValueError("it breaks off, or its footer is encrypted")
        if length > _LARGEST:
            raise ValueError(f"a footer of {length} bytes, at most {_LARGEST} are read")
        file.seek(size - 8 - length)
        found = _Compact(file.read(length)).struct(_WANTED, 0)
    return [Group(_int(_struct(group).get(3)), tuple(_chunks(_struct(group)))) for group in _list(found.get(4))]


def _chunks(group: Mapping[int, Any]) -> Iterator[Chunk]:
    for column in _list(group.get(1)):
        about, told = _struct(_struct(column).get(3)), {}
        if 12 in about:
            told = _struct(about[12])
        values, unpacked, packed = (_int(about.get(n)) for n in (5, 6, 7))
        dictionary = max(1, _int(about.get(9)) - _int(about[11])) if about.get(11) else 0
        shared = bool(dictionary) and about.get(1) == _BYTE_ARRAY and _all_shared(_list(about.get(13)))
        yield Chunk(_path(about.get(3)), values, unpacked, packed, shared, dictionary, told.get(3))


def _all_shared(pages: list[Any]) -> bool:
    """Whether every page of data is of places in the dictionary: writers give it up once it has grown large."""
    found = {_struct(page).get(2) for page in pages if _struct(page).get(1) in _DATA_PAGES}
    return bool(found) and found <= set(_DICTIONARY)


def _path(parts: Any) -> str:
    if not all(isinstance(part, bytes) for part in _list(parts)):
        raise ValueError("a field of another type")
    return ".".join(part.decode() for part in parts)


def _struct(value: Any) -> dict[int, Any]:
    if not isinstance(value, dict):
        raise ValueError("a field of another type")
    return value


def _int(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"a count of {value!r}")
    return value


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise ValueError("a field of another type")
    return value


class _Compact:
    """Bytes of the compact protocol; what is not wanted is stepped over."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def struct(self, wanted: Mapping[int, Any], depth: int) -> dict[int, Any]:
        if depth > _DEEPEST:
            raise ValueError("nested too deeply")
        out, number = {}, 0
        while head := self._take(1)[0]:
            number = number + (head >> 4) if head >> 4 else self._zigzag()
            value = self._value(head & 15, wanted.get(number), depth)
            if number in wanted:
                out[number] = value
        return out

    def _take(self, count: int) -> bytes:
        found = self._data[self._at : self._at + count]
        if len(found) < count:
            raise ValueError("the footer breaks off")
        self._at += count
        return found

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._take(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("a number without an end")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _value(self, kind: int, wanted: Mapping[int, Any] | None, depth: int) -> Any:
        if kind in (_TRUE, _FALSE):
            return kind == _TRUE
        if kind == _BYTE:
            return self._take(1)[0]
        if _BYTE < kind < _DOUBLE:
            return self._zigzag()
        if kind in (_DOUBLE, _UUID):
            return self._take(8 if kind == _DOUBLE else 16)
        if kind == _BINARY:
            return self._take(self._varint())
        if kind in (_LIST, _SET):
            return self._list(wanted, depth)
        if kind == _MAP:
            return self._map(depth)
        if kind == _STRUCT:
            return self.struct(wanted or {}, depth + 1)
        raise ValueError(f"a field of the unknown type {kind}")

    def _list(self, wanted: Mapping[int, Any] | None, depth: int) -> list[Any]:
        head = self._take(1)[0]
        count, kind = (self._varint() if head >> 4 == 15 else head >> 4), head & 15
        out = []
        for _ in range(count):
            value = self._element(kind, wanted, depth)
            if wanted is not None:
                out.append(value)
        return out

    def _element(self, kind: int, wanted: Mapping[int, Any] | None, depth: int) -> Any:
        # A truth value in a list has a byte of its own; as a field it stands in the field's head.
        if depth > _DEEPEST:
            raise ValueError("nested too deeply")
        return self._take(1)[0] == 1 if kind in (_TRUE, _FALSE) else self._value(kind, wanted, depth + 1)

    def _map(self, depth: int) -> None:
        count = self._varint()
        kinds = self._take(1)[0] if count else 0
        for _ in range(count):
            self._element(kinds >> 4, None, depth)
            self._element(kinds & 15, None, depth)
