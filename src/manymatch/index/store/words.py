"""Words: any text as a safe full-text query, and BM25 over what items say.

Texts are told into words by FTS5's unicode61: runs of letters and digits, in any case, with or without accents. It
knows no word inside a run of Chinese or Thai, so texts are stored with blanks around each character (`for_words`).
"""

from __future__ import annotations

import sqlite3
import unicodedata
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from ...data.scripts import characters, parted

__all__ = ["TOKENS", "all_of", "any_of", "best_rows", "every_word", "fold", "for_words", "split_words"]

Array = np.ndarray[Any, Any]

TOKENS = "tokenize = 'unicode61 remove_diacritics 2'"
"""How full-text tables tell words apart."""

_ACCENTS = frozenset(map(chr, range(0x300, 0x370)))
"""Combining diacritical marks."""

_PART = 1024
"""Hits looked at in one go."""


def every_word(text: str) -> list[str]:
    """The words of a text as `for_words` stores it and unicode61 parts it, as often as they occur."""
    return _runs(parted(text))


def _runs(text: str) -> list[str]:
    spaced = "".join(char if _belongs(char) else " " for char in text)
    return [word for word in spaced.split() if any(unicodedata.category(char)[0] != "M" for char in word)]


def for_words(text: str | None) -> str | None:
    """A text as full-text tables are to read it: `data.scripts.parted`."""
    return None if text is None else parted(text)


def split_words(text: str) -> list[str]:
    """The different words of a text in their order; those that differ in case or accents alone are one."""
    return list({fold(word): word for word in reversed(every_word(text))}.values())[::-1]


def fold(word: str) -> str:
    """A word as unicode61 indexes it: without case, Latin letters without accents."""
    return "".join(map(_plain, word))


def _plain(char: str) -> str:
    if char in _ACCENTS:
        return ""
    one = char.casefold()
    one = one if len(one) == 1 else char.lower()[0]
    base = unicodedata.normalize("NFD", one)[0]
    # A Cyrillic or Greek letter with a mark is another letter, not an accented one.
    return base if base.isascii() else one


def _belongs(char: str) -> bool:
    # unicode61 parts words at vowel signs and the like; kept together here, the pieces are looked for side by side.
    kind = unicodedata.category(char)
    return kind[0] in "LNM" or kind == "Co"


def all_of(words: Sequence[str]) -> str:
    """A full-text query that holds where every word occurs."""
    return " AND ".join(map(_quoted, words))


def any_of(words: Sequence[str]) -> str:
    """A full-text query that holds where at least one word occurs."""
    return " OR ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    # In quotes AND, OR, NOT and NEAR are words like any other; a word holds no quote.
    return f'"{word}"'


def best_rows(
    connection: sqlite3.Connection, modality: str, text: str, count: int, rows: Array | None = None
) -> list[int]:
    """Rows of the items that share a word with `text`, best BM25 first, ties in the order of rows; `count` at most.

    An image is as good as the best of its own text and its captions. Scores are those of SQLite's `bm25` (Robertson
    and Zaragoza 2009, k1 = 1.2, b = 0.75) over all texts of the index, whatever the modality.

    Args:
        rows: int64, ascending; only these may be found. None: all of the modality.
    """
    words = split_words(text)
    # Indexes made before texts were told character by character hold whole runs.
    words += [word for word in _runs(text) if characters(word) and len(word) > 1]
    if not words or count < 1 or (rows is not None and not len(rows)):
        return []
    found = "captions.row" if modality == "caption" else "coalesce(captions.image, hits.row)"
    query = f"""
        WITH hits AS MATERIALIZED (SELECT rowid AS row, rank AS score FROM words WHERE words MATCH ?)
        SELECT {found} AS found FROM hits LEFT JOIN captions ON captions.row = hits.row
        WHERE {"captions.row IS NOT NULL" if modality == "caption" else "captions.row IS NULL OR captions.image"}
        GROUP BY found ORDER BY min(score), found"""
    if rows is None:
        return [row for (row,) in connection.execute(f"{query} LIMIT ?", (any_of(words), count))]
    return _first_among(connection.execute(query, (any_of(words),)), rows, count)


def _first_among(hits: sqlite3.Cursor, rows: Array, count: int) -> list[int]:
    out: list[int] = []
    while len(out) < count and (part := hits.fetchmany(_PART)):
        found = np.fromiter(chain.from_iterable(part), np.int64)
        places = np.searchsorted(rows, found).clip(max=len(rows) - 1)
        out += found[rows[places] == found].tolist()
    return out[:count]
