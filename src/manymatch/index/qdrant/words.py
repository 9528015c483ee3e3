"""Texts as sparse vectors, so that the server's inner product with inverse document frequencies is BM25."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping

from ..store.words import every_word, fold
from .api import models

__all__ = ["folded", "sparse_query", "sparse_text"]

_K1, _B = 1.2, 0.75

_LENGTH = 12.0
"""Words of an average text. The server keeps no average of its own; captions have about twelve."""


def folded(text: str) -> list[str]:
    """The words of a text as FTS5 indexes them, as often as they occur."""
    return [fold(word) for word in every_word(text)]


def sparse_text(text: str) -> models.SparseVector | None:
    """Robertson and Zaragoza's (2009) saturated frequency of each word; None of a text without words."""
    words = folded(text)
    norm = _K1 * (1 - _B + _B * len(words) / _LENGTH)
    return _vector({word: n * (_K1 + 1) / (n + norm) for word, n in Counter(words).items()})


def sparse_query(text: str) -> models.SparseVector | None:
    """Each word once; None where there is none."""
    return _vector(dict.fromkeys(folded(text), 1.0))


def _vector(weights: Mapping[str, float]) -> models.SparseVector | None:
    # Two words hardly ever share a number of 32 bits; where they do, they are one word.
    out: dict[int, float] = {}
    for word, weight in weights.items():
        number = zlib.crc32(word.encode())
        out[number] = max(weight, out.get(number, 0.0))
    return models.SparseVector(indices=list(out), values=list(out.values())) if out else None
