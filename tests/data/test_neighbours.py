"""Neighbour batches: every caption once an epoch, as shuffling has it, among images that look alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manymatch.data import neighbours
from manymatch.data.batches import Rows, Sampler, ShuffledPairs
from manymatch.data.features import Features
from manymatch.data.neighbours import NeighbourBatches, clusters_of, looks
from manymatch.data.pairs import Item, Pairs
from manymatch.errors import DataError


class Held:
    """Features in memory, by the item's row."""

    def __init__(self, vectors: Any = None, lengths: Any = None, pooled: Any = None) -> None:
        self.all = Features(vectors, lengths, pooled)
        self.read: list[int] = []

    def get(self, items: Sequence[Item]) -> Features:
        rows = [item.row for item in items]
        self.read += rows
        parts = (self.all.vectors, self.all.lengths, self.all.pooled)
        return Features(*(None if part is None else part[rows] for part in parts))

    def sizes(self) -> dict[str, int]:
        return {"fragments": 3, "fragment_width": 4, "pooled_width": 5}


def some(images: int, seed: int = 0, least: int = 1) -> Pairs:
    """Images with `least` to five captions and random pooled features."""
    draw = np.random.default_rng(seed)
    counts = draw.integers(least, 6, images)
    items = [Item(str(n), tuple(f"c{n}.{m}" for m in range(count)), row=n) for n, count in enumerate(counts)]
    return Pairs(items, features=Held(pooled=draw.standard_normal((images, 5)).astype(np.float32)))


def blobs(count: int, each: int) -> Pairs:
    """`count` groups of `each` images that are all but alike, two captions each."""
    draw = np.random.default_rng(0)
    centres = np.eye(count, dtype=np.float32).repeat(each, axis=0)
    items = [Item(str(n), (f"a{n}", f"b{n}"), row=n) for n in range(count * each)]
    return Pairs(items, features=Held(pooled=centres + 0.01 * draw.random(centres.shape, np.float32)))


def hardest_negative(pairs: Pairs, sampler: Sampler, epochs: int = 2) -> float:
    """Mean over images of the highest cosine to another image of their batch."""
    vectors, out = looks(pairs.images), []
    for epoch in range(epochs):
        for batch in sampler.epoch(pairs, seed=0, epoch=epoch):
            cosines = vectors[batch.images] @ vectors[batch.images].T
            np.fill_diagonal(cosines, -1.0)
            out.append(cosines.max(axis=1))
    return float(np.concatenate(out).mean())


def same(first: Iterator[Rows], second: Iterator[Rows]) -> bool:
    pairs = list(zip(first, second, strict=True))
    return all(np.array_equal(a.images, b.images) and np.array_equal(a.captions, b.captions) for a, b in pairs)


samplers = st.builds(
    NeighbourBatches, st.integers(2, 40), st.sampled_from([1, 1, 2, None]), st.integers(1, 16), st.integers(1, 60)
)


@given(sampler=samplers, images=st.integers(2, 40), seed=st.integers(0, 9), epoch=st.integers(0, 2))
@settings(max_examples=40, deadline=None)
def test_an_epoch(sampler: NeighbourBatches, images: int, seed: int, epoch: int) -> None:
    pairs = some(images, seed, least=0)
    if sum(bool(item.captions) for item in pairs.items) < 2:
        return
    batches = list(sampler.epoch(pairs, seed=seed, epoch=epoch))
    assert len(batches) == sampler.steps(pairs)
    assert sorted(c for b in batches for c in b.captions) == list(range(len(pairs.captions)))
    for batch in batches:
        assert len(set(batch.images)) == len(batch.images) <= 1.25 * sampler.batch + 1
        truth = pairs.owner[batch.captions][None, :] == batch.images[:, None]
        assert (batch.matches == truth).all() and truth.any(axis=0).all() and truth.any(axis=1).all()
    if sampler.captions == 1:
        assert len(batches) == ShuffledPairs(sampler.batch).steps(pairs)
    fresh = NeighbourBatches(sampler.batch, sampler.captions, sampler.groups, sampler.size)
    assert same(iter(batches), fresh.epoch(pairs, seed=seed, epoch=epoch)), "(seed, epoch) and the data say it all"


def test_epochs_and_seeds_differ() -> None:
    pairs, sampler = some(60), NeighbourBatches(16)
    assert not same(sampler.epoch(pairs, seed=0, epoch=0), sampler.epoch(pairs, seed=0, epoch=1))
    assert not same(sampler.epoch(pairs, seed=0, epoch=0), sampler.epoch(pairs, seed=1, epoch=0))


@pytest.mark.parametrize(("groups", "least", "most"), [(2, 2, 4), (4, 4, 7), (16, 4, 7)])
def test_a_batch_is_a_few_images_of_each_of_several_clusters(groups: int, least: int, most: int) -> None:
    pairs = blobs(16, 40)
    batches = list(NeighbourBatches(64, groups=groups).epoch(pairs, seed=0, epoch=0))
    found = [len(set(batch.images // 40)) for batch in batches]
    assert least <= np.mean(found) <= most, "sixteen of sixteen clusters would be no choice, so they are four"
    assert np.mean([len(set(b.images // 40)) for b in ShuffledPairs(64).epoch(pairs, seed=0, epoch=0)]) > 14


def test_large_clusters_do_not_pile_up_at_the_end_of_a_pass() -> None:
    items = [Item(str(n), (f"a{n}",), row=n) for n in range(480)]
    large = np.arange(480) < 240
    pairs = Pairs(items, features=Held(pooled=np.where(large[:, None], [[1.0, 0.0]], [[0.0, 1.0]]).astype(np.float32)))
    sampler = NeighbourBatches(64)
    sampler._found.append((pairs, np.where(large, 0, np.arange(480) // 16)))
    shares = [float(large[b.images].mean()) for b in sampler.epoch(pairs, seed=0, epoch=0)]
    assert len(shares) == 8 and min(shares) > 0.3 and max(shares) < 0.7


def test_clusters_are_found_once_for_the_same_pairs() -> None:
    pairs, other, sampler = some(60), some(60, seed=1), NeighbourBatches(16)
    first = sampler.clusters(pairs)
    assert isinstance(pairs.features, Held) and pairs.features.read == list(range(60))
    list(sampler.epoch(pairs, seed=0, epoch=0))
    assert len(pairs.features.read) == 60
    assert not np.array_equal(sampler.clusters(other), first)
    assert np.array_equal(sampler.clusters(pairs), first)
    assert sampler == NeighbourBatches(16), "what is kept is no setting"


def test_like_images_fall_into_one_cluster() -> None:
    found = clusters_of(looks(blobs(6, 10).images), 6)
    assert all(len(set(found[n * 10 : n * 10 + 10])) == 1 for n in range(6)) and len(set(found)) == 6


def test_equal_images_train_too() -> None:
    items = [Item(str(n), ("a",), row=n) for n in range(40)]
    pairs = Pairs(items, features=Held(pooled=np.ones((40, 5), np.float32)))
    assert sum(len(b.images) for b in NeighbourBatches(8).epoch(pairs, seed=0, epoch=0)) == 40


@pytest.mark.parametrize("data", ["world", "featured"])
@pytest.mark.parametrize("batch", [16, 32])
def test_negatives_are_harder_than_with_shuffling(data: str, batch: int, request: pytest.FixtureRequest) -> None:
    pairs = request.getfixturevalue(data)
    near = hardest_negative(pairs, NeighbourBatches(batch))
    chance = hardest_negative(pairs, ShuffledPairs(batch))
    assert 1 - near < 0.96 * (1 - chance), f"hardest negatives at {near:.3f}, by chance at {chance:.3f}"


# ---- what they are clustered by


def test_looks_are_the_mean_of_the_real_fragments() -> None:
    draw = np.random.default_rng(0)
    vectors, pooled = draw.standard_normal((4, 3, 4)).astype(np.float32), np.ones((4, 5), np.float32)
    lengths = np.array([3, 1, 2, 3])
    vectors[1, 1:], vectors[2, 2:] = np.nan, 1e9
    items = [Item(str(n), ("a",), row=n) for n in range(4)]
    found = looks(Pairs(items, features=Held(vectors, lengths, pooled)).images)
    expected = np.stack([vectors[n, :length].mean(axis=0) for n, length in enumerate(lengths)])
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected, axis=1, keepdims=True), rtol=1e-5)


def test_looks_without_fragments_are_the_pooled_vectors_or_thumbnails(world: Pairs) -> None:
    found = looks(some(5).images)
    assert found.shape == (5, 5) and found.dtype == np.float32
    thumbnails = looks(world.images.take([0, 1, 0]))
    assert thumbnails.shape == (3, 192) and np.array_equal(thumbnails[0], thumbnails[2])
    for each in (found, thumbnails):
        np.testing.assert_allclose(np.linalg.norm(each, axis=1), 1.0, rtol=1e-5)


def test_looks_do_not_mind_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = some(50)
    whole = looks(pairs.images)
    monkeypatch.setattr(neighbours, "_BLOCK", 7 * 17)
    np.testing.assert_allclose(looks(pairs.images), whole, rtol=1e-6)


def test_wide_features_are_projected_and_stay_about_as_far_apart() -> None:
    draw = np.random.default_rng(0)
    wide = (1 + 0.3 * draw.standard_normal((40, 3000))).astype(np.float32)
    items = [Item(str(n), ("a",), row=n) for n in range(40)]
    found = looks(Pairs(items, features=Held(pooled=wide)).images)
    assert found.shape == (40, 512)
    unit = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    above = np.triu_indices(40, 1)
    before, after = (np.linalg.norm(x[:, None] - x, axis=-1)[above] for x in (unit, found))
    assert np.abs(after / before - 1).max() < 0.2 and abs(np.mean(after / before) - 1) < 0.05


def test_what_cannot_be_looked_at_is_said() -> None:
    items = [Item(f"i{n}", ("a",), row=n) for n in range(4)]
    bad = np.ones((4, 5), np.float32)
    bad[2, 3] = np.inf
    with pytest.raises(DataError, match="features of image 'i2' hold NaN or infinity"):
        looks(Pairs(items, features=Held(pooled=bad)).images)
    with pytest.raises(DataError, match="image 'i0': no picture"):
        next(NeighbourBatches().epoch(Pairs(items), seed=0, epoch=0))
    with pytest.raises(DataError, match="1 images with captions, expected at least 2"):
        NeighbourBatches().steps(Pairs(items[:1]))
