"""Labels as truth: one path for few matching pairs and one for many, against brute force, chance and recordings."""

from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_fakes import FakeModel
from hypothesis import given, settings
from hypothesis import strategies as st

from manymatch.data.matches import Matches
from manymatch.data.pairs import Item, Pairs
from manymatch.embeddings import Points, Samples
from manymatch.errors import DataError
from manymatch.evaluation import MatrixScores, evaluate, judge, rank_scores
from manymatch.evaluation import scores as scores_module
from manymatch.evaluation.dense import ranks_of_rows
from manymatch.evaluation.metrics import hit_rate, map_at_r, ndcg, r_precision
from manymatch.evaluation.protocols import labels as module
from manymatch.evaluation.protocols.labels import Labels
from manymatch.similarity import SampledMatchProbability, SampleProducts

RECORDED = Path(__file__).parents[1] / "parity" / "pcme_evaluator.npz"
METRICS = ("R-precision", "mAP@R", "nDCG", "nDCG@10", "R@1")


def classed(labels, captions=None, **more):
    """Image n has this label (None: none; a list: several) and so many captions, one if not said."""
    counts = captions if captions is not None else [1] * len(labels)
    items = [
        Item(f"i{n}", tuple(f"caption {n} {m}" for m in range(count)), labels=_names(label))
        for n, (label, count) in enumerate(zip(labels, counts, strict=True))
    ]
    return Pairs(items, name="made", **more)


def _names(label):
    return () if label is None else (label,) if isinstance(label, str) else tuple(label)


def measured(scores, pairs, ties="expected", few=None):
    """(direction, metric) -> what was measured, and the notes; more than `few` matching pairs are read from rows."""
    matrices = scores if isinstance(scores, dict) else {"i2t": scores}
    with pytest.MonkeyPatch.context() as patch:
        if few is not None:
            patch.setattr(module, "_FEW_PAIRS", few)
        found = judge(MatrixScores(matrices), pairs, ["labels"], ties)
    return {(one.direction, one.metric): one for one in found.measured["labels"]}, found.notes


def values(found):
    return {name: one.measure.value for name, one in found.items()}


def sharing(pairs):
    """(i, c) by comparing every two label lists."""
    sets = [set(item.labels) for item in pairs]
    return np.array([[bool(mine & sets[image]) for image in pairs.owner] for mine in sets])


@st.composite
def scored(draw):
    """Images with none, one or several labels, and scores with or without ties."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    images = draw(st.integers(1, 8))
    labels = [
        draw(st.sets(st.sampled_from("abc"), max_size=2)) | ({"only"} if n == 2 else set()) for n in range(images)
    ]
    labels[0].add("a")
    pairs = classed([sorted(each) for each in labels], [2, *rng.integers(0, 4, images - 1)])
    matrices = {"i2t": rng.integers(0, draw(st.sampled_from([2, 4, 1000])), (images, len(pairs.captions)))}
    if draw(st.booleans()):
        matrices["t2i"] = rng.integers(0, 4, matrices["i2t"].shape[::-1])
    return pairs, matrices


@settings(max_examples=60)
@given(scored(), st.sampled_from(["expected", "optimistic", "pessimistic"]), st.sampled_from([None, 0]))
def test_both_ways_of_counting_equal_the_matches_spelt_out(case, ties, few):
    pairs, matrices = case
    found, _ = measured(matrices, pairs, ties, few)
    ranks = rank_scores(matrices["i2t"], matrices.get("t2i"), Matches.from_dense(sharing(pairs)))
    assert list(found) == [(direction, metric) for direction in ("i2t", "t2i") for metric in METRICS]
    for direction, each in zip(("i2t", "t2i"), ranks, strict=True):
        expected = (r_precision(each, ties), map_at_r(each, ties), ndcg(each, None, ties), ndcg(each, 10, ties))
        for metric, value in zip(METRICS, (*expected, hit_rate(each, 1, ties)), strict=True):
            assert found[direction, metric].measure.value == pytest.approx(100 * value, rel=1e-12, abs=1e-10)
            assert found[direction, metric].queries == np.count_nonzero(each.positives)
            assert found[direction, metric].gallery == each.gallery


@settings(max_examples=40)
@given(scored(), st.integers(1, 4))
def test_blocks_of_any_size_give_the_same_to_the_image(case, rows):
    pairs, matrices = case
    listed, _ = measured(matrices, pairs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scores_module, "_ROWS_BYTES", 8 * rows * len(pairs.captions))
        dense, _ = measured(matrices, pairs, few=0)
    for name, one in listed.items():
        mine, other = (each.measure.contributions(len(pairs)) for each in (one, dense[name]))
        np.testing.assert_allclose(mine, other, rtol=1e-12, atol=1e-12)


@settings(max_examples=30)
@given(scored(), st.integers(0, 2**16), st.sampled_from([None, 0]))
def test_order_of_items_does_not_matter(case, seed, few):
    pairs, matrices = case
    rows = np.random.default_rng(seed).permutation(len(pairs))
    columns = np.concatenate([np.flatnonzero(pairs.owner == row) for row in rows]).astype(int)
    mixed, _ = measured(matrices["i2t"][rows][:, columns], pairs.take(rows), few=few)
    assert values(mixed) == pytest.approx(values(measured(matrices["i2t"], pairs, few=few)[0]), rel=1e-12)


@given(st.integers(0, 2**32 - 1))
def test_ranks_of_rows_are_the_counts_of_the_streaming_pass(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 9, 2))
    scores, right = rng.integers(0, 4, shape), rng.random(shape) < 0.5
    mine, theirs = ranks_of_rows(scores, right), rank_scores(scores, None, Matches.from_dense(right))[0]
    for name in ("indptr", "items", "above", "tied", "gallery", "scores"):
        assert np.array_equal(getattr(mine, name), getattr(theirs, name)), name


@pytest.mark.parametrize("few", [None, 0])
def test_equal_scores_give_chance(few):
    pairs = classed(["a"] * 4 + ["b"] * 6, [3] * 10)
    found, _ = measured(np.full((10, 30), 0.1), pairs, few=few)
    chance = 100 * (4 * 4 + 6 * 6) / 100
    for direction in ("i2t", "t2i"):
        assert found[direction, "R-precision"].measure.value == pytest.approx(chance)
        assert found[direction, "R@1"].measure.value == pytest.approx(chance)


@pytest.mark.parametrize("name", ["matmul", "matching_prob"])
@pytest.mark.parametrize("few", [None, 0])
def test_first_hits_equal_the_official_evaluator_with_classes(name, few):
    with np.load(RECORDED, allow_pickle=False) as official:
        similarity = {"matmul": SampleProducts(), "matching_prob": SampledMatchProbability(scale=2.5, shift=3.0)}[name]
        images, texts = (Samples(torch.from_numpy(official[f"in.{side}"])) for side in ("img", "cap"))
        pairs = classed([f"class {n}" for n in official["in.cls_of_image"]], [5] * 50)
        found, _ = measured(similarity(images, texts).detach().numpy(), pairs, few=few)
        for direction in ("i2t", "t2i"):
            expected = official[f"out.{direction}_{name}_class"][0]
            assert found[direction, "R@1"].measure.value == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("few", [None, 0])
def test_images_without_a_label_are_wrong_answers(few):
    pairs = classed(["a", None, "a", "b"], [1, 1, 1, 1])
    # Image 0 likes the caption of the unlabelled image best.
    found, notes = measured(np.array([[2, 3, 1, 0], [0, 3, 0, 0], [1, 0, 3, 0], [0, 0, 0, 3]]), pairs, few=few)
    assert notes[0] == "labels: 1 of 4 images have no label: they ask nothing and are wrong answers to all"
    assert (found["i2t", "R@1"].queries, found["i2t", "R@1"].gallery) == (3, 4)
    assert found["i2t", "R@1"].measure.value == pytest.approx(100 * 2 / 3)
    assert found["i2t", "R-precision"].measure.value == pytest.approx(100 * (1 / 2 + 1 + 1) / 3)


def test_when_it_is_measured_unasked():
    assert Labels().fits(classed(["a", "b", None, "a"]))
    assert not Labels().fits(classed(["a", "b", "c"]))
    assert not Labels().fits(classed(["a", ["a", "b"]]))
    assert not Labels().fits(classed([None, None]))


def test_a_label_all_to_itself_matches_its_own_captions():
    pairs = classed(["a", "b"], [2, 1])
    for few in (None, 0):
        found, _ = measured(np.array([[2, 2, 1], [1, 1, 2]]), pairs, few=few)
        assert list(values(found).values()) == pytest.approx([100] * 10)


def test_no_label_at_all_is_refused():
    with pytest.raises(
        DataError, match=r"protocol 'labels': no image of made has a label; .*--field labels=class_name"
    ):
        measured(np.eye(2), classed([None, None]))


def test_a_model_is_measured_by_class():
    pairs = classed(["a", "a", "b"], [2, 1, 2])
    rng = np.random.default_rng(4)
    images, texts = (torch.from_numpy(rng.integers(-3, 4, (n, 4))).float() for n in (3, 5))
    report = evaluate(FakeModel(Points(images), Points(texts)), pairs, resamples=20)
    assert {row["protocol"] for row in report.rows if row["truth"]} == {"own", "labels"}
    found = values(measured((images @ texts.T).numpy(), pairs)[0])
    for (direction, metric), value in found.items():
        assert report.value(metric, direction, "labels") == pytest.approx(value)
