"""Keep the elements of a set apart (DivE: "uniformity" of the slot outputs before the global vector is added)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..embeddings import Encoded
from .base import Regulariser

__all__ = ["Diversity"]


class Diversity(Regulariser):
    """Mean over the k (k - 1) / 2 pairs of `exp(-t |e_p - e_q|^2)` of unit-length residuals, image plus text.

    Reads `residual (n, k, d)` of the set head. Zero for sets of one.

    Args:
        t: in units of one over squared distance; 2 in the authors' code.
    """

    def __init__(self, t: float = 2.0) -> None:
        super().__init__()
        self.t = t

    def forward(self, images: Encoded, texts: Encoded) -> Tensor:
        return self._spread(images.tensor("residual")) + self._spread(texts.tensor("residual"))

    def _spread(self, residual: Tensor) -> Tensor:
        k = residual.shape[1]
        if k == 1:
            return residual.new_zeros(())
        unit = functional.normalize(residual, dim=-1)
        p, q = torch.triu_indices(k, k, offset=1, device=residual.device)
        squared = (unit[:, p] - unit[:, q]).square().sum(-1)
        return torch.exp(-self.t * squared).mean()
