"""Inverted lists over proxies (faiss, inner product): a query looks at the lists nearest to it.

Proxies lie in the lists in float16: half the memory to read for a query, and half the disk. What that moves is measured
with the rest of the agreement, and the exact step does not see it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import faiss as _faiss
import numpy as np

from ..derived import Writer
from . import Proxies

__all__ = ["Faiss"]

Array = np.ndarray[Any, Any]

faiss: Any = _faiss
"""Its stubs lack the readers, writers and search parameters used here."""

_MOST_LISTS = 4096
_POINTS_PER_LIST = 32
"""Training points for each list: enough for the lists to be even, a fraction of the time of all points."""

_LANES = 16
"""Proxies are filled up with zeros to a multiple of this; others are compared number by number, ten times slower."""

_LARGEST = 6e4
"""Where a number is larger than this, proxies stay in float32: float16 ends soon after."""

_TOGETHER = 2**14
"""Proxies put into the lists at once."""


class Faiss:
    """Engine over `faiss.IndexIVFScalarQuantizer`, or `faiss.IndexIVFFlat` where numbers are large."""

    def __init__(self, index: Any) -> None:
        self._index = index
        self._lists: int = index.nlist

    @classmethod
    def build(cls, count: int, proxies: Proxies) -> Self:
        lists = max(1, min(round(4 * math.sqrt(count)), count // 8, _MOST_LISTS))
        sample, largest = _sample(count, lists * _POINTS_PER_LIST, proxies)
        index = _empty(sample.shape[1], lists, small=largest <= _LARGEST)
        index.cp.min_points_per_centroid = 1
        index.cp.max_points_per_centroid = _POINTS_PER_LIST
        index.cp.spherical = True
        with _threads(os.cpu_count() or 1):
            index.train(sample)
            for rows, block in _joined(proxies):
                index.add_with_ids(_wide(block), np.ascontiguousarray(rows, np.int64))
        return cls(index)

    @classmethod
    def read(cls, path: Path, offset: int) -> Self | None:
        try:
            reader = faiss.FileIOReader(str(path))
            skipped = np.empty(offset, np.uint8)
            reader(faiss.swig_ptr(skipped), 1, offset)
            index = faiss.read_index(reader, faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
        except RuntimeError:
            return None
        # Reading ahead would start 32 threads for every query; the lists are in the page cache.
        lists = faiss.downcast_InvertedLists(index.invlists)
        if hasattr(lists, "prefetch_nthread"):
            lists.prefetch_nthread = 0
        return cls(index)

    def write(self, file: Writer) -> None:
        faiss.write_index(self._index, faiss.PyCallbackIOWriter(file.write))

    def efforts(self) -> list[int]:
        return [*(2**n for n in range(self._lists.bit_length()) if 3 * 2**n < 2 * self._lists), self._lists]

    def looked_at(self, effort: int) -> int:
        proxies: int = self._index.ntotal
        return math.ceil(proxies * effort / self._lists) + self._lists

    def search(self, proxies: Array, count: int, effort: int, *, among: Array | None = None, threads: int = 1) -> Array:
        return self.search_scored(proxies, count, effort, among=among, threads=threads)[0]

    def search_scored(
        self, proxies: Array, count: int, effort: int, *, among: Array | None = None, threads: int = 1
    ) -> tuple[Array, Array]:
        params = faiss.SearchParametersIVF(nprobe=min(effort, self._lists))
        if among is not None:
            if not len(among):
                nothing = np.full((len(proxies), count), -1, np.int64)
                return nothing, np.full(nothing.shape, -np.inf, np.float32)
            # One bit a row: `among` ascends, so the last one says how many.
            bits = np.zeros(int(among[-1]) + 1, bool)
            bits[among] = True
            packed = np.packbits(bits, bitorder="little")
            selector = faiss.IDSelectorBitmap(len(packed), faiss.swig_ptr(packed))
            params.sel = selector
        with _threads(threads):
            scores, rows = self._index.search(_wide(proxies), count, params=params)
        return rows, scores


def _empty(width: int, lists: int, *, small: bool) -> Any:
    coarse = faiss.IndexFlatIP(width)
    if not small:
        return faiss.IndexIVFFlat(coarse, width, lists, faiss.METRIC_INNER_PRODUCT)
    half = faiss.ScalarQuantizer.QT_fp16
    # The last argument: no residuals, whose scan would begin with a product for every list.
    return faiss.IndexIVFScalarQuantizer(coarse, width, lists, half, faiss.METRIC_INNER_PRODUCT, False)


def _wide(proxies: Array) -> Array:
    """Filled up to whole lanes, float32."""
    missing = -proxies.shape[1] % _LANES
    if not missing:
        return np.ascontiguousarray(proxies, np.float32)
    out = np.zeros((len(proxies), proxies.shape[1] + missing), np.float32)
    out[:, : proxies.shape[1]] = proxies
    return out


def _sample(count: int, wanted: int, proxies: Proxies) -> tuple[Array, float]:
    """About `wanted` proxies, spread evenly over all, and the largest number of all of them."""
    every = max(1, count // max(1, wanted))
    parts, seen, largest = [], 0, 0.0
    for _, block in proxies():
        parts.append(block[-seen % every :: every].copy())
        seen += len(block)
        largest = max(largest, float(np.abs(block).max(initial=0.0)))
    return _wide(np.concatenate(parts)), largest


def _joined(proxies: Proxies) -> Iterator[tuple[Array, Array]]:
    """Rows and proxies in larger blocks, of which each costs the same few steps."""
    held: list[tuple[Array, Array]] = []
    for part in proxies():
        held.append(part)
        if sum(len(rows) for rows, _ in held) >= _TOGETHER:
            yield np.concatenate([rows for rows, _ in held]), np.concatenate([block for _, block in held])
            held = []
    if held:
        yield np.concatenate([rows for rows, _ in held]), np.concatenate([block for _, block in held])


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Two pools of threads on the same cores cost a query many times its time, so a search takes one."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
