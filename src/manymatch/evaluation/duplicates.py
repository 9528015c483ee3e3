"""Images of a gallery that are one picture: a right answer's twin scores the same and counts as wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..data.features import Features
from ..data.files import Progress
from ..data.pairs import Pairs
from ..errors import DataError

__all__ = ["Duplicates", "duplicates"]

_BLOCK = 256
"""Images whose features are read at a time."""

_NAMED = 5
"""Images of one picture that a note names."""


@dataclass(frozen=True)
class Duplicates:
    """Images that are the same.

    Attributes:
        groups: ids of each picture that is there more than once, in order of appearance.
        same: what was compared, "picture" (the encoded bytes) or "features".
    """

    groups: tuple[tuple[str, ...], ...]
    same: str

    def notes(self) -> list[str]:
        """One line where there are any."""
        if not self.groups:
            return []
        first = self.groups[0]
        what = "are one picture" if self.same == "picture" else "have the same features"
        rest = " = ..." if len(first) > _NAMED else ""
        more = f"; {len(self.groups)} such groups" if len(self.groups) > 1 else ""
        return [
            f"{len(first)} images {what}: {' = '.join(first[:_NAMED])}{rest}{more}; "
            "a right answer's twin counts as wrong unless the truth says otherwise"
        ]


def duplicates(pairs: Pairs, progress: Progress | None = None) -> Duplicates:
    """Images of `pairs` with equal encoded bytes, or where there are no pictures, with equal features.

    Every picture or feature row is read once, hashed and let go; a picture saved a second time in another way is
    another one.

    Args:
        progress: called with (done, total) images.
    """
    for same, digests in (("picture", _of_pictures(pairs)), ("features", _of_features(pairs))):
        found: dict[bytes, list[str]] = {}
        for done, (name, digest) in enumerate(digests, 1):
            found.setdefault(digest, []).append(name)
            if progress is not None:
                progress(done, len(pairs))
        if found:
            return Duplicates(tuple(tuple(ids) for ids in found.values() if len(ids) > 1), same)
    return Duplicates((), "picture")


def _of_pictures(pairs: Pairs) -> Iterator[tuple[str, bytes]]:
    """SHA-256 of each picture's bytes as they are stored; one that cannot be read is like no other."""
    for item in pairs.items if pairs.pictures is not None else ():
        if item.picture is None:
            continue
        try:
            data = pairs.pictures.read(item.picture)  # type: ignore[union-attr]
        except DataError:
            continue
        yield item.id, hashlib.sha256(data).digest()


def _of_features(pairs: Pairs) -> Iterator[tuple[str, bytes]]:
    """SHA-256 of each image's fragments, without padding, and its pooled vector."""
    for start in range(0, len(pairs) if pairs.features is not None else 0, _BLOCK):
        block = pairs.images[start : start + _BLOCK]
        features = block.read_features()
        for n, item in enumerate(block.items):
            yield item.id, _digest(features, n)


def _digest(features: Features, row: int) -> bytes:
    digest = hashlib.sha256()
    for values in (features.vectors, features.pooled):
        if values is not None:
            real = features.lengths[row] if values is features.vectors and features.lengths is not None else None
            # Adding zero makes one of the two zeros.
            digest.update(np.ascontiguousarray(values[row][:real] + 0.0).tobytes())
            digest.update(b"|")
    return digest.digest()
