"""Rectangles: what lies inside, what lies outside, and the border between."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manymatch.embeddings import Boxes
from manymatch.errors import DataError
from manymatch.similarity import BoxDistance

SEEDS = st.integers(0, 999)


def boxes(n: int, d: int, seed: int, *, offset: float = 1.0) -> Boxes:
    draw = torch.Generator().manual_seed(seed)
    center = torch.randn(n, d, generator=draw, dtype=torch.float64)
    return Boxes(center, offset * torch.rand(n, d, generator=draw, dtype=torch.float64))


def outside(q: Boxes, g: Boxes) -> torch.Tensor:
    return -BoxDistance(0.0)(q, g)


def inside(q: Boxes, g: Boxes) -> torch.Tensor:
    """With gamma 1 a step inside costs as much as one outside, so the difference is the inside alone."""
    return -BoxDistance(1.0)(q, g) - outside(q, g)


@given(seed=SEEDS, d=st.integers(1, 8), gamma=st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_by_its_definition(seed: int, d: int, gamma: float) -> None:
    q, g = boxes(3, d, seed), boxes(4, d, seed + 1)
    low, high, middle = (q.center - q.offset)[:, None], (q.center + q.offset)[:, None], q.center[:, None]
    d_out = ((g.center - high).clamp(min=0) + (low - g.center).clamp(min=0)).sum(-1)
    d_in = (middle - torch.minimum(torch.maximum(g.center, low), high)).abs().sum(-1)
    torch.testing.assert_close(BoxDistance(gamma)(q, g), -(d_out + gamma * d_in), rtol=0, atol=1e-12)
    assert bool((outside(q, g) >= 0).all() and (inside(q, g) >= -1e-12).all())


@given(seed=SEEDS, d=st.integers(1, 5), size=st.floats(0.1, 4))
@settings(max_examples=30, deadline=None)
def test_nothing_is_outside_just_when_the_point_is_inside(seed: int, d: int, size: float) -> None:
    q, g = boxes(3, d, seed, offset=size), boxes(6, d, seed + 1)
    contained = ((g.center - q.center[:, None]).abs() <= q.offset[:, None]).all(-1)
    assert torch.equal(outside(q, g) == 0, contained)


@given(seed=SEEDS, d=st.integers(1, 5))
@settings(max_examples=20, deadline=None)
def test_no_offset_is_the_point(seed: int, d: int) -> None:
    q, g = boxes(3, d, seed, offset=0.0), boxes(4, d, seed + 1)
    torch.testing.assert_close(outside(q, g), torch.cdist(q.center, g.center, p=1), rtol=0, atol=1e-12)
    assert bool((inside(q, g).abs() <= 1e-12).all())


@given(seed=SEEDS, gamma=st.floats(0, 1))
@settings(max_examples=20, deadline=None)
def test_continuous_across_the_border(seed: int, gamma: float) -> None:
    q = boxes(1, 3, seed)
    border, step = q.center + q.offset, 1e-7
    near = Boxes(torch.cat([border - step, border + step]), torch.zeros(2, 3, dtype=torch.float64))
    scores = BoxDistance(gamma)(q, near)[0]
    assert abs(float(scores[0] - scores[1])) <= 6 * step + 1e-12


def test_the_query_is_the_rectangle() -> None:
    q, g = boxes(3, 4, 0), boxes(5, 4, 1)
    assert torch.equal(BoxDistance()(q, g), BoxDistance()(q, Boxes(g.center, g.offset + 3)))
    assert not torch.allclose(BoxDistance()(q, g), BoxDistance()(g, q).T)


def test_wide_items_need_no_table_of_all_pairs_and_learn_the_same() -> None:
    q, g = boxes(40, 700, 0, offset=0.1), boxes(70, 700, 1)
    tensors = [t.clone().requires_grad_() for t in (q.center, q.offset, g.center)]
    apart = (tensors[2] - tensors[0][:, None]).abs()
    whole = -(torch.relu(apart - tensors[1][:, None]) + 0.02 * torch.minimum(apart, tensors[1][:, None])).sum(-1)
    weights = torch.linspace(-1, 1, whole.numel(), dtype=torch.float64).view_as(whole)
    expected = torch.autograd.grad((whole * weights).sum(), tensors)
    scores = BoxDistance()(Boxes(tensors[0], tensors[1]), Boxes(tensors[2], g.offset))
    torch.testing.assert_close(scores, whole, rtol=0, atol=1e-10)
    for found, right in zip(torch.autograd.grad((scores * weights).sum(), tensors), expected, strict=True):
        torch.testing.assert_close(found, right, rtol=0, atol=1e-10)


@pytest.mark.parametrize("gamma", [-0.1, 1.1, math.nan])
def test_gamma_is_a_share(gamma: float) -> None:
    with pytest.raises(DataError, match=r"gamma .* expected a number from 0 to 1"):
        BoxDistance(gamma)
