"""Segments: files of records that only grow. A record is one picture's features and says itself whether it is whole.

    header   magic, length and CRC-32 of a JSON text, the text (what the records are), zeros up to a multiple of 4,096
    record   0  SHA-256 of the picture's bytes
            32  how many fragments are real (uint32)
            36  CRC-32 of all other bytes of the record (uint32)
            64  fragments (f, c) float16, pooled vector (p,) float16, zeros up to a multiple of 64

A segment is born whole (temporary name, fsync, rename) and then appended to by one process at a time. Bytes that are
there are never written again, so that a reader who mapped them is never told another picture's features.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import struct
import threading
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError
from ..writing import whole_file
from .records import Kind, bytes_of

__all__ = ["SUFFIX", "Segment", "Tail"]

Array = np.ndarray[Any, Any]

_MAGIC = b"MANYMATCH FEATURES 1\n".ljust(24, b"\0")
_START = struct.Struct("<24sII")
_PAGE = 4096
_LONGEST_HEADER = 2**20
SUFFIX = ".features"
SEGMENT_BYTES = 256 * 2**20
"""A segment that is as large is finished, and the next one is begun."""


# ---- reading


class Segment:
    """A segment as readers see it. Threads may share one.

    Raises:
        DataError: not there, or its header is damaged or of another kind.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kind, self._offset = _read_header(path)
        self._mapped = np.empty(0, self.kind.record)

    def count(self) -> int:
        """Whole records in the file now."""
        try:
            return max(0, self.path.stat().st_size - self._offset) // self.kind.row_bytes
        except OSError:
            return 0

    def records(self, upto: int) -> Array:
        """At least the first `upto` records, mapped. Raises DataError when the file has fewer."""
        mapped = self._mapped
        if len(mapped) < upto:
            count = self.count()
            if count < upto:
                raise DataError(
                    f"feature store: {str(self.path)!r} is cut short, {count} records where {upto} are expected; "
                    "mend it with: manymatch features DATA --check"
                )
            mapped = self._mapped = np.asarray(np.memmap(self.path, self.kind.record, "r", self._offset, (count,)))
        return mapped

    def blocks(self, upto: int, size: int = 8 * 2**20) -> Iterator[tuple[int, Array]]:
        """(first row, records) of the first `upto`, read a block at a time and not mapped."""
        step = max(1, size // self.kind.row_bytes)
        with open(self.path, "rb") as file:
            file.seek(self._offset)
            for start in range(0, upto, step):
                data = file.read(min(step, upto - start) * self.kind.row_bytes)
                yield start, np.frombuffer(data, self.kind.record, count=len(data) // self.kind.row_bytes)


def _header(kind: Kind) -> bytes:
    text = json.dumps(asdict(kind)).encode()
    front = _START.pack(_MAGIC, len(text), zlib.crc32(text)) + text
    return front.ljust(-(-len(front) // _PAGE) * _PAGE, b"\0")


def _read_header(path: Path) -> tuple[Kind, int]:
    """What the records are, and where they begin."""
    try:
        with open(path, "rb") as file:
            magic, length, check = _START.unpack(file.read(_START.size))
            if magic != _MAGIC or length > _LONGEST_HEADER:
                raise ValueError("it does not begin as a segment")
            text = file.read(length)
        if zlib.crc32(text) != check:
            raise ValueError("the checksum of its header is another")
        value: Mapping[str, Any] = json.loads(text)
        return Kind(**value), -(-(_START.size + length) // _PAGE) * _PAGE
    except (OSError, ValueError, TypeError, struct.error) as error:
        raise DataError(f"feature store: segment {str(path)!r} is missing or damaged ({error})") from None


# ---- writing


class Tail:
    """The segment that this process appends to: one that nobody finished, or a new one.

    Args:
        folder: of the segments.
        kind: of the records.
    """

    def __init__(self, folder: Path, kind: Kind) -> None:
        self._folder, self._kind, self._lock = folder, kind, threading.Lock()
        self._handle = -1
        self.path = Path()
        self._offset = 0

    def append(self, records: Array) -> list[tuple[Path, int, int]]:
        """Write records; when it returns they are on the disk.

        Returns:
            (segment, its first row of these, how many) of each segment they went into.

        Raises:
            DataError: no room, or no right to write.
        """
        out, start = [], 0
        with self._lock:
            try:
                while start < len(records):
                    row, room = self._place()
                    part = records[start : start + room]
                    self._write(row, part)
                    out.append((self.path, row, len(part)))
                    start += len(part)
            except OSError as error:
                raise DataError(
                    f"feature store: {str(self._folder)!r} cannot be written ({error.strerror}); make room, or name "
                    "another folder with --store or MANYMATCH_STORE"
                ) from error
        return out

    def close(self) -> None:
        """Let another process go on with the segment."""
        with self._lock:
            self._let_go()

    def _let_go(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _place(self) -> tuple[int, int]:
        """The next free row, and how many records there is room for."""
        limit = max(1, SEGMENT_BYTES // self._kind.row_bytes)
        if self._handle >= 0:
            row = self._next_row()
            if row < limit:
                return row, limit - row
            self._let_go()
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            if path.stat().st_size < self._kind.row_bytes * limit and self._take(path):
                row = self._next_row()
                if row < limit:
                    return row, limit - row
                self._let_go()
        while True:
            self._begin()
            # Another process may have had it, and left it, between its birth and our taking it.
            row = self._next_row()
            if row < limit:
                return row, limit - row
            self._let_go()

    def _take(self, path: Path) -> bool:
        """Make the segment this process's own, if nobody has it and it is of this kind."""
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            kind, offset = _read_header(path)
            if not kind.same(self._kind):
                raise DataError("another kind")
        except (BlockingIOError, DataError):
            os.close(handle)
            return False
        self._handle, self.path, self._offset = handle, path, offset
        return True

    def _begin(self) -> None:
        while True:
            path = self._folder / f"{secrets.token_hex(6)}{SUFFIX}"
            header = _header(self._kind)
            with whole_file(path) as temporary:
                temporary.write_bytes(header)
            if self._take(path):
                return

    def _next_row(self) -> int:
        # Behind what a killed process left unfinished: nothing is written twice.
        size = os.fstat(self._handle).st_size - self._offset
        return -(-size // self._kind.row_bytes)

    def _write(self, row: int, records: Array) -> None:
        begin = self._offset + row * self._kind.row_bytes
        data, done = bytes_of(records).reshape(-1).data, 0
        try:
            while done < len(data):
                done += os.pwrite(self._handle, data[done:], begin + done)
            os.fdatasync(self._handle)
        except OSError:
            # Nobody was told of these rows.
            os.ftruncate(self._handle, begin)
            raise
