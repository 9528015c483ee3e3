"""Tables beside or inside a folder of photos: which row speaks of which photo."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import DataError
from ..files import inside
from ..pairs import Problem
from .base import Row, Source
from .jsonl import JsonLinesSource
from .table import TableSource

__all__ = ["Spoken", "Tables", "tables_of"]

_STEMS = ("captions", "metadata")
_SUFFIXES = (".csv", ".tsv", ".jsonl")
_OURS = ("id", "split", "labels")


@dataclass
class Spoken:
    """What tables say of one photo.

    Attributes:
        value: fields by our names, and metadata.
        captions: as they stand there; None where no table has any of it.
        problems: what is wrong with its rows.
    """

    value: dict[str, Any] = field(default_factory=dict)
    captions: Any = None
    problems: list[Problem] = field(default_factory=list)


@dataclass
class Tables:
    """What all tables say.

    Attributes:
        spoken: photo -> what is said of it.
        bad: rows that are none, or that speak of no photo.
        seen: one line a table.
        typeless: whether a table among them has texts alone, numbers too.
    """

    spoken: dict[str, Spoken] = field(default_factory=dict)
    bad: list[Row] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    typeless: bool = False


def tables_of(root: Path, photos: Sequence[str], texts: Sequence[str]) -> Tables:
    """Read every `captions` and `metadata` table in the folder, and one beside it that speaks of its photos.

    Args:
        photos: names below the folder.
        texts: files below it that may be tables.
    """
    out, names = Tables(), _Names(photos)
    own = [name for name in texts if _is_table(posixpath.basename(name), _STEMS)]
    # What is called captions goes before what is called metadata.
    for name in sorted(own, key=lambda name: (posixpath.dirname(name), posixpath.basename(name))):
        _read(out, root / name, name, names, posixpath.dirname(name))
    for path in _beside(root):
        _read(out, path, f"{path.name} beside the folder", names, None, root.resolve().name)
    return out


def _is_table(name: str, stems: Sequence[str]) -> bool:
    stem, suffix = os.path.splitext(name)
    return stem.lower() in stems and suffix.lower() in _SUFFIXES


def _beside(root: Path) -> Iterator[Path]:
    parent = root.resolve().parent
    for stem in dict.fromkeys((*_STEMS, root.resolve().name)):
        for suffix in _SUFFIXES:
            path = parent / f"{stem}{suffix}"
            if path.is_file():
                yield path


class _Names:
    """Photos by the names that a table may call them."""

    def __init__(self, photos: Sequence[str]) -> None:
        self._photos = set(photos)
        self._single: dict[str, str | None] = {}
        for name in photos:
            base = posixpath.basename(name)
            self._single[base] = None if base in self._single else name

    def photo(self, told: Any, folders: Sequence[str]) -> str | None:
        """The photo a table calls so: below one of the folders, else the only one of that file name."""
        if not isinstance(told, str | int) or isinstance(told, bool):
            return None
        name = inside(str(told))
        if name is None:
            return None
        for folder in folders:
            if (path := posixpath.join(folder, name)) in self._photos:
                return path
        return self._single.get(posixpath.basename(name)) if "/" not in name else None


def _read(out: Tables, path: Path, told: str, names: _Names, folder: str | None, called: str = "") -> None:
    """Take over one table; `folder` is the one it lies in, None of a table beside the folder `called` so."""
    try:
        source: Source = JsonLinesSource(path) if path.suffix.lower() == ".jsonl" else TableSource(path)
        rows = list(source.rows())
    except DataError as error:
        if folder is not None:
            out.bad.append(Row(0, None, file=path, kind="unreadable table", detail=str(error), rows=0))
        return
    image = source.names.get("image", "image")
    folders = [""] if folder is None else [folder, posixpath.join(folder, "images"), ""]
    met, strange = 0, list[Row]()
    for row in rows:
        if row.value is None:
            strange.append(Row(0, None, row.line, path, row.kind, row.detail, rows=0))
            continue
        name = row.value.get(image)
        short = name.removeprefix(f"{called}/") if called and isinstance(name, str) else name
        photo = names.photo(short, folders)
        if photo is None:
            detail = f"picture {name!r} is not in the folder" if name else f"no {image!r}"
            strange.append(Row(0, None, row.line, path, "missing picture", detail, rows=0))
            continue
        met += 1
        _speak(out.spoken.setdefault(photo, Spoken()), row.value, row, source.names)
    if not met:
        if folder is not None:
            out.seen.append(f"{told} speaks of none of the photos, and is left out")
        return
    out.typeless |= source.texts
    others = f"; {len(strange):,} other rows are left out" if folder is None and strange else ""
    out.seen.append(f"{told} speaks of {met:,} photos{others}")
    out.seen += [f"{told}: {line}" for line in source.seen if "is taken for" in line]
    if folder is not None:
        out.bad += strange


def _speak(spoken: Spoken, value: Mapping[str, Any], row: Row, names: Mapping[str, str]) -> None:
    captions = names.get("captions", "captions")
    taken = {names.get("image", "image"): "image", captions: "captions"}
    taken |= {names.get(ours, ours): ours for ours in _OURS}
    if not spoken.captions:
        spoken.captions = value.get(captions)
    for name, told in value.items():
        ours = taken.get(name, name)
        if ours not in ("image", "captions"):
            spoken.value.setdefault(ours, told)
    spoken.problems += row.problems
