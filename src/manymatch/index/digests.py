"""What the items of some data are now, as digests that are compared with those of an index."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError
from .store.origins import Origin

if TYPE_CHECKING:
    from ..data.files import Progress
    from ..data.pairs import Item, Pairs

__all__ = ["Digests", "proves", "size_of"]

_BLOCK = 64
"""Items whose pictures or features are looked at in one go."""

_YOUNG = 2 * 10**9
"""Nanoseconds. A file this new may be written to again within the same tick of its clock: its time proves nothing."""


class Digests:
    """Digests of the items of `pairs`. What was read once is remembered.

    Args:
        reads: what is encoded, "pixels" (then the bytes of pictures are compared) or "features".
        source: what the data are called; "" where nobody said.
    """

    def __init__(self, pairs: Pairs, reads: str, source: str = "") -> None:
        self._pairs, self._reads, self._source = pairs, reads, source
        self._seen: dict[str, str] = {}
        self._stamps: dict[str, str] = {}

    # ---- what says itself

    def said(self, item: Item) -> str:
        """Digest of the captions."""
        return _digest(json.dumps(item.captions).encode())

    def told(self, item: Item) -> str:
        """Digest of metadata and labels."""
        return _digest(json.dumps([dict(item.metadata), item.labels], default=repr).encode())

    def place(self, item: Item) -> str:
        """Digest of where the picture lies and what it is called there."""
        return _digest(self._described + (item.picture or "").encode("utf-8", "surrogateescape"))

    @cached_property
    def description(self) -> Mapping[str, Any] | None:
        """What the pictures say of themselves."""
        return None if self._pairs.pictures is None else self._pairs.pictures.describe()

    @cached_property
    def _described(self) -> bytes:
        # How large a picture may be says nothing about which it is.
        found = {name: value for name, value in (self.description or {}).items() if name != "max_pixels"}
        return json.dumps(found, sort_keys=True).encode()

    # ---- stamps

    def stamp(self, item: Item) -> str:
        """Size and times of the file the picture lies in, as first asked for; "" where there is none.

        Files that were written to just now have a size and no times.
        """
        if self._reads != "pixels" or item.picture is None:
            return ""
        if item.id not in self._stamps:
            self._stamps[item.id] = self._whole if self._folder is None else _stamp(self._folder, item.picture)
        return self._stamps[item.id]

    @cached_property
    def _folder(self) -> str | None:
        found = self.description or {}
        return str(found["path"]) if found.get("kind") == "folder" else None

    @cached_property
    def _whole(self) -> str:
        """Of pictures that lie in files together: the stamp of all of these."""
        found = self.description or {}
        paths = [found["path"]] if isinstance(found.get("path"), str) else found.get("paths")
        if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
            return ""
        stamps = [_stamp(path) for path in paths]
        return "in " + _digest(" ".join(stamps).encode()) if all(map(proves, stamps)) else ""

    # ---- what is encoded

    def seen(self, item: Item) -> str:
        """Digest of what is encoded; "" where there is nothing, or it cannot be read."""
        if item.id not in self._seen:
            self.look([item])
        return self._seen[item.id]

    def look(self, items: Iterable[Item], progress: Progress | None = None) -> None:
        """Read what is encoded of the items, and remember its digests."""
        new = [item for item in items if item.id not in self._seen]
        for item in new:
            # Before the bytes: a file that is written to meanwhile has another stamp next time.
            self.stamp(item)
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as threads:
            for start in range(0, len(new), _BLOCK):
                block = new[start : start + _BLOCK]
                found = self._features(block) if self._reads == "features" else threads.map(self._picture, block)
                self._seen.update((item.id, digest) for item, digest in zip(block, found, strict=True))
                if progress is not None:
                    progress(min(start + _BLOCK, len(new)), len(new))

    def _picture(self, item: Item) -> str:
        if self._pairs.pictures is None or item.picture is None:
            return ""
        try:
            return _digest(self._pairs.pictures.read(item.picture))
        except DataError:
            # Encoding it tells what is wrong.
            return ""

    def _features(self, items: Sequence[Item]) -> list[str]:
        if self._pairs.features is None:
            return [""] * len(items)
        found = self._pairs.features.get(items)
        parts = [part for part in (found.vectors, found.lengths, found.pooled) if part is not None]
        return [_digest(*(np.ascontiguousarray(part[n]).tobytes() for part in parts)) for n in range(len(items))]

    # ---- all of it

    def origin(self, item: Item, seen: str | None = None) -> Origin:
        """What is kept of an item; `seen` where its digest is known already."""
        stamp = self.stamp(item)
        return Origin(
            self._source,
            self.place(item),
            stamp,
            self.seen(item) if seen is None else seen,
            self.said(item),
            self.told(item),
        )


def _digest(*parts: bytes) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _stamp(*path: str) -> str:
    try:
        found = os.stat(os.path.join(*path))
    except (OSError, ValueError):
        return ""
    young = found.st_mtime_ns > time.time_ns() - _YOUNG
    # Files of one size and time may have taken each other's names: that changes the second time.
    return f"{found.st_size}:{'' if young else f'{found.st_mtime_ns}/{found.st_ctime_ns}'}"


def size_of(stamp: str) -> int | None:
    """Bytes of a picture by its stamp; None where that does not say."""
    size, colon, _ = stamp.partition(":")
    return int(size) if colon and size.isdecimal() else None


def proves(stamp: str) -> bool:
    """Whether a file of the same stamp holds what it held then."""
    return bool(stamp) and not stamp.endswith(":")
