"""Entries of ranked lists, sorted by what asks and what is ranked, as rows of the images and captions at hand."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data.matches import Matches
from ..data.pairs import Pairs
from ..errors import DataError
from .list_files import Entry, where
from .ranks import Ranks

__all__ = ["KINDS", "Gathered", "Lists"]

Ints = np.ndarray[Any, np.dtype[np.int64]]

KINDS = {"i2t": ("image", "caption"), "t2i": ("caption", "image"), "t2t": ("caption",) * 2, "i2i": ("image",) * 2}
"""Direction -> what asks, what is ranked."""

_CHUNK = 1 << 22


@dataclass(frozen=True)
class Lists:
    """The lists of one direction, best first.

    Attributes:
        indptr: (q + 1,), the list of query r is entries indptr[r]:indptr[r + 1].
        items: (n,), gallery rows.
        tied: (n,), whether nothing orders an entry and the one before it.
        shape: (q, g).
    """

    indptr: Ints
    items: np.ndarray[Any, Any]
    tied: np.ndarray[Any, np.dtype[np.bool_]]
    shape: tuple[int, int]

    @property
    def depth(self) -> Ints:
        """(q,): how many items each query lists."""
        return np.diff(self.indptr)

    def inside(self, queries: slice, items: slice) -> Lists:
        """What is left of some queries' lists when only these items are ranked; rows count from the slices' starts."""
        first, last = self.indptr[queries.start], self.indptr[queries.stop]
        kept = (self.items[first:last] >= items.start) & (self.items[first:last] < items.stop)
        group = np.cumsum(~self.tied[first:last])[kept]
        before = np.concatenate([[0], np.cumsum(kept)])
        return Lists(
            before[self.indptr[queries.start : queries.stop + 1] - first],
            self.items[first:last][kept] - items.start,
            np.diff(group, prepend=-1) == 0,
            (queries.stop - queries.start, items.stop - items.start),
        )

    def ranks(self, right: Matches, gallery: int) -> Ranks:
        """Where the right answers (q, g) stand among `gallery` items; one that is not listed is below all of them."""
        at = self._entries(right)
        listed = at >= 0
        starts = np.flatnonzero(~self.tied)
        group = np.searchsorted(starts, at[listed], side="right") - 1
        first, last = starts[group], np.append(starts, len(self.items))[group + 1]
        above, tied = np.full(len(right), gallery, np.int64), np.zeros(len(right), np.int64)
        above[listed] = first - self.indptr[right.images[listed]]
        tied[listed] = last - first - 1
        return Ranks(right.indptr(), right.captions, above, tied, gallery, depth=self.depth)

    def _entries(self, right: Matches) -> Ints:
        """(p,): which entry each right answer is, -1 where it is not listed."""
        wanted = right.images * self.shape[1] + right.captions
        out = np.full(len(wanted), -1, np.int64)
        for start in range(0, len(self.items) if len(wanted) else 0, _CHUNK):
            entries = np.arange(start, min(start + _CHUNK, len(self.items)))
            query = np.searchsorted(self.indptr, entries, side="right") - 1
            keys = query * self.shape[1] + self.items[entries]
            place = np.minimum(np.searchsorted(wanted, keys), len(wanted) - 1)
            found = wanted[place] == keys
            out[place[found]] = entries[found]
        return out


class Gathered:
    """Entries of all files as numbers: an image is its row, a caption its row behind the images.

    Raises:
        DataError: an id of `pairs` is both an image's and a caption's.
    """

    def __init__(self, pairs: Pairs) -> None:
        self.pairs, self.images = pairs, len(pairs)
        self.ids = [*pairs.image_ids, *pairs.caption_ids]
        self.codes = {name: code for code, name in enumerate(self.ids)}
        if len(self.codes) < len(self.ids):
            twice = next(name for code, name in enumerate(self.ids) if self.codes[name] != code)
            raise DataError(f"{pairs.name}: {twice!r} names an image and a caption, so lists cannot tell them apart")
        self.query, self.item, self.line = array("i"), array("i"), array("i")
        self.rank, self.score = array("q"), array("d")
        self.files: list[tuple[int, Path]] = []
        self.strangers: dict[str, None] = {}
        self.outside, self.outsider = 0, ""

    def take(self, path: Path, entries: Iterable[Entry]) -> None:
        """All entries of one file. Raises DataError when it knows no query, or no item, of these pairs."""
        codes, asked, stranger = self.codes, False, ""
        self.files.append((len(self.query), path))
        for query, item, score, rank, line in entries:
            code, found = codes.get(query), codes.get(item)
            if code is None:
                self.strangers.setdefault(query)
                stranger = stranger or query
                continue
            asked = True
            if found is None:
                self.outside, self.outsider = self.outside + 1, self.outsider or item
            elif found != code:
                self.query.append(code)
                self.item.append(found)
                self.line.append(line)
                self.rank.append(rank)
                self.score.append(score)
        if len(self.query) == self.files[-1][0]:
            what, first = ("listed item", self.outsider) if asked else ("query", stranger)
            raise DataError(
                f"{path}: no {what} is an image or caption of {self.pairs.name} (found {first!r}; here the ids are "
                f"{self.ids[0]!r} and {self.ids[-1]!r})"
            )

    def notes(self) -> list[str]:
        """What was passed over."""
        out, name = [], self.pairs.name
        if self.strangers:
            count, first = len(self.strangers), next(iter(self.strangers))
            what = "query is" if count == 1 else "queries are"
            out.append(f"{count} {what} not in {name} and passed over; the first is {first!r}")
        if self.outside:
            what = "listed item is" if self.outside == 1 else "listed items are"
            out.append(
                f"{self.outside} {what} not in {name} and passed over, those below move up; the first is "
                f"{self.outsider!r}"
            )
        return out

    def lists(self, notes: list[str]) -> dict[str, Lists]:
        """Direction -> lists, where there are any. Adds to `notes` where ranks and scores disagree."""
        query, item = (np.frombuffer(a, np.intc).astype(np.int64) for a in (self.query, self.item))
        rank, score = np.frombuffer(self.rank, np.int64), np.frombuffer(self.score, np.float64)
        self._check_once(query, item)
        sizes = {"image": self.images, "caption": len(self.codes) - self.images}
        starts = {"image": 0, "caption": self.images}
        out = {}
        for name, (asking, asked) in KINDS.items():
            here = ((query >= self.images) == (asking == "caption")) & ((item >= self.images) == (asked == "caption"))
            if here.any():
                columns = query[here] - starts[asking], item[here] - starts[asked], score[here], rank[here]
                out[name] = _ordered(*columns, (sizes[asking], sizes[asked]), name, notes)
        return out

    def _check_once(self, query: Ints, item: Ints) -> None:
        keys = query * len(self.codes) + item
        ordered = np.sort(keys)
        twice = ordered[1:][ordered[1:] == ordered[:-1]]
        if not len(twice):
            return
        first, again = (int(at) for at in np.flatnonzero(keys == twice[0])[:2])
        raise DataError(
            f"{self._where(again)}: {self.ids[item[again]]!r} is in the list of query {self.ids[query[again]]!r} twice "
            f"(first in {self._where(first)}), expected it once; lists of several files are joined, not averaged"
        )

    def _where(self, entry: int) -> str:
        path = next(path for start, path in reversed(self.files) if start <= entry)
        return where(path, self.line[entry])


def _ordered(
    query: Ints, item: Ints, score: Any, rank: Ints, shape: tuple[int, int], name: str, notes: list[str]
) -> Lists:
    """Entries sorted by query, then higher score, then lower rank."""
    order = np.lexsort((rank, -score, query))
    query, item, score, rank = (column[order] for column in (query, item, score, rank))
    same = np.zeros(len(query), bool)
    same[1:] = query[1:] == query[:-1]
    tied = same.copy()
    tied[1:] &= (score[1:] == score[:-1]) & (rank[1:] == rank[:-1])
    against = np.zeros(len(query), bool)
    against[1:] = same[1:] & (rank[1:] < rank[:-1])
    odd, listed = len(np.unique(query[against])), len(np.unique(query))
    if odd:
        doubt = "; are the scores distances?" if odd > listed / 2 else ""
        notes.append(
            f"{name}: in {odd} of {listed} lists ranks and scores disagree; scores order them, the highest first{doubt}"
        )
    indptr = np.concatenate([[0], np.cumsum(np.bincount(query, minlength=shape[0]))]).astype(np.int64)
    return Lists(indptr, item.astype(np.int32), tied, shape)
