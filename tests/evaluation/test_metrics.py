from fractions import Fraction
from itertools import pairwise, permutations, product
from math import log2
from statistics import median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manymatch.data.matches import Matches
from manymatch.errors import DataError, UnknownName
from manymatch.evaluation.metrics import hit_rate, map_at_r, mean_rank, median_rank, ndcg, queries, r_precision
from manymatch.evaluation.ranks import Ranks, rank_scores

TIES = ("expected", "optimistic", "pessimistic")


def orders(scores: np.ndarray) -> list[list[int]]:
    """Every order of the gallery that the scores allow, best first."""
    groups = [np.flatnonzero(scores == value).tolist() for value in sorted(set(scores.tolist()), reverse=True)]
    return [[item for part in parts for item in part] for parts in product(*(permutations(g) for g in groups))]


def of_order(order: list[int], right: set[int], k: int) -> dict[str, Fraction]:
    """Each metric of one order of one query, from its definition."""
    hits = [item in right for item in order]
    r = len(right)
    precision = [Fraction(sum(hits[: n + 1]), n + 1) for n in range(len(hits))]
    return {
        "hit": Fraction(any(hits[:k])),
        "rank": Fraction(hits.index(True) + 1),
        "rp": precision[r - 1],
        "map": sum((precision[n] for n in range(r) if hits[n]), Fraction(0)) / r,
        "ndcg": discounted(hits) / discounted([True] * r),
        "ndcg@k": discounted(hits[:k]) / discounted([True] * min(r, k)),
    }


def discounted(hits: list[bool]) -> Fraction:
    return sum((Fraction(1 / log2(2 + n)) for n, hit in enumerate(hits) if hit), Fraction(0))


def reference(scores: np.ndarray, dense: np.ndarray, k: int, ties: str) -> dict[str, float]:
    """Mean over queries of each metric over all orders: their average, or the best or the worst of them."""
    found: list[dict[str, Fraction]] = []
    middles: list[Fraction] = []
    for line, right in zip(scores, dense, strict=True):
        if not right.any():
            continue
        each = [of_order(order, set(np.flatnonzero(right)), k) for order in orders(line)]
        columns = {name: [values[name] for values in each] for name in each[0]}
        if ties == "expected":
            found.append({name: sum(column, Fraction(0)) / len(each) for name, column in columns.items()})
            middles.append((min(columns["rank"]) + max(columns["rank"])) / 2)
        else:
            lucky = ties == "optimistic"
            found.append({n: min(c) if (n == "rank") == lucky else max(c) for n, c in columns.items()})
            middles.append(found[-1]["rank"])
    out = {name: float(sum(values[name] for values in found) / len(found)) for name in found[0]}
    ordered = sorted(middles)
    same = ordered[(len(ordered) - 1) // 2] == ordered[len(ordered) // 2]
    out["median"] = float(median(ordered) if same else median(ordered) // 1)
    return out


@st.composite
def small(draw):
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 5)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dense = rng.random(shape) < draw(st.sampled_from([0.2, 0.5, 0.8]))
    dense[rng.integers(shape[0]), rng.integers(shape[1])] = True
    return rng.integers(0, draw(st.integers(1, 4)), shape), dense


@settings(max_examples=80)
@given(small(), st.integers(1, 6), st.sampled_from(TIES))
def test_metrics_equal_their_definitions_over_every_order_of_the_ties(case, k, ties):
    scores, dense = case
    expected = reference(scores, dense, k, ties)
    ranks, _ = rank_scores(scores, None, Matches.from_dense(dense))
    assert hit_rate(ranks, k, ties) == pytest.approx(expected["hit"], abs=1e-12)
    assert mean_rank(ranks, ties) == pytest.approx(expected["rank"], abs=1e-12)
    assert median_rank(ranks, ties) == expected["median"]
    assert r_precision(ranks, ties) == pytest.approx(expected["rp"], abs=1e-12)
    assert map_at_r(ranks, ties) == pytest.approx(expected["map"], abs=1e-12)
    assert ndcg(ranks, None, ties) == pytest.approx(expected["ndcg"], abs=1e-12)
    assert ndcg(ranks, k, ties) == pytest.approx(expected["ndcg@k"], abs=1e-12)


@given(small(), st.integers(1, 6))
def test_expected_lies_between_the_luckiest_and_the_unluckiest(case, k):
    ranks, _ = rank_scores(case[0], None, Matches.from_dense(case[1]))
    for metric in (lambda t: hit_rate(ranks, k, t), lambda t: r_precision(ranks, t), lambda t: map_at_r(ranks, t)):
        assert metric("pessimistic") - 1e-12 <= metric("expected") <= metric("optimistic") + 1e-12
    assert mean_rank(ranks, "optimistic") <= mean_rank(ranks) <= mean_rank(ranks, "pessimistic")


@given(small())
def test_orders_between_metrics(case):
    ranks, _ = rank_scores(case[0], None, Matches.from_dense(case[1]))
    hits = [hit_rate(ranks, k) for k in range(1, 7)]
    assert all(a <= b + 1e-12 for a, b in pairwise(hits))
    assert hits[-1] == 1.0
    assert map_at_r(ranks) <= r_precision(ranks) + 1e-12


@given(st.integers(0, 2**32 - 1))
def test_with_one_right_answer_all_three_are_the_same(seed):
    rng = np.random.default_rng(seed)
    own = Matches.from_owner(rng.integers(0, 6, 20), 6)
    _, ranks = rank_scores(rng.integers(0, 5, (6, 20)), None, own)
    assert hit_rate(ranks, 1) == pytest.approx(r_precision(ranks)) == pytest.approx(map_at_r(ranks))


@pytest.mark.parametrize("images", [1, 7, 40, 1000])
def test_equal_scores_give_chance(images):
    captions = 5 * images
    own = Matches.from_owner(np.arange(captions) // 5, images)
    i2t, t2i = rank_scores(np.zeros((images, captions)), None, own)
    for k in (1, 5, 10):
        assert hit_rate(t2i, k) == pytest.approx(min(k / images, 1), rel=1e-12)
        missed = np.prod([max(captions - 5 - j, 0) / (captions - j) for j in range(min(k, captions))])
        assert hit_rate(i2t, k) == pytest.approx(1 - missed, rel=1e-12)
    assert mean_rank(t2i) == median_rank(t2i) == (images + 1) / 2
    assert mean_rank(i2t) == pytest.approx((captions + 1) / 6)
    assert r_precision(i2t) == pytest.approx(5 / captions)


def test_a_perfect_order_is_exactly_one():
    own = Matches.from_owner(np.arange(70) // 7, 10)
    for ranks in rank_scores(own.dense().astype(float), None, own):
        assert hit_rate(ranks, 1) == r_precision(ranks) == 1.0
        assert map_at_r(ranks) == pytest.approx(1.0, abs=1e-12)
        assert ndcg(ranks) == ndcg(ranks, 10) == pytest.approx(1.0, abs=1e-12)
        assert median_rank(ranks) == mean_rank(ranks) == 1.0


@given(small(), st.integers(0, 2**16))
def test_order_of_items_does_not_matter(case, seed):
    scores, dense = case
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(len(scores)), rng.permutation(scores.shape[1])
    for ranks, mixed in zip(
        rank_scores(scores, None, Matches.from_dense(dense)),
        rank_scores(scores[rows][:, columns], None, Matches.from_dense(dense[rows][:, columns])),
        strict=True,
    ):
        for metric in (median_rank, mean_rank, r_precision, map_at_r, ndcg, lambda r: hit_rate(r, 2)):
            assert metric(ranks) == pytest.approx(metric(mixed), abs=1e-12)


def test_queries_without_a_right_answer_are_left_out():
    scores = np.array([[3, 2, 1], [1, 2, 3], [3, 2, 1]])
    ranks, back = rank_scores(scores, None, Matches.from_dense([[1, 0, 0], [0, 0, 0], [0, 1, 1]]))
    assert queries(ranks) == 2
    assert hit_rate(ranks, 1) == 0.5
    assert (mean_rank(ranks), median_rank(ranks)) == (1.5, 1.0)
    assert r_precision(ranks) == 0.75
    assert map_at_r(ranks) == pytest.approx((1 + (1 / 2) / 2) / 2)
    assert queries(back) == 3


def test_nothing_to_average_is_refused():
    ranks, _ = rank_scores(np.zeros((2, 3)), None, Matches.from_dense(np.zeros((2, 3))))
    for metric in (median_rank, mean_rank, r_precision, map_at_r, ndcg, lambda r: hit_rate(r, 1)):
        with pytest.raises(DataError, match="no query has a right answer"):
            metric(ranks)


def test_arguments_that_mean_nothing():
    ranks, _ = rank_scores(np.eye(2), None, Matches.from_dense(np.eye(2)))
    with pytest.raises(DataError, match="k = 0, expected at least 1"):
        hit_rate(ranks, 0)
    with pytest.raises(DataError, match="nDCG: k = 0, expected at least 1"):
        ndcg(ranks, 0)
    for metric in (
        median_rank,
        mean_rank,
        r_precision,
        map_at_r,
        lambda r, t: ndcg(r, 2, t),
        lambda r, t: hit_rate(r, 1, t),
    ):
        with pytest.raises(UnknownName, match="unknown ties 'expect': did you mean 'expected'"):
            metric(ranks, "expect")


@pytest.mark.parametrize("ties", TIES)
def test_right_answers_below_what_is_known_are_no_hit(ties: str) -> None:
    unlisted, gallery = np.full(3, 20), 20
    ranks = Ranks(np.array([0, 3]), np.arange(3), unlisted, np.zeros(3, int), gallery, depth=np.array([10]))
    assert hit_rate(ranks, 1, ties) == hit_rate(ranks, 10, ties) == 0
