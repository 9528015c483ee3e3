"""Where the right answers stand: one streaming pass over score tiles gives both directions, and folds of them.

For every query and every one of its right answers, count the gallery items that score strictly above it and those
that tie with it. Every metric follows from these counts, and no more than a few tiles are ever held.

A right answer's score must come from the very tile it is compared with: the same two vectors multiplied elsewhere
may differ in the last bit, and a picture would stand below its own copy. So tiles that hold right answers are
computed first, their scores noted, and the tiles kept (or computed again with the same shapes, to the same bits).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.files import Progress
from ..data.matches import Matches
from ..errors import DataError
from .biases import Biases
from .counting import Asker, Counter
from .folds import Folds
from .tiles import Block, Items, Side, Tiles, choose_block

__all__ = [
    "Folds",
    "Ranking",
    "Ranks",
    "rank",
    "rank_scores",
    "rank_tiles",
    "rank_within",
    "ready_tiles",
    "score_tiles",
    "top",
]

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]

_KEPT_BYTES = 512 << 20
"""What tiles that hold right answers may take until they are counted; beyond it they are computed again. Own captions
lie along the diagonal and need a tenth of this; right answers all over 5,000 images and 25,000 captions need all."""


@dataclass(frozen=True)
class Ranks:
    """Counts for q queries over a gallery, p right answers in all.

    Attributes:
        indptr: (q + 1,), the right answers of query r are entries indptr[r]:indptr[r + 1].
        items: (p,), their gallery rows, ascending within a query (among items of one kind, rows of all of them).
        above: (p,), gallery items that score strictly higher.
        tied: (p,), OTHER gallery items with the same score, right or wrong.
        gallery: how many items are ranked.
        scores: (p,), the right answers' scores, without biases; None for rankings that come without.
        best: (q,), the score of each query's first item, where it was asked for; without its bias.
        depth: (q,), how far each query's ranking is known; None is to the end. A right answer that is not among the
            known has `above` equal to `gallery`.
    """

    indptr: Ints
    items: Ints
    above: Ints
    tied: Ints
    gallery: int
    scores: Floats | None = None
    best: Floats | None = None
    depth: Ints | None = None

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
        return replace(
            self,
            indptr=matches.indptr(),
            items=self.items[at],
            above=self.above[at],
            tied=self.tied[at],
            scores=None if self.scores is None else self.scores[at],
        )

    def part(self, queries: slice, items: slice) -> Ranks:
        """The ranking of some queries whose right answers and gallery are these items alone."""
        first, last = self.indptr[queries.start], self.indptr[queries.stop]
        return Ranks(
            self.indptr[queries.start : queries.stop + 1] - first,
            self.items[first:last] - items.start,
            self.above[first:last],
            self.tied[first:last],
            items.stop - items.start,
            None if self.scores is None else self.scores[first:last],
        )


@dataclass(frozen=True)
class Ranking:
    """Both directions, and the folds' where there are some."""

    i2t: Ranks
    t2i: Ranks
    folds: tuple[tuple[Ranks, Ranks], ...] = ()


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
    tiles = score_tiles(similarity, images, texts, block=block, image_ids=image_ids, caption_ids=caption_ids)
    found = rank_tiles(*tiles, matches, matches.transpose(), progress=progress)
    return found.i2t, found.t2i


def score_tiles(
    similarity: Any,
    images: Items,
    texts: Items,
    *,
    block: Block | None = None,
    image_ids: Sequence[str] | None = None,
    caption_ids: Sequence[str] | None = None,
) -> tuple[Tiles, Tiles | None]:
    """Tiles (i, c), and (c, i) where the similarity is not symmetric. Arguments as `rank`."""
    sides = Side("image", image_ids), Side("caption", caption_ids)
    tiles = Tiles.of(similarity, images, texts, block, sides)
    turned = None if block is None else (block[1], block[0])
    return tiles, None if similarity.symmetric else Tiles.of(similarity, texts, images, turned, (sides[1], sides[0]))


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
    sides, shape = (Side("image", image_ids), Side("caption", caption_ids)), matches.shape
    tiles, back = ready_tiles(i2t, shape, sides, block), None
    if t2i is not None:
        turned = None if block is None else (block[1], block[0])
        back = ready_tiles(t2i, (shape[1], shape[0]), (sides[1], sides[0]), turned)
    found = rank_tiles(tiles, back, matches, matches.transpose())
    return found.i2t, found.t2i


def ready_tiles(
    scores: Any,
    shape: tuple[int, int],
    sides: tuple[Side, Side],
    block: Block | None = None,
    most_rows: int | None = None,
) -> Tiles:
    """Tiles of a ready matrix, or of the mean of a tuple of them, read tile by tile: they may be mapped files.

    Scores are float32 where no matrix is wider, else float64. Raises DataError for a matrix of another shape.
    """
    arrays = [np.asarray(each) for each in (scores if isinstance(scores, tuple) else (scores,))]
    for array in arrays:
        if array.shape != shape:
            raise DataError(f"scores: shape {array.shape}, expected {shape} as the right answers say")
    narrow = all(array.dtype in (np.float16, np.float32) for array in arrays)
    precision = np.float32 if narrow else np.float64

    def score(rows: slice, columns: slice) -> Tensor:
        parts = [torch.from_numpy(np.array(array[rows, columns], precision, order="C")) for array in arrays]
        return parts[0] if len(parts) == 1 else torch.stack(parts).mean(dim=0)

    # A mean is computed anew each time, so a tile of it is worth keeping.
    return Tiles(score, shape, choose_block(shape, 1, block, most_rows), sides, ready=len(arrays) == 1)


def _fit(matches: Matches, shape: tuple[int, int]) -> None:
    if matches.shape != shape:
        raise DataError(f"matches: {matches.shape} images and captions, embeddings: {shape}; expected as many")


def rank_tiles(
    tiles: Tiles,
    back: Tiles | None,
    i2t: Matches,
    t2i: Matches,
    *,
    folds: Folds | None = None,
    best: bool = False,
    biases: Biases | None = None,
    progress: Progress | None = None,
) -> Ranking:
    """Both directions in one pass: of one tile first the rows ask, then the columns.

    Args:
        tiles: scores (i, c).
        back: scores (c, i) where they are others.
        i2t, t2i: right answers (i, c) and (c, i), which need not be the same pairs.
        folds: also rank within each fold.
        best: also note the score of each query's first item.
        biases: taken off scores before they rank.
    """
    turned = None if folds is None else folds.turned()
    off = {d: None if biases is None else biases.of(d) for d in ("i2t", "t2i")}
    rows, columns = Asker(i2t, folds, best, off["i2t"]), Asker(t2i, turned, best, off["t2i"])
    with torch.inference_mode():
        if back is None:
            _stream(tiles, rows, columns, progress)
        else:
            _stream(tiles, rows, None, progress)
            _stream(back, columns, None, progress)
    return Ranking(_made(rows.whole), _made(columns.whole), tuple(zip(_parts(rows), _parts(columns), strict=True)))


def rank_within(tiles: Tiles, matches: Matches, *, symmetric: bool = False, progress: Progress | None = None) -> Ranks:
    """Ranks among items of one kind, text to text or image to image: an item is never its own answer.

    Args:
        tiles: scores (n, n) that leave the item itself out (`Tiles.without_self`).
        matches: right answers (n, n) without the diagonal.
        symmetric: half of the scores are the other half, turned: they are not computed where tiles are square.
        progress: called after every tile.
    """
    asker = Asker(matches, None, False)
    with torch.inference_mode():
        half = symmetric and tiles.same_turned()
        _stream(tiles, asker, asker if half else None, progress)
    return replace(_made(asker.whole), gallery=max(len(matches.indptr()) - 2, 0))


def _made(counter: Counter) -> Ranks:
    above, tied = counter.counts()
    return Ranks(counter.indptr, counter.items, above, tied, counter.gallery, counter.scores, counter.best)


def _parts(asker: Asker) -> list[Ranks]:
    """The ranks of each fold."""
    if asker.folds is None or asker.within is None:
        return []
    ranks = _made(asker.within)
    return [ranks.part(r, c) for r, c in zip(asker.folds.images, asker.folds.captions, strict=True)]


def _stream(tiles: Tiles, rows: Asker, columns: Asker | None, progress: Progress | None) -> None:
    """Note the right answers' scores, then count. Every tile is looked at before anything is returned.

    Where rows and columns are one asker, tiles below the diagonal are those above it, turned.
    """
    wanted, half = _wanted(tiles, rows, columns), columns is rows
    # Among items of one kind the whole would not fit anyway, and the scores across may be held meanwhile.
    room = _KEPT_BYTES // 2 if tiles.hollow else _KEPT_BYTES
    steps, done = sum(len(numbers) for numbers in wanted.values()), 0
    kept: dict[tuple[int, int], Tensor] = {}
    for counting, numbers in wanted.items():
        for number in numbers:
            tile = kept.pop(number, None)
            if tile is None:
                tile = tiles[number]
            span = tiles.span(number)
            for asker, view, place in ((rows, tile, span), (columns, tile.T, (span[1], span[0]))):
                if asker is not None and not (half and view is not tile and number[0] == number[1]):
                    (asker.count if counting else asker.note)(view, *place)
            if not counting and not tiles.ready and (len(kept) + 1) * tile.nbytes <= room:
                kept[number] = tile
            done += 1
            if progress is not None:
                progress(done, steps)


def _wanted(tiles: Tiles, rows: Asker, columns: Asker | None) -> dict[bool, list[tuple[int, int]]]:
    """Numbers of the tiles to note from (False), which hold a right answer, and of those to count in (True)."""
    held = set(rows.whole.tiles(tiles.block))
    if columns is not None:
        held |= {(r, c) for c, r in columns.whole.tiles((tiles.block[1], tiles.block[0]))}
    if columns is not rows:
        return {False: sorted(held), True: list(tiles)}
    return {False: sorted((r, c) for r, c in held if r <= c), True: [(r, c) for r, c in tiles if r <= c]}


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
            rows = torch.arange(columns.start, columns.stop, device=tile.device).expand(len(tile), -1)
            if number[0] in best:
                # What is kept has lower rows than the tile, so a stable sort keeps the lower row first.
                tile, rows = (torch.cat(pair, dim=1) for pair in zip(best[number[0]], (tile, rows), strict=True))
            scores, order = tile.sort(dim=1, descending=True, stable=True)
            best[number[0]] = scores[:, :k].clone(), rows.gather(1, order[:, :k])
    if not best:
        return np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
    parts = [best[r] for r in range(tiles.grid[0])]
    return torch.cat([p[0] for p in parts]).cpu().numpy(), torch.cat([p[1] for p in parts]).cpu().numpy()
