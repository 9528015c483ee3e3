"""JSON Lines that are cut, mixed, nested, repeated or of other types than they should be."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bad_case import Case, Write, fine, listed, refused, rows

__all__ = ["line_cases"]


def line_cases() -> list[Case]:
    return [*_lines(), *_types(), *_encodings(), *_packed(), *_files(), *_fields()]


def _text(data: bytes | Callable[[], bytes], name: str = "data.jsonl", *options: str) -> Write:
    def write(folder: Path) -> Sequence[str]:
        (folder / name).write_bytes(data if isinstance(data, bytes) else data())
        return [name, *options]

    return write


def _row(**fields: Any) -> dict[str, Any]:
    return {"image": "m.jpg", "captions": ["a green bird"]} | fields


def _lines() -> Iterator[Case]:
    bad: dict[str, tuple[bytes, str]] = {
        "half-a-line": (b'{"image": "m.jpg", "captions": ["a gre', "not JSON"),
        "no-quotes": (b"{image: m.jpg}", "not JSON"),
        "single-quotes": (b"{'image': 'm.jpg', 'captions': ['x']}", "not JSON"),
        "comma-behind": (b'{"image": "m.jpg", "captions": ["x"],}', "not JSON"),
        "comment": (b"// a comment", "not JSON"),
        "two-on-a-line": (b'{"image": "m", "captions": "x"} {"image": "n", "captions": "x"}', "not JSON"),
        "words": (b"just words", "not JSON"),
        "python": (b"{'a': None, 'b': True}", "not JSON"),
        "nan": (b'{"image": "m", "captions": ["x"], "n": NaN}', "not JSON"),
        "infinity": (b'{"image": "m", "captions": ["x"], "n": Infinity}', "not JSON"),
        "minus-infinity": (b'{"image": "m", "captions": ["x"], "n": -Infinity}', "not JSON"),
        "too-large": (b'{"image": "m", "captions": ["x"], "n": 1e999}', "not JSON"),
        "too-large-and-negative": (b'{"image": "m", "captions": ["x"], "n": -1e999999999}', "not JSON"),
        "too-many-digits": (b'{"image": "m", "captions": ["x"], "n": ' + b"9" * 100_000 + b"}", "not JSON"),
        "leading-zero": (b'{"image": 007, "captions": ["x"]}', "not JSON"),
        "hexadecimal": (b'{"image": 0xff, "captions": ["x"]}', "not JSON"),
        "control-characters": (b'{"image": "m", "captions": ["a\x01b"]}', "not JSON"),
        "tab-inside": (b'{"image": "m", "captions": ["a\tb"]}', "not JSON"),
        "bad-escape": (b'{"image": "m", "captions": ["\\x41"]}', "not JSON"),
        "half-escape": (b'{"image": "m", "captions": ["\\u12"]}', "not JSON"),
        "deep-lists": (b"[" * 100_000, "not JSON"),
        "deep-lists-closed": (b"[" * 100_000 + b"]" * 100_000, "not JSON"),
        "deep-objects": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "not JSON"),
        "deep-captions": (b'{"image": "m", "captions": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", "not JSON"),
        "nuls": (b"\0" * 500, "not JSON"),
        "nul-behind": (json.dumps(_row()).encode() + b"\0", "not JSON"),
        "mark-inside": (b"\xef\xbb\xbf" + json.dumps(_row()).encode(), "not JSON"),
        "escape-character": (b"\x1b[2J" + json.dumps(_row()).encode(), "not JSON"),
        "list": (b'["m.jpg", "x"]', "not an object"),
        "text": (b'"m.jpg"', "not an object"),
        "number": (b"12", "not an object"),
        "null": (b"null", "not an object"),
        "latin-1": ('{"image": "m", "captions": ["été"]}'.encode("latin-1"), "not UTF-8"),
        "utf-16-line": (json.dumps(_row()).encode("utf-16-le"), "not JSON"),
        "overlong": (b'{"image": "\xc0\xae\xc0\xae/m", "captions": ["x"]}', "not UTF-8"),
        "surrogate-as-bytes": (b'{"image": "\xed\xa0\x80", "captions": ["x"]}', "not UTF-8"),
        "cut-character": ('{"image": "m", "captions": ["狗'.encode()[:-1] + b'"]}', "not UTF-8"),
        "random-bytes": (bytes(range(128, 256)) * 20, "not UTF-8"),
        "empty-object": (b"{}", "no image"),
    }
    for name, (line, kind) in bad.items():
        yield listed(f"line-{name}", _text(rows(line)), kind, line=2)
    yield listed("line-cut-at-the-end", _text(rows()[:-20]), "not JSON", line=2, good=1)
    yield listed("line-control-z-at-the-end", _text(rows() + b"\x1a"), "not JSON", line=3)
    yield listed("line-conflict", _text(rows(b"<<<<<<< HEAD", b"=======", b">>>>>>> b")), "not JSON", line=4)
    yield listed(
        "line-too-long", _text(lambda: rows(b'{"x": "' + b"y" * (65 * 2**20) + b'"}')), "line too long", line=2
    )
    yield fine("line-caption-of-a-megabyte", _text(rows(_row(captions=["word " * 200_000]))))
    yield fine("line-hundred-thousand-captions", _text(rows(_row(captions=["x"] * 100_000))))
    yield fine("line-blank", _text(rows(b"", b"   ", b"\t", b"\r", _row())))
    yield fine("line-keys-twice", _text(rows(b'{"image": "k", "captions": ["x"], "image": "m", "a": 1, "a": 2}')))
    yield fine("line-unused-depth", _text(rows(_row(deep=json.loads("[" * 200 + "]" * 200)))))
    yield fine("line-many-fields", _text(rows(_row(**{f"field {n}": n for n in range(20_000)}))))
    yield fine("line-long-field-name", _text(rows(_row(**{"x" * 100_000: 1}))))
    yield fine("line-every-escape", _text(rows(_row(captions=['\\ " / \b\f\n\r\t \u2028\u2029 \U0001f600']))))
    yield fine("line-no-newline-at-the-end", _text(rows(_row()).rstrip()))


def _types() -> Iterator[Case]:
    odd: dict[str, Any] = {
        "null": None,
        "true": True,
        "number": 5,
        "fraction": 0.5,
        "text": "x",
        "empty-text": "",
        "blank-text": " \t\n",
        "empty-list": [],
        "empty-object": {},
        "object": {"raw": "x"},
        "list-of-null": [None],
        "list-of-numbers": [1, 2.5, True],
        "list-of-lists": [["x"], []],
        "list-of-objects": [{"raw": "x"}],
        "list-of-empty": ["", " "],
        "half-a-pair": ["\ud83d"],
        "low-half": "\udc00",
        "huge": 10**4000,
    }
    kinds = ("no captions", "caption is not text", "empty caption")
    for name, value in odd.items():
        if name not in ("text", "null"):
            yield listed(f"captions-{name}", _text(rows(_row(captions=value))), *kinds, line=2)
    yield fine("captions-null", _text(rows(_row(captions=None))))
    yield fine("captions-text", _text(rows(_row(captions="x"))))
    yield listed("captions-none-there", _text(rows({"image": "m.jpg"})), "no captions", line=2)
    mixed = ["fine", None, 3, "", "\ud800", ["x"], {"a": 1}]
    yield listed("captions-mixed", _text(rows(_row(captions=mixed))), "caption is not text", line=2, good=3)
    for field, wrong in (
        ("id", {"object", "list-of-null", "half-a-pair", "low-half", "list-of-numbers"}),
        ("split", {"object", "list-of-null", "half-a-pair", "low-half", "list-of-numbers"}),
        ("labels", {"object", "list-of-null", "list-of-lists", "list-of-objects", "half-a-pair"}),
    ):
        for name in sorted(wrong):
            write = _text(rows(_row(**{field: odd[name]})))
            yield listed(f"{field}-{name}", write, f"bad {field}", line=2)
    yield listed("metadata-half-a-pair", _text(rows(_row(note={"a": ["\ud83d"]}))), "bad metadata", line=2)
    yield listed("metadata-name-half-a-pair", _text(rows(_row(**{"\ud83d": 1}))), "bad metadata", line=2)
    yield listed("id-repeated", _text(rows(_row(id="i"), _row(id="i"))), "repeated id", line=3, good=3)
    yield listed("id-number-and-text", _text(rows(_row(id=7), _row(id="7"))), "repeated id", line=3, good=3)
    yield listed("id-of-another-image", _text(rows(_row(id="a.jpg"))), "repeated id", line=2)
    yield listed("image-repeated", _text(rows(_row(image="a.jpg"))), "repeated id", line=2)
    yield fine("id-of-a-caption", _text(rows(_row(id="a.jpg#0"))))
    yield fine("id-strange", _text(rows(_row(id="../../etc/passwd\n\0\u202e"))))
    yield fine("id-true", _text(rows(_row(id=True))))
    yield fine("labels-number", _text(rows(_row(labels=7))))
    yield fine("split-strange", _text(rows(_row(split="../\n\0"))))


def _encodings() -> Iterator[Case]:
    text = rows(_row()).decode()
    yield fine("encoding-mark", _text(b"\xef\xbb\xbf" + text.encode()))
    yield fine("encoding-crlf", _text(text.replace("\n", "\r\n").encode()))
    yield fine("encoding-mixed-ends", _text(text.replace("\n", "\r\n", 1).encode()))
    yield fine("encoding-not-ascii", _text(rows(_row(captions=["犬 été \U0001f600 ‮rtl"]))))
    yield refused("encoding-carriage-returns", _text(text.replace("\n", "\r").encode()), "is usable|not JSON")
    for name in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-7", "cp037"):
        given = text.replace("green", "grün").encode(name)
        if name == "utf-7":
            yield fine(f"encoding-{name}", _text(given))
        else:
            yield refused(f"encoding-{name}", _text(given), "is usable|UTF|known")
    mixed = rows(_row(), '{"image": "l", "captions": ["été"]}'.encode("latin-1"), json.dumps(_row()).encode("utf-16"))
    yield listed("encoding-mixed", _text(mixed), "not UTF-8", line=3, good=3)


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, 9, mtime=0)


def _zeros(mib: int, what: bytes) -> bytes:
    """A gzip stream of so many MiB of the same byte."""
    packer = zlib.compressobj(9, wbits=31)
    return b"".join(packer.compress(what * 2**20) for _ in range(mib)) + packer.flush()


def _packed() -> Iterator[Case]:
    whole = _gzip(rows(*[_row(id=str(n), noise=os.urandom(40).hex()) for n in range(200)]))
    for part in (0.3, 0.6, 0.9):
        cut = whole[: int(len(whole) * part)]
        yield listed(f"gzip-cut-{part}", _text(cut, "data.jsonl.gz"), "damaged file", "not JSON", good=-1)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0x55
    yield listed(
        "gzip-flipped", _text(bytes(flipped), "data.jsonl.gz"), "damaged file", "not JSON", "not UTF-8", good=-1
    )
    wrong = whole[:-8] + b"\0\0\0\0" + whole[-4:]
    yield listed("gzip-wrong-checksum", _text(wrong, "data.jsonl.gz"), "damaged file", good=202)
    yield listed("gzip-more-behind", _text(whole + b"behind", "data.jsonl.gz"), "damaged file", good=202)
    yield fine("gzip-without-its-suffix", _text(whole), good=202)
    yield fine("gzip-of-two-members", _text(_gzip(rows()) + _gzip(json.dumps(_row()).encode()), "data.jsonl.gz"))
    yield refused("gzip-empty", _text(b"", "data.jsonl.gz"), "holds no|empty|no lines")
    yield refused("gzip-only-a-head", _text(b"\x1f\x8b\x08", "data.jsonl.gz"), "usable|breaks off|damaged")
    yield refused("gzip-in-gzip", _text(_gzip(whole), "data.jsonl.gz"), "usable|known")
    yield refused("gzip-suffix-only", _text(b"PK\x03\x04zip", "data.jsonl.gz"), "usable|known")
    bomb = _zeros(400, b"a")
    yield refused("bomb-one-line", _text(bomb, "data.jsonl.gz"), "usable|too long")
    yield refused("bomb-zeros", _text(_zeros(400, b"\0"), "data.jsonl.gz"), "usable|too long")
    behind = _gzip(rows()) + bomb
    yield listed("bomb-behind-good-lines", _text(behind, "data.jsonl.gz"), "line too long", line=3)
    listing = _gzip(b'{"image": "m", "captions": ["x"], "n": [') + _zeros(60, b"1,") + _gzip(b"1]}\n")
    yield listed("bomb-long-list", _text(_gzip(rows()) + listing, "d.jsonl.gz"), "line too long", line=3)


def _files() -> Iterator[Case]:
    yield refused("file-empty", _text(b""), "no lines|empty|holds no")
    yield refused("file-blank", _text(b"\n \n\t\n"), "no lines|empty|holds no")
    yield refused("file-only-a-mark", _text(b"\xef\xbb\xbf"), "no lines|empty|holds no")
    yield refused("file-nothing-good", _text(b"{\n[\n1\n"), "usable")
    yield refused("file-missing", lambda folder: ["nothing.jsonl"], "no such")
    yield refused("file-misspelt", lambda folder: (_text(rows())(folder), ["dta.jsonl"])[1], "no such .*data.jsonl")
    yield refused("file-in-no-folder", lambda folder: ["no/where/data.jsonl"], "no such")
    yield refused(
        "file-below-a-file", lambda folder: (_text(rows())(folder), ["data.jsonl/x"])[1], "no such|not a folder"
    )
    yield refused("file-name-too-long", lambda folder: ["x" * 300 + ".jsonl"], "no such|cannot|too long")
    yield refused("file-is-a-device", lambda folder: ["/dev/zero"], "device|expected")
    yield refused("file-is-nothing", lambda folder: ["/dev/null"], "device|expected")
    yield refused("file-is-a-picture", _text(b"\x89PNG\r\n\x1a\n" + bytes(900), "x.jsonl"), "usable")
    yield refused("file-is-a-pipe", _pipe, "pipe|expected")
    yield refused("lines-link-to-itself", _circle, "cannot|no such|loop|symbolic")
    yield refused(
        "lines-link-to-a-device", lambda f: ((f / "d.jsonl").symlink_to("/dev/zero"), ["d.jsonl"])[1], "device"
    )
    yield refused("lines-link-to-nothing", lambda f: ((f / "d.jsonl").symlink_to("x"), ["d.jsonl"])[1], "no such")


def _pipe(folder: Path) -> Sequence[str]:
    os.mkfifo(folder / "pipe.jsonl")
    return ["pipe.jsonl"]


def _circle(folder: Path) -> Sequence[str]:
    (folder / "a.jsonl").symlink_to("b.jsonl")
    (folder / "b.jsonl").symlink_to("a.jsonl")
    return ["a.jsonl"]


def _fields() -> Iterator[Case]:
    good = rows(_row(**{"\n": "x"}))
    yield refused("field-unknown", _text(good, "data.jsonl", "--field", "captions=nowhere"), "unknown|no field|usable")
    yield refused("field-ours-unknown", _text(good, "data.jsonl", "--field", "capt=x"), "unknown field")
    yield refused("field-no-sign", _text(good, "data.jsonl", "--field", "captions"), "expected")
    yield refused("field-nothing", _text(good, "data.jsonl", "--field", "="), "expected")
