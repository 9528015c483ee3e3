"""Where EXIF, IPTC and XMP lie in a JPEG, PNG, WebP or TIFF, and how large the picture is."""

from __future__ import annotations

import os
import stat
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from .exif import Exif, Missing, inside, read_exif

__all__ = ["Blocks", "blocks"]

_HEAD = 64 * 2**10
_MOST_BYTES = 2 * 2**20
_MOST_READS = 400
_LONGEST = 2**20
"""Bytes of one block."""

_EXIF = b"Exif\0\0"
_XAP = b"http://ns.adobe.com/xap/1.0/\0"
_PHOTOSHOP = b"Photoshop 3.0\0"
_PNG_XMP = b"XML:com.adobe.xmp\0"
_NO_SIZE = {0xC4, 0xC8, 0xCC}
"""Markers of JPEG between C0 and CF that begin no frame."""


@dataclass
class Blocks:
    """What was found; bytes are empty where there was nothing.

    Attributes:
        width, height: as stored, before the picture is turned upright.
        exif: what its EXIF block says; a TIFF is such a block itself.
        iptc: IIM records.
        xmp: XML.
    """

    width: int | None = None
    height: int | None = None
    exif: Exif = field(default_factory=Exif)
    iptc: bytes = b""
    xmp: bytes = b""


class _Pieces:
    """A file read in pieces, as long as they are not too many."""

    def __init__(self, handle: int) -> None:
        self._handle, self._reads, self._bytes = handle, 0, 0
        self._head = os.pread(handle, _HEAD, 0)

    def at(self, offset: int, size: int) -> bytes:
        """Exactly these bytes. Raises Missing: the file ends, or more is read than the headers of photos have."""
        self._reads += 1
        if self._reads > _MOST_READS or size > _LONGEST or offset < 0:
            raise Missing
        if offset + size <= len(self._head):
            return self._head[offset : offset + size]
        self._bytes += size
        if self._bytes > _MOST_BYTES:
            raise Missing
        out = os.pread(self._handle, size, offset)
        if len(out) != size:
            raise Missing
        return out


def blocks(path: str | Path) -> Blocks | None:
    """What the file at `path` holds, as far as it is whole; None where it cannot be read or is no such file."""
    try:
        # Without O_NONBLOCK a pipe would wait for its writer.
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError):
        return None
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return None
        return _read(_Pieces(handle))
    except OSError:
        return None
    finally:
        os.close(handle)


def _read(file: _Pieces) -> Blocks | None:
    out = Blocks()
    try:
        head = file.at(0, 12)
        if head.startswith(b"\xff\xd8"):
            _jpeg(file, out)
        elif head.startswith(b"\x89PNG\r\n\x1a\n"):
            _png(file, out)
        elif head[:4] == b"RIFF" and head[8:] == b"WEBP":
            _webp(file, out)
        elif head.startswith((b"II*\0", b"MM\0*")):
            _tiff(file, out)
        elif head.startswith((b"GIF87a", b"GIF89a")):
            out.width, out.height = struct.unpack("<HH", head[6:10])
        elif head.startswith(b"BM"):
            width, height = struct.unpack("<ii", file.at(18, 8))
            out.width, out.height = abs(width), abs(height)
        else:
            return None
    except (Missing, struct.error):
        # What was found until then counts.
        pass
    return out


# ---- JPEG


def _jpeg(file: _Pieces, out: Blocks) -> None:
    offset = 2
    while True:
        marker, size = struct.unpack(">HH", file.at(offset, 4))
        code = marker & 0xFF
        if marker == 0xFFFF:
            offset += 1
            continue
        if marker < 0xFF00 or code in (0xD9, 0xDA):
            return
        if code == 0x01 or 0xD0 <= code <= 0xD8:
            offset += 2
            continue
        if 0xC0 <= code <= 0xCF and code not in _NO_SIZE:
            out.height, out.width = struct.unpack(">HH", file.at(offset + 5, 4))
            return
        if code in (0xE1, 0xED) and size > 2:
            _segment(file.at(offset + 4, size - 2), out)
        offset += 2 + max(size, 2)


def _segment(data: bytes, out: Blocks) -> None:
    if data.startswith(_EXIF):
        out.exif = read_exif(inside(data[len(_EXIF) :]))
    elif data.startswith(_XAP):
        out.xmp = out.xmp or data[len(_XAP) :]
    elif data.startswith(_PHOTOSHOP):
        out.iptc += _resource(data[len(_PHOTOSHOP) :], 0x0404)


def _resource(data: bytes, wanted: int) -> bytes:
    """A resource of Photoshop's: signature, number, a name of even length with its length, size, bytes."""
    offset = 0
    while data[offset : offset + 4] == b"8BIM" and offset + 8 <= len(data):
        (number,) = struct.unpack(">H", data[offset + 4 : offset + 6])
        offset += 6
        offset += (data[offset] + 2) // 2 * 2
        if offset + 4 > len(data):
            return b""
        (size,) = struct.unpack(">I", data[offset : offset + 4])
        offset += 4
        if number == wanted:
            return data[offset : offset + size]
        offset += (size + 1) // 2 * 2
    return b""


# ---- PNG


def _png(file: _Pieces, out: Blocks) -> None:
    offset = 8
    while True:
        size, kind = struct.unpack(">I4s", file.at(offset, 8))
        if kind in (b"IDAT", b"IEND"):
            return
        if kind == b"IHDR":
            out.width, out.height = struct.unpack(">II", file.at(offset + 8, 8))
        elif kind == b"eXIf" and size <= _LONGEST:
            out.exif = read_exif(inside(file.at(offset + 8, size).removeprefix(_EXIF)))
        elif kind == b"iTXt" and len(_PNG_XMP) < size <= _LONGEST:
            out.xmp = out.xmp or _png_xmp(file.at(offset + 8, size))
        offset += 12 + size


def _png_xmp(data: bytes) -> bytes:
    """The text of a chunk called so: keyword, whether it is packed and how, language, translated keyword, text."""
    if not data.startswith(_PNG_XMP):
        return b""
    packed, rest = data[len(_PNG_XMP)], data[len(_PNG_XMP) + 2 :].split(b"\0", 2)
    if len(rest) != 3:
        return b""
    if not packed:
        return rest[2]
    try:
        return zlib.decompressobj().decompress(rest[2], _LONGEST)
    except zlib.error:
        return b""


# ---- WebP


def _webp(file: _Pieces, out: Blocks) -> None:
    offset = 12
    while True:
        kind, size = struct.unpack("<4sI", file.at(offset, 8))
        data = offset + 8
        if kind == b"VP8X":
            wide, high = file.at(data + 4, 3), file.at(data + 7, 3)
            out.width, out.height = int.from_bytes(wide, "little") + 1, int.from_bytes(high, "little") + 1
        elif kind == b"VP8 " and out.width is None:
            width, height = struct.unpack("<HH", file.at(data + 6, 4))
            out.width, out.height = width & 0x3FFF, height & 0x3FFF
        elif kind == b"VP8L" and out.width is None:
            (bits,) = struct.unpack("<I", file.at(data + 1, 4))
            out.width, out.height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        elif kind == b"EXIF" and size <= _LONGEST:
            out.exif = read_exif(inside(file.at(data, size).removeprefix(_EXIF)))
        elif kind == b"XMP " and size <= _LONGEST:
            out.xmp = file.at(data, size)
        offset = data + size + size % 2


# ---- TIFF


def _tiff(file: _Pieces, out: Blocks) -> None:
    """Its own tags are those of EXIF; they may lie anywhere in the file."""
    out.exif = read_exif(file.at)
    out.width, out.height = out.exif.width, out.exif.height
    out.iptc, out.xmp = out.exif.iptc, out.exif.xmp
