"""Where candidates come from: one file per engine, behind one small protocol.

`exact` is no engine: without candidates every item is scored by the run's own similarity.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO, Protocol, Self

import numpy as np

from ...errors import UnknownName

__all__ = ["AUTO", "Engine", "check_engine", "engine_class", "engines"]

AUTO = "auto"
"""The stored choice of a user who chose none: `exact` for a small modality, `faiss` for a large one."""

Array = np.ndarray[Any, Any]


class Engine(Protocol):
    """Orders items by inner product of proxies, looking at a part of them as large as its effort."""

    @classmethod
    def build(cls, proxies: Array) -> Self:
        """From one proxy an item (n, p) float32, n at least 1. Item numbers are positions in it."""
        ...

    @classmethod
    def read(cls, path: Path, offset: int) -> Self | None:
        """From a file that `write` wrote at this offset, memory-mapped; None when what lies there is damaged."""
        ...

    def write(self, file: BinaryIO) -> None:
        """Append to an open file."""
        ...

    def efforts(self) -> list[int]:
        """What `effort` may be, cheapest first; the last looks at every item."""
        ...

    def looked_at(self, effort: int) -> int:
        """About how many proxies a query of this effort is compared with."""
        ...

    def search(self, proxies: Array, count: int, effort: int, *, threads: int = 1) -> Array:
        """Positions (q, count) of the items with the highest inner products, best first, -1 where there are fewer."""
        ...


def engines() -> list[str]:
    """Names of all engines."""
    return ["exact", "faiss"]


def check_engine(name: str) -> str:
    """The name itself. Raises UnknownName."""
    if name not in (AUTO, *engines()):
        raise UnknownName("engine", name, engines())
    return name


def engine_class(name: str) -> type[Engine]:
    """The class of an engine that gives candidates. Raises UnknownName."""
    from .faiss import Faiss

    found: dict[str, type[Engine]] = {"faiss": Faiss}
    if name not in found:
        raise UnknownName("engine with candidates", name, found)
    return found[name]
