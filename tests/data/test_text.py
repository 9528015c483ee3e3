"""Words and vocabulary: any script, from the training captions only, and texts that hold nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manymatch.data.text import PAD, UNKNOWN, Tokenizer, Vocabulary, texts_of
from manymatch.errors import DataError


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A dog's ball, 2 dogs!", ["a", "dog", "ball", "2", "dogs"]),
        ("dog’s", ["dog"]),
        ("Ein Mädchen läuft", ["ein", "mädchen", "läuft"]),
        ("two_words", ["two", "words"]),
        ("e\u0301te\u0301 été", ["été", "été"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("...", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert Tokenizer().words(text) == words


def test_long_texts_are_cut() -> None:
    assert len(Tokenizer(longest=5).words("w " * 50)) == 5


def test_vocabulary_counts_and_orders() -> None:
    vocabulary = Vocabulary.build(["a b", "a b", "a c", "a"], least=2)
    assert vocabulary.words == ("a", "b") and len(vocabulary) == 5
    assert vocabulary.encode(["b zzz a", ""]).ids.tolist() == [[4, UNKNOWN, 3], [UNKNOWN, PAD, PAD]]
    assert vocabulary.knows("a zzz") and not vocabulary.knows("zzz") and not vocabulary.knows("")


def test_vocabulary_needs_a_word() -> None:
    with pytest.raises(DataError, match=r"no word occurs 3 times .* least_count=1"):
        Vocabulary.build(["every word once"], least=3)


@given(st.lists(st.text(max_size=40), max_size=6))
def test_any_text_encodes_and_survives_json(texts: list[str]) -> None:
    vocabulary = Vocabulary.from_json(Vocabulary(("a", "b")).to_json())
    tokens = vocabulary.encode(texts)
    assert len(tokens) == len(texts) and (tokens.lengths >= 1).all()
    assert ((tokens.ids != PAD).sum(1) == tokens.lengths).all()


def test_texts_of_names_the_offender() -> None:
    assert texts_of("one") == ["one"]
    with pytest.raises(DataError, match=r"texts\[1\]: found int, expected a string"):
        texts_of(["a", 3])
