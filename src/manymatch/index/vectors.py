"""Packed embeddings: as blobs of the store, and as the memory-mapped rows the exact step reads.

A space says how one modality's rows become an embedding again. A vectors file holds all rows of a modality at one
generation with one stride; shorter rows (fragments) are filled with NaN, which `Embedding.unpack` understands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
import torch

from ..embeddings import Embedding, embedding_kind
from ..errors import DataError, IndexMismatch
from .derived import PAYLOAD, read_header, write_derived
from .rows import Modality, Snapshot

__all__ = ["Space", "Vectors"]

Array = np.ndarray[Any, Any]

_RAGGED = "f"
"""The axis that may differ from item to item (fragments); all others are the same for a whole index."""

_BATCH = 1024


@dataclass(frozen=True)
class Space:
    """Kind, sizes and precision of one modality's embeddings."""

    kind: str
    layout: Mapping[str, int]
    precision: str

    @classmethod
    def of(cls, embedding: Embedding, precision: str) -> Space:
        return cls(embedding.kind, {k: v for k, v in embedding.layout().items() if k != _RAGGED}, precision)

    def expect(self, other: Space) -> None:
        """Raises IndexMismatch unless the other's rows fit among these."""
        if (self.kind, dict(self.layout)) != (other.kind, dict(other.layout)):
            raise IndexMismatch(
                f"the index holds {self.kind} {dict(self.layout)}, got {other.kind} {dict(other.layout)}; "
                "use the run that built the index"
            )

    def pack(self, embedding: Embedding) -> list[bytes]:
        """One blob an item. Raises DataError when a number is not finite, or too large for the precision."""
        bad = embedding.first_not_finite()
        if bad is not None:
            raise DataError(f"embedding {bad} of {len(embedding)} has a NaN or an infinity; the run has diverged")
        packed = embedding.pack()
        if len({len(row) for row in packed}) == 1:
            return [row.tobytes() for row in self._cast(np.stack(packed))]
        return [self._cast(row[None]).tobytes() for row in packed]

    def _cast(self, rows: Array) -> Array:
        with np.errstate(over="ignore"):
            cast = rows.astype(self.precision)
        if not np.isfinite(cast).all():
            raise DataError(
                f"an embedding has {np.abs(rows).max():.3g}, too large for float16; build with precision='float32'"
            )
        return cast

    def unpack(self, rows: Array) -> Embedding:
        """Rows (n, stride) as an embedding of n items, float32."""
        if rows.flags.writeable:
            # torch widens float16 several times quicker than numpy, and warns about arrays it could not write to.
            rows = torch.from_numpy(rows).float().numpy()
        return embedding_kind(self.kind).unpack(rows, self.layout)

    def unpack_one(self, blob: bytes) -> Embedding:
        """One stored item."""
        return self.unpack(np.frombuffer(blob, self.precision)[None])


@dataclass(frozen=True)
class Vectors:
    """All rows of a modality at one generation.

    Attributes:
        rows: (n,) int64, row numbers of the store, ascending; position p in `data` is the item of row `rows[p]`.
        data: (n, stride) in the index's precision, memory-mapped.
    """

    rows: Array
    data: Array

    @classmethod
    def open(cls, path: Path, generation: str) -> Self | None:
        """Map the file, or None when it is missing, torn or of another generation."""
        try:
            with open(path, "rb") as file:
                header = read_header(file, generation)
                return None if header is None else cls._map(file, header)
        except FileNotFoundError:
            return None

    @classmethod
    def _map(cls, file: BinaryIO, header: Mapping[str, Any]) -> Self | None:
        n, stride, dtype = int(header["rows"]), int(header["stride"]), np.dtype(header["dtype"])
        start = PAYLOAD + 8 * n
        if header["size"] != start + n * stride * dtype.itemsize:
            return None
        if n == 0:
            return cls(np.empty(0, np.int64), np.empty((0, stride), dtype))
        rows: Array = np.memmap(file, np.int64, "r", PAYLOAD, (n,))
        # Copy on write: nothing here writes, but torch takes only what could be written to.
        data: Array = np.memmap(file, dtype, "c", start, (n, stride))
        return cls(rows, data)

    @classmethod
    def read(cls, snapshot: Snapshot, modality: Modality, precision: str) -> Self:
        """The same in memory, for a reader whose file another one keeps replacing."""
        stride = snapshot.longest(modality) // np.dtype(precision).itemsize
        blocks = list(_blocks(snapshot.vectors(modality), stride, precision))
        rows = np.array([row for numbers, _ in blocks for row in numbers], np.int64)
        data = np.frombuffer(b"".join(data for _, data in blocks), precision)
        return cls(rows, data.reshape(len(rows), stride))

    @staticmethod
    def write(path: Path, snapshot: Snapshot, modality: Modality, precision: str) -> None:
        """Copy the modality's vectors out of the store."""
        size = np.dtype(precision).itemsize
        stride, n = snapshot.longest(modality) // size, snapshot.count(modality)

        def payload(file: BinaryIO) -> None:
            rows = np.empty(n, np.int64)
            file.seek(8 * n, 1)
            done = 0
            for numbers, data in _blocks(snapshot.vectors(modality), stride, precision):
                rows[done : done + len(numbers)] = numbers
                file.write(data)
                done += len(numbers)
            file.seek(PAYLOAD)
            file.write(rows.tobytes())

        facts = {"rows": n, "stride": stride, "dtype": precision}
        write_derived(path, snapshot.generation, facts, payload)


def _blocks(vectors: Iterator[tuple[int, bytes]], stride: int, precision: str) -> Iterator[tuple[list[int], bytes]]:
    filler = np.full(stride, np.nan, precision).tobytes()
    while part := list(islice(vectors, _BATCH)):
        yield [row for row, _ in part], b"".join(blob + filler[len(blob) :] for _, blob in part)
