"""The layout of the research forks: `<split>_ims.npy` with `<split>_caps.txt`, one caption a line, and ids beside.

The features stay where they are. They have one row an image, each with as many captions as there are for it, or one
row a caption, so that an image with five captions stands there five times (the forks' val and test files).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ...errors import DataError
from ..feature_files import Stacked
from ..files import regular_file
from .base import Format, Row, Source
from .captions import Captions, listed, split_named
from .precomp_layout import Layout, counted, ids_of, layout, names_of, text_lines

__all__ = ["PrecompSource", "PrecomputedFeatures"]

_NAME = re.compile(r"(.+)_(ims\.npy|caps\.txt|ids\.txt|caption_ids\.txt)")
_PAIR = re.compile(r"(.+)_(?:ims\.npy|caps\.txt)")
_SPLITS = {"train": 0, "val": 1, "test": 2}
_PICTURE = re.compile(r".*\.(?:jpe?g|png|webp)", re.IGNORECASE | re.DOTALL)


class PrecomputedFeatures(Format):
    """A folder of splits, or one split named by one of its files."""

    name: ClassVar[str] = "precomp"
    title: ClassVar[str] = "precomputed features (<split>_ims.npy with <split>_caps.txt)"
    rank: ClassVar[int] = 31

    def sees(self, path: Path) -> str | None:
        names = _names(path)
        return None if not names else f"{listed((f'{name}_ims.npy with {name}_caps.txt' for name in names), 4)}"

    def open(self, path: Path) -> Source:
        names = _names(path)
        if not names:
            if not os.path.isdir(path):
                regular_file(path, "precomputed features")
            raise DataError(
                f"precomputed features: {str(path)!r}: found no <split>_ims.npy with <split>_caps.txt beside"
            )
        folder = path if os.path.isdir(path) else path.parent
        return PrecompSource(path, [_split(folder, name, word) for name, word in _words(names)], _left_out(path, names))


def _names(path: Path) -> list[str]:
    """The splits of a folder, train first, or the one split of a file; those whose features and captions are there."""
    if os.path.isdir(path):
        try:
            found = {match[1] for name in os.listdir(path) if (match := _NAME.fullmatch(name))}
        except OSError:
            return []
    else:
        match = _NAME.fullmatch(path.name)
        found, path = ({match[1]} if match else set()), path.parent
    there = [n for n in found if os.path.isfile(path / f"{n}_ims.npy") and os.path.isfile(path / f"{n}_caps.txt")]
    return sorted(there, key=lambda n: (_SPLITS.get(split_named(n) or "", 3), n))


def _left_out(path: Path, names: Sequence[str]) -> tuple[str, ...]:
    if not os.path.isdir(path):
        return ()
    alone = sorted(name for name in os.listdir(path) if (match := _PAIR.fullmatch(name)) and match[1] not in names)
    return (f"left out, as features or captions are missing: {listed(alone, 4)}",) if alone else ()


@dataclass
class _Split:
    """One split.

    Attributes:
        name, split: as its files are called, and which one it is.
        features, captions: its files.
        layout: which rows and which captions belong together.
        ids: the name of each image, None where there are none.
        caption_ids: the id of each caption, None where there are none.
    """

    name: str
    split: str
    features: Path
    captions: Path
    layout: Layout
    ids: Sequence[str] | None
    caption_ids: Sequence[str] | None

    def seen(self) -> str:
        named = "named by the ids" if self.ids is not None else f"named {self.split}-0 and so on"
        return (
            f"{self.name}: split {self.split}, {len(self.layout)} images, {named}; {self.layout.lines} captions, "
            f"{self.layout.rows} rows of features, {self.layout.why}"
        )


def _words(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each name with its split: the usual word where one of them alone means it, else the name."""
    words = [split_named(name) for name in names]
    for name, word in zip(names, words, strict=True):
        yield name, word if word is not None and words.count(word) == 1 else name


def _split(folder: Path, name: str, split: str) -> _Split:
    features, captions = folder / f"{name}_ims.npy", folder / f"{name}_caps.txt"
    ids, listed_ids = ids_of(folder / f"{name}_ids.txt"), ids_of(folder / f"{name}_caption_ids.txt")
    found = layout(features, counted(captions), captions, ids)
    names, more = names_of(found, ids, folder / f"{name}_ids.txt")
    if listed_ids is not None and len(listed_ids) != found.lines:
        raise DataError(
            f"precomputed features: {str(folder / f'{name}_caption_ids.txt')!r} has {len(listed_ids)} lines, expected "
            f"one for each of the {found.lines} captions"
        )
    return _Split(name, split, features, captions, found, names, more if listed_ids is None else listed_ids)


class PrecompSource(Source):
    """The images of all splits, one row each; their features are the files themselves, read as one."""

    unit: ClassVar[str] = "images"

    def __init__(self, path: Path, splits: Sequence[_Split], seen: tuple[str, ...] = ()) -> None:
        self._splits = splits
        self._before = _told_apart(splits)
        said = [f"{s.name}: its ids are those of other images too, and begin with {b}" for s, b in self._shared()]
        super().__init__(path, seen=(*(split.seen() for split in splits), *said, *seen))

    def _shared(self) -> Iterator[tuple[_Split, str]]:
        return ((split, before) for split, before in zip(self._splits, self._before, strict=True) if before)

    def features(self) -> Mapping[str, Path | Stacked]:
        return {"features": Stacked(tuple(split.features for split in self._splits))}

    def rows(self) -> Iterator[Row]:
        first = 0
        for split, before in zip(self._splits, self._before, strict=True):
            yield from _rows(split, before, first)
            first += split.layout.rows


def _told_apart(splits: Sequence[_Split]) -> list[str]:
    """What goes before the ids of each split: nothing, or its name where an earlier split has one of its ids."""
    taken: set[str] = set()
    out = []
    for split in splits:
        names = set(split.ids or ())
        shared = not taken.isdisjoint(names)
        out.append(f"{split.name}/" if shared else "")
        taken |= names
    return out


def _rows(split: _Split, before: str, first: int) -> Iterator[Row]:
    lines = text_lines(split.captions)
    number = 0
    for n, (row, rows, count) in enumerate(split.layout):
        captions, started = Captions(split.captions), number + 1
        for _ in range(count):
            text = next(lines, "")
            identity = None if split.caption_ids is None else split.caption_ids[number]
            number += 1
            captions.add("the caption", text, _number(identity), number)
        name = None if split.ids is None else split.ids[n]
        value = {
            "id": f"{split.split}-{n}" if name is None else before + name,
            "captions": captions.texts,
            "split": split.split,
        }
        if name is not None and _PICTURE.fullmatch(name):
            value["image"] = name
        if (known := captions.known_ids()) is not None:
            value["caption_ids"] = known
        problems, numbers = tuple(captions.problems), tuple(captions.numbers)
        yield Row(first + row, value, started, split.captions, problems=problems, rows=rows, numbers=numbers)


def _number(identity: str | None) -> str | int | None:
    return int(identity) if identity is not None and re.fullmatch("[0-9]{1,18}", identity) else identity
