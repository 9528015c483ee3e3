"""Pictures that are cut short, are something else, claim too much, or are only unusual."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from bad_case import Case, data_set, fine, listed, rows, saved
from PIL import Image, PngImagePlugin, TiffImagePlugin

__all__ = ["encoded_cases", "picture_cases", "picture_samples"]

UNREADABLE = "unreadable picture"
PARTS = (0.02, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 0.97)


def picture_cases() -> list[Case]:
    return [*_cut(), *_not_pictures(), *_bombs(), *_unusual(), *_damaged()]


@dataclass(frozen=True)
class One:
    """A data set with one picture of these bytes between two good ones: line 2."""

    name: str
    data: Callable[[], bytes] | bytes

    def encoded(self) -> bytes:
        return self.data if isinstance(self.data, bytes) else self.data()

    def __call__(self, folder: Path) -> Sequence[str]:
        text = rows({"image": self.name, "captions": ["what is this"]})
        return data_set(folder, text, {self.name: self.encoded()})


def encoded_cases() -> list[tuple[Case, str, bytes]]:
    """Cases that are about the bytes of one picture, with its name and those; not the largest."""
    cases = [(case, case.write) for case in picture_cases() if case.room <= 300 and "packed" not in case.name]
    return [(case, write.name, write.encoded()) for case, write in cases if isinstance(write, One)]


@cache
def _photo(size: tuple[int, int] = (160, 120), mode: str = "RGB") -> Image.Image:
    """Noise over a gradient: no part of it can be guessed from the rest."""
    noise = np.random.default_rng(7).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(noise).convert(mode)


# ---- cut short


@cache
def picture_samples() -> dict[str, bytes]:
    photo = _photo()
    out = {
        "baseline.jpg": saved(photo, "JPEG"),
        "progressive.jpg": saved(photo, "JPEG", progressive=True),
        "cmyk.jpg": saved(photo.convert("CMYK"), "JPEG"),
        "plain.png": saved(photo),
        "sixteen.png": saved(Image.fromarray(np.random.default_rng(8).integers(0, 2**16, (120, 160), np.uint16))),
        "plain.gif": saved(photo, "GIF"),
        "lossy.webp": saved(photo, "WEBP"),
        "lossless.webp": saved(photo, "WEBP", lossless=True),
        "plain.bmp": saved(photo, "BMP"),
        "plain.tiff": saved(photo, "TIFF"),
        "packed.tiff": saved(photo, "TIFF", compression="tiff_lzw"),
        "plain.ppm": saved(photo, "PPM"),
    }
    if "AVIF" in Image.SAVE:
        out["plain.avif"] = saved(photo, "AVIF")
    return out


def _cut() -> Iterator[Case]:
    Image.init()
    for name, data in picture_samples().items():
        for part in PARTS:
            yield listed(f"cut-{name}-{part}", One(name, data[: int(len(data) * part)]), UNREADABLE, line=2)
    data = picture_samples()["progressive.jpg"]
    scans = [n for n in range(len(data) - 1) if data[n : n + 2] == b"\xff\xda"]
    for n, start in enumerate(scans[1:], 1):
        yield listed(f"cut-between-scans-{n}", One("p.jpg", data[:start]), UNREADABLE, line=2)


# ---- not pictures


def _noise(head: bytes = b"", size: int = 20_000) -> bytes:
    return head + np.random.default_rng(len(head) + size).bytes(size)


NOT_PICTURES: dict[str, bytes] = {
    "empty.jpg": b"",
    "one-byte.jpg": b"\xff",
    "zeros.jpg": bytes(5000),
    "text.jpg": b"this is not a picture\n",
    "page.jpg": b"<!DOCTYPE html><html><script>alert(1)</script></html>",
    "error-page.png": b"\r\n\r\n<HTML><head><title>404</title></head></HTML>",
    "drawing.svg": b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
    "drawing.jpg": b'\xef\xbb\xbf<?xml version="1.0"?><svg width="9" height="9"/>',
    "entities.svg": b'<!DOCTYPE s [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg>&x;</svg>',
    "laughs.svg": b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><svg>&b;</svg>',
    "paper.pdf": b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\n%%EOF",
    "script.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n",
    "zip.jpg": b"PK\x03\x04" + bytes(100),
    "gzip.jpg": b"\x1f\x8b\x08\x00" + bytes(100),
    "tar.jpg": bytes(257) + b"ustar\x0000" + bytes(500),
    "film.mp4": b"\x00\x00\x00\x20ftypisom" + bytes(200),
    "heic.jpg": b"\x00\x00\x00\x20ftypheic" + bytes(200),
    "program.jpg": b"\x7fELF\x02\x01\x01" + bytes(200),
    "json.jpg": b'{"image": "a.jpg"}',
    "pickle.jpg": b"cos\nsystem\n(S'touch hacked'\ntR.",
    "icon.ico": b"\x00\x00\x01\x00\x01\x00" + bytes(200),
    "shop.psd": b"8BPS\x00\x01" + bytes(200),
    "link.url": b"[InternetShortcut]\r\nURL=file:///etc/passwd\r\n",
    "pointer.jpg": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n",
}

HEADS = {
    "jpg": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00",
    "png": b"\x89PNG\r\n\x1a\n",
    "gif": b"GIF89a",
    "webp": b"RIFF\x00\x40\x00\x00WEBPVP8 ",
    "webp-lossless": b"RIFF\x00\x40\x00\x00WEBPVP8L",
    "webp-extended": b"RIFF\x00\x40\x00\x00WEBPVP8X",
    "bmp": b"BM",
    "tiff": b"II*\x00\x08\x00\x00\x00",
    "tiff-big-endian": b"MM\x00*\x00\x00\x00\x08",
    "bigtiff": b"II+\x00\x08\x00\x00\x00\x10\x00\x00\x00\x00\x00\x00\x00",
    "ppm": b"P6 100 100 255\n",
    "ppm-text": b"P3 100 100 255\n",
    "avif": b"\x00\x00\x00\x20ftypavif",
    "": b"",
}


def _not_pictures() -> Iterator[Case]:
    for name, data in NOT_PICTURES.items():
        yield listed(f"not-a-picture-{name}", One(name, data), UNREADABLE, line=2)
    for suffix, head in HEADS.items():
        yield listed(f"noise-after-head-{suffix or 'none'}", One("n.jpg", _noise(head)), UNREADABLE, line=2)
    for form in ("JPEG2000", "ICO", "TGA", "PCX", "SGI", "DDS"):
        Image.init()
        if form in Image.SAVE:
            yield listed(f"not-a-format-{form}", One("x.jpg", saved(_photo((32, 32)), form)), UNREADABLE, line=2)
    yield listed("floats", One("f.tiff", saved(Image.new("F", (9, 9), 0.5), "TIFF")), UNREADABLE, line=2)
    yield listed("32-bits", One("i.tiff", saved(Image.new("I", (9, 9), 2**30), "TIFF")), UNREADABLE, line=2)
    yield listed("negative", One("i.tiff", saved(Image.new("I", (9, 9), -5), "TIFF")), UNREADABLE, line=2)


# ---- bombs


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *more: bytes, depth: int = 8, colour: int = 2, packed: bytes | None = None) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    pixels = zlib.compress(bytes((1 + 3 * width) * height)) if packed is None else packed
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(more) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@cache
def _zeros(mib: int) -> bytes:
    """So many MiB of zeros, packed: a thousandth of it."""
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(2**20)) for _ in range(mib)) + packer.flush()


def _tiff(*entries: tuple[int, int, int, int], count: int | None = None, more: bytes = b"") -> bytes:
    """A little-endian TIFF of (tag, type, count, value)."""
    told = len(entries) if count is None else count
    return b"II*\x00\x08\x00\x00\x00" + struct.pack("<H", told) + b"".join(
        struct.pack("<HHII", *entry) for entry in entries
    ) + bytes(4) + more  # fmt: skip


def _many_tags(count: int) -> bytes:
    base = {256: 9, 257: 9, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 9, 279: 81}
    entries = [(tag, 4, 1, value) for tag, value in base.items()]
    return _tiff(*entries, *((60_000 + n % 5000, 4, 1, n) for n in range(count)), more=bytes(200))


def _gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\x00\x00" + bytes(6) + b"\x2c" + struct.pack(
        "<HHHH", 0, 0, width, height
    ) + b"\x00\x02\x02\x44\x01\x00\x3b"  # fmt: skip


def _bmp(width: int, height: int) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 1000, 0, 0, 54) + head + bytes(100)


def _sized_jpeg(width: int, height: int) -> bytes:
    data = bytearray(saved(Image.new("RGB", (16, 16)), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def _webp(width: int, height: int) -> bytes:
    canvas = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + canvas
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _large_png(width: int, height: int) -> bytes:
    """One bit a pixel, every row there: some kilobytes."""
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + width // 8)) for _ in range(height)) + packer.flush()
    return png(width, height, depth=1, colour=0, packed=rows)


def _bombs() -> Iterator[Case]:
    text = b"k\0\0"
    bombs: dict[str, Callable[[], bytes]] = {
        "declared.png": lambda: png(50_000, 50_000, packed=zlib.compress(bytes(100))),
        "whole.png": lambda: _large_png(50_000, 50_000),
        "just-too-large.png": lambda: png(8001, 8001, packed=b""),
        "largest-numbers.png": lambda: png(2**31 - 1, 2**31 - 1, packed=b""),
        "beyond-numbers.png": lambda: png(2**32 - 1, 2**32 - 1, packed=b""),
        "no-width.png": lambda: png(0, 100, packed=b""),
        "wide.png": lambda: png(2**31 - 1, 1, packed=b""),
        "declared.jpg": lambda: _sized_jpeg(65_535, 65_535),
        "no-height.jpg": lambda: _sized_jpeg(100, 0),
        "declared.gif": lambda: _gif(65_535, 65_535),
        "declared.webp": lambda: _webp(16_384, 16_384),
        "declared-more.webp": lambda: _webp(2**24, 2**24),
        "declared.bmp": lambda: _bmp(50_000, 50_000),
        "upside-down.bmp": lambda: _bmp(50_000, -50_000),
        "negative.bmp": lambda: _bmp(-50, 50),
        "smallest-number.bmp": lambda: _bmp(-(2**31), -(2**31)),
        "declared.ppm": lambda: b"P6 50000 50000 255\n" + bytes(100),
        "endless-number.ppm": lambda: b"P6 " + b"9" * 100_000 + b" 1 255\n",
        "endless-comment.ppm": lambda: b"P6 #" + b"x" * 1_000_000,
        "declared.tiff": lambda: _tiff((256, 4, 1, 50_000), (257, 4, 1, 50_000), (262, 3, 1, 1), (273, 4, 1, 8)),
        "no-size.tiff": lambda: _tiff((259, 3, 1, 1)),
        "circle.tiff": lambda: b"II*\x00\x08\x00\x00\x00\x00\x00\x08\x00\x00\x00",
        "untold-tags.tiff": lambda: _tiff((256, 4, 1, 9), count=65_535),
        "endless-tag.tiff": lambda: _tiff((256, 4, 2**32 - 1, 8), (257, 4, 1, 9)),
        "endless-text.tiff": lambda: _tiff((256, 4, 1, 9), (257, 4, 1, 9), (270, 2, 2**31, 8)),
    }
    for name, make in bombs.items():
        yield listed(f"bomb-{name}", One(name, make), UNREADABLE, line=2)
    packed: dict[str, Callable[[], bytes]] = {
        "profile": lambda: png(9, 9, chunk(b"iCCP", b"p\0\0" + _zeros(400))),
        "text": lambda: png(9, 9, chunk(b"zTXt", text + _zeros(400))),
        "international-text": lambda: png(9, 9, chunk(b"iTXt", b"k\0\1\0\0\0" + _zeros(400))),
        "many-texts": lambda: png(9, 9, *[chunk(b"zTXt", text + _zeros(1))] * 200),
        "pixels": lambda: png(9, 9, packed=_zeros(400)),
        "exif": lambda: png(9, 9, chunk(b"eXIf", b"II*\x00" + bytes(20_000_000))),
    }
    for name, make in packed.items():
        yield Case(f"bomb-packed-{name}", One("p.png", make), (UNREADABLE,), good=-1, room=300)
    yield fine("many-tags", One("t.tiff", lambda: _many_tags(5000)))
    yield fine("largest-allowed", One("l.png", lambda: _large_png(8000, 8000)), room=600)
    yield Case("eight-of-the-largest", _eight, ("duplicate image",), good=10, room=600)


def _eight(folder: Path) -> Sequence[str]:
    data = _large_png(8000, 8000)
    names = [f"{n}.png" for n in range(8)]
    return data_set(folder, rows(*({"image": n, "captions": ["x"]} for n in names)), dict.fromkeys(names, data))


# ---- unusual, and read all the same


def _exif(orientation: object = 6, comment: int = 0) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    if comment:
        exif[0x010E] = "x" * comment
    return exif.tobytes()


def _frames(form: str, **options: Any) -> bytes:
    others = [Image.new("RGB", (20, 20), colour) for colour in ("green", "blue")]
    return saved(_photo((20, 20)), form, save_all=True, append_images=others, **options)


def _noted(kind: str) -> bytes:
    notes = PngImagePlugin.PngInfo()
    notes.add_text("parameters", "a very long prompt " * 2000, zip=kind == "zip")
    return saved(_photo((20, 20)), pnginfo=notes)


def _unusual() -> Iterator[Case]:
    photo = _photo((40, 30))
    wide = Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 50)
    pictures: dict[str, Callable[[], bytes]] = {
        "cmyk.jpg": lambda: saved(photo.convert("CMYK"), "JPEG"),
        "grey.jpg": lambda: saved(photo.convert("L"), "JPEG"),
        "progressive.jpg": lambda: saved(photo, "JPEG", progressive=True),
        "restarts.jpg": lambda: saved(photo, "JPEG", restart_marker_rows=1),
        "more-behind.jpg": lambda: saved(photo, "JPEG") + _noise(size=3000),
        "named.png": lambda: saved(photo, "JPEG"),
        "named.jpg": lambda: saved(photo, "PNG"),
        "named.html": lambda: saved(photo, "PNG"),
        "no-suffix": lambda: saved(photo, "PNG"),
        "sixteen.png": lambda: saved(wide),
        "sixteen.tiff": lambda: saved(wide, "TIFF"),
        "bilevel.png": lambda: saved(photo.convert("1")),
        "palette.png": lambda: saved(photo.convert("P")),
        "clear-palette.png": lambda: saved(photo.convert("P"), transparency=3),
        "clear-grey.png": lambda: saved(photo.convert("LA")),
        "clear.png": lambda: saved(photo.convert("RGBA")),
        "clear-sixteen.png": lambda: saved(wide, transparency=50),
        "animated.gif": lambda: _frames("GIF", duration=50),
        "animated.webp": lambda: _frames("WEBP"),
        "animated.png": lambda: _frames("PNG"),
        "pages.tiff": lambda: _frames("TIFF"),
        "lab.tiff": lambda: saved(Image.new("LAB", (9, 9), (9, 9, 9)), "TIFF"),
        "cmyk.tiff": lambda: saved(photo.convert("CMYK"), "TIFF"),
        "one.png": lambda: saved(Image.new("RGB", (1, 1), "green")),
        "thin.png": lambda: saved(Image.new("RGB", (1, 9000), "green")),
        "huge-exif.jpg": lambda: saved(photo, "JPEG", exif=_exif(6, 60_000)),
        "huge-exif.png": lambda: saved(photo, exif=_exif(6, 5_000_000)),
        "odd-exif.jpg": lambda: saved(photo, "JPEG", exif=_exif(99)),
        "damaged-exif.jpg": lambda: saved(photo, "JPEG", exif=b"Exif\0\0" + _noise(b"II*\0\x08\0\0\0", 500)),
        "cut-exif.jpg": lambda: saved(photo, "JPEG", exif=_exif(3, 500)[:40]),
        "bad-profile.jpg": lambda: saved(photo, "JPEG", icc_profile=_noise(size=900)),
        "bad-profile.png": lambda: saved(photo, icc_profile=_noise(size=900)),
        "long-text.png": lambda: _noted("plain"),
        "long-packed-text.png": lambda: _noted("zip"),
        "comment.jpg": lambda: saved(photo, "JPEG", comment=b"x" * 60_000),
        "private-tags.tiff": lambda: saved(photo, "TIFF", tiffinfo=_private()),
        **{
            f"turned-{n}.jpg": lambda n=n: saved(photo.crop((0, 0, 30 - n, 20)), "JPEG", exif=_exif(n))
            for n in range(1, 9)
        },
    }
    for name, make in pictures.items():
        yield fine(f"unusual-{name}", One(name, make))


def _private() -> TiffImagePlugin.ImageFileDirectory_v2:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for n in range(500):
        tags[50_000 + n] = "x" * n
    return tags


# ---- damaged inside


def _damaged() -> Iterator[Case]:
    plain = picture_samples()["plain.png"]
    flipped = bytearray(plain)
    flipped[len(plain) // 2] ^= 0xFF
    yield listed("damaged-checksum.png", One("d.png", bytes(flipped)), UNREADABLE, line=2)
    yield listed("damaged-length.png", One("d.png", plain[:8] + b"\xff" + plain[9:]), UNREADABLE, line=2)
    yield listed("no-pixels.png", One("d.png", png(9, 9, packed=b"")), UNREADABLE, line=2)
    yield listed("no-palette.png", One("d.png", png(9, 9, colour=3)), UNREADABLE, line=2)
    yield listed("depth-3.png", One("d.png", png(9, 9, depth=3)), UNREADABLE, line=2)
    base = picture_samples()["baseline.jpg"]
    tables = base.index(b"\xff\xc4")
    yield listed("no-tables.jpg", One("d.jpg", base[:tables] + b"\xff\xd9"), UNREADABLE, line=2)
    yield listed("only-markers.jpg", One("d.jpg", b"\xff\xd8" + b"\xff" * 5000 + b"\xd9"), UNREADABLE, line=2)
    yield listed("empty-segments.jpg", One("d.jpg", b"\xff\xd8" + b"\xff\xe1\x00\x02" * 9000), UNREADABLE, line=2)
    yield listed("lying-segment.jpg", One("d.jpg", b"\xff\xd8\xff\xe1\xff\xffExif\0\0" + bytes(90)), UNREADABLE, line=2)
    lying = bytearray(picture_samples()["lossy.webp"])
    lying[4:8] = b"\xff\xff\xff\xff"
    yield listed("lying-size.webp", One("d.webp", bytes(lying)), UNREADABLE, line=2)
