"""The feature store: a folder of segments and their catalogue, shared by every data set and every backbone.

    STORE/catalogue.sqlite            which picture's features lie where
    STORE/segments/KEY/NAME.features  the features of one backbone, see `segments`

A picture is known by the SHA-256 of its bytes, a backbone by the key of its identity (weights, preprocessing, what is
read of it). Any number of processes may read and write at once; what `put` returned for is on the disk.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError
from ..features import Features
from ..pairs import Item
from .catalogue import Catalogue, Place
from .gather import Gather
from .records import Kind, records_of
from .segments import Segment, Tail

__all__ = ["FeatureStore", "Shelf", "StoreFeatures", "Where", "default_folder", "open_store", "picture_digest"]

CATALOGUE = "catalogue.sqlite"


class FeatureStore:
    """A feature store in a folder, made when it is not there.

    Raises:
        DataError: the folder cannot be made or read, or is of another version.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(
                f"feature store: {str(self.folder)!r} cannot be a folder ({error.strerror}); name another with --store "
                "or MANYMATCH_STORE"
            ) from None
        self.catalogue = Catalogue(self.folder / CATALOGUE)

    def shelf(self, kind: Kind) -> Shelf:
        """The features of one backbone. Raises DataError where the store holds others under the same key."""
        known = self.catalogue.kinds().get(kind.key)
        if known is not None and not known.same(kind):
            raise DataError(
                f"feature store: {str(self.folder)!r} holds features of {known.source or kind.key[:12]} of another "
                "shape under the same key; name another folder with --store or MANYMATCH_STORE"
            )
        return Shelf(self, kind)

    def room(self) -> int:
        """Bytes that may still be written where the store lies."""
        return shutil.disk_usage(self.folder).free

    def close(self) -> None:
        self.catalogue.close()


class Shelf:
    """The features of one backbone in a store. Threads may share one.

    Attributes:
        kind: of the features.
        broken: segments that were found missing, cut short or damaged, with what is wrong; their records count as
            missing.
    """

    def __init__(self, store: FeatureStore, kind: Kind) -> None:
        self.store, self.kind = store, kind
        self.broken: dict[str, str] = {}
        self.folder = store.folder / "segments" / kind.key
        self._segments: dict[str, Segment] = {}
        self._tail: Tail | None = None
        self._lock = threading.Lock()

    # ---- reading

    def places(self, pictures: Sequence[bytes]) -> dict[bytes, Place]:
        """Where the features of these pictures lie, of those whose features can be read."""
        found = self.store.catalogue.places(self.kind.key, pictures)
        needed: dict[str, int] = {}
        for name, row in found.values():
            needed[name] = max(needed.get(name, 0), row + 1)
        for name, count in needed.items():
            self._look_at(name, count)
        if not self.broken:
            return found
        whole = {name: self._segments[name].count() if name in self._segments else 0 for name in self.broken}
        return {picture: (name, row) for picture, (name, row) in found.items() if row < whole.get(name, row + 1)}

    def _look_at(self, name: str, count: int) -> None:
        try:
            there = self.segment(name).count()
            if there < count:
                self.broken[name] = f"cut short after {there} records"
        except DataError as error:
            self.broken[name] = str(error)

    def segment(self, name: str) -> Segment:
        """An opened segment. Raises DataError: missing, damaged, of another kind."""
        segment = self._segments.get(name)
        if segment is None:
            segment = Segment(self.folder / name)
            if not segment.kind.same(self.kind):
                raise DataError(f"feature store: segment {str(segment.path)!r} is of another backbone")
            self._segments[name] = segment
        return segment

    def get(self, pictures: Sequence[bytes]) -> Features:
        """Float32 features of pictures. Raises DataError when one is missing."""
        found = self.places(pictures)
        if len(found) < len(set(pictures)):
            raise DataError(
                f"feature store: {len(set(pictures)) - len(found)} of {len(set(pictures))} pictures are not there"
            )
        order = {picture: n for n, picture in enumerate(found)}
        gather = Gather(self.segments_of(found.values()), list(found.values()), self.kind)
        return gather([order[picture] for picture in pictures], np.float32)

    def segments_of(self, places: Iterable[Place]) -> dict[str, Segment]:
        """The segments of some places by name."""
        return {name: self.segment(name) for name in {name for name, _ in places}}

    # ---- writing

    def put(self, pictures: Sequence[bytes], features: Features) -> int:
        """Keep features of pictures; when it returns they are on the disk and entered.

        Args:
            pictures: SHA-256 of the bytes of each; what is there already is left as it is.
            features: of as many, of values that float16 holds.

        Returns:
            How many were new.

        Raises:
            DataError: of another shape, not finite, or the store cannot be written.
        """
        if any(len(picture) != 32 for picture in pictures) or len(pictures) != len(features):
            raise DataError(f"feature store: {len(features)} features for {len(pictures)} SHA-256, expected as many")
        there = self.places(pictures)
        rows = list({picture: n for n, picture in enumerate(pictures) if picture not in there}.values())
        if not rows:
            return 0
        chosen = [pictures[n] for n in rows]
        records = records_of(self.kind, chosen, _taken(features, rows))
        entries, start = [], 0
        for path, first, count in self._writer().append(records):
            entries += [(chosen[start + n], path.name, first + n) for n in range(count)]
            start += count
        self.store.catalogue.enter(self.kind, entries)
        return len(rows)

    def _writer(self) -> Tail:
        with self._lock:
            if self._tail is None:
                try:
                    self.folder.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    raise DataError(
                        f"feature store: {str(self.folder)!r} cannot be made ({error.strerror}); name another folder "
                        "with --store or MANYMATCH_STORE"
                    ) from None
                self._tail = Tail(self.folder, self.kind)
            return self._tail

    def close(self) -> None:
        """Let another process go on with the segment this one wrote to."""
        with self._lock:
            if self._tail is not None:
                self._tail.close()


class StoreFeatures:
    """Features of a data set's items, read from a store when asked for (`FeatureRows`).

    Args:
        shelf: where they lie.
        pictures: name of a picture, as items call it, -> SHA-256 of its bytes.

    Attributes:
        key: of the backbone that they are of.
        missing: names of pictures whose features are not there.
        fresh: what `get` gives is in memory of its own.
    """

    fresh = True

    def __init__(self, shelf: Shelf, pictures: Mapping[str, bytes]) -> None:
        self.shelf, self.key = shelf, shelf.kind.key
        found = shelf.places(list(pictures.values()))
        held = {name: found[picture] for name, picture in pictures.items() if picture in found}
        self._gather = Gather(shelf.segments_of(held.values()), list(held.values()), shelf.kind)
        self._row: dict[str | None, int] = {name: n for n, name in enumerate(held)}
        self.missing = [name for name in pictures if name not in held]

    def __len__(self) -> int:
        return len(self._row)

    def __contains__(self, picture: object) -> bool:
        return picture in self._row

    def sizes(self) -> dict[str, int]:
        """`fragments` (f), `fragment_width` (c), `pooled_width` (p), each where it exists."""
        kind = self.shelf.kind
        out = {"fragments": kind.fragments, "fragment_width": kind.fragment_width} if kind.fragments else {}
        return {**out, "pooled_width": kind.pooled_width} if kind.pooled_width else out

    def get(self, items: Sequence[Item]) -> Features:
        """Float32 features of the items. Raises DataError naming an item the store does not have."""
        return self.read(items, np.float32)

    def read(self, items: Sequence[Item], dtype: type[np.floating[Any]] = np.float16) -> Features:
        """As `get`, by default in the float16 that is stored."""
        try:
            rows = list(map(self._row.__getitem__, [item.picture for item in items]))
        except KeyError:
            lost = next(item for item in items if item.picture not in self._row)
            raise DataError(
                f"feature store: {str(self.shelf.store.folder)!r} has no features of item {lost.id!r} "
                f"(picture {lost.picture!r})"
            ) from None
        return self._gather(rows, dtype)


def _taken(features: Features, rows: Sequence[int]) -> Features:
    if len(rows) == len(features):
        return features

    def cut(values: Any) -> Any:
        return None if values is None else np.asarray(values)[list(rows)]

    return Features(cut(features.vectors), cut(features.lengths), cut(features.pooled))


Where = FeatureStore | str | os.PathLike[str] | None
"""A store, the folder of one, or the default one."""


def default_folder() -> Path:
    """What MANYMATCH_STORE names, else a folder of the user's cache."""
    named = os.environ.get("MANYMATCH_STORE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "manymatch" / "features"


def open_store(where: Where = None) -> FeatureStore:
    """The store itself, the one in a folder, or the default one. Raises DataError."""
    if isinstance(where, FeatureStore):
        return where
    return FeatureStore(default_folder() if where is None else where)


def picture_digest(data: bytes) -> bytes:
    """SHA-256 of a picture's bytes: what its features are filed under."""
    return hashlib.sha256(data).digest()
