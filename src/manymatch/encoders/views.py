"""Several views of one item while training: its fragments pooled more than once, some left out each time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ..draws import draw
from ..embeddings import Encoded, Points
from .base import Head, Locals, Pool
from .pooling import AttentionPool

__all__ = ["ViewsHead"]


class ViewsHead(Head):
    """`Points (n, d)`: pools the fragments itself, adds the tower's global vector, and brings it to unit length (ESA).

    While training it keeps `views (n, h, d)`, unit length, and its embedding is the first of them; else it is the pool
    of all fragments. Its tower leaves the pooling to it (`LeftToHead`).

    Args:
        pool: fragments (n, f, d) to one vector.
        views: h; 1 keeps no views and leaves nothing out.
        drop: share of the fragments that each view leaves out, drawn for every view anew (authors' code of ESA: 0.2);
            one of them always stays. None: the tower gives every item h times, one after the other, each with words of
            its own left out (`WordDrop.views`), as the authors do with texts.
    """

    blind = "its pool does not weigh whole fragments"

    def __init__(self, pool: Pool, *, views: int = 1, drop: float | None = 0.2) -> None:
        super().__init__()
        self.pool, self.views, self.drop = pool, views, drop

    def forward(self, local: Locals) -> Encoded:
        if not self.training or self.views == 1:
            (vectors,) = self._pooled(local, [local.valid])
            return Encoded(Points(functional.normalize(vectors, dim=-1)), tensors={"raw": vectors})
        if self.drop is None:
            views = self._pooled(local, [local.valid])[0].view(-1, self.views, local.pooled.shape[-1])
        else:
            views = torch.stack(self._pooled(local, [self._kept(local.valid) for _ in range(self.views)]), dim=1)
        unit = functional.normalize(views, dim=-1)
        return Encoded(Points(unit[:, 0]), tensors={"raw": views[:, 0], "views": unit})

    def _pooled(self, local: Locals, choices: Sequence[Tensor]) -> list[Tensor]:
        """(n, d) for each choice of the fragments."""
        if isinstance(self.pool, AttentionPool):
            pooled = self.pool.several(local.vectors, choices)
        else:
            pooled = [self.pool(local.vectors, valid) for valid in choices]
        return [one + local.pooled for one in pooled]

    def _kept(self, valid: Tensor) -> Tensor:
        """A draw "view drop" (n, f) uniform, one for each view."""
        fate = draw("view drop", lambda: torch.rand(valid.shape, device=valid.device)).to(valid.device)
        kept = valid & (fate >= (self.drop or 0.0))
        return torch.where(kept.any(dim=1, keepdim=True), kept, valid)

    def attend(self, local: Locals) -> Tensor | None:
        """The weights of all dimensions of an attention pool, averaged: (n, 1, f), rows sum to 1."""
        if not isinstance(self.pool, AttentionPool):
            return None
        return self.pool.weights(local.vectors, local.valid).mean(dim=-1)[:, None]
