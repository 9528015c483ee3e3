"""Summed inner products of draws: the cheap score PCME validates with while training (Chun et al., CVPR 2021)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ..embeddings import Samples
from .base import Role, Similarity

__all__ = ["SampleProducts"]


class SampleProducts(Similarity):
    """`s(x, y) = sum over all pairs of draws of z . z'`, which is the product of the summed draws."""

    kinds: ClassVar[tuple[str, ...]] = ("samples",)
    proxy_is_exact: ClassVar[bool] = True

    def forward(self, queries: Samples, gallery: Samples) -> Tensor:
        """(q, j, d), (g, l, d) -> (q, g)."""
        self.expect(queries, gallery)
        return queries.vectors.sum(dim=1) @ gallery.vectors.sum(dim=1).T

    def proxy(self, embedding: Samples, role: Role) -> Tensor:
        """Sum of the draws (n, d), exact for both roles."""
        return embedding.vectors.sum(dim=1)
