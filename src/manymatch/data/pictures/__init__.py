"""Where pictures lie: a folder, a tar, several tars, a table. All read regular files only, and nothing outside."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import DataError, UnknownName
from ..pairs import Pictures
from .base import StoredPictures
from .folder import FolderPictures
from .shards import ShardPictures, braces, shard_paths, tars_in
from .table import TablePictures
from .tar import TarPictures

__all__ = [
    "FolderPictures",
    "ShardPictures",
    "StoredPictures",
    "TablePictures",
    "TarPictures",
    "open_pictures",
    "pictures_at",
]

_KINDS = ("folder", "shards", "table", "tar", "toy")


def pictures_at(path: str | Path) -> StoredPictures:
    """The pictures at `path`: a folder, a tar, a folder that holds tars and no pictures, `shards-{000..003}.tar`.

    Raises:
        DataError: nothing there, or nothing of these.
    """
    if os.path.isdir(path):
        folder = FolderPictures(path)
        tars = [] if folder.holds_some() else list(tars_in(path))
        return ShardPictures(tars) if tars else folder
    if not os.path.exists(path) and braces(str(path)) is not None:
        return ShardPictures(shard_paths(path))
    return TarPictures(path)


def open_pictures(description: Mapping[str, Any]) -> Pictures:
    """The pictures that `describe` described. Raises DataError (gone) or UnknownName (of no kind we know)."""
    kind = str(description.get("kind"))
    if kind not in _KINDS:
        raise UnknownName("kind of pictures", kind, _KINDS)
    try:
        if kind == "toy":
            from ..toy import ToyPictures

            return ToyPictures(description["images"], seed=description["seed"], size=description["size"])
        stored = _stored(kind, description)
    except KeyError as error:
        raise DataError(f"description of pictures of kind {kind!r}: no {error}, found {sorted(description)}") from None
    stored.max_pixels = int(description.get("max_pixels", stored.max_pixels))
    return stored


def _stored(kind: str, description: Mapping[str, Any]) -> StoredPictures:
    if kind == "folder":
        return FolderPictures(description["path"])
    if kind == "tar":
        return TarPictures(description["path"])
    if kind == "shards":
        return ShardPictures(description["paths"])
    return TablePictures(description["paths"], description["column"])
