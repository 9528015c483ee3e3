"""Keep each element of a set away from its item's global vector (MaxMatch, ACL 2025)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..embeddings import Encoded
from ..errors import DataError
from .base import Regulariser
from .elements import sets_of
from .ramped import Ramped

__all__ = ["GlobalDiscriminative"]


class GlobalDiscriminative(Ramped, Regulariser):
    """`mean over items and elements of exp(scale (cos(S_k, g) - margin))`, the mean of images and texts.

    g is the tensor `global (n, d)` of the set head: what it adds to every slot. There is no hinge, so the pull never
    ends: for a slot as long as g and at right angles to it the cosine is 0.71, where the published margin puts 1.

    Args:
        scale, margin: 0.5 and 0.7 in the one public re-implementation; the authors gave no code.
        exempt: first elements that may lie where g does (nested sets: the first is to mean the whole item).
        ramp: share of the run over which it comes in.

    Raises:
        DataError: a scale that is not positive, or a ramp outside of [0, 1]; in a step, an embedding without elements,
            or a head that gives no global vector.
    """

    def __init__(self, scale: float = 0.5, margin: float = 0.7, *, exempt: int = 0, ramp: float = 0.0) -> None:
        super().__init__(ramp)
        if not scale > 0:
            raise DataError(f"global_discriminative: scale {scale}, expected a positive number")
        self.scale, self.margin, self.exempt = scale, margin, exempt

    def forward(self, images: Encoded, texts: Encoded) -> Tensor:
        return self.share * (self._closeness(images) + self._closeness(texts)) / 2

    def _closeness(self, items: Encoded) -> Tensor:
        elements = sets_of(items.embedding, "global_discriminative")[:, self.exempt :]
        if not elements.shape[1]:
            return elements.new_zeros(())
        cosines = functional.cosine_similarity(elements, items.tensor("global")[:, None, :], dim=-1)
        return torch.exp(self.scale * (cosines - self.margin)).mean()
