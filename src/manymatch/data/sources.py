"""Pairs from the user's files: JSON Lines, with pictures, features and further truth where they are given.

A bad file or argument raises; a bad row is left out and listed in `pairs.problems`, and reading goes on.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError, UnknownName
from .decoding import PictureError
from .feature_files import FeatureFiles, open_features
from .files import Line, Progress, inside, read_objects, regular_file
from .pairs import Item, Pairs, Problem
from .pictures import FolderPictures, StoredPictures, TarPictures, open_pictures, pictures_at
from .truths import open_truths

__all__ = ["Reading", "open_pictures", "read_pairs", "read_rows"]

FIELDS = ("image", "captions", "id", "split", "labels")


@dataclass(frozen=True)
class Reading:
    """Pairs, and where each item stood.

    Attributes:
        pairs: what is usable.
        path: the file.
        lines: item id -> its line, from 1.
    """

    pairs: Pairs
    path: Path
    lines: Mapping[str, int]


def read_pairs(
    path: str | Path,
    *,
    images: str | Path | None = None,
    features: str | Path | None = None,
    pooled: str | Path | None = None,
    truth: str | Path | Sequence[str | Path] | None = None,
    fields: Mapping[str, str] | None = None,
    strict: bool = False,
    progress: Progress | None = None,
) -> Pairs:
    """Read JSON Lines (`.jsonl`, `.jsonl.gz`), one object an image: `image`, `captions`, `id`, `split`, `labels`.

    Only `captions` and one of `image` and `id` are needed; without `id` the image name is it.

    Any other field is metadata. `captions` is a list of texts, or one text.

    Args:
        path: the file.
        images: a folder or an uncompressed tar of pictures. Default: `images/` or `images.tar` beside the file, or
            the file's own folder where its first pictures lie there; otherwise there are no pictures.
        features, pooled: precomputed features, see `feature_files`.
        truth: files or folders of further right answers and judgments, see `truths.open_truths`.
        fields: our name -> the file's, such as `{"captions": "sentence", "split": "class_split"}`.
        strict: raise at the first bad row.
        progress: called with (done, total) while features are looked through.

    Raises:
        DataError: no such file, nothing usable in it, features that do not fit; with `strict`, any bad row.
        UnknownName: `fields` names a field of ours we do not have, or one that no line of the file has.
    """
    return read_rows(
        path,
        images=images,
        features=features,
        pooled=pooled,
        truth=truth,
        fields=fields,
        strict=strict,
        progress=progress,
    ).pairs


def read_rows(
    path: str | Path,
    *,
    images: str | Path | None = None,
    features: str | Path | None = None,
    pooled: str | Path | None = None,
    truth: str | Path | Sequence[str | Path] | None = None,
    fields: Mapping[str, str] | None = None,
    strict: bool = False,
    progress: Progress | None = None,
) -> Reading:
    """As `read_pairs`, with the line of each item."""
    rows = _Rows(regular_file(path, "pairs"), fields or {}, strict)
    rows.read()
    pictures = pictures_at(images) if images is not None else _beside(rows.path, rows.items)
    if pictures is not None:
        rows.require_pictures(pictures)
    opened = None
    if features is not None or pooled is not None:
        opened = open_features(features, pooled, items=rows.items, rows=rows.count)
        rows.require_features(opened, progress)
    found = open_truths(truth, strict=strict)
    listed = [problem for each in found.values() for problem in each.problems]
    pairs = Pairs(
        rows.items,
        pictures=pictures,
        features=opened,
        truth=found.pop("matches", None),
        truths=found,
        problems=(*sorted(rows.problems, key=lambda p: p.line or 0), *listed),
        name=f"{rows.path.absolute().parent.name}/{rows.path.name.split('.')[0]}",
    )
    return Reading(pairs, rows.path, rows.lines)


class _Rows:
    """The rows of one file on their way to items. Every step drops bad ones and says so."""

    def __init__(self, path: Path, fields: Mapping[str, str], strict: bool) -> None:
        for ours in fields:
            if ours not in FIELDS:
                raise UnknownName("field", ours, FIELDS)
        self.path, self.strict = path, strict
        self.names = {ours: fields.get(ours, ours) for ours in FIELDS}
        self.mapped = dict(fields)
        self.items: list[Item] = []
        self.lines: dict[str, int] = {}
        self.problems: list[Problem] = []
        self.count = 0

    def report(self, line: int | None, kind: str, detail: str, file: Path | None = None) -> None:
        """List a bad row. Raises DataError when strict."""
        problem = Problem(str(file or self.path), line, kind, detail)
        if self.strict:
            raise DataError(str(problem))
        self.problems.append(problem)

    def read(self) -> None:
        """Every line to an item. Raises DataError when none is left, UnknownName when a mapped field never occurs."""
        seen: dict[str, None] = {}
        for line in read_objects(self.path):
            self.count += 1
            if line.value is None:
                self.report(line.number, line.kind, line.detail)
                continue
            seen |= dict.fromkeys(line.value)
            item = self._item(line, line.value)
            if item is None:
                continue
            if item.id in self.lines:
                self.report(line.number, "repeated id", f"{item.id!r} is in line {self.lines[item.id]} already")
                continue
            self.lines[item.id] = line.number
            self.items.append(item)
        for name in self.mapped.values():
            if seen and name not in seen:
                raise UnknownName(f"field of {str(self.path)!r}", name, seen)
        self._require_some()

    def _item(self, line: Line, row: Mapping[str, Any]) -> Item | None:
        try:
            picture = _name(row.get(self.names["image"]), self.names["image"])
            identity = _name(row.get(self.names["id"]), self.names["id"]) or picture
            if identity is None:
                raise _Bad("no image", f"no {self.names['image']!r}, found the fields {_listed(row)}")
            if picture is not None and inside(picture) is None:
                raise _Bad("outside the folder", f"picture {picture!r}: the path leaves the folder of the pictures")
            captions = self._captions(line, row)
            split = _name(row.get(self.names["split"]), self.names["split"])
            labels = _labels(row.get(self.names["labels"]), self.names["labels"])
        except _Bad as bad:
            self.report(line.number, bad.kind, bad.detail)
            return None
        taken = set(self.names.values())
        metadata = {name: value for name, value in row.items() if name not in taken}
        if not _storable(json.dumps(metadata, ensure_ascii=False)):
            self.report(line.number, "bad metadata", "a text with half a surrogate pair, expected whole characters")
            return None
        return Item(identity, captions, split, labels, metadata, picture and inside(picture), line.row)

    def _captions(self, line: Line, row: Mapping[str, Any]) -> tuple[str, ...]:
        name = self.names["captions"]
        if name not in row:
            raise _Bad("no captions", f"no {name!r}, found the fields {_listed(row)}")
        given = row[name]
        if not isinstance(given, str | list):
            raise _Bad("no captions", f"{name!r} is {_shown(given)}, expected a list of texts")
        kept = []
        for n, caption in enumerate([given] if isinstance(given, str) else given):
            if not isinstance(caption, str) or not _storable(caption):
                self.report(line.number, "caption is not text", f"{name}[{n}] is {_shown(caption)}; it is left out")
            elif not caption.strip():
                self.report(line.number, "empty caption", f"{name}[{n}] is empty; it is left out")
            else:
                kept.append(caption)
        if not kept:
            raise _Bad("no captions", f"{name!r} holds no usable caption; the image is left out")
        return tuple(kept)

    def require_pictures(self, pictures: StoredPictures) -> None:
        """Drop items whose picture is not there. Raises DataError when none is left."""
        if isinstance(pictures, TarPictures) and pictures.cut:
            self.report(None, "damaged file", pictures.cut, pictures.path)
        kept = []
        for item in self.items:
            if item.picture is None:
                self.report(self.lines[item.id], "missing picture", f"the line of {item.id!r} names no picture")
                continue
            try:
                pictures.require(item.picture)
            except PictureError as error:
                self.report(self.lines[item.id], error.kind, str(error))
                continue
            kept.append(item)
        self.items = kept
        self._require_some()

    def require_features(self, features: FeatureFiles, progress: Progress | None) -> None:
        """Drop items without usable features. Raises DataError when none is left."""
        faults = features.faults(self.items, progress)
        for item in self.items:
            if item.id in faults:
                self.report(self.lines[item.id], "bad features", f"{item.id!r}: {faults[item.id]}")
        self.items = [item for item in self.items if item.id not in faults]
        self._require_some()

    def _require_some(self) -> None:
        if self.items:
            return
        if not self.count:
            raise DataError(f"pairs: {str(self.path)!r} holds no lines, expected one JSON object an image")
        first = f"; first of {len(self.problems)} problems: {self.problems[0]}" if self.problems else ""
        raise DataError(f"pairs: none of the {self.count} lines of {str(self.path)!r} is usable{first}")


class _Bad(Exception):
    """Why one row is left out; never leaves this file."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(kind, detail)
        self.kind, self.detail = kind, detail


def _storable(text: str) -> bool:
    # JSON can spell half a surrogate pair, which no file, database or terminal takes.
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _listed(row: Mapping[str, Any]) -> str:
    return ", ".join(_shown(name) for name in itertools.islice(row, 12)) or "none"


def _text(value: Any, field: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float) and _storable(str(value)):
        return str(value)
    raise _Bad(f"bad {field}", f"{field!r} is {_shown(value)}, expected text")


def _name(value: Any, field: str) -> str | None:
    return None if value is None or value == "" else _text(value, field)


def _labels(value: Any, field: str) -> tuple[str, ...]:
    if value is None:
        return ()
    return tuple(_text(label, field) for label in (value if isinstance(value, list) else [value]))


def _beside(path: Path, items: Sequence[Item]) -> StoredPictures | None:
    folder = path.parent
    if (folder / "images").is_dir():
        return FolderPictures(folder / "images")
    if (folder / "images.tar").is_file():
        return TarPictures(folder / "images.tar")
    own = FolderPictures(folder)
    return own if any(_is_there(own, name) for name in _first_pictures(items)) else None


def _first_pictures(items: Sequence[Item]) -> Iterator[str]:
    # Several, so that one missing file does not hide a folder full of pictures.
    return itertools.islice((item.picture for item in items if item.picture is not None), 8)


def _is_there(pictures: StoredPictures, name: str) -> bool:
    try:
        pictures.require(name)
    except PictureError:
        return False
    return True
