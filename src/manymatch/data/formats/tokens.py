"""Caption lists of Flickr8k and Flickr30k: one caption a line, in the three ways they are passed around.

    1000268201_693b08cb0e.jpg#0<TAB>A child in a pink dress .     the published token files
    image_name| comment_number| comment                           results.csv
    image,caption                                                 captions.txt

Splits come from the lists of names beside: `Flickr_8k.trainImages.txt`, or `train.txt`, `val.txt` and `test.txt`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ...errors import DataError
from ..files import Unread, first_bytes, read_lines, regular_file
from .base import Format, Row, Source
from .captions import Captions, listed, shown
from .nearby import LOOKED_AT, look_near
from .token_lines import Kind, Token, kind_of
from .token_splits import splits_beside

if TYPE_CHECKING:
    from ..pictures import StoredPictures

__all__ = ["CaptionLists", "TokenSource"]

_FILES = ("Flickr8k.token.txt", "results_20130124.token", "results.csv", "captions.txt")
"""What the files are called; a folder with one of them is read as that file."""

_FOLDERS = (
    "Flicker8k_Dataset", "Flickr8k_Dataset", "Flickr8k_Dataset/Flicker8k_Dataset", "flickr30k-images",
    "flickr30k_images", "flickr30k_images/flickr30k_images",
)  # fmt: skip

_COPY = re.compile(r"(.+\.(?:jpe?g|png))\.\d+", re.IGNORECASE | re.DOTALL)
"""`2258277193_586949ec62.jpg.1` of Flickr8k's list: the second copy of a download, not the name of any picture."""


class CaptionLists(Format):
    """One file, or a folder with one of the usual names in it."""

    name: ClassVar[str] = "tokens"
    title: ClassVar[str] = "caption lists of Flickr8k and Flickr30k (token files, results.csv, captions.txt)"
    rank: ClassVar[int] = 40

    def sees(self, path: Path) -> str | None:
        file = _file(path)
        kind = kind_of(first_bytes(file) or b"", file.name)
        return None if kind is None else f"{file.name}: {kind.words}" if file != path else kind.words

    def open(self, path: Path) -> Source:
        file = regular_file(_file(path), "caption list")
        kind = kind_of(first_bytes(file) or b"", file.name)
        if kind is None:
            raise DataError(
                f"caption list: the first line of {str(file)!r} is neither NAME#N<TAB>CAPTION nor a heading such as "
                "image_name| comment_number| comment"
            )
        return TokenSource(path, file, kind)


def _file(path: Path) -> Path:
    if os.path.isdir(path):
        for name in _FILES:
            file = path / name
            if os.path.isfile(file) and kind_of(first_bytes(file) or b"", name) is not None:
                return file
    return path


@dataclass
class _Image:
    """One image of the list.

    Attributes:
        row, line: where it is first named.
        captions: number -> (line, text).
        rows: how many lines name it.
    """

    row: int
    line: int
    captions: dict[int, tuple[int, str]] = field(default_factory=dict)
    rows: int = 0


class TokenSource(Source):
    """The images of a list in the order in which they are first named; every line but the heading is a row."""

    unit: ClassVar[str] = "lines"

    def __init__(self, path: Path, file: Path, kind: Kind) -> None:
        self.file = file
        self._images: dict[str, _Image] = {}
        self._bad: list[Row] = []
        self._read(kind)
        renamed = self._rename()
        self._splits, said, self._loose = splits_beside(file, self._images)
        own = file.absolute().parent
        found = look_near([own, own.parent], [[list(self._images)[:LOOKED_AT]]], _FOLDERS)
        self._pictures = found.pictures
        super().__init__(path, seen=(*renamed, *said, *found.seen))

    def _read(self, kind: Kind) -> None:
        for place, (line, text) in enumerate(read_lines(self.file)):
            row = place - kind.heading
            if row < 0:
                continue
            token = text if isinstance(text, Unread) else kind.read(text)
            if isinstance(token, Unread):
                self._bad.append(Row(row, None, line, self.file, token.kind, token.detail))
            else:
                self._add(row, line, token)

    def _add(self, row: int, line: int, token: Token) -> None:
        image = self._images.setdefault(token.image, _Image(row, line))
        number = image.rows if token.number is None else token.number
        if number in image.captions:
            detail = f"caption {number} of {shown(token.image)} is there already; it is left out"
            self._bad.append(Row(row, None, line, self.file, "repeated id", detail))
            return
        image.captions[number] = line, token.text
        image.rows += 1

    def _rename(self) -> tuple[str, ...]:
        copies = {n: copy[1] for n in self._images if (copy := _COPY.fullmatch(n)) and copy[1] not in self._images}
        taken = {original: n for n, original in copies.items()}
        self._images = {copies[n] if taken.get(copies.get(n, "")) == n else n: i for n, i in self._images.items()}
        return (f"{listed(taken.values())}: without the number behind, as the pictures are called",) if taken else ()

    def pictures(self) -> StoredPictures | None:
        return self._pictures

    def rows(self) -> Iterator[Row]:
        """Images and bad lines in the order of their lines; an image is as many rows as it has captions."""
        loose = tuple(self._loose)
        entries: list[tuple[int, str | Row]] = [
            *((image.row, name) for name, image in self._images.items()),
            *((row.row, row) for row in self._bad),
        ]
        for _, entry in sorted(entries, key=lambda pair: pair[0]):
            row = entry if isinstance(entry, Row) else self._row(entry)
            yield replace(row, problems=(*loose, *row.problems))
            loose = ()

    def _row(self, name: str) -> Row:
        image, captions = self._images[name], Captions(self.file)
        # By their numbers, so that caption n of the list is caption n of the image.
        for number, (line, text) in sorted(image.captions.items()):
            captions.add("the caption", text, line=line, number=number)
        value = {"image": name, "captions": captions.texts, "split": self._splits.get(name)}
        problems, numbers = tuple(captions.problems), tuple(captions.numbers)
        return Row(image.row, value, image.line, self.file, problems=problems, rows=image.rows, numbers=numbers)
