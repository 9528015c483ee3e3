"""JSON Lines, plain or gzipped: one object an image. What `manymatch convert` writes."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, ClassVar

from ..files import first_bytes, read_objects, regular_file
from .base import Format, Row, Source
from .names import synonyms

__all__ = ["JsonLines", "JsonLinesSource"]

_SUFFIXES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
_OURS = frozenset({"image", "captions", "id"})


class JsonLinesSource(Source):
    """The lines of one file; `"captions": null` says that an image has none."""

    null_captions: ClassVar[bool] = True
    unit: ClassVar[str] = "lines"

    def __init__(self, path: Path) -> None:
        fields = list(dict.fromkeys(name for value in _first_objects(path) for name in value))
        names, seen = synonyms(fields)
        if fields:
            seen = (f"fields {', '.join(fields[:12])}{', ...' if len(fields) > 12 else ''}", *seen)
        super().__init__(path, names, seen)

    def rows(self) -> Iterator[Row]:
        for line in read_objects(self.path):
            yield Row(line.row, line.value, line.number, kind=line.kind, detail=line.detail)


class JsonLines(Format):
    """One JSON object a line: `image`, `captions`, and optional others."""

    name: ClassVar[str] = "jsonl"
    title: ClassVar[str] = "JSON Lines, one object an image"
    rank: ClassVar[int] = 10

    def sees(self, path: Path) -> str | None:
        head = first_bytes(path)
        if head is None:
            return None
        for suffix in _SUFFIXES:
            if path.name.lower().endswith(suffix):
                return f"a {suffix} file"
        # Whatever it is called: other JSON files may be one long line, which is an object too.
        first = next(iter(_objects(head)), {})
        return "lines of JSON objects" if _says_image(first) and "images" not in first else None

    def open(self, path: Path) -> Source:
        return JsonLinesSource(regular_file(path, "pairs"))


def _says_image(names: Collection[str]) -> bool:
    return bool(_OURS & set(names)) or bool(synonyms(list(names))[0])


def _first_objects(path: Path) -> Iterator[dict[str, Any]]:
    return _objects(first_bytes(path) or b"")


def _objects(head: bytes) -> Iterator[dict[str, Any]]:
    for line in head.removeprefix(b"\xef\xbb\xbf").splitlines():
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            yield value
