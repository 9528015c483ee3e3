"""A folder of photos, at any depth, with whatever is written beside or inside them.

Captions of a photo are taken from the first of these that has any: a table (`captions` or `metadata`, CSV, TSV or JSON
Lines) in the folder or beside it; a text of the photo's name (`a.txt`, a caption a line; `a.json`); the photo's own
file (EXIF, IPTC, XMP). Otherwise it has none. Keywords are labels. When it was taken, the camera, width and height are
metadata; where it was taken (GPS) is left out on purpose. Folders are not taken for classes, but those on top that are
all called train, val or test are splits.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ...errors import DataError
from ..pairs import Problem
from .base import Format, Row, Source
from .captions import split_named
from .folder_tables import Spoken, Tables, tables_of
from .folder_walk import Walked, first_photo, walked
from .names import SYNONYMS

if TYPE_CHECKING:
    from ..embedded import About
    from ..pictures import StoredPictures

__all__ = ["Folder", "FolderSource"]

_SPLITS = frozenset({"train", "training", "val", "valid", "validation", "dev", "test"})
_FIELDS = ("captions", *SYNONYMS["captions"], "description")
"""Fields of a JSON text that hold captions; the first that is there counts."""

_LONGEST = 2**20
"""Bytes of a text beside a photo."""

_THREADS, _BLOCK = 4, 64
"""So many threads look into the files of so many photos at a time."""


class FolderSource(Source):
    """The photos of one folder, in the order of their names."""

    captionless: ClassVar[bool] = True
    unit: ClassVar[str] = "photos"

    def __init__(self, path: Path, found: Walked, tables: Tables) -> None:
        self._photos, self._bad, self._tables = found.photos, found.bad, tables
        self._texts = {name for name in found.texts if name.lower().endswith((".txt", ".json"))}
        tops = {name.split("/")[0] if "/" in name else "" for name in found.photos}
        splits = sorted(top for top in tops if top.lower() in _SPLITS)
        self._splits = {top: split_named(top) for top in splits} if len(splits) == len(tops) else {}
        folders = len({os.path.dirname(name) for name in found.photos})
        self._found = [f"{len(found.photos):,} photos in {folders:,} folder{'s' * (folders != 1)}", *self._tables.seen]
        if self._splits:
            self._found.append(f"folders taken for splits: {', '.join(splits)}")
        elif splits:
            self._found.append(f"not taken for splits, because there are photos elsewhere: {', '.join(splits)}")
        if found.unread:
            told = (f"{count:,} {suffix}" for suffix, count in sorted(found.unread.items()))
            self._found.append(f"left aside, of kinds that are not read here: {', '.join(told)}")
        super().__init__(path, {}, tuple(self._found))

    def pictures(self) -> StoredPictures:
        from ..pictures import FolderPictures

        return FolderPictures(self.path)

    def rows(self) -> Iterator[Row]:
        """Photos, then what is bad. When all were read, `seen` says where captions came from."""
        counts: Counter[str] = Counter()
        for number, (name, about) in enumerate(self._looked_into()):
            yield replace(self._row(name, about, counts), row=number)
        for number, row in enumerate((*self._bad, *self._tables.bad), len(self._photos)):
            yield replace(row, row=number)
        told = [f"captions of {count:,} from {where}" for where, count in counts.items() if where]
        if counts[""] and len(self._photos):
            told.append(f"no captions of {counts['']:,}")
        self.seen = (*self._found, *told)

    def _looked_into(self) -> Iterator[tuple[str, About]]:
        from ..embedded import about

        def look(names: Sequence[str]) -> list[About]:
            return [about(os.path.join(self.path, name)) for name in names]

        with ThreadPoolExecutor(_THREADS) as threads:
            for start in range(0, len(self._photos), _THREADS * _BLOCK):
                block = self._photos[start : start + _THREADS * _BLOCK]
                parts = [block[first : first + _BLOCK] for first in range(0, len(block), _BLOCK)]
                yield from zip(block, chain.from_iterable(threads.map(look, parts)), strict=True)
                if self.progress is not None:
                    self.progress(start + len(block), len(self._photos))

    def _row(self, name: str, about: About, counts: Counter[str]) -> Row:
        spoken = self._tables.spoken.get(name) or Spoken()
        problems = list(spoken.problems)
        captions, where = spoken.captions, "tables"
        if not captions:
            captions, where = self._beside(name, problems), "texts beside photos"
        if not captions:
            captions, where = list(about.captions), "inside photos (EXIF, IPTC, XMP)"
        counts[where if captions else ""] += 1
        value: dict[str, Any] = {"image": name, "captions": captions or None}
        if (split := self._splits.get(name.split("/")[0])) is not None:
            value["split"] = split
        if about.labels:
            value["labels"] = list(about.labels)
        for field in ("taken", "camera", "width", "height"):
            if (found := getattr(about, field)) is not None:
                value[field] = found
        return Row(0, value | spoken.value, problems=tuple(problems))

    def _beside(self, name: str, problems: list[Problem]) -> list[str]:
        """Captions in a text of the photo's name."""
        stem = os.path.splitext(name)[0]
        for text in (f"{stem}.txt", f"{stem}.json", f"{name}.json"):
            if text in self._texts:
                path = self.path / text
                try:
                    found = _read(path)
                    captions = _lines(found) if text.endswith(".txt") else _fields(json.loads(found or "null"))
                except (OSError, ValueError, RecursionError) as error:
                    problems.append(Problem(str(path), None, "unreadable text", f"{error}; it is left out"))
                    continue
                if captions:
                    return captions
        return []


class _Typeless(FolderSource):
    """With a table whose cells are texts, numbers too."""

    texts: ClassVar[bool] = True


def _read(path: Path) -> str:
    """Raises OSError, ValueError: not readable, too long, not UTF-8."""
    with open(path, "rb") as file:
        data = file.read(_LONGEST + 1)
    if len(data) > _LONGEST:
        if path.suffix.lower() == ".json":
            # Programs that draw shapes on photos keep the photo itself in there; captions are never so long.
            return ""
        raise ValueError(f"more than {_LONGEST} bytes, expected captions")
    return data.decode("utf-8-sig")


def _lines(text: str) -> list[str]:
    """Every line that holds a word; numbers alone are what detectors write beside photos."""
    return [line.strip() for line in text.splitlines() if any(char.isalpha() for char in line)]


def _fields(value: Any) -> list[str]:
    found: Any = None
    if isinstance(value, Mapping):
        found = next((value[name] for name in _FIELDS if value.get(name)), None)
    listed = [found] if isinstance(found, str) else found if isinstance(found, list) else []
    return [text for text in listed if isinstance(text, str) and text.strip()]


class Folder(Format):
    """Photos as they lie on a disk."""

    name: ClassVar[str] = "folder"
    title: ClassVar[str] = "folder of photos"
    rank: ClassVar[int] = 90

    def sees(self, path: Path) -> str | None:
        try:
            found = first_photo(path) if path.is_dir() else None
        except (OSError, ValueError):
            return None
        return None if found is None else f"a folder with photos such as {found!a}"

    def open(self, path: Path) -> Source:
        """Raises DataError: no folder, or one without photos."""
        try:
            is_folder = path.is_dir()
        except (OSError, ValueError):
            is_folder = False
        if not is_folder:
            raise DataError(f"pairs: {str(path)!r} is no folder, expected a folder of photos")
        found = walked(path)
        if not found.photos and not found.bad:
            unread = f", only {', '.join(sorted(found.unread))}, which is not read here" if found.unread else ""
            raise DataError(f"pairs: the folder {str(path)!r} holds no photos{unread}; expected JPEG, PNG, WebP, ...")
        tables = tables_of(path, found.photos, found.texts)
        return (_Typeless if tables.typeless else FolderSource)(path, found, tables)
