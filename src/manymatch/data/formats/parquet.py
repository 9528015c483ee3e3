"""Parquet: one file, a folder of them, or the layout of the Hugging Face hub, whose names say the splits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from ...errors import DataError
from ..columns import is_table
from ..files import regular_file
from .base import Format, Source
from .captions import listed, split_below
from .typed import Part, TypedSource

__all__ = ["Parquet"]

_DEEPEST = 3
"""Folders below the given one: `default/train/0000.parquet`."""


class Parquet(Format):
    """Rows of `image` (a path, encoded bytes, or a struct of bytes and path) and captions (text or a list)."""

    name: ClassVar[str] = "parquet"
    title: ClassVar[str] = "Parquet, one file or a folder of them"
    rank: ClassVar[int] = 22

    def sees(self, path: Path) -> str | None:
        if os.path.isdir(path):
            found = next(_files(path, _DEEPEST), None)
            # Shards of pictures are often kept with a table of their own each; the shards are the data then.
            return (
                None if found is None or os.path.isfile(found.with_suffix(".tar")) else "a folder with .parquet files"
            )
        return "a Parquet file" if is_table(path) == "Parquet" else None

    def open(self, path: Path) -> Source:
        if not os.path.isdir(path):
            return TypedSource(path, [Part(regular_file(path, "pairs"), split_below(path, path))])
        found = list(_files(path, _DEEPEST))
        if not found:
            raise DataError(f"pairs: the folder {str(path)!r} holds no .parquet file")
        parts = [Part(file, split_below(path, file)) for file in found]
        return TypedSource(path, parts, list(_said(path, parts)))


def _files(folder: Path, deepest: int) -> Iterator[Path]:
    """Its files first, then those of its folders, each sorted; no hidden ones."""
    try:
        with os.scandir(folder) as entries:
            found = sorted(
                (each for each in entries if not each.name.startswith((".", "_"))), key=lambda each: each.name
            )
    except OSError:
        return
    yield from (Path(each) for each in found if each.name.lower().endswith(".parquet") and each.is_file())
    for each in found:
        if deepest > 1 and each.is_dir(follow_symlinks=False):
            yield from _files(Path(each), deepest - 1)


def _said(folder: Path, parts: list[Part]) -> Iterator[str]:
    splits: dict[str | None, list[str]] = {}
    for part in parts:
        splits.setdefault(part.split, []).append(part.path.relative_to(folder).as_posix())
    for split, names in splits.items():
        yield f"{listed(names)}: {f'split {split}' if split else 'no split in the name'}"
