"""Names of pictures that lead out, hold what names should not, or are no files."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bad_case import Case, Write, data_set, fine, jpeg, listed, refused, rows
from bad_pictures import UNREADABLE, One

__all__ = ["name_cases"]


def name_cases() -> list[Case]:
    return list(_names())


def _row(value: object, *kinds: str, make: Callable[[Path], object] | None = None) -> Write:
    """A row whose picture has this name, with something made in the folder of the pictures."""

    def write(folder: Path) -> Sequence[str]:
        given = data_set(folder, rows({"image": value, "captions": ["x"]}), {})
        if make is not None:
            make(folder / "images")
        return given

    return write


def _names() -> Iterator[Case]:
    outside = {
        "up": "../secret.jpg",
        "up-and-up": "../" * 40 + "etc/passwd",
        "up-inside": "x/../../secret.jpg",
        "absolute": "/etc/passwd",
        "drive": "C:\\secret.jpg",
        "share": "\\\\server\\share\\x.jpg",
        "backslashes": "..\\secret.jpg",
        "nul": "a\0.jpg",
        "only-up": "..",
    }
    for name, value in outside.items():
        make = _row(value, make=lambda images: (images.parent / "secret.jpg").write_bytes(jpeg("green")))
        yield listed(f"name-{name}", make, "outside the folder", line=2)
    missing = {
        "nowhere": "nowhere.jpg",
        "dot": ".",
        "below-a-file": "a.jpg/b.jpg",
        "256-bytes": "x" * 252 + ".jpg",
        "five-thousand-deep": "x/" * 5000 + "a.jpg",
        "a-megabyte": "x" * 2**20,
        "web": "https://127.0.0.1/x.jpg",
        "file-scheme": "file:///etc/passwd",
        "two-dots-of-unicode": "\u2025/\uff0e\uff0e/secret.jpg",
        "percent": "%2e%2e/secret.jpg",
        "shell": "$(touch hacked).jpg; rm -rf .",
        "markup": "<script>alert(1)</script>",
        "escapes": "\x1b[31m\x1b]0;title\x07.jpg",
        "newline": "\n/etc/passwd",
        "turned-round": "gpj.\u202eexe",
    }
    for name, value in missing.items():
        kinds = ("missing picture", "outside the folder", "bad image", "no image")
        yield listed(f"name-{name}", _row(value), *kinds, line=2)
    wrong: dict[str, object] = {
        "null": None,
        "empty": "",
        "list": ["a.jpg"],
        "object": {"path": "a.jpg"},
        "half-a-surrogate-pair": "\ud800.jpg",
        "byte-that-is-no-text": "\udcff.jpg",
        "true": True,
        "number": 7,
        "long-number": 10**400,
    }
    for name, value in wrong.items():
        yield listed(f"name-{name}", _row(value), "no image", "bad image", "missing picture", "not JSON", line=2)
    odd = {
        "newlines": "two\nlines\r.jpg",
        "quotes": "'\"`.jpg",
        "255-bytes": "x" * 251 + ".jpg",
        "right-to-left": "\u202egpj.cod\u202c.jpg",
        "no-letters": " .jpg",
        "dots": "....jpg",
        "dash": "-rf.jpg",
        "percent-s": "%s%n%d.jpg",
        "colon": "12:30.jpg",
        "emoji": "\U0001f600.jpg",
        "control": "\x01\x7f\x85.jpg",
        "marks": "e\u0301\ufeff\u200b.jpg",
        "star": "*?[a].jpg",
        "tilde": "~root.jpg",
        "backslash": "a\\b.jpg",
    }
    for name, value in odd.items():
        yield fine(f"odd-name-{name}", One(value, jpeg("green")))
    yield from _kinds_of_files()


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        # A path of a socket is at most a hundred bytes long.
        here = os.open(path.parent, os.O_RDONLY)
        try:
            made.bind(f"/proc/self/fd/{here}/{path.name}")
        finally:
            os.close(here)


def _loop(images: Path) -> None:
    (images / "x.jpg").symlink_to("y.jpg")
    (images / "y.jpg").symlink_to("x.jpg")


def _link(goal: str) -> Callable[[Path], object]:
    return lambda images: (images / "x.jpg").symlink_to(goal)


def _kinds_of_files() -> Iterator[Case]:
    made: dict[str, Callable[[Path], object]] = {
        "folder": lambda images: (images / "x.jpg").mkdir(),
        "pipe": lambda images: os.mkfifo(images / "x.jpg"),
        "socket": lambda images: _socket(images / "x.jpg"),
        "link-out": _link("/etc/passwd"),
        "link-up": _link("../data.jsonl"),
        "link-to-itself": _link("x.jpg"),
        "links-in-a-circle": _loop,
        "link-to-nothing": _link("nothing.jpg"),
        "link-to-a-device": _link("/dev/zero"),
        "link-to-standard-input": _link("/dev/stdin"),
        "link-to-memory": _link("/proc/self/mem"),
        "link-to-a-folder": _link("."),
        "link-through-out": _link("../../../../../../etc/../etc/passwd"),
    }
    for name, make in made.items():
        yield listed(f"file-{name}", _row("x.jpg", make=make), "missing picture", "outside the folder", line=2)
    yield fine("file-link-inside", _row("x.jpg", make=_inner))
    yield listed("file-sparse", _row("x.jpg", make=_sparse), UNREADABLE, line=2)
    yield listed(
        "file-tree-in-a-circle", _row("b/b/b/x.jpg", make=lambda i: (i / "b").symlink_to(".")), "missing picture"
    )
    yield refused("images-is-a-file", lambda f: [*data_set(f, rows()), "--images", "data.jsonl"], "not a tar|pictures")
    yield refused("images-is-missing", lambda f: [*data_set(f, rows()), "--images", "no"], "no such")
    yield refused(
        "images-is-a-device", lambda f: [*data_set(f, rows()), "--images", "/dev/zero"], "device|expected a file"
    )
    yield refused("images-is-a-pipe", _pipe_of_images, "pipe|expected a file")


def _inner(images: Path) -> None:
    (images / "below").mkdir()
    (images / "below" / "real.jpg").write_bytes(jpeg("green"))
    (images / "x.jpg").symlink_to("below/real.jpg")


def _sparse(images: Path) -> None:
    with open(images / "x.jpg", "wb") as file:
        file.write(jpeg("green"))
        file.truncate(2**40)


def _pipe_of_images(folder: Path) -> Sequence[str]:
    os.mkfifo(folder / "pipe.tar")
    return [*data_set(folder, rows()), "--images", "pipe.tar"]
