"""Keep the elements of one set away from each other (MaxMatch, ACL 2025)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..embeddings import Encoded
from ..errors import DataError
from .base import Regulariser
from .elements import sets_of
from .ramped import Ramped

__all__ = ["IntraSetDivergence"]


class IntraSetDivergence(Ramped, Regulariser):
    """`mean over items and pairs j < k of exp(scale (cos(S_j, S_k) - margin))`, the mean of images and texts.

    Unlike `Diversity` it reads the elements that are searched, not what a head adds to the global vector: elements of
    one point cost the more the nearer they are. There is no hinge. Zero for sets of one.

    Args:
        scale, margin: 0.5 and 0.7 in the one public re-implementation; the authors gave no code.
        ramp: share of the run over which it comes in.

    Raises:
        DataError: a scale that is not positive, or a ramp outside of [0, 1]; in a step, an embedding without elements.
    """

    def __init__(self, scale: float = 0.5, margin: float = 0.7, *, ramp: float = 0.0) -> None:
        super().__init__(ramp)
        if not scale > 0:
            raise DataError(f"intra_set_divergence: scale {scale}, expected a positive number")
        self.scale, self.margin = scale, margin

    def forward(self, images: Encoded, texts: Encoded) -> Tensor:
        return self.share * (self._closeness(images) + self._closeness(texts)) / 2

    def _closeness(self, items: Encoded) -> Tensor:
        elements = sets_of(items.embedding, "intra_set_divergence")
        k = elements.shape[1]
        if k == 1:
            return elements.new_zeros(())
        unit = functional.normalize(elements, dim=-1)
        p, q = torch.triu_indices(k, k, offset=1, device=elements.device)
        cosines = (unit[:, p] * unit[:, q]).sum(-1)
        return torch.exp(self.scale * (cosines - self.margin)).mean()
