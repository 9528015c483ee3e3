"""Stored embeddings as memory-mapped rows, which the exact step reads.

A space says how one modality's rows become an embedding again. A vectors file holds all rows of a modality at the
generation it was made from, with one stride; shorter rows (fragments) are filled with NaN, which `Embedding.unpack`
understands. Rows of the store are never used twice, so the file stays right when the store goes on: what came later
lies behind its last row, and what went is told by the store.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import numpy as np

from ...errors import IndexMismatch
from ..store.packed import Packed
from ..store.rows import Modality, Snapshot
from .derived import PAYLOAD, Writer, read_header, write_derived

if TYPE_CHECKING:
    from ...embeddings import Embedding

__all__ = ["ASKING", "Space", "Vectors", "blocks"]

Array = np.ndarray[Any, Any]

ASKING: tuple[Modality, Modality] = ("caption", "image")
"""Which modality each of the two biases of an item is for, in the order in which they lie in files and proxies."""

_KEPT_BYTES = 64 * 2**20
"""Rows whose float32 numbers fit here stay unpacked in memory; more are read from the map each time."""

_BATCH = 1024


@dataclass(frozen=True)
class Space:
    """Kind, sizes and precision of one modality's embeddings."""

    kind: str
    layout: Mapping[str, int]
    precision: str

    @classmethod
    def of(cls, packed: Packed, precision: str) -> Space:
        return cls(packed.kind, dict(packed.layout), precision)

    def expect(self, other: Space) -> None:
        """Raises IndexMismatch unless the other's rows fit among these."""
        if (self.kind, dict(self.layout)) != (other.kind, dict(other.layout)):
            raise IndexMismatch(
                f"the index holds {self.kind} {dict(self.layout)}, got {other.kind} {dict(other.layout)}; "
                "use the run that built the index"
            )

    def unpack(self, rows: Array) -> Embedding:
        """Rows (n, stride) as an embedding of n items, float32."""
        import torch

        from ...embeddings import embedding_kind

        if rows.flags.writeable:
            # torch widens float16 several times quicker than numpy, and warns about arrays it could not write to.
            rows = torch.from_numpy(rows).float().numpy()
        return embedding_kind(self.kind).unpack(rows, self.layout)

    def unpack_one(self, blob: bytes) -> Embedding:
        """One stored item."""
        return self.unpack(np.frombuffer(blob, self.precision)[None])


@dataclass(frozen=True)
class Vectors:
    """Rows of a modality.

    Attributes:
        rows: (n,) int64, row numbers of the store, ascending; position p in `data` is the item of row `rows[p]`.
        data: (n, stride) in the index's precision, memory-mapped where it comes from a file.
        biases: (2, n) float32, in the order of `ASKING`.
        space: how rows become an embedding.
        generation: the store's, when they were read.
        last: the store's last row then; whatever has a higher one came later.
    """

    rows: Array
    data: Array
    biases: Array
    space: Space
    generation: str
    last: int

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def kept(self) -> Embedding | None:
        """All of them unpacked, where they are few."""
        fits = 4 * self.data.size <= _KEPT_BYTES
        return self.space.unpack(np.asarray(self.data)) if fits and len(self) else None

    def embedding(self, positions: Array | slice) -> Embedding:
        """The items at these positions, float32."""
        kept = self.kept
        return self.space.unpack(self.data[positions]) if kept is None else kept[positions]

    @classmethod
    def open(cls, path: Path, space: Space) -> Self | None:
        """Map the file, or None when it is missing, torn or of another space."""
        try:
            with open(path, "rb") as file:
                header = read_header(file)
                return None if header is None else cls._map(file, header, space)
        except (FileNotFoundError, PermissionError):
            return None

    @classmethod
    def _map(cls, file: BinaryIO, header: Mapping[str, Any], space: Space) -> Self | None:
        n, stride, dtype = int(header["rows"]), int(header["stride"]), np.dtype(header["dtype"])
        biases = PAYLOAD + 8 * n
        start = biases + 2 * 4 * n
        if header["size"] != start + n * stride * dtype.itemsize or header["space"] != _named(space):
            return None
        facts = (space, str(header["generation"]), int(header["last"]))
        if n == 0:
            return cls(np.empty(0, np.int64), np.empty((0, stride), dtype), np.empty((2, 0), np.float32), *facts)
        # Copy on write: nothing here writes, but torch takes only what could be written to.
        data = np.memmap(file, dtype, "c", start, (n, stride))
        rows = np.memmap(file, np.int64, "r", PAYLOAD, (n,))
        taken = np.memmap(file, np.float32, "r", biases, (2, n))
        # As plain arrays: every slice of a `memmap` is made an object of that class first.
        return cls(np.asarray(rows), np.asarray(data), np.asarray(taken), *facts)

    @classmethod
    def read(cls, snapshot: Snapshot, modality: Modality, space: Space, after: int = 0) -> Self:
        """What lies behind the row `after`, in memory."""
        parts = list(snapshot.vectors(modality, after))
        stride = max((len(blob) for _, blob in parts), default=0) // np.dtype(space.precision).itemsize
        packed = b"".join(data for _, data in blocks(iter(parts), stride, space.precision))
        rows = np.array([row for row, _ in parts], np.int64)
        data = np.frombuffer(bytearray(packed), space.precision).reshape(len(rows), stride)
        biases = _biases(snapshot, modality, after)
        return cls(rows, data, biases, space, snapshot.generation, snapshot.last_row)

    @classmethod
    def joined(cls, first: Self, second: Self) -> Self:
        """The rows of both, as of the second's generation. Both in memory."""
        stride = max(first.data.shape[1], second.data.shape[1])
        data = np.full((len(first) + len(second), stride), np.nan, first.space.precision)
        data[: len(first), : first.data.shape[1]] = first.data
        data[len(first) :, : second.data.shape[1]] = second.data
        rows, biases = np.concatenate([first.rows, second.rows]), np.hstack([first.biases, second.biases])
        return cls(rows, data, biases, first.space, second.generation, second.last)

    @staticmethod
    def write(path: Path, snapshot: Snapshot, modality: Modality, space: Space) -> None:
        """Copy the modality's vectors out of the store."""
        size = np.dtype(space.precision).itemsize
        stride, n = snapshot.longest(modality) // size, snapshot.count(modality)

        def payload(file: Writer) -> None:
            file.write(snapshot.biases(modality, ASKING[0])[0].tobytes())
            file.write(_biases(snapshot, modality, 0).tobytes())
            for _, data in blocks(snapshot.vectors(modality), stride, space.precision):
                file.write(data)

        facts = {
            "rows": n,
            "stride": stride,
            "dtype": space.precision,
            "space": _named(space),
            "last": snapshot.last_row,
        }
        write_derived(path, snapshot.generation, facts, payload)


def _named(space: Space) -> dict[str, Any]:
    return {"kind": space.kind, "layout": dict(space.layout), "precision": space.precision}


def _biases(snapshot: Snapshot, modality: Modality, after: int) -> Array:
    return np.stack([np.asarray(snapshot.biases(modality, asking, after)[1], np.float32) for asking in ASKING])


def blocks(vectors: Iterator[tuple[int, bytes]], stride: int, precision: str) -> Iterator[tuple[list[int], bytes]]:
    """Rows and their packed numbers, each filled up to the stride, block by block."""
    filler = np.full(stride, np.nan, precision).tobytes()
    while part := list(islice(vectors, _BATCH)):
        yield [row for row, _ in part], b"".join(blob + filler[len(blob) :] for _, blob in part)
