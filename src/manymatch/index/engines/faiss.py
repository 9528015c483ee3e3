"""Inverted lists over proxies (faiss `IndexIVFFlat`, inner product): a query looks at the lists nearest to it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Self

import faiss as _faiss
import numpy as np

__all__ = ["Faiss"]

Array = np.ndarray[Any, Any]

faiss: Any = _faiss
"""Its stubs lack the readers, writers and search parameters used here."""

_MOST_LISTS = 4096
_POINTS_PER_LIST = 32
"""Training points for each list: enough for the lists to be even, a fraction of the time of all points."""


class Faiss:
    """Engine over `faiss.IndexIVFFlat`."""

    def __init__(self, index: Any) -> None:
        self._index = index
        self._lists: int = index.nlist

    @classmethod
    def build(cls, proxies: Array) -> Self:
        n, width = proxies.shape
        lists = max(1, min(round(4 * math.sqrt(n)), n // 8, _MOST_LISTS))
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, lists, faiss.METRIC_INNER_PRODUCT)
        index.cp.min_points_per_centroid = 1
        index.cp.max_points_per_centroid = _POINTS_PER_LIST
        index.cp.spherical = True
        with _threads(os.cpu_count() or 1):
            index.train(proxies)
            index.add(proxies)
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

    def write(self, file: BinaryIO) -> None:
        faiss.write_index(self._index, faiss.PyCallbackIOWriter(file.write))

    def efforts(self) -> list[int]:
        return [*(2**n for n in range(self._lists.bit_length()) if 2**n < self._lists), self._lists]

    def looked_at(self, effort: int) -> int:
        proxies: int = self._index.ntotal
        return math.ceil(proxies * effort / self._lists) + self._lists

    def search(self, proxies: Array, count: int, effort: int, *, threads: int = 1) -> Array:
        effort = min(effort, self._lists)
        with _threads(threads):
            params = faiss.SearchParametersIVF(nprobe=effort)
            found: Array = self._index.search(np.ascontiguousarray(proxies, np.float32), count, params=params)[1]
        return found


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Two pools of threads on the same cores cost a query many times its time, so a search takes one."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
