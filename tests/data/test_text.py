"""Words and vocabulary: any script, from the training captions only, and texts that hold nothing."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manymatch.data import nltk_words as nltk_room
from manymatch.data import wordpiece as wordpiece_room
from manymatch.data.nltk_words import nltk_words
from manymatch.data.text import PAD, UNKNOWN, Specials, Tokenizer, Tokens, Vocabulary, texts_of
from manymatch.errors import DataError, UnknownName

RELEASED = Vocabulary(("a", "dog", "."), Tokenizer(0, "nltk"), Specials(pad=0, start=1, end=2, unknown=3, mask=7))
PIECES = Vocabulary(
    ("un", "##play", "##able", "dog", "!", "e"),
    Tokenizer(6, "wordpiece"),
    Specials(pad=0, unknown=4, start=2, end=3, mask=1),
)


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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A dog's ball can't roll.", ["a", "dog", "'s", "ball", "ca", "n't", "roll", "."]),
        ("One. Two .", ["one", ".", "two", "."]),
        ("at 3.5 metres, e-bikes (red)", ["at", "3.5", "metres", ",", "e-bikes", "(", "red", ")"]),
        ("  ", []),
    ],
)
def test_nltk_keeps_punctuation(text: str, words: list[str]) -> None:
    assert Tokenizer(0, "nltk").words(text) == words


def test_wordpiece_words_are_cut_at_punctuation_without_accents() -> None:
    assert Tokenizer(0, "wordpiece").words("Étés, 中文 l'e!") == ["etes", ",", "中", "文", "l", "'", "e", "!"]


@pytest.mark.parametrize("kind", ["words", "nltk", "wordpiece"])
def test_long_texts_are_cut(kind: str) -> None:
    assert len(Tokenizer(5, kind).words("w " * 50)) == 5  # type: ignore[arg-type]
    assert len(Tokenizer(0, kind).words("w " * 50)) == 50  # type: ignore[arg-type]


def test_a_tokeniser_that_does_not_exist() -> None:
    with pytest.raises(UnknownName, match=r"unknown tokeniser 'ntlk': did you mean 'nltk'"):
        Tokenizer(kind="ntlk")  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"longest -1, expected 0 \(all words\) or more"):
        Tokenizer(-1)


@pytest.mark.parametrize(
    ("room", "cached", "library", "extra"),
    [(nltk_room, "_cutters", "nltk", "official"), (wordpiece_room, "_library", "tokenizers", "hf")],
)
def test_a_missing_library_is_named(
    room: object, cached: str, library: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    getattr(room, cached).cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == library]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, library, None)
    wordpiece_room._front.cache_clear()
    with pytest.raises(DataError, match=rf'{library} is not installed; run pip install "manymatch\[{extra}\]"'):
        Vocabulary.from_json((RELEASED if library == "nltk" else PIECES).to_json()).encode(["a dog"])


def test_vocabulary_counts_and_orders() -> None:
    vocabulary = Vocabulary.build(["a b", "a b", "a c", "a"], least=2)
    assert vocabulary.words == ("a", "b") and len(vocabulary) == 5
    assert vocabulary.encode(["b zzz a", ""]).ids.tolist() == [[4, UNKNOWN, 3], [UNKNOWN, PAD, PAD]]
    assert vocabulary.knows("a zzz") and not vocabulary.knows("zzz") and not vocabulary.knows("")


def test_released_vocabulary_numbers_as_the_published_systems_do() -> None:
    vocabulary = Vocabulary.build(["A dog .", "a dog runs ."], least=2, released=True)
    assert vocabulary.words == (".", "a", "dog")
    assert vocabulary.specials == Specials(pad=0, start=1, end=2, unknown=3, mask=7) and len(vocabulary) == 8
    tokens = vocabulary.encode(["A cat, a dog.", "", " ".join(["a"] * 60)])
    assert tokens.ids[0, :8].tolist() == [1, 5, 3, 3, 5, 6, 4, 2]
    assert tokens.ids[1, :3].tolist() == [1, 2, 0] and tokens.lengths.tolist() == [8, 2, 62], "no text is cut"
    assert vocabulary.knows("a") and not vocabulary.knows("zzz") and not vocabulary.knows("")


def test_word_pieces() -> None:
    assert [PIECES.number(w) for w in PIECES.words] == [5, 6, 7, 8, 9, 10], "words take the numbers left free"
    tokens = PIECES.encode(["Unplayable DOG!", "é [CLS]", "dog dog dog dog dog dog dog"])
    assert tokens.ids[0].tolist() == [2, 5, 6, 7, 8, 9, 3, 0]
    assert tokens.ids[1, :6].tolist() == [2, 10, 4, 4, 4, 3], "special pieces are no words of a text"
    assert tokens.lengths.tolist() == [7, 6, 8], "cut at six pieces"
    assert PIECES.knows("a dog") and not PIECES.knows("cat") and not PIECES.knows("")


def test_special_numbers_must_fit() -> None:
    with pytest.raises(DataError, match=r"special numbers \[0, 1, 9\], expected different ones from 0 to 4"):
        Vocabulary(("a", "b"), specials=Specials(mask=9))
    with pytest.raises(DataError, match=r"special numbers \[0, 0, 2\]"):
        Vocabulary(("a", "b"), specials=Specials(unknown=0))


def test_vocabulary_needs_a_word() -> None:
    with pytest.raises(DataError, match=r"no word occurs 3 times .* least_count=1"):
        Vocabulary.build(["every word once"], least=3)


@pytest.mark.parametrize("vocabulary", [Vocabulary(("a", "b")), RELEASED, PIECES], ids=["own", "released", "pieces"])
@given(texts=st.lists(st.text(max_size=40), max_size=6))
def test_any_text_encodes_and_survives_json(vocabulary: Vocabulary, texts: list[str]) -> None:
    again = Vocabulary.from_json(json.loads(json.dumps(vocabulary.to_json())))
    assert again == vocabulary
    tokens = again.encode(texts)
    assert isinstance(tokens, Tokens) and len(tokens) == len(texts) and (tokens.lengths >= 1).all()
    assert ((tokens.ids != PAD).sum(1) == tokens.lengths).all() and tokens.ids.max(initial=0) < len(again)


def test_a_vocabulary_of_an_older_run_loads() -> None:
    old = {"words": ["a", "b"], "longest": 24}
    assert Vocabulary.from_json(old) == Vocabulary(("a", "b")) and Vocabulary(("a", "b")).to_json() == old


def test_texts_of_names_the_offender() -> None:
    assert texts_of("one") == ["one"]
    with pytest.raises(DataError, match=r"texts\[1\]: found int, expected a string"):
        texts_of(["a", 3])


@given(st.text(alphabet="ab.?! '\"", max_size=30))
def test_nltk_words_lose_no_letter(text: str) -> None:
    assert "".join(nltk_words(text)).count("a") == text.count("a")
