"""Batches: every image or caption once an epoch, the truth right, the order a function of seed and epoch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manymatch.data.batches import ImagesWithCaptions, Sampler, ShuffledPairs
from manymatch.data.pairs import Item, Pairs
from manymatch.errors import DataError


def some(images: int, seed: int = 0) -> Pairs:
    counts = np.random.default_rng(seed).integers(1, 6, images)
    return Pairs([Item(str(n), tuple(f"c{n}.{m}" for m in range(count))) for n, count in enumerate(counts)])


samplers = st.one_of(
    st.builds(ImagesWithCaptions, st.integers(2, 9), st.one_of(st.none(), st.integers(1, 6))),
    st.builds(ShuffledPairs, st.integers(2, 9), st.booleans()),
)


@given(sampler=samplers, images=st.integers(2, 30), seed=st.integers(0, 9), epoch=st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_an_epoch(sampler: Sampler, images: int, seed: int, epoch: int) -> None:
    pairs = some(images, seed)
    batches = list(sampler.epoch(pairs, seed=seed, epoch=epoch))
    assert len(batches) == sampler.steps(pairs)
    for batch in batches:
        assert batch.matches.shape == (len(batch.images), len(batch.captions))
        truth = pairs.owner[batch.captions][None, :] == batch.images[:, None]
        assert (batch.matches == truth).all(), "siblings are matches, all others are not"
        assert batch.matches.any(axis=0).all()
        assert len(set(batch.captions)) == len(batch.captions)
        if isinstance(sampler, ShuffledPairs) and sampler.repeat_images:
            assert (batch.images == pairs.owner[batch.captions]).all() and batch.matches.diagonal().all()
        else:
            assert len(set(batch.images)) == len(batch.images)
    if isinstance(sampler, ImagesWithCaptions):
        assert sorted(i for b in batches for i in b.images) == list(range(images))
    else:
        assert sorted(c for b in batches for c in b.captions) == list(range(len(pairs.captions)))
    again = list(sampler.epoch(pairs, seed=seed, epoch=epoch))
    assert all((a.captions == b.captions).all() for a, b in zip(batches, again, strict=True))


def test_a_repeated_image_stands_beside_each_of_its_captions() -> None:
    pairs = Pairs([Item("a", ("a0", "a1", "a2")), Item("b", ("b0",))])
    (once,) = ShuffledPairs(8).epoch(pairs, seed=0, epoch=0)
    (repeated,) = ShuffledPairs(8, repeat_images=True).epoch(pairs, seed=0, epoch=0)
    assert (once.captions == repeated.captions).all()
    assert sorted(once.images) == [0, 1] and sorted(repeated.images) == [0, 0, 0, 1]
    assert (repeated.matches == (repeated.images[:, None] == repeated.images)).all(), "a sibling is a match"


def test_epochs_and_seeds_differ() -> None:
    pairs, sampler = some(40), ImagesWithCaptions(8, 2)
    first = next(sampler.epoch(pairs, seed=0, epoch=0)).images
    assert (first != next(sampler.epoch(pairs, seed=0, epoch=1)).images).any()
    assert (first != next(sampler.epoch(pairs, seed=1, epoch=0)).images).any()


def test_no_batch_is_a_scrap() -> None:
    for images in range(2, 60):
        sizes = [len(b.images) for b in ImagesWithCaptions(8).epoch(some(images), seed=0, epoch=0)]
        assert max(sizes) <= 10 and min(sizes) >= min(images, 5)


def test_one_image_cannot_train() -> None:
    with pytest.raises(DataError, match="1 images with captions, expected at least 2"):
        ImagesWithCaptions().steps(some(1))
