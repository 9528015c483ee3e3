"""Vocabularies of the published systems: their files, read as data, and the words and numbers they come to.

A file is a pickled object or dict with `word2idx`, the same as JSON, a plain JSON of word -> number, or BERT's
`vocab.txt`, a piece a line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ..errors import CheckpointError, DataError
from .files import regular_file
from .restricted import ANY_MODULE, PLAIN, Names, Record, unpickle
from .text import Specials, Tokenizer, Vocabulary

__all__ = ["OfficialVocabulary", "official_vocabulary", "read_vocabulary", "wordpiece_vocabulary", "words_by_number"]

_WORDS = {"pad": "<pad>", "start": "<start>", "end": "<end>", "unknown": "<unk>", "mask": "<mask>"}
_PIECES = {"pad": "[PAD]", "start": "[CLS]", "end": "[SEP]", "unknown": "[UNK]", "mask": "[MASK]"}
_OPTIONAL = ("mask",)

_NAMES: Names = {**PLAIN, (ANY_MODULE, "Vocabulary"): Record}
_LARGEST = 2**29
"""Bytes of a vocabulary file; a hundred times the largest known."""


@dataclass(frozen=True)
class OfficialVocabulary:
    """Words by number, as the official code counted them.

    Attributes:
        words: number n is `words[n]`; `<pad>`, `<start>`, `<unk>` and their like included.
        wordpiece: BERT's pieces rather than words. A piece may stand in the list twice.
        where: what and which file, as messages begin.
    """

    words: tuple[str, ...]
    wordpiece: bool = False
    where: str = field(default="vocabulary", compare=False)

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Word -> number; of a repeated piece the last, as BERT's own reader has it."""
        return {word: n for n, word in enumerate(self.words)}

    def vocabulary(self, *, mask: bool = False, longest: int = 510) -> Vocabulary:
        """As towers read it.

        Args:
            mask: of words, see `official_vocabulary`.
            longest: of word-pieces, see `wordpiece_vocabulary`.

        Raises:
            DataError: a special word is missing.
        """
        if self.wordpiece:
            return wordpiece_vocabulary(self.words, longest=longest, where=self.where)
        return official_vocabulary(self.numbers, mask=mask, where=self.where)


# ---- what the towers read


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


# ---- files


def read_vocabulary(path: str | Path) -> OfficialVocabulary:
    """Read a vocabulary by its suffix: `.pkl`, `.pickle`, `.json`, or `.txt` (BERT, a piece a line).

    Raises:
        DataError: no such file.
        CheckpointError: damaged, of another kind, numbers that leave a gap, or a pickle that asks for anything but a
            class called Vocabulary; nothing is imported, whatever module it names.
    """
    path = regular_file(path, "vocabulary")
    where, size, suffix = f"vocabulary: {str(path)!r}", path.stat().st_size, path.suffix.lower()
    if suffix not in (".pkl", ".pickle", ".json", ".txt"):
        raise CheckpointError(f"{where}: suffix {path.suffix!r}, expected .pkl, .json or .txt (BERT's vocab.txt)")
    if not 0 < size <= _LARGEST:
        raise CheckpointError(f"{where} has {size} bytes, expected at least one and at most {_LARGEST}; get it again")
    data = path.read_bytes()
    if suffix == ".txt":
        return OfficialVocabulary(_pieces(data, where), wordpiece=True, where=where)
    tree = _json(data, where) if suffix == ".json" else unpickle(data, where, _NAMES)
    return OfficialVocabulary(words_by_number(tree, where), where=where)


def _json(data: bytes, where: str) -> object:
    try:
        return json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{where} is not JSON ({error}); get it again") from None


def _pieces(data: bytes, where: str) -> tuple[str, ...]:
    try:
        lines = data.decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{where}: byte {error.start + 1} is not UTF-8; expected one piece a line") from None
    return tuple(line.removesuffix("\r") for line in lines)


def words_by_number(tree: object, where: str) -> tuple[str, ...]:
    """The words of `word -> number`, plain or under `word2idx`, in the order of their numbers.

    Raises:
        CheckpointError: something else, or not every number from 0 on once.
    """
    if isinstance(tree, Record):
        tree = tree.fields
    if isinstance(tree, dict) and "word2idx" in tree:
        tree = tree["word2idx"]
    if not isinstance(tree, dict) or not tree or not all(isinstance(word, str) for word in tree):
        raise CheckpointError(
            f"{where} holds a value of type {type(tree).__name__}, expected numbers by word (word2idx)"
        )
    words: dict[int, str] = {}
    for word, number in tree.items():
        if type(number) is not int or not 0 <= number < len(tree) or number in words:
            raise CheckpointError(
                f"{where}: {word[:40]!a} has number {ascii(number)[:40]}, expected each from 0 to {len(tree) - 1} once"
            )
        if any("\ud800" <= letter <= "\udfff" for letter in word):
            raise CheckpointError(f"{where}: word {number} is not UTF-8 ({word[:40]!a}); write it again as UTF-8")
        words[number] = word
    return tuple(words[number] for number in range(len(tree)))
