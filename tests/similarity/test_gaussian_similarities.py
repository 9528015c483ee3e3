"""Gaussians: closed-form match probability and Mahalanobis distance against the authors' numbers and their algebra."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from manymatch.embeddings import Gaussians
from manymatch.errors import DataError, UnknownName
from manymatch.similarity import Mahalanobis, MatchProbability

PARITY = Path(__file__).parents[1] / "parity"
MEASURES = pytest.mark.parametrize("measure", ["csd", "wasserstein"])
SEEDS = st.integers(0, 999)


def gaussians(n: int, d: int, seed: int, *, low: float = -3.0, high: float = 2.0) -> Gaussians:
    draw = torch.Generator().manual_seed(seed)
    mean = functional.normalize(torch.randn(n, d, generator=draw, dtype=torch.float64), dim=-1)
    return Gaussians(mean, low + (high - low) * torch.rand(n, d, generator=draw, dtype=torch.float64))


def sides(recorded: Any, mean: str) -> tuple[Gaussians, Gaussians]:
    """The official code calls the log-variance "std"."""
    images, texts = (
        Gaussians(torch.from_numpy(recorded[f"in.{s}{mean}"]), torch.from_numpy(recorded[f"in.{s}_std"]))
        for s in ("img", "cap")
    )
    return images, texts


@pytest.mark.parametrize("case", [0, 1, 2, 3])
def test_logits_equal_the_official_implementation(case: int) -> None:
    recorded = np.load(PARITY / "pcmepp_loss.npz")
    options = json.loads(str(recorded["options"]))["cases"][case]
    measure: Any = {"csd": "csd", "wdist": "wasserstein"}[options["prob_distance"]]
    similarity = MatchProbability(options["init_negative_scale"], options["init_shift"], measure)
    scores = similarity(*sides(recorded, "_mean"))
    np.testing.assert_allclose(scores.detach(), recorded[f"out.logits{case}"], rtol=0, atol=1e-5)


def test_distance_equals_the_official_evaluation() -> None:
    recorded = np.load(PARITY / "pcmepp_similarity.npz")
    found = -MatchProbability().distance(*sides(recorded, ""))
    np.testing.assert_allclose(found, recorded["out.csd"], rtol=0, atol=1e-5)


@MEASURES
@given(seed=SEEDS, d=st.integers(1, 6))
@settings(max_examples=20, deadline=None)
def test_distance_by_its_definition(measure: Any, seed: int, d: int) -> None:
    a, b = gaussians(3, d, seed), gaussians(4, d, seed + 1)
    means = (a.mean[:, None] - b.mean).square()
    first, second = a.log_variance.exp()[:, None], b.log_variance.exp()
    spread = first + second if measure == "csd" else (first.sqrt() - second.sqrt()).square()
    found = MatchProbability(measure=measure).distance(a, b)
    torch.testing.assert_close(found, (means + spread).sum(-1), rtol=0, atol=1e-12)


@MEASURES
@given(seed=SEEDS, scale=st.floats(0.1, 20), shift=st.floats(-5, 20))
@settings(max_examples=20, deadline=None)
def test_probability_falls_with_distance(measure: Any, seed: int, scale: float, shift: float) -> None:
    similarity = MatchProbability(scale, shift, measure)
    a, b = gaussians(3, 5, seed), gaussians(6, 5, seed + 1)
    scores, distance = similarity(a, b).detach(), similarity.distance(a, b)
    probability = similarity.probability(scores)
    assert bool((probability >= 0).all() and (probability <= 1).all() and torch.isfinite(scores).all())
    assert torch.equal(scores.argsort(dim=1), distance.argsort(dim=1, descending=True))
    torch.testing.assert_close(similarity(b, a).T, scores, rtol=0, atol=1e-9)


def test_one_half_where_the_distance_is_shift_over_scale() -> None:
    similarity = MatchProbability(scale=2.0, shift=8.0)
    a, b = (Gaussians(torch.tensor([[x]]), torch.full((1, 1), -40.0)) for x in (0.0, 2.0))
    assert similarity.probability(similarity(a, b)).item() == pytest.approx(0.5)


@MEASURES
def test_no_variance_is_the_point(measure: Any) -> None:
    a, b = (gaussians(n, 6, n, low=-60.0, high=-60.0) for n in (3, 5))
    expected = (a.mean[:, None] - b.mean).square().sum(-1)
    torch.testing.assert_close(MatchProbability(measure=measure).distance(a, b), expected, rtol=0, atol=1e-12)


def test_a_negative_scale_turns_the_proxy_too() -> None:
    similarity = MatchProbability()
    with torch.no_grad():
        similarity.scale.fill_(-2.0)
    a, b = gaussians(4, 6, 0), gaussians(20, 6, 1)
    by_proxy = similarity.proxy(a, "query") @ similarity.proxy(b, "gallery").T
    assert torch.equal(by_proxy.argsort(dim=1), similarity(a, b).argsort(dim=1))


# ---- Mahalanobis


@given(seed=SEEDS, d=st.integers(1, 8))
@settings(max_examples=30, deadline=None)
def test_mahalanobis_by_its_definition(seed: int, d: int) -> None:
    q, g = gaussians(3, d, seed), gaussians(4, d, seed + 1)
    expected = ((g.mean - q.mean[:, None]).square() / q.log_variance.exp()[:, None]).sum(-1)
    torch.testing.assert_close(-Mahalanobis()(q, g), expected, rtol=0, atol=1e-11)


@given(seed=SEEDS, factor=st.floats(0.1, 10))
@settings(max_examples=20, deadline=None)
def test_variances_times_a_number_divide_the_distance_by_it(seed: int, factor: float) -> None:
    q, g = gaussians(3, 5, seed), gaussians(4, 5, seed + 1)
    wider = Gaussians(q.mean, q.log_variance + np.log(factor))
    torch.testing.assert_close(Mahalanobis()(wider, g) * factor, Mahalanobis()(q, g), rtol=1e-9, atol=1e-12)


@given(seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_unit_vectors_and_variances_of_at_least_one_give_at_most_four(seed: int) -> None:
    q, g = gaussians(5, 4, seed, low=0.0, high=6.0), gaussians(6, 4, seed + 1)
    scores = Mahalanobis()(q, g)
    assert bool((scores <= 0).all() and (scores >= -4 - 1e-12).all())


def test_variance_one_is_euclidean_and_so_is_identity() -> None:
    q, g = gaussians(3, 5, 0, low=0.0, high=0.0), gaussians(4, 5, 1)
    expected = -(g.mean - q.mean[:, None]).square().sum(-1)
    torch.testing.assert_close(Mahalanobis()(q, g), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(Mahalanobis("identity")(gaussians(3, 5, 0), g), expected, rtol=0, atol=1e-12)


def test_zero_just_when_the_means_are_equal() -> None:
    q = gaussians(4, 5, 0)
    scores = Mahalanobis()(q, q)
    assert bool((scores.diagonal() >= -1e-12).all())
    assert bool((scores[~torch.eye(4, dtype=torch.bool)] < -1e-3).all())


def test_only_the_querys_variance_counts() -> None:
    q, g = gaussians(3, 5, 0), gaussians(4, 5, 1)
    assert torch.equal(Mahalanobis()(q, g), Mahalanobis()(q, Gaussians(g.mean, g.log_variance + 3)))
    assert not torch.allclose(Mahalanobis()(q, g), Mahalanobis()(g, q).T)


def test_unknown_settings_are_refused() -> None:
    wrong: Any = "wassertein"
    with pytest.raises(UnknownName, match="did you mean 'wasserstein'"):
        MatchProbability(measure=wrong)
    with pytest.raises(UnknownName, match="covariance of mahalanobis"):
        Mahalanobis(wrong)
    with pytest.raises(DataError, match=r"MatchProbability: scale -1\.0"):
        MatchProbability(scale=-1.0)
