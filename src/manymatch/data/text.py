"""Captions to words, words to numbers: tokenisers, and a vocabulary of the training split or of a published system."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import count
from typing import Any, Literal, TypeVar, get_args

import numpy as np

from ..errors import DataError, UnknownName
from .nltk_words import nltk_words
from .scripts import characters, parted
from .wordpiece import WordPieces

__all__ = ["MASK", "PAD", "UNKNOWN", "Specials", "Tokenizer", "Tokens", "Vocabulary", "texts_of"]

PAD, UNKNOWN, MASK = 0, 1, 2
TokenKind = Literal["words", "nltk", "wordpiece"]
T = TypeVar("T")
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
    """How a text becomes words.

    Attributes:
        longest: words (word-pieces) kept of a text, the rest is cut; 0 keeps all.
        kind: "words": lower case, possessive "'s" dropped, runs of letters, their marks and digits, of any script; of
            scripts that put no blanks between words (Chinese, Japanese, Thai...) each character is a word, and two
            count as one of `longest`; "nltk": NLTK's word tokeniser on lower-cased text, which keeps punctuation, as
            the published GRU systems have it; "wordpiece": BERT's, uncased.

    Raises:
        UnknownName, DataError: another kind; a negative `longest`.
    """

    longest: int = 24
    kind: TokenKind = "words"

    def __post_init__(self) -> None:
        if self.kind not in get_args(TokenKind):
            raise UnknownName("tokeniser", self.kind, get_args(TokenKind))
        if self.longest < 0:
            raise DataError(f"tokeniser: longest {self.longest}, expected 0 (all words) or more")

    def words(self, text: str) -> list[str]:
        """The words of one text, at most `longest`; of "wordpiece" the words before they are cut into pieces."""
        if self.kind == "nltk":
            return self.cut(nltk_words(text.lower()))
        if self.kind == "wordpiece":
            return self.cut(WordPieces.words(text))
        plain = _POSSESSIVE.sub("", parted(unicodedata.normalize("NFC", text.lower())))
        return self._within(_WORD.findall(plain) if plain.isascii() else _runs(plain))

    def _within(self, words: list[str]) -> list[str]:
        # A Chinese word is some two characters, a Thai one more: so about as much is read in every script.
        if not self.longest or len(words) <= self.longest:
            return words
        room = 2 * self.longest
        for n, word in enumerate(words):
            room -= 1 if characters(word) else 2
            if room < 0:
                return words[:n]
        return words

    def cut(self, items: list[T]) -> list[T]:
        """The first `longest` of them."""
        return items[: self.longest] if self.longest else items


def _runs(text: str) -> list[str]:
    """Runs of letters, digits and the marks that belong to them, in any script."""
    spaced = (c if c.isalnum() or unicodedata.category(c).startswith("M") else " " for c in text)
    return "".join(spaced).split()


@dataclass(frozen=True)
class Tokens:
    """Texts as numbers.

    Attributes:
        ids: (n, w) int64, rows padded behind with the vocabulary's `specials.pad`.
        lengths: (n,) int64, at least 1.
        terms: the same texts as a bag of words and pairs of words, for a tower that reads both.
    """

    ids: np.ndarray[Any, np.dtype[np.int64]]
    lengths: np.ndarray[Any, np.dtype[np.int64]]
    terms: Tokens | None = None

    def __len__(self) -> int:
        return len(self.lengths)


@dataclass(frozen=True)
class Specials:
    """Numbers that are no word. `start` and `end` stand around every text where they are given (BERT: [CLS], [SEP]);
    without `mask` no word can be masked."""

    pad: int = PAD
    unknown: int = UNKNOWN
    mask: int | None = MASK
    start: int | None = None
    end: int | None = None

    def numbers(self) -> list[int]:
        """Those that are given, ascending."""
        return sorted(n for n in asdict(self).values() if n is not None)


@dataclass(frozen=True)
class Vocabulary:
    """Words by number. Our own: 0 is padding, 1 an unknown word, 2 a masked one, words from 3.

    Attributes:
        words: the known words, in the order of their numbers; they take the numbers that `specials` leave free.
        tokenizer: how a text becomes words.
        specials: the numbers that are no word.

    Raises:
        DataError: two specials share a number, or one lies outside the vocabulary.
    """

    words: tuple[str, ...]
    tokenizer: Tokenizer = field(default_factory=Tokenizer)
    specials: Specials = field(default_factory=Specials)

    def __post_init__(self) -> None:
        taken = self.specials.numbers()
        if len(set(taken)) < len(taken) or taken[0] < 0 or taken[-1] >= len(self):
            raise DataError(
                f"vocabulary: special numbers {taken}, expected different ones from 0 to {len(self) - 1} "
                f"({len(self.words)} words and {len(taken)} specials)"
            )

    @classmethod
    def build(
        cls,
        texts: Iterable[str],
        *,
        least: int = 3,
        tokenizer: Tokenizer | None = None,
        released: bool = False,
    ) -> Vocabulary:
        """Words that occur at least `least` times, most frequent first (ties by spelling).

        Args:
            texts: the training captions.
            least: the published systems take 4.
            tokenizer: how a text becomes words; default our own, or NLTK's without a cut if `released`.
            released: number as the published GRU systems do: padding, start, end, unknown, words, mask, with start and
                end around every text.

        Raises:
            DataError: no word is frequent enough.
        """
        tokenizer = tokenizer or (Tokenizer(0, "nltk") if released else Tokenizer())
        counts = Counter(word for text in texts for word in tokenizer.words(text))
        known = sorted((w for w, n in counts.items() if n >= least), key=lambda w: (-counts[w], w))
        if not known:
            raise DataError(
                f"vocabulary: no word occurs {least} times in the training captions ({len(counts)} different words); "
                "train on more captions or lower it with --set least_count=1"
            )
        specials = Specials(pad=0, start=1, end=2, unknown=3, mask=4 + len(known)) if released else Specials()
        return cls(tuple(known), tokenizer, specials)

    @cached_property
    def numbers(self) -> Mapping[str, int]:
        """Word -> number."""
        taken = frozenset(self.specials.numbers())
        free = (n for n in count() if n not in taken)
        return dict(zip(self.words, free, strict=False))

    def __len__(self) -> int:
        return len(self.specials.numbers()) + len(self.words)

    def number(self, word: str) -> int | None:
        """A known word's number, else None."""
        return self.numbers.get(word)

    @cached_property
    def _pieces(self) -> WordPieces:
        return WordPieces(self.numbers, self.specials.unknown)

    def _row(self, text: str) -> list[int]:
        """The numbers of one text's words, without start and end."""
        if self.tokenizer.kind == "wordpiece":
            return self.tokenizer.cut(self._pieces.numbers(text))
        unknown = self.specials.unknown
        return [self.numbers.get(word, unknown) for word in self.tokenizer.words(text)]

    def encode(self, texts: Sequence[str]) -> Tokens:
        """Texts to numbers, start and end around them where the vocabulary has them; an empty row is one unknown."""
        before, after = ([n] if n is not None else [] for n in (self.specials.start, self.specials.end))
        rows = [[*before, *self._row(text), *after] or [self.specials.unknown] for text in texts]
        lengths = np.array([len(r) for r in rows], np.int64)
        ids = np.full((len(rows), int(lengths.max(initial=1))), self.specials.pad, np.int64)
        for n, row in enumerate(rows):
            ids[n, : len(row)] = row
        return Tokens(ids, lengths)

    @cached_property
    def _uncut(self) -> Vocabulary:
        return replace(self, tokenizer=replace(self.tokenizer, longest=0))

    def cuts(self, text: str) -> bool:
        """Whether the text has more words than are read."""
        return self.tokenizer.longest > 0 and len(self._row(text)) < len(self._uncut._row(text))

    def knows(self, text: str) -> bool:
        """Whether any word of the text is in it."""
        return any(number != self.specials.unknown for number in self._row(text))

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {"words": list(self.words), "longest": self.tokenizer.longest}
        if self.tokenizer.kind != "words":
            out["tokenizer"] = self.tokenizer.kind
        if self.specials != Specials():
            out["specials"] = asdict(self.specials)
        return out

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Vocabulary:
        tokenizer = Tokenizer(int(value["longest"]), value.get("tokenizer", "words"))
        return cls(tuple(value["words"]), tokenizer, Specials(**value.get("specials", {})))
