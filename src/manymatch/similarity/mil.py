"""Multiple-instance similarity of two sets: the one closest pair decides (PVSE, Song and Soleymani, CVPR 2019)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ..embeddings import Sets
from .base import Role, Similarity
from .smooth_chamfer import element_cosines

__all__ = ["Mil"]


class Mil(Similarity):
    """`s(S1, S2) = max over x, y of cos(x, y)`, in [-1, 1]. Only the closest pair of elements learns."""

    kinds: ClassVar[tuple[str, ...]] = ("sets",)

    def forward(self, queries: Sets, gallery: Sets) -> Tensor:
        """(q, k, d), (g, l, d) -> (q, g)."""
        self.expect(queries, gallery)
        return element_cosines(queries, gallery).amax(dim=2).amax(dim=0)

    def proxy(self, embedding: Sets, role: Role) -> Tensor:
        """Mean of the elements (n, d), inexact."""
        return embedding.elements.mean(dim=1)
