"""Match probability of two distributions known by draws (PCME, Chun et al., CVPR 2021)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ..embeddings import Samples
from .base import Probabilistic, Role
from .pairwise import element_products, in_blocks, mean_log_odds

__all__ = ["SampledMatchProbability"]

_SOFTENING = 1e-6
"""Added under the root, so that coinciding draws have a gradient."""


class SampledMatchProbability(Probabilistic):
    """Log-odds of `p(x, y) = mean over all pairs of draws of sigmoid(2 (b - a sqrt(|z - z'|^2 + 1e-6)))`.

    The 2 is the paper's: it writes `e^s / (e^s + e^-s)`.

    Args:
        scale: a, at the start; it learns.
        shift: b, at the start; it learns. p = 1/2 where all draws lie b / a apart.
    """

    kinds: ClassVar[tuple[str, ...]] = ("samples",)

    def __init__(self, scale: float = 15.0, shift: float = 15.0) -> None:
        super().__init__(scale, shift)

    def forward(self, queries: Samples, gallery: Samples) -> Tensor:
        """(q, j, d), (g, l, d) -> log-odds (q, g)."""
        self.expect(queries, gallery)
        left, right = queries.vectors, gallery.vectors
        scale, shift = self.scalars(left.device)
        sizes = left.square().sum(dim=-1).T, right.square().sum(dim=-1).T

        def score(rows: slice, columns: slice) -> Tensor:
            lengths = sizes[0][:, rows, None, None] + sizes[1][:, columns]
            squared = lengths.sub(element_products(left[rows], right[columns]), alpha=2).clamp(min=0)
            return mean_log_odds(2 * (shift - scale * (squared + _SOFTENING).sqrt()), dim=(0, 2))

        return in_blocks(score, (len(queries), len(gallery)), left.shape[1] * right.shape[1])

    def proxy(self, embedding: Samples, role: Role) -> Tensor:
        """Orders by the mean squared distance of draws, inexact."""
        vectors = embedding.vectors
        return self.distance_proxy(vectors.mean(dim=1), vectors.square().sum(dim=-1).mean(dim=-1), role)
