"""Match probability of two Gaussians in closed form (PCME++, Chun, ICLR 2024)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ..choices import check_choice
from ..embeddings import Gaussians
from .base import Probabilistic, Role
from .pairwise import squared_distances

__all__ = ["MatchProbability"]

Measure = Literal["csd", "wasserstein"]


class MatchProbability(Probabilistic):
    """Log-odds `b - a d(x, y)` of two Gaussians being a match. While a > 0 it orders by -d.

        csd:          d = |mu_x - mu_y|^2 + sum (var_x + var_y)       mean squared distance of a draw of each
        wasserstein:  d = |mu_x - mu_y|^2 + |sigma_x - sigma_y|^2     squared 2-Wasserstein distance

    Args:
        scale: a, at the start; it learns.
        shift: b, at the start; it learns. p = 1/2 where d = b / a.
        measure: "csd" (the paper's) or "wasserstein".

    Raises:
        DataError: a scale that is not positive, or a shift that is not finite.
        UnknownName: another measure.
    """

    kinds: ClassVar[tuple[str, ...]] = ("gaussians",)
    proxy_is_exact: ClassVar[bool] = True

    def __init__(self, scale: float = 5.0, shift: float = 5.0, measure: Measure = "csd") -> None:
        super().__init__(scale, shift)
        check_choice("measure of match_probability", measure, Measure)
        self.measure = measure

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "measure": self.measure}

    def _place(self, items: Gaussians) -> tuple[Tensor, Tensor]:
        """A point (n, p) and what its item adds to every distance (n,): d = |point - point|^2 + both additions."""
        if self.measure == "csd":
            return items.mean, items.log_variance.exp().sum(dim=-1)
        deviation = (items.log_variance / 2).exp()
        return torch.cat([items.mean, deviation], dim=-1), items.mean.new_zeros(len(items))

    def distance(self, queries: Gaussians, gallery: Gaussians) -> Tensor:
        """d (q, g), at least 0, without scale and shift."""
        self.expect(queries, gallery)
        (left, first), (right, second) = self._place(queries), self._place(gallery)
        return squared_distances(left, right) + (first[:, None] + second)

    def forward(self, queries: Gaussians, gallery: Gaussians) -> Tensor:
        """(q, d), (g, d) -> log-odds (q, g)."""
        distance = self.distance(queries, gallery)
        scale, shift = self.scalars(distance.device)
        return shift - scale * distance

    def proxy(self, embedding: Gaussians, role: Role) -> Tensor:
        """`a [2 u, 1]` of a query against `[u, -|u|^2 - addition]`: -a d up to a number of the query's own, exact."""
        point, addition = self._place(embedding)
        return self.distance_proxy(point, point.square().sum(dim=-1) + addition, role)
