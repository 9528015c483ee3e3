"""Fewer words of a caption: nested, in their order, of any script."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manymatch.data.shortening import shortened

SHARES = (0.25, 0.5, 0.75, 1.0)


@given(st.lists(st.sampled_from(["a", "bc", "def", "gh", "12"]), min_size=1, max_size=12), st.integers(0, 99))
def test_each_is_a_part_of_the_next(words: list[str], seed: int) -> None:
    found = shortened(" ".join(words), SHARES, np.random.default_rng(seed))
    assert found[-1].split() == words
    for less, more in pairwise(found):
        rest = iter(more.split())
        assert all(word in rest for word in less.split())
    assert [len(text.split()) for text in found] == [max(1, round(share * len(words))) for share in SHARES]


@pytest.mark.parametrize(("text", "words"), [("A dog's Ball!", 3), ("两只狗在雪地里", 7), ("", 0)])
def test_any_text(text: str, words: int) -> None:
    half, whole = shortened(text, (0.5, 1.0), np.random.default_rng(0))
    assert len(whole.split()) == words and len(half.split()) <= words


def test_the_same_draw_leaves_out_the_same_words() -> None:
    text = "two brown dogs run over a wide field of snow"
    one, two, other = (shortened(text, SHARES, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert one == two != other
