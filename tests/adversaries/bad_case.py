"""What a bad file is to the tests: how it is written, what is asked, and what must be said of it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

__all__ = [
    "ODD",
    "ROW",
    "Case",
    "Write",
    "changed",
    "data_set",
    "either",
    "fine",
    "jpeg",
    "listed",
    "plain_json",
    "refused",
    "rows",
    "saved",
    "written",
]

Write = Callable[[Path], Sequence[str]]
"""Writes files into an empty folder and says what stands on the command line after `check`."""


@dataclass(frozen=True)
class Case:
    """One bad file (or one that only looks bad).

    Attributes:
        name: of the test.
        write: makes the files.
        kinds: one of these must be listed; empty when nothing may be.
        line: the line it must be listed at; None: any, or none.
        good: usable images; of a refused case none; -1 where libraries differ: listed, or nothing wrong with it.
        refused: a pattern of the one line that must be said; empty when the data are to be read.
        fine: nothing is wrong with it after all.
        room: MiB of memory it may take.
    """

    name: str
    write: Write
    kinds: tuple[str, ...] = ()
    line: int | None = None
    good: int = 2
    refused: str = ""
    fine: bool = False
    room: int = 300


def listed(name: str, write: Write, *kinds: str, line: int | None = None, good: int = 2, room: int = 300) -> Case:
    """A bad row among good ones: it is left out, told by kind, and the others stay."""
    return Case(name, write, kinds, line, good, room=room)


def refused(name: str, write: Write, pattern: str, room: int = 300) -> Case:
    """A file of which nothing can be used: one line and exit code 2."""
    return Case(name, write, refused=pattern, good=0, room=room)


def fine(name: str, write: Write, good: int = 3, room: int = 300) -> Case:
    """A file that only looks bad: read whole, nothing listed."""
    return Case(name, write, good=good, fine=True, room=room)


def either(name: str, write: Write, pattern: str, *kinds: str) -> Case:
    """What some version of a library reads and another refuses."""
    return Case(name, write, kinds, good=-1, refused=pattern)


def saved(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def jpeg(colour: str = "red") -> bytes:
    return saved(Image.new("RGB", (16, 12), colour), "JPEG")


def rows(*values: Any) -> bytes:
    """Lines of JSON, between two good ones; bytes stand as they are."""
    good = [{"image": "a.jpg", "captions": ["a red dog"]}, {"image": "z.jpg", "captions": ["a blue cat"]}]
    lines = [good[0], *values, good[1]]
    return b"\n".join(v if isinstance(v, bytes) else json.dumps(v).encode() for v in lines) + b"\n"


def data_set(folder: Path, text: bytes, pictures: Mapping[str, bytes] | None = None) -> list[str]:
    """`data.jsonl` with pictures in `images/`, where there are any; the good ones are made here."""
    (folder / "data.jsonl").write_bytes(text)
    if pictures is not None:
        (folder / "images").mkdir()
        for name, data in {"a.jpg": jpeg("red"), "z.jpg": jpeg("blue"), **pictures}.items():
            (folder / "images" / name).write_bytes(data)
    return ["data.jsonl"]


def written(files: Mapping[str, bytes | Callable[[], bytes]], *args: str) -> Write:
    """These files, and what is given: the first of them unless told."""

    def write(folder: Path) -> Sequence[str]:
        for name, data in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data if isinstance(data, bytes) else data())
        return args or (next(iter(files)),)

    return write


def changed(value: Any, *way: Any) -> Any:
    """The value with what lies at the way's steps replaced by its last one; `...` there takes it out."""
    *steps, last, new = way
    out = json.loads(json.dumps(value))
    at = out
    for step in steps:
        at = at[step]
    if new is ...:
        del at[last]
    else:
        at[last] = new
    return out


ODD: dict[str, Any] = {
    "null": None,
    "true": True,
    "number": 5,
    "fraction": 0.5,
    "text": "x",
    "list": [],
    "object": {},
    "half-a-pair": "\ud800",
    "list-of-null": [None],
    "nothing": ...,
}
"""Values where others are expected; `...` is none at all."""

ROW = (
    "not an object", "bad id", "bad file name", "bad metadata", "no image", "no captions", "repeated id",
    "caption is not text", "empty caption", "bad split", "bad labels", "bad image", "outside the folder",
    "bad captions", "unknown image", "bad annotation", "no such image",
)  # fmt: skip
"""Kinds of what can be wrong with a row of any format."""


def plain_json(value: Any) -> bytes:
    """As bytes; what is bytes already stays as it is."""
    return value if isinstance(value, bytes) else json.dumps(value).encode()
