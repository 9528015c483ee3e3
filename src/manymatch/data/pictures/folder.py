"""Pictures in a folder: regular files only, and nothing outside."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...errors import DataError
from ..decoding import PictureError
from .base import StoredPictures, checked, is_picture, not_huge

__all__ = ["FolderPictures"]


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
            for part in checked(name).split("/"):
                path = os.path.join(path, part)
                mode = os.lstat(path).st_mode
                if stat.S_ISLNK(mode):
                    return self._follow(name)
        except FileNotFoundError:
            raise PictureError("missing picture", f"picture {name!r}: not in {str(self.folder)!r}") from None
        except UnicodeEncodeError:
            raise PictureError("missing picture", f"picture {name!r}: half a character, no file is called so") from None
        except OSError as error:
            raise PictureError("missing picture", f"picture {name!r}: {error.strerror}") from None
        return self._regular(name, path, mode)

    def _follow(self, name: str) -> str:
        path = os.path.realpath(os.path.join(self._root, checked(name)), strict=True)
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
            try:
                # Of a folder put here since the check no file object can be made, and none would close its handle.
                status = os.fstat(handle)
                self._regular(name, "", status.st_mode)
                not_huge(name, status.st_size)
                with open(handle, "rb", closefd=False) as file:
                    return file.read()
            finally:
                os.close(handle)
        except OSError as error:
            raise PictureError("unreadable picture", f"picture {name!r}: {error.strerror}") from None

    def names(self) -> Sequence[str]:
        out = []
        for folder, _, files in os.walk(self._root):
            below = os.path.relpath(folder, self._root).replace(os.sep, "/")
            for name in (f if below == "." else f"{below}/{f}" for f in files if is_picture(f)):
                try:
                    self.require(name)
                except PictureError:
                    continue
                out.append(name)
        return sorted(out)

    def describe(self) -> dict[str, Any]:
        return self._described("folder", path=self._root)

    def holds_some(self) -> bool:
        """Whether any file below is called as pictures are; the first one found ends the search."""
        return any(is_picture(file) for _, _, files in os.walk(self._root) for file in files)
