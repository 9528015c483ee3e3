"""Dropout whose masks cost little on a CPU: torch draws number by number, up to a fifth of a training step."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Dropout"]

_STEPS = 1 << 16
"""A mask compares 16 random bits with `p`, so `p` is exact to 1/65,536."""

_PIECE = 1 << 20
"""Entries whose bits are drawn at a time; four of them come from one word."""


class Dropout(nn.Dropout):
    """`nn.Dropout`: any entry is zero with probability p, the others are divided by 1 - p.

    On a CPU the random bits come from numpy's SFC64, seeded by torch's generator, so a step with torch's seed set
    replays. Elsewhere it is torch's own.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.p in (0.0, 1.0) or input.device.type != "cpu":
            return functional.dropout(input, self.p, self.training)
        # Without a gradient the mask itself may hold the product: one copy of a batch of features less.
        return input * _kept(input, self.p) if input.requires_grad else _kept(input, self.p).mul_(input)


def _kept(like: Tensor, p: float) -> Tensor:
    """What each entry is multiplied by, 0 or 1 / (1 - p)."""
    source = np.random.Generator(np.random.SFC64(int(torch.randint(1 << 62, ()))))
    kept = torch.empty(like.shape, dtype=like.dtype)
    # In pieces, so that the bits of a whole batch of features never stand in memory beside their mask.
    for piece in torch.split(kept.view(-1), _PIECE):
        words = source.integers(-(1 << 63), 1 << 63, size=-(-len(piece) // 4), dtype=np.int64)
        bits = torch.from_numpy(words.view(np.int16)[: len(piece)])
        piece.copy_(bits >= round(p * _STEPS) - _STEPS // 2)
    return kept.mul_(1.0 / (1.0 - p))
