"""Order embeddings: an image lies above what its caption says of it (Vendrov et al., ICLR 2016; VSE++'s option)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from ..embeddings import Points
from .base import Role, Similarity
from .pairwise import in_blocks

__all__ = ["Order"]


class Order(Similarity):
    """`s(v, u) = -|max(0, u - v)|` of an image v and a caption u, both non-negative: what u says beyond v.

    Points carry no side, so the sign does: an image lies at `v`, a caption at `-u` (its head takes the absolute value
    and negates it). With x = v and y = -u the formula is `-|max(0, -(x + y))|`, the same whichever of them asks, and so
    symmetric. Two items of one side have no order to break; they score minus their Euclidean distance, which is zero
    just when each holds all that the other does.
    """

    kinds: ClassVar[tuple[str, ...]] = ("points",)

    def forward(self, queries: Points, gallery: Points) -> Tensor:
        """(q, d), (g, d) -> (q, g), at most 0."""
        self.expect(queries, gallery)
        left, right = queries.vectors, gallery.vectors
        same = _is_image(left)[:, None] == _is_image(right)
        if not bool(same.any()):
            return -self._excess(left, right)
        within = torch.cdist(left, right, compute_mode="donot_use_mm_for_euclid_dist")
        return -within if bool(same.all()) else -torch.where(same, within, self._excess(left, right))

    @staticmethod
    def _excess(left: Tensor, right: Tensor) -> Tensor:
        def score(rows: slice, columns: slice) -> Tensor:
            return torch.linalg.vector_norm(torch.relu(-(left[rows, None] + right[columns])), dim=-1)

        return in_blocks(score, (len(left), len(right)), left.shape[-1])

    def proxy(self, embedding: Points, role: Role) -> Tensor:
        """The vector before the caption's sign (n, d), inexact."""
        return embedding.vectors.abs()


def _is_image(vectors: Tensor) -> Tensor:
    """(n, d) -> (n,) bool: the side an item lies on."""
    return vectors.sum(dim=-1) >= 0
