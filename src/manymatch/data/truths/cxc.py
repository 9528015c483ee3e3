"""Crisscrossed Captions (Parekh et al., EACL 2021): human ratings, from 0 to 5, of COCO's captions and images.

Right answers between images and captions come from the lists of the `eccv_caption` package, or from the ratings
`sits_*.csv` themselves: every pair rated 3 or more is one, which gives exactly the package's lists. A caption's own
image counts only if it is so rated (29 of the test split's 25,000 are not). Right answers among captions are those
rated 3 or more in `sts_*.csv` and the other captions of the same image; among images, those rated 2.5 or more in
`sis_*.csv`. A rating is of two items, whichever is named first; of two ratings of the same two, the higher one counts.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...errors import DataError
from ..coco_ids import coco_id
from ..files import Unread, read_lines, whole_text
from ..matches import Matches
from ..pairs import Pairs, Problem
from .coco import Answers, IdLists, Known, list_of

__all__ = ["CxcFiles", "is_cxc"]

_TABLES = {
    "t2t": (("caption1", "caption2"), ("caption", "caption"), 3.0),
    "i2i": (("image1", "image2"), ("image", "image"), 2.5),
    "sits": (("caption", "image"), ("caption", "image"), 3.0),
}
"""Direction -> (the columns of both items, what they are, the rating from which on they match)."""

_RATING = "agg_score"
_PREFIXES = ("sts_", "sis_", "sits_")
_LONGEST_HEAD = 1000


def is_cxc(path: Path) -> bool:
    """Whether a file has the name of one of its lists, or is a table of aggregated ratings."""
    if list_of(path) is not None:
        return list_of(path) in (("cxc", "i2t"), ("cxc", "t2i"))
    name = path.name.removesuffix(".gz")
    if not name.endswith(".csv") or name.endswith("_raw.csv"):
        return False
    return name.startswith(_PREFIXES) or _columns(_head(path)) is not None


def _head(path: Path) -> str:
    """The first line of text; nothing where that cannot be read, or is no line of a table."""
    line = next((line for _, line in read_lines(path, _LONGEST_HEAD)), b"")
    return "" if isinstance(line, Unread) else line.decode("utf-8", "replace")


def _columns(head: str) -> str | None:
    names = [name.strip() for name in head.split(",")]
    return next((t for t, (items, _, _) in _TABLES.items() if {*items, _RATING} <= set(names)), None)


class _Ratings:
    """One kind of ratings, of one or more files: the highest of each two items.

    Attributes:
        rated: (first id, second id) -> rating.
        paths: the files.
    """

    def __init__(self, table: str) -> None:
        self.table, self.paths = table, list[Path]()
        self.rated: dict[tuple[int, int], float] = {}

    def read(self, path: Path, text: str, problems: list[Problem], strict: bool) -> None:
        """Add a file's rows; bad ones are listed. Raises DataError when none is usable, at the first bad if strict."""
        self.paths.append(path)
        lines = csv.reader(io.StringIO(text, newline=""))
        names = [name.strip() for name in next(lines)]
        columns = [names.index(name) for name in (*_TABLES[self.table][0], _RATING)]
        usable = 0
        try:
            for cells in lines:
                if not cells:
                    continue
                wrong = self._take(cells, columns)
                usable += not wrong
                if wrong:
                    problems.append(Problem(str(path), lines.line_num, "bad rating", wrong))
                    if strict:
                        raise DataError(str(problems[-1]))
        except csv.Error as error:
            raise DataError(f"truth: {str(path)!r}, line {lines.line_num}, is not CSV ({error})") from None
        if not usable:
            last = f"; the last problem: {problems[-1].detail}" if lines.line_num > 1 else ", it has none"
            raise DataError(f"truth: no rating of {str(path)!r} is usable{last}")

    def _take(self, cells: Sequence[str], columns: Sequence[int]) -> str:
        """What is wrong with a row, nothing when it was taken."""
        if len(cells) <= max(columns):
            return f"{len(cells)} columns, expected at least {max(columns) + 1}; it is left out"
        first, second = (coco_id(cells[column].strip()) for column in columns[:2])
        if first is None or second is None:
            given = cells[columns[0] if first is None else columns[1]]
            return f"{given[:60]!r} ends in no COCO id; it is left out"
        rating = _number(cells[columns[2]])
        if not 0 <= rating <= 5:
            return f"{_RATING} is {cells[columns[2]][:60]!r}, expected a number from 0 to 5; it is left out"
        pair = (first, second)
        self.rated[pair] = max(rating, self.rated.get(pair, 0.0))
        return ""

    def among(self, known: Known) -> tuple[Matches | None, list[str]]:
        """The pairs that match (rows are the first item), and a note; None when no rated two are in the pairs."""
        _, kinds, enough = _TABLES[self.table]
        first, second = (known.rows(kind) for kind in kinds)
        inside = [(first[a], second[b], r) for (a, b), r in self.rated.items() if a in first and b in second]
        gone, named = len(self.rated) - len(inside), " and ".join(path.name for path in self.paths)
        note = f"{gone:,} of {len(self.rated):,} ratings of {named} name an item that is not in {known.pairs.name}"
        if not inside:
            return None, [note]
        right = [(a, b) for a, b, rating in inside if rating >= enough]
        rows = [a for a, _ in right], [b for _, b in right]
        return Matches.of(*rows, (known.count(kinds[0]), known.count(kinds[1]))), [note] if gone else []


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


class CxcFiles:
    """What lists and ratings say together.

    Args:
        paths: any of `cxc_image_to_caption.json`, `cxc_caption_to_image.json`, `sits_*.csv`, `sts_*.csv`, `sis_*.csv`,
            plain or gzipped; ratings of several splits may stand side by side.
        strict: raise at the first bad row instead of listing it in `problems`.

    Raises:
        DataError: a file cannot be read or has not its columns, or two hold the same direction.
    """

    def __init__(self, paths: Sequence[Path], *, strict: bool = False) -> None:
        self.problems: list[Problem] = []
        self._lists: dict[str, IdLists] = {}
        self._tables: dict[str, _Ratings] = {}
        for path in paths:
            known = list_of(path)
            if known is None:
                self._read_table(path, strict)
                continue
            if known[1] in self._lists:
                raise DataError(f"truth: {str(self._lists[known[1]].path)!r} and {str(path)!r} are the same; give one")
            self._lists[known[1]] = IdLists(path, self.problems, strict=strict)
        self._first = paths[0]

    def _read_table(self, path: Path, strict: bool) -> None:
        text = whole_text(path, "truth")
        head = text.partition("\n")[0].rstrip("\r")
        table = _columns(head)
        if table is None:
            wanted = " or ".join(",".join((*items, _RATING)) for items, _, _ in _TABLES.values())
            raise DataError(f"truth: {str(path)!r} has the columns {head[:80]!r}, expected {wanted}")
        self._tables.setdefault(table, _Ratings(table)).read(path, text, self.problems, strict)

    def answers(self, pairs: Pairs) -> Answers:
        """Right answers among the images and captions of `pairs`, of every direction the files know.

        Raises:
            DataError: the pairs carry no COCO ids, or nothing of the files is among them.
        """
        known = Known(pairs)
        found: dict[str, Matches | None] = {}
        notes: list[str] = []
        for direction, lists in self._lists.items():
            found[direction], more = lists.among(known, direction)
            notes += more
        for table, ratings in self._tables.items():
            if table == "sits" and {"i2t", "t2i"} <= set(self._lists):
                continue
            matches, more = ratings.among(known)
            notes += more
            for direction, each in _read_as(table, matches, pairs).items():
                found.setdefault(direction, each)
        kept = {direction: each for direction, each in found.items() if each is not None and len(each)}
        if not kept:
            raise DataError(
                f"truth: nothing that {str(self._first)!r} names is in {pairs.name}, whose images are "
                f"{pairs.image_ids[:1]}...; CxC is of the COCO images of Karpathy's val and test splits"
            )
        within: dict[str, Matches] = {kind: kept[kind] for kind in ("t2t", "i2i") if kind in kept}
        return Answers(kept.get("i2t"), kept.get("t2i"), within, (*notes, *known.notes))


def _read_as(table: str, matches: Matches | None, pairs: Pairs) -> dict[str, Matches | None]:
    """The directions one table of ratings is a truth of."""
    if matches is None:
        return {}
    if table == "sits":
        return {"i2t": matches.transpose(), "t2i": matches}
    first, second = matches.images, matches.captions
    rows = np.concatenate([first, second]), np.concatenate([second, first])
    if table == "t2t":
        siblings = _siblings(pairs)
        rows = np.concatenate([rows[0], siblings.images]), np.concatenate([rows[1], siblings.captions])
    other = rows[0] != rows[1]
    return {table: Matches.of(rows[0][other], rows[1][other], matches.shape)}


def _siblings(pairs: Pairs) -> Matches:
    """(c, c): each caption with every caption of its image, itself included."""
    size = np.bincount(pairs.owner, minlength=len(pairs))
    start = (np.cumsum(size) - size)[pairs.owner]
    each = size[pairs.owner]
    first = np.repeat(np.arange(len(each)), each)
    place = np.arange(len(first)) - np.repeat(np.cumsum(each) - each, each)
    return Matches.of(first, np.repeat(start, each) + place, (len(each), len(each)))
