"""What lies in an index, told without its run: counts, items, pictures, examples."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from .collection import Collection
from .store.rows import Modality

if TYPE_CHECKING:
    from PIL import Image

    from ..data.pairs import Pictures

__all__ = ["Contents"]


class Contents:
    """Reads items of a store, and pictures from where the store says they lie."""

    def __init__(self, path: Path, collection: Collection) -> None:
        self.path = path
        self._collection = collection
        self._pictures: dict[int, Pictures] = {}
        self._opening = threading.Lock()

    def __len__(self) -> int:
        return self.count()

    def count(self, modality: Modality | None = None) -> int:
        """How many items, or how many of "image" or "caption"."""
        with self._collection.reading() as reading:
            return reading.count(modality)

    def item(self, id: str) -> dict[str, Any]:
        """`id, modality, captions, metadata, labels, has_picture, owner` of an item. Raises UnknownName.

        A caption has its own words as its only caption, and everything else from its image.
        """
        with self._collection.reading() as reading:
            found = reading.item(id)
            captions = reading.captions(id) if found.modality == "image" else [found.caption or ""]
        return {
            "id": found.id,
            "modality": found.modality,
            "captions": captions,
            "metadata": found.metadata,
            "labels": found.labels,
            "has_picture": found.picture is not None,
            "owner": found.owner,
        }

    def picture(self, id: str) -> bytes:
        """The encoded picture of an image, or of a caption's image. Raises UnknownName, DataError (none)."""
        pictures, name = self._picture(id)
        return pictures.read(name)

    def pixels(self, id: str) -> int:
        """Width x height beyond which the picture of an image is not decoded. Raises as `picture`."""
        from ..data.decoding import MAX_PIXELS

        return int(getattr(self._picture(id)[0], "max_pixels", MAX_PIXELS))

    def open_picture(self, id: str) -> Image.Image:
        """The decoded picture, upright RGB. Raises as `picture`."""
        pictures, name = self._picture(id)
        return pictures.open(name)

    def _picture(self, id: str) -> tuple[Pictures, str]:
        from .uploads import pictures_of

        with self._collection.reading() as reading, self._opening:
            found = reading.item(id)
            if found.picture is None or found.source is None:
                raise DataError(f"item {id!r} has no picture in this index; build it with --images PATH")
            if found.source not in self._pictures:
                self._pictures[found.source] = pictures_of(self.path, reading.source(found.source))
            return self._pictures[found.source], found.picture

    def examples(self, n: int, seed: int = 0) -> list[str]:
        """Up to n different captions of the index, to show what can be asked."""
        with self._collection.reading() as reading:
            return reading.examples(n, seed)

    def fields(self) -> list[dict[str, Any]]:
        """The metadata fields of the images, in the order of letters: `name, kind, items, low, high, values`.

        `kind` is "number", "text", "boolean" or "mixed"; `items` how many images have it; `low` and `high` the least
        and the largest number, of other kinds None; `values` the 30 most frequent as `{"value", "count"}`. Of more than
        200 fields those that most images have. Where items lie on a Qdrant server only these values are looked at.
        """
        with self._collection.reading() as reading:
            return [field.to_json() for field in reading.overview()]
