"""Pictures that are kept in the index folder itself: one item on its way in, and where its picture is read from later.

A picture's file is named after its content and lies below `pictures/`. It is on the disk before the transaction that
names it begins, so what dies in between leaves a file that no item names, and never an item without its file.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.decoding import decode
from ..data.pairs import Item, Pairs
from ..data.pictures import FolderPictures, open_pictures
from ..data.writing import sync_folder, whole_file
from ..errors import DataError
from .local.derived import locked
from .store.admission import encoded

if TYPE_CHECKING:
    from PIL import Image

    from ..data.pairs import Pictures

__all__ = ["NAME", "PICTURES", "SOURCE", "Upload", "digest_of", "pictures_of"]

PICTURES = "pictures"
SOURCE: Mapping[str, Any] = {"kind": "uploaded"}
"""How an item says that its picture lies in the index folder, wherever that is moved."""

NAME = re.compile(r"[0-9a-f]{32}\.[a-z]+")
"""What files of ours are called; others in the folder are left alone."""

_BEGINNINGS = (
    (rb"\xff\xd8", "jpg"),
    (rb"\x89PNG", "png"),
    (rb"GIF8", "gif"),
    (rb"RIFF....WEBP", "webp"),
    (rb"....ftyp", "avif"),
    (rb"II|MM", "tif"),
    (rb"BM", "bmp"),
    (rb"P", "ppm"),
)
"""How the formats begin that are decoded."""


def pictures_of(folder: Path, source: Mapping[str, Any]) -> Pictures:
    """The pictures of a source of the index in this folder. Raises DataError, UnknownName."""
    return FolderPictures(folder / PICTURES) if dict(source) == SOURCE else open_pictures(source)


def digest_of(data: bytes) -> str:
    """What a picture's file is called, without its suffix."""
    return hashlib.sha256(data).hexdigest()[:32]


class Upload:
    """One image with its captions, given as encoded bytes: what `Pairs` read their only picture from.

    Raises:
        DataError: an id, captions or metadata that cannot be stored.
        PictureError: bytes that are no whole picture.
    """

    def __init__(
        self, folder: Path, id: str, data: bytes, captions: Sequence[str], metadata: Mapping[str, Any]
    ) -> None:
        if not isinstance(data, bytes | bytearray | memoryview):
            raise DataError(f"put_picture: data is {type(data).__name__}, expected the bytes of an encoded picture")
        _check(id, captions, metadata)
        self._folder, self._data = folder, bytes(data)
        self._picture = decode(self._data, id)
        suffix = next((end for start, end in _BEGINNINGS if re.match(start, self._data, re.DOTALL)), "img")
        self.name = f"{digest_of(self._data)}.{suffix}"
        item = Item(id, tuple(captions), metadata=dict(metadata), picture=self.name)
        self.pairs = Pairs([item], pictures=self)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """The file is on the disk, and nobody takes it for one that no item names, until the block ends.

        Raises:
            DataError: it cannot be written.
        """
        pictures = self._folder / PICTURES
        with _told(pictures):
            pictures.mkdir(exist_ok=True)
            sync_folder(self._folder)
        with locked(pictures, fcntl.LOCK_SH):
            with _told(pictures), whole_file(pictures / self.name) as temporary:
                temporary.write_bytes(self._data)
            yield

    # ---- as pictures

    def open(self, name: str) -> Image.Image:
        return self._picture

    def read(self, name: str) -> bytes:
        return self._data

    def names(self) -> Sequence[str]:
        return [self.name]

    def describe(self) -> dict[str, Any]:
        return dict(SOURCE)


def _check(id: str, captions: Sequence[str], metadata: Mapping[str, Any]) -> None:
    """Raises DataError for what the store would refuse later, or could not find again."""
    if not isinstance(id, str) or not id:
        raise DataError(f"put_picture: id {id!r}, expected words that are not empty")
    if isinstance(captions, str) or not isinstance(captions, Sequence):
        raise DataError(f"put_picture: captions {captions!r}, expected a list of texts")
    for n, caption in enumerate(captions):
        if not isinstance(caption, str) or not caption.strip():
            raise DataError(f"put_picture: captions[{n}] is {caption!r}, expected a text that is not empty")
    if not isinstance(metadata, Mapping) or not all(isinstance(name, str) for name in metadata):
        raise DataError(f"put_picture: metadata {metadata!r}, expected a mapping of fields to values")
    try:
        (id + "".join(captions) + encoded(metadata, "put_picture: metadata of", id)).encode()
    except UnicodeEncodeError as error:
        raise DataError(f"put_picture: {error.object[error.start]!r} is not valid Unicode; mend the text") from None


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror}; make room or give this user the right to write there") from None
