"""Smooth-Chamfer similarity of two sets (Kim, Kim and Kwak, CVPR 2023, DivE)."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..embeddings import Sets
from ..errors import DataError
from .base import Role, Similarity

__all__ = ["SmoothChamfer", "element_cosines"]

_UNSHIFTED_ALPHA = 30.0
"""Up to here exp(alpha (c - 1)) >= exp(-60) stays a normal float32, so no row maximum has to be found first."""


def element_cosines(queries: Sets, gallery: Sets) -> Tensor:
    """Cosine of every element with every element: (k, q, l, g). Elements are unit length by contract.

    Element axes come before item axes, so that reducing over elements adds whole planes: with the elements innermost
    the sums over four neighbours cost about as much again as the matrix product.
    """
    (q, k, d), (g, other, _) = queries.elements.shape, gallery.elements.shape
    left = queries.elements.transpose(0, 1).reshape(k * q, d)
    if k * q < d:
        # Few queries: their cosines are fewer numbers to move than the gallery's elements.
        flat = left @ gallery.elements.reshape(g * other, d).T
        return flat.view(k, q, g, other).transpose(2, 3).contiguous()
    right = gallery.elements.transpose(0, 1).reshape(other * g, d)
    return (left @ right.T).view(k, q, other, g)


class SmoothChamfer(Similarity):
    """Chamfer similarity whose maximum is a log-sum-exp, so that every pair of elements learns.

        SC(S1, S2) = 1 / (2 a |S1|) sum_x log sum_y exp(a c(x, y)) + 1 / (2 a |S2|) sum_y log sum_x exp(a c(x, y))

    Args:
        alpha: sharpness, multiplies the cosine before the soft maximum; 16 in the paper. alpha -> infinity is
            Chamfer, alpha -> 0 orders by the mean of all pairwise cosines.

    Raises:
        DataError: alpha is not positive.
    """

    kinds: ClassVar[tuple[str, ...]] = ("sets",)

    def __init__(self, alpha: float = 16.0) -> None:
        super().__init__()
        if not alpha > 0 or not math.isfinite(alpha):
            raise DataError(f"smooth_chamfer: alpha {alpha}, expected a positive number (16 in the paper)")
        self.alpha = float(alpha)

    def settings(self) -> dict[str, Any]:
        return {"alpha": self.alpha}

    def forward(self, queries: Sets, gallery: Sets) -> Tensor:
        """(q, k, d), (g, l, d) -> (q, g)."""
        self.expect(queries, gallery)
        over_gallery, over_query = self.soft_maxima(element_cosines(queries, gallery), fresh=True)
        return (over_gallery.mean(dim=0) + over_query.mean(dim=1)) / 2

    def soft_maxima(self, cosines: Tensor, *, fresh: bool = False) -> tuple[Tensor, Tensor]:
        """(k, q, l, g) -> log-sum-exp over gallery elements (k, q, g) and query elements (q, l, g), over alpha.

        `fresh` says that nobody else holds the cosines: outside of training they are then worked on in place, so that
        the largest tensor of a search is made once and not three times.
        """
        if self.alpha > _UNSHIFTED_ALPHA:
            scaled = self.alpha * cosines
            return scaled.logsumexp(dim=2) / self.alpha, scaled.logsumexp(dim=0) / self.alpha
        in_place = fresh and not torch.is_grad_enabled()
        weights = cosines.sub_(1.0).mul_(self.alpha).exp_() if in_place else torch.exp(self.alpha * (cosines - 1.0))
        return 1.0 + weights.sum(dim=2).log() / self.alpha, 1.0 + weights.sum(dim=0).log() / self.alpha

    def proxy(self, embedding: Sets, role: Role) -> Tensor:
        """Mean of the elements (n, d): orders exactly as alpha -> 0, so candidates are inexact."""
        return embedding.elements.mean(dim=1)
