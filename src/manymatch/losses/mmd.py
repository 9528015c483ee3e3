"""Maximum mean discrepancy between the image elements and the text elements (PVSE section 3.3, used by DivE)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..embeddings import Encoded
from .base import Regulariser
from .elements import elements_of

__all__ = ["MMD"]


class MMD(Regulariser):
    """`mean k(X, X) - 2 mean k(X, Y) + mean k(Y, Y)` with `k(x, y) = exp(-gamma |x - y|)`.

    The distance is not squared, as in the authors' code of PVSE and DivE; the kernel is valid either way.

    Args:
        gamma: in units of one over distance.
    """

    def __init__(self, gamma: float = 0.5) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, images: Encoded, texts: Encoded) -> Tensor:
        x, y = elements_of(images.embedding, "mmd"), elements_of(texts.embedding, "mmd")
        return self._kernel(x, x) - 2 * self._kernel(x, y) + self._kernel(y, y)

    def _kernel(self, x: Tensor, y: Tensor) -> Tensor:
        squared = x.square().sum(1)[:, None] + y.square().sum(1)[None, :] - 2 * x @ y.T
        # The root's slope at zero is infinite, and rounding leaves up to 1e-6 where an element meets itself:
        # both must count as a distance of zero with a gradient of zero.
        apart = squared > 1e-6
        distance = torch.where(apart, squared, 1.0).sqrt() * apart
        return torch.exp(-self.gamma * distance).mean()
