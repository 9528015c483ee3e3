"""Rows of any format on their way to items: what is a row, what is a bad row, and what is said of it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import DataError, UnknownName
from .decoding import PictureError
from .feature_files import FeatureFiles
from .files import Progress, inside, storable
from .formats import Format, Row, Source
from .formats.captions import listed, shown
from .pairs import Item, Problem
from .pictures import StoredPictures

__all__ = ["FIELDS", "Rows"]

_MOST = 100_000
"""Problems that are listed; of more, and ten for every image that is usable or still to come, the file is not what it
was taken for."""

FIELDS = ("image", "captions", "id", "split", "labels")


class Rows:
    """The rows of one source on their way to items. Every step drops bad ones and says so."""

    def __init__(self, source: Source, format: Format, fields: Mapping[str, str], strict: bool) -> None:
        for ours in fields:
            if ours not in FIELDS:
                raise UnknownName("field", ours, FIELDS)
        self.source, self.format, self.path, self.strict = source, format, source.path, strict
        self.names = {ours: fields.get(ours, source.names.get(ours, ours)) for ours in FIELDS}
        self.mapped = dict(fields)
        self.items: list[Item] = []
        self.lines: dict[str, int | None] = {}
        self.files: dict[str, Path] = {}
        self.problems: list[Problem] = []
        self.count = self.met = 0

    def report(self, line: int | None, kind: str, detail: str, file: Path | None = None) -> None:
        """List a bad row. Raises DataError when strict."""
        self.tell(Problem(str(file or self.path), line, kind, detail))

    def tell(self, problem: Problem) -> None:
        """List a problem. Raises DataError when strict."""
        if self.strict:
            raise DataError(str(problem))
        self.problems.append(problem)
        if len(self.problems) > max(_MOST, 10 * len(self.items), 10 * self.met):
            raise DataError(
                f"pairs: {str(self.path)!r}: {len(self.problems):,} problems and {len(self.items):,} usable images so "
                f"far, expected {self.format.title}; first problem: {self.problems[0]}"
            )

    def report_item(self, item: Item, kind: str, detail: str) -> None:
        self.report(self.lines[item.id], kind, detail, self.files.get(item.id))

    def read(self) -> None:
        """Every row to an item. Raises DataError when none is left, UnknownName when a mapped field never occurs."""
        seen: dict[str, None] = {}
        for row in self.source.rows():
            self.count, self.met = self.count + row.rows, row.met
            for problem in row.problems:
                self.tell(problem)
            if row.value is None:
                self.report(row.line, row.kind, row.detail, row.file)
                continue
            if self.mapped:
                seen |= dict.fromkeys(row.value)
            item = self._item(row, row.value)
            if item is not None:
                self._keep(item, row)
        for name in self.mapped.values():
            if seen and name not in seen:
                raise UnknownName(f"field of {str(self.path)!r}", name, seen)
        self._require_some()

    def _keep(self, item: Item, row: Row) -> None:
        if item.id in self.lines:
            line, file = self.lines[item.id], self.files.get(item.id)
            where = " ".join(text for text in (line and f"in line {line}", file and f"of {str(file)!r}") if text)
            self.report(row.line, "repeated id", f"{item.id!r} is {where or 'there'} already", row.file)
            return
        self.lines[item.id] = row.line
        if row.file is not None:
            self.files[item.id] = row.file
        self.items.append(item)

    def _item(self, row: Row, value: Mapping[str, Any]) -> Item | None:
        try:
            picture = _name(value.get(self.names["image"]), self.names["image"])
            identity = _name(value.get(self.names["id"]), self.names["id"]) or picture
            if identity is None:
                raise _Bad("no image", f"no {self.names['image']!r}, found the fields {_fields(value)}")
            if picture is not None and inside(picture) is None:
                raise _Bad("outside the folder", f"picture {picture!r}: the path leaves the folder of the pictures")
            captions, numbers = self._captions(row, value)
            split = _name(value.get(self.names["split"]), self.names["split"])
            labels = _labels(value.get(self.names["labels"]), self.names["labels"])
            metadata = self._metadata(value)
        except _Bad as bad:
            self.report(row.line, bad.kind, bad.detail, row.file)
            return None
        return Item(identity, captions, split, labels, metadata, picture and inside(picture), row.row, numbers)

    def _metadata(self, value: Mapping[str, Any]) -> dict[str, Any]:
        taken = set(self.names.values())
        metadata = {name: field for name, field in value.items() if name not in taken}
        if self.source.texts:
            metadata = {name: _number(field) for name, field in metadata.items() if field != ""}
        try:
            if storable(json.dumps(metadata, ensure_ascii=False, allow_nan=False)):
                return metadata
        except (TypeError, ValueError) as error:
            raise _Bad("bad metadata", f"{error}, expected what JSON can hold") from None
        raise _Bad("bad metadata", "a text with half a surrogate pair, expected whole characters")

    def _captions(self, row: Row, value: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """The usable ones, and their numbers where these do not simply count."""
        name = self.names["captions"]
        given = value.get(name)
        if given is None and (self.source.captionless or (self.source.null_captions and name in value)):
            return (), ()
        if name not in value:
            raise _Bad("no captions", f"no {name!r}, found the fields {_fields(value)}")
        if not isinstance(given, str | list):
            raise _Bad("no captions", f"{name!r} is {shown(given)}, expected a list of texts")
        texts = [given] if isinstance(given, str) else given
        # Those of the row are of the source's own captions; `--field` may have named another column.
        called = row.numbers if len(row.numbers) == len(texts) else range(len(texts))
        kept, numbers = [], []
        for n, caption in enumerate(texts):
            if not isinstance(caption, str) or not storable(caption):
                detail = f"{name}[{n}] is {shown(caption)}; it is left out"
                self.report(row.line, "caption is not text", detail, row.file)
            elif not caption.strip():
                self.report(row.line, "empty caption", f"{name}[{n}] is empty; it is left out", row.file)
            else:
                kept.append(caption)
                numbers.append(called[n])
        if not kept and not self.source.captionless:
            raise _Bad("no captions", f"{name!r} holds no usable caption; the image is left out")
        return tuple(kept), () if numbers == list(range(len(kept))) else tuple(numbers)

    def require_pictures(self, pictures: StoredPictures) -> None:
        """Drop items whose picture is not there. Raises DataError when none is left."""
        cut, path = getattr(pictures, "cut", ""), getattr(pictures, "path", None)
        if cut:
            self.report(None, "damaged file", cut, path)
        kept = []
        for item in self.items:
            if item.picture is None:
                self.report_item(item, "missing picture", f"the line of {item.id!r} names no picture")
                continue
            try:
                pictures.require(item.picture)
            except PictureError as error:
                self.report_item(item, error.kind, str(error))
                continue
            kept.append(item)
        self.items = kept
        self._require_some()

    def require_features(self, features: FeatureFiles, progress: Progress | None) -> None:
        """Drop items without usable features. Raises DataError when none is left."""
        faults = features.faults(self.items, progress)
        for item in self.items:
            if item.id in faults:
                self.report_item(item, "bad features", f"{item.id!r}: {faults[item.id]}")
        self.items = [item for item in self.items if item.id not in faults]
        self._require_some()

    def _require_some(self) -> None:
        if self.items:
            return
        unit = self.source.unit
        if not self.count:
            raise DataError(f"pairs: {str(self.path)!r} holds no {unit}, expected {self.format.title}")
        first = f"; first of {len(self.problems)} problems: {self.problems[0]}" if self.problems else ""
        raise DataError(f"pairs: none of the {self.count} {unit} of {str(self.path)!r} is usable{first}")


class _Bad(Exception):
    """Why one row is left out; never leaves this file."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(kind, detail)
        self.kind, self.detail = kind, detail


def _fields(value: Mapping[str, Any]) -> str:
    return listed(map(shown, value), 12) or "none"


def _text(value: Any, field: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float) and storable(str(value)):
        return str(value)
    raise _Bad(f"bad {field}", f"{field!r} is {shown(value)}, expected text")


def _name(value: Any, field: str) -> str | None:
    return None if value is None or value == "" else _text(value, field)


def _labels(value: Any, field: str) -> tuple[str, ...]:
    if value is None:
        return ()
    return tuple(_text(label, field) for label in (value if isinstance(value, list) else [value]))


_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,14})(?:\.\d{1,15})?(?:[eE][+-]?\d{1,2})?", re.ASCII)


def _number(value: Any) -> Any:
    """The number that a text is, as JSON would write one: `007` and the 20 digits of some id stay text."""
    if isinstance(value, list):
        return [_number(each) for each in value]
    return json.loads(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value
