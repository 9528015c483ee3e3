"""Which rows of feature files hold NaN or infinity, remembered until a file changes: looking takes minutes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from .writing import whole_file

__all__ = ["remember", "stamp_of", "verdict", "verdict_file"]

_LONGEST = 2**22
"""Bytes of one verdict: half a million bad rows."""


def stamp_of(paths: Sequence[Path]) -> str:
    """What changes when one of the files does; empty where one is too young to tell, or not there."""
    from .store.stamps import stamp_of as stamp

    stamps = [stamp(str(path)) for path in paths]
    return "" if "" in stamps else json.dumps([*map(str, map(Path.absolute, paths)), *stamps])


def verdict_file(stamp: str, shape: tuple[int, ...], rows: np.ndarray[Any, np.dtype[np.int64]]) -> Path:
    """Where the verdict on these rows of an array of this shape is kept: beside the features of the default store."""
    from .store import default_folder

    digest = hashlib.blake2b(f"{stamp} {shape}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(rows).tobytes())
    return default_folder() / "scanned" / f"{digest.hexdigest()}.json"


def verdict(path: Path) -> list[int] | None:
    """Places among the rows that are not finite; None where nobody knows."""
    try:
        with open(path, "rb") as file:
            found = json.loads(file.read(_LONGEST))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, list) and all(type(place) is int and place >= 0 for place in found) else None


def remember(path: Path, places: Sequence[int]) -> None:
    """Keep a verdict, where there is room and right to; it is only for speed."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as temporary:
            temporary.write_text(json.dumps(list(places)))
