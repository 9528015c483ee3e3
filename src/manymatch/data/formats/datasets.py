"""Folders that the Hugging Face `datasets` library writes by `save_to_disk`, read without that library."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from ...errors import DataError
from ..files import first_bytes, inside
from .base import Format, Source
from .captions import shown, split_named
from .typed import Part, TypedSource
from .whole_json import read_json

__all__ = ["SavedDatasets"]


class SavedDatasets(Format):
    """`dataset_dict.json` with a folder a split, or one folder with `state.json`; rows in Arrow files."""

    name: ClassVar[str] = "datasets"
    title: ClassVar[str] = "a folder saved by the datasets library (save_to_disk)"
    rank: ClassVar[int] = 30

    def sees(self, path: Path) -> str | None:
        if first_bytes(path / "dataset_dict.json", 1) is not None:
            return "a folder with dataset_dict.json"
        if first_bytes(path / "state.json", 1) is not None and first_bytes(path / "dataset_info.json", 1) is not None:
            return "a folder with state.json and dataset_info.json"
        return None

    def open(self, path: Path) -> Source:
        if os.path.isfile(path / "dataset_dict.json"):
            splits = read_json(path / "dataset_dict.json", "pairs").get("splits")
            if not isinstance(splits, list) or not splits or not all(_is_name(each) for each in splits):
                raise DataError(
                    f"pairs: {str(path / 'dataset_dict.json')!r}: no 'splits', expected a list of their names"
                )
            folders = {str(split): path / split for split in splits}
        else:
            folders = {"": path}
        parts = [Part(file, _split(split, folder)) for split, folder in folders.items() for file in _arrows(folder)]
        if not parts:
            raise DataError(f"pairs: {str(path)!r}: its state.json lists no Arrow files")
        return TypedSource(path, parts, list(_said(folders, parts)), _features(next(iter(folders.values()))))


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and len(value) < 256 and inside(value) == value and "/" not in value


def _split(name: str, folder: Path) -> str | None:
    """A split's folder says which it is; a single data set may say so in its state."""
    told = name or read_json(folder / "state.json", "pairs").get("_split")
    return (split_named(told) or told) if isinstance(told, str) and told else None


def _arrows(folder: Path) -> Iterator[Path]:
    files = read_json(folder / "state.json", "pairs").get("_data_files")
    for each in files if isinstance(files, list) else []:
        name = each.get("filename") if isinstance(each, dict) else None
        if not _is_name(name):
            raise DataError(
                f"pairs: {str(folder / 'state.json')!r}: a data file {shown(name)}, expected a name in this folder"
            )
        yield folder / str(name)


def _features(folder: Path) -> Mapping[str, Any] | None:
    """What the columns are; the Arrow files say it too."""
    if not os.path.isfile(folder / "dataset_info.json"):
        return None
    found = read_json(folder / "dataset_info.json", "pairs").get("features")
    return found if isinstance(found, dict) else None


def _said(folders: Mapping[str, Path], parts: list[Part]) -> Iterator[str]:
    for name, folder in folders.items():
        files = [part for part in parts if part.path.parent == folder]
        split = files[0].split if files else None
        yield f"{name or folder.name}: {len(files)} Arrow files{f', split {split}' if split else ''}"
