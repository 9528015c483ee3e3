"""Pictures through a frozen backbone into a feature store: read and decoded ahead on threads, kept batch by batch."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ...data.decoding import MAX_PIXELS, PictureError, decode
from ...data.features import Features, Pixels
from ...data.files import Progress
from ...data.pairs import Pictures, Problem
from ...data.store import Shelf, picture_digest
from ...data.store.stamps import Stamps
from ...errors import DataError
from .backed import joined
from .base import Backbone

__all__ = ["Say", "Work"]

Say = Callable[[str], None]

_KEPT_EVERY = 2.0
"""Seconds of work that a kill can lose."""
_KEPT_AT = 64 * 2**20
_TOLD_EVERY = 10.0


@dataclass(frozen=True)
class _Seen:
    """One picture as a reading thread left it: features are there already, or pixels, or why neither."""

    name: str
    stamp: str = ""
    digest: bytes = b""
    pixels: Pixels | None = None
    error: PictureError | None = None


class Work:
    """Pictures through the backbone into the store, a batch at a time."""

    def __init__(self, shelf: Shelf, backbone: Backbone, pictures: Pictures, batch: int, strict: bool = False) -> None:
        self.shelf, self.backbone, self.pictures, self.batch = shelf, backbone, pictures, batch
        self.strict = strict
        self.stamps = Stamps(pictures)
        self.digests: dict[str, bytes] = {}
        self.bad: dict[str, PictureError] = {}
        self.fresh: set[str] = set()
        self.written = 0
        self._files: list[tuple[bytes, str, bytes]] = []
        self._waiting: dict[tuple[int, ...], list[_Seen]] = {}
        self._ready: list[tuple[list[bytes], Features]] = []
        self._kept = time.monotonic()

    # ---- which picture is which

    def known(self, names: Sequence[str]) -> dict[str, bytes]:
        """Digests of pictures whose files are as they were when they were last read."""
        stamps = {name: self.stamps.stamp(name) for name in names}
        places = {self.stamps.place(name): name for name, stamp in stamps.items() if stamp}
        found = self.shelf.store.catalogue.remembered({place: stamps[name] for place, name in places.items()})
        return {places[place]: digest for place, digest in found.items()}

    def count_missing(self, names: Sequence[str], known: dict[str, bytes]) -> int:
        """How many of these pictures, which are read for it, have no features."""
        digests = set()
        for name in names:
            try:
                digests.add(known.get(name) or picture_digest(self.pictures.read(name)))
            except DataError:
                continue
        return len(digests) - len(self.shelf.places(list(digests)))

    # ---- on the reading threads

    def _look(self, name: str) -> _Seen:
        # Before the bytes: a file that changes in between is read again next time.
        stamp = self.stamps.stamp(name)
        try:
            data = self.pictures.read(name)
            digest = picture_digest(data)
            if self.shelf.places([digest]):
                return _Seen(name, stamp, digest)
            picture = decode(data, name, getattr(self.pictures, "max_pixels", MAX_PIXELS))
            return _Seen(name, stamp, digest, self.backbone.prepare([picture]))
        except PictureError as error:
            return _Seen(name, error=error)
        except DataError as error:
            return _Seen(name, error=PictureError("unreadable picture", str(error)))

    def _ahead(self, names: Sequence[str]) -> Iterator[_Seen]:
        """What the threads found, in order, never more than two batches before it is asked for."""
        threads = min(8, os.cpu_count() or 1)
        waiting: deque[Future[_Seen]] = deque()
        pool = ThreadPoolExecutor(threads)
        try:
            for name in names:
                waiting.append(pool.submit(self._look, name))
                if len(waiting) > 2 * self.batch:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    # ---- on the caller's

    def run(self, names: Sequence[str], tell: Say, progress: Progress | None) -> None:
        """Every one of these pictures, kept or listed as bad. What was said to be kept is on the disk."""
        began = told = time.monotonic()
        for done, seen in enumerate(self._ahead(names), 1):
            self._take(seen)
            if self._due():
                self._keep()
                if time.monotonic() - told > _TOLD_EVERY:
                    told = time.monotonic()
                    tell(
                        f"{self.written:,} kept, {done:,} of {len(names):,} seen, {done / (told - began):.0f} a second"
                    )
            if progress is not None:
                progress(done, len(names))
        for shape in list(self._waiting):
            self._see(shape)
        self._keep()

    def _take(self, seen: _Seen) -> None:
        if seen.error is not None:
            self.bad[seen.name] = seen.error
            if self.strict:
                raise DataError(str(Problem(seen.name, None, seen.error.kind, str(seen.error))))
            return
        self.digests[seen.name] = seen.digest
        if seen.stamp:
            self._files.append((self.stamps.place(seen.name), seen.stamp, seen.digest))
        if seen.pixels is None:
            return
        self.fresh.add(seen.name)
        shape = np.shape(seen.pixels.array)
        self._waiting.setdefault(shape, []).append(seen)
        if len(self._waiting[shape]) == self.batch:
            self._see(shape)
        elif sum(map(len, self._waiting.values())) > 4 * self.batch:
            # Pictures of many shapes: the fullest batch goes first, so that what waits stays small.
            self._see(max(self._waiting, key=lambda shape: len(self._waiting[shape])))

    def _see(self, shape: tuple[int, ...]) -> None:
        group = self._waiting.pop(shape)
        pixels = [seen.pixels for seen in group if seen.pixels is not None]
        grids = [one.grids for one in pixels if one.grids is not None]
        together = Pixels(np.concatenate([one.array for one in pixels]), np.concatenate(grids) if grids else None)
        self._ready.append(([seen.digest for seen in group], self.backbone.features(together)))

    def _due(self) -> bool:
        pending = sum(len(digests) for digests, _ in self._ready) * self.shelf.kind.row_bytes
        return time.monotonic() - self._kept > _KEPT_EVERY or pending > _KEPT_AT

    def _keep(self) -> None:
        if self._ready:
            digests = [digest for some, _ in self._ready for digest in some]
            self.written += self.shelf.put(digests, joined([features for _, features in self._ready]))
            self._ready = []
        if self._files and self.shelf.store.catalogue.writable:
            self.shelf.store.catalogue.remember(self._files)
            self._files = []
        self._kept = time.monotonic()
