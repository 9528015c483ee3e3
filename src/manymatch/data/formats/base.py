"""What every format gives: rows, and where the format carries them pictures and features of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..pairs import Problem

if TYPE_CHECKING:
    from ..files import Progress
    from ..pictures import StoredPictures
    from ..stacked import Stacked

__all__ = ["Format", "Row", "Source"]


@dataclass(frozen=True)
class Row:
    """One image as a file has it, or why there is none.

    Attributes:
        row: among the rows of the source, from 0, bad ones counted; feature files are aligned by it.
        value: its fields by the file's own names; None when the row is bad.
        line: where it stands as an editor counts, from 1; None where a format has no lines.
        file: the file it stands in, where that is not the source's path (a shard, a sidecar).
        kind, detail: what is wrong with a bad row, in one or two words and in a sentence.
        problems: what is wrong inside a row that is usable all the same, such as one caption of several.
        rows: how many rows of the source it is made of: 5, where an image stands on five of them, one a caption. The
            sum over all rows, bad ones too, is how many rows a feature file has.
        numbers: which captions of the image those of `value` are, from 0, where some were left out before; else empty.
        met: images that were met before it and come later, where a source gives bad rows first.
    """

    row: int
    value: Mapping[str, Any] | None
    line: int | None = None
    file: Path | None = None
    kind: str = ""
    detail: str = ""
    problems: tuple[Problem, ...] = field(default=())
    rows: int = 1
    numbers: tuple[int, ...] = ()
    met: int = 0


class Source:
    """One data set, opened. Rows are read again each time `rows` is called.

    Attributes:
        path: the file or folder as the user gave it.
        names: our field -> the source's, where the format knows: "image", "captions", "id", "split", "labels". What is
            not there is called as we call it; `--field` goes before both.
        seen: what was found, one line each, in words: which file is what, which column is taken for what.
        captionless: whether an image may have no captions; where it may not, such a row is a bad one.
        null_captions: whether captions that are null, in so many words, say that an image has none.
        texts: whether every value is text, numbers too, as in a table without types.
        unit: what an empty one has none of.
        progress: told (done, total) while rows are read, by formats that open a file a row.
    """

    captionless: ClassVar[bool] = False
    null_captions: ClassVar[bool] = False
    texts: ClassVar[bool] = False
    unit: ClassVar[str] = "rows"

    path: Path
    names: Mapping[str, str]
    seen: tuple[str, ...]
    progress: Progress | None = None

    def __init__(self, path: Path, names: Mapping[str, str] | None = None, seen: tuple[str, ...] = ()) -> None:
        self.path, self.names, self.seen = path, dict(names or {}), seen

    def rows(self) -> Iterator[Row]:
        """Every row, bad ones in their place. Raises DataError where the file as a whole cannot be read."""
        raise NotImplementedError

    def pictures(self) -> StoredPictures | None:
        """Pictures the format carries or finds by its own rules; None leaves it to what lies beside the file."""
        return None

    def within(self, pictures: StoredPictures) -> None:
        """Told before `rows` which pictures the user gave, where a format works out how they are called in there."""

    def features(self) -> Mapping[str, Path | Stacked]:
        """Feature files the format carries: "features" and "pooled" -> path, as `--features` and `--pooled`."""
        return {}


class Format:
    """A way to write image-caption data down. One file of this room each; found by being there.

    Attributes:
        name: as `--format` takes it.
        title: in a sentence: "COCO captions (JSON)".
        rank: formats with lower numbers are asked first whether they know a path.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    rank: ClassVar[int] = 50

    def sees(self, path: Path) -> str | None:
        """By what the path is known to be of this format, in a few words; None when it is not.

        Looks at names and at the first kilobytes, never at a whole file, never raises, never waits (pipes, devices).
        """
        raise NotImplementedError

    def open(self, path: Path) -> Source:
        """The data set at the path. Raises DataError where it is not of this format, or as a whole not readable."""
        raise NotImplementedError
