"""Karpathy's splits of COCO, Flickr30k and Flickr8k: `dataset_*.json`, images with their sentences and split."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ...errors import DataError
from ..files import first_bytes, identifier, regular_file, storable
from .base import Format, Row, Source
from .captions import Captions, plain, shown
from .nearby import LOOKED_AT, Spellings, look_in, look_near
from .whole_json import read_json

if TYPE_CHECKING:
    from ..pictures import StoredPictures

__all__ = ["KarpathySource", "KarpathySplits"]

_FOLDERS = {
    "flickr8k": ("Flicker8k_Dataset", "Flickr8k_Dataset"),
    "flickr30k": ("flickr30k-images", "flickr30k_images"),
}
"""What the folders of the photographs are called where they were published, by the data set's name."""

# With the colon: a caption may be one of these words, and its quotes are never bare.
_IMAGES, _SENTENCES = (re.compile(rb'"%s"\s*:' % name) for name in (b"images", b"(?:sentences|sentids)"))

_READ = frozenset({"filename", "filepath", "sentences", "sentids", "cocoid"})

_REST = "restval"
"""The images of COCO's val2014 that are in neither val nor test; everybody trains on them."""


class KarpathySplits(Format):
    """One `dataset_*.json`."""

    name: ClassVar[str] = "karpathy"
    title: ClassVar[str] = "Karpathy's splits (dataset_*.json)"
    rank: ClassVar[int] = 20

    def sees(self, path: Path) -> str | None:
        start = first_bytes(path) or b""
        if not start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
            return None
        if _IMAGES.search(start) and _SENTENCES.search(start):
            return "images with sentences and splits"
        return None

    def open(self, path: Path) -> Source:
        root = read_json(regular_file(path, "Karpathy's splits"), "Karpathy's splits", _lean)
        if not isinstance(root.get("images"), list):
            raise DataError(
                f"Karpathy's splits: {str(path)!r} has no list `images`, found the fields {', '.join(map(shown, root))}"
            )
        return KarpathySource(path, root["images"], str(root.get("dataset", "")))


def _lean(value: dict[str, Any]) -> Any:
    # The words of each sentence are there too, and are half of what the file would take in memory.
    if "raw" in value and "tokens" in value:
        return {"raw": value["raw"], "sentid": value.get("sentid")}
    return value


class KarpathySource(Source):
    """The images of the file; of those that have one, COCO's number is the id, of the others the file name."""

    captionless: ClassVar[bool] = True
    unit: ClassVar[str] = "images"

    def __init__(self, path: Path, images: list[Any], dataset: str) -> None:
        self._images = images
        own = path.absolute().parent
        self._wanted = [_spellings(images)]
        self._found = look_near([own, own.parent], self._wanted, _FOLDERS.get(dataset, ()))
        rest = sum(isinstance(image, dict) and image.get("split") == _REST for image in images)
        seen = (f"data set {dataset}",) if dataset and storable(dataset) else ()
        if rest:
            seen = (*seen, f"{rest} images of split {_REST} are read as train, as everybody does")
        super().__init__(path, seen=(*seen, *self._found.seen))

    def pictures(self) -> StoredPictures | None:
        return self._found.pictures

    def within(self, pictures: StoredPictures) -> None:
        """Name the pictures as they lie in these, instead of in those found near the file."""
        self._found = look_in(pictures, self._wanted)

    def rows(self) -> Iterator[Row]:
        for n, image in enumerate(self._images):
            yield _row(self.path, n, image, self._found.ways[0])


def _spellings(images: list[Any]) -> Spellings:
    some = [image for image in images[: 4 * LOOKED_AT] if isinstance(image, dict) and storable(image.get("filename"))]
    return [[_name(image, way) for image in some] for way in (0, 1)]


def _name(image: Mapping[str, Any], way: int) -> str:
    """Its picture: with the folder the file names (way 0), or without."""
    folder, name = image.get("filepath"), str(image["filename"])
    return f"{folder}/{name}" if way == 0 and storable(folder) and folder else name


def _row(path: Path, n: int, image: Any, way: int) -> Row:
    def bad(kind: str, detail: str) -> Row:
        return Row(n, None, kind=kind, detail=f"images[{n}] {detail}")

    if not isinstance(image, dict):
        return bad("not an object", f"is {shown(image)}, expected an object")
    name = image.get("filename")
    if not storable(name) or not name:
        return bad("bad file name", f"has the filename {shown(name)}, expected text")
    sentences = image.get("sentences", [])
    if not isinstance(sentences, list):
        return bad("no captions", f"has the sentences {shown(sentences)}, expected a list")
    further = {key: value for key, value in image.items() if key not in _READ}
    if not plain(further):
        return bad("bad metadata", "holds NaN, half a surrogate pair, or is nested too deeply")
    captions = Captions(path)
    for k, sentence in enumerate(sentences):
        raw, identity = (
            (sentence.get("raw"), sentence.get("sentid")) if isinstance(sentence, dict) else (sentence, None)
        )
        captions.add(f"images[{n}].sentences[{k}]", raw, identity if storable(identifier(identity)) else None)
    cocoid = identifier(image.get("cocoid"))
    value = {
        **further,
        "image": _name(image, way),
        "id": cocoid if cocoid and storable(cocoid) else name,
        "captions": captions.texts,
        "split": "train" if image.get("split") == _REST else image.get("split"),
    }
    if (ids := captions.known_ids()) is not None:
        # Only COCO's are known elsewhere; those of Flickr merely count.
        value["sentids" if cocoid is None else "caption_ids"] = ids
    return Row(n, value, problems=tuple(captions.problems), numbers=tuple(captions.numbers))
