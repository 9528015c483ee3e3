"""Noise that repeats: standard normal numbers made from what an item is, not from when it was asked for.

An item's key is mixed from its input alone (token numbers, bits of its features), whatever stands beside it in a batch
and however far it is padded; its numbers are mixed from the key. Whole numbers wrap at 64 bits and are mixed as in
splitmix64 (Steele, Lea and Flood, OOPSLA 2014); the last step to normal numbers is done in float64, so that the float32
that leaves is the same on every machine but for a rare last bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["key_of_floats", "key_of_ids", "keyed_normal"]


def _signed(number: int) -> int:
    """A 64-bit pattern as torch's int64 holds it."""
    return number - (1 << 64) if number >= 1 << 63 else number


_STEP = _signed(0x9E3779B97F4A7C15)
_ROUNDS = ((30, _signed(0xBF58476D1CE4E5B9)), (27, _signed(0x94D049BB133111EB)))
_HALF = 0xFFFFFFFF


def _mixed(number: Tensor) -> Tensor:
    """Every bit of the result depends on every bit of the number; one to one, int64."""
    number = number.clone()
    for shift, factor in _ROUNDS:
        number = number.bitwise_xor_(_shifted(number, shift)).mul_(factor)
    return number.bitwise_xor_(_shifted(number, 31))


def _shifted(number: Tensor, places: int) -> Tensor:
    """Shift to the right that fills with zeros; torch's own repeats the sign."""
    return (number >> places).bitwise_and_((1 << (64 - places)) - 1)


def keyed_normal(key: Tensor, shape: Sequence[int], seed: int = 0) -> Tensor:
    """Standard normal numbers (n, *shape) float32, the same for the same key and seed.

    Args:
        key: (n,) int64.
        shape: of the numbers of one item.
        seed: another seed gives other numbers for the same keys.
    """
    wanted = math.prod(shape)
    turns = torch.arange(1, wanted // 2 + wanted % 2 + 1, device=key.device)
    start = _mixed(key ^ _mixed(torch.tensor(seed, device=key.device) + _STEP))
    bits = _mixed(start[:, None] + turns * _STEP)
    # Two uniform numbers of 32 bits in (0, 1) give two normal ones (Box and Muller).
    radius = _shifted(bits, 32).double().add_(0.5).mul_(2.0**-32).log_().mul_(-2.0).sqrt_()
    angle = (bits & _HALF).double().mul_(2 * math.pi * 2.0**-32)
    both = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)
    return both[:, :wanted].float().view(len(key), *shape)


def _weights(count: int, device: torch.device) -> Tensor:
    """(count,) odd numbers, one for each position."""
    return _mixed(torch.arange(1, count + 1, device=device) * _STEP) | 1


def _summed(numbers: Tensor, valid: Tensor) -> Tensor:
    """(n, f) mixed numbers to (n,): order counts, padding does not, wherever it stands."""
    place = (valid.cumsum(dim=1) - 1).clamp_(min=0)
    weights = _weights(numbers.shape[1], numbers.device)[place]
    return _mixed((numbers * weights).masked_fill(~valid, 0).sum(dim=1))


def key_of_ids(ids: Tensor, valid: Tensor) -> Tensor:
    """(n, w) whole numbers, (n, w) bool -> (n,) int64: the key of each row's valid numbers in their order."""
    return _summed(_mixed((ids.long() + 1) * _STEP), valid)


def key_of_floats(values: Tensor, valid: Tensor | None = None) -> Tensor:
    """Key (n,) int64 of each item's values, from their bits in float32.

    Args:
        values: (n, ...); with `valid`, (n, f, ...). A negative zero counts as zero.
        valid: (n, f), which rows of an item are real; all if not given.
    """
    # Adding 0.0 makes -0.0 equal 0.0 and always a tensor of its own, whose memory may be read as whole numbers.
    rows = (values.detach().float() + 0.0).contiguous()
    rows = rows.flatten(1)[:, None, :] if valid is None else rows.flatten(2)
    rows = functional.pad(rows, (0, rows.shape[-1] % 2)).contiguous().view(torch.int64)
    weights = _weights(rows.shape[-1], rows.device)
    # Item by item: at most one item's products are in memory beside the values.
    sums = torch.stack([(item * weights).sum(dim=-1) for item in rows]) if len(rows) else rows.sum(dim=-1)
    real = torch.ones_like(sums, dtype=torch.bool) if valid is None else valid
    return _summed(_mixed(sums), real)
