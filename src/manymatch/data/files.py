"""Regular files, JSON Lines and names inside a folder: the small things every reader of the user's files needs."""

from __future__ import annotations

import gzip
import json
import math
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO, NoReturn

from ..errors import DataError

__all__ = [
    "Line",
    "Progress",
    "Unread",
    "first_bytes",
    "identifier",
    "inside",
    "read_lines",
    "read_objects",
    "regular_file",
    "storable",
    "whole_text",
]

Progress = Callable[[int, int], None]
"""What is called now and then while something long runs: (done, total)."""

LONGEST_LINE = 64 * 2**20
"""Bytes. A line beyond it is no row of captions, and would have to be held in memory whole."""

_BLANK, _LINE = 2**22, 2**30
"""Bytes of blank lines, and of one line of a gzip file, after which nothing more is expected: a thousandth of them may
lie on the disk."""

LARGEST = 4 * 2**30
"""Bytes of a text that is held whole. Annotations of a million images are less."""

_UNPACKED, _PACKING = 2**26, 40
"""A gzip file may always unpack to so many bytes, beyond them to so many times its size: JSON packs 5 to 20 times."""

_CHUNK = 2**24


def regular_file(path: str | Path, what: str) -> Path:
    """The path, when it is a regular file. Raises DataError naming near file names; never waits on a pipe."""
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{what}: no such file {str(path)!r}; {_near(path)}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{what}: {str(path)!r} cannot be opened ({error})") from None
    if not stat.S_ISREG(mode):
        found = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise DataError(f"{what}: {str(path)!r} is {found}, expected a file")
    return path


def _near(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"there is no folder {str(folder)!r} either"
    names = sorted(os.listdir(folder))
    near = get_close_matches(path.name, names, n=3, cutoff=0.5) or names[:3]
    return f"the folder {str(folder)!r} holds {', '.join(map(repr, near)) or 'nothing'}"


_PLAIN = re.compile(r"[^./\\:\0][^/\\:\0]*(?:/[^./\\:\0][^/\\:\0]*)*")
"""Nearly every name: nothing in it that could need working out."""


def inside(name: str) -> str | None:
    """The name with `.` and `..` worked out, or None when it would leave its folder (`../x`, absolute, a drive).

    Backslashes count as separators when looking for a way out, so that a file is as safe on every system.
    """
    if _PLAIN.fullmatch(name):
        return name
    if "\0" in name or name.startswith("/") or PureWindowsPath(name).anchor:
        return None
    if ".." in PureWindowsPath(name).parts and "\\" in name:
        return None
    parts: list[str] = []
    for part in PurePosixPath(name).parts:
        if part != "..":
            parts.append(part)
        elif parts:
            parts.pop()
        else:
            return None
    return "/".join(parts) or None


@dataclass(frozen=True)
class Line:
    """One non-blank line of a JSON Lines file.

    Attributes:
        number: as an editor counts, from 1.
        row: among the non-blank lines, from 0.
        value: the object, None when the line is bad.
        kind, detail: what is wrong with a bad line.
    """

    number: int
    row: int
    value: dict[str, Any] | None
    kind: str = ""
    detail: str = ""


@contextmanager
def _unpacked(path: Path) -> Iterator[BinaryIO | gzip.GzipFile]:
    """The bytes of a file, unpacked when they begin as gzip does, whatever the file is called."""
    with open(path, "rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        yield gzip.GzipFile(fileobj=raw) if packed else raw


def first_bytes(path: str | Path, size: int = 2**16) -> bytes | None:
    """Up to `size` bytes a regular file begins with, unpacked where it is gzip; None of anything else.

    Never raises, and never waits on a pipe or a device: for looking at what a file is.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            # Of a folder no file object can be made, and none would close its handle.
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                return None
            with open(handle, "rb", closefd=False) as raw:
                head = raw.read(size)
        finally:
            os.close(handle)
        if not head.startswith(b"\x1f\x8b"):
            return head
        return zlib.decompressobj(wbits=31).decompress(head, size)
    except zlib.error:
        return b""
    except (OSError, ValueError):
        return None


_DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile)
"""What a gzip stream raises that breaks off or was changed; the last is an OSError too."""


def whole_text(path: Path, what: str) -> str:
    """The text of a file, gzipped or not. Raises DataError: not there, too large, damaged, not UTF-8."""
    data = bytearray()
    try:
        with _unpacked(regular_file(path, what)) as file:
            packed, size = isinstance(file, gzip.GzipFile), path.stat().st_size
            limit = min(LARGEST, max(_UNPACKED, _PACKING * size)) if packed else LARGEST
            while block := file.read(_CHUNK):
                data += block
                if len(data) > limit:
                    raise DataError(f"{what}: {str(path)!r} holds more than {limit} bytes of text; split it")
    except (OSError, *_DAMAGED) as error:
        raise DataError(f"{what}: {str(path)!r} cannot be read ({error})") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{what}: {str(path)!r} cannot be read (byte {error.start + 1} is not UTF-8)") from None


@dataclass(frozen=True)
class Unread:
    """Why there is no line where one should be: what is wrong, in one word and in more."""

    kind: str
    detail: str


def read_lines(path: Path, longest: int | None = None, *, blank: bool = False) -> Iterator[tuple[int, bytes | Unread]]:
    """(number as an editor counts, line) of each line that is not blank, or of all with `blank` (gzip is recognised).

    A byte-order mark is taken off. A line of more than `longest` bytes (64 MB) is `Unread` and the next one follows; a
    gzip stream that breaks off ends with an `Unread`, and so does one that unpacks to 4 MB of blank lines or to a line
    of a gigabyte.

    Raises:
        DataError: the file cannot be read.
    """
    number, blanks, longest = 0, 0, longest or LONGEST_LINE
    try:
        with _unpacked(path) as file:
            packed = isinstance(file, gzip.GzipFile)
            while text := file.readline(longest):
                number += 1
                whole, size = len(text) < longest or text.endswith(b"\n"), len(text)
                text = text.removeprefix(b"\xef\xbb\xbf") if number == 1 else text
                blanks = 0 if text.strip() else blanks + size
                if not whole:
                    yield number, Unread("line too long", f"the line is longer than {longest} bytes")
                elif blank or not blanks:
                    yield number, text
                while not whole and not (packed and size > _LINE):
                    rest = file.readline(longest)
                    whole, size = len(rest) < longest or rest.endswith(b"\n"), size + len(rest)
                if packed and (blanks > _BLANK or size > _LINE):
                    what = f"{blanks} bytes of blank lines" if blanks > _BLANK else f"a line of {size} bytes"
                    yield number, Unread("damaged file", f"the gzip stream unpacks to {what}; the rest is not read")
                    return
    except _DAMAGED as error:
        yield number + 1, Unread("damaged file", f"the gzip stream breaks off here ({error})")
    except OSError as error:
        raise DataError(f"{str(path)!r} cannot be read ({error})") from None


def read_objects(path: Path) -> Iterator[Line]:
    """The JSON objects of a file, bad lines in their place; see `read_lines`. Raises DataError (unreadable)."""
    for row, (number, line) in enumerate(read_lines(path)):
        if isinstance(line, Unread):
            yield Line(number, row, None, line.kind, line.detail)
        else:
            yield _line(number, row, line)


def identifier(value: Any) -> str | None:
    """An id as JSON holds it, a text or a whole number, as text; None of anything else."""
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None


def storable(value: Any) -> bool:
    """Whether it is a text that files and databases take: JSON can spell half a surrogate pair."""
    try:
        return isinstance(value, str) and bool(value.encode() or True)
    except UnicodeEncodeError:
        return False


def _line(number: int, row: int, text: bytes) -> Line:
    try:
        value = json.loads(text.decode("utf-8"), parse_constant=_refuse, parse_float=_finite)
    except UnicodeDecodeError as error:
        return Line(number, row, None, "not UTF-8", f"byte {error.start + 1} of the line is not UTF-8")
    except (ValueError, RecursionError) as error:
        return Line(number, row, None, "not JSON", f"{error or 'nested too deeply'}")
    if not isinstance(value, dict):
        return Line(number, row, None, "not an object", f"found {type(value).__name__}, expected a JSON object")
    return Line(number, row, value)


def _finite(number: str) -> float:
    value = float(number)
    if math.isinf(value):
        raise ValueError(f"the number {number[:40]} is too large")
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
