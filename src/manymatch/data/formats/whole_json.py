"""Whole JSON files of the user's, gzipped or not: bounded, and refused in one line where they are not JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...errors import DataError
from ..files import first_bytes, regular_file, whole_text

__all__ = ["Lean", "read_json"]

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
        value = json.loads(whole_text(path, what), object_hook=lean)
    except RecursionError:
        raise DataError(f"{what}: {str(path)!r} is nested too deeply") from None
    except ValueError as error:
        raise DataError(f"{what}: {str(path)!r} is not JSON ({error})") from None
    if not isinstance(value, dict):
        raise DataError(f"{what}: {str(path)!r} holds a {type(value).__name__}, expected one JSON object")
    return value
