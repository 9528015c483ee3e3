"""Human judgments of single (image, caption) pairs from tab-separated files, one pair a line, no header.

Columns: the image's id, the caption's id `<image id>#<n>`, and three with what the judges said.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError
from ..files import Unread, read_lines, regular_file
from ..matches import Matches
from ..pairs import Pairs, Problem

__all__ = ["Judgments"]

Floats = np.ndarray[Any, np.dtype[np.float64]]

_LOOKED_AT = 100
"""Lines that say which kind a file is of."""

_LONGEST_LOOKED_AT = 4096
"""Bytes of such a line: a file of another kind may be one long line."""


class Judgments(ABC):
    """One number for each judged pair; pairs nobody judged have none.

    Args:
        paths: the files, joined; of a pair judged in two lines the first stays.
        strict: raise at the first bad line instead of listing it in `problems`.

    Raises:
        DataError: no such file, or nothing usable in any.
    """

    columns: str
    """What a line holds, for messages."""

    def __init__(self, paths: Sequence[str | Path], *, strict: bool = False) -> None:
        self.paths = [regular_file(path, "truth") for path in paths]
        self.problems: list[Problem] = []
        self._judged: dict[tuple[str, str], float] = {}
        for path in self.paths:
            for number, line in read_lines(path):
                kind, detail = self._take(line)
                if kind:
                    self.problems.append(Problem(str(path), number, kind, detail))
                if kind and strict:
                    raise DataError(str(self.problems[-1]))
        if not self._judged:
            first = f"; first of {len(self.problems)} problems: {self.problems[0]}" if self.problems else ""
            raise DataError(f"truth: no line of {str(self.paths[0])!r} is usable{first}")

    @classmethod
    def fits(cls, path: Path) -> bool:
        """Whether most of a file's first lines are of this kind."""
        read = good = 0
        for _, line in itertools.islice(read_lines(path, _LONGEST_LOOKED_AT), _LOOKED_AT):
            read, good = read + 1, good + (not isinstance(cls._read(line), str))
            if isinstance(line, Unread):
                break
        return 2 * good > read

    @staticmethod
    @abstractmethod
    def value(judgments: Sequence[str]) -> float:
        """The number of the last three columns. Raises ValueError saying what is wrong with them."""

    @classmethod
    def _read(cls, line: bytes | Unread) -> tuple[tuple[str, str], float] | str:
        """((image, caption id), number) of a line, or what is wrong with it."""
        if isinstance(line, Unread):
            return line.detail
        try:
            fields = [field.strip() for field in line.decode("utf-8").split("\t")]
        except UnicodeDecodeError as error:
            return f"byte {error.start + 1} of the line is not UTF-8"
        if len(fields) != 5:
            return f"found {len(fields)} tab-separated columns, expected 5: {cls.columns}"
        image, mark, n = fields[1].rpartition("#")
        if not (fields[0] and image and mark and n.isascii() and n.isdigit()):
            return f"found image {fields[0]!r} and caption {fields[1]!r}, expected an id and one like `<image>#<n>`"
        try:
            return (fields[0], f"{image}#{int(n)}"), cls.value(fields[2:])
        except ValueError as error:
            return str(error)

    def _take(self, line: bytes | Unread) -> tuple[str, str]:
        found = self._read(line)
        if isinstance(found, str):
            return "bad judgment", found
        pair, value = found
        if pair in self._judged:
            return "repeated judgment", f"{pair[0]!r} with {pair[1]!r} was judged in an earlier line, which stays"
        self._judged[pair] = value
        return "", ""

    def among(self, pairs: Pairs) -> tuple[Matches, Floats]:
        """The judged pairs among the images and captions of `pairs` (i, c), and their numbers in the same order (p,).

        Raises:
            DataError: none of them was judged.
        """
        image_of = {name: row for row, name in enumerate(pairs.image_ids)}
        caption_of = {name: row for row, name in enumerate(pairs.caption_ids)}
        known = [
            (image_of[image], caption_of[caption], value)
            for (image, caption), value in self._judged.items()
            if image in image_of and caption in caption_of
        ]
        if not known:
            raise DataError(
                f"truth: {str(self.paths[0])!r} judges no image of {pairs.name} with one of its captions (it has "
                f"{next(iter(self._judged))}; here the ids are {pairs.image_ids[:1]} and {pairs.caption_ids[:1]})"
            )
        images, captions, values = (np.array(column) for column in zip(*known, strict=True))
        order = np.lexsort((captions, images))
        return Matches.of(images, captions, (len(image_of), len(caption_of))), values[order].astype(np.float64)
