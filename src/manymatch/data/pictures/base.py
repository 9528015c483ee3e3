"""What every place of pictures has in common, and the few rules they share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ...errors import DataError
from ..decoding import MAX_PIXELS, PictureError, decode
from ..files import inside

__all__ = ["LARGEST", "StoredPictures", "checked", "is_picture", "labels_of", "not_huge"]

_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".avif")

LARGEST = 2**29
"""Bytes. No photograph of 64 megapixels is larger; reading more would only fill the memory."""


class StoredPictures:
    """Pictures that somebody stored: in a folder, a tar, several tars, a table.

    Attributes:
        max_pixels: width x height beyond which `open` refuses a picture.
        cut: what was lost where the container is damaged, in words; empty where it is whole.
    """

    max_pixels: int = MAX_PIXELS
    cut: str = ""

    def read(self, name: str) -> bytes:
        """The encoded bytes. Raises PictureError (missing, outside, not whole)."""
        raise NotImplementedError

    def require(self, name: str) -> None:
        """Raise what `read` would, without reading."""
        raise NotImplementedError

    def names(self) -> Sequence[str]:
        """Every picture there is, sorted."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """JSON from which `open_pictures` opens the same again."""
        raise NotImplementedError

    def open(self, name: str) -> Image.Image:
        """The upright RGB picture. Raises PictureError."""
        return decode(self.read(name), name, self.max_pixels)

    def _described(self, kind: str, **where: Any) -> dict[str, Any]:
        limit = {} if self.max_pixels == MAX_PIXELS else {"max_pixels": self.max_pixels}
        return {"kind": kind, **where, **limit}


def is_picture(name: str) -> bool:
    """Whether a file's name ends as those of pictures do."""
    return name.lower().endswith(_SUFFIXES)


def checked(name: str) -> str:
    """The name worked out. Raises PictureError when it leads outside."""
    clean = inside(name)
    if clean is None:
        raise PictureError("outside the folder", f"picture {name!r}: the path leaves the folder of the pictures")
    return clean


def not_huge(name: str, size: int) -> None:
    """Raises PictureError for more bytes than any photograph has."""
    if size > LARGEST:
        raise PictureError(
            "unreadable picture", f"picture {name!r}: more than {LARGEST} bytes, expected a photograph; shrink it"
        )


def labels_of(paths: Sequence[Path]) -> list[str]:
    """How the pictures of each of several files are told apart: the file's path below their common folder.

    The last suffix is left off. Of one file it is empty: its pictures need no further word.

    Raises:
        DataError: two files would be called the same.
    """
    if len(paths) < 2:
        return [""] * len(paths)
    whole = [os.path.realpath(path) for path in paths]
    common = os.path.commonpath([os.path.dirname(path) for path in whole])
    out: dict[str, str] = {}
    for path in whole:
        label = os.path.splitext(os.path.relpath(path, common))[0].replace(os.sep, "/")
        if label in out:
            raise DataError(f"pictures: {path!r} and {out[label]!r} would both be called {label!r}; rename one")
        out[label] = path
    return list(out)
