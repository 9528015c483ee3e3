"""Smooth-Chamfer of Gaussian elements: its formula, its limits, and what it shares with the two it is built on."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from manymatch.embeddings import Gaussians, GaussianSets, Points, Sets
from manymatch.errors import DataError
from manymatch.losses import InfoNCE, Scores
from manymatch.similarity import Cosine, GaussianChamfer, MatchProbability, SmoothChamfer

SIZES = {"k": st.integers(1, 4), "other": st.integers(1, 4), "d": st.integers(1, 6), "seed": st.integers(0, 999)}
ALPHAS = st.sampled_from([1.0, 16.0, 64.0])
EXAMPLES = settings(max_examples=30, deadline=None)


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def some(n: int, k: int, d: int, seed: int, *, level: float = -1.0) -> GaussianSets:
    elements = functional.normalize(normal(n, k, d, seed=seed), dim=-1)
    return GaussianSets(elements, level + normal(n, k, seed=seed + 7))


def by_hand(a: GaussianSets, b: GaussianSets, alpha: float) -> torch.Tensor:
    """S of the docstring, every table made."""
    cosines = torch.einsum("qkd,gld->qgkl", a.elements, b.elements)
    variances = a.log_variance.exp()[:, None, :, None] + b.log_variance.exp()[None, :, None, :]
    scaled = alpha * (cosines - variances / 2)
    return (scaled.logsumexp(dim=3).mean(dim=2) + scaled.logsumexp(dim=2).mean(dim=2)) / (2 * alpha)


@given(**SIZES, alpha=ALPHAS)
@EXAMPLES
def test_it_is_its_formula(k: int, other: int, d: int, seed: int, alpha: float) -> None:
    a, b = some(3, k, d, seed), some(4, other, d, seed + 1)
    expected = 7.0 * (2 * by_hand(a, b, alpha) - 2) + 3.0
    torch.testing.assert_close(GaussianChamfer(7.0, 3.0, alpha)(a, b), expected, rtol=1e-9, atol=1e-9)
    with torch.no_grad():
        torch.testing.assert_close(GaussianChamfer(7.0, 3.0, alpha)(a, b), expected, rtol=1e-9, atol=1e-9)


@given(**SIZES, alpha=ALPHAS, level=st.floats(-30, 2))
@EXAMPLES
def test_equal_variances_rank_as_smooth_chamfer(
    k: int, other: int, d: int, seed: int, alpha: float, level: float
) -> None:
    a, b = (Sets(e.elements) for e in (some(3, k, d, seed), some(6, other, d, seed + 1)))
    sure = [GaussianSets(e.elements, torch.full(e.elements.shape[:2], level, dtype=torch.float64)) for e in (a, b)]
    plain, scores = SmoothChamfer(alpha)(a, b), GaussianChamfer(10.0, 5.0, alpha)(*sure)
    torch.testing.assert_close(scores, 10.0 * (2 * (plain - math.exp(level)) - 2) + 5.0, rtol=1e-9, atol=1e-9)
    assert torch.equal(scores.argsort(dim=1), plain.argsort(dim=1)) or _nearly_tied(plain)


def _nearly_tied(scores: torch.Tensor) -> bool:
    return float(scores.sort(dim=1).values.diff(dim=1).min()) < 1e-12


def test_sharper_elements_approach_the_plain_set() -> None:
    a, b = some(3, 2, 5, 0), some(4, 3, 5, 1)
    plain = 10.0 * (2 * SmoothChamfer()(Sets(a.elements), Sets(b.elements)) - 2) + 5.0
    gaps = []
    for level in (0.0, -2.0, -6.0, -12.0, -30.0):
        sides = [GaussianSets(e.elements, e.log_variance + level) for e in (a, b)]
        gaps.append(float((GaussianChamfer()(*sides) - plain).abs().max().detach()))
    assert gaps == sorted(gaps, reverse=True) and gaps[-1] < 1e-9


@given(d=SIZES["d"], seed=SIZES["seed"], scale=st.floats(0.5, 20), shift=st.floats(-5, 5), alpha=ALPHAS)
@EXAMPLES
def test_a_set_of_one_is_the_match_probability_of_gaussians(
    d: int, seed: int, scale: float, shift: float, alpha: float
) -> None:
    """The same total variance, spread over the dimensions in whatever way, at the same scale and shift."""
    a, b = some(3, 1, d, seed), some(4, 1, d, seed + 1)
    spread = []
    for items, draw in ((a, 11), (b, 12)):
        shares = normal(len(items), d, seed=seed + draw).softmax(dim=-1)
        spread.append(Gaussians(items.elements[:, 0], items.log_variance + shares.log()))
    expected = MatchProbability(scale, shift)(*spread)
    torch.testing.assert_close(GaussianChamfer(scale, shift, alpha)(a, b), expected, rtol=1e-9, atol=1e-9)


@given(**SIZES, alpha=ALPHAS)
@EXAMPLES
def test_a_less_sure_element_never_raises_a_score(k: int, other: int, d: int, seed: int, alpha: float) -> None:
    a, b = some(3, k, d, seed), some(4, other, d, seed + 1)
    less = GaussianSets(b.elements, b.log_variance + torch.eye(other, dtype=torch.float64)[0])
    assert bool((GaussianChamfer(alpha=alpha)(a, less) <= GaussianChamfer(alpha=alpha)(a, b) + 1e-9).all())


@pytest.mark.parametrize("alpha", [16.0, 30.0, 64.0])
@pytest.mark.parametrize("level", [-60.0, 0.0, 6.0])
def test_any_variance_gives_finite_scores_and_gradients_in_float32(alpha: float, level: float) -> None:
    sides = [some(5, 4, 8, seed, level=level).to(torch.float32) for seed in (0, 1)]
    moving = [t.requires_grad_() for side in sides for t in side.tensors().values()]
    scores = GaussianChamfer(alpha=alpha)(*sides)
    scores.sum().backward()
    expected = 10.0 * (2 * by_hand(*(s.to(torch.float64) for s in sides), alpha) - 2) + 5.0
    torch.testing.assert_close(scores.double(), expected, rtol=2e-5, atol=2e-4)
    assert all(t.grad is not None and bool(torch.isfinite(t.grad).all()) for t in moving)


def test_candidates_are_ordered_as_by_a_small_alpha() -> None:
    a, b = some(5, 3, 8, 0), some(60, 2, 8, 1)
    similarity = GaussianChamfer(alpha=1e-3)
    order = (similarity.proxy(a, "query") @ similarity.proxy(b, "gallery").T).argsort(dim=1)
    # Elements counted rise with k and l alone, the same for all.
    assert (order == similarity(a, b).argsort(dim=1)).double().mean() > 0.95
    assert not GaussianChamfer.proxy_is_exact


@given(seed=SIZES["seed"], d=SIZES["d"])
@EXAMPLES
def test_infonce_reads_log_odds_as_it_reads_cosines(seed: int, d: int) -> None:
    """Scale 10 and temperature 1 are cosines less the mean of both variances at temperature 0.05."""
    means = [functional.normalize(normal(n, d, seed=seed + n), dim=-1) for n in (4, 6)]
    logs = [normal(*m.shape, seed=seed + 3 + n) - 3 for n, m in enumerate(means)]
    matches = torch.arange(4)[:, None] == torch.arange(6) % 4
    sides = [Gaussians(m, h) for m, h in zip(means, logs, strict=True)]
    odds = MatchProbability(scale=10.0, shift=5.0)(*sides)
    totals = [h.exp().sum(dim=-1) for h in logs]
    plain = Cosine()(*(Points(m) for m in means)) - (totals[0][:, None] + totals[1]) / 2
    losses = [
        InfoNCE(temperature).double()(Scores.of(scores), matches).detach()
        for temperature, scores in ((1.0, odds), (0.05, plain))
    ]
    torch.testing.assert_close(*losses, rtol=1e-6, atol=1e-9)


def test_settings_are_checked() -> None:
    assert GaussianChamfer(2.0, 1.0, 4.0).settings() == {"scale": 2.0, "shift": 1.0, "alpha": 4.0}
    with pytest.raises(DataError, match="alpha 0"):
        GaussianChamfer(alpha=0.0)
    with pytest.raises(DataError, match="scale -1"):
        GaussianChamfer(scale=-1.0)
    with pytest.raises(DataError, match="got sets, expected gaussian_sets"):
        GaussianChamfer()(Sets(torch.ones(1, 1, 1)), Sets(torch.ones(1, 1, 1)))
