"""Lists of right answers by COCO id, as the `eccv_caption` package publishes them, one file a direction.

Each file is one JSON object: a query's id -> the ids of its right answers. Image queries and caption queries are
different sets, so each direction is its own truth.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import DataError
from ..coco_ids import caption_rows, coco_id, image_rows
from ..files import whole_text
from ..matches import Matches
from ..pairs import Pairs, Problem

__all__ = ["Answers", "EccvFiles", "IdLists", "Known", "is_eccv", "list_of"]

_NAME = re.compile(r"(eccv|cxc)_(image_to_caption|caption_to_image)\.json(?:\.gz)?")
_DIRECTION = {"image_to_caption": "i2t", "caption_to_image": "t2i"}
_ASKING = {"i2t": ("image", "caption"), "t2i": ("caption", "image")}


@dataclass(frozen=True)
class Answers:
    """Right answers among some pairs.

    Attributes:
        i2t: (i, c); None where the truth says nothing of that direction.
        t2i: (c, i), which need not be the same pairs.
        within: "t2t" (c, c), "i2i" (i, i), without the diagonal.
        notes: what of the truth is not in the pairs.
    """

    i2t: Matches | None = None
    t2i: Matches | None = None
    within: Mapping[str, Matches] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Known:
    """The COCO ids of some pairs, each side looked up when it is first asked for; `notes` say what is amiss."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs
        self.notes: list[str] = []
        self._rows: dict[str, dict[int, int]] = {}

    def rows(self, side: str) -> dict[int, int]:
        """COCO id -> row of "image" or "caption". Raises DataError where the pairs carry none."""
        if side not in self._rows:
            if side == "image":
                self._rows[side] = image_rows(self.pairs)
            else:
                self._rows[side], notes = caption_rows(self.pairs)
                self.notes += notes
        return self._rows[side]

    def count(self, side: str) -> int:
        """Images or captions there are, with an id or without."""
        return len(self.pairs) if side == "image" else len(self.pairs.captions)


def list_of(path: Path) -> tuple[str, str] | None:
    """("eccv" or "cxc", "i2t" or "t2i") of a file that has one of the package's names, else None."""
    found = _NAME.fullmatch(path.name)
    return (found[1], _DIRECTION[found[2]]) if found else None


def is_eccv(path: Path) -> bool:
    """Whether a file has the name of one of ECCV Caption's lists."""
    return list_of(path) in (("eccv", "i2t"), ("eccv", "t2i"))


class IdLists:
    """One direction's lists.

    Args:
        path: the file.
        problems: where bad entries are listed.
        strict: raise at the first of them instead.

    Raises:
        DataError: the file is no JSON object, or holds no usable list.
    """

    def __init__(self, path: Path, problems: list[Problem], *, strict: bool = False) -> None:
        self.path, self.problems, self.strict = path, problems, strict
        try:
            read = json.loads(whole_text(path, "truth"))
        except (ValueError, RecursionError) as error:
            raise DataError(f"truth: {str(path)!r} is not JSON ({error or 'nested too deeply'})") from None
        if not isinstance(read, dict):
            raise DataError(
                f"truth: {str(path)!r} holds {type(read).__name__}, expected an object: a query's COCO id and a list "
                "of the COCO ids of its right answers"
            )
        self.lists: dict[int, list[int]] = {}
        before = len(problems)
        for query, listed in read.items():
            self._take(query, listed)
        if not self.lists:
            first = f"; the first problem: {problems[before].detail}" if read else ", it is empty"
            raise DataError(f"truth: no list of {str(path)!r} is usable{first}")

    def _take(self, query: str, listed: Any) -> None:
        number = coco_id(query)
        if number is None or not isinstance(listed, list):
            self._report("not a list", f"{query[:40]!r}: expected a COCO id and a list of them; it is left out")
            return
        ids = [coco_id(each) for each in listed]
        if None in ids:
            self._report("bad id", f"a right answer of {number} is no COCO id; it is left out")
        self.lists.setdefault(number, []).extend(each for each in ids if each is not None)

    def _report(self, kind: str, detail: str) -> None:
        self.problems.append(Problem(str(self.path), None, kind, detail))
        if self.strict:
            raise DataError(str(self.problems[-1]))

    def among(self, known: Known, direction: str) -> tuple[Matches | None, list[str]]:
        """The lists as matches, and notes on what lies outside; None when no query of theirs is in the pairs."""
        asking, asked = _ASKING[direction]
        queries, gallery = known.rows(asking), known.rows(asked)
        inside = {query: set(listed) for query, listed in self.lists.items() if query in queries}
        total = sum(map(len, inside.values()))
        found = [(queries[q], gallery[a]) for q, listed in inside.items() for a in listed if a in gallery]
        notes = []
        if len(inside) < len(self.lists):
            gone = len(self.lists) - len(inside)
            notes.append(f"{gone:,} of {len(self.lists):,} {asking} queries are not in {known.pairs.name}")
        if len(found) < total:
            notes.append(
                f"{total - len(found):,} of {total:,} right answers of {asking} queries are not in the gallery and do "
                "not count"
            )
        if not inside:
            return None, notes
        rows = [row for row, _ in found], [row for _, row in found]
        return Matches.of(*rows, (known.count(asking), known.count(asked))), notes


class EccvFiles:
    """ECCV Caption (Chun et al., ECCV 2022): 1,261 image queries and 1,332 caption queries over the COCO 5K test split.

    Args:
        paths: `eccv_image_to_caption.json` and `eccv_caption_to_image.json`, plain or gzipped; one of them will do.
        strict: raise at the first bad entry instead of listing it in `problems`.

    Raises:
        DataError: a file cannot be read, or two of them hold the same direction.
    """

    def __init__(self, paths: Sequence[Path], *, strict: bool = False) -> None:
        self.problems: list[Problem] = []
        self._lists: dict[str, IdLists] = {}
        for path in paths:
            _, direction = list_of(path) or ("", "")
            if direction in self._lists:
                raise DataError(f"truth: {str(self._lists[direction].path)!r} and {str(path)!r} are the same; give one")
            self._lists[direction] = IdLists(path, self.problems, strict=strict)

    def answers(self, pairs: Pairs) -> Answers:
        """Right answers among the images and captions of `pairs`.

        Raises:
            DataError: the pairs carry no COCO ids, or no query is among them.
        """
        known = Known(pairs)
        found: dict[str, Matches | None] = {"i2t": None, "t2i": None}
        notes: list[str] = []
        for direction, lists in self._lists.items():
            found[direction], more = lists.among(known, direction)
            notes += more
        if not any(each is not None and len(each) for each in found.values()):
            first = next(iter(self._lists.values()))
            raise DataError(
                f"truth: {str(first.path)!r} asks for nothing that is in {pairs.name}, whose images are "
                f"{pairs.image_ids[:1]}...; ECCV Caption is of the 5,000 COCO test images of Karpathy's split"
            )
        return Answers(found["i2t"], found["t2i"], notes=(*notes, *known.notes))
