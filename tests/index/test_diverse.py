"""Maximal marginal relevance: duplicates step back, the best stays first, the scale of scores does not matter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from manymatch.embeddings import Boxes, Embedding, Fragments, Gaussians, GaussianSets, Points, Samples, Sets
from manymatch.errors import DataError
from manymatch.index.answers.diverse import mmr

KINDS = ["points", "sets", "gaussian_sets", "samples", "gaussians", "boxes", "fragments"]


def of_kind(kind: str, vectors: torch.Tensor) -> Embedding:
    """Items (n, d) -> an embedding of that kind whose items lie there; those of several elements have three near it."""
    n, d = vectors.shape
    noise = torch.randn(n, 3, d, generator=torch.Generator().manual_seed(9)) * 0.02
    near = vectors[:, None] + noise
    return {
        "points": lambda: Points(vectors),
        "sets": lambda: Sets(torch.nn.functional.normalize(near, dim=-1)),
        "gaussian_sets": lambda: GaussianSets(torch.nn.functional.normalize(near, dim=-1), near[..., 0]),
        "samples": lambda: Samples(near),
        "gaussians": lambda: Gaussians(vectors, torch.zeros(n, d)),
        "boxes": lambda: Boxes(vectors, torch.ones(n, d)),
        "fragments": lambda: Fragments(near, torch.ones(n, 3).bool(), vectors),
    }[kind]()


def scene(seed: int = 0, n: int = 40, d: int = 16) -> torch.Tensor:
    """Positions 0 to 3 are one picture taken four times, all others their own."""
    vectors = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    vectors[1:4] = vectors[0] + 0.01 * vectors[1:4]
    return vectors


@pytest.mark.parametrize("kind", KINDS)
def test_of_near_duplicates_one_stays_in_front(kind: str) -> None:
    scores = np.linspace(1.0, 0.5, 40)
    found = mmr(scores, of_kind(kind, scene()), 8)
    assert found[0] == 0
    assert not set(found[1:].tolist()) & {1, 2, 3}
    assert len(set(found.tolist())) == 8


@pytest.mark.parametrize("kind", KINDS)
def test_balance_one_is_the_plain_order(kind: str) -> None:
    scores = np.random.default_rng(0).standard_normal(40)
    assert mmr(scores, of_kind(kind, scene()), 40, balance=1.0).tolist() == np.argsort(-scores).tolist()


@given(
    seed=st.integers(0, 500),
    balance=st.sampled_from([0.0, 0.3, 0.5, 0.8, 1.0]),
    times=st.floats(1e-3, 1e3),
    plus=st.floats(-100, 100),
)
def test_moving_and_stretching_the_scores_changes_nothing(seed: int, balance: float, times: float, plus: float) -> None:
    items = Points(scene(seed))
    scores = np.random.default_rng(seed).standard_normal(40)
    plain = mmr(scores, items, 15, balance)
    assert mmr(times * scores + plus, items, 15, balance).tolist() == plain.tolist()
    assert plain[0] == scores.argmax()
    assert len(set(plain.tolist())) == 15


@given(seed=st.integers(0, 500), kind=st.sampled_from(KINDS))
def test_the_order_of_the_pool_does_not_matter(seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    items, scores, order = of_kind(kind, scene(seed)), rng.standard_normal(40), rng.permutation(40)
    assert order[mmr(scores[order], items[order], 12)].tolist() == mmr(scores, items, 12).tolist()


def test_points_follow_the_paper() -> None:
    items, rng = Points(scene(5)), np.random.default_rng(5)
    scores, balance = np.sort(rng.standard_normal(40))[::-1].copy(), 0.4
    unit = torch.nn.functional.normalize(items.vectors, dim=-1)
    cosines = (unit @ unit.T).double().numpy()
    relevance = (scores - scores[1:].mean()) / scores[1:].std() * cosines[0, 1:].std()
    taken = [0]
    while len(taken) < 10:
        left = [n for n in range(40) if n not in taken]
        taken.append(max(left, key=lambda n: balance * relevance[n] - (1 - balance) * cosines[n, taken].max()))
    assert mmr(scores, items, 10, balance).tolist() == taken


def test_a_set_is_covered_by_several_others_together() -> None:
    """The third answer repeats half of the first and half of the second; the fourth is as good and new."""
    axis = torch.eye(8)
    items = Sets(torch.stack([axis[[0, 1]], axis[[2, 3]], axis[[1, 2]], axis[[4, 5]]]))
    scores = np.array([1.0, 0.9, 0.8, 0.8])
    assert mmr(scores, items, 3, balance=0.5).tolist() == [0, 1, 3]


def test_what_lies_in_a_narrow_cone_is_told_apart_too() -> None:
    """A direction that all share leaves cosines near one; likeness is weighed by how it differs."""
    vectors = torch.nn.functional.normalize(scene(), dim=-1)
    cone = torch.cat([vectors, torch.full((40, 1), 5.0)], dim=1)
    found = mmr(np.linspace(1.0, 0.5, 40), Points(cone), 8)
    assert not set(found[1:].tolist()) & {1, 2, 3}


def test_equals_come_in_the_order_of_their_scores_then_positions() -> None:
    same = Sets(torch.nn.functional.normalize(torch.ones(37, 3, 5), dim=-1))
    assert mmr(np.zeros(37), same, 37).tolist() == list(range(37))
    assert mmr(np.arange(37.0), same, 37).tolist() == list(range(36, -1, -1))
    assert mmr(np.arange(3.0), same[:3], 10, balance=0.0).tolist() == [2, 1, 0]


@pytest.mark.parametrize("n, d", [(7, 513), (9, 257), (33, 255)])
def test_equals_stay_equal_whatever_the_last_digits_of_a_product(n: int, d: int) -> None:
    for seed in range(5):
        same = torch.randn(1, d, generator=torch.Generator().manual_seed(seed)).repeat(n, 1)
        assert mmr(np.zeros(n), Points(same), n).tolist() == list(range(n))


def test_as_many_as_asked_and_there_are() -> None:
    items = Points(scene())
    assert mmr(np.zeros(40), items, 0).tolist() == []
    assert mmr(np.arange(40.0), items, 1).tolist() == [39]
    assert mmr(np.arange(40.0), items, 2)[0] == 39
    assert sorted(mmr(np.arange(40.0), items, 99).tolist()) == list(range(40))
    assert mmr(np.empty(0), items[:0], 5).tolist() == []
    assert mmr(np.ones(1), items[:1], 5).tolist() == [0]
    assert sorted(mmr(np.array([1.0, 2.0]), items[:2], 5).tolist()) == [0, 1]


def test_what_cannot_be_balanced_is_said() -> None:
    items = Points(scene())
    with pytest.raises(DataError, match=r"shape \(39,\) for 40 answers"):
        mmr(np.zeros(39), items, 3)
    with pytest.raises(DataError, match="score 2 is not finite"):
        mmr(np.array([0.0, 1.0, np.nan]), items[:3], 3)
    with pytest.raises(DataError, match="count -1"):
        mmr(np.zeros(40), items, -1)
    for balance in (-0.1, 1.1, float("nan")):
        with pytest.raises(DataError, match="balance"):
            mmr(np.zeros(40), items, 3, balance)
