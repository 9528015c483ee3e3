"""Maximum mean discrepancy between the image elements and the text elements (PVSE section 3.3, used by DivE)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..embeddings import Encoded
from .base import Regulariser
from .elements import elements_of

__all__ = ["MMD"]

_PIECE = 128
"""Rows at a time."""


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
        return self._kernel(x, None) - 2 * self._kernel(x, y) + self._kernel(y, None)

    def _kernel(self, x: Tensor, y: Tensor | None) -> Tensor:
        out: Tensor = _MeanKernel.apply(x, y, self.gamma)  # type: ignore[no-untyped-call]
        return out


class _MeanKernel(torch.autograd.Function):
    """Mean kernel of all pairs of rows of x (m, d) and y (n, d), or of x with itself where y is None.

    As it is one number, its gradient is a factor on what the way there finds: no table of all pairs is kept, and each
    is worked on while the processor still has it. Of x with itself half the pairs are enough.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor | None, gamma: float) -> Tensor:
        other, to_x = x if y is None else y, torch.zeros_like(x)
        to_y = to_x if y is None else torch.zeros_like(other)
        total, learns = x.new_zeros((), dtype=torch.float64), any(ctx.needs_input_grad)
        for start in range(0, len(x), _PIECE):
            rows = slice(start, start + _PIECE)
            parts = [(slice(None), 1.0)] if y is not None else [(rows, 1.0), (slice(start + _PIECE, None), 2.0)]
            for columns, times in parts:
                pair = x[rows], other[columns]
                squared = pair[0].square().sum(1)[:, None] + pair[1].square().sum(1) - 2 * pair[0] @ pair[1].T
                # The root's slope at zero is infinite, and rounding leaves up to 1e-6 where an element meets itself:
                # both must count as a distance of zero with a gradient of zero.
                apart = squared > 1e-6
                distance = squared.clamp_(min=1e-6).sqrt_()
                kernel = torch.exp(-gamma * distance * apart)
                total += times * kernel.sum()
                if learns:
                    _add_slopes(kernel.div_(distance).mul_(apart).mul_(-gamma * times), pair, to_x[rows], to_y[columns])
        count = len(x) * len(other)
        ctx.save_for_backward(to_x.div_(count), None if y is None else to_y.div_(count))
        return (total / count).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None]:
        to_x, to_y = ctx.saved_tensors
        return gradient * to_x, None if to_y is None else gradient * to_y, None


def _add_slopes(slopes: Tensor, pair: tuple[Tensor, Tensor], to_x: Tensor, to_y: Tensor) -> None:
    """Add what each row of a pair learns from slopes (m, n) over the distance."""
    x, y = pair
    to_x.addcmul_(slopes.sum(dim=1)[:, None], x).addmm_(slopes, y, alpha=-1.0)
    to_y.addcmul_(slopes.sum(dim=0)[:, None], y).addmm_(slopes.T, x, alpha=-1.0)
