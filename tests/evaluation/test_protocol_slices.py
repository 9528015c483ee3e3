"""Slices: thirds that any system shares, and R@K of each."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manymatch.data.pairs import Item, Pairs
from manymatch.evaluation import PROTOCOLS, evaluate
from manymatch.evaluation.protocols.slices import closeness, rarity, thirds


def worded(captions: list[list[str]]) -> Pairs:
    return Pairs([Item(f"i{n}", tuple(texts)) for n, texts in enumerate(captions)], name="worded")


def tf_idf(captions: list[str], dropped: set[str] = frozenset()) -> np.ndarray:
    """(c, c) cosines, word by word."""
    counts = [Counter(w for w in caption.split() if w not in dropped) for caption in captions]
    holding = Counter(word for count in counts for word in count)
    vectors = [{w: n * math.log(len(captions) / holding[w]) for w, n in count.items()} for count in counts]
    lengths = [math.sqrt(sum(v * v for v in vector.values())) for vector in vectors]

    def cosine(a: int, b: int) -> float:
        shared = sum(v * vectors[b].get(w, 0.0) for w, v in vectors[a].items())
        return shared / (lengths[a] * lengths[b]) if lengths[a] and lengths[b] else 0.0

    return np.array([[cosine(a, b) for b in range(len(captions))] for a in range(len(captions))])


@st.composite
def worlds(draw):
    words = st.lists(st.sampled_from(["red", "blue", "dog", "cat", "sits", "runs", "on"]), max_size=5).map(" ".join)
    return worded(draw(st.lists(st.lists(words, max_size=3), min_size=1, max_size=5)))


@given(worlds())
def test_closeness_is_the_highest_cosine_with_a_caption_of_another_image(pairs):
    cosines = tf_idf(pairs.captions)
    others = np.where(pairs.owner[:, None] == pairs.owner, 0.0, cosines)
    np.testing.assert_allclose(closeness(pairs), others.max(axis=1, initial=0.0), atol=1e-8)


@given(worlds())
def test_rarity_is_the_mean_surprise_of_a_captions_words(pairs):
    holding = Counter(word for caption in pairs.captions for word in set(caption.split()))
    expected = [
        np.mean([math.log(len(pairs.captions) / holding[w]) for w in set(caption.split())]) if caption else 0.0
        for caption in pairs.captions
    ]
    np.testing.assert_allclose(rarity(pairs), expected, atol=1e-8)


def test_words_in_more_than_a_tenth_of_many_captions_are_not_counted():
    captions = [f"a word{n % 400} thing{n % 7}" for n in range(2000)]
    pairs = worded([[caption] for caption in captions])
    assert np.allclose(rarity(pairs), math.log(400))
    assert np.allclose(closeness(pairs), 1)
    assert np.allclose(closeness(worded([[f"a word{n} thing{n % 7}"] for n in range(2000)])), 0)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40))
def test_thirds_follow_the_values_and_keep_equals_together(values):
    third = thirds(np.array(values, float))
    for a, b in zip(sorted(zip(values, third, strict=True)), sorted(zip(values, third, strict=True))[1:], strict=False):
        assert a[1] <= b[1] and (a[0] < b[0] or a[1] == b[1])
    assert set(third) <= {0, 1, 2}


def test_thirds_of_different_values_are_thirds_and_of_equal_ones_the_middle():
    assert np.bincount(thirds(np.random.default_rng(0).random(9))).tolist() == [3, 3, 3]
    assert np.ptp(np.bincount(thirds(np.arange(11.0)))) <= 1
    assert set(thirds(np.ones(5))) == {1}
    assert thirds(np.zeros(0)).shape == (0,)


SIX = worded(
    [
        ["dog runs", "dog runs fast"],
        ["dog runs"],
        ["dog sits", "cat dog"],
        ["zebra quietly yawns"],
        [],
        ["walrus paints quickly", "dog"],
    ]
)


def test_slices_are_shares_of_the_same_queries():
    rng = np.random.default_rng(1)
    report = evaluate(rng.random((6, 8)), SIX, protocol=["own", "slices"])
    for direction, asked in (("i2t", 5), ("t2i", 8)):
        for k in (1, 5, 10):
            for names in (("common", "middling", "rare"), ("far", "middling", "close")):
                kind = "words" if "rare" in names else "negative"
                rows = [r for r in report.rows if r["metric"] in [f"R@{k} {n} {kind}" for n in names]]
                rows = [r for r in rows if r["direction"] == direction and r["protocol"] == "slices"]
                assert sum(r["queries"] for r in rows) == asked
                assert {r["gallery"] for r in rows} == {8 if direction == "i2t" else 6}
                mean = sum(r["queries"] * r["value"] for r in rows) / asked
                assert mean == pytest.approx(report.value(f"R@{k}", direction))
    assert {row["truth"] for row in report.rows} == {"own captions"}


def test_a_system_that_knows_common_words_alone_is_found_out():
    captions = [f"dog runs place{n % 3}" for n in range(20)] + [f"odd{n} thing{n} here{n}" for n in range(10)]
    pairs = worded([[caption] for caption in captions])
    scores = np.eye(30)
    scores[20:, 20:] = 0
    report = evaluate(scores, pairs, protocol="slices", ties="pessimistic")
    assert report.value("R@1 rare words", "t2i", "slices") == 0
    assert report.value("R@1 common words", "t2i", "slices") == 100
    # Twenty captions say what another image's says too, and all of these are equally close.
    assert report.value("R@1 far negative", "t2i", "slices") == 0
    assert report.value("R@1 close negative", "i2t", "slices") == 100


def test_unequal_thirds_are_said_and_the_slices_are_the_same_for_every_system():
    same = worded([["dog"], ["dog"], ["dog"], ["cat"]])
    one, other = (evaluate(scores, same, protocol="slices") for scores in (np.eye(4), np.zeros((4, 4))))
    said = "slices: equal values stay together, so the thirds of the captions are"
    assert one.notes == other.notes
    assert one.notes == (
        f"{said} 0 common words, 3 middling words, 1 rare words",
        f"{said} 1 far negative, 3 middling negative, 0 close negative",
    )
    assert [(r["metric"], r["queries"]) for r in one.rows] == [(r["metric"], r["queries"]) for r in other.rows]
    assert not [row for row in one.rows if row["metric"].endswith("common words")]
    assert all(row["low"] is not None for row in one.rows)


def test_slices_are_measured_only_by_name():
    assert not PROTOCOLS["slices"].fits(SIX)
    assert {row["protocol"] for row in evaluate(np.zeros((6, 8)), SIX).rows} == {"own"}
