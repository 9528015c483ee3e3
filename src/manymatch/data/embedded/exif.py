"""EXIF: a TIFF structure of tags, of which a handful are read, each once, wherever they claim to lie."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from .stock import tidy

__all__ = ["Exif", "Missing", "inside", "read_exif"]

At = Callable[[int, int], bytes]
"""Gives the bytes at an offset, so many of them. Raises Missing."""

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
"""Bytes of one value of each type."""

_MOST_TAGS = 512
_LONGEST = 2**16
"""Bytes of one value."""

_WIDTH, _HEIGHT, _DESCRIPTION, _MAKE, _MODEL, _ORIENTATION = 0x0100, 0x0101, 0x010E, 0x010F, 0x0110, 0x0112
_XMP, _IPTC, _EXIF = 0x02BC, 0x83BB, 0x8769
_TITLE, _COMMENT, _KEYWORDS = 0x9C9B, 0x9C9C, 0x9C9E
_TAKEN, _DIGITISED, _USER_COMMENT = 0x9003, 0x9004, 0x9286

_WANTED = frozenset(
    {_WIDTH, _HEIGHT, _DESCRIPTION, _MAKE, _MODEL, _ORIENTATION, _XMP, _IPTC, _EXIF, _TITLE, _COMMENT, _KEYWORDS}
    | {_TAKEN, _DIGITISED, _USER_COMMENT}
)


class Missing(Exception):
    """Bytes that are not there, or too many of them."""


@dataclass(frozen=True)
class Exif:
    """What a block says; empty where it does not.

    Attributes:
        turned: whether width and height change places when the picture is turned upright.
        width, height, iptc, xmp: of a TIFF, whose own tags these are.
    """

    taken: str | None = None
    make: str = ""
    model: str = ""
    captions: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    turned: bool = False
    width: int | None = None
    height: int | None = None
    iptc: bytes = b""
    xmp: bytes = b""

    @property
    def camera(self) -> str | None:
        """Maker and model; most models name their maker themselves."""
        make, model = self.make, self.model
        if make and model and model.casefold().split()[0] != make.casefold().split()[0]:
            return f"{make} {model}"
        return model or make or None


def inside(data: bytes) -> At:
    """Access to a block in memory."""

    def at(offset: int, size: int) -> bytes:
        if offset < 0 or offset + size > len(data):
            raise Missing
        return data[offset : offset + size]

    return at


def read_exif(at: At) -> Exif:
    """What a block says, as far as it is whole."""
    try:
        head = at(0, 8)
        order = {b"II*\0": "<", b"MM\0*": ">"}.get(head[:4])
        if order is None:
            return Exif()
        (first,) = struct.unpack(f"{order}I", head[4:])
        tags = _tags(at, order, first)
        if (below := _number(tags.get(_EXIF), order)) is not None:
            tags = _tags(at, order, below) | tags
    except Missing:
        return Exif()
    titles = [_wide(tags.get(tag, b"")) for tag in (_TITLE, _COMMENT)]
    texts = [_text(tags.get(_DESCRIPTION, b"")), *titles, _comment(tags.get(_USER_COMMENT, b""), order)]
    keywords = [tidy(word) for word in _wide(tags.get(_KEYWORDS, b"")).split(";")]
    return Exif(
        taken=next(_dates(tags), None),
        make=tidy(_text(tags.get(_MAKE, b""))),
        model=tidy(_text(tags.get(_MODEL, b""))),
        captions=tuple(filter(None, map(tidy, texts))),
        keywords=tuple(filter(None, keywords)),
        turned=(_number(tags.get(_ORIENTATION), order) or 1) in (5, 6, 7, 8),
        width=_number(tags.get(_WIDTH), order),
        height=_number(tags.get(_HEIGHT), order),
        iptc=tags.get(_IPTC, b""),
        xmp=tags.get(_XMP, b""),
    )


def _tags(at: At, order: str, offset: int) -> dict[int, bytes]:
    """The wanted tags of one directory, those that are there. Raises Missing: the directory itself is not."""
    (count,) = struct.unpack(f"{order}H", at(offset, 2))
    entries = at(offset + 2, 12 * min(count, _MOST_TAGS))
    out: dict[int, bytes] = {}
    for tag, kind, number, value in struct.iter_unpack(f"{order}HHI4s", entries):
        size = _SIZES.get(kind, 0) * number
        if tag not in _WANTED or tag in out or not 0 < size <= _LONGEST:
            continue
        try:
            out[tag] = value[:size] if size <= 4 else at(struct.unpack(f"{order}I", value)[0], size)
        except Missing:
            continue
    return out


def _number(value: bytes | None, order: str) -> int | None:
    if value is None or len(value) not in (2, 4):
        return None
    return int(struct.unpack(f"{order}{'H' if len(value) == 2 else 'I'}", value)[0])


def _text(value: bytes) -> str:
    value = value.split(b"\0", 1)[0]
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("cp1252", "replace")


def _wide(value: bytes) -> str:
    return value[: len(value) // 2 * 2].decode("utf-16-le", "replace").split("\0", 1)[0]


def _comment(value: bytes, order: str) -> str:
    """Eight bytes say how the others are written; many cameras leave them empty."""
    kind, rest = value[:8], value[8:]
    if kind == b"UNICODE\0":
        return _either(rest[: len(rest) // 2 * 2], order)
    return _text(rest) if kind in (b"ASCII\0\0\0", b"\0" * 8) else ""


def _either(value: bytes, order: str) -> str:
    """UTF-16 in the block's own order, or in the other one that some programs always write."""
    if value.startswith((b"\xff\xfe", b"\xfe\xff")):
        return value.decode("utf-16", "replace").split("\0", 1)[0]
    codes = ("utf-16-le", "utf-16-be") if order == "<" else ("utf-16-be", "utf-16-le")
    texts = [value.decode(code, "replace").split("\0", 1)[0] for code in codes]
    return max(texts, key=lambda text: sum(char.isascii() for char in text))


def _dates(tags: dict[int, bytes]) -> Iterator[str]:
    for tag in (_TAKEN, _DIGITISED):
        try:
            yield datetime.strptime(_text(tags.get(tag, b"")).strip(), "%Y:%m:%d %H:%M:%S").isoformat()
        except ValueError:
            continue
