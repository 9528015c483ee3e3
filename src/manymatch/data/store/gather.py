"""Rows of many segments into one array, each copied once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..features import Features
from .catalogue import Place
from .records import Kind
from .segments import Segment

__all__ = ["Gather"]

Array = np.ndarray[Any, Any]

_PARTS = ("vectors", "pooled")


class Gather:
    """Records at fixed places, read in any order. Threads may share one.

    Args:
        segments: name -> segment.
        places: where the records lie; a row below is a place in this order.
        kind: of the records.

    Raises:
        DataError: when reading, a segment that was cut short meanwhile.
    """

    def __init__(self, segments: Mapping[str, Segment], places: Sequence[Place], kind: Kind) -> None:
        names = sorted({name for name, _ in places})
        numbers = {name: n for n, name in enumerate(names)}
        self._segments = [segments[name] for name in names]
        self._number = np.array([numbers[name] for name, _ in places], np.int32)
        self._row = np.array([row for _, row in places], np.int64)
        self._most = np.zeros(len(names), np.int64)
        np.maximum.at(self._most, self._number, self._row + 1)
        self._kind = kind
        self._parts = [name for name in _PARTS if name in (kind.record.names or ())]
        # Each part of each segment's records, (n,) or (n, numbers); None where nothing was read of it yet.
        self._mapped: dict[str, list[Array | None]] = {name: [None] * len(names) for name in ("length", *self._parts)}

    def __len__(self) -> int:
        return len(self._row)

    def __call__(self, rows: Sequence[int], dtype: type[np.floating[Any]]) -> Features:
        """Features of n rows, as numbers of this type."""
        chosen = np.asarray(rows, np.int64)
        places = list(zip(self._number[chosen].tolist(), self._row[chosen].tolist(), strict=True))
        for number in {number for number, _ in places}:
            if self._mapped["length"][number] is None:
                self._map(number)
        out = {name: self._copied(name, places, dtype) for name in self._parts}
        stored: list[Any] = self._mapped["length"]
        lengths = [int(stored[number][row]) for number, row in places] if "vectors" in out else []
        ragged = bool(lengths) and min(lengths) < self._kind.fragments
        return Features(out.get("vectors"), np.array(lengths, np.int64) if ragged else None, out.get("pooled"))

    def _copied(self, name: str, places: Sequence[tuple[int, int]], dtype: type[np.floating[Any]]) -> Array:
        """One part of each record."""
        out = np.empty((len(places), *self._kind.record[name].shape), dtype)
        # One axis: numpy copies rows of one a third quicker than of two. A plain loop: a batch of a large data set has
        # a row or two of each segment, and an index for each would cost more than the rows.
        flat, stored = out.reshape(len(places), -1), self._mapped[name]
        for n, (number, row) in enumerate(places):
            flat[n] = stored[number][row]  # type: ignore[index]
        return out

    def _map(self, number: int) -> None:
        records = self._segments[number].records(int(self._most[number]))
        fields = records.dtype.fields
        assert fields is not None
        numbers = records.view(np.float16).reshape(len(records), -1)
        for name in self._parts:
            part, start = fields[name][:2]
            self._mapped[name][number] = numbers[:, start // 2 : (start + part.itemsize) // 2]
        # Last: by it other threads know that all are there.
        self._mapped["length"][number] = records["length"]
