"""Images with their captions: what is trained on, evaluated and indexed.

`Pairs` is an immutable list of items. Where their pictures, features and extra truth come from are three small
protocols, so that a folder, a tar, the toy world or a feature file all look the same from the rooms below.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, overload

import numpy as np
from PIL import Image

from ..errors import DataError, UnknownName
from .decoding import MAX_PIXELS
from .features import Features
from .matches import Matches

_LONGEST = 1000
"""Characters of what is said of one problem."""

__all__ = ["FeatureRows", "Images", "Item", "Pairs", "Pictures", "Problem", "Truth"]


@dataclass(frozen=True)
class Item:
    """One image with its captions.

    Attributes:
        id: the user's name for it, unique in a Pairs.
        captions: its own captions, called `<id>#<n>`, see `numbers`.
        split: "train", "val", "test" or any other word; None where the file has none.
        labels: class or category names (may be empty).
        metadata: every other field of its line.
        picture: its name inside the Pictures, None without a picture.
        row: its row in the file it came from (bad rows counted), which is how feature files are aligned.
        numbers: n of each caption where they do not simply count from 0: those that were left out keep theirs, so that
            a truth that names captions by their places in the file names the same ones.
    """

    id: str
    captions: tuple[str, ...]
    split: str | None = None
    labels: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    picture: str | None = None
    row: int = 0
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Problem:
    """A row that was left out, or a finding of `check`: where, what kind, in words.

    Words that repeat a name of a megabyte are cut in their middle.
    """

    file: str
    line: int | None
    kind: str
    detail: str

    def __post_init__(self) -> None:
        if len(self.detail) > _LONGEST:
            half = _LONGEST // 2
            object.__setattr__(self, "detail", f"{self.detail[:half]} ... {self.detail[-half:]}")

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{where}: {self.kind}: {self.detail}"


class Pictures(Protocol):
    """Where pictures are read from."""

    def open(self, name: str) -> Image.Image:
        """The decoded RGB picture, EXIF orientation applied. Raises DataError (unreadable, missing, too large)."""
        ...

    def read(self, name: str) -> bytes:
        """The encoded bytes as stored. Raises DataError."""
        ...

    def names(self) -> Sequence[str]:
        """Every picture there is."""
        ...

    def describe(self) -> dict[str, Any]:
        """JSON from which `sources.open_pictures` opens the same pictures again."""
        ...


class FeatureRows(Protocol):
    """Precomputed features by item."""

    def get(self, items: Sequence[Item]) -> Features:
        """Float32 features of the items, read from disk now. Raises DataError.

        A reader whose every answer is in memory of its own says so by `fresh = True`: training then writes over it.
        """
        ...

    def sizes(self) -> dict[str, int]:
        """`fragments` (f), `fragment_width` (c), `pooled_width` (p), each where it exists."""
        ...


class Truth(Protocol):
    """More right answers than the own captions: exhaustive matches, judgments."""

    def matches(self, pairs: Pairs) -> Matches:
        """All right answers among the images and captions of `pairs`."""
        ...


class Images(Sequence[Image.Image]):
    """The images of some pairs, unread. A slice is Images again; an integer decodes one picture."""

    def __init__(
        self, items: Sequence[Item], pictures: Pictures | None = None, features: FeatureRows | None = None
    ) -> None:
        self.items, self.pictures, self.features = tuple(items), pictures, features

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, rows: int) -> Image.Image: ...
    @overload
    def __getitem__(self, rows: slice) -> Images: ...
    def __getitem__(self, rows: int | slice) -> Image.Image | Images:
        if isinstance(rows, slice):
            return Images(self.items[rows], self.pictures, self.features)
        return self._open(self.items[rows])

    def take(self, rows: Iterable[int]) -> Images:
        """The images at these rows, in this order."""
        return Images([self.items[int(r)] for r in rows], self.pictures, self.features)

    def _open(self, item: Item) -> Image.Image:
        if self.pictures is None or item.picture is None:
            raise DataError(f"image {item.id!r}: no picture, only captions or features; give --images PATH")
        return self.pictures.open(item.picture)

    def decode(self) -> list[Image.Image]:
        """All pictures, decoded now. Raises DataError at the first unreadable one."""
        return [self._open(item) for item in self.items]

    def read_features(self) -> Features:
        """The precomputed features, read now. Raises DataError when there are none."""
        if self.features is None:
            raise DataError(
                "these pairs have no precomputed features, but the run's image tower reads them; "
                "give --features FILE (and --pooled FILE)"
            )
        return self.features.get(self.items)


class Pairs:
    """Images with captions, and what belongs to them. Immutable; `split`, `take` and `where` give new ones.

    Args:
        items: the images, each with at least one caption unless the Pairs are only to be indexed.
        pictures, features, truth: where pixels, precomputed features and further right answers come from.
        truths: judgments and annotations of other kinds by the name of their protocol, see `truths`.
        problems: rows that were left out on reading.
        name: how tables and run folders call this data.
    """

    def __init__(
        self,
        items: Sequence[Item],
        *,
        pictures: Pictures | None = None,
        features: FeatureRows | None = None,
        truth: Truth | None = None,
        truths: Mapping[str, Any] | None = None,
        problems: Sequence[Problem] = (),
        name: str = "pairs",
    ) -> None:
        self.items = tuple(items)
        self.pictures, self.features, self.truth = pictures, features, truth
        self.truths = dict(truths or {})
        self.problems, self.name = tuple(problems), name
        seen: set[str] = set()
        for item in self.items:
            if item.id in seen:
                raise DataError(f"pairs: id {item.id!r} is there twice, expected every id once")
            seen.add(item.id)

    @staticmethod
    def toy(images: int = 600, *, seed: int = 0, size: int = 64) -> Pairs:
        """The rendered toy world: `images` pictures of `size` pixels, five captions each, every right answer known.

        Splits: "train", "val" and "test" (8 : 1 : 1). The same seed and count give the same world.
        """
        from .toy import toy_pairs

        return toy_pairs(images, seed=seed, size=size)

    @staticmethod
    def read(
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
    ) -> Pairs:
        """Read a file or folder of any known format. See `sources.read_pairs`, which this calls."""
        from .sources import read_pairs

        return read_pairs(
            path,
            format=format,
            images=images,
            features=features,
            pooled=pooled,
            truth=truth,
            fields=fields,
            strict=strict,
            max_pixels=max_pixels,
        )

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)

    def __repr__(self) -> str:
        return f"Pairs({self.name}: {len(self)} images, {len(self.captions)} captions)"

    def _with(self, items: Sequence[Item], name: str | None = None) -> Pairs:
        return Pairs(
            items,
            pictures=self.pictures,
            features=self.features,
            truth=self.truth,
            truths=self.truths,
            problems=self.problems,
            name=name or self.name,
        )

    @property
    def images(self) -> Images:
        """What `model.encode_images` takes; sliceable, nothing is read yet."""
        return Images(self.items, self.pictures, self.features)

    @cached_property
    def image_ids(self) -> list[str]:
        return [item.id for item in self.items]

    @cached_property
    def captions(self) -> list[str]:
        """All captions, image by image: (c,)."""
        return [caption for item in self.items for caption in item.captions]

    @cached_property
    def caption_ids(self) -> list[str]:
        """`<image id>#<n>`, n from 0 (or as `Item.numbers` has it), in the order of `captions`."""
        return [f"{item.id}#{n}" for item in self.items for n in item.numbers or range(len(item.captions))]

    @cached_property
    def owner(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """(c,): the image row of each caption."""
        return np.repeat(np.arange(len(self.items)), [len(item.captions) for item in self.items]).astype(np.int64)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of ids and captions in their order, hex."""
        digest = hashlib.sha256()
        for item in self.items:
            digest.update(json.dumps([item.id, *item.captions]).encode())
        return digest.hexdigest()

    def describe(self) -> dict[str, Any]:
        """Name, counts and digest, as JSON."""
        return {"name": self.name, "images": len(self), "captions": len(self.captions), "sha256": self.digest}

    def matches(self) -> Matches:
        """Own captions only: (i, c), what training sees."""
        return Matches.from_owner(self.owner, len(self))

    def exhaustive(self) -> Matches | None:
        """Every right answer where `truth` knows it, else None."""
        return None if self.truth is None else self.truth.matches(self)

    @property
    def splits(self) -> dict[str, int]:
        """Split name -> number of images, in order of appearance; items without a split are not counted."""
        out: dict[str, int] = {}
        for item in self.items:
            if item.split is not None:
                out[item.split] = out.get(item.split, 0) + 1
        return out

    def split(self, name: str) -> Pairs:
        """The items of one split. Raises UnknownName when no item is in it."""
        if name not in self.splits:
            raise UnknownName(f"split of {self.name}", name, self.splits)
        return self._with([i for i in self.items if i.split == name], f"{self.name}:{name}")

    def take(self, rows: Iterable[int]) -> Pairs:
        """The items at these rows, in this order."""
        return self._with([self.items[int(r)] for r in rows])

    def captioned(self) -> Pairs:
        """The images with captions. Raises DataError when none has any."""
        kept = [item for item in self.items if item.captions]
        if not kept:
            raise DataError(f"{self.name}: none of the {len(self)} images has a caption, and this needs captions")
        return self if len(kept) == len(self) else self._with(kept)

    def without(self, ids: Iterable[str], problems: Sequence[Problem] = ()) -> Pairs:
        """All but the named items; `problems` say why."""
        gone = set(ids)
        out = self._with([i for i in self.items if i.id not in gone])
        out.problems = (*self.problems, *problems)
        return out

    def with_splits(self, chosen: Mapping[str, str]) -> Pairs:
        """The same items with `split` set by id."""
        return self._with([replace(i, split=chosen.get(i.id, i.split)) for i in self.items])
