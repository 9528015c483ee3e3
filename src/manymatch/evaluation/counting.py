"""Counting, tile by tile, how many gallery items stand above and beside each right answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.matches import Matches
from .folds import Folds
from .tiles import Block

__all__ = ["Asker", "Counter"]

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]

_FEW = 16
"""Up to so many right answers a query, comparing with each in turn is faster than sorting the row and searching it."""

_CACHED = 1 << 18
"""Scores that are compared again and again before the next: with their flags they stay in a core's cache."""


class Counter:
    """Counts of one direction.

    Args:
        matches: right answers, its queries as rows.
        best: also keep the score of each query's first item.
        bias: (g,), taken off the gallery's scores before they are compared; what is kept are raw scores.
    """

    def __init__(self, matches: Matches, *, best: bool = False, bias: Any | None = None) -> None:
        self.indptr, self.query, self.items = matches.indptr(), matches.images, matches.captions
        self.gallery = matches.shape[1]
        self.bias = None if bias is None else torch.as_tensor(bias)
        self.scores = np.zeros(len(matches), np.float64)
        self.orders = self.scores if bias is None else np.zeros(len(matches), np.float64)
        self.above = np.zeros(len(matches), np.int64)
        self.equal = np.zeros(len(matches), np.int64)
        self.best = np.full(matches.shape[0], -np.inf) if best else None
        self._first = np.full(matches.shape[0], -np.inf)

    def tiles(self, block: Block) -> list[tuple[int, int]]:
        """Numbers of the tiles that hold a right answer, row by row."""
        across = self.gallery // block[1] + 1
        numbers = np.unique(self.query // block[0] * across + self.items // block[1])
        return [(int(number // across), int(number % across)) for number in numbers]

    def note(self, tile: Tensor, rows: slice, columns: slice) -> None:
        """Keep the scores of the right answers inside the tile."""
        first, last = self.indptr[rows.start], self.indptr[rows.stop]
        items = self.items[first:last]
        inside = np.flatnonzero((items >= columns.start) & (items < columns.stop)) + first
        at = torch.from_numpy(self.query[inside] - rows.start), torch.from_numpy(self.items[inside] - columns.start)
        self.scores[inside] = _numbers(tile[at])
        if self.bias is not None:
            self.orders[inside] = _numbers(self._ordering(tile, columns)[at])

    def _ordering(self, tile: Tensor, columns: slice) -> Tensor:
        """What the tile's items are ordered by."""
        return tile if self.bias is None else tile - self.bias[columns].to(tile.device)

    def count(self, tile: Tensor, rows: slice, columns: slice) -> None:
        """Add the tile's items above and equal to every right answer of its rows."""
        ordering = self._ordering(tile, columns)
        if self.best is not None:
            self._see_first(self.best, tile, ordering, rows)
        first, last = self.indptr[rows.start], self.indptr[rows.stop]
        if first == last:
            return
        query = self.query[first:last] - rows.start
        place = np.arange(first, last) - self.indptr[self.query[first:last]]
        each = np.diff(self.indptr[rows.start : rows.stop + 1])[query]
        for low, high in _alike(int(each.max())):
            alike = (each > low) & (each <= high)
            if alike.any():
                found = first + np.flatnonzero(alike)
                counts = _one_by_one if high <= _FEW else _sorted
                above, equal = _counted(counts, ordering, self.orders[found], query[alike], place[alike])
                self.above[found] += above
                self.equal[found] += equal

    def _see_first(self, best: Floats, tile: Tensor, ordering: Tensor, rows: slice) -> None:
        """Keep the score of the item of each row that comes first so far."""
        highest = ordering.max(dim=1)
        ahead = _numbers(highest.values) > self._first[rows]
        self._first[rows] = np.where(ahead, _numbers(highest.values), self._first[rows])
        best[rows] = np.where(ahead, _numbers(tile.gather(1, highest.indices[:, None])[:, 0]), best[rows])

    def counts(self) -> tuple[Ints, Ints]:
        """(p,) items above each right answer, and (p,) OTHER items with its score."""
        # Each right answer met itself once; if not, a tile came out differently the second time.
        if len(self.equal) and self.equal.min() < 1:
            raise RuntimeError("a score changed between two computations of one tile; is the similarity random?")
        return self.above, self.equal - 1


class Asker:
    """Counts of one direction over the whole gallery, and over each query's fold. Arguments as `Counter`."""

    def __init__(self, matches: Matches, folds: Folds | None, best: bool, bias: Any | None = None) -> None:
        self.folds, self.whole = folds, Counter(matches, best=best, bias=bias)
        self.within = None if folds is None else Counter(folds.inside(matches), bias=bias)

    def note(self, tile: Tensor, rows: slice, columns: slice) -> None:
        self.whole.note(tile, rows, columns)
        if self.within is not None:
            self.within.note(tile, rows, columns)

    def count(self, tile: Tensor, rows: slice, columns: slice) -> None:
        self.whole.count(tile, rows, columns)
        if self.folds is None or self.within is None:
            return
        for r, c in zip(self.folds.images, self.folds.captions, strict=True):
            top, bottom = max(r.start, rows.start), min(r.stop, rows.stop)
            left, right = max(c.start, columns.start), min(c.stop, columns.stop)
            if top < bottom and left < right:
                piece = tile[top - rows.start : bottom - rows.start, left - columns.start : right - columns.start]
                self.within.count(piece, slice(top, bottom), slice(left, right))


def _counted(
    counts: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    tile: Tensor,
    scores: Floats,
    query: Ints,
    place: Ints,
) -> tuple[Ints, Ints]:
    """Items of the tile above and equal to right answers: their scores, rows in the tile and places there (m,)."""
    rows = np.unique(query)
    # Taking rows out of the tile costs a copy, less than a comparison with rows that hold nothing.
    if 2 * len(rows) < len(tile):
        tile, query = tile[torch.from_numpy(rows)], np.searchsorted(rows, query)
    # No score is above or equal to infinity, so the padding counts nothing.
    table = np.full((int(place.max()) + 1, len(tile)), np.inf)
    table[place, query] = scores
    above, equal = counts(tile, torch.from_numpy(table).to(tile.dtype).to(tile.device))
    return _numbers(above)[place, query].astype(np.int64), _numbers(equal)[place, query].astype(np.int64)


def _numbers(tensor: Tensor) -> Floats:
    """On the CPU, in double precision."""
    return np.asarray(tensor.cpu().double().numpy())


def _alike(most: int) -> Iterator[tuple[int, int]]:
    """Ranges (low, high] of how many right answers a row has: few, then doubling, so that padding at most doubles."""
    low, high = 0, _FEW
    while low < most:
        yield low, high
        low, high = high, 2 * high


def _one_by_one(tile: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """How many of each row of `tile (n, g)` are above and equal to each of `table (m, n)`: two (m, n)."""
    above, equal = torch.zeros_like(table), torch.zeros_like(table)
    # Along the side whose steps are longer: a tile may be one that was turned.
    cut = int(tile.stride(0) < tile.stride(1))
    size = max(1, _CACHED // max(tile.shape[1 - cut], 1)) if tile.device.type == "cpu" else tile.shape[cut]
    for start, part in zip(range(0, tile.shape[cut], size), torch.split(tile, size, cut), strict=True):
        rows = slice(start, start + size) if cut == 0 else slice(None)
        # Comparing into floats and adding those is exact below 2^24 items and three times as fast as adding booleans.
        flags = torch.empty_like(part)
        for place, scores in enumerate(table[:, rows]):
            above[place, rows] += torch.gt(part, scores[:, None], out=flags).sum(dim=1)
            equal[place, rows] += torch.eq(part, scores[:, None], out=flags).sum(dim=1)
    return above, equal


def _sorted(tile: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """As `_one_by_one`, each row sorted once and then searched for every right answer."""
    tile, wanted = tile.contiguous(), table.T.contiguous()
    # NumPy sorts short rows of floats several times as fast as torch does on a CPU.
    ordered = torch.from_numpy(np.sort(tile.numpy(), axis=1)) if tile.device.type == "cpu" else tile.sort(dim=1).values
    over, reached = (torch.searchsorted(ordered, wanted, right=right).T for right in (True, False))
    return tile.shape[1] - over, over - reached
