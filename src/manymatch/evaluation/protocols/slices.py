"""Own captions by thirds: how rare the words of a caption are, and how close its hardest negative is.

Both are measured on the captions alone, so that every system is compared on the same slices.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ...data.pairs import Pairs
from ...data.text import Tokenizer
from ..measures import Mean
from .base import Asked, Direction, Found, Measured, Protocol
from .own import DEPTHS

__all__ = ["Slices", "closeness", "rarity", "thirds"]

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]

_WORDS = ("common words", "middling words", "rare words")
_NEGATIVES = ("far negative", "middling negative", "close negative")

_FREQUENT, _FEW = 0.1, 100
_DIGITS = 9
"""Sums of equal numbers in another order differ behind these digits; equal values must stay together."""


class Slices(Protocol):
    """R@K of each third of the queries; a third of the images asks by the mean over an image's captions.

    Thirds are by rank, and equal values stay together, in the third where the middle of them lies: so thirds may be
    unequal, which is said, and if nothing tells queries apart all are middling.
    """

    name = "slices"
    truth_name = "own captions"

    def ask(self, pairs: Pairs) -> Asked:
        own = pairs.matches()
        sliced = {_WORDS: rarity(pairs), _NEGATIVES: closeness(pairs)}
        extra: dict[str, dict[tuple[str, ...], Ints]] = {"i2t": {}, "t2i": {}}
        notes = []
        for names, values in sliced.items():
            extra["t2i"][names] = thirds(values)
            extra["i2t"][names] = _of_images(values, pairs)
            sizes = np.bincount(extra["t2i"][names], minlength=3)
            if np.ptp(sizes) > 1:
                counted = ", ".join(f"{size} {name}" for size, name in zip(sizes, names, strict=True))
                notes.append(f"slices: equal values stay together, so the thirds of the captions are {counted}")
        return Asked(own, own.transpose(), notes=tuple(notes), extra=extra)

    def measure(self, found: Found) -> Iterator[Measured]:
        for direction in (found.i2t, found.t2i):
            for names, third in found.asked.extra[direction.name].items():
                for number, name in enumerate(names):
                    yield from _sliced(direction, third[direction.asked] == number, name)


def _sliced(direction: Direction, chosen: np.ndarray[Any, np.dtype[np.bool_]], name: str) -> Iterator[Measured]:
    """R@K over some of the queries, where there are any."""
    for whole in direction.hits(*DEPTHS) if chosen.any() else ():
        if isinstance(whole.measure, Mean):
            part = Mean(whole.measure.values[chosen], whole.measure.images[chosen], whole.measure.scale)
            yield Measured(whole.direction, f"{whole.metric} {name}", part, int(chosen.sum()), whole.gallery)


def thirds(values: Floats) -> Ints:
    """(n,) values -> (n,) 0 for the lowest third, 1, or 2 for the highest; equal values are in one third."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(count) - count / 2
    return np.minimum((3 * middle / max(len(values), 1)).astype(np.int64), 2)[place.ravel()]


def _of_images(values: Floats, pairs: Pairs) -> Ints:
    """(i,): the thirds of the images that have captions; -1 for one that has none."""
    count = np.bincount(pairs.owner, minlength=len(pairs))
    total = np.bincount(pairs.owner, values, minlength=len(pairs))
    out = np.full(len(pairs), -1, np.int64)
    out[count > 0] = thirds(np.round(total[count > 0] / count[count > 0], _DIGITS))
    return out


def rarity(pairs: Pairs) -> Floats:
    """(c,): the mean over a caption's different content words of log(captions / captions with the word).

    The mean, not the rarest word: one misspelling would make any caption the rarest of all. Content words are those in
    at most a tenth of the captions, or in at most 100; a caption without any has 0, the most common.
    """
    words = _counted(tuple(pairs.captions))
    total = np.bincount(words.captions, words.surprise[words.words], minlength=len(pairs.captions))
    count = np.bincount(words.captions, minlength=len(pairs.captions))
    return np.asarray(np.round(total / np.maximum(count, 1), _DIGITS))


def closeness(pairs: Pairs) -> Floats:
    """(c,): the highest TF-IDF cosine of a caption with a caption of another image, over content words as `rarity`.

    How much a negative says the same is a property of the data: a model's own hardest negative would put every system
    on other slices.
    """
    words = _counted(tuple(pairs.captions))
    return _closest(words, pairs.owner)


@dataclass(frozen=True)
class _Words:
    """Content words of c captions: one entry a caption and different word, sorted by caption then word.

    Attributes:
        captions, words: (n,) rows and word numbers.
        weights: (n,) TF-IDF, of unit length over each caption.
        surprise: (w,) log(c / captions with the word).
        rows: c.
    """

    captions: Ints
    words: Ints
    weights: Floats
    surprise: Floats
    rows: int


@lru_cache(maxsize=2)
def _counted(captions: tuple[str, ...]) -> _Words:
    tokenizer = Tokenizer(longest=0)
    known: dict[str, int] = {}
    numbers: list[int] = []
    owners: list[int] = []
    for row, caption in enumerate(captions):
        spoken = tokenizer.words(caption)
        numbers += [known.setdefault(word, len(known)) for word in spoken]
        owners += [row] * len(spoken)
    width = max(len(known), 1)
    entries, times = np.unique(np.array(owners, np.int64) * width + np.array(numbers, np.int64), return_counts=True)
    rows, words = entries // width, entries % width
    within = np.bincount(words, minlength=width)
    content = (within <= max(_FREQUENT * len(captions), _FEW))[words]
    rows, words, times = rows[content], words[content], times[content]
    surprise = np.log(max(len(captions), 1) / np.maximum(within, 1))
    weights = times * surprise[words]
    length = np.sqrt(np.bincount(rows, weights**2, minlength=len(captions)))
    return _Words(rows, words, weights / np.where(length > 0, length, 1.0)[rows], surprise, len(captions))


def _closest(words: _Words, owner: Ints) -> Floats:
    """Caption by caption over the lists of the captions that hold each of its words; memory is one row of cosines."""
    by_word = np.argsort(words.words, kind="stable")
    holders, weights = words.captions[by_word], words.weights[by_word]
    listed = np.concatenate([[0], np.cumsum(np.bincount(words.words, minlength=len(words.surprise)))])
    starts = np.searchsorted(words.captions, np.arange(words.rows + 1))
    own = np.searchsorted(owner, owner), np.searchsorted(owner, owner, side="right")
    out = np.zeros(words.rows)
    for row in range(words.rows):
        mine = range(starts[row], starts[row + 1])
        spans = [slice(listed[words.words[n]], listed[words.words[n] + 1]) for n in mine]
        if not spans:
            continue
        products = np.concatenate([weights[span] * words.weights[n] for n, span in zip(mine, spans, strict=True)])
        cosines = np.bincount(np.concatenate([holders[span] for span in spans]), products, minlength=words.rows)
        cosines[own[0][row] : own[1][row]] = 0.0
        out[row] = cosines.max()
    return np.asarray(np.round(out, _DIGITS))
