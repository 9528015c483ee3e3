"""MIL, Chamfer and the mean match probability of elements: the authors' numbers, symmetry, who learns."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from manymatch.embeddings import Sets
from manymatch.errors import DataError
from manymatch.similarity import Chamfer, ElementProbability, Mil, Similarity, SmoothChamfer, element_cosines

PARITY = Path(__file__).parents[1] / "parity"
EACH = pytest.mark.parametrize("similarity", [Mil(), Chamfer(), SmoothChamfer(), ElementProbability(3.0, -1.0)])


def sets(n: int, k: int, d: int, seed: int) -> Sets:
    draw = torch.Generator().manual_seed(seed)
    return Sets(functional.normalize(torch.randn(n, k, d, generator=draw, dtype=torch.float64), dim=-1))


def test_equal_the_official_implementation() -> None:
    recorded = np.load(PARITY / "dive_set_similarity.npz")
    probability = ElementProbability(learned=False)
    for k, other in json.loads(str(recorded["options"]))["pairs"]:
        images = Sets(torch.from_numpy(recorded[f"in.img_k{k}"]))
        texts = Sets(torch.from_numpy(recorded[f"in.txt_k{other}"]))
        found = {
            "max": Mil()(images, texts),
            "chamfer": Chamfer()(images, texts),
            "mp_avg": probability.probability(probability(images, texts)),
        }
        for name, scores in found.items():
            np.testing.assert_allclose(scores, recorded[f"out.{name}_{k}x{other}"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", [1, 2])
def test_mil_equals_the_official_pvse(case: int) -> None:
    recorded = np.load(PARITY / "pvse_losses.npz")
    images, texts = (Sets(torch.from_numpy(recorded[f"in.{side}{case}"])) for side in ("img", "txt"))
    np.testing.assert_allclose(Mil()(images, texts), recorded[f"out.scores{case}"], rtol=0, atol=1e-6)


@EACH
@given(k=st.integers(1, 4), other=st.integers(1, 4), d=st.integers(1, 6), seed=st.integers(0, 999))
@settings(max_examples=20, deadline=None)
def test_the_order_of_sets_and_of_elements_does_not_matter(
    similarity: Similarity, k: int, other: int, d: int, seed: int
) -> None:
    a, b = sets(3, k, d, seed), sets(4, other, d, seed + 1)
    scores = similarity(a, b)
    torch.testing.assert_close(similarity(b, a).T, scores, rtol=0, atol=1e-12)
    turned = Sets(a.elements[:, torch.randperm(k, generator=torch.Generator().manual_seed(seed))])
    torch.testing.assert_close(similarity(turned, b), scores, rtol=0, atol=1e-12)


@given(k=st.integers(1, 4), other=st.integers(1, 4), seed=st.integers(0, 999))
@settings(max_examples=20, deadline=None)
def test_who_learns(k: int, other: int, seed: int) -> None:
    def shares(similarity: Similarity) -> torch.Tensor:
        """d score / d cosine of one pair of sets: elements are axes, so an element's gradient is its row of shares."""
        a = Sets(torch.eye(k, dtype=torch.float64)[None].requires_grad_())
        table = torch.rand(k, other, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        b = Sets(table.T[None].clone().requires_grad_())
        similarity(a, b).sum().backward()
        assert b.elements.grad is not None
        return b.elements.grad[0].T

    mil, chamfer, smooth = shares(Mil()), shares(Chamfer()), shares(SmoothChamfer())
    assert int((mil != 0).sum()) == 1 and float(mil.sum()) == 1.0
    assert int((chamfer != 0).sum()) <= k + other
    assert bool((smooth > 0).all())
    for both in (chamfer, smooth):
        assert float(both.sum()) == pytest.approx(1.0, abs=1e-12)


@given(k=st.integers(1, 4), other=st.integers(1, 4), seed=st.integers(0, 999))
@settings(max_examples=20, deadline=None)
def test_element_probability_is_the_mean_of_sigmoids(k: int, other: int, seed: int) -> None:
    similarity = ElementProbability(scale=4.0, shift=-0.5)
    a, b = sets(3, k, 5, seed), sets(4, other, 5, seed + 1)
    expected = torch.sigmoid(4.0 * element_cosines(a, b) - 0.5).mean(dim=(0, 2))
    torch.testing.assert_close(similarity.probability(similarity(a, b)), expected, rtol=0, atol=1e-12)


def test_log_odds_stay_finite_and_ordered_where_the_probability_is_zero() -> None:
    similarity = ElementProbability(scale=500.0, shift=-300.0)
    scores = similarity(Sets(torch.tensor([[[1.0, 0.0]]])), Sets(torch.tensor([[[-1.0, 0.0]], [[-0.6, 0.8]]])))
    assert similarity.probability(scores).tolist() == [[0.0, 0.0]]
    assert scores[0].tolist() == pytest.approx([-800.0, -600.0])


def test_scalars_learn_unless_they_are_held() -> None:
    assert {name for name, _ in ElementProbability().named_parameters()} == {"scale", "shift"}
    held = ElementProbability(learned=False)
    assert not list(held.parameters()) and set(held.state_dict()) == {"scale", "shift"}


def test_a_scale_must_be_positive() -> None:
    with pytest.raises(DataError, match=r"ElementProbability: scale 0.0, .* expected a positive"):
        ElementProbability(scale=0.0)
