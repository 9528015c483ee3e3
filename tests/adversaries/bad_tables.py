"""Tables, lists of captions, and captions beside features."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from bad_case import ROW, Case, Write, either, fine, listed, refused, written
from bad_features import npy

__all__ = ["table_cases"]


def table_cases() -> list[Case]:
    return [*_tables(), *_tokens(), *_precomp()]


GOOD = b"image,caption\na.jpg,a red dog\n"
END = b"z.jpg,a blue cat\n"


def _tables() -> Iterator[Case]:
    def given(middle: bytes, name: str = "data.csv") -> Write:
        return written({name: GOOD + middle + END})

    bad: dict[str, tuple[bytes, tuple[str, ...]]] = {
        "too-few": (b"m.jpg\n", ("half a row",)),
        "too-many": (b"m.jpg,x,y,z\n", ("row too long",)),
        "open-quote": (b'm.jpg,"never closed\n', ("not a row",)),
        "quote-behind": (b'm.jpg,"x"y\n', ("not a row",)),
        "latin-1": ("m.jpg,été\n".encode("latin-1"), ("not UTF-8",)),
        "nul": (b"m\0.jpg,x\n", ("outside the folder", "not a row", "bad image")),
        "nuls": (b"\0" * 100 + b"\n", ("half a row", "not a row")),
        "no-caption": (b"m.jpg,\n", ("no captions", "empty caption")),
        "blank-caption": (b'm.jpg,"  "\n', ("no captions", "empty caption")),
        "no-image": (b",x\n", ("no image",)),
        "up": (b"../m.jpg,x\n", ("outside the folder",)),
        "absolute": (b"/etc/passwd,x\n", ("outside the folder",)),
        "megabytes": (b"m.jpg," + b"x" * (2 * 2**20) + b"\n", ("line too long",)),
        "many-cells": (b"," * 500_000 + b"\n", ("row too long",)),
        "many-quotes": (b'"' * 99_999 + b"\n", ("not a row", "half a row")),
    }
    for name, (line, kinds) in bad.items():
        yield listed(f"table-{name}", given(line), *kinds, line=3)
    odd = {
        "crlf": (GOOD + b"m.jpg,x\n" + END).replace(b"\n", b"\r\n"),
        "mark": b"\xef\xbb\xbf" + GOOD + b"m.jpg,x\n" + END,
        "formula": GOOD + b"=cmd|' /C calc'!A0,x\n" + END,
        "inner-newline": GOOD + b'm.jpg,"two\nlines"\n' + END,
        "blank-lines": GOOD + b"\n\n  \nm.jpg,x\n" + END,
        "semicolons": (GOOD + b"m.jpg,x\n" + END).replace(b",", b";"),
    }
    for name, data in odd.items():
        yield fine(f"table-{name}", written({"data.csv": data}))
    sixteen = GOOD.decode().encode("utf-16") + END
    yield either("table-of-two-encodings", written({"data.csv": sixteen}), "UTF", *ROW, "not UTF-8")
    yield listed(
        "table-two-splits",
        written({"d.csv": b"image,caption,split\na,x,train\na,y,val\nb,x,train\n"}),
        "another split",
        line=3,
    )
    yield either("table-open-quote-of-100-MB", _endless_quote, "problems and 0 usable", "not a row", "line too long")
    headers = {
        "empty": b"",
        "blank": b"\n\n\n",
        "only-header": b"image,caption\n",
        "twice": b"image,image,caption\na,b,c\n",
        "unknown": b"a,b\n1,2\n",
        "open": b'image,"caption\na.jpg,x\n',
        "utf-16": (GOOD + END).decode().encode("utf-16"),
        "binary": np.random.default_rng(0).bytes(5000),
        "nuls": bytes(5000),
        "carriage-returns": (GOOD + END).replace(b"\n", b"\r"),
        "gzip-cut": gzip.compress(GOOD + END)[:12],
        "xlsx": b"PK\x03\x04" + bytes(2000),
        "html": b"<html><table><tr><td>image</td></tr></table></html>",
        "wide": b",".join(b"c%d" % n for n in range(100_000)) + b"\n",
    }
    for name, data in headers.items():
        yield refused(f"table-header-{name}", written({"data.csv": data}), ".")
    yield refused("table-bomb", written({"data.csv.gz": lambda: gzip.compress(b"a" * (400 * 2**20), 1)}), ".")


def _endless_quote(folder: Path) -> Sequence[str]:
    with open(folder / "data.csv", "wb") as file:
        file.write(GOOD + b'm.jpg,"')
        for _ in range(100):
            file.write((b"x" * 1023 + b"\n") * 1024)
        file.write(END)
    return ["data.csv"]


def _tokens() -> Iterator[Case]:
    good, end = b"a.jpg#0\ta red dog\n", b"z.jpg#0\ta blue cat\n"

    def given(middle: bytes) -> Write:
        return written({"own.token.txt": good + middle + end}, "own.token.txt")

    bad: dict[str, tuple[bytes, tuple[str, ...]]] = {
        "no-tab": (b"m.jpg#0a green bird\n", ("bad line",)),
        "no-number": (b"m.jpg\tx\n", ("bad line",)),
        "number-of-letters": (b"m.jpg#x\ty\n", ("bad line",)),
        "long-number": (b"m.jpg#" + b"9" * 5000 + b"\ty\n", ("bad line",)),
        "no-name": (b"#0\ty\n", ("bad line",)),
        "words": (b"just words\n", ("bad line",)),
        "latin-1": ("m.jpg#0\tété\n".encode("latin-1"), ("not UTF-8",)),
        "nuls": (b"\0" * 50 + b"\n", ("bad line",)),
        "up": (b"../m.jpg#0\tx\n", ("outside the folder",)),
        "twice": (b"a.jpg#0\tagain\n", ("repeated id",)),
        "empty-caption": (b"m.jpg#0\t\n", ("empty caption", "bad line", "no captions")),
        "too-long": (b"m.jpg#0\t" + b"x" * (65 * 2**20) + b"\n", ("line too long",)),
        "many-signs": (b"#" * 300_000 + b"\n", ("bad line",)),
        "many-blanks": (b"m.jpg#1" + b" " * 300_000 + b"\n", ("bad line", "empty caption", "no captions")),
    }
    for name, (line, kinds) in bad.items():
        yield listed(f"tokens-{name}", given(line), *kinds)
    yield fine("tokens-crlf", written({"t.txt": (good + b"m.jpg#0\tx\n" + end).replace(b"\n", b"\r\n")}))
    yield fine("tokens-mark", written({"t.txt": b"\xef\xbb\xbf" + good + b"m.jpg#0\tx\n" + end}))
    lists = {"t.token": good + b"m.jpg#0\tx\n" + end, "train.txt": b"\xff\xfe\0", "val.txt": b"nobody.jpg\n" * 5000}
    yield Case("tokens-bad-lists-of-splits", written(lists), ("not UTF-8", "unknown image", "no such image"), good=-1)
    for name, data in {"empty": b"", "blank": b"\n\n", "binary": bytes(range(256)) * 30}.items():
        yield refused(f"tokens-{name}", written({"t.token": data}, "t.token", "--format", "tokens"), ".")
    heading = b"image_name| comment_number| comment\n"
    for name, line in {"piped-no-number": b"m.jpg| x| y\n", "piped-no-bars": b"m.jpg x y\n"}.items():
        rows = heading + b"a.jpg| 0| a dog\n" + line + b"z.jpg| 0| a cat\n"
        yield listed(f"tokens-{name}", written({"results.csv": rows}), "bad line", line=3)


def _precomp() -> Iterator[Case]:
    def given(features: bytes | Callable[[], bytes], captions: bytes, **more: bytes) -> Write:
        files = {"p/dev_ims.npy": features, "p/dev_caps.txt": captions}
        return written({**files, **{f"p/dev_{name}.txt": data for name, data in more.items()}}, "p")

    def ones(*shape: int) -> bytes:
        return npy(np.ones(shape, np.float32))

    lines = b"a red dog\na green bird\na blue cat\n"
    yield fine("precomp-three", given(npy(np.random.default_rng(0).random((3, 2, 4), np.float32)), lines))
    hole = np.random.default_rng(0).random((3, 2, 4), np.float32)
    hole[1, 1, 1] = np.nan
    yield listed("precomp-nan", given(npy(hole), lines), "bad features")
    yield listed("precomp-empty-caption", given(ones(3, 2, 4), b"a red dog\n\na blue cat\n"), "empty caption", good=-1)
    yield listed(
        "precomp-latin-1",
        given(ones(3, 2, 4), b"a red dog\n\xe9t\xe9\na blue cat\n"),
        "not UTF-8",
        "caption is not text",
        good=-1,
    )
    wrong = {
        "rows": given(ones(7, 2, 4), lines),
        "no-rows": given(ones(0, 2, 4), lines),
        "no-captions": given(ones(3, 2, 4), b""),
        "objects": given(npy(np.array([None] * 3, dtype=object)), lines),
        "pickle": given(b"cos\nsystem\n(S'true'\ntR.", lines),
        "cut": given(ones(3, 2, 4)[:-9], lines),
        "petabytes": given(
            npy(np.ones((3, 2, 4), np.float32)).replace(b"(3, 2, 4), }  ", b"(3333, 2222, 4), }"), lines
        ),
        "one-axis": given(ones(3), lines),
        "scalar": given(npy(np.float32(1)), lines),
        "text": given(b"1 2 3", lines),
        "integers": given(npy(np.ones((3, 2, 4), np.int64)), lines),
        "too-few-ids": given(ones(3, 2, 4), lines, ids=b"1\n"),
        "ids-of-nothing": given(ones(3, 2, 4), lines, ids=b""),
        "ids-binary": given(ones(3, 2, 4), lines, ids=b"\xff\n\xfe\n\xfd\n"),
    }
    for name, write in wrong.items():
        yield either(f"precomp-{name}", write, ".", *ROW, "bad features", "not UTF-8")
    yield either("precomp-ids-twice", given(ones(3, 2, 4), lines, ids=b"1\n1\n2\n"), ".", *ROW)
    yield listed("precomp-ids-up", given(ones(3, 2, 4), lines, ids=b"1\n../../x.jpg\n3\n"), *ROW, good=-1)
    yield refused("precomp-pipe", _precomp_pipe, ".")


def _precomp_pipe(folder: Path) -> Sequence[str]:
    os.mkfifo(folder / "dev_ims.npy")
    (folder / "dev_caps.txt").write_bytes(b"x\n")
    return ["."]
