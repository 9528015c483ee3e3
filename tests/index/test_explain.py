"""Why an answer was found: pairs of elements, of every kind of embedding, in whatever order elements come."""

from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from manymatch.embeddings import Boxes, Embedding, Fragments, Gaussians, GaussianSets, Points, Samples, Sets
from manymatch.errors import DataError
from manymatch.index.answers.explain import elements_of, explain, explain_all, means_of
from manymatch.similarity import BoxDistance, Cosine, MatchProbability, Order

KINDS = ["points", "sets", "gaussian_sets", "samples", "gaussians", "boxes", "fragments"]
MANY = ["sets", "gaussian_sets", "samples", "fragments"]
EACH_KIND = pytest.mark.parametrize("kind", KINDS)


def made(kind: str, n: int, *, m: int = 4, d: int = 8, seed: int = 0) -> Embedding:
    """n items of m elements; fragments have from one to m real ones, and large numbers where they have none."""
    draw = torch.Generator().manual_seed(seed)

    def some(*shape: int) -> torch.Tensor:
        return torch.randn(n, *shape, generator=draw)

    if kind == "fragments":
        valid = torch.arange(m) < torch.randint(1, m + 1, (n,), generator=draw)[:, None]
        return Fragments(some(m, d).masked_fill(~valid[..., None], 100.0), valid, some(d))
    return {
        "points": lambda: Points(some(d)),
        "sets": lambda: Sets(torch.nn.functional.normalize(some(m, d), dim=-1)),
        "gaussian_sets": lambda: GaussianSets(torch.nn.functional.normalize(some(m, d), dim=-1), some(m)),
        "samples": lambda: Samples(some(m, d)),
        "gaussians": lambda: Gaussians(some(d), some(d)),
        "boxes": lambda: Boxes(some(d), some(d).abs()),
    }[kind]()


def permuted(embedding: Embedding, order: list[int]) -> Embedding:
    if isinstance(embedding, GaussianSets):
        return GaussianSets(embedding.elements[:, order], embedding.log_variance[:, order])
    if isinstance(embedding, Sets):
        return Sets(embedding.elements[:, order])
    if isinstance(embedding, Samples):
        return Samples(embedding.vectors[:, order])
    assert isinstance(embedding, Fragments)
    return Fragments(embedding.vectors[:, order], embedding.valid[:, order], embedding.pooled)


@EACH_KIND
def test_one_match_for_each_element_of_the_query_strongest_first(kind: str) -> None:
    query, items = made(kind, 1, seed=1), made(kind, 5, seed=2)
    elements, real = elements_of(query)
    others, valid = elements_of(items)
    for item, matches in enumerate(explain_all(query, items)):
        assert sorted(m.query_element for m in matches) == real[0].nonzero()[:, 0].tolist()
        assert [m.cosine for m in matches] == sorted((m.cosine for m in matches), reverse=True)
        assert math.isclose(sum(m.share for m in matches), 1.0, abs_tol=1e-5)
        for match in matches:
            cosines = others[item, valid[item]] @ elements[0, match.query_element]
            assert math.isclose(match.cosine, float(cosines.max()), abs_tol=1e-5)
            assert match.item_element == int(cosines.argmax())


@EACH_KIND
def test_an_item_matches_itself_element_by_element(kind: str) -> None:
    items = made(kind, 3)
    for n in range(3):
        for match in explain(items[n], items[n]):
            assert match.query_element == match.item_element
            assert match.cosine == pytest.approx(1.0, abs=1e-5)


@EACH_KIND
def test_many_at_once_are_the_same_as_one_by_one(kind: str) -> None:
    query, items = made(kind, 1, seed=3), made(kind, 6, seed=4)
    for n, together in enumerate(explain_all(query, items)):
        alone = explain(query, items[n])
        assert [(m.query_element, m.item_element) for m in together] == [
            (m.query_element, m.item_element) for m in alone
        ]
        for one, other in zip(together, alone, strict=True):
            assert one.cosine == pytest.approx(other.cosine, abs=1e-6)
            assert one.parts == pytest.approx(dict(other.parts), rel=1e-5)


@given(
    kind=st.sampled_from(MANY),
    seed=st.integers(0, 200),
    left=st.permutations(range(4)),
    right=st.permutations(range(4)),
)
def test_the_order_of_elements_changes_their_numbers_only(
    kind: str, seed: int, left: list[int], right: list[int]
) -> None:
    query, item = made(kind, 1, seed=seed), made(kind, 1, seed=seed + 1000)
    plain = explain(query, item)
    mixed = explain(permuted(query, left), permuted(item, right))
    assert [(left[m.query_element], right[m.item_element]) for m in mixed] == [
        (m.query_element, m.item_element) for m in plain
    ]
    for one, other in zip(plain, mixed, strict=True):
        assert (one.cosine, one.share) == pytest.approx((other.cosine, other.share), abs=1e-5)


@given(seed=st.integers(0, 200))
def test_padding_never_appears(seed: int) -> None:
    query, items = made("fragments", 1, seed=seed), made("fragments", 4, seed=seed + 1)
    assert isinstance(query, Fragments) and isinstance(items, Fragments)
    for n, matches in enumerate(explain_all(query, items)):
        assert all(query.valid[0, m.query_element] and items.valid[n, m.item_element] for m in matches)


def test_nothing_real_matches_nothing() -> None:
    query, items = made("fragments", 1), made("fragments", 2, seed=1)
    assert isinstance(items, Fragments)
    none = Fragments(items.vectors, torch.tensor([[False] * 4, [True] * 4]), items.pooled)
    first, second = explain_all(query, none)
    assert first == () and len(second) > 0
    assert explain_all(none[0], items) == [(), ()]
    assert explain_all(query, Fragments(torch.zeros(1, 0, 8), torch.zeros(1, 0).bool(), torch.zeros(1, 8))) == [()]


def test_words_name_the_elements_of_the_query() -> None:
    eye = torch.eye(4)[None]
    query = Fragments(eye, torch.tensor([[True, True, True, False]]), torch.zeros(1, 4))
    item = Fragments(eye[:, [2, 0, 1, 3]] * torch.tensor([3.0, 1.0, 2.0, 1.0])[:, None], query.valid, query.pooled)
    matches = explain(query, item, words=["two", "red", None])
    assert {m.word: m.item_element for m in matches} == {"two": 1, "red": 2, None: 0}
    assert explain(query, item)[0].word is None


def test_shares_are_of_the_positive_cosines() -> None:
    query = Sets(torch.eye(3)[None])
    item = Sets(torch.tensor([[[0.8, 0.6, 0.0], [0.0, 0.0, -1.0]]]))
    assert [(m.query_element, m.share) for m in explain(query, item)] == [
        (0, pytest.approx(0.8 / 1.4)),
        (1, pytest.approx(0.6 / 1.4)),
        (2, 0.0),
    ]
    against = explain(Sets(torch.eye(2)[None]), Sets(-torch.eye(2).sum(dim=0)[None, None] / 2**0.5))
    assert [m.share for m in against] == [0.5, 0.5]


def test_parts_of_gaussians_are_the_distance_of_a_match_probability() -> None:
    query, items = made("gaussians", 1), made("gaussians", 3, seed=1)
    distances = MatchProbability().distance(query, items)[0].tolist()
    for (match,), distance in zip(explain_all(query, items), distances, strict=True):
        assert match.parts["distance"] + match.parts["uncertainty"] == pytest.approx(distance, rel=1e-5)
        assert match.parts["uncertainty"] > 0


def test_parts_of_boxes_are_those_of_their_distance() -> None:
    query, items = made("boxes", 1), made("boxes", 3, seed=1)
    scores = BoxDistance(gamma=0.02)(query, items)[0].tolist()
    for (match,), score in zip(explain_all(query, items), scores, strict=True):
        assert -(match.parts["outside"] + 0.02 * match.parts["inside"]) == pytest.approx(score, rel=1e-5)


def test_parts_of_samples_are_of_the_two_draws() -> None:
    query, item = made("samples", 1), made("samples", 1, seed=1)
    assert isinstance(query, Samples) and isinstance(item, Samples)
    for match in explain(query, item):
        apart = query.vectors[0, match.query_element] - item.vectors[0, match.item_element]
        assert match.parts == {"distance": pytest.approx(float(apart.square().sum()), rel=1e-5)}


def test_points_and_means_of_gaussians_can_be_told_of_together() -> None:
    query, items = made("points", 1), made("gaussians", 3, seed=1)
    expected = Cosine()(query, items)[0].tolist()
    found = [matches[0] for matches in explain_all(query, items)]
    assert [m.cosine for m in found] == pytest.approx(expected, abs=1e-6)
    assert all(m.parts == {} for m in found)


def test_captions_of_an_order_embedding_are_turned_back() -> None:
    image = Points(torch.tensor([[0.6, 0.8]]))
    caption = Points(-image.vectors)
    assert explain(caption, image)[0].cosine == pytest.approx(-1.0)
    assert explain(caption, image, similarity=Order())[0].cosine == pytest.approx(1.0)


@EACH_KIND
def test_matches_are_json(kind: str) -> None:
    match = explain(made(kind, 1), made(kind, 1, seed=1))[0]
    told = json.loads(json.dumps(match.to_json()))
    assert set(told) == {"query_element", "item_element", "cosine", "share", "word", "parts"}
    assert told["cosine"] == match.cosine


@EACH_KIND
def test_elements_and_means_are_unit_vectors(kind: str) -> None:
    items = made(kind, 3).to(torch.float16)
    elements, valid = elements_of(items)
    assert torch.allclose(elements.norm(dim=-1)[valid], torch.ones(int(valid.sum())), atol=1e-5)
    assert torch.allclose(means_of(items).norm(dim=-1), torch.ones(3), atol=1e-5)


def test_what_cannot_be_explained_is_said() -> None:
    sets = made("sets", 2)
    with pytest.raises(DataError, match="2 queries, expected one"):
        explain_all(sets, sets)
    with pytest.raises(DataError, match="2 items, expected one"):
        explain(sets[0], sets)
    with pytest.raises(DataError, match="width 8 and items of width 5"):
        explain(sets[0], made("sets", 1, d=5))
    with pytest.raises(DataError, match="3 words for 4 elements"):
        explain(sets[0], sets[1], words=["a", "b", "c"])
    with pytest.raises(DataError, match="not one of the kinds"):
        elements_of(Embedding())
