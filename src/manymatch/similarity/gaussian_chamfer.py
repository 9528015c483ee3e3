"""Smooth-Chamfer similarity of two sets whose elements are Gaussians, as log-odds of a match."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from ..embeddings import GaussianSets
from .base import Probabilistic, Role
from .pairwise import add_planes
from .smooth_chamfer import SmoothChamfer, element_cosines

__all__ = ["GaussianChamfer"]


class GaussianChamfer(Probabilistic):
    """Log-odds `a (2 S - 2) + b` of two sets being a match.

        S = Smooth-Chamfer (DivE, CVPR 2023) of  c(x, y) = cos(x, y) - (v_x + v_y) / 2,   v = exp(log_variance)

    v is an element's total variance, so `2 c - 2` is minus the closed-form distance of PCME++ (ICLR 2024),
    `|x - y|^2 + v_x + v_y`: a set of one scores as `MatchProbability` (csd) does at the same scale and shift. Where all
    variances are equal the order is that of Smooth-Chamfer; an element less sure than others of its set counts less.

    Args:
        scale: a, at the start; it learns.
        shift: b, at the start; it learns. p = 1/2 where S = 1 - b / 2a.
        alpha: sharpness of Smooth-Chamfer.

    Raises:
        DataError: a scale or an alpha that is not positive, or a shift that is not finite.
    """

    kinds: ClassVar[tuple[str, ...]] = ("gaussian_sets",)

    def __init__(self, scale: float = 10.0, shift: float = 5.0, alpha: float = 16.0) -> None:
        super().__init__(scale, shift)
        self.closeness = SmoothChamfer(alpha)

    @property
    def alpha(self) -> float:
        """Sharpness of Smooth-Chamfer."""
        return self.closeness.alpha

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "alpha": self.alpha}

    def forward(self, queries: GaussianSets, gallery: GaussianSets) -> Tensor:
        """(q, k, d), (g, l, d) -> log-odds (q, g)."""
        self.expect(queries, gallery)
        cosines = element_cosines(queries, gallery)
        halves = [items.log_variance.T.exp() / 2 for items in (queries, gallery)]
        # Item by item the least variance is taken out: what is left in the exponent never makes a sum vanish.
        least = [half.amin(dim=0) for half in halves]
        costs = halves[0] - least[0], halves[1] - least[1]
        over_gallery, over_query = self.closeness.soft_maxima(cosines, fresh=True, costs=costs)
        k, other = len(halves[0]), len(halves[1])
        same = add_planes(over_gallery, 0) / (2 * k) + add_planes(over_query, 1) / (2 * other)
        # An item's own elements pay their variance as they are averaged, the other's as they are summed over.
        lost = [(add_planes(half, 0) / len(half) + floor) / 2 for half, floor in zip(halves, least, strict=True)]
        scale, shift = self.scalars(same.device)
        return scale * (2 * (same - lost[0][:, None] - lost[1]) - 2) + shift

    def proxy(self, embedding: GaussianSets, role: Role) -> Tensor:
        """`a [2 m, 1]` of a query against `[m, -v]` (n, d + 1), m the mean of the elements, v that of their variances.

        Inexact: orders exactly as alpha -> 0.
        """
        variance = add_planes(embedding.log_variance.exp(), 1) / embedding.log_variance.shape[1]
        return self.distance_proxy(embedding.elements.mean(dim=1), variance, role)
