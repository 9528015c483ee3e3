"""The score matrix, one tile at a time: never whole, every tile of the same shape, no tile with a NaN in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError

__all__ = ["Block", "Items", "Side", "Tiles", "choose_block"]

Block = tuple[int, int]
"""Queries and gallery items of one tile."""

_TILE_BYTES = 32 << 20
"""What one tile may take with its temporaries. From 8 MB on the time is the same; larger tiles mean fewer small steps,
which is what suffers when other work shares the cores."""

_LONGEST_SIDE = 2048
_STEP = 16
"""Sides are multiples of this, so that the matrix product never meets its remainder kernels, which round
differently: equal items then score equal to the last bit wherever they lie in a tile."""


class Items(Protocol):
    """What is scored: an `Embedding`, or the embeddings of several models side by side."""

    def __len__(self) -> int: ...
    def __getitem__(self, rows: Any, /) -> Self: ...
    def layout(self) -> dict[str, int]: ...
    def first_not_finite(self) -> int | None: ...


class Side:
    """What one side of the matrix is called in messages: "image" or "caption", with ids where they are known."""

    def __init__(self, kind: str, ids: Sequence[str] | None = None) -> None:
        self.kind, self.ids = kind, ids

    def name(self, row: int) -> str:
        return f"{self.kind} {self.ids[row]!r}" if self.ids is not None else f"{self.kind} {row}"


class Tiles:
    """A matrix (q, g) cut into tiles of one shape.

    Args:
        score: (rows, columns) of a tile, as slices that may reach past the end, -> scores of at least the real part.
        shape: (q, g).
        block: sides of a tile.
        sides: what rows and columns are, for messages.
        hollow: row n and column n are one item, which is below everything for itself.
        ready: tiles are only read, which is as cheap again.
    """

    def __init__(
        self,
        score: Callable[[slice, slice], Tensor],
        shape: tuple[int, int],
        block: Block,
        sides: tuple[Side, Side],
        *,
        hollow: bool = False,
        ready: bool = False,
    ) -> None:
        self.score, self.shape, self.block, self.sides = score, shape, block, sides
        self.hollow, self.ready = hollow, ready
        self.grid = (math.ceil(shape[0] / block[0]), math.ceil(shape[1] / block[1]))

    @classmethod
    def of(
        cls,
        similarity: Callable[[Any, Any], Tensor],
        queries: Items,
        gallery: Items,
        block: Block | None,
        sides: tuple[Side, Side],
        *,
        most_rows: int | None = None,
    ) -> Tiles:
        """Tiles of `similarity(queries, gallery)`, on whichever device those are.

        Tiles of items against themselves are square, so that a tile beyond the diagonal is one before it, turned.
        `most_rows` keeps tiles low, for those who read whole rows.

        Raises:
            DataError: an embedding holds a NaN or an infinity; a block smaller than one.
        """
        for items, side in ((queries, sides[0]), (gallery, sides[1])):
            row = _first_not_finite(items)
            if row is not None:
                raise DataError(
                    f"{side.name(row)}: its embedding holds a NaN or an infinity, expected finite numbers; "
                    "nothing was evaluated (did training diverge?)"
                )
        shape = (len(queries), len(gallery))
        side_q, side_g = choose_block(shape, _elements(queries) * _elements(gallery), block, most_rows)
        if queries is gallery and block is None and most_rows is None:
            side_q = side_g = min(side_q, side_g)

        def score(rows: slice, columns: slice) -> Tensor:
            return similarity(_padded(queries, rows), _padded(gallery, columns))

        return cls(score, shape, (side_q, side_g), sides)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Numbers of all tiles, row by row."""
        return ((r, c) for r in range(self.grid[0]) for c in range(self.grid[1]))

    def span(self, number: tuple[int, int]) -> tuple[slice, slice]:
        """Rows and columns of a tile that lie inside the matrix."""
        starts = (number[0] * self.block[0], number[1] * self.block[1])
        first, second = (slice(s, min(s + b, n)) for s, b, n in zip(starts, self.block, self.shape, strict=True))
        return first, second

    def __getitem__(self, number: tuple[int, int]) -> Tensor:
        """The scores of a tile, float32 or float64, all finite. Raises DataError naming the first that is not."""
        rows, columns = self.span(number)
        whole = self.score(
            slice(rows.start, rows.start + self.block[0]), slice(columns.start, columns.start + self.block[1])
        )
        if whole.dtype not in (torch.float32, torch.float64):
            whole = whole.float()
        tile = whole[: rows.stop - rows.start, : columns.stop - columns.start]
        if not math.isfinite(float(tile.sum())):
            self._refuse(tile, rows.start, columns.start)
        return self._hollowed(tile, rows.start, columns.start) if self.hollow else tile

    def same_turned(self) -> bool:
        """Whether items against themselves score the same to the last bit whichever asks, as far as one tile shows.

        Sums that are taken in another order when sides change places may differ there, and equal items would not tie.
        """
        if self.block[0] != self.block[1] or self.shape[0] != self.shape[1] or not self.shape[0]:
            return False
        tile = self[0, 0]
        return torch.equal(tile, tile.T)

    def bands(self) -> Iterator[tuple[slice, np.ndarray[Any, Any]]]:
        """Whole rows, those of one row of tiles at a time: (rows, scores (b, g)), on the CPU."""
        with torch.inference_mode():
            for r in range(self.grid[0]):
                parts = [self[r, c].cpu().numpy() for c in range(self.grid[1])]
                yield self.span((r, 0))[0], np.concatenate(parts, axis=1)

    def without_self(self) -> Tiles:
        """The same tiles of n items against themselves, where no item meets itself."""
        return Tiles(self.score, self.shape, self.block, self.sides, hollow=True, ready=self.ready)

    def _hollowed(self, tile: Tensor, first_row: int, first_column: int) -> Tensor:
        first, last = max(first_row, first_column), min(first_row + len(tile), first_column + tile.shape[1])
        rows = torch.arange(first, max(first, last))
        tile = tile.clone()
        tile[rows - first_row, rows - first_column] = -math.inf
        return tile

    def _refuse(self, tile: Tensor, first_row: int, first_column: int) -> None:
        # A sum of finite scores may overflow, so the scores themselves decide.
        bad = (~torch.isfinite(tile)).nonzero()
        if len(bad) == 0:
            return
        row, column = (int(v) for v in bad[0])
        names = self.sides[0].name(first_row + row), self.sides[1].name(first_column + column)
        raise DataError(
            f"the score of {names[0]} with {names[1]} is {float(tile[row, column])}, expected a finite number; "
            "nothing was evaluated, because a NaN would count as a perfect rank"
        )


def choose_block(
    shape: tuple[int, int], elements: int = 1, block: Block | None = None, most_rows: int | None = None
) -> Block:
    """Sides of a tile: those asked for, else by bytes, spread evenly so that no tile is a sliver.

    Args:
        shape: (q, g) of the matrix.
        elements: numbers a similarity computes for one score (k times k for sets).
        block: sides the caller wants, kept as they are.
        most_rows: at most so many queries, or as few as tiles can have.
    """
    if block is not None:
        if min(block) < 1:
            raise DataError(f"block {block}: expected two whole numbers of at least 1")
        return block
    scores = max(_TILE_BYTES // (4 * 3 * elements), _STEP * _STEP)
    rows = _even(shape[0], min(math.isqrt(scores), _LONGEST_SIDE, most_rows or _LONGEST_SIDE))
    return rows, _even(shape[1], min(scores // rows, _LONGEST_SIDE))


def _even(size: int, longest: int) -> int:
    """The side that cuts `size` into as few equal parts as `longest` allows, rounded up to the step."""
    parts = math.ceil(size / max(longest // _STEP * _STEP, _STEP))
    return max(math.ceil(size / max(parts, 1) / _STEP), 1) * _STEP


def _first_not_finite(items: Items) -> int | None:
    """Row of the first item with a NaN or an infinity; part by part, or this check would be what takes most memory."""
    for start in range(0, len(items), _LONGEST_SIDE):
        row = items[start : start + _LONGEST_SIDE].first_not_finite()
        if row is not None:
            return start + row
    return None


def _elements(items: Items) -> int:
    """Numbers an item brings to one score: its elements, samples or fragments."""
    return math.prod(size for letter, size in items.layout().items() if letter in "kjf")


def _padded(items: Items, rows: slice) -> Items:
    """The items of a slice; past the end the last one is repeated, so that every tile has the same shape."""
    if rows.stop <= len(items):
        return items[rows]
    return items[torch.arange(rows.start, rows.stop).clamp(max=len(items) - 1)]
