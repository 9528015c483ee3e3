"""What every similarity keeps: higher is closer, q and g need not be equal, direction may matter."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from ..embeddings import Embedding
from ..errors import DataError

__all__ = ["Role", "Similarity"]

Role = Literal["query", "gallery"]


class Similarity(nn.Module, ABC):
    """Scores every query against every gallery item.

    Class attributes:
        kinds: embedding kinds it takes, as in `embeddings.py`.
        symmetric: True when s(a, b) equals s(b, a) transposed, so one matrix serves both directions.
        proxy_is_exact: True when ordering by inner product of proxies is ordering by the similarity.
    """

    kinds: ClassVar[tuple[str, ...]]
    symmetric: ClassVar[bool] = True
    proxy_is_exact: ClassVar[bool] = False

    @abstractmethod
    def forward(self, queries: Any, gallery: Any) -> Tensor:
        """Scores (q, g) of two embeddings of one of `kinds`, higher is closer."""

    @abstractmethod
    def proxy(self, embedding: Any, role: Role) -> Tensor | None:
        """One vector an item (n, p) whose inner product orders candidates; None means exact scan only."""

    def settings(self) -> dict[str, Any]:
        """Constructor arguments as JSON; learned scalars are parameters, not settings."""
        return {}

    def expect(self, *embeddings: Embedding) -> None:
        """Raises DataError unless every embedding is of a kind this similarity takes."""
        for embedding in embeddings:
            if embedding.kind not in self.kinds:
                raise DataError(
                    f"{type(self).__name__} got {embedding.kind}, expected {' or '.join(self.kinds)}; "
                    "use a similarity of the embedding's kind"
                )
