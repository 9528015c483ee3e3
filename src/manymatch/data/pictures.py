"""Where pictures lie: a folder or an uncompressed tar. Both read regular files only, and nothing outside."""

from __future__ import annotations

import os
import stat
import tarfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import DataError, UnknownName
from .decoding import PictureError, decode
from .files import inside, regular_file
from .pairs import Pictures

__all__ = ["FolderPictures", "StoredPictures", "TarPictures", "open_pictures", "pictures_at"]

_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".avif")

_LARGEST = 2**29
"""Bytes. No photograph of 64 megapixels is larger; reading more would only fill the memory."""

_PACKED = {
    b"\x1f\x8b": "gunzip",
    b"BZh": "bunzip2",
    b"\xfd7zXZ\x00": "unxz",
    b"\x28\xb5\x2f\xfd": "unzstd",
    b"PK\x03\x04": "unzip",
}


class StoredPictures:
    """What a folder and a tar have in common."""

    def read(self, name: str) -> bytes:
        """The encoded bytes. Raises PictureError (missing, outside, not whole)."""
        raise NotImplementedError

    def require(self, name: str) -> None:
        """Raise what `read` would, without reading."""
        raise NotImplementedError

    def names(self) -> Sequence[str]:
        """Every picture there is, sorted."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """JSON from which `open_pictures` opens the same again."""
        raise NotImplementedError

    def open(self, name: str) -> Image.Image:
        """The upright RGB picture. Raises PictureError."""
        return decode(self.read(name), name)


def _checked(name: str) -> str:
    clean = inside(name)
    if clean is None:
        raise PictureError("outside the folder", f"picture {name!r}: the path leaves the folder of the pictures")
    return clean


def _not_huge(name: str, size: int) -> None:
    if size > _LARGEST:
        raise PictureError(
            "unreadable picture", f"picture {name!r}: more than {_LARGEST} bytes, expected a photograph; shrink it"
        )


class FolderPictures(StoredPictures):
    """Pictures in a folder, by their path below it. Links are followed as long as they stay inside.

    Raises:
        DataError: no such folder.
    """

    def __init__(self, folder: str | Path) -> None:
        if not os.path.isdir(folder):
            raise DataError(f"pictures: no such folder {str(folder)!r}")
        self.folder = Path(folder)
        self._root = os.path.realpath(folder)

    def _locate(self, name: str) -> str:
        path = self._root
        mode = 0
        try:
            for part in _checked(name).split("/"):
                path = os.path.join(path, part)
                mode = os.lstat(path).st_mode
                if stat.S_ISLNK(mode):
                    return self._follow(name)
        except FileNotFoundError:
            raise PictureError("missing picture", f"picture {name!r}: not in {str(self.folder)!r}") from None
        except OSError as error:
            raise PictureError("missing picture", f"picture {name!r}: {error.strerror}") from None
        return self._regular(name, path, mode)

    def _follow(self, name: str) -> str:
        path = os.path.realpath(os.path.join(self._root, _checked(name)), strict=True)
        if os.path.commonpath([path, self._root]) != self._root:
            raise PictureError("outside the folder", f"picture {name!r}: a link that leads out of {str(self.folder)!r}")
        return self._regular(name, path, os.lstat(path).st_mode)

    def _regular(self, name: str, path: str, mode: int) -> str:
        if not stat.S_ISREG(mode):
            found = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
            raise PictureError("missing picture", f"picture {name!r}: {found}, expected a file")
        return path

    def require(self, name: str) -> None:
        self._locate(name)

    def read(self, name: str) -> bytes:
        try:
            # Without O_NONBLOCK a pipe put here since the check would wait for its writer.
            handle = os.open(self._locate(name), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            with os.fdopen(handle, "rb") as file:
                status = os.fstat(handle)
                self._regular(name, "", status.st_mode)
                _not_huge(name, status.st_size)
                return file.read()
        except OSError as error:
            raise PictureError("unreadable picture", f"picture {name!r}: {error.strerror}") from None

    def names(self) -> Sequence[str]:
        out = []
        for folder, _, files in os.walk(self._root):
            below = os.path.relpath(folder, self._root).replace(os.sep, "/")
            for name in (f if below == "." else f"{below}/{f}" for f in files if f.lower().endswith(_SUFFIXES)):
                try:
                    self.require(name)
                except PictureError:
                    continue
                out.append(name)
        return sorted(out)

    def describe(self) -> dict[str, Any]:
        return {"kind": "folder", "path": self._root}


class TarPictures(StoredPictures):
    """Pictures in an uncompressed tar, by member name. Members are found once and read in place.

    Reads are positioned, so threads and forked processes may share one. Of a name stored twice the last counts, as
    for tar itself. A tar that breaks off keeps its whole members; `cut` says what was lost.

    Raises:
        DataError: no such file, not a tar, or compressed.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = regular_file(path, "pictures")
        self.cut = ""
        try:
            self._handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise DataError(f"pictures: {str(self.path)!r} cannot be read ({error.strerror})") from None
        weakref.finalize(self, os.close, self._handle)
        self._refuse_compressed()
        self._members: dict[str, tuple[int, int]] = {}
        self._broken: set[str] = set()
        self._index()

    def _refuse_compressed(self) -> None:
        head = os.pread(self._handle, 8, 0)
        for magic, tool in _PACKED.items():
            if head.startswith(magic):
                raise DataError(
                    f"pictures: {str(self.path)!r} is compressed, expected an uncompressed tar (its pictures are "
                    f"already compressed); decompress it once with {tool}"
                )

    def _index(self) -> None:
        size = os.fstat(self._handle).st_size
        try:
            with open(self.path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
                while (member := tar.next()) is not None:
                    # The archive object keeps every header it has seen; a million of them would fill the memory.
                    tar.members = []  # type: ignore[attr-defined]
                    self._add(member, size)
                self._note_damage(tar.offset)
        except tarfile.ReadError as error:
            if not self._members and not self._broken:
                raise DataError(f"pictures: {str(self.path)!r} is not a tar ({error})") from None
            self.cut = f"the tar breaks off after {len(self._members)} whole members ({error})"

    def _note_damage(self, offset: int) -> None:
        # tarfile takes a damaged header for the end of the archive; the true end is a block of zeros.
        if os.pread(self._handle, 512, offset).strip(b"\0"):
            self.cut = f"the tar is damaged at byte {offset}, after {len(self._members)} whole members"

    def _add(self, member: tarfile.TarInfo, size: int) -> None:
        name = inside(member.name)
        if name is None:
            return
        if member.islnk() and inside(member.linkname) in self._members:
            self._members[name] = self._members[str(inside(member.linkname))]
        elif member.isreg() and not member.issparse():
            if member.offset_data + member.size <= size:
                self._members[name] = (member.offset_data, member.size)
            else:
                self._members.pop(name, None)
                self._broken.add(name)

    def _locate(self, name: str) -> tuple[int, int]:
        clean = _checked(name)
        if clean in self._members:
            return self._members[clean]
        if clean in self._broken:
            raise PictureError("unreadable picture", f"picture {name!r}: {str(self.path)!r} breaks off inside it")
        why = f"; {self.cut}" if self.cut else ""
        raise PictureError("missing picture", f"picture {name!r}: not in {str(self.path)!r}{why}")

    def require(self, name: str) -> None:
        self._locate(name)

    def read(self, name: str) -> bytes:
        offset, size = self._locate(name)
        _not_huge(name, size)
        try:
            data = os.pread(self._handle, size, offset)
        except OSError as error:
            raise PictureError("unreadable picture", f"picture {name!r}: {error.strerror}") from None
        if len(data) != size:
            raise PictureError("unreadable picture", f"picture {name!r}: the tar was cut short since it was opened")
        return data

    def names(self) -> Sequence[str]:
        return sorted(name for name in self._members if name.lower().endswith(_SUFFIXES))

    def describe(self) -> dict[str, Any]:
        return {"kind": "tar", "path": os.path.realpath(self.path)}

    def __reduce__(self) -> tuple[type[TarPictures], tuple[Path]]:
        return (TarPictures, (self.path,))


def pictures_at(path: str | Path) -> StoredPictures:
    """The folder or tar at `path`. Raises DataError."""
    return FolderPictures(path) if os.path.isdir(path) else TarPictures(path)


def open_pictures(description: Mapping[str, Any]) -> Pictures:
    """The pictures that `describe` described. Raises DataError (gone) or UnknownName (of no kind we know)."""
    kind = str(description.get("kind"))
    try:
        if kind == "folder":
            return FolderPictures(description["path"])
        if kind == "tar":
            return TarPictures(description["path"])
        if kind == "toy":
            from .toy import ToyPictures

            return ToyPictures(description["images"], seed=description["seed"], size=description["size"])
    except KeyError as error:
        raise DataError(f"description of pictures of kind {kind!r}: no {error}, found {sorted(description)}") from None
    raise UnknownName("kind of pictures", kind, ("folder", "tar", "toy"))
