"""What lies in a folder of photos, at any depth: names alone, nothing is opened."""

from __future__ import annotations

import itertools
import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..pictures.base import is_picture
from .base import Row

__all__ = ["Walked", "first_photo", "unread_kinds", "walked"]

_LEFT_OUT = frozenset(
    {
        "__macosx",
        "@eadir",
        "#recycle",
        "$recycle.bin",
        "system volume information",
        "lost+found",
        "thumbs",
        "thumbnails",
    }
)
"""Folders, in lower case, that systems and programs make beside photos; hidden ones begin with a dot."""

_BESIDE = (".txt", ".json", ".csv", ".tsv", ".jsonl")
_UNREAD = frozenset(
    {".heic", ".heif", ".jxl", ".jp2", ".psd", ".svg", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2"}
)
"""Pictures that are not decoded here."""

_LOOKED_AT = 5000
"""Entries among which a first photo is looked for."""


@dataclass
class Walked:
    """Names below the folder, with slashes, ascending folder by folder.

    Attributes:
        photos: files that are called as pictures are.
        texts: files that may say something of them.
        bad: what is called a picture, or a folder, and cannot be read.
        unread: suffix -> how many pictures of a kind that cannot be decoded.
    """

    photos: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    bad: list[Row] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)


def walked(root: Path) -> Walked:
    """Everything in the folder.

    Links to files inside are names of their own; links to folders inside are not followed, because what these hold is
    found where it lies, and so nothing goes round in a ring. Links that lead out are bad rows.
    """
    out, top = Walked(), os.path.realpath(root)
    waiting = [""]
    while waiting:
        below = waiting.pop()
        try:
            with os.scandir(os.path.join(root, below)) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            detail = f"the folder {below or '.'!r} cannot be listed ({error.strerror})"
            out.bad.append(_bad("unreadable folder", detail, root / below))
            continue
        folders = []
        for entry in entries:
            name = f"{below}/{entry.name}" if below else entry.name
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                if entry.name.lower() not in _LEFT_OUT:
                    folders.append(name)
            elif entry.is_symlink():
                _link(out, root, top, name)
            else:
                _file(out, root, name, entry.is_file(follow_symlinks=False))
        waiting += reversed(folders)
    return out


def _file(out: Walked, root: Path, name: str, regular: bool) -> None:
    suffix = os.path.splitext(name)[1].lower()
    if is_picture(name):
        if regular:
            out.photos.append(name)
        else:
            out.bad.append(
                _bad("missing picture", f"picture {name!r}: a pipe or a device, expected a file", root / name)
            )
    elif suffix in _BESIDE and regular:
        out.texts.append(name)
    elif suffix in _UNREAD:
        out.unread[suffix] += 1


def _link(out: Walked, root: Path, top: str, name: str) -> None:
    try:
        target = os.path.realpath(os.path.join(root, name), strict=True)
        mode = os.stat(target).st_mode
    except OSError as error:
        if is_picture(name):
            detail = f"picture {name!r}: a link that leads nowhere ({error.strerror})"
            out.bad.append(_bad("missing picture", detail, root / name))
        return
    inside = target == top or target.startswith(os.path.join(top, ""))
    if inside and not stat.S_ISDIR(mode):
        _file(out, root, name, stat.S_ISREG(mode))
    elif not inside and (stat.S_ISDIR(mode) or is_picture(name)):
        detail = f"{name!r}: a link that leads out of {str(root)!r}; copy what it leads to, or read that by itself"
        out.bad.append(_bad("outside the folder", detail, root / name))


def _bad(kind: str, detail: str, file: Path) -> Row:
    # Feature files have rows for photos alone.
    return Row(0, None, file=file, kind=kind, detail=detail, rows=0)


def first_photo(root: Path) -> str | None:
    """The name of a photo among the first entries of the folder, nearest to the top; None where there is none."""
    return next((name for name in itertools.islice(_files(root), _LOOKED_AT) if is_picture(name)), None)


def unread_kinds(root: Path) -> list[str]:
    """Suffixes of pictures that are not decoded here, among the first entries of the folder."""
    suffixes = (os.path.splitext(name)[1].lower() for name in itertools.islice(_files(root), _LOOKED_AT))
    return sorted(_UNREAD & set(suffixes))


def _files(root: Path) -> Iterator[str]:
    """Names of files, and an empty one for every other entry; folders after the files beside them."""
    waiting = [os.fspath(root)]
    for folder in waiting:
        try:
            with os.scandir(folder) as found:
                for entry in itertools.islice(found, _LOOKED_AT):
                    if entry.name.startswith("."):
                        yield ""
                    elif entry.is_dir(follow_symlinks=False):
                        if entry.name.lower() not in _LEFT_OUT and len(waiting) < _LOOKED_AT:
                            waiting.append(entry.path)
                        yield ""
                    else:
                        yield entry.name if entry.is_file(follow_symlinks=False) else ""
        except (OSError, ValueError):
            continue
