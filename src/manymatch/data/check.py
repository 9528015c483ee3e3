"""Look through a data set before anything is trained on it: every row read, every picture decoded once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import DataError
from .decoding import MAX_PIXELS, PictureError, decode
from .files import Progress
from .pairs import Item, Pairs, Pictures, Problem
from .sources import Reading, in_order, read_rows

__all__ = ["check", "readable"]

_BLOCK = 64
"""Pictures in the hands of the threads at a time: what is held in memory."""


def check(
    pairs_path: str | Path,
    *,
    format: str | None = None,
    images: str | Path | None = None,
    features: str | Path | None = None,
    pooled: str | Path | None = None,
    fields: Mapping[str, str] | None = None,
    strict: bool = False,
    max_pixels: int = MAX_PIXELS,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """What is in a data set and what is wrong with it.

    Args:
        pairs_path, format, images, features, pooled, fields, max_pixels: as for `sources.read_pairs`.
        strict: raise at the first bad row or picture; findings about pictures that can be read are listed.
        progress: called with (done, total) while pictures are decoded.

    Returns:
        JSON: `format`, its name and title, and `seen`, what it was known by and what was found in it; `images` and
        `captions`, how many are usable, `without_captions`, how many of the images have none; `splits`, name -> usable
        images; `problems`, a list of
        `{"file", "line", "kind", "detail"}`. Besides the bad rows: pictures that cannot be decoded, and pictures of
        the same bytes, kind "duplicate image" within a split and "split leak" across two.

    Raises:
        DataError: as `sources.read_pairs`.
    """
    reading = read_rows(
        pairs_path,
        format=format,
        images=images,
        features=features,
        pooled=pooled,
        fields=fields,
        strict=strict,
        max_pixels=max_pixels,
    )
    bad: list[str] = []
    found: list[Problem] = []
    if reading.pairs.pictures is not None:
        same = _Same(reading)
        for item, digest, error in _looked_at(reading.pairs, progress):
            if error is not None:
                bad.append(item.id)
                found.append(reading.problem(item, _kind(error), str(error)))
                if strict:
                    raise DataError(str(found[-1]))
            else:
                found.extend(same.seen(item, digest))
    pairs = reading.pairs.without(bad, found)
    return {
        "format": {"name": reading.format.name, "title": reading.format.title},
        "seen": list(reading.seen),
        "images": len(pairs),
        "captions": len(pairs.captions),
        "without_captions": sum(not item.captions for item in pairs),
        "splits": pairs.splits,
        "problems": [asdict(problem) for problem in in_order(pairs.problems)],
    }


def readable(pairs: Pairs, progress: Progress | None = None, *, strict: bool = False) -> Pairs:
    """The pairs without the images whose picture cannot be decoded; `problems` lists those.

    Every picture is decoded once and let go. Pairs without pictures come back as they are. With `strict`, DataError
    at the first that cannot be decoded.
    """
    bad, problems = [], []
    for item, _, error in _looked_at(pairs, progress):
        if error is not None:
            bad.append(item.id)
            problems.append(Problem(str(item.picture), None, _kind(error), str(error)))
            if strict:
                raise DataError(str(problems[-1]))
    return pairs.without(bad, problems)


class _Same:
    """Digests of the pictures seen so far: 16 bytes each, so that memory hardly grows with the data."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._first: dict[bytes, Item] = {}
        self._by_split: dict[bytes, dict[str | None, Item]] = {}

    def seen(self, item: Item, digest: bytes) -> list[Problem]:
        """What the picture says about those before it: nothing, a duplicate, or (which counts more) a leak."""
        first = self._first.setdefault(digest, item)
        if first is item:
            return []
        by_split = self._by_split.setdefault(digest, {first.split: first})
        leaks = [i for split, i in by_split.items() if item.split != split and None not in (item.split, split)]
        by_split.setdefault(item.split, item)
        kind, other = ("split leak", leaks[0]) if leaks else ("duplicate image", first)
        line = self._reading.lines[other.id]
        detail = (
            f"{item.id!r} ({item.split or 'no split'}) has the same bytes as {other.id!r} "
            f"({other.split or 'no split'}){'' if line is None else f' in line {line}'}"
        )
        return [self._reading.problem(item, kind, detail)]


def _looked_at(pairs: Pairs, progress: Progress | None) -> Iterator[tuple[Item, bytes, DataError | None]]:
    """Each item with the digest of its picture's bytes, or with what is wrong with it."""
    if pairs.pictures is None:
        return
    look = partial(_look, pairs.pictures)
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as threads:
        for start in range(0, len(pairs), _BLOCK):
            block = pairs.items[start : start + _BLOCK]
            for item, (digest, error) in zip(block, threads.map(look, block), strict=True):
                yield item, digest, error
            if progress is not None:
                progress(start + len(block), len(pairs))


def _kind(error: DataError) -> str:
    return error.kind if isinstance(error, PictureError) else "unreadable picture"


def _look(pictures: Pictures, item: Item) -> tuple[bytes, DataError | None]:
    if item.picture is None:
        return b"", PictureError("missing picture", f"the line of {item.id!r} names no picture")
    try:
        data = pictures.read(item.picture)
        decode(data, item.picture, getattr(pictures, "max_pixels", MAX_PIXELS))
    except DataError as error:
        return b"", error
    return hashlib.blake2b(data, digest_size=16).digest(), None
