"""Dropout whose masks cost little on a CPU: torch draws number by number, up to a fifth of a training step."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Dropout"]

_STEPS = 1 << 16
"""A mask compares 16 random bits with `p`, so `p` is exact to 1/65,536."""


class Dropout(nn.Dropout):
    """`nn.Dropout`: any entry is zero with probability p, the others are divided by 1 - p.

    On a CPU the random bits come from numpy's SFC64, seeded by torch's generator, so a step with torch's seed set
    replays. Elsewhere it is torch's own.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.p in (0.0, 1.0) or input.device.type != "cpu":
            return functional.dropout(input, self.p, self.training)
        return input * _kept(input, self.p)


def _kept(like: Tensor, p: float) -> Tensor:
    """What each entry is multiplied by, 0 or 1 / (1 - p)."""
    count = like.numel()
    source = np.random.Generator(np.random.SFC64(int(torch.randint(1 << 62, ()))))
    words = source.integers(-(1 << 63), 1 << 63, size=-(-count // 4), dtype=np.int64)
    bits = torch.from_numpy(words.view(np.int16)[:count]).view(like.shape)
    return (bits >= round(p * _STEPS) - _STEPS // 2).to(like.dtype).mul_(1.0 / (1.0 - p))
