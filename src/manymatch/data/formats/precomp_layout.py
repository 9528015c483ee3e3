"""Which rows of features and which captions of a precomputed split belong to which image."""

from __future__ import annotations

import hashlib
import itertools
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import DataError
from ..arrays import Array, open_arrays
from ..files import LONGEST_LINE, inside, regular_file, storable
from .whole_json import read_json

__all__ = ["Layout", "counted", "ids_of", "layout", "names_of", "text_lines"]

_COMPARED = 100
"""Rows of features that are compared with each other: 20 images at five captions, 30 MB of the usual regions."""


@dataclass(frozen=True)
class Layout:
    """The images of a split, in order.

    Attributes:
        counts: for each image how many rows of features it has, and how many captions.
        rows, lines: all of them.
        why: by what this was told, in words.
    """

    counts: Sequence[tuple[int, int]]
    rows: int
    lines: int
    why: str

    def __len__(self) -> int:
        return len(self.counts)

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        """(first row, rows, captions) of each image."""
        row = 0
        for rows, captions in self.counts:
            yield row, rows, captions
            row += rows


def text_lines(path: Path) -> Iterator[str | bytes]:
    """Every line without its end, blank ones too; bytes where it is not UTF-8. Raises DataError (unreadable, too long).

    Lines must not be passed over: the n-th caption is the n-th line.
    """
    try:
        with open(path, "rb") as file:
            while line := file.readline(LONGEST_LINE):
                if len(line) == LONGEST_LINE:
                    raise DataError(f"precomputed features: {str(path)!r} has a line of more than {LONGEST_LINE} bytes")
                line = line.rstrip(b"\r\n").removeprefix(b"\xef\xbb\xbf")
                try:
                    yield line.decode()
                except UnicodeDecodeError:
                    yield line
    except OSError as error:
        raise DataError(f"precomputed features: {str(path)!r} cannot be read ({error.strerror})") from None


def counted(path: Path) -> tuple[int, int]:
    """(lines, lines up to the last that is not blank)."""
    lines = last = 0
    for lines, line in enumerate(text_lines(regular_file(path, "precomputed features")), start=1):
        last = lines if line.strip() else last
    return lines, last


def ids_of(path: Path) -> list[str] | None:
    """The ids of a file, one a line; None when it is not there. Raises DataError (unreadable, not UTF-8)."""
    if not os.path.isfile(path):
        return None
    out = []
    for number, line in enumerate(text_lines(path), start=1):
        if not storable(line):
            raise DataError(f"precomputed features: {str(path)!r}:{number}: not UTF-8")
        out.append(str(line).strip())
    while out and not out[-1]:
        out.pop()
    return out


def layout(features: Path, lines: tuple[int, int], captions: Path, ids: Sequence[str] | None) -> Layout:
    """Tell rows and captions apart: by the ids, else by equal rows, else by how many there are.

    Raises:
        DataError: numbers that do not fit, or rows too much alike to tell.
    """
    array = open_arrays(regular_file(features, "features"), frozenset()).get("")
    if array is None or array.ndim not in (2, 3):
        shape = "an .npz" if array is None else f"shape {array.shape}"
        raise DataError(f"features: {str(features)!r} is {shape}, expected (rows, fragments, width) or (rows, width)")
    rows = len(array)
    count = _fitting(rows, *lines)
    runs = [len(list(same)) for _, same in itertools.groupby(ids or ())]
    if ids is not None and len(ids) in lines and len(runs) < len(ids) and rows in (len(ids), len(runs)):
        repeated = rows == len(ids)
        return Layout([(run if repeated else 1, run) for run in runs], rows, len(ids), "by the ids")
    if not count:
        raise DataError(
            f"precomputed features: {str(features)!r} has {rows} rows and {str(captions)!r} {lines[1]} captions, "
            "expected as many captions as rows, or a whole multiple"
        )
    if count != rows:
        return Layout([(1, count // rows)] * rows, rows, count, "one row an image")
    if ids is not None and len(ids) < rows and ids and rows % len(ids) == 0:
        each = rows // len(ids)
        return Layout([(each, each)] * len(ids), rows, count, f"{each} rows an image by the number of ids")
    each = _repeated(array, features)
    why = "one row and one caption an image" if each == 1 else f"each image in {each} equal rows, one a caption"
    return Layout([(each, each)] * (rows // each), rows, count, why)


def _fitting(rows: int, lines: int, last: int) -> int:
    """How many of the lines are captions: blank ones at the end may be some, or may be none; 0 when no number fits."""
    if not rows or not last:
        return 0
    most = -(-last // rows) * rows
    return lines if lines % rows == 0 else most if most <= lines else 0


def _repeated(array: Array, path: Path) -> int:
    """How many rows each image has, by the first rows: the distances between changes have it as a factor."""
    looked = min(len(array), _COMPARED)
    # As bytes: NaN is not equal to itself, and a digest is all that has to be kept.
    digests = [hashlib.blake2b(array[n].tobytes(), digest_size=16).digest() for n in range(looked)]
    changes = [n for n in range(1, looked) if digests[n] != digests[n - 1]]
    if looked == len(array):
        changes.append(looked)
    if not changes:
        raise DataError(
            f"precomputed features: the first {looked} rows of {str(path)!r} are all the same, so that nothing tells "
            f"which belong to one image; give {path.name.removesuffix('_ims.npy')}_ids.txt with the image of each row"
        )
    each = math.gcd(*changes)
    return each if len(array) % each == 0 else 1


def names_of(found: Layout, ids: Sequence[str] | None, path: Path) -> tuple[Sequence[str] | None, Sequence[str] | None]:
    """(the name of each image, the id of each caption) as far as a file of ids says them.

    An `id_mapping.json` beside it, from ids to file names, goes before the ids themselves.

    Raises:
        DataError: as many ids as neither images nor captions.
    """
    if ids is None:
        return None, None
    if len(ids) == len(found):
        names = list(ids)
    elif len(ids) == found.lines:
        starts = list(itertools.accumulate((count for _, count in found.counts), initial=0))
        names = [ids[start] for start in starts[:-1]]
        if any(len(set(ids[a:b])) > 1 for a, b in itertools.pairwise(starts)):
            return None, ids
    else:
        raise DataError(
            f"precomputed features: {str(path)!r} has {len(ids)} lines, but there are {len(found)} images with "
            f"{found.lines} captions; expected one id for each of either"
        )
    mapping = _mapping(path.with_name("id_mapping.json"))
    if mapping and all(name in mapping for name in names):
        return [mapping[name] for name in names], None
    # Numbers that only count say what the place in the file says, and are the same in every split.
    return (None if names == [str(n) for n in range(len(names))] else names), None


def _mapping(path: Path) -> dict[str, str]:
    if not os.path.isfile(path):
        return {}
    named = read_json(path, "id_mapping.json")
    return {key: value for key, value in named.items() if storable(value) and value and inside(value)}
