"""Scripts without blanks between words: a character is a word; other texts are cut as they always were."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manymatch.data.scripts import characters, parted
from manymatch.data.text import Tokenizer, Vocabulary

WORDS = Tokenizer(0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("两只狗在路上打架。", list("两只狗在路上打架")),
        ("一个人用iPhone 15拍two dogs", ["一", "个", "人", "用", "iphone", "15", "拍", "two", "dogs"]),
        ("犬が走る。", list("犬が走る")),
        ("か\u3099く", ["が", "く"]),
        ("ラーメン屋々", list("ラーメン屋々")),
        ("ㄅㄆㄇ", list("ㄅㄆㄇ")),
        ("สุนัขสีแดง", ["สุ", "นั", "ข", "สี", "แ", "ด", "ง"]),
        ("ໝາແດງ", list("ໝາແດງ")),
        ("ခွေးနီ", ["ခွေး", "နီ"]),
        ("ឆ្កែ", ["ឆ្", "កែ"]),
        ("ཁྱི་དམར་པོ", ["ཁྱི", "དམར", "པོ"]),
        ("빨간 개", ["빨간", "개"]),
        ("ｄｏｇ’ｓ １２ ｶﾞﾗｽ！", ["dog", "12", *"ガラス"]),
        ("𠀋犬\U0002f800", ["𠀋", "犬", "丽"]),
        ("½ x² ﬁ", ["½", "x²", "ﬁ"]),
        ("\u0301犬\u0301", ["\u0301", "犬\u0301"]),
    ],
)
def test_words_of_every_script(text: str, words: list[str]) -> None:
    assert WORDS.words(text) == words


def old_rule(text: str) -> list[str]:
    """What "words" was before scripts without blanks were cut."""
    plain = re.sub(r"['’]s\b", "", unicodedata.normalize("NFC", text.lower()))
    if plain.isascii():
        return re.findall(r"[a-z0-9]+", plain)
    return "".join(c if c.isalnum() or unicodedata.category(c).startswith("M") else " " for c in plain).split()


@given(st.text(st.characters(max_codepoint=127)), st.sampled_from([0, 1, 5, 24]))
def test_ascii_texts_are_cut_as_before(text: str, longest: int) -> None:
    words = old_rule(text)
    assert Tokenizer(longest).words(text) == (words[:longest] if longest else words)


@given(st.text(st.characters(max_codepoint=0x0DFF)), st.sampled_from([0, 5, 24]))
def test_alphabets_are_cut_as_before(text: str, longest: int) -> None:
    """Latin, Greek, Cyrillic, Hebrew, Arabic, Devanagari and their neighbours."""
    words = old_rule(text)
    assert Tokenizer(longest).words(text) == (words[:longest] if longest else words)


@given(st.text())
def test_cutting_loses_and_adds_nothing(text: str) -> None:
    assert parted(parted(text)).split() == parted(text).split()
    wide = any("\uff01" <= char <= "\uffee" for char in text)
    assert wide or "".join(parted(text).split()) == "".join(text.split())
    assert all(not characters(word) or len(word.rstrip()) == 1 or _marked(word) for word in WORDS.words(text))


def _marked(word: str) -> bool:
    return all(unicodedata.category(char)[0] == "M" for char in word[1:])


def test_two_characters_count_as_one_word_of_the_longest() -> None:
    assert len(Tokenizer(24).words("狗" * 100)) == 48
    assert Tokenizer(3).words("狗a狗b狗c狗") == ["狗", "a", "狗", "b"]
    assert Tokenizer(3).words("a b c 狗") == ["a", "b", "c"]
    vocabulary = Vocabulary(tuple("狗猫"), Tokenizer(3))
    assert not vocabulary.cuts("狗猫狗猫狗猫") and vocabulary.cuts("狗猫狗猫狗猫狗") and vocabulary.cuts("a b c d")


def test_vocabulary_of_chinese_captions() -> None:
    vocabulary = Vocabulary.build(["红色的狗", "红色的猫", "狗和猫"], least=2)
    assert set(vocabulary.words) == set("红色的狗猫")
    assert vocabulary.knows("一只狗") and not vocabulary.knows("dog")
