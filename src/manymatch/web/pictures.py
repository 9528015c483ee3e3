"""Stored pictures as a browser takes them: their content type, read from the bytes, and small copies kept in memory."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b

from PIL import Image

from ..data.decoding import MAX_PIXELS, decode

__all__ = ["Served", "Thumbnails", "as_stored", "pixels_of"]

_MIME = {
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "AVIF": "image/avif",
}
"""Formats every browser shows. An MPO is a JPEG with more pictures behind it."""

_FORMATS = (*_MIME, "TIFF", "PPM")

_LONGEST = 65_500
"""Pixels of the longest side of a JPEG."""


@dataclass(frozen=True)
class Served:
    """Encoded bytes, their content type and a tag that changes when they do."""

    data: bytes
    media_type: str
    tag: str


def as_stored(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> Served:
    """The stored bytes under the type they have; a format browsers do not show (TIFF...) becomes a JPEG.

    Raises:
        PictureError: the bytes are no picture.
    """
    media_type = _MIME.get(_head(data)[0])
    if media_type is None:
        picture = decode(data, name, max_pixels)
        picture.thumbnail((_LONGEST, _LONGEST))
        data, media_type = _jpeg(picture), "image/jpeg"
    return Served(data, media_type, _tag(data))


class Thumbnails:
    """Small JPEGs, the least recently used dropped first. Keyed by content, so a replaced picture is never stale.

    Args:
        side: the long side in pixels; smaller pictures keep their size.
        max_bytes: how much is kept.
    """

    def __init__(self, side: int = 480, max_bytes: int = 64_000_000) -> None:
        self.side, self.max_bytes = side, max_bytes
        self._kept: OrderedDict[str, Served] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def of(self, data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> Served:
        """The thumbnail of these encoded bytes. Raises PictureError."""
        key = _tag(data)
        return self._find(key) or self._keep(key, lambda: self._make(data, name, max_pixels, key))

    def _find(self, key: str) -> Served | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def _keep(self, key: str, make: Callable[[], Served]) -> Served:
        made = make()
        with self._lock:
            before = self._kept.pop(key, None)
            self._size += len(made.data) - (len(before.data) if before else 0)
            self._kept[key] = made
            while self._size > self.max_bytes:
                self._size -= len(self._kept.popitem(last=False)[1].data)
        return made

    def _make(self, data: bytes, name: str, max_pixels: int, key: str) -> Served:
        picture = decode(data, name, max_pixels)
        picture.thumbnail((self.side, self.side))
        return Served(_jpeg(picture), "image/jpeg", f"{key}-{self.side}")


def pixels_of(data: bytes) -> int:
    """How many pixels these encoded bytes say they have; 0 of what says nothing."""
    return _head(data)[1]


def _head(data: bytes) -> tuple[str, int]:
    """Format and pixels, told without decoding; of what is no picture "" and 0."""
    # Naming formats makes Pillow skip the loading of its readers.
    Image.init()
    try:
        with Image.open(io.BytesIO(data), formats=tuple(f for f in _FORMATS if f in Image.OPEN)) as picture:
            return picture.format or "", picture.width * picture.height
    # Pillow's readers raise nearly anything on damaged bytes; the decoder says what is wrong with them.
    except Exception:
        return "", 0


def _jpeg(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=85, progressive=True, optimize=True)
    return out.getvalue()


def _tag(data: bytes) -> str:
    return blake2b(data, digest_size=16).hexdigest()
