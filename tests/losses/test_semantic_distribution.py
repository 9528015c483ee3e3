"""The loss over which query's distribution a candidate came from: what must hold of it."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from manymatch.embeddings import Gaussians
from manymatch.errors import DataError, UnknownName
from manymatch.losses import Scores, SemanticDistribution, score
from manymatch.losses.semantic_distribution import Over
from manymatch.similarity import Mahalanobis

OVER = pytest.mark.parametrize("over", ["queries", "candidates"])


def batch(seed: int, n: int) -> tuple[Gaussians, Gaussians]:
    draw = torch.Generator().manual_seed(seed)

    def side() -> Gaussians:
        mean = functional.normalize(torch.randn(n, 4, generator=draw, dtype=torch.float64), dim=-1)
        return Gaussians(mean, torch.rand(n, 4, generator=draw, dtype=torch.float64) * 2)

    return side(), side()


@OVER
@given(seed=st.integers(0, 999), n=st.integers(2, 6))
@settings(max_examples=20, deadline=None)
def test_order_of_the_pairs_is_free(over: Over, seed: int, n: int) -> None:
    images, texts = batch(seed, n)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    term, matches = SemanticDistribution(over=over), torch.eye(n).bool()
    here, there = score(Mahalanobis(), images, texts), score(Mahalanobis(), images[order], texts[order])
    torch.testing.assert_close(term(here, matches), term(there, matches))


@OVER
@given(seed=st.integers(0, 999), n=st.integers(2, 6))
@settings(max_examples=20, deadline=None)
def test_without_sharpness_it_is_the_logarithm_of_the_queries(over: Over, seed: int, n: int) -> None:
    scores = score(Mahalanobis(), *batch(seed, n))
    found = SemanticDistribution(1e-9, over=over)(scores, torch.eye(n).bool())
    assert float(found) == pytest.approx(2 * math.log(n), abs=1e-6), "once in each direction"


@OVER
def test_candidates_at_their_own_query_with_all_others_far_cost_nothing(over: Over) -> None:
    at = Gaussians(10 * torch.eye(4), torch.zeros(4, 4))
    assert float(SemanticDistribution(over=over)(score(Mahalanobis(), at, at), torch.eye(4).bool())) < 1e-6


def test_each_direction_is_softmax_over_that_directions_queries() -> None:
    i2t, t2i = torch.tensor([[-0.1, -0.4], [-0.2, -0.3]]), torch.tensor([[-0.5, -0.1], [-0.2, -0.6]])
    matches = torch.eye(2).bool()
    tau, truth = 3.0, torch.arange(2)
    by_query = functional.cross_entropy(tau * i2t.T, truth) + functional.cross_entropy(tau * t2i.T, truth)
    by_candidate = functional.cross_entropy(tau * i2t, truth) + functional.cross_entropy(tau * t2i, truth)
    scores = Scores(i2t, t2i)
    torch.testing.assert_close(SemanticDistribution(tau)(scores, matches), by_query)
    torch.testing.assert_close(SemanticDistribution(tau, over="candidates")(scores, matches), by_candidate)


def test_shares_of_siblings_are_added_before_the_logarithm() -> None:
    # One image, listed with two captions of its own and one of another's.
    i2t = torch.zeros(2, 3)
    matches = torch.tensor([[True, True, False], [False, False, True]])
    found = SemanticDistribution(1.0)(Scores.of(i2t), matches)
    # Image to text: three candidates, each half of two queries. Text to image: image 0 has two of three queries.
    expected = math.log(2) + (-math.log(2 / 3) - math.log(1 / 3)) / 2
    assert float(found) == pytest.approx(expected)


def test_what_has_no_match_is_left_out() -> None:
    scores = torch.rand(2, 3, requires_grad=True)
    matches = torch.tensor([[True, False, False], [False, False, False]])
    for over in ("queries", "candidates"):
        loss = SemanticDistribution(over=over)(Scores.of(scores), matches)  # type: ignore[arg-type]
        (gradient,) = torch.autograd.grad(loss, scores)
        assert torch.isfinite(loss) and torch.isfinite(gradient).all()


def test_bad_settings() -> None:
    with pytest.raises(UnknownName, match="did you mean 'queries'"):
        SemanticDistribution(over="query")  # type: ignore[arg-type]
    for tau in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(DataError, match="expected a positive number"):
            SemanticDistribution(tau)
