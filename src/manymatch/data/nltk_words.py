"""Words as NLTK's word tokeniser cuts them, without the data files it would load."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from ..errors import DataError

__all__ = ["nltk_words"]


@cache
def _cutters() -> tuple[Callable[[str], list[str]], Callable[[str], list[str]]]:
    try:
        from nltk.tokenize.destructive import NLTKWordTokenizer
        from nltk.tokenize.punkt import PunktSentenceTokenizer
    except ImportError:
        raise DataError(
            "this vocabulary is cut by NLTK's word tokeniser, and nltk is not installed; "
            'run pip install "manymatch[official]"'
        ) from None
    return PunktSentenceTokenizer().tokenize, NLTKWordTokenizer().tokenize


def nltk_words(text: str) -> list[str]:
    """Words and punctuation of a text, sentence by sentence: a full stop is cut off only at a sentence's end.

    The sentence splitter is untrained, so it knows no abbreviations: "an st. bernard" is two sentences here, where the
    model that NLTK offers for download would keep "st." whole. Captions of one sentence come out the same.

    Raises:
        DataError: nltk is not installed.
    """
    sentences, words = _cutters()
    return [word for sentence in sentences(text) for word in words(sentence)]
