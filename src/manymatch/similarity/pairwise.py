"""What several similarities compute over all pairs: products, distances, a mean probability's log-odds, blocks."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

__all__ = ["add_planes", "element_products", "in_blocks", "mean_log_odds", "squared_distances"]

_NUMBERS = 2**20
"""Numbers of one block's table: 4 MB in float32, a few of which live at once: they stay in a core's cache."""

_STEP = 16
"""Sides of blocks are multiples of this, so that the matrix product never meets its remainder kernels, which round
differently: equal items then score equal to the last bit whichever block they fall in."""


def element_products(left: Tensor, right: Tensor) -> Tensor:
    """Inner product of every element with every element: (q, k, d), (g, l, d) -> (k, q, l, g).

    Element axes come before item axes, so that reducing over elements adds whole planes: with the elements innermost
    the sums over four neighbours cost about as much again as the matrix product.
    """
    (q, k, d), (g, other, _) = left.shape, right.shape
    rows = left.transpose(0, 1).reshape(k * q, d)
    if k * q < d:
        # Few queries: their products are fewer numbers to move than the gallery's elements.
        flat = rows @ right.reshape(g * other, d).T
        return flat.view(k, q, g, other).transpose(2, 3).contiguous()
    columns = right.transpose(0, 1).reshape(other * g, d)
    return (rows @ columns.T).view(k, q, other, g)


def add_planes(tensor: Tensor, dim: int) -> Tensor:
    """As `tensor.sum(dim)`, one plane after the other: every entry is added in the same order, wherever it lies.

    A reduction adds the last columns of an odd width in another order, and equal items would differ in the last bit.
    """
    first, *others = tensor.unbind(dim)
    if not others:
        return first
    total = first + others[0]
    for plane in others[1:]:
        total = total + plane if torch.is_grad_enabled() else total.add_(plane)
    return total


def squared_distances(left: Tensor, right: Tensor) -> Tensor:
    """Squared Euclidean distances (q, g) of (q, d) and (g, d), by one matrix product; never negative.

    Off by some 1e-7 of the squared norms in float32, so only what nearly coincides is uncertain.
    """
    products = left @ right.T
    lengths = left.square().sum(dim=-1)[:, None] + right.square().sum(dim=-1)
    return torch.add(lengths, products, alpha=-2).clamp(min=0)


def mean_log_odds(logits: Tensor, dim: tuple[int, ...]) -> Tensor:
    """`log p - log(1 - p)` of `p = mean sigmoid(logits)` over the axes, finite where p itself is 0 or 1 in float32."""
    yes, no = functional.logsigmoid(logits), functional.logsigmoid(-logits)
    return yes.logsumexp(dim=dim) - no.logsumexp(dim=dim)


def in_blocks(score: Callable[[slice, slice], Tensor], shape: tuple[int, int], numbers: int) -> Tensor:
    """A matrix (q, g) whose every entry needs a table of `numbers`, without ever holding all tables.

    Args:
        score: (rows, columns) -> that part of the matrix.
        shape: (q, g).
        numbers: how many `score` makes for one entry.

    Where gradients are asked for, a block's tables are made again on the way back instead of being kept.
    """
    entries = _NUMBERS // max(numbers, 1)
    rows = min(max(shape[0], 1), _stepped(math.isqrt(entries)))
    columns = _stepped(entries // rows)
    if rows >= shape[0] and columns >= shape[1]:
        return score(slice(None), slice(None))

    def part(first: int, second: int) -> Tensor:
        where = slice(first, first + rows), slice(second, second + columns)
        if not torch.is_grad_enabled():
            return score(*where)
        kept: Tensor = checkpoint(score, *where, use_reentrant=False, preserve_rng_state=False)
        return kept

    lines = [torch.cat([part(r, c) for c in range(0, shape[1], columns)], dim=1) for r in range(0, shape[0], rows)]
    return torch.cat(lines)


def _stepped(size: int) -> int:
    return max(size // _STEP, 1) * _STEP
