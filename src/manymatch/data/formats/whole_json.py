"""Whole JSON files of the user's, gzipped or not: bounded, and refused in one line where they are not JSON."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...errors import DataError
from ..files import first_bytes, regular_file

__all__ = ["Lean", "read_json"]

LARGEST = 4 * 2**30
"""Bytes of text. Annotations of a million images are less; it has to be held in memory whole."""

_UNPACKED, _PACKING = 2**26, 40
"""A gzip file may always unpack to so many bytes, beyond them to so many times its size: JSON packs 5 to 20 times."""

_CHUNK = 2**24
_DAMAGED = (OSError, EOFError, zlib.error)

Lean = Callable[[dict[str, Any]], Any]
"""What each object is replaced by as soon as it is parsed, so that what nobody reads is let go at once."""


def read_json(path: Path, what: str, lean: Lean | None = None) -> dict[str, Any]:
    """The object a file holds. NaN and infinity are let through as numbers; whoever reads a field looks at it.

    Args:
        path: a regular file, gzipped or not.
        what: how messages call it.
        lean: see `Lean`; also called with the object that is returned.

    Raises:
        DataError: no such file, too large, damaged, not UTF-8, not JSON, nested too deeply, or not an object.
    """
    path = regular_file(path, what)
    start = (first_bytes(path) or b"").removeprefix(b"\xef\xbb\xbf").lstrip()
    if start and start[:1] != b"{":
        raise DataError(f"{what}: {str(path)!r} begins with {start[:12].decode('latin1')!a}, expected one JSON object")
    try:
        value = json.loads(_text(path, what), object_hook=lean)
    except RecursionError:
        raise DataError(f"{what}: {str(path)!r} is nested too deeply") from None
    except ValueError as error:
        raise DataError(f"{what}: {str(path)!r} is not JSON ({error})") from None
    if not isinstance(value, dict):
        raise DataError(f"{what}: {str(path)!r} holds a {type(value).__name__}, expected one JSON object")
    return value


def _text(path: Path, what: str) -> str:
    try:
        with open(path, "rb") as raw:
            size = os.fstat(raw.fileno()).st_size
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            limit = min(LARGEST, max(_UNPACKED, _PACKING * size)) if packed else LARGEST
            file = gzip.GzipFile(fileobj=raw) if packed else raw
            data = bytearray()
            while block := file.read(_CHUNK):
                data += block
                if len(data) > limit:
                    raise DataError(f"{what}: {str(path)!r} holds more than {limit} bytes of text; split it")
    except _DAMAGED as error:
        raise DataError(f"{what}: {str(path)!r} cannot be read ({error})") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{what}: byte {error.start + 1} of {str(path)!r} is not UTF-8") from None
