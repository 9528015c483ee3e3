"""WebDataset shards: uncompressed tars in which the files of one sample share their name up to the first dot."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ...errors import DataError
from ..decoding import PictureError
from ..files import first_bytes
from ..pictures.base import is_picture
from ..pictures.headers import TarDamage, members
from ..pictures.shards import braces, shard_paths, tars_in
from ..pictures.tar import Contents, open_tar, read_at
from .base import Format, Row, Source
from .captions import Captions, listed, plain, shown, split_below
from .names import SYNONYMS

if TYPE_CHECKING:
    from ..pictures import StoredPictures

__all__ = ["Shards", "ShardsSource"]

_LONGEST = 2**20
"""Bytes of a text or JSON member; nothing longer is a caption, and it would have to be held whole."""

_TEXTS = ("txt", "caption")
_LABELS = ("labels", "label")
_PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_LINES = (".jsonl", ".jsonl.gz", ".ndjson", ".csv", ".tsv", ".csv.gz", ".tsv.gz")
_LOOKED_AT = 300
"""Members that are looked at to say what a sample is made of."""


@dataclass
class _Sample:
    """The members of one key: each the part of its name after the first dot, in lower case, and the name."""

    key: str
    parts: list[tuple[str, str]] = field(default_factory=list)


class ShardsSource(Source):
    """The samples of some shards, one after the other; what is read of a shard at once are its headers.

    Raises:
        DataError: a shard that is not there, compressed, or no tar.
    """

    captionless: ClassVar[bool] = True
    unit: ClassVar[str] = "samples"

    def __init__(self, path: Path) -> None:
        from ..pictures import ShardPictures

        self.shards = shard_paths(path)
        self._pictures = ShardPictures(self.shards)
        splits = Counter(split_below(path, shard) for shard in self.shards)
        told = ", ".join(
            f"{count} of split {split}" if split else f"{count} without a split" for split, count in splits.items()
        )
        super().__init__(path, {}, (f"{len(self.shards)} shards: {told}", *_first_look(self.shards[0])))

    def pictures(self) -> StoredPictures:
        return self._pictures

    def rows(self) -> Iterator[Row]:
        row = 0
        for number, shard in enumerate(self.shards):
            try:
                prefix, contents = self._pictures.everything(number)
                handle = open_tar(shard)
            except DataError as error:
                yield Row(row, None, file=shard, kind="damaged file", detail=str(error))
                row += 1
                continue
            try:
                for sample in _samples(contents):
                    yield _Reader(shard, handle, contents, prefix, split_below(self.path, shard)).row(sample, row)
                    row += 1
                for name in contents.outside:
                    detail = f"member {name!a}: a name that leads out of the tar, or is no UTF-8; it is left out"
                    yield Row(row, None, file=shard, kind="outside the folder", detail=detail, rows=0)
            finally:
                os.close(handle)


def _first_look(shard: Path) -> Iterator[str]:
    """What the first samples of the first shard are made of."""
    handle = open_tar(shard)
    try:
        names = [m.name for m in itertools.islice(members(handle), _LOOKED_AT) if m.regular]
    except (TarDamage, OSError):
        return
    finally:
        os.close(handle)
    parts = Counter(part for _, part in map(_cut, names) if part)
    if parts:
        yield f"members of the first samples: {', '.join(f'.{part}' for part, _ in parts.most_common(8))}"


def _cut(name: str) -> tuple[str, str]:
    """(key, the part after the first dot of the base name, in lower case)."""
    folder, slash, base = name.rpartition("/")
    stem, _, part = base.partition(".")
    return f"{folder}{slash}{stem}", part.lower()


def _samples(contents: Contents) -> Iterator[_Sample]:
    """The members of a shard by their keys, in the order in which keys first occur; hidden files are no samples."""
    found: dict[str, _Sample] = {}
    for name in itertools.chain(contents.files, contents.broken):
        key, part = _cut(name)
        if part and not key.endswith("/") and key:
            found.setdefault(key, _Sample(key)).parts.append((part, name))
    yield from found.values()


@dataclass
class _Reader:
    """Samples of one shard to rows."""

    shard: Path
    handle: int
    contents: Contents
    prefix: str
    split: str | None

    def row(self, sample: _Sample, row: int) -> Row:
        pictures = [name for part, name in sample.parts if is_picture(f".{part}")]
        whole = [name for name in pictures if name in self.contents.files]
        captions = Captions(self.shard)
        if not whole:
            found = listed([f".{part}" for part, _ in sample.parts], 6)
            kind = "damaged file" if pictures else "missing picture"
            why = "the shard breaks off inside its picture" if pictures else f"no picture, found {found}"
            return Row(row, None, file=self.shard, kind=kind, detail=f"sample {sample.key!r}: {why}")
        if len(whole) > 1:
            detail = f"sample {sample.key!r} has {len(whole)} pictures, {whole[0]!r} is taken"
            captions.report("several pictures", detail)
        value = self._value(sample, captions)
        return Row(row, {"image": self.prefix + whole[0], **value}, file=self.shard, problems=tuple(captions.problems))

    def _value(self, sample: _Sample, captions: Captions) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        texts = sorted(
            (part for part in sample.parts if part[0].rpartition(".")[2] in _TEXTS), key=lambda p: _order(p[0])
        )
        for _, name in texts:
            text = self._text(name, captions)
            if text is not None:
                captions.add(f"member {name!r}", text.strip())
        for part, name in sample.parts:
            if part.rpartition(".")[2] == "json":
                fields |= self._object(name, captions)
        labels = [self._text(name, captions) for part, name in sample.parts if part == "cls"]
        return self._fields(fields, [label.strip() for label in labels if label], captions)

    def _fields(self, fields: dict[str, Any], labels: Sequence[str], captions: Captions) -> dict[str, Any]:
        """Fields of JSON under our names; captions of the texts go before its own, each once."""
        named = next((name for name in ("captions", *SYNONYMS["captions"]) if name in fields), None)
        if named is not None:
            given = fields.pop(named)
            for each in given if isinstance(given, list) else [given]:
                text = each.get("raw") if isinstance(each, dict) else each
                if text is not None and text not in captions.texts:
                    captions.add(repr(named), text)
        own = next((name for name in _LABELS if fields.get(name) is not None), None)
        if labels or own:
            fields["labels"] = [*labels, *_listed(fields.pop(own))] if own else list(labels)
        split = fields.pop("split", None) or self.split
        # The picture is the one in the sample, whatever its JSON says of names.
        fields.pop("image", None)
        return {
            **({"split": split} if split else {}),
            **fields,
            **({"captions": captions.texts} if captions.texts else {}),
        }

    def _bytes(self, name: str, captions: Captions) -> bytes | None:
        if name not in self.contents.files:
            captions.report("damaged file", f"the shard breaks off inside {name!r}; it is left out")
            return None
        place = self.contents.files[name]
        if place[1] > _LONGEST:
            captions.report("member too large", f"{name!r} has {place[1]} bytes, at most {_LONGEST}; it is left out")
            return None
        try:
            return read_at(self.handle, name, place)
        except PictureError as error:
            captions.report("damaged file", str(error))
            return None

    def _text(self, name: str, captions: Captions) -> str | None:
        data = self._bytes(name, captions)
        try:
            return None if data is None else data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            captions.report("caption is not text", f"{name!r}: byte {error.start + 1} is not UTF-8; it is left out")
            return None

    def _object(self, name: str, captions: Captions) -> dict[str, Any]:
        text = self._text(name, captions)
        if text is None:
            return {}
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            captions.report("not JSON", f"{name!r}: {error or 'nested too deeply'}; it is left out")
            return {}
        if not isinstance(value, dict):
            captions.report("not an object", f"{name!r} is {shown(value)}, expected a JSON object; it is left out")
            return {}
        for key in [key for key, each in value.items() if not plain(key) or not plain(each)]:
            del value[key]
            captions.report("bad metadata", f"{name!r}: {shown(key)} cannot be written as JSON again; it is left out")
        return value


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _order(part: str) -> tuple[Any, ...]:
    """`2.txt` before `10.txt`; `txt` before both."""
    return tuple((0, int(word), "") if word.isdecimal() else (1, 0, word) for word in re.split(r"(\d+)", part) if word)


class Shards(Format):
    """Tars of samples: a picture, its captions as text, and JSON with further fields, all called alike."""

    name: ClassVar[str] = "webdataset"
    title: ClassVar[str] = "WebDataset: a tar, a folder of tars, or shards-{000..003}.tar"
    rank: ClassVar[int] = 32

    def sees(self, path: Path) -> str | None:
        if os.path.isdir(path):
            if _has_lines(path):
                return None
            return "a folder of tars" if any(map(_is_tar, itertools.islice(tars_in(path), 3))) else None
        if path.name.lower().endswith(_PACKED) and first_bytes(path, 1) is not None:
            return "a compressed tar"
        if _is_tar(path):
            return "a tar"
        try:
            named = None if os.path.exists(path) else braces(str(path))
        except (DataError, ValueError):
            return None
        return f"a pattern of {len(named)} shards" if named and any(map(os.path.isfile, named)) else None

    def open(self, path: Path) -> Source:
        return ShardsSource(path)


def _has_lines(folder: Path) -> bool:
    """Whether captions lie beside the tars as lines or a table: the tars are only the pictures then."""
    try:
        with os.scandir(folder) as entries:
            return any(entry.name.lower().endswith(_LINES) for entry in entries)
    except OSError:
        return False


def _is_tar(path: Path) -> bool:
    """By its name and the mark in its first header; old tars without the mark by their name alone."""
    if not path.name.lower().endswith(".tar"):
        return False
    head = first_bytes(path, 512)
    return head is not None and (head[257:262] == b"ustar" or len(head) == 512)
