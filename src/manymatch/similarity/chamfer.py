"""Chamfer similarity of two sets: every element meets its nearest (DivE, section on set similarities)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ..embeddings import Sets
from .base import Role, Similarity
from .pairwise import add_planes
from .smooth_chamfer import element_cosines

__all__ = ["Chamfer"]


class Chamfer(Similarity):
    """`s(S1, S2) = 1 / (2 |S1|) sum_x max_y cos(x, y) + 1 / (2 |S2|) sum_y max_x cos(x, y)`, in [-1, 1].

    The limit of Smooth-Chamfer for alpha -> infinity; at most |S1| + |S2| pairs of elements learn.
    """

    kinds: ClassVar[tuple[str, ...]] = ("sets",)

    def forward(self, queries: Sets, gallery: Sets) -> Tensor:
        """(q, k, d), (g, l, d) -> (q, g)."""
        self.expect(queries, gallery)
        cosines = element_cosines(queries, gallery)
        k, other = cosines.shape[0], cosines.shape[2]
        return add_planes(cosines.amax(dim=2), 0) / (2 * k) + add_planes(cosines.amax(dim=0), 1) / (2 * other)

    def proxy(self, embedding: Sets, role: Role) -> Tensor:
        """Mean of the elements (n, d), inexact."""
        return embedding.elements.mean(dim=1)
