"""BERT's uncased tokenisation from a list of word-pieces alone: no files, no special words inside a text."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from ..errors import DataError

__all__ = ["CONTINUES", "WordPieces"]

CONTINUES = "##"
"""How a word-piece that does not begin a word is spelt."""
_UNKNOWN = "[UNK]"
_LONGEST_WORD = 100


@cache
def _library() -> Any:
    try:
        import tokenizers
    except ImportError:
        raise DataError(
            'this vocabulary is one of word-pieces, and tokenizers is not installed; run pip install "manymatch[hf]"'
        ) from None
    return tokenizers


@cache
def _front() -> tuple[Any, Any]:
    """Clean-up, lower case without accents, blanks around CJK; then cuts at blanks and punctuation."""
    library = _library()
    return library.normalizers.BertNormalizer(lowercase=True), library.pre_tokenizers.BertPreTokenizer()


class WordPieces:
    """Greedy longest-match-first word-pieces (Schuster and Nakajima 2012), as `bert-base-uncased` is read.

    Args:
        numbers: word-piece -> number, pieces inside a word spelt with "##".
        unknown: number of a word that cannot be made of pieces, or is longer than 100 characters.
    """

    def __init__(self, numbers: Mapping[str, int], unknown: int) -> None:
        library = _library()
        pieces = {**numbers, _UNKNOWN: unknown}
        model = library.models.WordPiece(
            pieces,
            unk_token=_UNKNOWN,
            max_input_chars_per_word=_LONGEST_WORD,
            continuing_subword_prefix=CONTINUES,
        )
        self._tokenizer = library.Tokenizer(model)
        self._tokenizer.normalizer, self._tokenizer.pre_tokenizer = _front()

    def numbers(self, text: str) -> list[int]:
        """Numbers of one text's word-pieces."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    @staticmethod
    def words(text: str) -> list[str]:
        """One text's words before they are cut into pieces."""
        normalizer, cutter = _front()
        return [word for word, _ in cutter.pre_tokenize_str(normalizer.normalize_str(text))]
