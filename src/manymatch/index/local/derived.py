"""Files beside the truth: each made from one generation of the store, replaced whole, remade when torn or far behind.

A derived file is one page of header (magic, length and CRC-32 of what follows, JSON: generation, size in bytes, CRC-32
of the payload, what its owner adds) and a payload from byte 4096 on. Opening reads the page and the size of the file,
so it is cheap whatever the payload holds; the payload's CRC is read by checks.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from ...data.writing import whole_file

__all__ = [
    "PAYLOAD",
    "Writer",
    "header_at",
    "leftovers",
    "locked",
    "read_header",
    "remove_leftovers",
    "sound",
    "write_derived",
]

PAYLOAD = 4096
"""Where the payload starts: one page, so that a memory map of it is aligned."""

_MAGIC = b"MMDERIV2"
_SUMS = struct.Struct("<II")
_PART = 2**20

_LONG_AGO = 3600.0
"""Seconds after which a temporary file in a folder without locks is nobody's."""


class Writer(Protocol):
    """What a payload is written to, from its first byte to its last."""

    def write(self, data: Any, /) -> Any: ...


class _Summed:
    """Passes on what is written and sums it up."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.crc = file, 0

    def write(self, data: Any, /) -> int:
        self.crc = zlib.crc32(data, self.crc)
        return self._file.write(data)


def read_header(file: BinaryIO) -> dict[str, Any] | None:
    """The header of an open file, or None when it is torn."""
    page = file.read(PAYLOAD)
    start = len(_MAGIC) + _SUMS.size
    if len(page) < PAYLOAD or page[: len(_MAGIC)] != _MAGIC:
        return None
    length, crc = _SUMS.unpack(page[len(_MAGIC) : start])
    if zlib.crc32(page[start : start + length]) != crc:
        return None
    header: dict[str, Any] = json.loads(page[start : start + length])
    return header if header["size"] == os.fstat(file.fileno()).st_size else None


def header_at(path: Path) -> dict[str, Any] | None:
    """What a file says of itself, or None when it is missing, torn or not this user's to read."""
    try:
        with open(path, "rb") as file:
            return read_header(file)
    except (FileNotFoundError, PermissionError):
        return None


def sound(path: Path, told: Callable[[int, int], object] = lambda done, total: None) -> bool:
    """Whether header and payload of a file are what was written. Raises OSError.

    Args:
        told: called with the bytes read and those in all.
    """
    with open(path, "rb") as file:
        header = read_header(file)
        if header is None:
            return False
        crc, done = 0, PAYLOAD
        while part := file.read(_PART):
            crc, done = zlib.crc32(part, crc), done + len(part)
            told(done, header["size"])
        return bool(crc == header["crc"])


def write_derived(path: Path, generation: str, facts: Mapping[str, Any], payload: Callable[[Writer], None]) -> None:
    """Write to a temporary name, fsync, rename: a reader meets the old file or the new one, never a part."""
    with locked(path.parent, fcntl.LOCK_SH), whole_file(path) as temporary, open(temporary, "xb") as file:
        file.write(bytes(PAYLOAD))
        summed = _Summed(file)
        payload(summed)
        size = file.seek(0, os.SEEK_END)
        header = json.dumps({**facts, "generation": generation, "size": size, "crc": summed.crc}).encode()
        page = _MAGIC + _SUMS.pack(len(header), zlib.crc32(header)) + header
        if len(page) > PAYLOAD:
            raise ValueError(f"{path.name}: header of {len(page)} bytes, one page has {PAYLOAD}")
        file.seek(0)
        file.write(page)


# ---- what killed writers leave


def leftovers(folder: Path) -> list[Path]:
    """Temporary files in a folder, and in the folders in it."""
    return sorted([*folder.glob(".*.tmp"), *folder.glob("*/.*.tmp")])


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove the temporary files whose writers are dead; those that were removed."""
    removed = []
    with locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB) as alone:
        for path in leftovers(folder):
            # Whoever writes derived files holds a lock on their folder; other writers are told by time.
            if (alone and path.parent == folder) or _age(path) > _LONG_AGO:
                path.unlink(missing_ok=True)
                removed.append(path)
    return removed


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


@contextmanager
def locked(folder: Path, how: int) -> Iterator[bool]:
    """Whether the folder could be locked. The lock goes with the process, however that ends."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, how)
            held = True
        except OSError:
            # Somebody writes, or this file system has no locks.
            held = False
        yield held
    finally:
        os.close(handle)
