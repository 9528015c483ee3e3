"""What a frozen backbone gave, or ready pixels: what enters an image tower in place of a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import DataError

__all__ = ["Features", "Pixels"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Features:
    """Precomputed fragments and pooled vectors of n items.

    Attributes:
        vectors: (n, f, c) float, fragments (regions, grid cells, tokens); None when there is only `pooled`.
        lengths: (n,) int, how many fragments of each item are real; None means all f.
        pooled: (n, p) float, one vector of the whole item; None when there are only fragments.
        once: the fragments lie in memory of their own and nobody looks at them again, so a tower that trains may write
            over them instead of holding a second batch of them.
    """

    vectors: Array | None = None
    lengths: Array | None = None
    pooled: Array | None = None
    once: bool = False

    def __post_init__(self) -> None:
        sizes = {}
        for name, rank in (("vectors", 3), ("lengths", 1), ("pooled", 2)):
            value = getattr(self, name)
            if value is None:
                continue
            if np.ndim(value) != rank:
                raise DataError(f"features.{name}: {np.ndim(value)} axes {np.shape(value)}, expected {rank}")
            sizes[name] = len(value)
        if not {"vectors", "pooled"} & set(sizes):
            raise DataError("features: neither vectors nor pooled given, expected at least one")
        if len(set(sizes.values())) > 1:
            raise DataError(f"features: rows {sizes}, expected as many in each")

    def __len__(self) -> int:
        return len(self.vectors) if self.vectors is not None else len(self.pooled)  # type: ignore[arg-type]

    def __getitem__(self, rows: slice) -> Features:
        def cut(value: Array | None) -> Array | None:
            return None if value is None else value[rows]

        return Features(cut(self.vectors), cut(self.lengths), cut(self.pooled))


@dataclass(frozen=True)
class Pixels:
    """Ready pixels, already normalised as the tower expects them.

    Attributes:
        array: (n, 3, h, w).
        grids: (n, 2) int, where a tower keeps each picture's proportions: rows and columns of its square patches, which
            `array` holds one after the other, (n, 3, p, p * m), row by row and zeros behind the last.
    """

    array: Array
    grids: Array | None = None

    def __post_init__(self) -> None:
        if np.ndim(self.array) != 4 or np.shape(self.array)[1] != 3:
            raise DataError(f"pixels: shape {np.shape(self.array)}, expected (n, 3, h, w)")
        if self.grids is not None and np.shape(self.grids) != (len(self.array), 2):
            raise DataError(f"pixels: grids {np.shape(self.grids)}, expected ({len(self.array)}, 2)")

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, rows: slice) -> Pixels:
        return Pixels(self.array[rows], None if self.grids is None else self.grids[rows])
