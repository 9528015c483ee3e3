"""Smooth-Chamfer against the authors' numbers, its bounds, its limits and its gradient."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from manymatch.embeddings import Sets
from manymatch.errors import DataError, UnknownName
from manymatch.similarity import Chamfer, SmoothChamfer, element_cosines

PARITY = Path(__file__).parents[1] / "parity" / "dive_set_similarity.npz"


def sets(n: int, k: int, d: int, seed: int) -> Sets:
    draw = torch.Generator().manual_seed(seed)
    return Sets(functional.normalize(torch.randn(n, k, d, generator=draw, dtype=torch.float64), dim=-1))


def test_equals_the_official_implementation() -> None:
    recorded = np.load(PARITY)
    options = json.loads(str(recorded["options"]))
    for k, other in options["pairs"]:
        images = Sets(torch.from_numpy(recorded[f"in.img_k{k}"]))
        texts = Sets(torch.from_numpy(recorded[f"in.txt_k{other}"]))
        for alpha in options["alphas"]:
            expected = recorded[f"out.smooth_chamfer_{k}x{other}_a{alpha}"]
            np.testing.assert_allclose(SmoothChamfer(alpha)(images, texts), expected, rtol=0, atol=1e-5)
            # Recorded as a distance: larger is farther.
            apart = recorded[f"out.smooth_chamfer_euclid_{k}x{other}_a{alpha}"]
            found = SmoothChamfer(alpha, "euclidean")(images, texts)
            np.testing.assert_allclose(-found, apart, rtol=0, atol=1e-5)


@given(k=st.integers(1, 4), other=st.integers(1, 4), seed=st.integers(0, 999), alpha=st.sampled_from([1.0, 16.0, 60.0]))
@settings(max_examples=30, deadline=None)
def test_bounds(k: int, other: int, seed: int, alpha: float) -> None:
    a, b = sets(3, k, 5, seed), sets(4, other, 5, seed + 1)
    low = Chamfer()(a, b)
    high = low + (math.log(k) + math.log(other)) / (2 * alpha)
    scores = SmoothChamfer(alpha)(a, b)
    assert (scores >= low - 1e-9).all() and (scores <= high + 1e-9).all()


def test_limits() -> None:
    a, b = sets(3, 4, 16, 0), sets(4, 4, 16, 1)
    torch.testing.assert_close(SmoothChamfer(2000.0)(a, b), Chamfer()(a, b), rtol=0, atol=1e-3)
    flat = SmoothChamfer(1e-3)(a, b) - (math.log(4) + math.log(4)) / (2 * 1e-3)
    torch.testing.assert_close(flat, element_cosines(a, b).mean((0, 2)), rtol=0, atol=1e-3)


def test_equal_elements_are_the_point_plus_a_constant() -> None:
    one, other = sets(3, 1, 6, 0), sets(4, 1, 6, 1)
    many = Sets(one.elements.expand(-1, 4, -1)), Sets(other.elements.expand(-1, 2, -1))
    expected = element_cosines(one, other)[0, :, 0] + (math.log(4) + math.log(2)) / 32
    torch.testing.assert_close(SmoothChamfer(16.0)(*many), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("alpha", [16.0, 60.0])
def test_every_pair_of_elements_learns_and_shares_sum_to_one(alpha: float) -> None:
    similarity = SmoothChamfer(alpha)
    a, b = sets(1, 4, 8, 0), sets(1, 3, 8, 1)
    cosines = element_cosines(a, b).requires_grad_()
    over_gallery, over_query = similarity.soft_maxima(cosines)
    (over_gallery.mean(0) / 2 + over_query.mean(1) / 2).sum().backward()
    assert cosines.grad is not None and (cosines.grad > 0).all()
    torch.testing.assert_close(cosines.grad.sum(), torch.ones((), dtype=torch.float64), rtol=0, atol=1e-9)


@given(k=st.integers(1, 4), other=st.integers(1, 4), seed=st.integers(0, 99), alpha=st.sampled_from([0.1, 16.0, 60.0]))
@settings(max_examples=20, deadline=None)
def test_a_set_of_one_is_the_cosine_or_the_distance(k: int, other: int, seed: int, alpha: float) -> None:
    one, single = sets(3, 1, 5, seed), sets(4, 1, 5, seed + 1)
    cosines = element_cosines(one, single)[0, :, 0]
    many = Sets(one.elements.expand(-1, k, -1)), Sets(single.elements.expand(-1, other, -1))
    constant = (math.log(k) + math.log(other)) / (2 * alpha)
    torch.testing.assert_close(SmoothChamfer(alpha)(*many), cosines + constant, rtol=0, atol=1e-9)
    distances = torch.cdist(one.elements[:, 0], single.elements[:, 0])
    found = SmoothChamfer(alpha, "euclidean")(*many)
    torch.testing.assert_close(found, constant - distances, rtol=0, atol=1e-6)


def test_coinciding_elements_have_a_finite_gradient() -> None:
    elements = sets(2, 3, 5, 0).elements.requires_grad_()
    SmoothChamfer(distance="euclidean")(Sets(elements), Sets(elements.detach())).sum().backward()
    assert elements.grad is not None and bool(torch.isfinite(elements.grad).all())


def test_another_distance_is_refused() -> None:
    wrong: Any = "euclid"
    with pytest.raises(UnknownName, match="did you mean 'euclidean'"):
        SmoothChamfer(distance=wrong)


@pytest.mark.parametrize("alpha", [0.0, -1.0, math.nan, math.inf])
def test_alpha_must_be_positive(alpha: float) -> None:
    with pytest.raises(DataError, match=r"alpha .* expected a positive number"):
        SmoothChamfer(alpha)


def test_circular_variance() -> None:
    four = Sets(torch.eye(4)[None])
    assert four.log_circular_variance() == pytest.approx(math.log(0.5), abs=1e-6)
    assert Sets(torch.ones(2, 3, 1)).log_circular_variance() == -math.inf
