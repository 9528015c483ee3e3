"""Pairs from the user's files, of any format, with pictures, features and further truth where they are given.

A bad file or argument raises; a bad row is left out and listed in `pairs.problems`, and reading goes on.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .decoding import MAX_PIXELS, PictureError
from .feature_files import open_features
from .files import Progress
from .formats import Format, format_named, known
from .pairs import Item, Pairs, Problem
from .pictures import FolderPictures, StoredPictures, TarPictures, open_pictures, pictures_at
from .rows import Rows
from .truths import open_truths

__all__ = ["Reading", "in_order", "open_pictures", "read_pairs", "read_rows"]


@dataclass(frozen=True)
class Reading:
    """Pairs, and where each item stood.

    Attributes:
        pairs: what is usable.
        path: the file or folder.
        lines: item id -> its line, from 1; None where the format has no lines.
        format: what it was read as.
        seen: by what it is known to be that, and what was found in it, one line each.
        files: item id -> the file it stands in, where that is not `path`.
    """

    pairs: Pairs
    path: Path
    lines: Mapping[str, int | None]
    format: Format
    seen: tuple[str, ...] = ()
    files: Mapping[str, Path] = field(default_factory=dict)

    @property
    def images_at(self) -> Path | None:
        """What `--images` has to be for the same pictures; None where they lie inside the data, or are not there."""
        about = {} if self.pairs.pictures is None else self.pairs.pictures.describe()
        if about.get("kind") in ("folder", "tar"):
            return Path(about["path"])
        return Path(os.path.commonpath(about["paths"])) if about.get("kind") == "shards" else None

    def problem(self, item: Item, kind: str, detail: str) -> Problem:
        """What is wrong with an item, told with the place it stands at."""
        return Problem(str(self.files.get(item.id, self.path)), self.lines[item.id], kind, detail)


def read_pairs(
    path: str | Path,
    *,
    format: str | None = None,
    images: str | Path | None = None,
    features: str | Path | None = None,
    pooled: str | Path | None = None,
    truth: str | Path | Sequence[str | Path] | None = None,
    fields: Mapping[str, str] | None = None,
    strict: bool = False,
    max_pixels: int = MAX_PIXELS,
    progress: Progress | None = None,
) -> Pairs:
    """Read images with captions: of each its `image`, `captions`, `id`, `split` and `labels`, and metadata.

    Only `captions` and one of `image` and `id` are needed; without `id` the image name is it. Any other field is
    metadata. `captions` is a list of texts, or one text. Some formats know images without captions.

    Args:
        path: a file or a folder of any format of `formats`.
        format: its name, where looking is not to decide.
        images: a folder or an uncompressed tar of pictures. Default: those the format carries, else `images/` or
            `images.tar` beside the file, or the file's own folder where its first pictures lie there; otherwise there
            are no pictures.
        features, pooled: precomputed features, see `feature_files`.
        truth: files or folders of further right answers and judgments, see `truths.open_truths`.
        fields: our name -> the file's, such as `{"captions": "sentence", "split": "class_split"}`.
        strict: raise at the first bad row.
        max_pixels: width x height beyond which a picture is refused before it is decoded.
        progress: called with (done, total) while features are looked through, and files that are rows.

    Raises:
        DataError: no such file, nothing usable in it, features that do not fit; with `strict`, any bad row.
        UnknownName: no such format; `fields` names a field of ours we do not have, or one that no row has.
    """
    return read_rows(
        path,
        format=format,
        images=images,
        features=features,
        pooled=pooled,
        truth=truth,
        fields=fields,
        strict=strict,
        max_pixels=max_pixels,
        progress=progress,
    ).pairs


def read_rows(
    path: str | Path,
    *,
    format: str | None = None,
    images: str | Path | None = None,
    features: str | Path | None = None,
    pooled: str | Path | None = None,
    truth: str | Path | Sequence[str | Path] | None = None,
    fields: Mapping[str, str] | None = None,
    strict: bool = False,
    max_pixels: int = MAX_PIXELS,
    progress: Progress | None = None,
) -> Reading:
    """As `read_pairs`, with the line of each item, and what the data were taken for."""
    kind, by = (format_named(format), "as asked for") if format is not None else known(path)
    source = kind.open(Path(path))
    source.progress = progress
    rows = Rows(source, kind, fields or {}, strict)
    pictures = None if images is None else pictures_at(images)
    if pictures is not None:
        source.within(pictures)
    rows.read()
    pictures = pictures or source.pictures() or _beside(source.path, rows.items)
    if pictures is not None:
        if max_pixels != MAX_PIXELS:
            pictures.max_pixels = max_pixels
        rows.require_pictures(pictures)
    carried = source.features() if features is None and pooled is None else {"features": features, "pooled": pooled}
    opened = None
    if any(file is not None for file in carried.values()):
        opened = open_features(carried.get("features"), carried.get("pooled"), items=rows.items, rows=rows.count)
        rows.require_features(opened, progress)
    found = open_truths(truth, strict=strict)
    listed = [problem for each in found.values() for problem in each.problems]
    pairs = Pairs(
        rows.items,
        pictures=pictures,
        features=opened,
        truth=found.pop("matches", None),
        truths=found,
        problems=(*in_order(rows.problems), *listed),
        name=f"{source.path.absolute().parent.name}/{source.path.name.split('.')[0]}",
    )
    return Reading(pairs, source.path, rows.lines, kind, (by, *source.seen), rows.files)


def in_order(problems: Sequence[Problem]) -> list[Problem]:
    """By line within a file, files in the order in which they are first met."""
    place: dict[str, int] = {}
    for problem in problems:
        place.setdefault(problem.file, len(place))
    return sorted(problems, key=lambda problem: (place[problem.file], problem.line or 0))


def _beside(path: Path, items: Sequence[Item]) -> StoredPictures | None:
    folder = path if path.is_dir() else path.parent
    if (folder / "images").is_dir():
        return FolderPictures(folder / "images")
    if (folder / "images.tar").is_file():
        return TarPictures(folder / "images.tar")
    own = FolderPictures(folder)
    return own if any(_is_there(own, name) for name in _first_pictures(items)) else None


def _first_pictures(items: Sequence[Item]) -> Iterator[str]:
    # Several, so that one missing file does not hide a folder full of pictures.
    return itertools.islice((item.picture for item in items if item.picture is not None), 8)


def _is_there(pictures: StoredPictures, name: str) -> bool:
    try:
        pictures.require(name)
    except PictureError:
        return False
    return True
