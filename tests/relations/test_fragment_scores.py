"""Scores of all words and regions at once: their definition, pair by pair, and what padding may do."""

from __future__ import annotations

import pytest
import torch
from graph_worlds import one_pair, side
from hypothesis import given, settings
from hypothesis import strategies as st

from manymatch.embeddings import Encoded, Fragments
from manymatch.errors import DataError
from manymatch.relations import fragment_scores as room
from manymatch.relations.fragment_scores import FragmentScores, fragment_scores

SIZES = {
    "regions": st.lists(st.integers(1, 7), min_size=1, max_size=4),
    "words": st.lists(st.integers(1, 6), min_size=1, max_size=5),
    "more": st.integers(0, 3),
    "top": st.integers(1, 8),
    "seed": st.integers(0, 99),
}


def scored(images: Encoded, texts: Encoded, **kwargs: object) -> FragmentScores:
    assert images.fragments is not None and texts.fragments is not None
    return fragment_scores(images.fragments, texts.fragments, **kwargs)  # type: ignore[arg-type]


@settings(deadline=None, max_examples=40)
@given(**SIZES, mode=st.sampled_from(["paper", "released"]))
def test_it_is_the_definition_of_every_pair(
    regions: list[int], words: list[int], more: int, top: int, seed: int, mode: str
) -> None:
    images, texts = side(regions, max(regions) + more, seed), side(words, max(words) + more, seed + 100)
    found = scored(images, texts, top=top, mode=mode)
    assert images.fragments is not None and texts.fragments is not None
    for i, r in enumerate(regions):
        for c, w in enumerate(words):
            image = images.fragments.vectors[i, : r if mode == "paper" else None]
            text = texts.fragments.vectors[c]
            wanted = one_pair(image, text[:w], text[w:top], top, mode)
            for name, value in wanted.items():
                at = (i, c) if name.endswith("i2t") else (c, i)
                torch.testing.assert_close(getattr(found, name)[at], value, rtol=0, atol=1e-5)


@settings(deadline=None, max_examples=20)
@given(**SIZES, mode=st.sampled_from(["paper", "released"]))
def test_blocks_equal_the_whole(
    regions: list[int], words: list[int], more: int, top: int, seed: int, mode: str
) -> None:
    images, texts = side(regions, max(regions), seed), side(words, max(words) + more, seed + 100)
    whole = scored(images, texts, top=top, mode=mode)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "BLOCK", 1)
        parts = scored(images, texts, top=top, mode=mode)
    for name, value in vars(whole).items():
        torch.testing.assert_close(getattr(parts, name), value, rtol=0, atol=1e-6)


@settings(deadline=None, max_examples=20)
@given(**SIZES)
def test_more_padding_changes_nothing_in_paper_mode(
    regions: list[int], words: list[int], more: int, top: int, seed: int
) -> None:
    images, texts = side(regions, max(regions), seed), side(words, max(words), seed + 100)

    def padded(one: Encoded) -> Encoded:
        assert one.fragments is not None
        f = one.fragments
        vectors = torch.cat([f.vectors, torch.randn(len(f), more, f.vectors.shape[2])], 1)
        valid = torch.cat([f.valid, torch.zeros(len(f), more, dtype=torch.bool)], 1)
        return Encoded(one.embedding, Fragments(vectors, valid, f.pooled))

    short, long = scored(images, texts, top=top), scored(padded(images), padded(texts), top=top)
    for name, value in vars(short).items():
        torch.testing.assert_close(getattr(long, name), value, rtol=0, atol=1e-6)


def test_padded_regions_count_in_released_mode_only() -> None:
    images, texts = side([2, 5], 5, 0), side([4], 4, 1)
    assert images.fragments is not None
    other = images.fragments.vectors.clone()
    other[0, 2:] += 1.0
    changed = Encoded(images.embedding, Fragments(other, images.fragments.valid, images.fragments.pooled))
    for mode, same in (("paper", True), ("released", False)):
        before, after = scored(images, texts, top=3, mode=mode), scored(changed, texts, top=3, mode=mode)
        assert torch.allclose(before.mean_t2i[0, 0], after.mean_t2i[0, 0]) == same


def test_a_gap_in_a_caption_is_padding() -> None:
    images, texts = side([3, 3], 3, 0), side([5], 5, 1)
    assert texts.fragments is not None
    kept = torch.tensor([0, 2, 3])
    valid = torch.tensor([[True, False, True, True, False]])
    gap = Encoded(texts.embedding, Fragments(texts.fragments.vectors, valid, texts.fragments.pooled))
    cut = Encoded(
        texts.embedding,
        Fragments(texts.fragments.vectors[:, kept], torch.ones(1, 3, dtype=torch.bool), texts.fragments.pooled),
    )
    for name, value in vars(scored(images, gap, top=4)).items():
        torch.testing.assert_close(value, getattr(scored(images, cut, top=4), name), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("regions", "words", "said"), [([3, 0], [2], "image 1"), ([3], [2, 2, 0], "caption 2")])
def test_an_item_without_fragments_is_refused(regions: list[int], words: list[int], said: str) -> None:
    with pytest.raises(DataError, match=f"{said} of the batch has no valid fragment"):
        scored(side(regions, 3, 0), side(words, 3, 1))
