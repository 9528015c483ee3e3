"""What each element of an item attends to: its shares of the item's fragments, and what those fragments are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor

from ..data.features import Features, Pixels
from .base import ImageTower, Locals, TextTower

__all__ = ["Attention", "attention_of_images", "attention_of_texts"]

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Attention:
    """What the k elements of one item read of its f fragments.

    A grid's cells stand row by row. They part evenly what the tower sees of the picture: all of it, squashed to a
    square, unless `boxes` say where each cell lies. What a cell knows of the picture reaches far beyond its place.

    Attributes:
        elements: k.
        kind: what the fragments are: cells of a "grid", "regions" as a feature file numbers them, or "words"; None
            without shares.
        shares: (k, f) float64, each row sums to 1; None where the head attends to no fragments.
        rows, columns: of a grid.
        boxes: of a grid that is not the whole picture: left, top, right and bottom of each cell, in shares of the
            upright picture's sides.
        words: of a text, as `TextTower.cut`.
        why: one line why there are no shares.
    """

    elements: int
    kind: Literal["grid", "regions", "words"] | None = None
    shares: Tensor | None = None
    rows: int | None = None
    columns: int | None = None
    boxes: tuple[Box, ...] | None = None
    words: tuple[str, ...] | None = None
    why: str | None = None

    def first(self, elements: int | None) -> Attention:
        """The first elements alone; None is all."""
        if elements is None:
            return self
        return replace(self, elements=elements, shares=None if self.shares is None else self.shares[:elements])

    def to_json(self) -> dict[str, Any]:
        """As JSON, `shares` an empty list where there are none."""
        return {
            "elements": self.elements,
            "kind": self.kind,
            "rows": self.rows,
            "columns": self.columns,
            "boxes": None if self.boxes is None else [list(box) for box in self.boxes],
            "words": None if self.words is None else list(self.words),
            "shares": [] if self.shares is None else self.shares.tolist(),
            "why": self.why,
        }


def attention_of_images(
    tower: ImageTower, images: Features | Pixels, sizes: Sequence[tuple[int, int]] | None
) -> list[Attention]:
    """Of n images.

    Args:
        sizes: width and height of the upright pictures that `images` were prepared from, where they are known.
    """
    local = tower.local(images)
    out = []
    for n, ((k, shares), grid) in enumerate(zip(_shares(tower, local), _grids(tower, images), strict=True)):
        if shares is None:
            out.append(Attention(k, why=tower.head.blind))
        elif grid is None or grid[0] * grid[1] != shares.shape[1]:
            out.append(Attention(k, "regions", shares))
        else:
            boxes = None if sizes is None else _boxes(tower.seen(*sizes[n]), *grid)
            out.append(Attention(k, "grid", shares, *grid, boxes))
    return out


def _grids(tower: ImageTower, images: Features | Pixels) -> list[tuple[int, int] | None]:
    """Rows and columns of each image's cells; None where they are no grid."""
    if isinstance(images, Features):
        return [None] * len(images)
    if images.grids is not None:
        return [(int(rows), int(columns)) for rows, columns in images.grids]
    return [tower.grid(*images.array.shape[2:])] * len(images)


def attention_of_texts(tower: TextTower, texts: Sequence[str]) -> list[Attention]:
    """Of n texts."""
    local = tower.local(tower.tokens(list(texts)))
    return [
        Attention(k, why=tower.head.blind)
        if shares is None
        else Attention(k, "words", shares, words=tuple(tower.cut(text)))
        for text, (k, shares) in zip(texts, _shares(tower, local), strict=True)
    ]


def _shares(tower: ImageTower | TextTower, local: Locals) -> list[tuple[int, Tensor | None]]:
    """Number of elements and shares (k, f) over the real fragments of each item."""
    found = tower.head.attend(local)
    if found is None:
        # Only the embedding says how many elements such a head makes.
        embedding = tower.head(local).embedding
        return [(embedding.layout().get("k", 1), None)] * len(embedding)
    out: list[tuple[int, Tensor | None]] = []
    for shares, valid in zip(found.double().cpu(), local.valid.cpu(), strict=True):
        real = shares[:, valid]
        out.append((len(real), real / real.sum(dim=1, keepdim=True)))
    return out


def _boxes(seen: Box, rows: int, columns: int) -> tuple[Box, ...] | None:
    """Where the cells of a part of a picture lie, row by row; None where the part is the whole."""
    if seen == (0.0, 0.0, 1.0, 1.0):
        return None
    left, top, right, bottom = seen
    across, down = (right - left) / columns, (bottom - top) / rows
    return tuple(
        (left + c * across, top + r * down, left + (c + 1) * across, top + (r + 1) * down)
        for r in range(rows)
        for c in range(columns)
    )
