"""What a query could mean: facets of a set, modes of a cloud, one meaning where there is no more, and names."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from manymatch.embeddings import Boxes, Embedding, Fragments, Gaussians, GaussianSets, Points, Samples, Sets
from manymatch.errors import DataError
from manymatch.index.answers.meanings import (
    Meaning,
    Meanings,
    by_elements,
    by_modes,
    characteristic_words,
    directions,
    meanings,
)

KINDS = ["points", "sets", "gaussian_sets", "samples", "gaussians", "boxes", "fragments"]


def unit(*shape: int, draw: torch.Generator) -> torch.Tensor:
    return functional.normalize(torch.randn(*shape, generator=draw), dim=-1)


def facets(
    seed: int, *, ways: int = 2, k: int = 4, n: int = 100, d: int = 64, noise: float = 0.5, hub: float = 0.0
) -> tuple[Sets, Sets, list[int]]:
    """A query whose elements take turns at some facets, answers each of one facet, and of which.

    `hub` moves every answer towards the first facet, so that it is closest to all.
    """
    draw = torch.Generator().manual_seed(seed)
    axes = unit(ways, d, draw=draw)
    query = functional.normalize(axes[torch.arange(k) % ways] + 0.3 * unit(k, d, draw=draw), dim=-1)
    facet = torch.randint(0, ways, (n,), generator=draw)
    answers = axes[facet][:, None] + hub * axes[0] + 2 * noise * (unit(n, 1, d, draw=draw) + unit(n, k, d, draw=draw))
    return Sets(query[None]), Sets(functional.normalize(answers, dim=-1)), facet.tolist()


def blobs(seed: int, count: int, *, n: int = 100, d: int = 64, apart: float = 8.0) -> tuple[torch.Tensor, list[int]]:
    """Gaussian clouds of deviation 1 whose middles lie `apart`, far from the origin; and of which each point is."""
    rng = np.random.default_rng(seed)
    middles = np.linalg.qr(rng.standard_normal((d, count + 1)))[0].T
    of = np.arange(n) % count
    places = 30 * middles[-1] + apart / 2**0.5 * middles[of] + rng.standard_normal((n, d))
    return torch.from_numpy(places.astype(np.float32)), of.tolist()


def of_kind(kind: str, vectors: torch.Tensor) -> Embedding:
    n, d = vectors.shape
    near = vectors[:, None] + 0.1 * torch.randn(n, 3, d, generator=torch.Generator().manual_seed(1))
    return {
        "points": lambda: Points(vectors),
        "sets": lambda: Sets(functional.normalize(near, dim=-1)),
        "gaussian_sets": lambda: GaussianSets(functional.normalize(near, dim=-1), near[..., 0]),
        "samples": lambda: Samples(near),
        "gaussians": lambda: Gaussians(vectors, torch.zeros(n, d)),
        "boxes": lambda: Boxes(vectors, torch.ones(n, d)),
        "fragments": lambda: Fragments(near, torch.ones(n, 3).bool(), vectors),
    }[kind]()


def purity(groups: list[Meaning] | tuple[Meaning, ...], truth: list[int]) -> float:
    """Share of answers that are of the commonest truth of their group."""
    return sum(max(Counter(truth[p] for p in g.positions).values()) for g in groups) / len(truth)


def check_partition(groups: list[Meaning] | tuple[Meaning, ...], n: int) -> None:
    assert sorted(p for g in groups for p in g.positions) == list(range(n))
    assert all(list(g.positions) == sorted(g.positions) for g in groups)
    firsts = [g.positions[0] for g in groups]
    assert firsts == sorted(firsts)


@pytest.mark.parametrize("case", [{}, {"hub": 1.0}, {"hub": 3.0}, {"ways": 3, "k": 6}, {"ways": 4, "noise": 0.3}])
def test_facets_of_a_set_are_found_with_their_elements(case: dict[str, float]) -> None:
    right = 0
    for seed in range(10):
        query, answers, truth = facets(seed, **case)  # type: ignore[arg-type]
        groups, ways = by_elements(query, answers), int(case.get("ways", 2))
        check_partition(groups, len(truth))
        if len(groups) == ways and purity(groups, truth) > 0.95:
            right += 1
            for group in groups:
                facet = truth[group.positions[0]]
                assert all(element % ways == facet for element in group.elements)
    assert right >= 9


def test_a_facet_that_nothing_matches_makes_no_group() -> None:
    single = 0
    for seed in range(20):
        query, answers, truth = facets(seed, n=200)
        of_first = answers[[n for n, facet in enumerate(truth) if facet == 0][:80]]
        single += len(by_elements(query, of_first)) == 1
    assert single >= 18


@pytest.mark.parametrize("spread", [0.0, 0.1])
def test_a_collapsed_set_has_one_meaning(spread: float) -> None:
    draw = torch.Generator().manual_seed(0)
    _, answers, _ = facets(0)
    collapsed = functional.normalize(unit(1, 1, 64, draw=draw) + spread * unit(1, 4, 64, draw=draw), dim=-1)
    query = Sets(collapsed)
    assert directions(query) == [(0, 1, 2, 3)]
    (group,) = by_elements(query, answers)
    assert group.elements == (0, 1, 2, 3) and group.share == 1.0
    found = meanings(query, answers)
    assert found.by == "modes" and "one direction" in found.why


def test_directions_join_what_points_the_same_way() -> None:
    east, north = torch.eye(2)
    near = functional.normalize(torch.tensor([1.0, 0.2]), dim=0)
    assert directions(Sets(torch.stack([east, north, near, -east])[None])) == [(0, 2), (1,), (3,)]


@pytest.mark.parametrize("n, d", [(100, 3), (100, 16), (100, 256), (40, 64), (200, 64)])
def test_one_cloud_is_one_mode(n: int, d: int) -> None:
    count = Counter(len(by_modes(Points(blobs(seed, 1, n=n, d=max(d, 2))[0]))) for seed in range(12))
    assert count[1] >= 10


def test_a_stretched_cloud_and_one_with_heavy_tails_are_one_mode() -> None:
    single = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        round_ = rng.standard_normal((100, 16))
        stretched = round_ * np.exp(-np.arange(16) / 3)
        heavy = round_ / np.sqrt(rng.chisquare(3, (100, 1)) / 3)
        for places in (stretched, heavy):
            single += len(by_modes(Points(torch.from_numpy(places + 30.0).float()))) == 1
    assert single >= 18


@pytest.mark.parametrize("count", [2, 3, 4, 6])
def test_as_many_modes_as_clouds(count: int) -> None:
    right = 0
    for seed in range(8):
        vectors, truth = blobs(seed, count, n=150)
        groups = by_modes(Points(vectors))
        check_partition(groups, 150)
        right += len(groups) == count and purity(groups, truth) > 0.97
    assert right >= 7


def test_more_clouds_than_six_become_six_modes_at_most() -> None:
    vectors, _ = blobs(0, 9, n=180, apart=20.0)
    assert 2 <= len(by_modes(Points(vectors))) <= 6


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_modes(kind: str) -> None:
    vectors, truth = blobs(1, 2, apart=12.0)
    answers = of_kind(kind, vectors)
    query = answers[0]
    if isinstance(query, Sets):
        query = Sets(query.elements[:, :1])
    found = meanings(query, answers)
    assert found.by == "modes" and len(found) == 2 and found.why.startswith("one element")
    assert purity(found.groups, truth) == 1.0


def test_modes_do_not_depend_on_the_order_of_the_answers() -> None:
    vectors, _ = blobs(2, 3, apart=9.0)
    order = np.random.default_rng(0).permutation(100)
    plain = {frozenset(g.positions) for g in by_modes(Points(vectors))}
    mixed = {frozenset(int(order[p]) for p in g.positions) for g in by_modes(Points(vectors[order]))}
    assert plain == mixed and len(plain) == 3


def test_elements_where_they_tell_answers_apart_else_modes() -> None:
    query, answers, truth = facets(0)
    found = meanings(query, answers)
    assert found.by == "elements" and "4 elements" in found.why
    assert purity(found.groups, truth) > 0.95
    elsewhere = Sets(unit(1, 4, 64, draw=torch.Generator().manual_seed(77)))
    other = meanings(elsewhere, answers)
    assert other.by == "modes" and "do not tell the answers apart" in other.why
    assert len(other) == 2 and purity(other.groups, truth) > 0.95
    assert all(group.elements == () for group in other.groups)


@given(n=st.integers(0, 30), seed=st.integers(0, 99), kind=st.sampled_from(KINDS))
@settings(max_examples=60)
def test_every_answer_is_in_one_group(n: int, seed: int, kind: str) -> None:
    vectors = torch.randn(n + 1, 6, generator=torch.Generator().manual_seed(seed))
    items = of_kind(kind, vectors)
    found = meanings(items[0], items[1:], weights=np.random.default_rng(seed).random(n), captions=[None] * n)
    check_partition(found.groups, n)
    assert n == 0 or sum(g.share for g in found.groups) == pytest.approx(1.0)
    assert all(g.words is None for g in found.groups)


def test_answers_that_are_all_the_same_are_one_meaning() -> None:
    same = Sets(functional.normalize(torch.ones(40, 4, 8), dim=-1))
    spread = Sets(unit(1, 4, 8, draw=torch.Generator().manual_seed(0)))
    for query in (same[0], spread):
        assert [g.positions for g in meanings(query, same).groups] == [tuple(range(40))]


def test_shares_count_answers_or_their_weights() -> None:
    query, answers, _ = facets(3)
    plain = meanings(query, answers)
    assert [g.share for g in plain.groups] == [len(g.positions) / 100 for g in plain.groups]
    first = plain.groups[0]
    weights = [3.0 if n in first.positions else 1.0 for n in range(100)]
    expected = 3 * len(first.positions) / (2 * len(first.positions) + 100)
    assert meanings(query, answers, weights=weights).groups[0].share == pytest.approx(expected)
    assert meanings(query, answers, weights=[0.0] * 100) == plain


def test_names_are_what_the_other_groups_do_not_say() -> None:
    query, answers, truth = facets(4)
    captions = [f"a {('dog', 'cat')[t]} runs {('in the snow', 'over the mat')[t]} {n % 9}" for n, t in enumerate(truth)]
    for group in meanings(query, answers, captions=captions).groups:
        facet = truth[group.positions[0]]
        assert group.words is not None
        assert set(group.words) & {"dog", "snow", "cat", "mat"} == set((("dog", "snow"), ("cat", "mat"))[facet])
        assert not {"a", "the", "runs"} & set(group.words)


def test_names_of_any_script() -> None:
    captions = ["собака в снегу", "большая собака", "собака бежит", "кошка спит", "кошка на окне", "белая кошка"]
    assert characteristic_words([[0, 1, 2], [3, 4, 5]], captions) == [("собака",), ("кошка",)]


def test_names_need_captions_and_another_group() -> None:
    captions = ["red star", "red star", None, "blue ring", "blue ring", None]
    assert characteristic_words([[0, 1, 2], [3, 4, 5]], captions) == [("red", "star"), ("blue", "ring")]
    assert characteristic_words([[0, 1, 2, 3, 4, 5]], captions) == [None]
    assert characteristic_words([[0, 1], [2, 5]], captions) == [None, None]
    assert characteristic_words([[0, 1], [2], [3, 4]], captions) == [("red", "star"), None, ("blue", "ring")]
    assert characteristic_words([[0, 3], [1, 4]], captions) == [None, None]
    assert characteristic_words([], []) == []


def test_a_word_of_one_caption_names_nothing() -> None:
    captions = ["once here", "never there", *["two big dogs"] * 98]
    assert characteristic_words([[0, 1], range(2, 100)], captions)[0] is None


def test_four_words_are_enough() -> None:
    captions = [*["a b c d e"] * 6, *[f"x p{n} q{n} r{n} s{n}" for n in range(6)]]
    assert characteristic_words([range(6), range(6, 12)], captions) == [("a", "b", "c", "d"), ("x",)]


def test_a_word_must_be_three_times_as_frequent() -> None:
    def captions(first: int, second: int) -> list[str]:
        return ["dog with"] * first + ["dog"] * (40 - first) + ["cat with"] * second + ["cat"] * (40 - second)

    groups = [range(40), range(40, 80)]
    assert characteristic_words(groups, captions(35, 12)) == [("dog",), ("cat",)]
    assert characteristic_words(groups, captions(36, 12)) == [("dog", "with"), ("cat",)]


def test_meanings_are_json() -> None:
    query, answers, _ = facets(0)
    found = meanings(query, answers, captions=["some words"] * 100)
    told = json.loads(json.dumps(found.to_json()))
    assert told["by"] == "elements" and told["why"] == found.why
    assert [g["positions"] for g in told["groups"]] == [list(g.positions) for g in found.groups]
    assert set(told["groups"][0]) == {"positions", "elements", "share", "words"}
    assert Meanings((), "modes", "").to_json()["groups"] == []


def test_what_cannot_be_grouped_is_said() -> None:
    query, answers, _ = facets(0, n=20)
    with pytest.raises(DataError, match="20 queries, expected one"):
        meanings(answers, answers)
    with pytest.raises(DataError, match="3 captions for 20 answers"):
        meanings(query, answers, captions=["a"] * 3)
    with pytest.raises(DataError, match="3 weights for 20 answers"):
        meanings(query, answers, weights=[1.0] * 3)
    for bad in (-1.0, float("nan")):
        with pytest.raises(DataError, match="negative or not finite"):
            meanings(query, answers, weights=[1.0] * 19 + [bad])
