"""Smooth-Chamfer similarity of two sets (Kim, Kim and Kwak, CVPR 2023, DivE)."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ..embeddings import Sets
from ..errors import DataError, UnknownName
from .base import Role, Similarity
from .pairwise import add_planes, element_products

__all__ = ["SmoothChamfer", "element_cosines"]

_UNSHIFTED_ALPHA = 30.0
"""Up to here exp(alpha (c - 1)) >= exp(-60) stays a normal float32, so no row maximum has to be found first."""

_COINCIDENT = 1e-12
"""Squared distances below this count as this: the root has no gradient at zero."""

_DISTANCES = ("cosine", "euclidean")

_LARGE = 256
"""Of so many items a side, a product of single elements is as quick for its size as one of all elements at once."""


def element_cosines(queries: Sets, gallery: Sets) -> Tensor:
    """Cosine of every element with every element: (k, q, l, g). Elements are unit length by contract."""
    left, right = queries.elements, gallery.elements
    if torch.is_grad_enabled() or min(len(left), len(right)) < _LARGE:
        return element_products(left, right)
    # Element by element nothing has to be laid out anew, which costs a tenth of the time of a large product.
    planes = left.new_empty(left.shape[1], len(left), right.shape[1], len(right))
    for x in range(left.shape[1]):
        for y in range(right.shape[1]):
            torch.mm(left[:, x], right[:, y].T, out=planes[x, :, y])
    return planes


class SmoothChamfer(Similarity):
    """Chamfer similarity whose maximum is a log-sum-exp, so that every pair of elements learns.

        SC(S1, S2) = 1 / (2 a |S1|) sum_x log sum_y exp(a c(x, y)) + 1 / (2 a |S2|) sum_y log sum_x exp(a c(x, y))

    Args:
        alpha: sharpness, multiplies the cosine before the soft maximum; 16 in the paper. alpha -> infinity is
            Chamfer, alpha -> 0 orders by the mean of all pairwise cosines.
        distance: what `c` is: "cosine" of the two elements (the paper's), or "euclidean", minus their distance.

    Raises:
        DataError: alpha is not positive.
        UnknownName: another distance.
    """

    kinds: ClassVar[tuple[str, ...]] = ("sets",)

    def __init__(self, alpha: float = 16.0, distance: Literal["cosine", "euclidean"] = "cosine") -> None:
        super().__init__()
        if not alpha > 0 or not math.isfinite(alpha):
            raise DataError(f"smooth_chamfer: alpha {alpha}, expected a positive number (16 in the paper)")
        if distance not in _DISTANCES:
            raise UnknownName("distance of smooth_chamfer", distance, _DISTANCES)
        self.alpha, self.distance = float(alpha), distance

    def settings(self) -> dict[str, Any]:
        return {"alpha": self.alpha, "distance": self.distance}

    def forward(self, queries: Sets, gallery: Sets) -> Tensor:
        """(q, k, d), (g, l, d) -> (q, g)."""
        self.expect(queries, gallery)
        cosines = element_cosines(queries, gallery)
        if self.distance == "cosine":
            return self._mean(cosines)
        # One minus the distance lies in [-1, 1] like a cosine; what is added to every entry comes out at the end.
        return self._mean(1.0 - (2.0 - 2.0 * cosines).clamp(min=_COINCIDENT).sqrt()) - 1.0

    def _mean(self, closeness: Tensor) -> Tensor:
        over_gallery, over_query = self.soft_maxima(closeness, fresh=True)
        k, other = over_gallery.shape[0], over_query.shape[1]
        return add_planes(over_gallery, 0) / (2 * k) + add_planes(over_query, 1) / (2 * other)

    def soft_maxima(
        self, cosines: Tensor, *, fresh: bool = False, costs: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """(k, q, l, g) -> log-sum-exp over gallery elements (k, q, g) and query elements (q, l, g), over alpha.

        Args:
            cosines: of every element with every element.
            fresh: nobody else holds them: outside of training they are then worked on in place, so that the largest
                tensor of a search is made once and not three times.
            costs: (k, q) of the query's and (l, g) of the gallery's elements, at least 0 and one of each item 0: what
                is subtracted from an element's cosines where it is the one that is summed over.
        """
        if self.alpha > _UNSHIFTED_ALPHA:
            scaled = self.alpha * cosines
            over_gallery, over_query = (scaled, scaled) if costs is None else _less(scaled, self.alpha, costs)
            return _log_sum_exp(over_gallery, 2) / self.alpha, _log_sum_exp(over_query, 0) / self.alpha
        in_place = fresh and not torch.is_grad_enabled()
        weights = cosines.sub_(1.0).mul_(self.alpha).exp_() if in_place else torch.exp(self.alpha * (cosines - 1.0))
        if costs is None:
            sums = add_planes(weights, 2), add_planes(weights, 0)
        else:
            # One exponential of the large table serves both sides.
            query, gallery = ((-self.alpha * cost).exp() for cost in costs)
            sums = _add_weighed(weights, 2, gallery), _add_weighed(weights, 0, query[:, :, None, None])
        return 1.0 + sums[0].log() / self.alpha, 1.0 + sums[1].log() / self.alpha

    def proxy(self, embedding: Sets, role: Role) -> Tensor:
        """Mean of the elements (n, d): orders exactly as alpha -> 0 for cosines, so candidates are inexact."""
        return embedding.elements.mean(dim=1)


def _less(scaled: Tensor, alpha: float, costs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Logarithms (k, q, l, g) less what gallery elements cost, and less what query elements do."""
    query, gallery = costs
    return scaled - alpha * gallery, scaled - alpha * query[:, :, None, None]


def _add_weighed(tensor: Tensor, dim: int, factors: Tensor) -> Tensor:
    """As `add_planes`, the n-th plane times `factors[n]`; the products never stand in memory together."""
    total = None
    for plane, factor in zip(tensor.unbind(dim), factors, strict=True):
        if total is None:
            total = plane * factor
        else:
            total = torch.addcmul(total, plane, factor) if torch.is_grad_enabled() else total.addcmul_(plane, factor)
    assert total is not None
    return total


def _log_sum_exp(tensor: Tensor, dim: int) -> Tensor:
    peak = tensor.detach().amax(dim=dim, keepdim=True)
    return add_planes((tensor - peak).exp(), dim).log() + peak.squeeze(dim)
