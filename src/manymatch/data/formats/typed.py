"""Tables whose columns have types (Parquet, Arrow): which column is what, and their rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import DataError
from ..cells import Unreadable, bytes_in, is_list_of_text, is_text, left_out, values
from ..columns import Piece, Table, open_table
from ..pairs import Problem
from .base import Row, Source
from .captions import listed
from .grouping import grouped
from .names import synonyms
from .same import Same, key_of

if TYPE_CHECKING:
    from ..pictures import StoredPictures, TablePictures

__all__ = ["Part", "TypedSource", "described_features"]

_PICTURES = ("image", "picture", "photo", "img", "jpg", "jpeg", "png", "webp", "image_bytes", "bytes")
"""How columns of pictures are called, the likeliest first."""

_LABELS = ("labels", "label", "categories", "category", "classes", "class")


@dataclass(frozen=True)
class Part:
    """One file of the table, and the split that its name says it is."""

    path: Path
    split: str | None = None


def described_features(schema: Any) -> Mapping[str, Any]:
    """What the `datasets` library writes of the columns into a schema; empty where it is not there or not readable."""
    try:
        told = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        found = told["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


class _Columns:
    """Which column is what.

    Attributes:
        picture: the column of pictures, None where pictures are only named, or not at all.
        path: the field of the picture's own name, where its column has one.
        taken: columns that are read, ours and metadata.
        labels: column -> the names of its classes.
        names, seen: as of a `Source`.
    """

    def __init__(self, path: Path, schema: Any, features: Mapping[str, Any]) -> None:
        fields = {field.name: field.type for field in schema}
        if len(fields) < len(schema.names):
            raise DataError(f"pairs: {str(path)!r} has a column twice, found {listed(schema.names, 12)}")
        self.picture = _pictures_column(fields)
        self.path = f"{self.picture}.path" if _has_path(fields.get(self.picture or "")) else None
        self.labels = {name: found for name, each in features.items() if (found := _classes(each)) and name in fields}
        rest = {name: type for name, type in fields.items() if name != self.picture}
        usable = [name for name, type in rest.items() if left_out(type) is None or name in self.labels]
        self.names, told = synonyms([*usable, *([] if self.picture is None else ["image"])])
        self._name(usable)
        self.taken = usable
        self.seen = (f"columns {listed(fields, 12)}", *told, *self._unused(rest, usable), *self._told(fields))
        self._check(path, fields)

    def _name(self, usable: Sequence[str]) -> None:
        if self.picture is not None:
            self.names["image"] = self.picture
        if "labels" not in usable:
            label = next((name for name in (*self.labels, *_LABELS) if name in usable), None)
            if label is not None:
                self.names["labels"] = label
        self.captions = self.names.get("captions", "captions")

    def _unused(self, rest: Mapping[str, Any], usable: Sequence[str]) -> Iterator[str]:
        whys = {name: left_out(type) for name, type in rest.items() if name not in usable}
        if whys:
            yield f"left out: {listed([f'{name!r} ({why})' for name, why in whys.items()], 6)}"

    def _told(self, fields: Mapping[str, Any]) -> Iterator[str]:
        if self.picture is not None:
            yield f"pictures in {self.picture!r}, as encoded bytes"
        if "labels" in self.names:
            yield f"{self.names['labels']!r} is taken for labels"

    def _check(self, path: Path, fields: Mapping[str, Any]) -> None:
        image = self.names.get("image", "image")
        if self.picture is None and image not in self.taken and self.names.get("id", "id") not in self.taken:
            found = (
                f"{image!r} of type {str(fields[image])[:80]}" if image in fields else f"columns {listed(fields, 12)}"
            )
            raise DataError(
                f"pairs: {str(path)!r} has no column of images: found {found}, expected 'image' as the path of a "
                "picture, its encoded bytes, or a struct of bytes and path"
            )
        if self.captions in fields and not (is_text(fields[self.captions]) or is_list_of_text(fields[self.captions])):
            raise DataError(
                f"pairs: {str(path)!r}: {self.captions!r} is of type {str(fields[self.captions])[:80]}, expected text "
                "or a list of texts"
            )
        self.single = self.captions in fields and is_text(fields[self.captions])
        self.captioned = self.captions in fields


def _pictures_column(fields: Mapping[str, Any]) -> str | None:
    lower = {name.lower(): name for name in reversed(list(fields))}
    holding = [name for name, type in fields.items() if bytes_in(type) is not None]
    named = [lower[name] for name in _PICTURES if lower.get(name) in holding]
    structs = [name for name in holding if bytes_in(fields[name])]
    return next(iter((*named, *structs)), None)


def _has_path(type: Any) -> bool:
    return (
        type is not None
        and bytes_in(type) == "bytes"
        and "path" in [f.name for f in type]
        and is_text(type.field("path").type)
    )


def _classes(feature: Any) -> list[str] | None:
    """The names of the classes of a ClassLabel, or of a list of them."""
    if isinstance(feature, list) and len(feature) == 1:
        feature = feature[0]
    if not isinstance(feature, dict):
        return None
    if feature.get("_type") in ("Sequence", "List", "LargeList"):
        return _classes(feature.get("feature"))
    names = feature.get("names")
    if feature.get("_type") != "ClassLabel" or not isinstance(names, list):
        return None
    return [str(name) for name in names]


class TypedSource(Source):
    """The rows of one table in one or several files.

    Where rows have one caption each and name the same picture, and it is the same picture byte for byte, they are one
    image. Pictures are only looked at to tell that.

    Args:
        path: as the user gave it.
        parts: the files, at least one.
        seen: what the format has to say of them.
        features: what is known of the columns from elsewhere, as the `datasets` library describes them.

    Raises:
        DataError: no pyarrow; a file that is damaged or of other columns; no column of images.
    """

    def __init__(
        self, path: Path, parts: Sequence[Part], seen: Sequence[str] = (), features: Mapping[str, Any] | None = None
    ) -> None:
        self.parts = tuple(parts)
        first = open_table(parts[0].path)
        self._schema = first.schema
        self._columns = _Columns(parts[0].path, first.schema, features or described_features(first.schema))
        super().__init__(path, self._columns.names, (*seen, *self._columns.seen))
        self.captionless = not self._columns.captioned  # type: ignore[misc]
        self._pictures: TablePictures | None = None

    def pictures(self) -> StoredPictures | None:
        from ..pictures import TablePictures

        if self._pictures is None and self._columns.picture is not None:
            self._pictures = TablePictures([part.path for part in self.parts], self._columns.picture)
        return self._pictures

    def rows(self) -> Iterator[Row]:
        rows = self._rows()
        return grouped(rows, self.names, self.path) if self._columns.single else rows

    def _rows(self) -> Iterator[Row]:
        row, same = 0, Same(self.pictures() if self._columns.single else None)
        for part in self.parts:
            try:
                table = open_table(part.path)
                self._require_same(table)
            except DataError as error:
                yield Row(row, None, file=part.path, kind="damaged file", detail=str(error))
                row += 1
                continue
            for piece in table.scan(self._read(table)):
                yield from self._piece(piece, part, row, same)
            row += table.rows
            if table.cut:
                yield Row(row, None, file=part.path, kind="damaged file", detail=table.cut)

    def _require_same(self, table: Table) -> None:
        if table.schema.names != self._schema.names:
            raise DataError(
                f"its columns are {listed(table.schema.names, 12)}, expected {listed(self._schema.names, 12)} as in "
                f"{str(self.parts[0].path)!r}"
            )

    def _read(self, table: Table) -> list[str]:
        columns = [*self._columns.taken, *([self._columns.path] if self._columns.path else [])]
        picture = self._bytes()
        # Without bytes a picture is missing; where the file says that all are there, they are not looked at.
        return [*columns, picture] if picture and table.has_nulls(picture) else columns

    def _bytes(self) -> str:
        column = self._columns.picture
        if column is None:
            return ""
        field = bytes_in(self._schema.field(column).type)
        return f"{column}.{field}" if field else column

    def _piece(self, piece: Piece, part: Part, start: int, same: Same) -> Iterator[Row]:
        first = start + piece.first
        cells: dict[str, list[Any]] = {}
        there: list[bool] | None = None
        why = piece.why
        if piece.batch is not None:
            try:
                for name in piece.batch.schema.names:
                    if name == self._bytes():
                        there = piece.batch.column(name).is_valid().to_pylist()
                    else:
                        cells[name] = values(piece.batch.column(name))
            except (ValueError, OverflowError, ArithmeticError, NotImplementedError) as error:
                why = " ".join(str(error).split())[:200] or type(error).__name__
        if why:
            last = piece.first + piece.count - 1
            detail = f"rows {piece.first} to {last} cannot be read ({why})"
            yield Row(first, None, file=part.path, kind="damaged file", detail=detail, rows=piece.count)
            return
        for n in range(piece.count):
            row = {name: column[n] for name, column in cells.items()}
            yield self._row(row, part, first + n, piece.first + n, there is None or there[n], same)

    def _row(self, cells: dict[str, Any], part: Part, row: int, place: int, there: bool, same: Same) -> Row:
        own = cells.pop(self._columns.path, None) if self._columns.path else None
        problems, value = self._usable(cells, part, place)
        if self._columns.picture is not None:
            if not there:
                why = f", only the path {own!r}" if isinstance(own, str) else ""
                detail = f"row {place}: {self._columns.picture!r} holds no picture{why}"
                return Row(row, None, file=part.path, kind="missing picture", detail=detail, problems=problems)
            name, known = same.name(self._name(part, place), key_of(own, value))
            value = {self._columns.picture: name, **value}
            if known is not None and "id" not in value:
                value["id"] = known
        if part.split is not None and self.names.get("split", "split") not in value:
            value[self.names.get("split", "split")] = part.split
        return Row(row, value, file=part.path if len(self.parts) > 1 else None, problems=problems)

    def _name(self, part: Part, place: int) -> str:
        assert self._pictures is not None or self.pictures() is not None
        assert self._pictures is not None
        return f"{self._pictures.prefix(part.path)}{place}"

    def _usable(self, cells: Mapping[str, Any], part: Part, place: int) -> tuple[tuple[Problem, ...], dict[str, Any]]:
        problems, value = [], {}
        for name, cell in cells.items():
            kept, whys = _usable(cell)
            for why in whys:
                kind = "caption is not text" if name == self._columns.captions else f"bad {name}"
                detail = f"row {place}: {name!r}: {why}; it is left out"
                problems.append(Problem(str(part.path), None, kind, detail))
            value[name] = self._labelled(name, kept)
        return tuple(problems), value

    def _labelled(self, name: str, cell: Any) -> Any:
        names = self._columns.labels.get(name)
        if names is None:
            return cell
        if isinstance(cell, list):
            return [self._labelled(name, each) for each in cell if each is not None]
        return names[cell] if isinstance(cell, int) and 0 <= cell < len(names) else None


def _usable(cell: Any) -> tuple[Any, list[str]]:
    if isinstance(cell, Unreadable):
        return None, [cell.why]
    if isinstance(cell, list):
        whys = [each.why for each in cell if isinstance(each, Unreadable)]
        return [each for each in cell if not isinstance(each, Unreadable)], whys
    return cell, []
