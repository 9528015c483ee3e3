"""Which rows of a table have the same picture: those that call it the same, and whose bytes are the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..decoding import PictureError
from .names import SYNONYMS

if TYPE_CHECKING:
    from ..pictures import StoredPictures

__all__ = ["Same", "key_of"]

_KEYS = ("image_id", "img_id", "imgid", "cocoid", "id", *SYNONYMS["image"])
"""Columns that say which rows have the same picture, where pictures themselves have no names."""

_DOUBTS = 16
"""Different pictures of one name, after which names are no longer believed to say anything."""


def key_of(own: Any, value: Mapping[str, Any]) -> str | None:
    """What says which picture a row has: the picture's own name, else a column that is called so."""
    keys = (own, *(value.get(name) for name in _KEYS))
    return next(
        (str(key) for key in keys if isinstance(key, str | int) and not isinstance(key, bool) and key != ""), None
    )


class Same:
    """What is known of the pictures of the rows met so far.

    Args:
        pictures: where to look; None where every row is an image of its own.
    """

    def __init__(self, pictures: StoredPictures | None) -> None:
        self._pictures = pictures
        self._known: dict[str, dict[bytes, str] | str] = {}
        self._doubts = 0

    def name(self, name: str, key: str | None) -> tuple[str, str | None]:
        """(the picture's name, an id for it) of a row whose picture is called `name` and whose key is this."""
        if key is None:
            return name, None
        first = self._known.get(key)
        if first is None:
            self._known[key] = name
            return name, key
        if self._pictures is None or self._doubts >= _DOUBTS:
            return name, None
        return self._compared(self._pictures, name, key, first)

    def _compared(
        self, pictures: StoredPictures, name: str, key: str, first: dict[bytes, str] | str
    ) -> tuple[str, str | None]:
        if isinstance(first, str):
            first = {_digest(pictures, first): first}
            self._known[key] = first
        digest = _digest(pictures, name)
        if digest in first:
            self._doubts = max(0, self._doubts - 1)
            found = first[digest]
            return found, key if found == next(iter(first.values())) else None
        self._doubts += 1
        first[digest] = name
        return name, None


def _digest(pictures: StoredPictures, name: str) -> bytes:
    try:
        return hashlib.sha256(pictures.read(name)).digest()
    except PictureError:
        return name.encode()
