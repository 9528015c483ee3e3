"""Ways to write image-caption data down, one file each; a new one is found by being there.

`known` asks them in the order of their ranks which is first to know a path, and by what.
"""

from __future__ import annotations

import importlib
import itertools
import os
import pkgutil
import stat
from functools import cache
from pathlib import Path

from ...errors import DataError, UnknownName
from ..files import regular_file
from .base import Format, Row, Source
from .folder_walk import unread_kinds

__all__ = ["Format", "Row", "Source", "format_named", "formats", "known"]

_LOOKED_AT = 200
"""Names of a folder that a near miss is looked for among."""


@cache
def _found() -> tuple[Format, ...]:
    out = []
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        out += [
            thing()
            for thing in vars(module).values()
            if isinstance(thing, type)
            and issubclass(thing, Format)
            and thing is not Format
            and thing.__module__ == module.__name__
        ]
    return tuple(sorted(out, key=lambda each: (each.rank, each.name)))


def formats() -> list[Format]:
    """Every format, in the order in which they are asked."""
    return list(_found())


def format_named(name: str) -> Format:
    """The format of this name. Raises UnknownName."""
    for each in _found():
        if each.name == name:
            return each
    raise UnknownName("format", name, [each.name for each in _found()])


def known(path: str | Path) -> tuple[Format, str]:
    """The first format that knows the path, and by what it does.

    Raises:
        DataError: nothing there, no file and no folder, or of no known format; what was looked for is named, and in a
            folder files of a known format, or kinds of pictures that are not read.
    """
    path = Path(path)
    is_folder = _is_folder(path)
    # Asked before the path is looked for: a pattern such as `shards-{000..003}.tar` is no file.
    for each in _found():
        words = each.sees(path)
        if words is not None:
            return each, words
    if not is_folder:
        regular_file(path, "pairs")
    if is_folder and (kinds := unread_kinds(path)):
        raise DataError(
            f"pairs: the folder {str(path)!r} holds no photos but {', '.join(kinds)}, which are not read here; "
            "convert them to JPEG, PNG or WebP"
        )
    what = "is a folder, and" if is_folder else "is"
    titles = "; ".join(f"{each.name}: {each.title}" for each in _found())
    raise DataError(
        f"pairs: {str(path)!r} {what} of no known format; {_near(path) if is_folder else ''}say which with --format, "
        f"looked for {titles}"
    )


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def _near(folder: Path) -> str:
    try:
        with os.scandir(folder) as entries:
            files = sorted(entry.path for entry in itertools.islice(entries, _LOOKED_AT) if os.path.isfile(entry.path))
    except OSError as error:
        return f"it cannot be listed ({error.strerror}); "
    near = [file for file in files if any(each.sees(Path(file)) for each in _found())]
    if near:
        return f"it holds {' and '.join(map(repr, near[:3]))}: give that file; "
    return f"it holds no file of a known format{'' if any(folder.iterdir()) else ', and is empty'}; "
