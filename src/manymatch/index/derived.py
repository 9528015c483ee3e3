"""Files beside the truth: each made from one generation of the store, replaced whole, remade when stale or torn.

A derived file is one page of header (magic, length, JSON: generation, size in bytes, what its owner adds) and a
payload from byte 4096 on. Opening reads the page and the size of the file, so it is cheap whatever the payload holds.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ..data.writing import whole_file

__all__ = ["PAYLOAD", "read_header", "write_derived"]

PAYLOAD = 4096
"""Where the payload starts: one page, so that a memory map of it is aligned."""

_MAGIC = b"MMDERIV1"
_LENGTH = struct.Struct("<I")


def read_header(file: BinaryIO, generation: str) -> dict[str, Any] | None:
    """The header of an open file, or None when it is torn or was made from another generation."""
    page = file.read(PAYLOAD)
    start = len(_MAGIC) + _LENGTH.size
    if len(page) < PAYLOAD or page[: len(_MAGIC)] != _MAGIC:
        return None
    (length,) = _LENGTH.unpack(page[len(_MAGIC) : start])
    try:
        header = json.loads(page[start : start + length])
    except ValueError:
        return None
    if not isinstance(header, dict) or header.get("generation") != generation:
        return None
    return header if header.get("size") == os.fstat(file.fileno()).st_size else None


def write_derived(path: Path, generation: str, facts: Mapping[str, Any], payload: Callable[[BinaryIO], None]) -> None:
    """Write to a temporary name, fsync, rename: a reader meets the old file or the new one, never a part."""
    with whole_file(path) as temporary, open(temporary, "xb") as file:
        file.write(bytes(PAYLOAD))
        payload(file)
        size = file.seek(0, os.SEEK_END)
        header = json.dumps({**facts, "generation": generation, "size": size}).encode()
        page = _MAGIC + _LENGTH.pack(len(header)) + header
        if len(page) > PAYLOAD:
            raise ValueError(f"{path.name}: header of {len(page)} bytes, one page has {PAYLOAD}")
        file.seek(0)
        file.write(page)
