"""From any format to JSON Lines that read back as the same items, and pictures out of their container."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import DataError
from .decoding import PictureError
from .files import Progress
from .pairs import Item, Problem
from .pictures import StoredPictures
from .rows import FIELDS
from .sources import Reading
from .writing import whole_file

__all__ = ["Converted", "convert"]

_SUFFIXES = {b"\xff\xd8": ".jpg", b"\x89PNG": ".png", b"GIF8": ".gif", b"RIFF": ".webp", b"BM": ".bmp"}
_REACHABLE = ("folder", "tar", "shards")
"""Kinds of pictures that `--images` opens; those of other kinds lie inside what is converted."""


@dataclass(frozen=True)
class Converted:
    """What was written.

    Attributes:
        items: as the new file has them.
        problems: what was left out.
        notes: what is otherwise than it was, one line each.
    """

    items: tuple[Item, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


def convert(
    reading: Reading,
    out: str | Path,
    *,
    pictures: str | Path | None = None,
    strict: bool = False,
    progress: Progress | None = None,
) -> Converted:
    """Write items as JSON Lines, one object an image; the file appears whole or not at all.

    Args:
        reading: as `sources.read_rows` gives it.
        out: the file to write.
        pictures: a folder or a `.tar` that the pictures are copied to. Without it, pictures that `--images` can open
            where they are stay there, and of others no picture is named.
        strict: raise at the first picture that cannot be read.
        progress: called with (done, total) while pictures are copied.

    Raises:
        DataError: `out` is no `.jsonl` file or what is read itself, or something cannot be written; another file lies
            where a picture is to be copied to.
    """
    out = Path(out)
    _refuse(out, reading.path)
    items, problems, notes = reading.pairs.items, list(reading.pairs.problems), []
    stored: Any = reading.pairs.pictures
    try:
        if pictures is not None and stored is not None:
            items, left_out = _copied(reading, stored, Path(pictures), strict, progress)
            problems += left_out
        elif pictures is not None:
            notes.append("there are no pictures to copy")
        elif stored is not None and stored.describe()["kind"] not in _REACHABLE:
            notes.append(f"the pictures lie inside {str(reading.path)!r}; --pictures FOLDER_OR_TAR copies them out")
            items = tuple(replace(item, picture=None) for item in items)
        renamed = _write(items, out)
    except OSError as error:
        raise DataError(f"convert: cannot write {str(error.filename or out)!r} ({error.strerror})") from None
    notes += [f"metadata {name!r} is called {new!r}: the name is one of ours" for name, new in renamed.items()]
    moved = [item for item in items if item.numbers]
    if moved:
        notes.append(
            f"captions were left out of {len(moved)} images, such as {moved[0].id!r}: those behind them have other "
            "numbers in the new file, and files of truth that go by them do not fit it"
        )
    if reading.pairs.features is not None and [item.row for item in items] != list(range(len(items))):
        notes.append("feature files go by the rows of what was read, not by the lines of the new file")
    return Converted(items, tuple(problems), tuple(notes))


def _refuse(out: Path, source: Path) -> None:
    if out.suffix != ".jsonl":
        raise DataError(f"convert: cannot write {str(out)!r}, expected a file name that ends in .jsonl")
    if out.is_dir() or (out.exists() and os.path.samefile(out, source)):
        found = "a folder" if out.is_dir() else "the file that is read"
        raise DataError(f"convert: {str(out)!r} is {found}, expected another file name")


def _write(items: Iterable[Item], out: Path) -> dict[str, str]:
    """Metadata that had to be called otherwise: name -> new name."""
    renamed: dict[str, str] = {}
    with whole_file(out) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        for item in items:
            file.write(json.dumps(_object(item, renamed), ensure_ascii=False, allow_nan=False) + "\n")
    return renamed


def _object(item: Item, renamed: dict[str, str]) -> dict[str, Any]:
    row: dict[str, Any] = {} if item.id == item.picture else {"id": item.id}
    if item.picture is not None:
        row["image"] = item.picture
    row["captions"] = list(item.captions) or None
    if item.split is not None:
        row["split"] = item.split
    if item.labels:
        row["labels"] = list(item.labels)
    for name, value in item.metadata.items():
        new = name
        while new in FIELDS or (new != name and new in item.metadata):
            new += "_"
        if new != name:
            renamed[name] = new
        row[new] = value
    return row


def _copied(
    reading: Reading, stored: StoredPictures, to: Path, strict: bool, progress: Progress | None
) -> tuple[tuple[Item, ...], Sequence[Problem]]:
    """The items by the names their pictures have in `to`, and those whose picture cannot be read."""
    kept: list[Item] = []
    problems: list[Problem] = []
    names: dict[str, str] = {}
    total = len(reading.pairs)
    with _tar(to) if to.suffix == ".tar" else _folder(to) as put:
        for n, item in enumerate(reading.pairs):
            if progress is not None:
                progress(n, total)
            try:
                if item.picture is not None and item.picture not in names:
                    data = stored.read(item.picture)
                    names[item.picture] = _named(item.picture, len(names), data)
                    put(names[item.picture], data)
            except PictureError as error:
                problems.append(reading.problem(item, error.kind, str(error)))
                if strict:
                    raise DataError(str(problems[-1])) from None
                continue
            kept.append(item if item.picture is None else replace(item, picture=names[item.picture]))
    return tuple(kept), problems


def _named(name: str, number: int, data: bytes) -> str:
    """Its own name where that is one of a picture, else a number with the suffix of what it is."""
    if name.lower().endswith((".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")):
        return name
    suffix = next((suffix for magic, suffix in _SUFFIXES.items() if data.startswith(magic)), ".bin")
    return f"{number:08d}{suffix}"


Put = Callable[[str, bytes], None]


@contextmanager
def _tar(path: Path) -> Iterator[Put]:
    with whole_file(path) as temporary, tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as tar:

        def put(name: str, data: bytes) -> None:
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            tar.addfile(member, io.BytesIO(data))

        yield put


@contextmanager
def _folder(folder: Path) -> Iterator[Put]:
    folder.mkdir(parents=True, exist_ok=True)

    def put(name: str, data: bytes) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            if path.is_file() and path.read_bytes() == data:
                return
            raise DataError(f"convert: {str(path)!r} is there already and is another file; name an empty folder")
        with whole_file(path) as temporary:
            temporary.write_bytes(data)

    yield put
