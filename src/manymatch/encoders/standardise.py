"""Bring precomputed features to one scale, with statistics of the training split only."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import DataError

__all__ = ["Standardise", "feature_statistics"]

_PIECE = 2**18
"""Numbers brought to scale at a time: 1 MB, which stays in a core's cache from one operation to the next."""


class Standardise(nn.Module):
    """`clip((g(x) - mean) / spread)`, per channel; statistics are buffers, so they travel with the weights.

    Values that are never negative (what leaves a ReLU) are square-rooted first, which evens their long tail; `g` is
    the identity otherwise.

    Args:
        width: channels c.
        power: spread = std ** power * mean_std ** (1 - power): 1 scales every channel to unit variance, 0.5 keeps
            half of the differences in scale (for components of a principal-component analysis, whose later ones
            are mostly noise).
        clip: largest absolute value that leaves.
    """

    def __init__(self, width: int, *, power: float = 1.0, clip: float = 6.0) -> None:
        super().__init__()
        self.power, self.clip = power, clip
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))
        self.register_buffer("root", torch.zeros((), dtype=torch.bool))

    mean: Tensor
    spread: Tensor
    root: Tensor

    def fit(self, blocks: Callable[[], Iterable[np.ndarray[Any, Any]]]) -> None:
        """Two streaming passes over (n, ..., c) blocks. Raises DataError when there is no row."""
        smallest = min((float(block.min()) for block in blocks() if block.size), default=None)
        if smallest is None:
            raise DataError("standardise: no training row with features, expected at least one")
        self.root.fill_(smallest >= 0.0)
        count = 0
        total, square = torch.zeros(2, len(self.mean), dtype=torch.float64)
        for block in blocks():
            flat = self._rooted(torch.as_tensor(block)).reshape(-1, len(self.mean)).double()
            count += len(flat)
            total, square = total + flat.sum(0), square + flat.square().sum(0)
        mean = total / count
        std = (square / count - mean.square()).clamp(min=0).sqrt()
        # A channel that hardly varies must not be blown up to unit variance: it says next to nothing.
        std = std + 1e-3 * std.mean() + 1e-12
        self.mean.copy_(mean)
        self.spread.copy_(std**self.power * std.mean() ** (1 - self.power))

    def _rooted(self, values: Tensor) -> Tensor:
        return values.clamp(min=0).sqrt() if bool(self.root) else values

    def forward(self, values: Tensor) -> Tensor:
        """(..., c) -> (..., c)."""
        if values.requires_grad or values.dtype != self.mean.dtype:
            return ((self._rooted(values) - self.mean) / self.spread).clamp(-self.clip, self.clip)
        return self.into(values, torch.empty_like(values))

    def into(self, values: Tensor, out: Tensor) -> Tensor:
        """As `forward` of values without gradient, written to `out`, which may be `values` itself."""
        # Features need no gradient, and three copies of a batch of them would be most of a step's memory.
        rows = max(1, _PIECE * len(values) // max(1, values.numel())) if values.is_cpu else max(1, len(values))
        root = bool(self.root)
        for piece, place in zip(torch.split(values, rows), torch.split(out, rows), strict=True):
            rooted = torch.clamp(piece, min=0, out=place).sqrt_() if root else piece
            torch.sub(rooted, self.mean, out=place).div_(self.spread).clamp_(-self.clip, self.clip)
        return out


def feature_statistics(tower: nn.Module) -> dict[str, Tensor]:
    """Means and spreads of the training features that an image tower keeps, by name: another feature file gives others.

    None of a tower that takes features as they are.
    """
    named = ((name.removeprefix("inner."), buffer) for name, buffer in tower.named_buffers())
    return {name: buffer for name, buffer in named if name.startswith(("fragment_scale.", "pooled_scale."))}
