"""Many vectors to one: padding leaves a maximum by minus infinity and a mean by its count."""

from __future__ import annotations

import math

from torch import Tensor

__all__ = ["max_mean_pool", "max_pool", "mean_pool"]


def max_pool(vectors: Tensor, valid: Tensor) -> Tensor:
    """(n, f, d), (n, f) -> (n, d): largest value of each dimension over the valid fragments."""
    return vectors.masked_fill(~valid[..., None], -math.inf).amax(dim=1)


def mean_pool(vectors: Tensor, valid: Tensor) -> Tensor:
    """(n, f, d), (n, f) -> (n, d): mean over the valid fragments."""
    return vectors.masked_fill(~valid[..., None], 0.0).sum(dim=1) / valid.sum(dim=1, keepdim=True)


def max_mean_pool(vectors: Tensor, valid: Tensor) -> Tensor:
    """Sum of `max_pool` and `mean_pool`."""
    return max_pool(vectors, valid) + mean_pool(vectors, valid)
