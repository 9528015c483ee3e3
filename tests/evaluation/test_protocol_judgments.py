"""Graded, crowd and true-false, against their definitions on small whole numbers with ties."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations, product
from math import log2
from typing import Any

import numpy as np
import pytest
from evaluation_fakes import made_pairs
from hypothesis import given, settings
from hypothesis import strategies as st

from manymatch.data.matches import Matches
from manymatch.data.pairs import Item, Pairs
from manymatch.errors import DataError
from manymatch.evaluation import PROTOCOLS, MatrixScores, judge
from manymatch.evaluation.areas import RocArea
from manymatch.evaluation.gains import judged_precisions, ndcgs
from manymatch.evaluation.measures import resampled
from manymatch.evaluation.protocols import Measured, choose
from manymatch.evaluation.protocols.true_false import truth_of
from manymatch.evaluation.ranks import Ranking, Ranks, rank_scores

TIES = ("expected", "optimistic", "pessimistic")
SEEDS = st.integers(0, 2**32 - 1)
FEW = settings(max_examples=40)


class Grades:
    """A matrix of mean grades, 0 where nobody judged."""

    problems = ()

    def __init__(self, table: np.ndarray) -> None:
        self.table = table

    def grades(self, pairs: Pairs) -> tuple[Matches, np.ndarray]:
        judged = Matches.from_dense(self.table > 0)
        return judged, self.table[judged.images, judged.captions]


class Votes:
    """A matrix of what most people find fitting; of the last image and the last caption nobody was asked."""

    problems = ()

    def __init__(self, table: np.ndarray) -> None:
        self.table = table

    def positives(self, pairs: Pairs) -> tuple[Matches, Matches]:
        judged = np.ones_like(self.table)
        judged[-1], judged[:, -1] = False, False
        return Matches.from_dense(self.table), Matches.from_dense(judged)


def measured(
    protocol: str, pairs: Pairs, scores: np.ndarray, t2i: np.ndarray | None = None, ties: str = "expected"
) -> tuple[dict[tuple[str, str], Measured], tuple[str, ...]]:
    matrices = {"i2t": scores} if t2i is None else {"i2t": scores, "t2i": t2i}
    found = judge(MatrixScores(matrices), pairs, [protocol], ties)
    return {(each.direction, each.metric): each for each in found.measured[protocol]}, found.notes


def orders(scores: np.ndarray) -> Iterator[list[int]]:
    """Every order the scores allow, best first."""
    groups = [np.flatnonzero(scores == value).tolist() for value in sorted(set(scores.tolist()), reverse=True)]
    for parts in product(*(permutations(group) for group in groups)):
        yield [item for part in parts for item in part]


def of_ties(values: list[float], ties: str) -> float:
    return {"expected": np.mean, "optimistic": max, "pessimistic": min}[ties](values)


def gain_of(order: list[int], gains: np.ndarray, k: int) -> float:
    return sum(gains[item] / log2(place + 2) for place, item in enumerate(order[:k]))


def precision_of(order: list[int], right: np.ndarray) -> float:
    hits = [bool(right[item]) for item in order]
    return sum(sum(hits[: n + 1]) / (n + 1) for n in range(len(hits)) if hits[n]) / sum(hits)


def graded_case(seed: int, levels: int = 3) -> tuple[np.ndarray, np.ndarray, Pairs]:
    """Scores, grades in thirds, and pairs of 3 images with 2 captions each."""
    draw = np.random.default_rng(seed)
    table = draw.integers(3, 13, (3, 6)) / 3 * (draw.random((3, 6)) < 0.7)
    table[0, 0] = 4.0
    return draw.integers(0, levels, (3, 6)), table, made_pairs([2] * 3, truths={"graded": Grades(table)})


def both_ways(scores: np.ndarray, table: np.ndarray) -> Iterator[tuple[Ranks, np.ndarray, list[tuple[int, Any, Any]]]]:
    """Each direction: ranks of the judged pairs, their grades, and of each judged query (row, scores, grades)."""
    for ranks, s, g in zip(
        rank_scores(scores, None, Matches.from_dense(table > 0)), (scores, scores.T), (table, table.T), strict=True
    ):
        yield ranks, g[g > 0], [(q, s[q][g[q] > 0], g[q][g[q] > 0]) for q in range(len(g)) if g[q].any()]


@given(SEEDS, st.sampled_from(TIES), st.integers(1, 6))
@FEW
def test_ndcg_is_its_mean_over_every_order(seed: int, ties: str, k: int) -> None:
    scores, table, _ = graded_case(seed)
    for ranks, grades, each in both_ways(scores, table):
        rows, values = ndcgs(ranks, grades - 1, k, ties)
        found = dict(zip(rows.tolist(), values, strict=True))
        assert set(found) == {query for query, _, mine in each if (mine > 1).any()}
        for query, line, mine in each:
            if query in found:
                best = gain_of(sorted(range(len(mine)), key=lambda n: -mine[n]), mine - 1, k)
                every = [gain_of(order, mine - 1, k) / best for order in orders(line)]
                assert found[query] == pytest.approx(of_ties(every, ties), abs=1e-12)


@given(SEEDS, st.sampled_from(TIES))
@FEW
def test_average_precision_is_its_mean_over_every_order(seed: int, ties: str) -> None:
    scores, table, _ = graded_case(seed)
    for ranks, grades, each in both_ways(scores, table):
        rows, values = judged_precisions(ranks, grades >= 3, ties)
        found = dict(zip(rows.tolist(), values, strict=True))
        assert set(found) == {query for query, _, mine in each if (mine >= 3).any()}
        for query, line, mine in each:
            if query in found:
                every = [precision_of(order, mine >= 3) for order in orders(line)]
                assert found[query] == pytest.approx(of_ties(every, ties), abs=1e-12)


@given(SEEDS)
@FEW
def test_graded_gives_these_numbers_in_percent_over_judged_items_alone(seed: int) -> None:
    scores, table, pairs = graded_case(seed)
    found, notes = measured("graded", pairs, scores)
    for name, (ranks, grades, each) in zip(("i2t", "t2i"), both_ways(scores, table), strict=True):
        rows, values = ndcgs(ranks, grades - 1, 10)
        ndcg = found[name, "nDCG@10"]
        assert ndcg.measure.value == pytest.approx(100 * values.mean()) and ndcg.queries == len(rows)
        assert ndcg.gallery == round(np.mean([len(mine) for _, mine, _ in each]))
        assert found[name, "mAP"].measure.value == pytest.approx(100 * judged_precisions(ranks, grades >= 3)[1].mean())
        assert any(f"graded: {name} ranks the" in note for note in notes)
    # What nobody judged does not count, however high it scores.
    higher, _ = measured("graded", pairs, np.where(table > 0, scores, 99))
    assert all(higher[key].measure.value == one.measure.value for key, one in found.items())


@given(SEEDS)
@FEW
def test_spearman_is_pearson_of_mean_ranks(seed: int) -> None:
    scores, table, pairs = graded_case(seed, levels=4)
    judged = table > 0

    def ranked(values: np.ndarray) -> np.ndarray:
        return np.array([(values < v).sum() + ((values == v).sum() + 1) / 2 for v in values])

    first, second = scores[judged], table[judged]
    found, notes = measured("graded", pairs, scores)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        assert ("both", "spearman") not in found and any("spearman is left out" in note for note in notes)
        return
    one = found["both", "spearman"]
    assert one.measure.value == pytest.approx(np.corrcoef(ranked(first), ranked(second))[0, 1])
    assert one.queries == judged.sum()
    assert one.measure.images.tolist() == np.nonzero(judged)[0].tolist()


def test_spearman_reads_scores_of_image_to_text_and_each_direction_its_own() -> None:
    scores, _, pairs = graded_case(3)
    other = -scores.T
    found, _ = measured("graded", pairs, scores, other)
    plain, _ = measured("graded", pairs, scores)
    turned, _ = measured("graded", pairs, -scores)
    for key, one in found.items():
        assert one.measure.value == (turned if key[0] == "t2i" else plain)[key].measure.value
    assert plain["t2i", "nDCG@10"].measure.value != turned["t2i", "nDCG@10"].measure.value


@pytest.mark.parametrize("ties", TIES)
def test_equal_scores_are_at_chance(ties: str) -> None:
    table = np.array([[4.0, 1.0, 3.0, 0.0], [0.0, 2.0, 0.0, 1.0]])
    found, notes = measured("graded", made_pairs([2, 2], truths={"graded": Grades(table)}), np.ones((2, 4)), ties=ties)
    best = np.array([3 + 2 / log2(3), 1.0])
    every = [[gain_of(list(o), g, 10) for o in permutations(range(len(g)))] for g in ([3, 0, 2], [1, 0])]
    expected = 100 * np.mean([of_ties(values, ties) / b for values, b in zip(every, best, strict=True)])
    assert found["i2t", "nDCG@10"].measure.value == pytest.approx(expected)
    right = [precision_of(list(o), np.array([1, 0, 1])) for o in permutations(range(3))]
    assert found["i2t", "mAP"].measure.value == pytest.approx(100 * of_ties(right, ties))
    assert found["i2t", "mAP"].queries == 1
    # The chance that a note tells is the expected value, however ties are counted.
    chance = 100 * np.mean([np.mean(values) / b for values, b in zip(every, best, strict=True)])
    said = f"nDCG@10 {chance:.1f} (2 with an item above the lowest grade) and mAP {100 * np.mean(right):.1f} (1 with"
    assert any(said in note for note in notes)
    assert "graded: all scores or all grades are equal; spearman is left out" in notes


def test_queries_that_nobody_judged_are_said_and_a_wrong_protocol_explains_itself() -> None:
    table = np.array([[4.0, 1.0, 3.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    _, notes = measured("graded", made_pairs([2, 2], truths={"graded": Grades(table)}), np.arange(8).reshape(2, 4))
    assert "graded: 1 of 2 images were not judged and are left out as queries" in notes
    assert "graded: 1 of 4 captions were not judged and are left out as queries" in notes
    for name, said in (("graded", "three grades from 1 to 4"), ("crowd", "share of yes"), ("true-false", "`label`")):
        with pytest.raises(DataError, match=rf"protocol '{name}'.*{said}"):
            measured(name, made_pairs([1, 1]), np.eye(2))


@given(SEEDS, st.sampled_from(TIES))
@FEW
def test_crowd_adds_right_answers_over_the_whole_gallery(seed: int, ties: str) -> None:
    draw = np.random.default_rng(seed)
    votes = draw.random((3, 6)) < 0.3
    pairs = made_pairs([2] * 3, truths={"crowd": Votes(votes)})
    scores = draw.integers(0, 3, (3, 6))
    found, notes = measured("crowd", pairs, scores, ties=ties)
    own = pairs.matches().dense()
    right = own | votes
    assert notes == (f"crowd: {(votes & ~own).sum()} right answers beside the 6 own captions",)
    for name, s, dense in (("i2t", scores, right), ("t2i", scores.T, right.T)):
        for metric, one in (
            ("R@1", lambda order, mine: float(mine[order[0]])),
            ("R@5", lambda order, mine: float(mine[order[:5]].any())),
            ("R-precision", lambda order, mine: mine[order[: mine.sum()]].mean()),
        ):
            values = [of_ties([one(o, mine) for o in orders(line)], ties) for line, mine in zip(s, dense, strict=True)]
            assert found[name, metric].measure.value == pytest.approx(100 * np.mean(values))
    assert [metric for _, metric in found] == ["R@1", "R@5", "R@10", "R-precision", "mAP@R"] * 2


def nlvr(seed: int, images: int = 12, sentences: int = 4) -> Pairs:
    draw = np.random.default_rng(seed)
    labels = [True, False, *(draw.choice([True, False, None], images - 2))]
    return Pairs(
        [
            Item(f"i{n}", (f"sentence {draw.integers(sentences)}",), metadata={} if said is None else {"label": said})
            for n, said in enumerate(labels)
        ]
    )


@given(SEEDS, st.sampled_from(TIES))
@FEW
def test_areas_are_shares_of_pairs_ranked_right(seed: int, ties: str) -> None:
    pairs = nlvr(seed)
    scores = np.random.default_rng(seed).integers(0, 4, (12, 12))
    found, notes = measured("true-false", pairs, scores, ties=ties)
    said = [(scores[n, n], item.captions[0], item.metadata.get("label")) for n, item in enumerate(pairs)]
    tie = {"expected": 0.5, "optimistic": 1.0, "pessimistic": 0.0}[ties]
    for metric, same in (("AUC", False), ("AUC same sentence", True)):
        won = [
            1.0 if a > b else tie if a == b else 0.0
            for (a, text, x), (b, other, y) in product(said, said)
            if x is not None and y is not None and x and not y and (text == other or not same)
        ]
        if won:
            assert found["both", metric].measure.value == pytest.approx(100 * np.mean(won))
        else:
            assert ("both", metric) not in found
            assert "true-false: no sentence is true of one image and false of another; no AUC same sentence" in notes
    unlabelled = sum(label is None for _, _, label in said)
    said_so = f"true-false: {unlabelled} of 12 images have no label true or false and are left out as queries"
    assert (said_so in notes) == (unlabelled > 0)


def test_sentences_of_no_use_are_not_counted() -> None:
    labels = [("a", True), ("a", False), ("b", True), ("c", False)]
    pairs = Pairs([Item(str(n), (text,), metadata={"label": label}) for n, (text, label) in enumerate(labels)])
    found, notes = measured("true-false", pairs, np.diag([1, 2, 3, 0]))
    named = Pairs([replace(item, labels=(str(item.metadata["label"]).lower(),), metadata={}) for item in pairs])
    assert [truth_of(item) for item in named] == [truth_of(item) for item in pairs]
    assert found["both", "AUC"].measure.value == 75 and found["both", "AUC same sentence"].measure.value == 0
    assert (found["both", "AUC same sentence"].queries, found["both", "AUC same sentence"].gallery) == (1, 1)
    assert "true-false: AUC same sentence compares 1 true with 1 false pairs, within 1 sentences" in notes


def test_spelled_labels_and_what_is_measured_when_nobody_says() -> None:
    def of(*labels: object) -> Pairs:
        return Pairs([Item(str(n), ("x",), metadata={"label": label}) for n, label in enumerate(labels)])

    assert choose(None, of("True", "false")) == choose(None, of(True, False)) == ["true-false"]
    # Where every sentence is true, the own caption is a right answer.
    assert choose(None, of(True, True)) == choose(None, of("cat", 1)) == ["own"]
    assert PROTOCOLS["true-false"].ask(of("TRUE", False, "perhaps")).extra.tolist() == [True, False, False]
    with pytest.raises(DataError, match="has 0 images with a sentence labelled true and 2 labelled false"):
        PROTOCOLS["true-false"].ask(of(False, False))
    assert choose(None, made_pairs([1], truths={"graded": None, "crowd": None})) == ["own", "graded", "crowd", "judged"]


@given(SEEDS)
@FEW
def test_area_on_resampled_images_is_the_area_of_the_resample(seed: int) -> None:
    draw = np.random.default_rng(seed)
    scores, right, groups = draw.integers(0, 4, 9), draw.random(9) < 0.5, draw.integers(0, 3, 9)
    images = draw.integers(0, 5, 9)
    weights = resampled(5, 7, seed=seed)
    for kinds in (groups, np.zeros(9, np.int64)):
        drawn = RocArea(scores.astype(float), right, images, kinds).drawn(weights)
        for row, value in zip(weights, drawn, strict=True):
            taken = np.repeat(np.arange(9), row[images].astype(int))
            pairs = [(a, b) for a in taken for b in taken if right[a] and not right[b] and kinds[a] == kinds[b]]
            won = [(scores[a] > scores[b]) + 0.5 * (scores[a] == scores[b]) for a, b in pairs]
            assert value == pytest.approx(100 * np.mean(won)) if won else np.isnan(value)


class Cut:
    """A source of lists that hold the first `depth` items of each query, without scores."""

    def __init__(self, scores: np.ndarray, depth: int) -> None:
        self.scores, self.depth = scores, depth

    def ranking(self, i2t: Matches, t2i: Matches, **_: object) -> Ranking:
        return Ranking(self._cut(self.scores, i2t), self._cut(self.scores.T, t2i))

    def _cut(self, scores: np.ndarray, right: Matches) -> Ranks:
        ranks = rank_scores(scores, None, right)[0]
        out, queries = ranks.above >= self.depth, len(scores)
        return replace(
            ranks,
            above=np.where(out, ranks.gallery, ranks.above),
            tied=np.where(out, 0, ranks.tied),
            scores=None,
            depth=np.full(queries, self.depth),
        )

    def rows(self, direction: str) -> Iterator[Any]:
        raise AssertionError(direction)


def test_lists_give_what_their_order_gives_and_nothing_that_needs_scores() -> None:
    table = np.array([[4.0, 1.0, 3.0, 0.0], [0.0, 2.0, 0.0, 1.0]])
    scores = np.array([[4, 3, 2, 1], [1, 4, 3, 2]])
    pairs = made_pairs([2, 2], truths={"graded": Grades(table)})
    whole, _ = measured("graded", pairs, scores)
    for depth, kept in ((4, {"i2t", "t2i"}), (2, {"i2t", "t2i"}), (1, {"t2i"}), (0, set())):
        found = judge(Cut(scores, depth), pairs, ["graded"], "expected")
        for each in found.measured["graded"]:
            assert each.measure.value == whole[each.direction, each.metric].measure.value
        assert {each.direction for each in found.measured["graded"]} == kept
        assert (
            "graded: some i2t rankings hold too few of the judged items to order them; left out" in found.notes
        ) == ("i2t" not in kept)
        assert "graded: rankings without a score for every judged pair; spearman is left out" in found.notes
    said = Pairs([Item(str(n), ("x",), metadata={"label": label}) for n, label in enumerate((True, False))])
    found = judge(Cut(np.eye(2), 2), said, ["true-false"], "expected")
    assert not found.measured["true-false"]
    assert "true-false: rankings without a score for every own pair say nothing here; left out" in found.notes
    found = judge(Cut(np.eye(2), 2), made_pairs([1, 1]), ["uncertainty"], "expected")
    assert {each.metric for each in found.measured["uncertainty"]} == {"AURC at random", "AURC at best"}
    assert "uncertainty: t2i: its best scores are not known; AURC by score is left out" in found.notes
    assert not judge(Cut(np.eye(2), 0), made_pairs([1, 1]), ["uncertainty"], "expected").measured["uncertainty"]


# ---- what people judged right


@FEW
@given(SEEDS)
def test_judged_is_own_captions_crowd_and_experts_over_the_whole_gallery(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = made_pairs([2, 1, 3])
    shape = len(pairs), len(pairs.captions)
    scores = rng.integers(0, 6, shape).astype(np.float64)
    grades, votes = rng.integers(0, 13, shape) / 3, rng.random(shape) < 0.2
    grades[0, 0], votes[0, 0] = 3.0, True
    pairs.truths = {"graded": Grades(np.where(grades < 1, 0, grades)), "crowd": Votes(votes)}
    right = pairs.matches().dense() | votes | (grades >= 3)
    found = judge(MatrixScores({"i2t": scores}), pairs, ["judged"], "pessimistic")
    assert f"judged: {right.sum() - 6:,} right answers beside the 6 own captions" in found.notes
    values = {(one.direction, one.metric): one.measure.value for one in found.measured["judged"]}
    for side, table, truth in (("i2t", scores, right), ("t2i", scores.T, right.T)):
        precision, average, gain = [], [], []
        for row, known in zip(table, truth, strict=True):
            flags = known[np.lexsort((known, -row))]
            count = int(known.sum())
            places = np.flatnonzero(flags) + 1
            precision.append(flags[:count].mean())
            average.append(sum((n + 1) / place for n, place in enumerate(places) if place <= count) / count)
            best = sum(1 / log2(1 + place) for place in range(1, min(count, 10) + 1))
            gain.append(sum(1 / log2(1 + place) for place in places if place <= 10) / best)
        for metric, expected in (("R-precision", precision), ("mAP@R", average), ("nDCG@10", gain)):
            assert values[side, metric] == pytest.approx(100 * np.mean(expected)), (side, metric)


def test_judged_is_measured_unasked_where_it_is_wider_than_the_crowd() -> None:
    pairs = made_pairs([1, 1])
    for truths, chosen in (({}, False), ({"crowd": None}, False), ({"graded": None}, True)):
        pairs.truths = truths
        assert ("judged" in choose(None, pairs)) == chosen
    pairs.truths = {}
    with pytest.raises(DataError, match="truth 'judged': nobody judged pairs of"):
        PROTOCOLS["judged"].ask(pairs)
    pairs.truths = {"crowd": Votes(np.eye(2, dtype=bool)[::-1])}
    assert len(PROTOCOLS["judged"].ask(pairs).i2t or ()) == 4
