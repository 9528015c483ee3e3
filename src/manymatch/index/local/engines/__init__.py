"""Where candidates come from on this machine: one file per engine, behind one small protocol.

`exact` is no engine: without candidates every item is scored by the run's own similarity. `qdrant` is more than one:
it keeps the items too (`index/qdrant`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from ....errors import UnknownName
from ..derived import Writer

__all__ = ["AUTO", "Engine", "Proxies", "check_engine", "engine_class", "engines"]

AUTO = "auto"
"""The stored choice of a user who chose none: `exact` for a small modality, `faiss` for a large one."""

Array = np.ndarray[Any, Any]

Proxies = Callable[[], Iterator[tuple[Array, Array]]]
"""Called as often as needed, it gives row numbers (b,) and proxies (b, p) float32, block by block."""


class Engine(Protocol):
    """Orders rows by inner product of proxies, looking at a part of them as large as its effort."""

    @classmethod
    def build(cls, count: int, proxies: Proxies) -> Self:
        """Of `count` rows, at least one, each with a number of its own."""
        ...

    @classmethod
    def read(cls, path: Path, offset: int) -> Self | None:
        """From a file that `write` wrote at this offset, memory-mapped; None when what lies there is damaged."""
        ...

    def write(self, file: Writer) -> None:
        """Append to an open file."""
        ...

    def efforts(self) -> list[int]:
        """What `effort` may be, cheapest first; the last looks at every row."""
        ...

    def looked_at(self, effort: int) -> int:
        """About how many proxies a query of this effort is compared with."""
        ...

    def search(self, proxies: Array, count: int, effort: int, *, among: Array | None = None, threads: int = 1) -> Array:
        """Rows (q, count) with the highest inner products, best first, -1 where there are fewer.

        Args:
            proxies: queries (q, p) float32.
            among: only these rows (ascending); None means all.
        """
        ...

    def search_scored(
        self, proxies: Array, count: int, effort: int, *, among: Array | None = None, threads: int = 1
    ) -> tuple[Array, Array]:
        """As `search`, with the inner products (q, count), lowest where there is no row."""
        ...


def engines() -> list[str]:
    """Names of all engines."""
    return ["exact", "faiss", "qdrant"]


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
