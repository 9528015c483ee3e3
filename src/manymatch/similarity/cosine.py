"""Cosine of two points, or of the means of two Gaussians: the similarity of every model with one vector an item."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from ..embeddings import Gaussians, Points
from .base import Role, Similarity

__all__ = ["Cosine"]


class Cosine(Similarity):
    """`s(x, y) = x . y / (|x| |y|)`, in [-1, 1]. A zero vector scores 0 with everything."""

    kinds: ClassVar[tuple[str, ...]] = ("points", "gaussians")
    proxy_is_exact: ClassVar[bool] = True

    def forward(self, queries: Points | Gaussians, gallery: Points | Gaussians) -> Tensor:
        """(q, d), (g, d) -> (q, g)."""
        self.expect(queries, gallery)
        return _unit(queries) @ _unit(gallery).T

    def proxy(self, embedding: Points | Gaussians, role: Role) -> Tensor:
        """The unit vector (n, d), exact for both roles."""
        return _unit(embedding)


def _unit(embedding: Points | Gaussians) -> Tensor:
    vectors = embedding.mean if isinstance(embedding, Gaussians) else embedding.vectors
    return functional.normalize(vectors, dim=-1)
