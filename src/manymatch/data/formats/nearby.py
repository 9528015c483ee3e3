"""Pictures near a file of captions: in which folder or tar they lie, and how they are called in there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import DataError

if TYPE_CHECKING:
    from ..pictures import StoredPictures

__all__ = ["LOOKED_AT", "Found", "Spellings", "look_in", "look_near"]

LOOKED_AT = 8
"""Names that are looked for, so that one missing file does not hide a folder full of pictures."""

Spellings = Sequence[Sequence[str]]
"""How the pictures of one file may be called: in each of the ways some names, the likeliest way first."""


@dataclass(frozen=True)
class Found:
    """Where the pictures lie.

    Attributes:
        pictures: the folder or tar; None where nothing was found.
        ways: for each file which of its spellings is right, 0 where none was found.
        seen: what to tell the user, one line each.
    """

    pictures: StoredPictures | None
    ways: tuple[int, ...]
    seen: tuple[str, ...] = ()


def look_in(pictures: StoredPictures, wanted: Sequence[Spellings]) -> Found:
    """How the pictures are called inside a folder or tar that is known."""
    return Found(pictures, tuple(found[0] if (found := _way(pictures, each)) else 0 for each in wanted))


def look_near(folders: Sequence[Path], wanted: Sequence[Spellings], further: Sequence[str] = ()) -> Found:
    """Look into each folder: its `images`, itself, and its one tar. The place with pictures of most files is taken.

    Args:
        folders: where to look, the likeliest first.
        wanted: one for each file of captions.
        further: names of folders inside `folders` that a data set is known to use.
    """
    most, best, seen = 0, Found(None, (0,) * len(wanted)), []
    for place in _places(folders, further):
        try:
            pictures = _opened(place)
        except DataError as error:
            seen.append(f"not looked into: {error}")
            continue
        ways = [_way(pictures, each) for each in wanted]
        there = [way for way in ways if way is not None]
        if len(there) > most:
            inside = dict.fromkeys(os.path.join(place, os.path.dirname(name)).rstrip("/") for _, name in there)
            told = f"pictures in {' and '.join(inside)}"
            most, best = len(there), Found(pictures, tuple(way[0] if way else 0 for way in ways), (told,))
        if most == len(wanted):
            break
    return Found(best.pictures, best.ways, (*best.seen, *seen))


def _way(pictures: StoredPictures, spellings: Spellings) -> tuple[int, str] | None:
    """The first spelling of which a name is there, and that name."""
    from ..decoding import PictureError

    for way, names in enumerate(spellings):
        for name in names[:LOOKED_AT]:
            try:
                pictures.require(name)
            except PictureError:
                continue
            return way, name
    return None


def _places(folders: Sequence[Path], further: Sequence[str]) -> Iterator[Path]:
    names = ("images", "Images", *further, "")
    yield from dict.fromkeys(place for folder in folders for name in names if os.path.isdir(place := folder / name))
    for folder in dict.fromkeys(folders):
        tar = _one_tar(folder)
        if tar is not None:
            yield tar


def _one_tar(folder: Path) -> Path | None:
    """The tar of a folder: `images.tar`, else the only one whose name begins so, else the only one."""
    try:
        tars = sorted(name for name in os.listdir(folder) if name.endswith(".tar") and os.path.isfile(folder / name))
    except OSError:
        return None
    for some in ([n for n in tars if n == "images.tar"], [n for n in tars if n.startswith("images")], tars):
        if len(some) == 1:
            return folder / some[0]
    return None


def _opened(place: Path) -> StoredPictures:
    from ..pictures import FolderPictures, TarPictures

    return FolderPictures(place) if os.path.isdir(place) else TarPictures(place)
