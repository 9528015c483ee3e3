"""Embedded queries in half the bytes, whatever their kind."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..embeddings import Embedding, Sets, embedding_kind
from ..errors import DataError

__all__ = ["Queries", "elements_of"]

Ints = np.ndarray[Any, np.dtype[np.int64]]

_BYTES = 64 << 20
"""What unpacked queries may take."""


@dataclass(frozen=True, eq=False)
class Queries:
    """m embedded queries of one modality, in half the bytes.

    Attributes:
        kind, layout: what `Embedding.unpack` needs.
        rows: (m, p), or where items have different lengths (fragments) all numbers in one row.
        ends: (m + 1,) where each begins and ends in that row; None of equal lengths.
        owners: (m,) `owner_keys` of their images.
    """

    kind: str
    layout: Mapping[str, int]
    rows: Tensor
    ends: Tensor | None
    owners: Tensor

    @classmethod
    def of(cls, parts: Iterable[Embedding], owners: Ints) -> Queries:
        """Pack the queries part by part. Raises DataError: a NaN or an infinity, or no query."""
        packed: list[np.ndarray[Any, Any]] = []
        kind, layout = "", dict[str, int]()
        for part in parts:
            kind, layout = part.kind, {axis: size for axis, size in part.layout().items() if axis != "f"}
            for row in part.pack():
                packed.append(_narrow(row))
        if not packed or len(packed) != len(owners):
            raise DataError(f"query bank: {len(packed)} queries of {len(owners)} owners, expected as many and some")
        precision = np.result_type(*{row.dtype for row in packed})
        lengths = [len(row) for row in packed]
        even = len(set(lengths)) == 1
        rows = np.stack(packed) if even else np.concatenate(packed)
        ends = None if even else torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
        return cls(kind, layout, torch.from_numpy(rows.astype(precision, copy=False)), ends, torch.from_numpy(owners))

    def __len__(self) -> int:
        return len(self.owners)

    def embedding(self, rows: slice) -> Embedding:
        """The queries of a slice, float32."""
        kind = embedding_kind(self.kind)
        if self.ends is None:
            return kind.unpack(self.rows[rows].float().numpy(), self.layout)
        ends = self.ends[rows.start : rows.stop + 1].tolist()
        out = np.full((len(ends) - 1, int(np.diff(ends).max())), np.nan, np.float32)
        for row, (start, end) in enumerate(pairwise(ends)):
            out[row, : end - start] = self.rows[start:end].float().numpy()
        return kind.unpack(out, self.layout)

    def evenly(self, count: int) -> Embedding:
        """Up to so many of them, spread evenly, float32."""
        rows = np.unique(np.linspace(0, len(self) - 1, count).round().astype(int)).tolist()
        parts = [self.embedding(slice(row, row + 1)) for row in rows]
        return type(parts[0]).concat(parts)

    @property
    def elements(self) -> int:
        """Numbers a query brings to one score, at most."""
        if self.kind != "fragments":
            return elements_of(self.layout)
        # The pooled vector comes first.
        longest = self.rows.shape[1] if self.ends is None else int(self.ends.diff().max())
        return max(1, longest // self.layout["d"] - 1)

    @property
    def together(self) -> int:
        """How many are unpacked at once, by bytes."""
        return max(1, _BYTES // (4 * max(1, self.rows.numel() // len(self))))

    def first(self, elements: int) -> Queries:
        """The same with the first elements of each set alone."""
        whole = self.embedding(slice(0, len(self)))
        if not isinstance(whole, Sets):
            return self
        cut = whole.first(elements)
        return replace(self, layout=cut.layout(), rows=torch.from_numpy(np.stack(cut.pack())).to(self.rows.dtype))

    def tensors(self) -> dict[str, Tensor]:
        """What is stored."""
        return {"rows": self.rows, "owners": self.owners, **({} if self.ends is None else {"ends": self.ends})}


def _narrow(row: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """In float16 where that can hold it. Raises DataError."""
    with np.errstate(over="ignore"):
        narrow = row.astype(np.float16)
    if np.isfinite(narrow).all():
        return narrow
    if not np.isfinite(row).all():
        raise DataError("query bank: an embedding holds a NaN or an infinity, expected finite numbers")
    return row.astype(np.float32)


def elements_of(layout: Mapping[str, int]) -> int:
    """Numbers an item brings to one score: its elements, samples or fragments."""
    return math.prod(size for letter, size in layout.items() if letter in "kjf")
