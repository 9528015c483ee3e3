"""IPTC (IIM): records of a number and a text, one behind the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .stock import tidy

__all__ = ["Iptc", "read_iptc"]

_CAPTION, _HEADLINE, _KEYWORD = (2, 120), (2, 105), (2, 25)
_CHARACTERS = (1, 90)
_UTF_8 = b"\x1b%G"

_MOST = 2000


@dataclass(frozen=True)
class Iptc:
    """Caption and headline, and keywords."""

    captions: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()


def read_iptc(data: bytes) -> Iptc:
    """What the records say, up to the first damaged one."""
    found: dict[tuple[int, int], list[bytes]] = {}
    for key, value in _records(data):
        found.setdefault(key, []).append(value)
    utf_8 = _UTF_8 in found.get(_CHARACTERS, [])
    captions, keywords = (
        tuple(text for key in keys for value in found.get(key, []) if (text := tidy(_text(value, utf_8))))
        for keys in ((_CAPTION, _HEADLINE), (_KEYWORD,))
    )
    return Iptc(captions, keywords)


def _records(data: bytes) -> Iterator[tuple[tuple[int, int], bytes]]:
    offset = 0
    for _ in range(_MOST):
        if data[offset : offset + 1] != b"\x1c" or offset + 5 > len(data):
            return
        size = int.from_bytes(data[offset + 3 : offset + 5], "big")
        # From 32,768 bytes on the length is written in another way, which no caption needs.
        if size > 0x7FFF or offset + 5 + size > len(data):
            return
        yield (data[offset + 1], data[offset + 2]), data[offset + 5 : offset + 5 + size]
        offset += 5 + size


def _text(value: bytes, utf_8: bool) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("utf-8" if utf_8 else "cp1252", "replace")
