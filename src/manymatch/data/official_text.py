"""Vocabularies as the published systems store them: words with their numbers, and BERT's list of word-pieces."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError
from .text import Specials, Tokenizer, Vocabulary

__all__ = ["official_vocabulary", "read_vocabulary", "wordpiece_vocabulary"]

_WORDS = {"pad": "<pad>", "start": "<start>", "end": "<end>", "unknown": "<unk>", "mask": "<mask>"}
_PIECES = {"pad": "[PAD]", "start": "[CLS]", "end": "[SEP]", "unknown": "[UNK]", "mask": "[MASK]"}
_OPTIONAL = ("mask",)


def official_vocabulary(
    numbers: Mapping[str, int], *, mask: bool = False, where: str | Path = "vocabulary"
) -> Vocabulary:
    """A published GRU system's vocabulary: its own numbers, NLTK's words, no cut, `<start>` and `<end>` around a text.

    Args:
        numbers: word -> number, special words included.
        mask: append `<mask>` where it is missing, as the training scripts of VSE-infinity and DivE do after reading
            the file.
        where: named in errors.

    Raises:
        DataError: a special word is missing, or the numbers are not 0, 1, 2, ... without gap or repetition.
    """
    words = sorted(numbers, key=lambda word: numbers[word])
    for expected, word in enumerate(words):
        if numbers[word] != expected:
            raise DataError(
                f"{where}: {word!r} has number {numbers[word]!r}, expected {expected}: no gap, no repetition"
            )
    if mask and _WORDS["mask"] not in numbers:
        words.append(_WORDS["mask"])
    return _of_entries(words, _WORDS, Tokenizer(0, "nltk"), where)


def wordpiece_vocabulary(pieces: Sequence[str], *, longest: int = 510, where: str | Path = "vocabulary") -> Vocabulary:
    """BERT's vocabulary, `[CLS]` and `[SEP]` around a text.

    Args:
        pieces: in the order of their numbers, special ones included; of a repeated piece the last number is used, as
            BERT's own reader does.
        longest: word-pieces kept of a text; BERT has positions for 510 besides the two around them.
        where: named in errors.

    Raises:
        DataError: a special piece is missing.
    """
    return _of_entries(pieces, _PIECES, Tokenizer(longest, "wordpiece"), where)


def _of_entries(
    entries: Sequence[str], names: Mapping[str, str], tokenizer: Tokenizer, where: str | Path
) -> Vocabulary:
    found = {entry: number for number, entry in enumerate(entries)}
    missing = [name for role, name in names.items() if role not in _OPTIONAL and name not in found]
    if missing:
        raise DataError(f"{where}: {missing[0]} is missing, expected {', '.join(names.values())} among its words")
    special = Specials(
        pad=found[names["pad"]],
        unknown=found[names["unknown"]],
        start=found[names["start"]],
        end=found[names["end"]],
        mask=found.get(names["mask"]),
    )
    return Vocabulary(tuple(entry for entry in entries if entry not in names.values()), tokenizer, special)


def read_vocabulary(path: str | Path, *, mask: bool = False, longest: int = 510) -> Vocabulary:
    """A published vocabulary file: `.txt` is one word-piece a line; `.json` maps words to numbers, at the top or as
    `word2idx`.

    Args:
        path: the file.
        mask: of `.json`, see `official_vocabulary`.
        longest: of `.txt`, see `wordpiece_vocabulary`.

    Raises:
        DataError: not readable as either.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text ({error})") from None
    if path.suffix == ".txt":
        return wordpiece_vocabulary(text.rstrip("\n").split("\n"), longest=longest, where=path)
    return official_vocabulary(_numbers(text, path), mask=mask, where=path)


def _numbers(text: str, path: Path) -> dict[str, int]:
    try:
        value: Any = json.loads(text)
    except ValueError as error:
        raise DataError(
            f"{path}: {error}; expected JSON that maps words to numbers (or .txt, a piece a line)"
        ) from None
    if isinstance(value, dict) and "word2idx" in value:
        value = value["word2idx"]
    if not isinstance(value, dict) or not all(type(number) is int for number in value.values()):
        raise DataError(f"{path}: expected a JSON object that maps words to numbers, or one with it as word2idx")
    return value
