"""The members of an uncompressed tar, by their headers alone: where each begins, and how many bytes it has.

Read by ourselves because headers are input too: a size below zero, a name of a gigabyte or a map of holes without an
end must neither hang us nor fill the memory. POSIX (ustar, pax), GNU and old V7 archives are understood.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

__all__ = ["Member", "TarDamage", "members"]

_BLOCK = 512
_MAX_EXTENDED = 2**20
"""Bytes of a long name or of a pax header; real ones have a few hundred."""

_REGULAR = b"\x0007"
_NO_DATA = b"123456"
_LINK, _GNU_NAME, _GNU_LINK, _PAX, _PAX_GLOBAL, _SPARSE = b"1", b"L", b"K", b"xX", b"g", b"S"


class TarDamage(Exception):
    """Where the headers can no longer be followed; `whole` is False where the file is no tar at all.

    Attributes:
        first: nothing was read before it, so that this is perhaps no tar.
        words: what is wrong, for the user.
    """

    def __init__(self, words: str, first: bool = False) -> None:
        super().__init__(words, first)
        self.words, self.first = words, first


@dataclass(frozen=True, slots=True)
class Member:
    """One entry.

    Attributes:
        name: as stored; bytes that are no UTF-8 are half surrogate pairs.
        offset, size: of its bytes in the tar.
        link: for a hard link the name of the member it stands for, else empty.
        regular: a file whose bytes lie in one piece; False for folders, links, devices, pipes, sparse files.
        whole: all its bytes are there.
    """

    name: str
    offset: int
    size: int
    link: str
    regular: bool
    whole: bool


@dataclass
class _Said:
    """What the extended headers before a member say of it; it goes before the member's own header."""

    name: str | None = None
    link: str | None = None
    size: int | None = None
    sparse: bool = False
    pax: dict[str, bytes] = field(default_factory=dict)


def members(handle: int) -> Iterator[Member]:
    """The members in their order, read by position: the handle's own place does not move.

    Raises:
        TarDamage: a header that is none, a tar that breaks off, or no tar at all.
    """
    total = os.fstat(handle).st_size
    always: dict[str, bytes] = {}
    said, offset = _Said(pax=dict(always)), 0
    while True:
        block = _read(handle, offset, _BLOCK, total)
        if not block.strip(b"\0"):
            return
        _verify(block, offset)
        kind, size = block[156:157], _number(block[124:136], offset)
        data = offset + _BLOCK
        if kind in (_GNU_NAME, _GNU_LINK) or kind in _PAX_GLOBAL + _PAX:
            _extend(said, always, kind, _extended(handle, data, size, total, offset))
            offset = _next(data, size)
            continue
        if kind == _SPARSE:
            data = _behind_map(handle, block, data, total)
        _apply(said, offset)
        if said.size is not None:
            size = said.size
        name = said.name if said.name is not None else _name(block)
        link = said.link if said.link is not None else _text(block[157:257])
        regular = kind in _REGULAR and not said.sparse and not name.endswith("/")
        whole = data + size <= total
        yield Member(name, data, size, link if kind == _LINK else "", regular, whole)
        if kind not in _NO_DATA:
            if not whole:
                raise TarDamage(f"it breaks off inside {name!r}")
            data = _next(data, size)
        said, offset = _Said(pax=dict(always)), data


def _read(handle: int, offset: int, size: int, total: int) -> bytes:
    block = os.pread(handle, size, offset)
    if len(block) == size:
        return block
    if offset == 0:
        raise TarDamage("the file is empty" if not total else "the file is shorter than one header", first=True)
    raise TarDamage("it ends without the mark of its end" if not block else "it breaks off inside a header")


def _verify(block: bytes, offset: int) -> None:
    """The checksum takes its own eight bytes for blanks; some old writers summed signed bytes."""
    found = _octal(block[148:156])
    plain = block[:148] + b" " * 8 + block[156:]
    if found is None or (found != sum(plain) and found != sum(plain) - 256 * sum(byte > 127 for byte in plain)):
        _damaged(offset)


def _damaged(offset: int) -> NoReturn:
    raise TarDamage(f"it is damaged at byte {offset}" if offset else "no header of a tar at its start", not offset)


def _octal(digits: bytes) -> int | None:
    text = digits.split(b"\0", 1)[0].strip()
    if not text:
        return 0
    return int(text, 8) if all(c in b"01234567" for c in text) else None


def _number(digits: bytes, offset: int) -> int:
    """Octal, or in base 256 where the first bit is set."""
    value = int.from_bytes(digits[1:], "big") if digits[0] == 0x80 else _octal(digits)
    if value is None:
        _damaged(offset)
    return value


def _next(offset: int, size: int) -> int:
    return offset + -(-size // _BLOCK) * _BLOCK


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _name(block: bytes) -> str:
    name = _text(block[:100])
    # GNU archives keep times where POSIX has the first part of a long name.
    prefix = _text(block[345:500]) if block[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _extended(handle: int, data: int, size: int, total: int, offset: int) -> bytes:
    if size > _MAX_EXTENDED:
        raise TarDamage(f"it is damaged at byte {offset}: a name or header of {size} bytes, at most {_MAX_EXTENDED}")
    return _read(handle, data, size, total)


def _extend(said: _Said, always: dict[str, bytes], kind: bytes, data: bytes) -> None:
    if kind == _GNU_NAME:
        said.name = _text(data)
    elif kind == _GNU_LINK:
        said.link = _text(data)
    elif kind == _PAX_GLOBAL:
        always |= _pax(data)
        said.pax = {**always, **said.pax}
    else:
        said.pax |= _pax(data)


def _pax(data: bytes) -> Mapping[str, bytes]:
    """Records `<length> <key>=<value>\\n`, the length counting the whole record."""
    out = {}
    while data.strip(b"\0"):
        length, blank, _ = data.partition(b" ")
        if not blank or not length.isdigit() or len(length) > 8 or int(length) <= len(length) + 1:
            raise TarDamage("it is damaged: a pax header that cannot be read")
        key, equals, value = data[len(length) + 1 : int(length) - 1].partition(b"=")
        if not equals or int(length) > len(data):
            raise TarDamage("it is damaged: a pax header that cannot be read")
        out[key.decode("utf-8", "replace")] = value
        data = data[int(length) :]
    return out


def _apply(said: _Said, offset: int) -> None:
    """Pax records into what they say; they go before a GNU name, as in tar itself."""
    for key, value in said.pax.items():
        if key == "path":
            said.name = value.decode("utf-8", "surrogateescape")
        elif key == "linkpath":
            said.link = value.decode("utf-8", "surrogateescape")
        elif key == "size":
            if not value.isdigit() or len(value) > 18:
                _damaged(offset)
            said.size = int(value)
        elif key.startswith("GNU.sparse."):
            said.sparse = True


def _behind_map(handle: int, block: bytes, data: int, total: int) -> int:
    """Where the data of a sparse file begins: behind the blocks that say where its holes are."""
    more = block[482]
    while more:
        more = _read(handle, data, _BLOCK, total)[504]
        data += _BLOCK
    return data
