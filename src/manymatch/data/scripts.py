"""Scripts that put no blanks between words: where a word ends is not written down, so each character is taken as one.

A dictionary would cut better, and another one for each language; a published tokeniser (BERT's, for one) does as here.
"""

from __future__ import annotations

import re
import unicodedata

__all__ = ["characters", "parted"]

_UNSPACED = (
    # Thai and Lao: blanks end phrases and sentences. Vowels that stand beside their consonant are letters of their own.
    (0x0E00, 0x0EFF),
    # Myanmar: blanks as it pleases the eye. Vowels and medials are marks and stay with their consonant.
    (0x1000, 0x109F),
    # Khmer: blanks end phrases. A subscript consonant begins with a mark, which stays with the letter before.
    (0x1780, 0x17FF),
    # Iteration marks and zero of Han: 々 〆 〇.
    (0x3005, 0x3007),
    # Hiragana, Katakana, Bopomofo (with extensions), Katakana's phonetic extensions.
    (0x3041, 0x312F),
    (0x31A0, 0x31BF),
    (0x31F0, 0x31FF),
    # Han: extension A, the unified ideographs, those for compatibility, and planes 2 and 3.
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x1AFF0, 0x1B16F),
    (0x20000, 0x3FFFF),
)
"""First and last code point. Not Tibetan: its syllables end with a dot (U+0F0B), which is punctuation and parts them
already. Not Hangul, which has blanks between words, nor Javanese and the like, which nobody has captions in."""

_RANGES = "".join(f"{chr(first)}-{chr(last)}" for first, last in _UNSPACED)
_WIDE = re.compile(r"[\uff01-\uffee]+")
_CHARACTER = re.compile(f"[{_RANGES}]")


def characters(word: str) -> bool:
    """Whether the word is of a script that puts no blanks between words."""
    return _CHARACTER.match(word) is not None


def parted(text: str) -> str:
    """The text with each character of such a script, and the marks on it, between blanks.

    Full-width letters and half-width kana, which occur in the same texts, become the usual ones (NFKC of these forms
    alone: of any other character it would change words that were told apart before, such as 2 and ²). A text without
    either comes back as it is.
    """
    if text.isascii():
        return text
    text = _WIDE.sub(lambda found: unicodedata.normalize("NFKC", found[0]), text)
    if _CHARACTER.search(text) is None:
        return text
    out: list[str] = []
    alone = False
    for char in text:
        mark = unicodedata.category(char)[0] == "M"
        if _CHARACTER.match(char) is not None and not (mark and out):
            out.append(f" {char}")
            alone = True
        elif mark:
            out.append(char)
        else:
            out.append(f" {char}" if alone else char)
            alone = False
    return "".join(out)
