"""Embeddings as rows of numbers, without torch: what a store keeps, and what a program that only stores gives it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import DataError, UnknownName

if TYPE_CHECKING:
    from ...embeddings import Embedding

__all__ = ["Packed"]

Array = np.ndarray[Any, Any]

_TENSORS: Mapping[str, tuple[str, ...]] = {
    "points": ("d",),
    "sets": ("kd",),
    "gaussian_sets": ("kd", "k"),
    "samples": ("jd",),
    "gaussians": ("d", "d"),
    "boxes": ("d", "d"),
    "fragments": ("d",),
}
"""Kind -> the axes of each tensor of an item, one letter each; those of its layout are the first one's."""

_RAGGED = "f"
"""The axis that may differ from item to item (fragments); all others are the same for a whole index."""


@dataclass(frozen=True)
class Packed:
    """n items of one kind, each a flat row of all that its similarity needs, as `Embedding.pack` gives them.

    Args:
        kind: "points", "sets", "gaussian_sets", "samples", "gaussians", "boxes" or "fragments".
        layout: sizes of its axes: points `{"d": 256}`, sets `{"k": 4, "d": 256}`; the number of fragments is left out.
        rows: (n, p) numbers, or a list of n rows of different lengths (fragments).

    Raises:
        UnknownName: a kind that does not exist.
        DataError: axes of another kind, or rows of another length than these axes give.
    """

    kind: str
    layout: Mapping[str, int]
    rows: Array | list[Array]

    def __post_init__(self) -> None:
        if self.kind not in _TENSORS:
            raise UnknownName("kind of embedding", self.kind, _TENSORS)
        tensors = _TENSORS[self.kind]
        if set(self.layout) != set(tensors[0]):
            found, wanted = ", ".join(self.layout), ", ".join(tensors[0])
            raise DataError(f"{self.kind}: layout with the axes {found or 'none'}, expected {wanted}")
        shape = np.shape(self.rows) if isinstance(self.rows, np.ndarray) else (len(self), 0)
        if len(shape) != 2:
            raise DataError(f"{self.kind}: rows of shape {shape}, expected (n, p)")
        lengths = {shape[1]} if isinstance(self.rows, np.ndarray) else {len(row) for row in self.rows}
        width = sum(math.prod(self.layout[axis] for axis in axes) for axes in tensors)
        for length in lengths if len(self) else ():
            # Of fragments the pooled vector comes first, then as many as there are.
            if length != width and (self.kind != "fragments" or not length or length % width):
                several = "a multiple of " if self.kind == "fragments" else ""
                raise DataError(
                    f"{self.kind}: a row of {length} numbers, expected {several}{width} for {dict(self.layout)}"
                )

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def of(cls, embedding: Embedding | Packed) -> Packed:
        """The same items, without torch."""
        if isinstance(embedding, Packed):
            return embedding
        rows = embedding.pack()
        even = len({len(row) for row in rows}) == 1
        layout = {axis: size for axis, size in embedding.layout().items() if axis != _RAGGED}
        return cls(embedding.kind, layout, np.stack(rows) if even else rows)

    def blobs(self, precision: str) -> list[bytes]:
        """One blob an item. Raises DataError when a number is not finite, or too large for the precision."""
        if isinstance(self.rows, np.ndarray):
            cast = self._cast(self.rows, precision, 0)
            return [row.tobytes() for row in cast]
        return [self._cast(row[None], precision, n).tobytes() for n, row in enumerate(self.rows)]

    def _cast(self, rows: Array, precision: str, first: int) -> Array:
        with np.errstate(over="ignore"):
            cast = rows.astype(precision)
        finite = np.isfinite(cast)
        if finite.all():
            return cast
        bad = int(np.flatnonzero(~finite.all(axis=1))[0])
        if np.isfinite(rows[bad]).all():
            raise DataError(
                f"an embedding has {np.abs(rows[bad]).max():.3g}, too large for float16; build with precision='float32'"
            )
        raise DataError(f"embedding {first + bad} of {len(self)} has a NaN or an infinity; the run has diverged")
