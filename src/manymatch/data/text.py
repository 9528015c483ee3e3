"""Captions to words, words to numbers: a tokeniser for any script, and a vocabulary of the training split only."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ..errors import DataError

__all__ = ["MASK", "PAD", "UNKNOWN", "Tokenizer", "Tokens", "Vocabulary", "texts_of"]

PAD, UNKNOWN, MASK = 0, 1, 2
_SPECIAL = ("<pad>", "<unk>", "<mask>")
_WORD = re.compile(r"[a-z0-9]+")
_POSSESSIVE = re.compile(r"['’]s\b")


def texts_of(texts: Any) -> list[str]:
    """A list of strings from one string or many. Raises DataError at anything else, with its position."""
    if isinstance(texts, str):
        return [texts]
    out = list(texts)
    for n, text in enumerate(out):
        if not isinstance(text, str):
            raise DataError(f"texts[{n}]: found {type(text).__name__}, expected a string")
    return out


@dataclass(frozen=True)
class Tokenizer:
    """Lower case, possessive "'s" dropped, runs of letters, their marks and digits, of any script.

    A script that puts no blanks between words gives one word a run.

    Attributes:
        longest: words kept of a text; the rest is cut.
    """

    longest: int = 24

    def words(self, text: str) -> list[str]:
        """The words of one text, at most `longest`."""
        plain = _POSSESSIVE.sub("", unicodedata.normalize("NFC", text.lower()))
        found = _WORD.findall(plain) if plain.isascii() else _runs(plain)
        return found[: self.longest]


def _runs(text: str) -> list[str]:
    """Runs of letters, digits and the marks that belong to them, in any script."""
    spaced = (c if c.isalnum() or unicodedata.category(c).startswith("M") else " " for c in text)
    return "".join(spaced).split()


@dataclass(frozen=True)
class Tokens:
    """Texts as numbers.

    Attributes:
        ids: (n, w) int64, rows padded behind with PAD.
        lengths: (n,) int64, at least 1.
    """

    ids: np.ndarray[Any, np.dtype[np.int64]]
    lengths: np.ndarray[Any, np.dtype[np.int64]]

    def __len__(self) -> int:
        return len(self.lengths)


@dataclass(frozen=True)
class Vocabulary:
    """Words by number. 0 is padding, 1 an unknown word, 2 a masked one.

    Attributes:
        words: the known words, number 3 first.
        tokenizer: how a text becomes words.
    """

    words: tuple[str, ...]
    tokenizer: Tokenizer = field(default_factory=Tokenizer)

    @classmethod
    def build(cls, texts: Iterable[str], *, least: int = 3, tokenizer: Tokenizer | None = None) -> Vocabulary:
        """Words that occur at least `least` times, most frequent first (ties by spelling)."""
        tokenizer = tokenizer or Tokenizer()
        counts = Counter(word for text in texts for word in tokenizer.words(text))
        known = sorted((w for w, n in counts.items() if n >= least), key=lambda w: (-counts[w], w))
        if not known:
            raise DataError(
                f"vocabulary: no word occurs {least} times in the training captions ({len(counts)} different words); "
                "train on more captions or lower it with --set least_count=1"
            )
        return cls(tuple(known), tokenizer)

    @cached_property
    def _number(self) -> dict[str, int]:
        return {word: n for n, word in enumerate(self.words, start=len(_SPECIAL))}

    def __len__(self) -> int:
        return len(_SPECIAL) + len(self.words)

    def number(self, word: str) -> int | None:
        """A known word's number, else None."""
        return self._number.get(word)

    def encode(self, texts: Sequence[str]) -> Tokens:
        """Texts to numbers; a text without a word is one unknown word."""
        rows = [[self._number.get(w, UNKNOWN) for w in self.tokenizer.words(t)] or [UNKNOWN] for t in texts]
        lengths = np.array([len(r) for r in rows], np.int64)
        ids = np.zeros((len(rows), int(lengths.max(initial=1))), np.int64)
        for n, row in enumerate(rows):
            ids[n, : len(row)] = row
        return Tokens(ids, lengths)

    def knows(self, text: str) -> bool:
        """Whether any word of the text is in it."""
        return any(word in self._number for word in self.tokenizer.words(text))

    def to_json(self) -> dict[str, Any]:
        return {"words": list(self.words), "longest": self.tokenizer.longest}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Vocabulary:
        return cls(tuple(value["words"]), Tokenizer(longest=int(value["longest"])))
