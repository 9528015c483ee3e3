"""Pictures in an uncompressed tar: regular members only, read where they lie; nothing is ever unpacked."""

from __future__ import annotations

import os
import stat
import weakref
from collections.abc import Callable, Sequence
from copy import copy
from pathlib import Path
from typing import Any

from ...errors import DataError
from ..decoding import PictureError
from ..files import inside, regular_file, storable
from .base import StoredPictures, checked, is_picture, not_huge
from .headers import Member, TarDamage, members

__all__ = ["Contents", "TarPictures", "open_tar", "read_at"]

_PACKED = {
    b"\x1f\x8b": "gunzip",
    b"BZh": "bunzip2",
    b"\xfd7zXZ\x00": "unxz",
    b"\x28\xb5\x2f\xfd": "unzstd",
    b"PK\x03\x04": "unzip",
}

_TOLD = 100
"""Names that cannot be used and are told of one tar."""


def open_tar(path: Path) -> int:
    """A handle on the file. Raises DataError: cannot be read, or compressed."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise DataError(f"pictures: {str(path)!r} cannot be read ({error.strerror})") from None
    try:
        _refuse(path, handle)
    except OSError as error:
        os.close(handle)
        raise DataError(f"pictures: {str(path)!r} cannot be read ({error.strerror})") from None
    except DataError:
        os.close(handle)
        raise
    return handle


def _refuse(path: Path, handle: int) -> None:
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        raise DataError(f"pictures: {str(path)!r} is no regular file, expected a tar")
    head = os.pread(handle, 8, 0)
    for magic, tool in _PACKED.items():
        if head.startswith(magic):
            raise DataError(
                f"pictures: {str(path)!r} is compressed, expected an uncompressed tar (its pictures are "
                f"already compressed); decompress it once with {tool}"
            )


class Contents:
    """Which files a tar holds, and where: by one walk over its headers.

    Of a name stored twice the last counts, as for tar itself; a hard link is another name of an earlier file. Names
    that lead out of the tar, links, devices and names that are no UTF-8 are left out.

    Args:
        path: what messages call it.
        handle: open on it.
        keep: which names are remembered.

    Attributes:
        files: name -> (offset, size).
        broken: names whose bytes are not all there.
        outside: some of the names that lead out of the tar, or that are no UTF-8.
        cut: what was lost, in words; empty where nothing was.

    Raises:
        DataError: not a tar.
    """

    def __init__(self, path: Path, handle: int, keep: Callable[[str], bool] = bool) -> None:
        self.files: dict[str, tuple[int, int]] = {}
        self.broken: set[str] = set()
        self.outside: list[str] = []
        self.cut = ""
        self._keep = keep
        whole = 0
        try:
            for member in members(handle):
                self._add(member)
                whole += member.whole
        except TarDamage as damage:
            if damage.first:
                raise DataError(f"pictures: {str(path)!r} is not a tar ({damage.words})") from None
            self.cut = f"the tar {damage.words.removeprefix('it ')}, after {whole} whole members"
        except OSError as error:
            raise DataError(f"pictures: {str(path)!r} cannot be read ({error.strerror})") from None

    def _add(self, member: Member) -> None:
        name = inside(member.name)
        # Bytes that are no UTF-8 became half surrogate pairs, which no database takes.
        if name is None or not storable(name):
            if member.regular and len(self.outside) < _TOLD:
                self.outside.append(member.name)
            return
        if not self._keep(name):
            return
        if member.link:
            target = inside(member.link)
            if target in self.files:
                self.files[name] = self.files[target]
        elif member.regular and member.whole:
            self.files[name] = (member.offset, member.size)
            self.broken.discard(name)
        elif member.regular:
            self.files.pop(name, None)
            self.broken.add(name)

    def only(self, keep: Callable[[str], bool]) -> Contents:
        """The same tar, but of fewer names."""
        out = copy(self)
        out.files = {name: place for name, place in self.files.items() if keep(name)}
        out.broken = set(filter(keep, self.broken))
        return out

    def locate(self, path: Path, name: str, clean: str) -> tuple[int, int]:
        """(offset, size) of the file `clean`, called `name`. Raises PictureError."""
        if clean in self.files:
            return self.files[clean]
        if clean in self.broken:
            raise PictureError("unreadable picture", f"picture {name!r}: {str(path)!r} breaks off inside it")
        why = f"; {self.cut}" if self.cut else ""
        raise PictureError("missing picture", f"picture {name!r}: not in {str(path)!r}{why}")


def read_at(handle: int, name: str, place: tuple[int, int]) -> bytes:
    """The bytes of the file `name` of the tar at (offset, size). Raises PictureError."""
    offset, size = place
    not_huge(name, size)
    try:
        data = os.pread(handle, size, offset)
    except OSError as error:
        raise PictureError("unreadable picture", f"picture {name!r}: {error.strerror}") from None
    if len(data) != size:
        raise PictureError("unreadable picture", f"picture {name!r}: the tar was cut short since it was opened")
    return data


class TarPictures(StoredPictures):
    """Pictures in an uncompressed tar, by member name. Members are found once and read in place.

    Reads are positioned, so threads and forked processes may share one. A tar that breaks off keeps its whole members;
    `cut` says what was lost.

    Raises:
        DataError: no such file, not a tar, or compressed.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = regular_file(path, "pictures")
        self._handle = open_tar(self.path)
        weakref.finalize(self, os.close, self._handle)
        self._contents = Contents(self.path, self._handle)
        self.cut = self._contents.cut

    def _locate(self, name: str) -> tuple[int, int]:
        return self._contents.locate(self.path, name, checked(name))

    def require(self, name: str) -> None:
        self._locate(name)

    def read(self, name: str) -> bytes:
        return read_at(self._handle, name, self._locate(name))

    def names(self) -> Sequence[str]:
        return sorted(filter(is_picture, self._contents.files))

    def describe(self) -> dict[str, Any]:
        return self._described("tar", path=os.path.realpath(self.path))

    def __reduce__(self) -> tuple[type[TarPictures], tuple[Path], dict[str, Any]]:
        return (TarPictures, (self.path,), {"max_pixels": self.max_pixels})
