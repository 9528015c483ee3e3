"""Several uncompressed tars as one place of pictures, and how they are named: a folder, or `train-{000..003}.tar`."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...errors import DataError
from ..decoding import PictureError
from ..files import regular_file
from .base import StoredPictures, checked, is_picture, labels_of
from .tar import Contents, open_tar, read_at

__all__ = ["ShardPictures", "braces", "shard_paths", "tars_in"]

_MOST = 100_000
"""Shards. A pattern that names more is a slip of the pen."""

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d{1,9})\.\.(\d{1,9})")


class _Shard:
    """One tar, walked through when its pictures are first asked for; opened for each read, so that a thousand shards
    need no thousand handles, and threads and forked processes share nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: tuple[Contents, tuple[int, ...]] | None = None

    @property
    def known(self) -> tuple[Contents, tuple[int, ...]]:
        """What it holds, and what the file was like then. Raises DataError: gone, or no tar."""
        # No lock: two threads may both walk through it, but a process forked while one held a lock would wait for ever.
        if self._known is None:
            self._known = self._walk(is_picture)
        return self._known

    def _walk(self, keep: Callable[[str], bool]) -> tuple[Contents, tuple[int, ...]]:
        handle = open_tar(self.path)
        try:
            return Contents(self.path, handle, keep), _stamp(handle)
        finally:
            os.close(handle)

    def everything(self) -> Contents:
        """All files of the tar, not only the pictures; of those the walk is remembered."""
        contents, stamp = self._walk(bool)
        self._known = contents.only(is_picture), stamp
        return contents

    @property
    def cut(self) -> str:
        return "" if self._known is None else self._known[0].cut

    def locate(self, name: str, clean: str) -> tuple[int, int]:
        return self.known[0].locate(self.path, name, clean)

    def read(self, name: str, clean: str) -> bytes:
        place = self.locate(name, clean)
        handle = open_tar(self.path)
        try:
            if _stamp(handle) != self.known[1]:
                raise PictureError(
                    "unreadable picture", f"picture {name!r}: {str(self.path)!r} has changed since it was opened"
                )
            return read_at(handle, name, place)
        finally:
            os.close(handle)


def _stamp(handle: int) -> tuple[int, ...]:
    status = os.fstat(handle)
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class ShardPictures(StoredPictures):
    """Pictures in several uncompressed tars. Each is walked through when it is first needed; nothing is unpacked.

    A picture is called `<shard>/<member>`, the shard by its path below the shards' common folder without `.tar`; of a
    single shard it is `<member>`. Threads and forked processes may share one. A shard that is gone is said of its
    pictures alone.

    Args:
        paths: of the tars.

    Raises:
        DataError: none given, none is there, or two would be called the same.
    """

    def __init__(self, paths: Sequence[str | Path]) -> None:
        if not paths:
            raise DataError("pictures: no shard given, expected at least one tar")
        self.paths = tuple(map(Path, paths))
        if not any(map(os.path.isfile, self.paths)):
            regular_file(self.paths[0], "pictures")
        self._shards = dict(zip(labels_of(self.paths), map(_Shard, self.paths), strict=True))

    @property
    def cut(self) -> str:  # type: ignore[override]
        """What is lost in the shards that were walked through until now."""
        return "; ".join(f"{shard.path.name}: {shard.cut}" for shard in self._shards.values() if shard.cut)

    def everything(self, number: int) -> tuple[str, Contents]:
        """What comes before the names of the pictures of a shard, and all files it holds. Raises DataError."""
        label, shard = list(self._shards.items())[number]
        return f"{label}/" if label else "", shard.everything()

    def _locate(self, name: str) -> tuple[_Shard, str]:
        clean = checked(name)
        if "" in self._shards:
            return self._shards[""], clean
        for slash in (match.start() for match in re.finditer("/", clean)):
            if clean[:slash] in self._shards:
                return self._shards[clean[:slash]], clean[slash + 1 :]
        raise PictureError(
            "missing picture", f"picture {name!r}: in none of the {len(self._shards)} shards, expected SHARD/MEMBER"
        )

    def require(self, name: str) -> None:
        shard, clean = self._locate(name)
        with _as_picture(name):
            shard.locate(name, clean)

    def read(self, name: str) -> bytes:
        shard, clean = self._locate(name)
        with _as_picture(name):
            return shard.read(name, clean)

    def names(self) -> Sequence[str]:
        return sorted(
            f"{label}/{name}" if label else name
            for label, shard in self._shards.items()
            for name in shard.known[0].files
        )

    def describe(self) -> dict[str, Any]:
        return self._described("shards", paths=[os.path.realpath(path) for path in self.paths])

    def __reduce__(self) -> tuple[type[ShardPictures], tuple[tuple[Path, ...]], dict[str, Any]]:
        return (ShardPictures, (self.paths,), {"max_pixels": self.max_pixels})


@contextmanager
def _as_picture(name: str) -> Iterator[None]:
    """A shard that is gone or is no tar makes its pictures unreadable, not everything."""
    try:
        yield
    except PictureError:
        raise
    except DataError as error:
        raise PictureError("unreadable picture", f"picture {name!r}: {error}") from None


def tars_in(folder: str | Path, deepest: int = 2) -> Iterator[Path]:
    """The tars of a folder and of the folders in it, sorted within each."""
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return
    yield from (Path(entry) for entry in found if entry.name.lower().endswith(".tar") and entry.is_file())
    if deepest > 1:
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                yield from tars_in(entry.path, deepest - 1)


def braces(pattern: str) -> list[str] | None:
    """The names a pattern such as `train-{000..003}.tar` or `{train,val}-0.tar` stands for; None without braces.

    Raises:
        DataError: braces that hold neither a range nor a list, or far too many names.
    """
    pieces = _BRACES.split(pattern)
    if len(pieces) == 1:
        return None
    choices = [[piece] if n % 2 == 0 else _choices(piece, pattern) for n, piece in enumerate(pieces)]
    count = 1
    for each in choices:
        count *= len(each)
    if count > _MOST:
        raise DataError(f"shards: {pattern!r} names {count} files, expected at most {_MOST}")
    return ["".join(each) for each in itertools.product(*choices)]


def _choices(inner: str, pattern: str) -> list[str]:
    found = _RANGE.fullmatch(inner)
    if found is None:
        if "," not in inner:
            raise DataError(f"shards: {pattern!r}: found {{{inner}}}, expected a range {{000..003}} or a list {{a,b}}")
        return inner.split(",")
    first, last = int(found[1]), int(found[2])
    if not 0 <= last - first < _MOST:
        raise DataError(f"shards: {pattern!r}: {{{inner}}} names {max(last - first + 1, 0)} files, at most {_MOST}")
    return [f"{n:0{len(found[1])}}" for n in range(first, last + 1)]


def shard_paths(path: str | Path) -> list[Path]:
    """The tars a path names: one tar, those of a folder, or those of a pattern with braces.

    Raises:
        DataError: none is there, or one of a pattern is not.
    """
    if os.path.isdir(path):
        found = list(tars_in(path))
        if not found:
            raise DataError(f"shards: {str(path)!r} holds no .tar, expected a folder of uncompressed tars")
        return found
    named = None if os.path.exists(path) else braces(str(path))
    if named is None:
        return [regular_file(path, "shards")]
    missing = [name for name in named if not os.path.isfile(name)]
    if missing:
        raise DataError(
            f"shards: {str(path)!r}: {len(missing)} of {len(named)} are missing, the first is {missing[0]!r}"
        )
    return [Path(name) for name in named]
