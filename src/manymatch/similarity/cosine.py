"""Cosine of two points: the similarity of VSE++, VSE-infinity and every two-tower model with one vector an item."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from ..embeddings import Points
from .base import Role, Similarity

__all__ = ["Cosine"]


class Cosine(Similarity):
    """`s(x, y) = x . y / (|x| |y|)`, in [-1, 1]. A zero vector scores 0 with everything."""

    kinds: ClassVar[tuple[str, ...]] = ("points",)
    proxy_is_exact: ClassVar[bool] = True

    def forward(self, queries: Points, gallery: Points) -> Tensor:
        """(q, d), (g, d) -> (q, g)."""
        self.expect(queries, gallery)
        return functional.normalize(queries.vectors, dim=-1) @ functional.normalize(gallery.vectors, dim=-1).T

    def proxy(self, embedding: Points, role: Role) -> Tensor:
        """The unit vector (n, d), exact for both roles."""
        return functional.normalize(embedding.vectors, dim=-1)
