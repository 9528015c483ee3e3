"""Encoded bytes to an upright RGB picture: the one decoder everything shares."""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import DataError

__all__ = ["MAX_PIXELS", "PictureError", "decode"]

MAX_PIXELS = 64_000_000

_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
"""Formats of photographs. The others Pillow knows are left out: some start programs (EPS), and
of a JPEG 2000 cut short nobody says that it is."""

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class PictureError(DataError):
    """A picture that cannot be used. `kind` is the short word problems are listed under."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind, message)
        self.kind = kind

    def __str__(self) -> str:
        return str(self.args[1])


def decode(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """An upright 8-bit RGB picture.

    EXIF orientation is applied, 16 bits are scaled to 8, alpha lies over white, an animation gives its first frame.
    The size is checked before anything is decoded.

    Args:
        data: the encoded bytes (JPEG, PNG, WebP, GIF, BMP, TIFF, PPM, and AVIF where Pillow has it).
        name: how messages call the picture.
        max_pixels: width x height beyond which it is refused.

    Raises:
        PictureError: not a picture, damaged or cut short, or too large.
    """
    if not data:
        raise _unreadable(name, "the file is empty (0 bytes)")
    with _quiet():
        try:
            with Image.open(io.BytesIO(data), formats=_formats()) as picture:
                _check_size(picture, name, max_pixels)
                with _room_for(picture):
                    picture.load()
                    return _rgb(_upright(picture), name)
        except (PictureError, MemoryError):
            raise
        except UnidentifiedImageError:
            raise _unreadable(name, _what_it_is(data)) from None
        except Image.DecompressionBombError as error:
            raise _unreadable(name, f"too large ({error})") from None
        # Pillow's readers raise nearly anything on damaged bytes: OSError, SyntaxError, struct.error, KeyError...
        except Exception as error:
            raise _unreadable(name, f"damaged or cut short ({error or type(error).__name__})") from None


def _unreadable(name: str, why: str) -> PictureError:
    return PictureError("unreadable picture", f"picture {name!r}: {why}")


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _what_it_is(data: bytes) -> str:
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(b"<svg") or (head.startswith(b"<?xml") and b"<svg" in head):
        return "an SVG drawing, expected a photograph (JPEG, PNG, WebP...); convert it"
    if head.startswith((b"<!doctype html", b"<html")):
        return "a web page, not a picture; it was perhaps saved in place of one"
    return "not a picture, expected JPEG, PNG, WebP, GIF, BMP or TIFF"


def _check_size(picture: Image.Image, name: str, max_pixels: int) -> None:
    width, height = picture.size
    if width * height > max_pixels:
        raise _unreadable(
            name, f"too large, {width} x {height} = {width * height} pixels, at most {max_pixels} are read; shrink it"
        )


def _upright(picture: Image.Image) -> Image.Image:
    try:
        orientation = picture.getexif().get(_ORIENTATION, 1)
    # The pixels are whole by now: a picture whose EXIF block is damaged is taken as it lies.
    except Exception:
        return picture
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return picture if turn is None else picture.transpose(turn)


def _rgb(picture: Image.Image, name: str) -> Image.Image:
    if picture.mode.startswith("I"):
        out = _from_16_bits(picture, name)
    elif picture.mode == "F":
        raise _unreadable(name, "32-bit floating point, expected 8 or 16 bits a channel; convert it")
    elif picture.has_transparency_data:
        over = picture.convert("RGBA")
        out = Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")
    else:
        out = picture.convert("RGB")
    # What is left of EXIF would turn the picture a second time in other hands.
    out.info = {}
    return out


def _from_16_bits(picture: Image.Image, name: str) -> Image.Image:
    values: np.ndarray[Any, Any] = np.asarray(picture)
    if values.min() < 0 or values.max() > 65535:
        raise _unreadable(name, "32 bits a channel, expected 8 or 16; convert it")
    out = Image.fromarray((values // 257).astype(np.uint8)).convert("RGB")
    clear = picture.info.get("transparency")
    if isinstance(clear, int):
        out.paste("white", mask=Image.fromarray(values == clear))
    return out


_LARGE = 16_000_000
_one_large = threading.Lock()


def _room_for(picture: Image.Image) -> AbstractContextManager[object]:
    """Large pictures one at a time: decoded, 64 megapixels are a few hundred megabytes, and threads are many."""
    return _one_large if picture.width * picture.height > _LARGE else nullcontext()


def _renew() -> None:
    # A process forked while a thread held a lock does not have that thread.
    global _one_large, _lock
    _one_large, _lock = threading.Lock(), threading.Lock()


os.register_at_fork(after_in_child=_renew)

_lock = threading.Lock()
_inside = 0
_filters: warnings.catch_warnings[None] | None = None


@contextmanager
def _quiet() -> Iterator[None]:
    """Pillow's own warnings are ours to say, as errors. Filters are the process's: threads share one change."""
    global _inside, _filters
    with _lock:
        if _inside == 0:
            _filters = warnings.catch_warnings()
            _filters.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL\.")
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0 and _filters is not None:
                _filters.__exit__(None, None, None)
                _filters = None
