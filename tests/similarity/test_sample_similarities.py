"""Draws of PCME: match probability, per-pair losses and rank tables against the authors' numbers, and its algebra."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from manymatch.data.matches import Matches
from manymatch.embeddings import Samples
from manymatch.evaluation import hit_rate, mean_rank, median_rank, rank, rank_scores
from manymatch.similarity import SampledMatchProbability, SampleProducts, Similarity

PARITY = Path(__file__).parents[1] / "parity"
SEEDS = st.integers(0, 999)


def samples(n: int, j: int, d: int, seed: int, *, noise: float = 0.3) -> Samples:
    draw = torch.Generator().manual_seed(seed)
    center = functional.normalize(torch.randn(n, 1, d, generator=draw, dtype=torch.float64), dim=-1)
    return Samples(center + noise * torch.randn(n, j, d, generator=draw, dtype=torch.float64))


@pytest.mark.parametrize("case", [0, 1])
def test_probability_and_pair_losses_equal_the_official_implementation(case: int) -> None:
    recorded = np.load(PARITY / "pcme_soft_contrastive.npz")
    options = json.loads(str(recorded["options"]))["cases"][case]
    similarity = SampledMatchProbability(options["init_negative_scale"], options["init_shift"])
    scores = similarity(*(Samples(torch.from_numpy(recorded[f"in.{side}"])) for side in ("img", "cap"))).detach()
    np.testing.assert_allclose(similarity.probability(scores), recorded[f"out.match_prob{case}"], rtol=0, atol=1e-6)
    matched = torch.from_numpy(recorded["out.matched"]).view(5, 5)
    losses = functional.softplus(-matched * scores).flatten()
    np.testing.assert_allclose(losses, recorded[f"out.nll_rows{case}"], rtol=1e-5, atol=1e-5)


def test_probability_equals_the_official_pcmepp_evaluation() -> None:
    recorded = np.load(PARITY / "pcmepp_similarity.npz")
    options = json.loads(str(recorded["options"]))

    def drawn(side: str) -> Samples:
        mean, log_deviation, noise = (torch.from_numpy(recorded[f"in.{side}{part}"]) for part in ("", "_std", "_eps"))
        return Samples(mean[:, None] + log_deviation.exp()[:, None] * noise)

    similarity = SampledMatchProbability(options["negative_scale"], options["shift"])
    found = similarity.probability(similarity(drawn("img"), drawn("cap"))).detach()
    np.testing.assert_allclose(found, recorded["out.matching_prob"] / 16, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "similarity"),
    [("matmul", SampleProducts()), ("matching_prob", SampledMatchProbability(scale=2.5, shift=3.0))],
)
def test_rank_tables_equal_the_official_evaluator(name: str, similarity: Similarity) -> None:
    recorded = np.load(PARITY / "pcme_evaluator.npz")
    images, texts = (Samples(torch.from_numpy(recorded[f"in.{side}"])) for side in ("img", "cap"))
    owner, classes = np.arange(250) // 5, recorded["in.cls_of_image"]
    own = Matches.from_owner(owner, 50)
    same = Matches.from_dense(classes[:, None] == classes[owner])
    for truth, matches in (("image", own), ("class", same)):
        for direction, ranks in zip(("i2t", "t2i"), rank(similarity, images, texts, matches), strict=True):
            recalls = [100 * hit_rate(ranks, k) for k in (1, 5, 10)]
            found = [*recalls, sum(recalls), median_rank(ranks), mean_rank(ranks)]
            np.testing.assert_allclose(found, recorded[f"out.{direction}_{name}_{truth}"], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "similarity"),
    [("matmul", SampleProducts()), ("matching_prob", SampledMatchProbability(scale=2.5, shift=3.0))],
)
def test_folds_equal_the_official_evaluator(name: str, similarity: Similarity) -> None:
    recorded = np.load(PARITY / "pcme_evaluator.npz")
    images, texts = (Samples(torch.from_numpy(recorded[f"in.{side}"])) for side in ("img", "cap"))
    scores = similarity(images, texts).detach()
    own = Matches.from_owner(np.arange(50) // 5, 10)
    tables: dict[str, list[list[float]]] = {"i2t": [], "t2i": []}
    for n in range(5):
        both = rank_scores(scores[10 * n : 10 * n + 10, 50 * n : 50 * n + 50].numpy(), None, own)
        for direction, ranks in zip(("i2t", "t2i"), both, strict=True):
            recalls = [100 * hit_rate(ranks, k) for k in (1, 5, 10)]
            tables[direction].append([*recalls, sum(recalls), median_rank(ranks), mean_rank(ranks)])
    for direction, table in tables.items():
        expected = recorded[f"out.{direction}_nfold_{name}"]
        np.testing.assert_allclose(np.mean(table, axis=0), expected, rtol=1e-6)


@given(j=st.integers(1, 4), other=st.integers(1, 4), seed=SEEDS, scale=st.floats(0.5, 15), shift=st.floats(-5, 15))
@settings(max_examples=30, deadline=None)
def test_probability_by_its_definition(j: int, other: int, seed: int, scale: float, shift: float) -> None:
    similarity = SampledMatchProbability(scale, shift)
    a, b = samples(3, j, 5, seed), samples(4, other, 5, seed + 1)
    apart = a.vectors[:, None, :, None] - b.vectors[None, :, None]
    distance = (apart.square().sum(-1) + 1e-6).sqrt()
    logits = 2 * (similarity.shift.detach().double() - similarity.scale.detach().double() * distance)
    scores = similarity(a, b).detach()
    torch.testing.assert_close(similarity.probability(scores), logits.sigmoid().mean((2, 3)), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(similarity(b, a).T, scores, rtol=0, atol=1e-9)
    assert bool(torch.isfinite(scores).all())


@given(seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_one_draw_is_a_logistic_of_the_distance_with_both_scalars_doubled(seed: int) -> None:
    a, b = samples(3, 1, 5, seed), samples(4, 1, 5, seed + 1)
    distance = (torch.cdist(a.vectors[:, 0], b.vectors[:, 0]).square() + 1e-6).sqrt()
    torch.testing.assert_close(SampledMatchProbability(3.0, 2.0)(a, b), 4.0 - 6.0 * distance, rtol=0, atol=1e-9)


@given(j=st.integers(2, 7), seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_equal_draws_are_one_draw(j: int, seed: int) -> None:
    a, b = samples(3, 1, 5, seed), samples(4, 1, 5, seed + 1)
    many = Samples(a.vectors.expand(-1, j, -1)), Samples(b.vectors.expand(-1, 3, -1))
    similarity = SampledMatchProbability(3.0, 2.0)
    torch.testing.assert_close(similarity(*many), similarity(a, b), rtol=0, atol=1e-9)


def test_farther_is_less_likely_and_one_half_at_shift_over_scale() -> None:
    similarity = SampledMatchProbability(scale=4.0, shift=6.0)
    query = Samples(torch.zeros(1, 7, 1))
    scores = similarity(query, Samples(torch.tensor([0.0, 1.0, 1.5, 2.0])[:, None, None].expand(-1, 7, 1)))[0]
    assert bool((scores.diff() < 0).all())
    assert similarity.probability(scores)[2].item() == pytest.approx(0.5, abs=1e-5)


def test_log_odds_stay_finite_and_ordered_where_the_probability_is_zero_or_one() -> None:
    query = Samples(torch.zeros(1, 2, 1))
    gallery = Samples(torch.tensor([0.0, 10.0, 20.0])[:, None, None].expand(-1, 2, 1).clone().requires_grad_())
    similarity = SampledMatchProbability(scale=15.0, shift=60.0)
    scores = similarity(query, gallery)[0]
    assert similarity.probability(scores).tolist() == [1.0, 0.0, 0.0]
    assert scores.tolist() == pytest.approx([119.97, -180.0, -480.0], rel=1e-4)
    similarity.zero_grad()
    scores[1:].sum().backward()
    assert similarity.scale.grad is not None and float(similarity.scale.grad) == pytest.approx(-60.0, rel=1e-4)


@pytest.mark.parametrize("spread", [1.0, 1e-2, 1e-4, 0.0])
def test_float32_follows_float64_down_to_coinciding_draws(spread: float) -> None:
    draw = torch.Generator().manual_seed(0)
    center = functional.normalize(torch.randn(1, 1, 256, generator=draw), dim=-1)
    a, b = (Samples(center + spread * torch.randn(8, 7, 256, generator=draw) / 16) for _ in range(2))
    similarity = SampledMatchProbability()
    exact = similarity(a.to(torch.float64), b.to(torch.float64))
    torch.testing.assert_close(similarity(a, b).double(), exact, rtol=1e-5, atol=1e-2)


def test_the_cheap_proxy_finds_what_the_draws_find() -> None:
    a, b = (samples(n, 4, 16, n, noise=0.1) for n in (20, 200))
    similarity = SampledMatchProbability()
    near = (similarity.proxy(a, "query") @ similarity.proxy(b, "gallery").T).argsort(dim=1, descending=True)[:, :40]
    best = similarity(a, b).argmax(dim=1)
    assert float((near == best[:, None]).any(dim=1).double().mean()) >= 0.95


def test_products_of_all_draws() -> None:
    a, b = samples(3, 2, 5, 0), samples(4, 3, 5, 1)
    expected = torch.einsum("qjd,gld->qg", a.vectors, b.vectors)
    torch.testing.assert_close(SampleProducts()(a, b), expected, rtol=0, atol=1e-12)
