"""Many vectors to one: padding leaves a maximum by minus infinity and a mean by its count."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..choices import Mode, check_mode
from ..errors import DataError
from .base import Pool

__all__ = [
    "AttentionPool",
    "LastPool",
    "LeftToHead",
    "MaxMeanPool",
    "MaxPool",
    "MeanPool",
    "TopMeanPool",
    "max_mean_pool",
    "max_pool",
    "mean_pool",
]


def max_pool(vectors: Tensor, valid: Tensor) -> Tensor:
    """(n, f, d), (n, f) -> (n, d): largest value of each dimension over the valid fragments."""
    if not (torch.is_grad_enabled() and vectors.requires_grad):
        return vectors.masked_fill(~valid[..., None], -math.inf).amax(dim=1)
    out: Tensor = _Largest.apply(vectors, valid)  # type: ignore[no-untyped-call]
    return out


class _Largest(torch.autograd.Function):
    """`max_pool` that keeps the vectors for the way back, which others keep too, and not a masked copy of them."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, valid: Tensor) -> Tensor:
        out = vectors.masked_fill(~valid[..., None], -math.inf).amax(dim=1)
        ctx.save_for_backward(vectors, valid, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        vectors, valid, out = ctx.saved_tensors
        # Entries that are equally large share the gradient, as in torch's own.
        largest = (vectors == out[:, None]).logical_and_(valid[..., None]).to(gradient.dtype)
        return largest.mul_((gradient / largest.sum(dim=1, dtype=torch.float32).clamp_(min=1.0))[:, None]), None


def mean_pool(vectors: Tensor, valid: Tensor) -> Tensor:
    """(n, f, d), (n, f) -> (n, d): mean over the valid fragments."""
    return vectors.masked_fill(~valid[..., None], 0.0).sum(dim=1) / valid.sum(dim=1, keepdim=True)


def max_mean_pool(vectors: Tensor, valid: Tensor) -> Tensor:
    """Sum of `max_pool` and `mean_pool`."""
    return max_pool(vectors, valid) + mean_pool(vectors, valid)


class MaxPool(Pool):
    """Largest value of each dimension."""

    def forward(self, vectors: Tensor, valid: Tensor) -> Tensor:
        return max_pool(vectors, valid)


class MeanPool(Pool):
    """Mean of each dimension."""

    def forward(self, vectors: Tensor, valid: Tensor) -> Tensor:
        return mean_pool(vectors, valid)


class MaxMeanPool(Pool):
    """Sum of maximum and mean."""

    def forward(self, vectors: Tensor, valid: Tensor) -> Tensor:
        return max_mean_pool(vectors, valid)


class LastPool(Pool):
    """The last valid fragment: what a recurrent network knows at the end."""

    def forward(self, vectors: Tensor, valid: Tensor) -> Tensor:
        place = torch.arange(valid.shape[1], device=valid.device)
        last = (valid * place).amax(dim=1)
        return vectors[torch.arange(len(vectors), device=valid.device), last]


class TopMeanPool(Pool):
    """Mean of the k largest values of each dimension; of all where an item has fewer (HREM, k = 2).

    Args:
        k: at least 1, which is the maximum.
        mode: "released" keeps what the authors' loop does: once an item of the batch was shorter than k, the items
            after it take no more values than that one had, so an embedding depends on its batch.

    Raises:
        DataError: k below 1.
    """

    def __init__(self, k: int = 2, *, mode: Mode = "paper") -> None:
        super().__init__()
        check_mode(mode)
        if k < 1:
            raise DataError(f"k {k}, expected at least 1 value to take the mean of")
        self.k, self.mode = k, mode

    def forward(self, vectors: Tensor, valid: Tensor) -> Tensor:
        most = min(self.k, vectors.shape[1])
        count = valid.sum(dim=1).clamp(max=most)
        if self.mode == "released":
            count = count.cummin(dim=0).values
        top = vectors.masked_fill(~valid[..., None], -math.inf).topk(most, dim=1).values
        taken = torch.arange(most, device=valid.device) < count[:, None]
        return top.masked_fill(~taken[..., None], 0.0).sum(dim=1) / count[:, None]


class AttentionPool(Pool):
    """A weighted mean of each dimension, with weights of its own (ESA, IEEE TCSVT 2023).

        out[d] = sum over f of A[f, d] x[f, d],    A[:, d] = softmax over fragments of (W x + b)[:, d]

    Padding leaves the softmax by minus infinity. W begins as Xavier's uniform, b at zero.

    Args:
        dim: width d.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.score = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.score.weight)
        nn.init.zeros_(self.score.bias)

    def forward(self, vectors: Tensor, valid: Tensor) -> Tensor:
        return self.several(vectors, [valid])[0]

    def several(self, vectors: Tensor, valids: Sequence[Tensor]) -> list[Tensor]:
        """As `forward` for each choice of fragments; W x is computed once."""
        scores = self.score(vectors)
        return [(_shares(scores, valid) * vectors).sum(dim=1) for valid in valids]

    def weights(self, vectors: Tensor, valid: Tensor) -> Tensor:
        """A (n, f, d): sums to 1 over the fragments, 0 at padding."""
        return _shares(self.score(vectors), valid)


def _shares(scores: Tensor, valid: Tensor) -> Tensor:
    return scores.masked_fill(~valid[..., None], -math.inf).softmax(dim=1)


class LeftToHead(Pool):
    """Nothing, for a head that pools the fragments itself: zeros (n, d), to which a tower adds what else it has."""

    def forward(self, vectors: Tensor, valid: Tensor) -> Tensor:
        return vectors.new_zeros(len(vectors), vectors.shape[-1])
