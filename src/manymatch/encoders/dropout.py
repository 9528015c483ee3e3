"""Dropout whose masks cost little on a CPU: torch draws number by number, up to a fifth of a training step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

__all__ = ["Dropout"]

_STEPS = 1 << 16
"""A mask compares 16 random bits with `p`, so `p` is exact to 1/65,536."""

_PIECE = 1 << 18
"""Entries at a time, so that a mask of numbers never stands in memory whole; four entries' bits come from one word."""


class Dropout(nn.Dropout):
    """`nn.Dropout`: any entry is zero with probability p, the others are divided by 1 - p.

    On a CPU the random bits come from numpy's SFC64, seeded by torch's generator, so a step with torch's seed set
    replays. Elsewhere it is torch's own.
    """

    def forward(self, input: Tensor) -> Tensor:
        if self._is_torchs(input):
            return functional.dropout(input, self.p, self.training)
        out: Tensor = _Dropped.apply(input, self.p)  # type: ignore[no-untyped-call]
        return out

    def drop(self, values: Tensor) -> Tensor:
        """As `forward`, of values without gradient that nobody else holds: on a CPU they are written over."""
        if self._is_torchs(values):
            return functional.dropout(values, self.p, self.training)
        for piece, kept in _pieces(values.view(-1), self.p):
            piece.mul_(_factors(kept, self.p, values.dtype))
        return values

    def _is_torchs(self, values: Tensor) -> bool:
        return not self.training or self.p in (0.0, 1.0) or not values.is_cpu


class _Dropped(torch.autograd.Function):
    """The product with a mask; for the way back a byte an entry is kept, not a number."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, p: float) -> Tensor:
        mask = torch.empty(input.shape, dtype=torch.bool)
        for place, kept in _pieces(mask.view(-1), p):
            place.copy_(kept)
        ctx.p = p
        ctx.save_for_backward(mask)
        return _product(input, mask, p)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return _product(gradient, mask, ctx.p), None


def _product(values: Tensor, mask: Tensor, p: float) -> Tensor:
    """The values, 0 where the mask is, else divided by 1 - p."""
    if not values.is_contiguous():
        return values * _factors(mask, p, values.dtype)
    out = torch.empty_like(values)
    flat = (torch.split(tensor.view(-1), _PIECE) for tensor in (values, mask, out))
    for piece, kept, place in zip(*flat, strict=True):
        torch.mul(piece, _factors(kept, p, values.dtype), out=place)
    return out


def _pieces(flat: Tensor, p: float) -> Iterator[tuple[Tensor, Tensor]]:
    """Views of a flat tensor one after the other, and which of their entries are kept (bool)."""
    source = np.random.Generator(np.random.SFC64(int(torch.randint(1 << 62, ()))))
    for piece in torch.split(flat, _PIECE):
        words = source.integers(-(1 << 63), 1 << 63, size=-(-len(piece) // 4), dtype=np.int64)
        bits = torch.from_numpy(words.view(np.int16)[: len(piece)])
        yield piece, bits >= round(p * _STEPS) - _STEPS // 2


def _factors(kept: Tensor, p: float, dtype: torch.dtype) -> Tensor:
    """What each entry is multiplied by, 0 or 1 / (1 - p)."""
    return kept.to(dtype).mul_(1.0 / (1.0 - p))
