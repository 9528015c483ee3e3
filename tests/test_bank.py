"""The query bank itself: what a bias is, for every kind of embedding, however it is computed and stored."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from manymatch.bank import Bank, Queries, Setting, item_keys, nearest, owner_keys, prefix_means
from manymatch.data.pairs import Item, Pairs
from manymatch.embeddings import Boxes, Embedding, Fragments, Gaussians, GaussianSets, Points, Samples, Sets
from manymatch.errors import DataError
from manymatch.similarity import (
    BoxDistance,
    Cosine,
    GaussianChamfer,
    Mahalanobis,
    MatchProbability,
    SampledMatchProbability,
    Similarity,
    SmoothChamfer,
)


class Dot:
    """Inner product, exact for small whole numbers."""

    symmetric = True

    def __call__(self, queries: Points, gallery: Points) -> Tensor:
        return queries.vectors @ gallery.vectors.T


class Attention:
    """Stands in for a cross-attention: each fragment of the query with its best of the item, valid ones alone."""

    symmetric = False

    def __call__(self, queries: Fragments, gallery: Fragments) -> Tensor:
        products = torch.einsum("qfd,ged->qgfe", queries.vectors, gallery.vectors)
        best = products.masked_fill(~gallery.valid[None, :, None, :], -math.inf).amax(dim=3)
        there = queries.valid[:, None, :]
        return (best * there).sum(dim=2) / there.sum(dim=2)


def made(kind: str, count: int, seed: int, d: int = 8) -> Embedding:
    draw = torch.Generator().manual_seed(seed)

    def some(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw)

    unit = torch.nn.functional.normalize
    if kind == "fragments":
        lengths = torch.randint(1, 5, (count,), generator=draw)
        lengths[0] = 4
        valid = torch.arange(4)[None] < lengths[:, None]
        return Fragments(some(count, 4, d) * valid[..., None], valid, some(count, d))
    return {
        "points": lambda: Points(unit(some(count, d), dim=-1)),
        "sets": lambda: Sets(unit(some(count, 3, d), dim=-1)),
        "gaussian_sets": lambda: GaussianSets(unit(some(count, 3, d), dim=-1), some(count, 3) - 3),
        "samples": lambda: Samples(some(count, 3, d)),
        "gaussians": lambda: Gaussians(unit(some(count, d), dim=-1), some(count, d) - 3),
        "boxes": lambda: Boxes(some(count, d), some(count, d).abs()),
    }[kind]()


SIMILARITIES: dict[str, Similarity | Attention] = {
    "cosine": Cosine(),
    "chamfer": SmoothChamfer(),
    "elements": GaussianChamfer(),
    "sampled": SampledMatchProbability(),
    "probability": MatchProbability(),
    "mahalanobis": Mahalanobis(),
    "boxes": BoxDistance(),
    "attention": Attention(),
}
KINDS = {
    "cosine": "points",
    "chamfer": "sets",
    "elements": "gaussian_sets",
    "sampled": "samples",
    "probability": "gaussians",
    "mahalanobis": "gaussians",
    "boxes": "boxes",
    "attention": "fragments",
}
EACH = pytest.mark.parametrize("name", SIMILARITIES)


def queries(embedding: Embedding, owners: Sequence[str] | None = None) -> Queries:
    ids = owners or [f"q{n}" for n in range(len(embedding))]
    return Queries.of([embedding[:7], embedding[7:]] if len(embedding) > 7 else [embedding], owner_keys(ids))


def bank_of(embedding: Embedding, alpha: float = 0.5, k: int = 3, owners: Sequence[str] | None = None) -> Bank:
    some = queries(embedding, owners)
    setting = Setting(alpha, k)
    held = torch.from_numpy(owner_keys(["held"]))
    return Bank({"caption": some, "image": some}, {"caption": setting, "image": setting}, held)


def rounded(embedding: Embedding) -> Embedding:
    return embedding.to(torch.float16).to(torch.float32)


@EACH
@torch.inference_mode()
def test_a_bias_is_alpha_times_the_mean_of_the_highest_scores(name: str) -> None:
    similarity, asking, items = SIMILARITIES[name], made(KINDS[name], 30, 1), made(KINDS[name], 20, 2)
    scores = similarity(rounded(asking), items)
    expected = 0.5 * scores.topk(3, dim=0).values.mean(dim=0)
    found = bank_of(asking).bias(similarity, items, "caption")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)
    assert not np.asarray(bank_of(asking, alpha=0.0).bias(similarity, items, "caption")).any()


@EACH
def test_blocks_equal_the_whole_and_the_order_of_the_bank_changes_nothing(name: str) -> None:
    similarity, asking, items = SIMILARITIES[name], made(KINDS[name], 150, 1), made(KINDS[name], 50, 2)
    own = owner_keys([f"q{n % 20}" for n in range(50)])
    owners = [f"q{n % 60}" for n in range(150)]
    whole = nearest(similarity, queries(asking, owners), items, 20, own)
    for most in (16, 48, 64):
        parts = nearest(similarity, queries(asking, owners), items, 20, own, most=most)
        np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-5)
    order = np.random.default_rng(0).permutation(150)
    again = nearest(similarity, queries(asking[order], [owners[n] for n in order]), items, 20, own)
    np.testing.assert_allclose(again, whole, rtol=1e-5, atol=1e-5)
    assert (np.diff(whole, axis=1) <= 0).all()


@EACH
def test_equal_items_have_equal_biases_wherever_they_lie(name: str) -> None:
    items = made(KINDS[name], 75, 2)[np.arange(600) % 75]
    found = bank_of(made(KINDS[name], 130, 1)).bias(SIMILARITIES[name], items, "image")
    assert np.array_equal(found, found[np.arange(600) % 75])


@EACH
@torch.inference_mode()
def test_own_queries_never_count(name: str) -> None:
    similarity, asking, items = SIMILARITIES[name], made(KINDS[name], 30, 1), made(KINDS[name], 6, 2)
    owners = [f"image {n % 6}" for n in range(30)]
    found = bank_of(asking, owners=owners).bias(similarity, items, "caption", owner_keys(sorted(set(owners))))
    for n in range(6):
        others = rounded(asking[[row for row in range(30) if row % 6 != n]])
        expected = 0.5 * similarity(others, items[n]).topk(3, dim=0).values.mean()
        assert found[n] == pytest.approx(float(expected), rel=1e-4, abs=1e-5)
    # Nobody else's images: all count.
    strangers = bank_of(asking, owners=owners).bias(similarity, items, "caption", owner_keys("abcdef"))
    np.testing.assert_array_equal(strangers, bank_of(asking).bias(similarity, items, "caption"))


def test_fewer_others_than_neighbours_and_none() -> None:
    asking = Points(torch.eye(3))
    items = Points(torch.tensor([[1.0, 0.5, 0.25]]))
    bank = bank_of(asking, alpha=1.0, k=8, owners=["a", "b", "c"])
    assert bank.bias(Dot(), items, "image")[0] == pytest.approx(1.75 / 3)
    assert bank.bias(Dot(), items, "image", owner_keys("b"))[0] == pytest.approx(1.25 / 2)
    alone = bank_of(asking, alpha=1.0, k=8, owners=["a", "a", "a"])
    assert alone.bias(Dot(), items, "image", owner_keys("a"))[0] == 0
    assert len(bank.bias(Dot(), items[:0], "image")) == 0


@settings(max_examples=30)
@given(st.integers(1, 700), st.integers(1, 40), st.integers(0, 2**20))
def test_the_highest_of_a_row_are_the_highest(width: int, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Whole numbers, so that many are equal.
    points = rng.integers(-20, 20, (width, 1)).astype(np.float32)
    found = nearest(Dot(), queries(Points(torch.from_numpy(points))), Points(torch.ones(2, 1)), count)
    expected = np.sort(points[:, 0])[::-1][:count]
    assert np.array_equal(found, np.stack([expected, expected]))


def test_means_of_the_first() -> None:
    found = prefix_means(np.array([[4.0, 2.0, -np.inf], [-np.inf] * 3, [2.0, 2.0, 2.0]], np.float32))
    # Where nothing counts it is what the others have.
    assert found.tolist() == [[4.0, 3.0, 3.0], [3.0, 2.5, 2.5], [2.0, 2.0, 2.0]]
    assert prefix_means(np.full((1, 2), -np.inf, np.float32)).tolist() == [[0.0, 0.0]]


def test_an_even_part_of_queries_and_what_one_brings_to_a_score() -> None:
    ragged = queries(made("fragments", 12, 3))
    even = queries(Fragments(torch.randn(5, 4, 8), torch.ones(5, 4, dtype=torch.bool), torch.randn(5, 8)))
    assert ragged.ends is not None and even.ends is None and ragged.elements == even.elements == 4
    assert queries(made("sets", 12, 3)).elements == 3 and queries(made("points", 12, 3)).elements == 1
    for some in (ragged, queries(made("sets", 12, 3))):
        found, whole = some.evenly(4), some.embedding(slice(0, 12))
        assert len(found) == 4 and len(some.evenly(50)) == 12
        for place, row in enumerate((0, 4, 7, 11)):
            assert np.array_equal(found[place].pack()[0], whole[row].pack()[0])


@pytest.mark.parametrize("kind", sorted(set(KINDS.values())))
def test_queries_are_stored_in_half_the_bytes_and_come_back(kind: str) -> None:
    embedding = made(kind, 12, 3)
    bank = bank_of(embedding)
    assert bank.tensors()["caption.rows"].dtype == torch.float16
    again = Bank.from_stored(json.loads(json.dumps(bank.to_json())), bank.tensors())
    assert again.to_json() == bank.to_json() and again.digest == bank.digest
    for part in (slice(0, 12), slice(3, 5), slice(11, 12)):
        found, wanted = again.queries["image"].embedding(part), rounded(embedding[part])
        for name, value in wanted.tensors().items():
            given = found.tensors()[name]
            torch.testing.assert_close(given, value[:, : given.shape[1]] if kind == "fragments" else value)


def test_what_float16_cannot_hold_is_kept_whole_and_what_is_no_number_is_refused() -> None:
    large = Points(torch.tensor([[1e6, 1.0], [2.0, 3.0]]))
    assert torch.equal(queries(large).embedding(slice(0, 2)).vectors, large.vectors)  # type: ignore[attr-defined]
    with pytest.raises(DataError, match="query bank: an embedding holds a NaN"):
        queries(Points(torch.tensor([[math.nan]])))
    with pytest.raises(DataError, match="0 queries of 0 owners"):
        Queries.of([], owner_keys([]))
    with pytest.raises(DataError, match=r"alpha -1\.0 with 3 neighbours"):
        Setting(-1.0, 3)
    with pytest.raises(DataError, match="a score is not finite"):
        bank_of(large, k=1).bias(Dot(), Points(torch.full((1, 2), 3e38)), "image")


def test_damaged_banks_are_refused() -> None:
    bank = bank_of(made("points", 4, 0))
    with pytest.raises(DataError, match="found format 7, expected 1; fit it again"):
        Bank.from_stored({**bank.to_json(), "format": 7}, bank.tensors())
    with pytest.raises(DataError, match="damaged, fit it again"):
        Bank.from_stored(bank.to_json(), {"held": bank.held})
    assert bank_of(made("points", 4, 1)).digest != bank.digest
    other = bank.with_settings({"caption": Setting(0.25, 2), "image": Setting()})
    assert other.digest != bank.digest and other.corrects and other.how == "i2t alpha 0, t2i alpha 0.25 of 2"


def test_it_knows_the_images_it_came_from_by_number_alone() -> None:
    pairs = Pairs([Item("a", ("red", "blue")), Item("b", ("red",))])
    keys, owner = item_keys(pairs)
    assert owner.tolist() == [0, 0, 1] and len(set(keys.tolist())) == 3
    bank = replace(bank_of(made("points", 4, 0)), held=torch.from_numpy(np.sort(keys[:1])), digest="")
    assert bank.holds(pairs) == 1
    assert bank.chosen is None and bank.chosen_on(pairs) == 0 and bank.sound
    chosen = bank.with_settings(bank.settings, pairs.take([1]))
    assert chosen.chosen_on(pairs) == 1 and chosen.digest != bank.digest
    again = Bank.from_stored(chosen.to_json(), chosen.tensors())
    assert again.chosen_on(pairs) == 1 and again.sound
    # Equal words of another image are no image of the bank, nor is another image of that name.
    assert bank.holds(Pairs([Item("c", ("red",)), Item("a", ("green",))])) == 0
