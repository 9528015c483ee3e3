"""Shards, and folders of photographs with words beside them."""

from __future__ import annotations

import gzip
import os
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bad_case import Case, Write, either, jpeg, refused, written
from bad_tars import info, packed

__all__ = ["folder_cases"]


def folder_cases() -> list[Case]:
    return [*_shards(), *_folders()]


def _sample(key: str, colour: str = "red", **more: bytes) -> list[tuple[str, bytes]]:
    parts: dict[str, bytes] = {"jpg": jpeg(colour), "txt": f"a {colour} field".encode()} | more
    return [(f"{key}.{suffix}", data) for suffix, data in parts.items()]


def _shards() -> Iterator[Case]:
    def given(*members: Any) -> Write:
        both = [*_sample("a"), *members, *_sample("z", "blue")]
        return written({"s/train-0.tar": packed(*both)}, "s")

    middle: dict[str, tuple[Any, ...]] = {
        "no-picture": (("m.txt", b"x"),),
        "picture-cut": (*_sample("m", jpg=jpeg("green")[:200]),),
        "picture-empty": (*_sample("m", jpg=b""),),
        "not-a-picture": (*_sample("m", jpg=b"<html>"),),
        "text-latin-1": (*_sample("m", "green", txt="été".encode("latin-1")),),
        "text-empty": (*_sample("m", "green", txt=b" "),),
        "text-huge": (*_sample("m", "green", txt=b"x" * (20 * 2**20)),),
        "json-half": (*_sample("m", "green", json=b'{"a": '),),
        "json-list": (*_sample("m", "green", json=b"[]"),),
        "json-deep": (*_sample("m", "green", json=b"[" * 100_000),),
        "json-nan": (*_sample("m", "green", json=b'{"a": NaN}'),),
        "json-half-a-pair": (*_sample("m", "green", json=b'{"a": "\\ud800"}'),),
        "json-wrong-types": (*_sample("m", "green", json=b'{"captions": 5, "split": [], "labels": {}, "id": {}}'),),
        "json-id-of-another": (*_sample("m", "green", json=b'{"id": "a.jpg"}'),),
        "pickle": (*_sample("m", "green", pyd=b"cos\nsystem\n(S'true'\ntR.", pickle=b"\x80\x04."),),
        "link-as-picture": (("m.txt", b"x"), info("m.jpg", tarfile.SYMTYPE, "/etc/passwd")),
        "device-as-text": (("m.jpg", jpeg("green")), info("m.txt", tarfile.CHRTYPE)),
        "name-up": (*_sample("../../m", "green"),),
        "name-absolute": (*_sample("/etc/m", "green"),),
        "class-not-text": (*_sample("m", "green", cls=b"\xff"),),
        "hidden": (*_sample(".m", "green"),),
        "no-suffix": (("m", b"x"),),
        "many-parts": (*[(f"m.{n}.txt", b"x") for n in range(3000)],),
        "long-digits": (("m.jpg", jpeg("green")), ("m." + "9" * 90 + ".txt", b"x"), ("m.²٣.txt", b"y")),
        "key-twice": (*_sample("a", "green"),),
    }
    kinds = (
        "missing picture",
        "unreadable picture",
        "caption is not text",
        "empty caption",
        "member too large",
        "not JSON",
        "not an object",
        "bad metadata",
        "bad split",
        "bad labels",
        "bad id",
        "repeated id",
        "several pictures",
        "no captions",
        "damaged file",
        "outside the folder",
        "duplicate image",
    )
    for name, members in middle.items():
        yield Case(f"shard-{name}", given(*members), kinds, good=-1)
    whole = packed(*_sample("a"), *_sample("m", "green"), *_sample("z", "blue"))
    for part in (0.3, 0.6):
        yield Case(f"shard-cut-{part}", written({"s-0.tar": whole[: int(len(whole) * part)]}), kinds, good=-1)
    both = {"s/0.tar": whole, "s/1.tar": b"no tar at all" * 99}
    yield either("shard-beside-a-bad-one", written(both, "s"), "not a tar|tar", "damaged file")
    yield either("shard-empty-beside", written({"s/0.tar": whole, "s/1.tar": b""}, "s"), "tar|empty", "damaged file")
    bad = {
        "empty.tar": b"",
        "zeros.tar": bytes(10_240),
        "noise.tar": np.random.default_rng(0).bytes(9000),
        "gzip.tar.gz": gzip.compress(whole),
        "gzip.tar": gzip.compress(whole),
        "bomb.tar.gz": gzip.compress(bytes(2**24)),
    }
    for name, data in bad.items():
        yield refused(f"shard-{name}", written({name: data}), ".")
    yield refused("shard-pattern-of-nothing", lambda f: ["s-{000..999}.tar"], ".")
    yield refused("shard-pattern-of-many", lambda f: ["s-{0..999999999}.tar"], ".")
    yield refused("shard-pattern-of-patterns", lambda f: ["{0..99999}" * 30 + ".tar"], ".")
    yield refused("shard-pattern-open", lambda f: ["s-{0..3.tar"], ".")


def _folders() -> Iterator[Case]:
    def given(files: Mapping[str, bytes], make: Callable[[Path], object] | None = None) -> Write:
        def write(folder: Path) -> Sequence[str]:
            written({"p/a.jpg": jpeg("red"), "p/z.jpg": jpeg("blue")})(folder)
            for name, data in files.items():
                (folder / "p" / name).write_bytes(data)
            if make is not None:
                make(folder / "p")
            return ["p"]

        return write

    kinds = (
        "unreadable picture",
        "missing picture",
        "outside the folder",
        "bad name",
        "bad image",
        "not UTF-8",
        "caption is not text",
        "empty caption",
        "no captions",
        "bad sidecar",
        "not a file",
        "duplicate image",
        "unreadable text",
        "unreadable table",
        "unreadable folder",
        "damaged file",
        "bad metadata",
        "line too long",
    )
    green = jpeg("green")
    photos: dict[str, Mapping[str, bytes]] = {
        "empty": {"m.jpg": b""},
        "cut": {"m.jpg": green[:300]},
        "page": {"m.jpg": b"<html>"},
        "sidecar-latin-1": {"m.jpg": green, "m.txt": "été".encode("latin-1")},
        "sidecar-utf-16": {"m.jpg": green, "m.txt": "a green bird".encode("utf-16")},
        "sidecar-empty": {"m.jpg": green, "m.txt": b""},
        "sidecar-binary": {"m.jpg": green, "m.txt": bytes(range(256)) * 50},
        "sidecar-huge": {"m.jpg": green, "m.txt": b"x" * (70 * 2**20)},
        "sidecar-of-nothing": {"m.txt": b"x"},
        "sidecar-mark": {"m.jpg": green, "m.txt": b"\xef\xbb\xbfa green bird\r\n"},
        "newline-in-name": {"m\n.jpg": green},
        "right-to-left": {"\u202egpj.m.jpg": green},
        "255-bytes": {"x" * 251 + ".jpg": green},
        "quotes": {"'\"`;.jpg": green},
        "star": {"*?[a].jpg": green},
        "backslash": {"..\\m.jpg": green},
        "drive": {"C:m.jpg": green},
        "no-text": {os.fsdecode(b"\xff\xfe.jpg"): green},
        "no-text-sidecar": {os.fsdecode(b"\xff.jpg"): green, os.fsdecode(b"\xff.txt"): b"x"},
        "hidden": {".m.jpg": green, "._m.jpg": b"\0\5\26\7", "Thumbs.db": b"\xd0\xcf", ".DS_Store": b"\0"},
        "two-suffixes": {"m.jpg": green, "m.png": green, "m.txt": b"x"},
        "upper": {"M.JPG": green},
        "exif-noise": {"m.jpg": green[:2] + b"\xff\xe1\x01\x00Exif\0\0" + b"\xff" * 248 + green[2:]},
        "iptc-noise": {"m.jpg": green[:2] + b"\xff\xed\x01\x00Photoshop 3.0\x008BIM" + b"\xff" * 236 + green[2:]},
        "xmp-bomb": {
            "m.jpg": green[:2]
            + b"\xff\xe1\x00\x60http://ns.adobe.com/xap/1.0/\0<!DOCTYPE l [<!ENTITY a 'x'>]>"
            + b" " * 13
            + green[2:]
        },
        "table-half": {"m.jpg": green, "captions.csv": b'image,caption\nm.jpg,"x'},
        "table-noise": {"m.jpg": green, "metadata.csv": bytes(range(256))},
        "table-of-others": {"m.jpg": green, "captions.csv": b"image,caption\n../m.jpg,x\nnobody.jpg,y\n"},
        "table-empty": {"m.jpg": green, "captions.csv": b""},
    }
    for name, files in photos.items():
        yield either(f"photos-{name}", given(files), ".", *kinds, "half a row", "not a row", "no image")
    made: dict[str, Callable[[Path], object]] = {
        "pipe": lambda p: os.mkfifo(p / "m.jpg"),
        "pipe-sidecar": lambda p: ((p / "m.jpg").write_bytes(green), os.mkfifo(p / "m.txt")),
        "link-out": lambda p: (p / "m.jpg").symlink_to("/etc/passwd"),
        "link-out-sidecar": lambda p: ((p / "m.jpg").write_bytes(green), (p / "m.txt").symlink_to("/etc/passwd")),
        "link-to-a-device": lambda p: (p / "m.jpg").symlink_to("/dev/zero"),
        "device-sidecar": lambda p: ((p / "m.jpg").write_bytes(green), (p / "m.txt").symlink_to("/dev/zero")),
        "link-to-itself": lambda p: (p / "m.jpg").symlink_to("m.jpg"),
        "folder-as-picture": lambda p: (p / "m.jpg").mkdir(),
        "folder-as-sidecar": lambda p: ((p / "m.jpg").write_bytes(green), (p / "m.txt").mkdir()),
        "circle": lambda p: (p / "below").symlink_to("."),
        "circle-up": lambda p: (p / "below").symlink_to(".."),
        "whole-disk": lambda p: (p / "below").symlink_to("/"),
        "deep": _deep,
        "closed": lambda p: (p / "below").mkdir(mode=0),
        "pipe-table": lambda p: os.mkfifo(p / "captions.csv"),
    }
    for name, make in made.items():
        yield either(f"photos-{name}", given({}, make), ".", *kinds)
    yield refused("photos-none", lambda f: ((f / "p").mkdir(), ["p"])[1], ".")
    yield refused("photos-all-bad", written({"p/a.jpg": b"", "p/b.jpg": b"x"}, "p"), "usable|known")


def _deep(folder: Path) -> None:
    """Five hundred folders in each other: a path longer than any call takes."""
    here = os.open(folder, os.O_RDONLY)
    try:
        for _ in range(500):
            os.mkdir("d" * 20, dir_fd=here)
            here, above = os.open("d" * 20, os.O_RDONLY, dir_fd=here), here
            os.close(above)
        with os.fdopen(os.open("m.jpg", os.O_WRONLY | os.O_CREAT, dir_fd=here), "wb") as file:
            file.write(jpeg("green"))
    finally:
        os.close(here)
