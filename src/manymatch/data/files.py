"""Regular files, JSON Lines and names inside a folder: the small things every reader of the user's files needs."""

from __future__ import annotations

import gzip
import io
import json
import math
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO, NoReturn

from ..errors import DataError

__all__ = ["Line", "Progress", "inside", "read_objects", "regular_file"]

Progress = Callable[[int, int], None]
"""What is called now and then while something long runs: (done, total)."""

LONGEST_LINE = 64 * 2**20
"""Bytes. A line beyond it is no row of captions, and would have to be held in memory whole."""


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


def read_objects(path: Path) -> Iterator[Line]:
    """The JSON objects of a file (gzip is recognised), bad lines in their place. Raises DataError (unreadable).

    A byte-order mark and CRLF are fine. A file whose gzip stream breaks off ends with one bad line.
    """
    try:
        with open(path, "rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            yield from _objects(gzip.GzipFile(fileobj=raw) if packed else raw)
    except OSError as error:
        raise DataError(f"{str(path)!r} cannot be read ({error})") from None


def _objects(file: BinaryIO | io.BufferedIOBase) -> Iterator[Line]:
    number = row = 0
    while True:
        try:
            text = file.readline(LONGEST_LINE)
            whole = len(text) < LONGEST_LINE or text.endswith(b"\n")
            while not whole:
                rest = file.readline(LONGEST_LINE)
                whole = len(rest) < LONGEST_LINE or rest.endswith(b"\n")
                text = b"\xff"
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            yield Line(number + 1, row, None, "damaged file", f"the gzip stream breaks off here ({error})")
            return
        if not text:
            return
        number += 1
        text = text.removeprefix(b"\xef\xbb\xbf") if number == 1 else text
        if text.strip():
            yield _line(number, row, text)
            row += 1


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
