"""Whether a model knows what it leaves open, and whether its sets are used: against definitions, with ties."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import torch
from evaluation_fakes import FakeModel, made_pairs
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from manymatch.data.matches import Matches
from manymatch.data.pairs import Pairs
from manymatch.embeddings import Boxes, Embedding, Fragments, Gaussians, Points, Samples, Sets
from manymatch.evaluation import MatrixScores, evaluate, judge
from manymatch.evaluation.areas import RiskCoverage
from manymatch.evaluation.health import closest_elements, health, slots_in_use
from manymatch.evaluation.measures import resampled
from manymatch.evaluation.protocols import Measured
from manymatch.similarity import MatchProbability, SmoothChamfer

TIES = ("expected", "optimistic", "pessimistic")
SEEDS = st.integers(0, 2**32 - 1)
FEW = settings(max_examples=40)


class Known:
    """Right answers from a matrix."""

    def __init__(self, dense: np.ndarray) -> None:
        self.dense = dense

    def matches(self, pairs: Pairs) -> Matches:
        return Matches.from_dense(self.dense)


def spread(*values: float) -> Gaussians:
    """Gaussians whose mean log-variances are these."""
    return Gaussians(torch.zeros(len(values), 2), torch.tensor(values)[:, None] + torch.tensor([[-1.0, 1.0]]))


def uncertain(
    pairs: Pairs,
    scores: np.ndarray,
    images: Embedding | None = None,
    texts: Embedding | None = None,
    ties: str = "expected",
) -> tuple[dict[tuple[str, str], Measured], tuple[str, ...]]:
    found = judge(MatrixScores({"i2t": scores}), pairs, ["uncertainty"], ties, images, texts)
    return {(each.direction, each.metric): each for each in found.measured["uncertainty"]}, found.notes


def area(order: list[int], risk: np.ndarray) -> float:
    """The area under the risk-coverage curve of one order of answering, from its definition."""
    return 100 * float(np.mean([risk[order[:n]].mean() for n in range(1, len(order) + 1)]))


def orders(confidence: np.ndarray) -> list[list[int]]:
    groups = [np.flatnonzero(confidence == value).tolist() for value in sorted(set(confidence.tolist()), reverse=True)]
    return [[item for part in parts for item in part] for parts in product(*(permutations(g) for g in groups))]


@given(SEEDS, st.integers(1, 6), st.integers(1, 6), st.sampled_from(TIES))
@FEW
def test_area_is_its_mean_over_every_order_of_the_ties(seed: int, queries: int, levels: int, ties: str) -> None:
    draw = np.random.default_rng(seed)
    confidence, risk = draw.integers(0, levels, queries).astype(float), draw.choice([0, 0.25, 0.5, 1.0], queries)
    every = [area(order, risk) for order in orders(confidence)]
    measure = RiskCoverage(confidence, risk, np.arange(queries), ties)
    # Less risk is better, so what is lucky is the smallest.
    expected = {"expected": np.mean(every), "optimistic": min(every), "pessimistic": max(every)}[ties]
    assert measure.value == pytest.approx(expected)
    assert measure.contributions(queries) is None


@given(SEEDS)
@FEW
def test_one_confidence_for_all_is_chance_and_no_order_beats_the_best(seed: int) -> None:
    draw = np.random.default_rng(seed)
    risk, rows = draw.choice([0, 0.5, 1.0], 9), np.arange(9)
    same = RiskCoverage(np.full(9, 0.3), risk, rows).value
    assert same == pytest.approx(100 * risk.mean())
    some, best = (RiskCoverage(c, risk, rows).value for c in (draw.random(9), -risk))
    assert best - 1e-9 <= some <= RiskCoverage(risk, risk, rows).value + 1e-9 and best <= same + 1e-9


@given(SEEDS, st.sampled_from(TIES))
@FEW
def test_area_on_resampled_images_is_the_area_of_the_resample(seed: int, ties: str) -> None:
    draw = np.random.default_rng(seed)
    confidence, risk = draw.integers(0, 4, 11).astype(float), draw.choice([0, 0.5, 1.0], 11)
    images = draw.integers(0, 5, 11)
    weights = resampled(5, 7, seed=seed)
    drawn = RiskCoverage(confidence, risk, images, ties).drawn(weights)
    for row, value in zip(weights, drawn, strict=True):
        taken = np.repeat(np.arange(11), row[images].astype(int))
        if len(taken):
            assert value == pytest.approx(RiskCoverage(confidence[taken], risk[taken], images[taken], ties).value)
        else:
            assert np.isnan(value)


def test_large_resamples_in_parts_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    measure = RiskCoverage(draw.random(50), draw.random(50), np.arange(50))
    whole = measure.drawn(resampled(50, 20))
    monkeypatch.setattr("manymatch.evaluation.areas._AT_ONCE", 120)
    np.testing.assert_array_equal(measure.drawn(resampled(50, 20)), whole)


def test_uncertainty_of_a_model_that_knows() -> None:
    # Image 0 fits every caption, image 1 two, image 2 its own alone; where it errs it is spread.
    known = np.array([[1, 1, 1], [0, 1, 1], [0, 0, 1]], bool)
    pairs = made_pairs([1, 1, 1], truth=Known(known))
    scores = np.array([[3, 2, 1], [1, 5, 0], [9, 4, 2]])
    found, notes = uncertain(pairs, scores, spread(3.0, 1.0, 2.0), spread(1.0, 2.0, 3.0))
    assert found["i2t", "spearman"].measure.value == pytest.approx(0.5)
    assert found["t2i", "spearman"].measure.value == pytest.approx(1.0)
    # Image to text errs for image 2 alone; by ambiguity it is answered second, by score first, at best last.
    assert found["i2t", "AURC by ambiguity"].measure.value == pytest.approx(100 * np.mean([0, 1 / 2, 1 / 3]))
    assert found["i2t", "AURC by score"].measure.value == pytest.approx(100 * np.mean([1, 1 / 2, 1 / 3]))
    assert found["i2t", "AURC at random"].measure.value == pytest.approx(100 / 3)
    assert found["i2t", "AURC at best"].measure.value == pytest.approx(100 * np.mean([0, 0, 1 / 3]))
    assert {(each.queries, each.gallery) for each in found.values()} == {(3, 3)}
    assert notes == ("uncertainty: right answers are those of protocol 'matches' (every match)",)
    metrics = ["spearman", "AURC by ambiguity", "AURC by score", "AURC at random", "AURC at best"]
    assert [metric for _, metric in found] == metrics * 2


def test_equal_scores_risk_what_chance_does() -> None:
    found, _ = uncertain(made_pairs([1] * 4), np.ones((4, 4)))
    assert {key: each.measure.value for key, each in found.items()} == {
        (side, f"AURC {by}"): 75 for side in ("i2t", "t2i") for by in ("by score", "at random", "at best")
    }
    lucky, _ = uncertain(made_pairs([1] * 4), np.ones((4, 4)), ties="optimistic")
    assert lucky["i2t", "AURC by score"].measure.value == 0


def test_what_cannot_be_told_is_left_out_and_said() -> None:
    pairs = made_pairs([1, 1])
    _, notes = uncertain(pairs, np.eye(2))
    assert "uncertainty: right answers are those of protocol 'own' (own captions)" in notes
    assert any("i2t: an ensemble, or scores from elsewhere" in note for note in notes)
    found, notes = uncertain(pairs, np.eye(2), Points(torch.eye(2)), spread(1.0, 2.0))
    assert "uncertainty: i2t: embeddings of kind points have no ambiguity of their own; rows by ambiguity" in notes[1]
    assert "uncertainty: t2i: no two queries have different numbers of right answers; spearman is left out" in notes
    assert ("t2i", "AURC by ambiguity") in found and ("i2t", "AURC by ambiguity") not in found
    known = made_pairs([1, 1], truth=Known(np.array([[1, 1], [0, 1]], bool)))
    found, notes = uncertain(known, np.eye(2), spread(1.0, 1.0), spread(1.0, 2.0))
    assert "uncertainty: i2t: every ambiguity is the same; spearman is left out" in notes
    assert found["i2t", "AURC by ambiguity"].measure.value == found["i2t", "AURC at random"].measure.value


class Votes:
    """All say yes to image 0 with captions 0 and 1, no to image 1 with caption 0; of image 2 nobody was asked."""

    def positives(self, pairs: Pairs) -> tuple[Matches, Matches]:
        return Matches.of([0, 0], [0, 1], (3, 3)), Matches.of([0, 0, 1], [0, 1, 0], (3, 3))


def test_right_answers_are_counted_only_where_people_were_asked() -> None:
    pairs = made_pairs([1, 1, 1], truths={"crowd": Votes()})
    found, notes = uncertain(pairs, np.eye(3), spread(2.0, 1.0, 9.0), spread(2.0, 3.0, -9.0))
    for side, expected in (("i2t", 1), ("t2i", 1)):
        one = found[side, "spearman"]
        assert (one.measure.value, one.queries) == (pytest.approx(expected), 2)
        assert found[side, "AURC by score"].queries == 3
        said = "2 of 3 queries were looked at for more right answers than their own; spearman is over these"
        assert f"uncertainty: {side}: {said}" in notes
    assert "uncertainty: right answers are those of protocol 'crowd' (own captions and crowd)" in notes


def test_uncertainty_of_a_model_from_evaluate() -> None:
    pairs = made_pairs([1, 1, 1])
    draw = torch.Generator().manual_seed(0)
    items = Gaussians(torch.randn(3, 4, generator=draw), torch.randn(3, 4, generator=draw))
    model = FakeModel(items, items, MatchProbability())
    report = evaluate(model, pairs, protocol="uncertainty", resamples=20)
    row = next(row for row in report.rows if row["metric"] == "AURC by ambiguity")
    assert row["low"] <= row["value"] <= row["high"] and row["truth"] == "widest truth"
    assert not [each for each in evaluate(model, pairs).rows if each["protocol"] == "uncertainty"]
    twice = evaluate([model, model], pairs, protocol="uncertainty", resamples=0)
    assert not [each for each in twice.rows if "ambiguity" in each["metric"]]
    assert any("an ensemble" in note for note in twice.notes)


def test_every_kind_says_how_much_it_leaves_open() -> None:
    wide = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]]])
    for embedding, expected in (
        (Sets(wide), [1.0, 0.0]),
        (Samples(wide), [0.5, 0.0]),
        (Gaussians(torch.zeros(2, 2), torch.tensor([[0.0, 2.0], [1.0, -1.0]])), [1.0, 0.0]),
        (Boxes(torch.zeros(2, 2), torch.tensor([[1.0, 3.0], [0.0, 0.0]])), [2.0, 0.0]),
    ):
        found = embedding.ambiguity()
        assert found is not None and found.tolist() == pytest.approx(expected)
        assert embedding[:1].ambiguity().shape == (1,)
    assert Points(torch.eye(2)).ambiguity() is None
    assert Fragments(torch.ones(1, 2, 3), torch.ones(1, 2, dtype=torch.bool), torch.ones(1, 3)).ambiguity() is None


def sets(seed: int, n: int, k: int, *, whole: bool = False) -> Sets:
    """Random sets; whole-number coordinates give many ties."""
    draw = torch.Generator().manual_seed(seed)
    if whole:
        return Sets(torch.randint(-1, 2, (n, k, 2), generator=draw).float())
    return Sets(normalize(torch.randn(n, k, 5, generator=draw), dim=-1))


@given(st.integers(0, 2**31), st.booleans(), st.integers(1, 4), st.integers(1, 3))
@FEW
def test_winners_are_the_closest_pair_of_each_match(seed: int, whole: bool, k: int, other: int) -> None:
    pairs = made_pairs([2, 0, 3, 1])
    images, texts = sets(seed, 4, k, whole=whole), sets(seed + 1, 6, other, whole=whole)
    ours, theirs = closest_elements(images, texts, pairs.matches())
    won: tuple[set, set] = (set(), set())
    for n, (image, caption) in enumerate(zip(pairs.matches().images, pairs.matches().captions, strict=True)):
        cosines = images.elements[image] @ texts.elements[caption].T
        if whole:
            best = next((a, b) for a, b in product(range(k), range(other)) if cosines[a, b] == cosines.max())
            assert (ours[n], theirs[n]) == best
        assert float(cosines[ours[n], theirs[n]]) == pytest.approx(float(cosines.max()), abs=1e-6)
        won[0].add((image, ours[n])), won[1].add((caption, theirs[n]))
    rows = {(row["direction"], row["metric"]): row for row in health(images, texts, pairs.matches())}
    assert {row["bank"] for row in rows.values()} == {None}, "no ranking"
    assert rows["i2i", "winning elements"]["value"] == pytest.approx(100 * len(won[0]) / (4 * k))
    assert rows["t2t", "winning elements"]["value"] == pytest.approx(100 * len(won[1]) / (6 * other))
    assert rows["t2t", "winning elements"]["value"] <= 100 / other + 1e-9
    for slots, size in ((ours, k), (theirs, other)):
        assert 1 / size - 1e-12 <= slots_in_use(slots, size) <= 1 + 1e-12


def test_blocks_of_any_size_find_the_same_winners(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs, images, texts = made_pairs([2] * 9), sets(1, 9, 3, whole=True), sets(2, 18, 2, whole=True)
    whole = closest_elements(images, texts, pairs.matches())
    for size in (1, 4, 17, 18):
        monkeypatch.setattr("manymatch.evaluation.health._AT_ONCE", size)
        for found, expected in zip(closest_elements(images, texts, pairs.matches()), whole, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_a_collapsed_set_has_one_winner() -> None:
    pairs = made_pairs([3, 3])
    same = Sets(torch.eye(4)[:1].repeat(6, 4, 1))
    rows = {(r["direction"], r["metric"]): r["value"] for r in health(same[:2], same, pairs.matches())}
    assert rows["i2i", "winning elements"] == rows["t2t", "winning elements"] == 25
    assert rows["i2i", "effective slots"] == rows["t2t", "effective slots"] == 25


def test_slots_in_use_is_the_exponential_of_entropy() -> None:
    assert slots_in_use(np.array([0, 1, 2, 3]), 4) == pytest.approx(1)
    assert slots_in_use(np.array([2, 2, 2]), 4) == pytest.approx(1 / 4)
    assert slots_in_use(np.array([0, 0, 0, 1]), 2) == pytest.approx((4 / 3) ** 0.75 * 4**0.25 / 2)


def test_health_without_matches_looks_at_no_pair_and_other_kinds_have_no_rows() -> None:
    items, points = sets(0, 3, 2), Points(torch.eye(3))
    assert [row["metric"] for row in health(items, items)] == ["log circular variance"] * 2
    mixed = list(health(points, items, made_pairs([1, 1, 1]).matches()))
    assert [(row["direction"], row["metric"]) for row in mixed] == [("t2t", "log circular variance")]
    assert not list(health(points, points, made_pairs([1, 1, 1]).matches()))


def test_evaluate_shows_winners() -> None:
    pairs, items = made_pairs([1, 1, 1]), sets(0, 3, 2)
    report = evaluate(FakeModel(items, items, SmoothChamfer()), pairs, resamples=0)
    # An item's closest element to itself is one of its own, and its mate.
    assert report.value("winning elements", "i2i", "health") == 50
    assert report.value("effective slots", "t2t", "health") >= 50
