"""Ranked lists of any system as a source of ranks: what stands above a right answer is counted in its query's list."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ..data.matches import Matches
from ..data.pairs import Pairs
from ..errors import DataError
from .folds import Folds
from .list_entries import KINDS, Gathered, Lists
from .list_files import Entry
from .metrics import reach
from .ranks import Ranking, Ranks
from .scores import Rows

__all__ = ["ListScores"]


class ListScores:
    """Ranked lists of images and captions, as a `Source`; they hold no scores, only an order.

    Args:
        files: each file's path and entries. A query that is an image id ranks captions or images, one that is a caption
            id `<image id>#<n>` images or captions. The score orders; of equal scores the lower rank comes first, and
            what is equal even then ties. Items that are not in `pairs` are passed over, and so is the query itself.
        pairs: what is ranked.

    Attributes:
        lists: direction -> its lists, those that were given.
        notes: what was passed over, and how far the lists reach.

    Raises:
        DataError: an item is in one list twice, no query or no item is known, or an id is both an image's and a
            caption's.
    """

    def __init__(self, files: Sequence[tuple[Path, Iterable[Entry]]], pairs: Pairs) -> None:
        self.ids = {"image": pairs.image_ids, "caption": pairs.caption_ids}
        self.name = ", ".join(path.name for path, _ in files)
        self.notes: list[str] = []
        gathered = Gathered(pairs)
        for path, entries in files:
            gathered.take(path, entries)
        self.notes += gathered.notes()
        self.lists = gathered.lists(self.notes)

    def ranking(self, i2t: Matches, t2i: Matches, *, folds: Folds | None = None, best: bool = False) -> Ranking:
        """As `Source`; a direction without any list is known to no depth. No list says how high its best score is.

        Raises:
            DataError: a query that has right answers is not ranked, but others of its direction are.
        """
        turned = None if folds is None else folds.turned()
        whole = self._whole("i2t", i2t), self._whole("t2i", t2i)
        parts = self._parts("i2t", i2t, folds), self._parts("t2i", t2i, turned)
        return Ranking(*whole, tuple(zip(*parts, strict=True)))

    def within(self, kind: str, matches: Matches) -> Ranks | None:
        """As `Source`: None where no list ranks such items."""
        return self._whole(kind, matches) if kind in self.lists else None

    def rows(self, direction: str) -> Rows:
        """Raises DataError: there are none."""
        raise DataError(f"{self.name}: ranked lists hold no scores; give a score matrix (.npy or .npz)")

    def _whole(self, name: str, right: Matches) -> Ranks:
        gallery = max(right.shape[1] - (name in ("t2t", "i2i")), 0)
        asked = np.flatnonzero(np.diff(right.indptr()))
        lists = self.lists.get(name)
        side, other = KINDS[name]
        if lists is None:
            if len(asked):
                self._say(f"{name}: no list of {self.name} ranks {other}s for {_a(side)}; its rows are left out")
            return _unlisted(right.shape).ranks(right, gallery)
        missing = asked[lists.depth[asked] == 0]
        if len(missing):
            raise DataError(
                f"{self.name}: {len(missing)} of {len(asked)} {side}s with right answers rank no {other}, the first is "
                f"{self.ids[side][missing[0]]!r}; rank {other}s for each of them, a mean over fewer is another number"
            )
        if len(asked) and (shortest := int(lists.depth[asked].min())) < gallery:
            query = self.ids[side][asked[np.argmin(lists.depth[asked])]]
            self._say(
                f"{name}: the shortest list, of {side} {query!r}, holds {shortest} of {gallery} {other}s; "
                "no number is given that looks deeper"
            )
        return lists.ranks(right, gallery)

    def _parts(self, name: str, right: Matches, folds: Folds | None) -> list[Ranks]:
        """Ranks in each fold; lists are cut to the fold's items, so they reach less deep."""
        if folds is None:
            return []
        out, lists = [], self.lists.get(name) or _unlisted(right.shape)
        for queries, items in zip(folds.images, folds.captions, strict=True):
            own = right.subset(np.arange(queries.start, queries.stop), np.arange(items.start, items.stop))
            out.append(lists.inside(queries, items).ranks(own, own.shape[1]))
        cut = [reach(ranks) for ranks in out if reach(ranks) < ranks.gallery]
        if cut and name in self.lists:
            self._say(f"{name}: within folds the shortest list holds {min(cut)} {KINDS[name][1]}s of its fold")
        return out

    def _say(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)


def _a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _unlisted(shape: tuple[int, int]) -> Lists:
    return Lists(np.zeros(shape[0] + 1, np.int64), np.zeros(0, np.int64), np.zeros(0, bool), shape)
