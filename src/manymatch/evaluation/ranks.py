"""Where the right answers stand: one streaming pass over score tiles gives both directions.

For every query and every one of its right answers, count the gallery items that score strictly above it and those
that tie with it. Every metric follows from these counts, and no more than a few tiles are ever held.

A right answer's score must come from the very tile it is compared with: the same two vectors multiplied elsewhere
may differ in the last bit, and a picture would stand below its own copy. So tiles that hold right answers are
computed first, their scores noted, and the tiles kept (or computed again with the same shapes, to the same bits).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.files import Progress
from ..data.matches import Matches
from ..errors import DataError
from .tiles import Block, Items, Side, Tiles, choose_block

__all__ = ["Ranks", "rank", "rank_scores", "top"]

Ints = np.ndarray[Any, np.dtype[np.int64]]

_KEPT_BYTES = 128 << 20
_FEW = 64
"""Up to so many right answers a query, comparing with each in turn is faster than searching them sorted."""


@dataclass(frozen=True)
class Ranks:
    """Counts for q queries over a gallery, p right answers in all.

    Attributes:
        indptr: (q + 1,), the right answers of query r are entries indptr[r]:indptr[r + 1].
        items: (p,), their gallery rows, ascending within a query.
        above: (p,), gallery items that score strictly higher.
        tied: (p,), OTHER gallery items with the same score, right or wrong.
        gallery: how many items are ranked.
    """

    indptr: Ints
    items: Ints
    above: Ints
    tied: Ints
    gallery: int

    @property
    def positives(self) -> Ints:
        """(q,): right answers of each query."""
        return np.diff(self.indptr)

    @property
    def query(self) -> Ints:
        """(p,): the query of each right answer."""
        return np.repeat(np.arange(len(self.indptr) - 1), self.positives)

    def only(self, matches: Matches) -> Ranks:
        """The same ranking judged by fewer right answers; queries are the rows of `matches`.

        Raises DataError when `matches` holds a pair that was not ranked.
        """
        shape = (len(self.indptr) - 1, self.gallery)
        if matches.shape != shape:
            raise DataError(f"matches: {matches.shape} queries and items, ranked were {shape}")
        ranked = self.query * max(self.gallery, 1) + self.items
        wanted = matches.images * max(self.gallery, 1) + matches.captions
        at = np.searchsorted(ranked, wanted)
        known = at < len(ranked)
        if not known.all() or not np.array_equal(ranked[at], wanted):
            raise DataError("matches: some were not ranked; rank with the union of all right answers")
        return Ranks(matches.indptr(), self.items[at], self.above[at], self.tied[at], self.gallery)


def rank(
    similarity: Any,
    images: Items,
    texts: Items,
    matches: Matches,
    *,
    block: Block | None = None,
    progress: Progress | None = None,
    image_ids: Sequence[str] | None = None,
    caption_ids: Sequence[str] | None = None,
) -> tuple[Ranks, Ranks]:
    """Ranks of the right answers, image to text and text to image.

    Args:
        similarity: a `Similarity`; when not `symmetric`, text to image is `similarity(texts, images)`.
        images, texts: embeddings of i images and c captions.
        matches: the right answers (i, c).
        block: images and captions of one tile; by default chosen from the bytes one score takes.
        progress: called after every tile.
        image_ids, caption_ids: how messages name an item; else by row number.

    Raises:
        DataError: an embedding or a score is not finite (the item is named), or sizes do not fit.
    """
    _fit(matches, (len(images), len(texts)))
    sides = Side("image", image_ids), Side("caption", caption_ids)
    tiles = Tiles.of(similarity, images, texts, block, sides)
    turned = None if block is None else (block[1], block[0])
    back = None if similarity.symmetric else Tiles.of(similarity, texts, images, turned, (sides[1], sides[0]))
    return _both(tiles, back, matches, progress)


def rank_scores(
    i2t: Any,
    t2i: Any | None,
    matches: Matches,
    *,
    block: Block | None = None,
    image_ids: Sequence[str] | None = None,
    caption_ids: Sequence[str] | None = None,
) -> tuple[Ranks, Ranks]:
    """As `rank`, of ready scores: `i2t (i, c)` and `t2i (c, i)`, None where it is `i2t` transposed."""
    sides = Side("image", image_ids), Side("caption", caption_ids)

    def ready(scores: Any, shape: tuple[int, int], block: Block | None, sides: tuple[Side, Side]) -> Tiles:
        array = np.asarray(scores)
        if array.shape != shape:
            raise DataError(f"scores: shape {array.shape}, expected {shape} as the right answers say")
        tensor = torch.from_numpy(array if array.dtype == np.float32 else array.astype(np.float64))
        return Tiles(lambda rows, columns: tensor[rows, columns], shape, choose_block(shape, 1, block), sides)

    shape = matches.shape
    tiles = ready(i2t, shape, block, sides)
    if t2i is None:
        return _both(tiles, None, matches, None)
    turned = None if block is None else (block[1], block[0])
    return _both(tiles, ready(t2i, (shape[1], shape[0]), turned, (sides[1], sides[0])), matches, None)


def _fit(matches: Matches, shape: tuple[int, int]) -> None:
    if matches.shape != shape:
        raise DataError(f"matches: {matches.shape} images and captions, embeddings: {shape}; expected as many")


def _both(tiles: Tiles, back: Tiles | None, matches: Matches, progress: Progress | None) -> tuple[Ranks, Ranks]:
    """Without `back` one tile serves both directions: its rows ask, then its columns do."""
    rows, columns = _Counter(matches), _Counter(matches.transpose())
    with torch.inference_mode():
        if back is None:
            _stream(tiles, rows, columns, progress)
        else:
            _stream(tiles, rows, None, progress)
            _stream(back, columns, None, progress)
    return rows.ranks(), columns.ranks()


def _stream(tiles: Tiles, rows: _Counter, columns: _Counter | None, progress: Progress | None) -> None:
    """Note the right answers' scores, then count. Every tile is looked at before anything is returned."""
    held = rows.tiles(tiles.block)
    steps, done = len(held) + tiles.grid[0] * tiles.grid[1], 0
    kept: dict[tuple[int, int], Tensor] = {}
    for counting in (False, True):
        for number in tiles if counting else held:
            tile = kept.pop(number, None)
            if tile is None:
                tile = tiles[number]
            span = tiles.span(number)
            for counter, view, place in ((rows, tile, span), (columns, tile.T, (span[1], span[0]))):
                if counter is not None:
                    (counter.count if counting else counter.note)(view, *place)
            if not counting and (len(kept) + 1) * tile.nbytes <= _KEPT_BYTES:
                kept[number] = tile
            done += 1
            if progress is not None:
                progress(done, steps)


class _Counter:
    """Counts of one direction. `matches` has its queries as rows."""

    def __init__(self, matches: Matches) -> None:
        self.indptr, self.query, self.items = matches.indptr(), matches.images, matches.captions
        self.gallery = matches.shape[1]
        self.scores = np.zeros(len(matches), np.float64)
        self.above = np.zeros(len(matches), np.int64)
        self.equal = np.zeros(len(matches), np.int64)

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

    def ranks(self) -> Ranks:
        # Each right answer met itself once; if not, a tile came out differently the second time.
        if len(self.equal) and self.equal.min() < 1:
            raise RuntimeError("a score changed between two computations of one tile; is the similarity random?")
        return Ranks(self.indptr, self.items, self.above, self.equal - 1, self.gallery)


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


def top(
    similarity: Any, queries: Items, gallery: Items, k: int, *, block: Block | None = None
) -> tuple[np.ndarray[Any, Any], Ints]:
    """The k best of the gallery for every query, exactly, streaming; of equal scores the lower row comes first.

    Returns:
        scores (q, k) and gallery rows (q, k), best first; k is cut to the gallery's size.

    Raises:
        DataError: an embedding or a score is not finite.
    """
    tiles = Tiles.of(similarity, queries, gallery, block, (Side("query"), Side("gallery item")))
    best: dict[int, tuple[Tensor, Tensor]] = {}
    with torch.inference_mode():
        for number in tiles:
            tile, columns = tiles[number], tiles.span(number)[1]
            rows = torch.arange(columns.start, columns.stop).expand(len(tile), -1)
            if number[0] in best:
                # What is kept has lower rows than the tile, so a stable sort keeps the lower row first.
                tile, rows = (torch.cat(pair, dim=1) for pair in zip(best[number[0]], (tile, rows), strict=True))
            scores, order = tile.sort(dim=1, descending=True, stable=True)
            best[number[0]] = scores[:, :k].clone(), rows.gather(1, order[:, :k])
    if not best:
        return np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
    parts = [best[r] for r in range(tiles.grid[0])]
    return torch.cat([p[0] for p in parts]).numpy(), torch.cat([p[1] for p in parts]).numpy()
