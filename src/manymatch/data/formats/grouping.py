"""Rows with one caption each, put together to images: what tables of every kind have in common."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..pairs import Problem
from .base import Row

__all__ = ["grouped"]

_OF_CAPTION = "caption_id"


def grouped(rows: Iterator[Row], names: Mapping[str, str], path: Path) -> Iterator[Row]:
    """Rows of the same image as one row, with all their captions in their order.

    Rows are of the same image when their image is, or, where there is none, their id. A field that is the same in all
    of them stays as it is; one that differs becomes a list, one value a row, of labels every one once. An `id` that
    differs within an image is one of captions: it becomes the metadata `caption_id`, of every image. A row that says
    another split than those before it is a bad row. Bad rows come at once, with how many images were met before them;
    images when all rows are read, in the order in which they were first met.

    Args:
        rows: one a caption; those with several captions are taken too.
        names: our field -> theirs, as of a `Source`.
        path: the file, for problems of rows that do not say theirs.
    """
    called = {ours: names.get(ours, ours) for ours in ("image", "id", "captions", "split", "labels")}
    images: dict[Hashable, _Image] = {}
    for row in rows:
        if row.value is None:
            yield replace(row, met=len(images))
            continue
        key = _key("image", row.value.get(called["image"])) or _key("id", row.value.get(called["id"])) or row.row
        if key in images:
            images[key].add(row, row.value, path)
        else:
            images[key] = _Image(row, dict(row.value), called, problems=list(row.problems), rows=row.rows)
    per_caption = any(called["id"] in image.differing for image in images.values())
    for image in images.values():
        yield image.row(per_caption, path)


def _key(kind: str, value: Any) -> Hashable | None:
    usable = isinstance(value, str | int) and not isinstance(value, bool) and value != ""
    return (kind, value) if usable else None


@dataclass
class _Image:
    """The rows of one image met so far.

    Attributes:
        first: the first of them.
        value: what they say, captions and what differs aside.
        called: our field -> theirs.
        captions: (line, file, captions) of each row, once there are several.
        differing: field -> one value a row.
        problems: of rows that were left out.
        rows: how many there are; those left out too.
    """

    first: Row
    value: dict[str, Any]
    called: Mapping[str, str]
    captions: list[tuple[int | None, Path | None, Any]] = field(default_factory=list)
    differing: dict[str, list[Any]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    rows: int = 1

    def add(self, row: Row, value: Mapping[str, Any], path: Path) -> None:
        """Put one more row to the image."""
        self.rows += row.rows
        self.problems += row.problems
        captions, split = self.called["captions"], self.called["split"]
        if value.get(split) is not None and value[split] != self.value.setdefault(split, value[split]):
            detail = f"{value[split]!r}, expected {self.value[split]!r} as in the image's first row; it is left out"
            self.problems.append(Problem(str(row.file or path), row.line, "another split", detail))
            return
        if not self.captions:
            self.captions.append((self.first.line, self.first.file, self.value.get(captions)))
        before = len(self.captions)
        self.captions.append((row.line, row.file, value.get(captions)))
        same = value.keys() == self.value.keys() and self.differing.keys() <= value.keys()
        names = value.keys() if same else {**self.value, **self.differing, **value}.keys()
        for name in names:
            if name in self.differing:
                self.differing[name].append(value.get(name))
            elif name != captions and name != split and value.get(name) != self.value.get(name):
                self.differing[name] = [self.value.get(name)] * before + [value.get(name)]

    def row(self, per_caption: bool, path: Path) -> Row:
        """All of it as one row; `per_caption` when ids are those of captions."""
        value = self.value | self.differing
        labels, identity, captions = self.called["labels"], self.called["id"], self.called["captions"]
        if labels in self.differing:
            value[labels] = _flat(self.differing[labels])
        if per_caption and identity in value and _key("image", value.get(self.called["image"])):
            given = value.pop(identity)
            value[_OF_CAPTION] = given if isinstance(given, list) else [given]
        numbers: list[int] = []
        if self.captions:
            value[captions] = texts = list[Any]()
            places = 0
            for line, file, given in self.captions:
                usable = self._usable(line, file or path, given)
                numbers += range(places, places + len(usable))
                texts += usable
                places += max(1, len(usable))
        return replace(self.first, value=value, problems=tuple(self.problems), rows=self.rows, numbers=tuple(numbers))

    def _usable(self, line: int | None, file: Path, given: Any) -> list[Any]:
        # Told here, where the caption's own line is known.
        if isinstance(given, list):
            return given
        if isinstance(given, str) and given.strip():
            return [given]
        empty = given is None or isinstance(given, str)
        kind, what = ("empty caption", "empty") if empty else ("caption is not text", ascii(given)[:60])
        detail = f"{self.called['captions']!r} is {what}; it is left out"
        self.problems.append(Problem(str(file), line, kind, detail))
        return []


def _flat(values: list[Any]) -> list[Any]:
    """Every value once, those in lists too, those that say nothing left out."""
    out: list[Any] = []
    for each in values:
        out += [one for one in (each if isinstance(each, list) else [each]) if one is not None and one not in out]
    return out
