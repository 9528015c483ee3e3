"""Archives of pictures that lead out, break off, claim too much, or are other archives."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from bad_case import Case, Write, fine, jpeg, listed, refused, rows, saved
from PIL import Image

__all__ = ["Member", "packed", "tar_cases"]

BLOCK = 512
Member = tuple[str, bytes] | tarfile.TarInfo
MISSING, UNREADABLE, OUTSIDE = "missing picture", "unreadable picture", "outside the folder"


def tar_cases() -> list[Case]:
    return [*_members(), *_cut(), *_lies(), *_others()]


def info(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, link, size
    return made


def packed(*members: Member, form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member, io.BytesIO(bytes(member.size)))
            else:
                name, data = member
                tar.addfile(info(name, size=len(data)), io.BytesIO(data))
    return out.getvalue()


def good(*members: Member) -> list[Member]:
    return [("a.jpg", jpeg("red")), *members, ("z.jpg", jpeg("blue"))]


def _given(data: bytes | Callable[[], bytes], name: str = "m.jpg", tar: str = "images.tar", *more: str) -> Write:
    """Three lines and a tar of their pictures, of which the middle line's is called `name`."""

    def write(folder: Path) -> Sequence[str]:
        lines = [{"image": each, "captions": ["x"]} for each in (name, *more)]
        (folder / "data.jsonl").write_bytes(rows(*lines))
        (folder / tar).write_bytes(data if isinstance(data, bytes) else data())
        return ["data.jsonl", "--images", tar]

    return write


def _members() -> Iterator[Case]:
    picture = jpeg("green")
    for name in ("../m.jpg", "/m.jpg", "x/../../m.jpg", "/etc/passwd", "..\\m.jpg", "C:/m.jpg"):
        made = packed(*good((name, picture)))
        yield listed(f"tar-member-{name}", _given(made), MISSING, line=2)
        yield listed(f"tar-asked-{name}", _given(made, name), OUTSIDE, MISSING, line=2)
    kinds = {
        "character-device": info("m.jpg", tarfile.CHRTYPE),
        "block-device": info("m.jpg", tarfile.BLKTYPE),
        "pipe": info("m.jpg", tarfile.FIFOTYPE),
        "folder": info("m.jpg", tarfile.DIRTYPE),
        "link-out": info("m.jpg", tarfile.SYMTYPE, "/etc/passwd"),
        "link-up": info("m.jpg", tarfile.SYMTYPE, "../../etc/passwd"),
        "link-to-itself": info("m.jpg", tarfile.SYMTYPE, "m.jpg"),
        "hard-link-out": info("m.jpg", tarfile.LNKTYPE, "/etc/passwd"),
        "hard-link-up": info("m.jpg", tarfile.LNKTYPE, "../etc/passwd"),
        "hard-link-to-itself": info("m.jpg", tarfile.LNKTYPE, "m.jpg"),
        "hard-link-ahead": info("m.jpg", tarfile.LNKTYPE, "z.jpg"),
        "unknown-kind": info("m.jpg", b"Z"),
    }
    for name, member in kinds.items():
        devices = (MISSING, UNREADABLE)
        yield listed(f"tar-{name}", _given(packed(*good(member))), *devices, line=2)
    yield listed(
        "tar-hard-link", _given(packed(*good(info("m.jpg", tarfile.LNKTYPE, "a.jpg")))), "duplicate image", good=3
    )
    yield listed("tar-empty-member", _given(packed(*good(("m.jpg", b"")))), UNREADABLE, line=2)
    yield listed("tar-in-tar", _given(packed(*good(("m.jpg", packed(*good()))))), UNREADABLE, line=2)
    yield listed("tar-sparse", _given(_sparse), MISSING, UNREADABLE, line=2)
    yield fine("tar-name-twice", _given(packed(*good(("m.jpg", b"no picture"), ("m.jpg", picture)))))
    yield fine("tar-dot-before", _given(packed(("./a.jpg", jpeg()), ("./m.jpg", picture), ("./z.jpg", jpeg("blue")))))
    for name in ("two\nlines.jpg", "'\"`$(x).jpg", "\u202egpj.jpg", "犬.jpg", "x" * 251 + ".jpg", "d/" * 200 + "m.jpg"):
        yield fine(f"tar-named-{name[:12]!a}", _given(packed(*good((name, picture))), name))
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        yield fine(f"tar-form-{form}", _given(packed(*good(("m.jpg", picture)), form=form)))
    latin = packed(*good(("m.jpg", picture))).replace(b"m.jpg", b"\xff.jpg")
    yield listed("tar-name-that-is-no-text", _given(_resummed(latin)), MISSING, line=2)
    yield listed("tar-name-that-is-no-text-asked", _given(_resummed(latin), "\udcff.jpg"), "bad image", line=2)
    yield fine(
        "tar-many-members", _given(lambda: packed(*(info(f"{n}") for n in range(5000)), *good(("m.jpg", picture))))
    )


def _resummed(data: bytes) -> bytes:
    """Headers with the checksums that their changed bytes need."""
    out = bytearray(data)
    for at in range(0, len(out) - BLOCK, BLOCK):
        if out[at + 257 : at + 262] == b"ustar":
            out[at + 148 : at + 156] = b" " * 8
            out[at + 148 : at + 156] = b"%06o\0 " % sum(out[at : at + BLOCK])
    return bytes(out)


def _sparse() -> bytes:
    """GNU's sparse member: a terabyte, of which nothing is stored."""
    made = bytearray(packed(*good(info("m.jpg", b"S")), form=tarfile.GNU_FORMAT))
    at = made.index(b"m.jpg")
    made[at + 483 : at + 495] = b"%011o\0" % (2**32)
    return _resummed(bytes(made)) if b"ustar" in made else bytes(made)


@cache
def _three() -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    return packed(*good(), ("m.jpg", saved(Image.fromarray(noise), "PNG")))


def _cut() -> Iterator[Case]:
    whole = _three()
    start = whole.index(b"m.jpg")
    for at in (start + 100, start + BLOCK, start + BLOCK + 1, start + 2 * BLOCK, start + 4000):
        yield listed(f"tar-cut-{at}", _given(whole[:at]), UNREADABLE, MISSING, "damaged file", line=None)
    for at in (1, 100, 511):
        yield refused(f"tar-cut-{at}", _given(whole[:at]), "not a tar")
    yield listed("tar-cut-between", _given(whole[:start]), MISSING, line=2)
    flipped = bytearray(whole)
    flipped[start + 150] ^= 0x33
    yield listed("tar-damaged-head", _given(bytes(flipped)), "damaged file")
    yield listed("tar-noise-between", _given(whole[:start] + bytes(range(256)) * 8 + whole[start:]), "damaged file")
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        last = tar.getmembers()[-1]
    end = last.offset_data + -(-last.size // BLOCK) * BLOCK
    yield listed("tar-no-end", _given(whole[:end]), "damaged file", good=3)
    yield fine("tar-half-an-end", _given(whole[: end + BLOCK]))
    yield fine("tar-noise-behind", _given(whole + b"noise" * 500))


def _sized(size: bytes) -> bytes:
    """The last member says that it is of another size."""
    made = bytearray(_three())
    at = made.index(b"m.jpg")
    made[at + 124 : at + 136] = size
    return _resummed(bytes(made))


def _with_header(text: bytes) -> bytes:
    """An extended header of these bytes before the last member."""
    whole = _three()
    at = whole.index(b"m.jpg")
    head = info("pax", b"x", size=len(text)).tobuf(tarfile.USTAR_FORMAT)
    return whole[:at] + head + text + bytes(-len(text) % BLOCK) + whole[at:]


def _lies() -> Iterator[Case]:
    sizes = {
        "petabyte": b"\x80" + bytes(3) + (10**15).to_bytes(8, "big"),
        "negative": b"\xff" * 12,
        "smallest": b"\xff" + b"\x80" + bytes(10),
        "largest": b"\x80" + b"\x7f" + b"\xff" * 10,
        "gigabytes": b"77777777777\0",
        "no-number": b"abcdefghijk\0",
        "blank": bytes(12),
        "minus-sign": b"-0000000400\0",
    }
    for name, size in sizes.items():
        kinds = (UNREADABLE, MISSING, "damaged file")
        yield listed(f"tar-size-{name}", _given(lambda size=size: _sized(size)), *kinds)
    headers = {
        "size-of-a-petabyte": b"25 size=1000000000000000\n",
        "size-negative": b"12 size=-99\n",
        "size-no-number": b"12 size=abc\n",
        "length-zero": b"0 path=x\n",
        "length-huge": b"99999999999 path=x\n",
        "length-of-many-digits": b"9" * 400 + b" path=x\n",
        "no-sign": b"9 pathxx\n",
        "no-text": bytes(600),
        "path-up": b"22 path=../../m.jpg\n"[:20].ljust(20, b"\n"),
        "sparse": b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n",
        "sparse-map": b"33 GNU.sparse.map=0,9999999999,1\n",
        "sparse-size": b"31 GNU.sparse.realsize=9999999\n",
        "not-utf-8": b"14 path=\xff\xfe.jp\n",
        "charset": b"29 hdrcharset=BINARY-no-such\n",
    }
    for name, text in headers.items():
        write = _given(lambda text=text: _with_header(text))
        yield Case(f"tar-header-{name}", write, (UNREADABLE, MISSING, "damaged file"), good=-1)
    yield Case("tar-headers-on-headers", _given(_chain), (UNREADABLE, MISSING, "damaged file"), good=-1)
    yield Case("tar-long-names-on-long-names", _given(lambda: _chain(b"L")), (MISSING, "damaged file"), good=-1)
    for kind in (b"x", b"g", b"L", b"K"):
        name = kind.decode()
        yield Case(
            f"tar-endless-name-{name}", _given(lambda kind=kind: _endless(kind)), (MISSING, "damaged file"), good=-1
        )
    yield Case("tar-large-name", _large, (MISSING, "damaged file"), good=-1)


def _chain(kind: bytes = b"x") -> bytes:
    """Thousands of headers, each about the next."""
    text = b"12 a=bcdefg\n" if kind == b"x" else b"name\0"
    head = info("h", kind, size=len(text)).tobuf(tarfile.USTAR_FORMAT) + text + bytes(BLOCK - len(text))
    whole = _three()
    at = whole.index(b"m.jpg")
    return whole[:at] + head * 5000 + whole[at:]


def _endless(kind: bytes) -> bytes:
    """A name of four gigabytes."""
    whole = _three()
    at = whole.index(b"m.jpg")
    return whole[:at] + info("h", kind, size=2**32).tobuf(tarfile.USTAR_FORMAT) + whole[at:]


def _large(folder: Path) -> Sequence[str]:
    """A name of a terabyte, all of it there: the tar has a hole."""
    whole = _three()
    at = whole.index(b"m.jpg")
    given = _given(whole[:at] + info("h", b"L", size=2**31).tobuf(tarfile.USTAR_FORMAT))(folder)
    with open(folder / "images.tar", "r+b") as file:
        file.truncate(2**32)
    return given


def _others() -> Iterator[Case]:
    whole = packed(*good(("m.jpg", jpeg("green"))))
    made = {
        "gzip": gzip.compress(whole),
        "bzip2": bz2.compress(whole),
        "xz": lzma.compress(whole),
        "zstandard": b"\x28\xb5\x2f\xfd" + bytes(100),
        "zip": b"PK\x03\x04" + bytes(600),
        "empty": b"",
        "text": b"these are words\n" * 100,
        "noise": np.random.default_rng(0).bytes(5000),
        "picture": jpeg(),
    }
    for name, data in made.items():
        yield refused(f"tar-is-{name}", _given(data), "not a tar|compressed|empty|holds")
    yield refused("tar-of-nothing", _given(packed()), "usable|not a tar|holds no|empty")
    yield refused("tar-of-zeros", _given(bytes(20_000)), "usable|not a tar|holds no|empty")
    bomb = gzip.compress(bytes(2**20) * 1, 9)
    yield refused("tar-bomb", _given(bomb * 200, tar="images.tar.gz"), "compressed")
