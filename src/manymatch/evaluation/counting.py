"""Counting, tile by tile, how many gallery items stand above and beside each right answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.matches import Matches
from .tiles import Block

__all__ = ["Counter"]

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]

_FEW = 64
"""Up to so many right answers a query, comparing with each in turn is faster than searching them sorted."""


class Counter:
    """Counts of one direction.

    Args:
        matches: right answers, its queries as rows.
        best: also keep each query's highest score.
    """

    def __init__(self, matches: Matches, *, best: bool = False) -> None:
        self.indptr, self.query, self.items = matches.indptr(), matches.images, matches.captions
        self.gallery = matches.shape[1]
        self.scores = np.zeros(len(matches), np.float64)
        self.above = np.zeros(len(matches), np.int64)
        self.equal = np.zeros(len(matches), np.int64)
        self.best = np.full(matches.shape[0], -np.inf) if best else None

    def tiles(self, block: Block) -> list[tuple[int, int]]:
        """Numbers of the tiles that hold a right answer, row by row."""
        numbers = np.unique(np.stack([self.query // block[0], self.items // block[1]], axis=1), axis=0)
        return [(int(r), int(c)) for r, c in numbers]

    def note(self, tile: Tensor, rows: slice, columns: slice) -> None:
        """Keep the scores of the right answers inside the tile."""
        first, last = self.indptr[rows.start], self.indptr[rows.stop]
        items = self.items[first:last]
        inside = np.flatnonzero((items >= columns.start) & (items < columns.stop)) + first
        at = torch.from_numpy(self.query[inside] - rows.start), torch.from_numpy(self.items[inside] - columns.start)
        self.scores[inside] = tile[at].double().numpy()

    def count(self, tile: Tensor, rows: slice, columns: slice) -> None:
        """Add the tile's items above and equal to every right answer of its rows."""
        if self.best is not None:
            self.best[rows] = np.maximum(self.best[rows], tile.amax(dim=1).double().numpy())
        first, last = self.indptr[rows.start], self.indptr[rows.stop]
        if first == last:
            return
        query = self.query[first:last] - rows.start
        place = np.arange(first, last) - self.indptr[self.query[first:last]]
        # No score is above or equal to infinity, so the padding counts nothing.
        table = np.full((rows.stop - rows.start, int(place.max()) + 1), np.inf)
        table[query, place] = self.scores[first:last]
        counts = _one_by_one if table.shape[1] <= _FEW else _sorted
        above, equal = counts(tile, torch.from_numpy(table).to(tile.dtype))
        self.above[first:last] += above.numpy()[query, place].astype(np.int64)
        self.equal[first:last] += equal.numpy()[query, place].astype(np.int64)

    def counts(self) -> tuple[Ints, Ints]:
        """(p,) items above each right answer, and (p,) OTHER items with its score."""
        # Each right answer met itself once; if not, a tile came out differently the second time.
        if len(self.equal) and self.equal.min() < 1:
            raise RuntimeError("a score changed between two computations of one tile; is the similarity random?")
        return self.above, self.equal - 1


def _one_by_one(tile: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """How many of each row of `tile (n, g)` are above and equal to each of `table (n, m)`: two (n, m)."""
    above, equal = torch.empty_like(table), torch.empty_like(table)
    # Comparing into floats and adding those is exact below 2^24 items and three times as fast as adding booleans.
    flags = torch.empty_like(tile)
    for column in range(table.shape[1]):
        score = table[:, column, None]
        above[:, column] = torch.gt(tile, score, out=flags).sum(dim=1)
        equal[:, column] = torch.eq(tile, score, out=flags).sum(dim=1)
    return above, equal


def _sorted(tile: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """As `_one_by_one`, one binary search of every score among its row's sorted right answers."""
    ordered, order = table.sort(dim=1)
    tile = tile.contiguous()
    above = _passed(torch.searchsorted(ordered, tile, right=False), table.shape[1])
    at_least = _passed(torch.searchsorted(ordered, tile, right=True), table.shape[1])
    out = torch.empty_like(above)
    return out.scatter(1, order, above), out.scatter(1, order, at_least - above)


def _passed(places: Tensor, m: int) -> Tensor:
    """places (n, g) in 0..m -> (n, m): how many of each row lie beyond each place."""
    n = len(places)
    flat = places + torch.arange(n)[:, None] * (m + 1)
    counts = torch.bincount(flat.flatten(), minlength=n * (m + 1)).view(n, m + 1)
    return counts[:, 1:].flip(1).cumsum(1).flip(1)
