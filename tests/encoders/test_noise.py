"""Noise that repeats: normal, independent between items, and made from an item's input alone."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manymatch.encoders.noise import key_of_floats, key_of_ids, keyed_normal

FEW = settings(max_examples=25, deadline=None)

KEYS = torch.arange(400)


def test_it_is_standard_normal() -> None:
    noise = keyed_normal(KEYS, (500,)).double()
    count = noise.numel()
    assert abs(float(noise.mean())) < 4 / count**0.5
    assert abs(float(noise.var()) - 1) < 4 * (2 / count) ** 0.5
    assert abs(float((noise**4).mean()) - 3) < 4 * (96 / count) ** 0.5
    # Kolmogorov's distance to the normal distribution; 1.95 / sqrt(n) is exceeded once in a thousand samples.
    ranked = torch.special.ndtr(noise.flatten().sort().values)
    assert float((ranked - torch.arange(count) / count).abs().max()) < 1.95 / count**0.5


def test_items_and_seeds_are_independent() -> None:
    noise = keyed_normal(KEYS, (2000,)).double()
    beside = torch.corrcoef(noise) - torch.eye(len(KEYS))
    assert float(beside.abs().max()) < 6 / 2000**0.5
    other = keyed_normal(KEYS, (2000,), seed=1).double()
    assert abs(float((noise * other).mean())) < 4 / noise.numel() ** 0.5
    halves = (noise[:, :1000] * noise[:, 1000:]).mean()
    assert abs(float(halves)) < 4 / (noise.numel() / 2) ** 0.5


def splitmix(state: int) -> int:
    """One output of splitmix64 whose state is already stepped, in Python's unbounded whole numbers."""
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
    return state ^ (state >> 31)


@pytest.mark.parametrize("key", [0, -1, 2**62 + 12345])
@pytest.mark.parametrize("seed", [0, 3, -7])
def test_it_is_the_same_everywhere(key: int, seed: int) -> None:
    step = 0x9E3779B97F4A7C15
    start = splitmix(key % 2**64 ^ splitmix((seed + step) % 2**64))
    expected = [[], []]
    for turn in (1, 2, 3):
        bits = splitmix((start + turn * step) % 2**64)
        radius = math.sqrt(-2 * math.log(((bits >> 32) + 0.5) / 2**32))
        angle = 2 * math.pi * (bits % 2**32) / 2**32
        expected[0].append(radius * math.cos(angle))
        expected[1].append(radius * math.sin(angle))
    noise = keyed_normal(torch.tensor([key]), (5,), seed)[0]
    torch.testing.assert_close(noise, torch.tensor(expected[0] + expected[1][:2]), rtol=1e-6, atol=1e-7)


@FEW
@given(n=st.integers(1, 5), shape=st.lists(st.integers(1, 5), max_size=3), seed=st.integers(-(2**63), 2**63 - 1))
def test_an_item_is_the_same_in_every_batch(n: int, shape: list[int], seed: int) -> None:
    keys = torch.randint(-(2**63), 2**63 - 1, (n,))
    noise = keyed_normal(keys, shape, seed)
    assert noise.shape == (n, *shape) and noise.dtype == torch.float32 and torch.isfinite(noise).all()
    for row in range(n):
        assert torch.equal(keyed_normal(keys[row : row + 1], shape, seed)[0], noise[row])


@FEW
@given(
    rows=st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=6), min_size=1, max_size=5), pad=st.integers(0, 3)
)
def test_keys_of_ids_are_equal_for_equal_texts_only(rows: list[list[int]], pad: int) -> None:
    longest = max(map(len, rows)) + pad
    ids = torch.full((len(rows), longest), 7)
    valid = torch.zeros(len(rows), longest, dtype=torch.bool)
    for n, row in enumerate(rows):
        ids[n, : len(row)], valid[n, : len(row)] = torch.tensor(row), True
    keys = key_of_ids(ids, valid)
    for n, row in enumerate(rows):
        alone = key_of_ids(torch.tensor([row]), torch.ones(1, len(row), dtype=torch.bool))
        assert int(alone) == int(keys[n])
        assert [r for r, k in zip(rows, keys, strict=True) if int(k) == int(keys[n])] == [row] * rows.count(row)


def test_many_short_texts_never_share_a_key() -> None:
    ids = torch.cartesian_prod(*[torch.arange(60)] * 3)
    keys = key_of_ids(ids, torch.ones_like(ids, dtype=torch.bool))
    assert len(keys.unique()) == len(ids)


@FEW
@given(seed=st.integers(0, 1000), width=st.integers(1, 5), extra=st.integers(0, 3))
def test_keys_of_floats_know_order_and_bits_but_no_padding(seed: int, width: int, extra: int) -> None:
    torch.manual_seed(seed)
    values = torch.randn(3, 4, width)
    valid = torch.tensor([[True] * 4, [True, True, False, False], [True, False, True, True]])
    keys = key_of_floats(values, valid)
    junk = torch.cat([values.masked_fill(~valid[..., None], 5.0), torch.randn(3, extra, width)], 1)
    more = torch.cat([valid, torch.zeros(3, extra, dtype=torch.bool)], 1)
    assert torch.equal(key_of_floats(junk, more), keys)
    packed = key_of_floats(values[2][valid[2]][None], torch.ones(1, 3, dtype=torch.bool))
    assert int(packed) == int(keys[2])
    assert len({*key_of_floats(values, valid).tolist(), *key_of_floats(values.flip(1)).tolist()}) == 6


def test_keys_of_floats_feel_the_smallest_change() -> None:
    values = torch.randn(1, 3, 8).expand(25, -1, -1).clone()
    for n in range(24):
        place = values[n].view(-1)
        place[n] = torch.nextafter(place[n], torch.tensor(9.0))
    assert len(key_of_floats(values).unique()) == 25


def test_zero_has_no_sign_and_half_precision_counts_as_what_it_says() -> None:
    values = torch.tensor([[0.0, 1.5], [-0.0, 1.5]])
    one, two = key_of_floats(values).tolist()
    assert one == two == int(key_of_floats(values[:1].half()))
