"""Arrays of the user's `.npy` and `.npz` files, memory-mapped where they lie, never unpickled."""

from __future__ import annotations

import ast
import math
import struct
import warnings
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal

import numpy as np

from ..errors import DataError

__all__ = ["open_arrays"]

Array = np.ndarray[Any, Any]

_NPY, _ZIP = b"\x93NUMPY", b"PK\x03\x04"
_LONGEST_HEADER = 10_000
_LARGEST_PACKED = 2**28
"""Bytes. What is compressed cannot be mapped, and is held in memory whole; a thousandth of it may lie on the disk."""

# RuntimeError: zipfile's word for an encrypted member. SyntaxError and the three after it: of a header's text.
_DAMAGE = (
    OSError, EOFError, struct.error, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError,
    SyntaxError, ValueError, TypeError, KeyError, OverflowError,
)  # fmt: skip


def open_arrays(path: Path, wanted: frozenset[str], what: str = "features") -> dict[str, Array]:
    """The arrays of a file by name; the one of a `.npy` is called "".

    An array stored uncompressed is memory-mapped read-only (in an `.npz` too); compressed ones are read into memory,
    256 MB of them at most.

    Args:
        path: a regular file; its first bytes say what it is, not its name.
        wanted: which members of an `.npz` to open; others are not looked at.
        what: what messages call the file.

    Raises:
        DataError: neither of the two, damaged, with an array of Python objects, or with large compressed ones.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(6)
            file.seek(0)
            if head == _NPY:
                return {"": _mapped(path, file)}
            if head.startswith(_ZIP):
                return _members(path, file, wanted)
    except DataError as error:
        raise DataError(f"{what}: {error}") from None
    except _DAMAGE as error:
        raise DataError(f"{what}: {str(path)!r} is damaged or cut short ({error})") from None
    raise DataError(f"{what}: {str(path)!r} is not a NumPy file, expected .npy or .npz")


def _members(path: Path, file: BinaryIO, wanted: frozenset[str]) -> dict[str, Array]:
    out, room = {}, _LARGEST_PACKED
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            if name not in wanted:
                continue
            if info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & 1:
                out[name] = _mapped(path, file, _start(file, info), name)
            else:
                with archive.open(info) as member:
                    out[name] = _read(path, member, name, room)
                    room -= out[name].nbytes
    return out


def _start(file: BinaryIO, info: zipfile.ZipInfo) -> int:
    # The local header repeats the lengths of name and extra field, and may differ from the central directory.
    file.seek(info.header_offset)
    header = file.read(30)
    if header[:4] != _ZIP:
        raise zipfile.BadZipFile(f"no member at byte {info.header_offset}")
    name, extra = struct.unpack("<HH", header[26:30])
    return int(info.header_offset + 30 + name + extra)


@dataclass(frozen=True)
class _Header:
    """What stands before the numbers of a `.npy`."""

    shape: tuple[int, ...]
    order: Literal["C", "F"]
    dtype: np.dtype[Any]

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def _header(path: Path, file: IO[bytes], name: str) -> _Header:
    # NumPy's own reader also takes headers of Python 2, warning as it goes, and lets a tokeniser's errors through.
    magic = file.read(8)
    if len(magic) < 8 or magic[:6] != _NPY or magic[6] not in (1, 2, 3):
        raise ValueError("no NumPy header of version 1, 2 or 3")
    (length,) = struct.unpack("<H", file.read(2)) if magic[6] == 1 else struct.unpack("<I", file.read(4))
    if length > _LONGEST_HEADER:
        raise ValueError(f"a header of {length} bytes")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        said = _literal(file.read(length).decode("utf-8" if magic[6] == 3 else "latin1"))
        dtype = np.dtype(np.lib.format.descr_to_dtype(said["descr"]))
    shape = said["shape"]
    if not (isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)):
        raise ValueError(f"shape {shape}")
    if dtype.hasobject:
        which = f"array {name!r} of {str(path)!r}" if name else repr(str(path))
        raise DataError(f"{which} holds Python objects (a pickle), expected numbers; it is not opened")
    return _Header(shape, "F" if said["fortran_order"] else "C", dtype)


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text.strip())
    except (MemoryError, RecursionError):
        raise ValueError("a header nested too deeply") from None


def _check_size(expected: int, found: int) -> None:
    if found < expected:
        raise ValueError(f"{found} bytes of numbers, its header says {expected}")


def _mapped(path: Path, file: BinaryIO, start: int = 0, name: str = "") -> Array:
    file.seek(start)
    header = _header(path, file, name)
    if header.bytes == 0:
        return np.empty(header.shape, header.dtype, header.order)
    offset = file.tell()
    _check_size(header.bytes, path.stat().st_size - offset)
    return np.asarray(np.memmap(path, header.dtype, "r", offset, header.shape, header.order))


def _read(path: Path, member: IO[bytes], name: str, room: int) -> Array:
    header = _header(path, member, name)
    if header.bytes > room:
        raise DataError(
            f"array {name!r} of {str(path)!r} is compressed and says it has {header.bytes} bytes, at most "
            f"{_LARGEST_PACKED} are unpacked into memory; save it with numpy.savez, which does not compress, or as .npy"
        )
    numbers = member.read(header.bytes)
    _check_size(header.bytes, len(numbers))
    # Reading on to the end is what makes zipfile compare the checksum.
    if member.read(1):
        raise ValueError(f"array {name!r} goes on behind the {header.bytes} bytes its header says")
    return np.frombuffer(numbers, header.dtype).reshape(header.shape, order=header.order)
