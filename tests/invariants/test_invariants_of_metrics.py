"""What metrics keep (invariant 20): bounds, orders between them, and rankings that an ensemble must not change."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from invariant_worlds import model_of
from torch import Tensor

import manymatch as mm
from manymatch.data.matches import Matches
from manymatch.data.pairs import Pairs
from manymatch.embeddings import Points
from manymatch.evaluation import hit_rate, map_at_r, r_precision, rank, rank_scores
from manymatch.evaluation.ensemble import Joined, MeanScore
from manymatch.evaluation.protocols import Direction
from manymatch.evaluation.protocols.own import table
from manymatch.evaluation.ranks import Ranks
from manymatch.similarity import Similarity

FEW = settings(max_examples=30, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)


def world(seed: int, images: int, captions: int) -> tuple[np.ndarray, Matches]:
    """Whole-number scores with ties (i, 5 i or so), every image with captions of its own."""
    draw = np.random.default_rng(seed)
    owner = np.repeat(np.arange(images), captions)
    return draw.integers(0, 6, (images, images * captions)), Matches.from_owner(owner, images)


def rsum(i2t: Ranks, t2i: Ranks) -> float:
    both = [Direction(n, r, np.zeros(len(r.positives), np.int64), "expected") for n, r in (("i2t", i2t), ("t2i", t2i))]
    return next(found.measure.value for found in table(both) if found.metric == "RSUM")


@given(seed=SEEDS, images=st.integers(1, 12), captions=st.integers(1, 5))
@FEW
def test_recall_grows_with_k_and_rsum_is_at_most_600(seed: int, images: int, captions: int) -> None:
    scores, own = world(seed, images, captions)
    both = rank_scores(scores, None, own)
    for ranks in both:
        assert all(low <= high + 1e-12 for low, high in pairwise(hit_rate(ranks, k) for k in (1, 5, 10)))
        assert map_at_r(ranks) <= r_precision(ranks) + 1e-12
    assert 0 <= rsum(*both) <= 600 + 1e-9
    perfect = rank_scores(own.dense() * 7 - scores * 0.5, None, own)
    assert rsum(*perfect) == pytest.approx(600)
    spoiled = own.dense() * 7.0
    spoiled[0, 0] = -1.0
    if images > 1 and captions == 1:
        assert rsum(*rank_scores(spoiled, None, own)) < 600 - 1e-9


@given(seed=SEEDS, images=st.integers(2, 8))
@FEW
def test_of_one_right_answer_all_three_are_the_same(seed: int, images: int) -> None:
    scores, own = world(seed, images, 1)
    for ranks in rank_scores(scores, None, own):
        assert hit_rate(ranks, 1) == pytest.approx(r_precision(ranks)) == pytest.approx(map_at_r(ranks))


@given(seed=SEEDS, images=st.integers(1, 6), captions=st.integers(1, 3), labels=st.integers(1, 6))
@FEW
def test_plausible_matches(seed: int, images: int, captions: int, labels: int) -> None:
    """Items are plausible for a query when their labels differ in at most zeta places (PMRP's rule)."""
    draw = np.random.default_rng(seed)
    has = draw.random((images, labels)) < 0.5
    apart = (has[:, None] != has[None]).sum(-1)[:, np.repeat(np.arange(images), captions)]
    before = np.zeros(images, np.int64)
    for zeta in (0, 1, 2):
        plausible = Matches.from_dense(apart <= zeta)
        both = rank_scores(-apart, None, plausible)
        assert all(r_precision(ranks) == pytest.approx(1.0) for ranks in both)
        assert bool((both[0].positives >= before).all()) and bool((both[0].positives >= captions).all())
        before = both[0].positives


class Table(Similarity):
    """`factor * table[query, gallery] + shift`; a query's first number is its row, an item's its column."""

    kinds = ("points",)

    def __init__(self, table: Tensor, factor: float = 1.0, shift: float = 0.0) -> None:
        super().__init__()
        self.table, self.factor, self.shift = table, factor, shift

    def forward(self, queries: Points, gallery: Points) -> Tensor:
        rows, columns = (side.vectors[:, 0].long() for side in (queries, gallery))
        # Images count from 0 and captions from 1,000, whoever asks.
        if len(rows) and int(rows[0]) >= 1000:
            return self.forward(gallery, queries).T
        return self.factor * self.table[rows][:, columns - 1000] + self.shift

    def proxy(self, embedding: Points, role: str) -> None:
        return None


@given(
    seed=SEEDS,
    images=st.integers(2, 6),
    captions=st.integers(1, 3),
    factor=st.sampled_from([0.25, 1.0, 3.0, 1024.0]),
    shift=st.integers(-9, 9),
)
@FEW
def test_the_mean_with_itself_or_a_positive_affine_copy_keeps_every_rank(
    seed: int, images: int, captions: int, factor: float, shift: int
) -> None:
    scores, own = world(seed, images, captions)
    table = torch.from_numpy(scores).float()
    left = Points(torch.arange(float(images))[:, None])
    right = Points(1000 + torch.arange(float(images * captions))[:, None])
    one = Table(table)
    plain = rank(one, left, right, own)
    for other in (one, Table(table, factor, float(shift))):
        both = rank(MeanScore([one, other]), Joined([left, left]), Joined([right, right]), own)
        for found, wanted in zip(both, plain, strict=True):
            assert found.above.tolist() == wanted.above.tolist() and found.tied.tolist() == wanted.tied.tolist()


def test_an_ensemble_of_a_model_with_itself_is_the_model(featured: Pairs) -> None:
    few = featured.take(range(24))
    for name in ("vsepp", "dive", "msrm"):
        model = model_of(name, few)
        alone, twice = (mm.evaluate(m, few, protocol=["own", "matches"]).rows for m in (model, [model, model]))
        ranked = [r["value"] for r in twice if r["run"] == f"{name}+{name}"]
        assert ranked == [r["value"] for r in alone if r["protocol"]][: len(ranked)] and len(ranked) > 10
