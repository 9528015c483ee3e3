"""Which file a picture lies in and since when, so that a second look at a data set reads no pictures."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ..pairs import Pictures

__all__ = ["Stamps", "settled", "stamp_of"]

_SETTLED = 2.0
"""Seconds. A file that was changed more recently can be changed again within the tick of the file system's clock."""


class Stamps:
    """Size, times and inode of the files that pictures lie in."""

    def __init__(self, pictures: Pictures) -> None:
        self._about: Mapping[str, Any] = pictures.describe()
        self._key = hashlib.blake2b(json.dumps(self._about, sort_keys=True).encode(), digest_size=32).digest()
        self._folder = os.fspath(self._about["path"]) if self._about.get("kind") == "folder" else None
        self._container = "" if self._folder is not None else _container(self._about)

    def place(self, name: str) -> bytes:
        """A digest of where the picture lies."""
        return hashlib.blake2b(name.encode("utf-8", "surrogateescape"), key=self._key, digest_size=16).digest()

    def stamp(self, name: str) -> str:
        """What changes when the file does; empty where nothing can be said, or the file is too young to tell."""
        return self._container if self._folder is None else stamp_of(os.path.join(self._folder, name))


def _container(about: Mapping[str, Any]) -> str:
    """Of the files that pictures are packed in: a tar, shards, a table."""
    found = about.get("paths", about.get("path"))
    paths: Sequence[Any] = [found] if isinstance(found, str) else found if isinstance(found, list) else []
    stamps = [stamp_of(path) if isinstance(path, str) else "" for path in paths]
    return "" if not stamps or "" in stamps else " ".join(stamps)


def stamp_of(path: str) -> str:
    """Of one file; empty where nothing can be said, or it is too young to tell."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return ""
    if not stat.S_ISREG(found.st_mode) or not settled(max(found.st_mtime, found.st_ctime)):
        return ""
    # The change time too: a copy may bring its old time of modification along.
    return f"{found.st_size}:{found.st_mtime_ns}:{found.st_ctime_ns}:{found.st_ino}"


def settled(changed: float) -> bool:
    """Whether a file changed at this time (seconds) would show another time if it changed now."""
    return not -_SETTLED < time.time() - changed < _SETTLED
