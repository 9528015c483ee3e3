"""A query's Gaussian against the candidates' means (MSRM, CVPR 2023; the distance of HIST, CVPR 2022)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ..choices import check_choice
from ..embeddings import Gaussians
from .base import Role, Similarity

__all__ = ["Mahalanobis"]

Covariance = Literal["diagonal", "identity"]


class Mahalanobis(Similarity):
    """`s(q, g) = - sum over d of (mu_g - mu_q)^2 / var_q`, at most 0; the gallery's variances are not looked at.

    Computed as `[mu_g^2, mu_g] . [1 / var_q, -2 mu_q / var_q] + sum mu_q^2 / var_q`, one matrix product of width 2d.
    In float32 it is off by some 1e-7 of `sum (mu_g^2 + mu_q^2) / var_q`: only what nearly coincides is uncertain.

    Args:
        covariance: "diagonal", or "identity" for the ablation that is squared Euclidean distance of the means.

    Raises:
        UnknownName: another covariance.
    """

    kinds: ClassVar[tuple[str, ...]] = ("gaussians",)
    symmetric: ClassVar[bool] = False
    proxy_is_exact: ClassVar[bool] = True

    def __init__(self, covariance: Covariance = "diagonal") -> None:
        super().__init__()
        check_choice("covariance of mahalanobis", covariance, Covariance)
        self.covariance = covariance

    def settings(self) -> dict[str, Any]:
        return {"covariance": self.covariance}

    def _precision(self, queries: Gaussians) -> Tensor:
        if self.covariance == "identity":
            return torch.ones_like(queries.mean)
        return torch.exp(-queries.log_variance)

    def forward(self, queries: Gaussians, gallery: Gaussians) -> Tensor:
        """(q, d), (g, d) -> (q, g)."""
        self.expect(queries, gallery)
        own = (queries.mean.square() * self._precision(queries)).sum(dim=-1)
        return (self.proxy(queries, "query") @ self.proxy(gallery, "gallery").T - own[:, None]).clamp(max=0)

    def proxy(self, embedding: Gaussians, role: Role) -> Tensor:
        """(n, 2d): `[1 / var, -2 mu / var]` of a query against `-[mu^2, mu]`, exact."""
        if role == "gallery":
            return -torch.cat([embedding.mean.square(), embedding.mean], dim=-1)
        precision = self._precision(embedding)
        return torch.cat([precision, -2 * embedding.mean * precision], dim=-1)
