"""The toy world: rendered pictures whose every right answer is known, because the world knows its scenes.

Training sees own captions only, as real data does; the exhaustive truth is for evaluation. The same seed gives the same
world, and a larger one begins with the smaller.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from ..errors import DataError
from .files import Progress
from .matches import Matches
from .pairs import Item, Pairs
from .toy_captions import Statement, captions_of
from .toy_scenes import SceneTable, render, scene_at
from .writing import whole_file

__all__ = ["ToyPictures", "ToyTruth", "toy_pairs", "write_toy"]

_CAPTIONS = 5
_NAME = "toy-{:05d}.png"


@lru_cache(maxsize=16384)
def _statements(seed: int, number: int) -> tuple[Statement, ...]:
    return tuple(captions_of(scene_at(seed, number), Random(f"toy captions {seed} {number}"), _CAPTIONS))


class ToyPictures:
    """The world's pictures, rendered when asked for; nothing is kept."""

    def __init__(self, images: int, *, seed: int = 0, size: int = 64) -> None:
        if images < 1 or size < 16:
            raise DataError(f"toy world: {images} images of {size} pixels, expected at least 1 of at least 16")
        self.images, self.seed, self.size = images, seed, size
        self._number = {_NAME.format(n): n for n in range(images)}

    def open(self, name: str) -> Image.Image:
        if name not in self._number:
            raise DataError(
                f"toy world: no picture {name!r}, expected {_NAME.format(0)} to {_NAME.format(self.images - 1)}"
            )
        return render(scene_at(self.seed, self._number[name]), self.size)

    def read(self, name: str) -> bytes:
        buffer = io.BytesIO()
        self.open(name).save(buffer, "PNG")
        return buffer.getvalue()

    def names(self) -> Sequence[str]:
        return list(self._number)

    def describe(self) -> dict[str, Any]:
        return {"kind": "toy", "images": self.images, "seed": self.seed, "size": self.size}


class ToyTruth:
    """Every right answer: a caption matches a picture when what it says is true of its scene."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def matches(self, pairs: Pairs) -> Matches:
        """Among the images and captions of `pairs`: (i, c). Each different caption is worked out once."""
        numbers = [_number(item.id) for item in pairs.items]
        table = SceneTable([scene_at(self.seed, n) for n in numbers])
        said = {s.words(): s for n in numbers for s in _statements(self.seed, n)}
        true_of = {words: np.flatnonzero(statement.holds(table)) for words, statement in said.items()}
        images, captions = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for column, words in enumerate(pairs.captions):
            images.append(true_of[words])
            captions.append(np.full(len(true_of[words]), column))
        return Matches.of(np.concatenate(images), np.concatenate(captions), (len(pairs), len(pairs.captions)))


def _number(item_id: str) -> int:
    digits = item_id.removeprefix("toy-").removesuffix(".png")
    if not digits.isdecimal() or _NAME.format(int(digits)) != item_id:
        raise DataError(f"toy world: {item_id!r} is not one of its pictures, so its truth knows nothing of it")
    return int(digits)


def _item(seed: int, number: int) -> Item:
    scene = scene_at(seed, number)
    return Item(
        id=_NAME.format(number),
        captions=tuple(s.words() for s in _statements(seed, number)),
        split={8: "val", 9: "test"}.get(number % 10, "train"),
        labels=tuple(sorted({f"{t.colour} {t.shape}" for t in scene.things})),
        metadata={"objects": len(scene.things), "background": scene.background},
        picture=_NAME.format(number),
        row=number,
    )


def toy_pairs(images: int = 600, *, seed: int = 0, size: int = 64) -> Pairs:
    """The world as Pairs: five captions each, exhaustive truth, splits train, val and test 8 : 1 : 1.

    Args:
        images: how many pictures; about 6,000 are enough to learn from, 2,000 are not.
        seed: of the world.
        size: pixels of a side, at least 16.
    """
    pictures = ToyPictures(images, seed=seed, size=size)
    items = [_item(seed, n) for n in range(images)]
    return Pairs(items, pictures=pictures, truth=ToyTruth(seed), name=f"toy-{images}-{seed}")


def write_toy(
    folder: str | Path, images: int = 6000, *, seed: int = 0, size: int = 64, progress: Progress | None = None
) -> Path:
    """The same world as files: `images.tar`, `truth.jsonl` (val and test), and last `captions.jsonl`.

    Returns the path of `captions.jsonl`.

    Args:
        progress: told now and then how many pictures of how many are rendered.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    pairs = toy_pairs(images, seed=seed, size=size)
    _write_pictures(folder / "images.tar", pairs, progress)
    with whole_file(folder / "truth.jsonl") as temporary, open(temporary, "w", encoding="utf-8") as file:
        for split in ("val", "test"):
            if split in pairs.splits:
                _write_truth(file, pairs.split(split))
    with whole_file(folder / "captions.jsonl") as temporary, open(temporary, "w", encoding="utf-8") as file:
        for item in pairs.items:
            row = {"image": item.picture, "split": item.split, "captions": list(item.captions)}
            file.write(json.dumps({**row, "labels": list(item.labels), **item.metadata}) + "\n")
    return folder / "captions.jsonl"


def _write_pictures(path: Path, pairs: Pairs, progress: Progress | None) -> None:
    assert pairs.pictures is not None
    with whole_file(path) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
        for n, name in enumerate(pairs.pictures.names()):
            data = pairs.pictures.read(name)
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
            if progress is not None and (n + 1) % 50 == 0:
                progress(n + 1, len(pairs))


def _write_truth(file: io.TextIOBase | Any, pairs: Pairs) -> None:
    """One line a caption: the images it is true of. The other direction follows from it."""
    assert pairs.truth is not None
    matches = pairs.truth.matches(pairs).transpose()
    starts = matches.indptr()
    for n, query in enumerate(pairs.caption_ids):
        found = [pairs.image_ids[i] for i in matches.captions[starts[n] : starts[n + 1]]]
        file.write(json.dumps({"query": query, "matches": found}) + "\n")
