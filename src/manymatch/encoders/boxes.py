"""A box an item: what it may mean lies inside (our reading of P2RM, which publishes no formula)."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional

from ..embeddings import Boxes, Encoded
from .base import Head, Locals
from .gaussians import Uncertainty
from .pie import PIENet

__all__ = ["BoxHead"]


class BoxHead(Head):
    """`Boxes`: centre (n, d), unit length, from PIE-Net's one element; offset (n, d) from PCME's uncertainty path.

    The offset is `softplus(uncertainty) / sqrt(d)`, in the scale of a unit vector's coordinates. Unscaled, an offset of
    about softplus(0) = 0.7 would hold every candidate whole, and nothing would be learned from lying outside; centres
    of any length instead would give distances that grow with d, which no margin or temperature of other methods fits.

    Args:
        inputs, dim, hidden, dropout, spread: as `PIENet` and `Uncertainty`.
    """

    def __init__(
        self, inputs: int, dim: int, *, hidden: int | None = None, dropout: float = 0.0, spread: bool = False
    ) -> None:
        super().__init__()
        self.center = PIENet(inputs, dim, hidden=hidden, dropout=dropout)
        self.offset = Uncertainty(inputs, dim, hidden=hidden, spread=spread)

    def forward(self, local: Locals) -> Encoded:
        center, _ = self.center(local.vectors, local.valid, local.pooled)
        center = functional.normalize(center.squeeze(1), dim=-1)
        return Encoded(Boxes(center, functional.softplus(self.offset(local)) / math.sqrt(center.shape[-1])))

    def attend(self, local: Locals) -> Tensor:
        """Of the centre (n, 1, f); the offset has an attention of its own."""
        return self.center.attend(local)
