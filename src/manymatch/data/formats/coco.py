"""COCO captions: JSON files with `images` and `annotations`, labels from the instances beside, pictures near them."""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ...errors import DataError
from ..files import first_bytes, identifier, regular_file, storable
from ..pairs import Problem
from .base import Format, Row, Source
from .captions import Captions, listed, plain, shown, split_named
from .nearby import LOOKED_AT, Spellings, look_in, look_near
from .whole_json import read_json

if TYPE_CHECKING:
    from ..pictures import StoredPictures

__all__ = ["CocoCaptions", "CocoSource"]

_NAME = re.compile(r"(?:captions|image_info)_(.+)\.json(?:\.gz)?")
_LISTED = 100
"""Annotations of images that are not there, which are listed one by one: where somebody kept a few of COCO's images and
all of its annotations, they are hundreds of thousands."""

# With the colon: a caption may be one of these words, and its quotes are never bare.
_IMAGES, _KEYS = (re.compile(rb'"%s"\s*:' % n) for n in (b"images", b"(?:file_name|image_id|coco_url|annotations)"))


class CocoCaptions(Format):
    """One file, or a folder (or its `annotations/`) with a `captions_*.json` for each split."""

    name: ClassVar[str] = "coco"
    title: ClassVar[str] = "COCO captions (JSON)"
    rank: ClassVar[int] = 21

    def sees(self, path: Path) -> str | None:
        files = _caption_files(path)
        if files:
            return f"{listed((each.name for each in files), 4)} in {str(files[0].parent)!r}"
        start = first_bytes(path) or b""
        if not start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
            return None
        if _NAME.fullmatch(path.name) or (_IMAGES.search(start) and _KEYS.search(start)):
            return "images and annotations with captions"
        return None

    def open(self, path: Path) -> Source:
        files = _caption_files(path) if os.path.isdir(path) else [regular_file(path, "COCO captions")]
        if not files:
            raise DataError(f"COCO captions: the folder {str(path)!r} holds no captions_*.json, nor does annotations/")
        return CocoSource(path, [_read(each) for each in files])


def _caption_files(path: Path) -> list[Path]:
    """The `captions_*.json` of a folder, or of the `annotations/` in it; of one that is there packed too, the plain."""
    for folder in (path, path / "annotations"):
        try:
            names = sorted(
                name for name in os.listdir(folder) if name.startswith("captions_") and _NAME.fullmatch(name)
            )
        except OSError:
            continue
        files = [folder / n for n in names if n.removesuffix(".gz") == n or n.removesuffix(".gz") not in names]
        files = [each for each in files if os.path.isfile(each)]
        if files:
            return files
    return []


@dataclass
class _Part:
    """One file, read.

    Attributes:
        path, stem: the file, and what its name says behind `captions_`: "train2017".
        images: as they stand.
        captions: image id -> its captions.
        labels: image id -> category names.
        loose: problems that belong to no image.
        strangers: file -> how many of its annotations are of images that are not there.
        before: what goes before an id, where another file has the same number for another picture.
    """

    path: Path
    stem: str
    images: list[Any]
    captions: dict[str, Captions] = field(default_factory=dict)
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    loose: list[Problem] = field(default_factory=list)
    strangers: Counter[Path] = field(default_factory=Counter)
    before: str = ""

    def stranger(self, path: Path, detail: str) -> None:
        """List an annotation of an image that is not there, or only count it when there are many."""
        self.strangers[path] += 1
        if self.strangers[path] <= _LISTED:
            self.loose.append(Problem(str(path), None, "unknown image", detail))

    def count_strangers(self) -> None:
        """Say how many were only counted."""
        for path, count in self.strangers.items():
            if count > _LISTED:
                detail = f"{count - _LISTED:,} more annotations are of no image of {self.path.name}"
                self.loose.append(Problem(str(path), None, "unknown image", detail))

    def pictures_named(self) -> dict[str, str]:
        """Image id -> file name, as far as they are texts."""
        named: dict[str, str] = {}
        for image in self.images:
            if isinstance(image, dict) and isinstance(image.get("file_name"), str):
                identity = identifier(image.get("id"))
                if identity is not None:
                    named.setdefault(identity, image["file_name"])
        return named


class CocoSource(Source):
    """The images of all files, one row each; an image without annotations has no captions."""

    captionless: ClassVar[bool] = True
    unit: ClassVar[str] = "images"

    def __init__(self, path: Path, parts: list[_Part]) -> None:
        self._parts = parts
        self._wanted = [_spellings(part) for part in parts]
        self._found = look_near(_folders(path, parts), self._wanted)
        seen = [f"{part.path.name}: split {split_named(part.stem) or 'unknown'}" for part in parts]
        seen += [f"labels from {_instances(part).name}" for part in parts if part.labels]
        super().__init__(path, seen=(*seen, *_tell_apart(parts), *self._found.seen))

    def pictures(self) -> StoredPictures | None:
        return self._found.pictures

    def within(self, pictures: StoredPictures) -> None:
        """Name the pictures as they lie in these, instead of in those found near the files."""
        self._found = look_in(pictures, self._wanted)

    def rows(self) -> Iterator[Row]:
        first = 0
        for part, way in zip(self._parts, self._found.ways, strict=True):
            prefix = _prefixes(part)[way]
            for n, image in enumerate(part.images):
                problems = part.loose if n == 0 else ()
                yield _row(part, first + n, n, image, prefix, problems)
            first += len(part.images)


def _row(part: _Part, row: int, n: int, image: Any, prefix: str, loose: Sequence[Problem]) -> Row:
    where = f"images[{n}]"

    def bad(kind: str, detail: str) -> Row:
        return Row(row, None, None, part.path, kind, f"{where} {detail}", tuple(loose))

    if not isinstance(image, dict):
        return bad("not an object", f"is {shown(image)}, expected an object")
    identity = identifier(image.get("id"))
    if not identity or not storable(identity):
        return bad("bad id", f"has the id {shown(image.get('id'))}, expected a number or a text")
    name = image.get("file_name")
    if name is not None and not (storable(name) and name):
        return bad("bad file name", f"has the file_name {shown(name)}, expected text")
    further = {key: value for key, value in image.items() if key not in ("id", "file_name")}
    if not plain(further):
        return bad("bad metadata", "holds NaN, half a surrogate pair, or is nested too deeply")
    captions = part.captions.get(identity, Captions(part.path))
    value = {
        "split": split_named(part.stem),
        **further,
        "image": None if name is None else prefix + name,
        "id": part.before + identity,
        "captions": captions.texts,
        "labels": list(part.labels.get(identity, ())),
    }
    if captions.known_ids() is not None:
        value["caption_ids"] = captions.ids
    return Row(row, value, None, part.path, problems=(*loose, *captions.problems), numbers=tuple(captions.numbers))


# ---- reading one file


def _lean(value: dict[str, Any]) -> Any:
    # Outlines of instances are nine tenths of a file; let go one by one they never fill the memory.
    if "category_id" in value and "image_id" in value:
        return {"image_id": value["image_id"], "category_id": value["category_id"]}
    return value


def _read(path: Path) -> _Part:
    root = read_json(path, "COCO captions", _lean)
    images, annotations = root.get("images"), root.get("annotations", [])
    if not isinstance(images, list) or not isinstance(annotations, list):
        raise DataError(
            f"COCO captions: {str(path)!r} has images {_kind(images)} and annotations {_kind(annotations)}, expected "
            f"two lists; its fields are {listed(map(shown, root), 8) or 'none'}"
        )
    if annotations and all(isinstance(each, dict) and "category_id" in each for each in annotations):
        raise DataError(
            f"COCO captions: {str(path)!r} holds instances of categories, not captions; give the captions_*.json "
            "beside it, and the categories become labels"
        )
    found = _NAME.fullmatch(path.name)
    part = _Part(path, found[1] if found else re.sub(r"\.json(\.gz)?$", "", path.name), images)
    _collect(part, annotations)
    _label(part)
    part.count_strangers()
    return part


def _kind(value: Any) -> str:
    return "missing" if value is None else f"of type {type(value).__name__}"


def _collect(part: _Part, annotations: list[Any]) -> None:
    """Each annotation to its image; what is wrong with one goes there too, or where there is none to `loose`."""
    known = {
        identity: Captions(part.path)
        for image in part.images
        if isinstance(image, dict) and (identity := identifier(image.get("id"))) is not None
    }
    ids: dict[str, int] = {}
    for n, annotation in enumerate(annotations):
        where = f"annotations[{n}]"
        if not isinstance(annotation, dict):
            detail = f"{where} is {shown(annotation)}, expected an object"
            part.loose.append(Problem(str(part.path), None, "not an object", detail))
            continue
        captions = known.get(identifier(annotation.get("image_id")) or "")
        if captions is None:
            detail = f"{where} is of image {shown(annotation.get('image_id'))}, which is not among the images"
            part.stranger(part.path, detail)
            continue
        number = annotation.get("id")
        identity = identifier(number)
        if identity is not None and ids.setdefault(identity, n) != n:
            detail = f"{where} has the id {shown(number)} of annotations[{ids[identity]}]; it is kept without its id"
            captions.report("repeated id", detail)
            identity = None
        usable = identity is not None and storable(identity)
        captions.add(f"the caption of {where}", annotation.get("caption"), number if usable else None)
    part.captions = known


# ---- labels


def _instances(part: _Part) -> Path:
    name = f"instances_{part.stem}.json"
    plain = part.path.with_name(name)
    return plain if os.path.isfile(plain) else part.path.with_name(f"{name}.gz")


def _label(part: _Part) -> None:
    path = _instances(part)
    if not os.path.isfile(path):
        return
    root = read_json(path, "COCO instances", _lean)
    categories, annotations = root.get("categories"), root.get("annotations")
    if not isinstance(categories, list) or not isinstance(annotations, list):
        raise DataError(
            f"COCO instances: {str(path)!r} has categories {_kind(categories)} and annotations {_kind(annotations)}, "
            "expected two lists; without the file there are no labels"
        )
    names: dict[str, str] = {}
    for n, each in enumerate(categories):
        identity = identifier(each.get("id")) if isinstance(each, dict) else None
        name = each.get("name") if isinstance(each, dict) else None
        if identity is None or not storable(name):
            part.loose.append(Problem(str(path), None, "bad category", f"categories[{n}] has no id or no name"))
        else:
            names.setdefault(identity, str(name))
    of: dict[str, set[str]] = {}
    for n, each in enumerate(annotations):
        image, category = (
            identifier(each.get(k)) if isinstance(each, dict) else None for k in ("image_id", "category_id")
        )
        if image is None or image not in part.captions:
            part.stranger(path, f"annotations[{n}] is of no image of {part.path.name}")
        elif category is None or category not in names:
            detail = f"annotations[{n}] is of no category of the file"
            part.loose.append(Problem(str(path), None, "unknown category", detail))
        else:
            of.setdefault(image, set()).add(category)
    order = {identity: place for place, identity in enumerate(names)}
    part.labels = {image: [names[c] for c in sorted(found, key=order.__getitem__)] for image, found in of.items()}


# ---- several files, and their pictures


def _tell_apart(parts: Sequence[_Part]) -> Iterator[str]:
    """Put the file's name before the ids of a file that has numbers of an earlier one for other pictures."""
    taken: dict[str, str] = {}
    for part in parts:
        named = part.pictures_named()
        if any(taken.get(identity, name) != name for identity, name in named.items()):
            part.before = f"{part.stem}/"
            yield f"{part.path.name} numbers its images as an earlier file does; their ids begin with {part.before}"
        else:
            taken |= named


def _prefixes(part: _Part) -> tuple[str, ...]:
    return "", f"{part.stem}/", "images/", f"images/{part.stem}/"


def _spellings(part: _Part) -> Spellings:
    names = list(itertools.islice(part.pictures_named().values(), LOOKED_AT))
    return [[prefix + name for name in names] for prefix in _prefixes(part)]


def _folders(path: Path, parts: Sequence[_Part]) -> list[Path]:
    own = parts[0].path.absolute().parent
    above = [own.parent] if own.name == "annotations" or (os.path.isdir(path) and own != path.absolute()) else []
    return [*above, own]
