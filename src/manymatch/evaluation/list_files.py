"""Ranked lists in files: TREC run files and JSON, known by their content, plain or gzip.

Entries are read as they stand; what their ids mean, and what is listed twice, `list_entries` decides.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from ..data.files import Unread, identifier, read_lines
from ..errors import DataError

__all__ = ["Entry", "read_lists", "where"]

Entry = tuple[str, str, float, int, int]
"""(query, item, score, rank, line): a higher score comes first, then a lower rank; line 0 where lines say nothing."""

_LARGEST_RANK = 2**63
_FORMATS = "a TREC run file (qid Q0 docid rank score tag), JSON, JSON Lines, .npy or .npz"


def where(path: Path, line: int) -> str:
    """How messages name a place."""
    return f"{path}:{line}" if line else str(path)


def read_lists(path: Path) -> Iterator[Entry]:
    """Every entry of a file of ranked lists, in the file's order.

    TREC: six fields a line, `qid Q0 docid rank score tag`. JSON: an object, query id -> a list of ids, a list of
    [id, score], or an object id -> score, whose equal scores tie. JSON Lines: `{"query": id, "ranking": [ids]}`, with
    `scores` of the same length if there are any. Of lists without scores the order is the ranking.

    Raises:
        DataError: nothing in it, none of these formats, damaged, or a line or list that cannot be read; a score that is
            not finite.
    """
    lines = _lines(path)
    first = next(lines, None)
    if first is None:
        raise DataError(f"rankings: {str(path)!r} is empty, expected {_FORMATS}")
    whole = chain([first], lines)
    return _json(path, first, lines) if first[1].lstrip()[:1] in (b"{", b"[") else _trec(path, whole)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(number, line) of every line that is not blank; a ranking without some of its lines would be another ranking."""
    for number, line in read_lines(path):
        if isinstance(line, Unread):
            damaged = line.kind == "damaged file"
            mend = "write it again whole" if damaged else "write a TREC run file, or JSON Lines with a query a line"
            raise DataError(f"{path}:{number}: {line.detail}; {mend}")
        yield number, line


def _text(path: Path, number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        raise DataError(f"{path}:{number}: the line is no UTF-8 text, expected {_FORMATS}") from None


def _trec(path: Path, lines: Iterator[tuple[int, bytes]]) -> Iterator[Entry]:
    for number, line in lines:
        fields = _text(path, number, line).split()
        if len(fields) != 6:
            raise DataError(
                f"{path}:{number}: {len(fields)} fields, expected six: qid Q0 docid rank score tag "
                "(ids with blanks need JSON)"
            )
        query, _, item, rank, score, _ = fields
        try:
            value, place = float(score), int(rank)
            if abs(place) >= _LARGEST_RANK:
                raise ValueError
        except ValueError:
            raise DataError(
                f"{path}:{number}: rank {rank!r} and score {score!r}, expected a whole number and a number"
            ) from None
        if not math.isfinite(value):
            raise _not_finite(where(path, number), query, item, value)
        yield query, item, value, place, number


def _not_finite(place: str, query: str, item: str, value: float) -> DataError:
    return DataError(
        f"{place}: the score of {item!r} for query {query!r} is {value}, expected a finite number; "
        "nothing was evaluated (an item that was not ranked is left out of its list)"
    )


def _json(path: Path, first: tuple[int, bytes], rest: Iterator[tuple[int, bytes]]) -> Iterator[Entry]:
    try:
        head = json.loads(_text(path, *first))
    except (ValueError, RecursionError):
        head = None  # An object over several lines; its own reader says what is wrong with it.
    if isinstance(head, dict) and "query" in head:
        return _json_lines(path, chain([first], rest))
    return _json_object(path, b"".join(line for _, line in chain([first], rest)))


def _json_lines(path: Path, lines: Iterator[tuple[int, bytes]]) -> Iterator[Entry]:
    seen: dict[str, int] = {}
    for number, line in lines:
        row = _parsed(where(path, number), _text(path, number, line))
        query = identifier(row.get("query")) if isinstance(row, dict) else None
        if query is None or not isinstance(row.get("ranking"), list):
            found = sorted(row) if isinstance(row, dict) else type(row).__name__
            raise DataError(
                f"{path}:{number}: found {found}, expected an object with an id in `query` and a list in `ranking`"
            )
        if query in seen:
            raise DataError(f"{path}:{number}: query {query!r} again, first in line {seen[query]}; expected it once")
        seen[query] = number
        ranking, scores = row["ranking"], row.get("scores")
        if scores is not None:
            if not isinstance(scores, list) or len(scores) != len(ranking):
                found = f"{len(scores)} numbers" if isinstance(scores, list) else type(scores).__name__
                raise DataError(
                    f"{path}:{number}: query {query!r} has {found} in `scores`, expected {len(ranking)}, one an id"
                )
            ranking = [list(pair) for pair in zip(ranking, scores, strict=True)]
        yield from _listed(path, number, query, ranking)


def _json_object(path: Path, data: bytes) -> Iterator[Entry]:
    whole = _parsed(str(path), _text(path, 1, data))
    if not isinstance(whole, dict) or not whole:
        found = f"a JSON {type(whole).__name__}" if whole else "nothing"
        raise DataError(
            f"rankings: {str(path)!r} holds {found}, expected an object, query id -> list of ids, or JSON Lines "
            "with `query` and `ranking`"
        )
    for query, ranking in whole.items():
        yield from _listed(path, 0, query, ranking)


def _listed(path: Path, line: int, query: str, ranking: Any) -> Iterator[Entry]:
    if isinstance(ranking, Mapping):
        # An object has no order, so nothing breaks its ties.
        entries = [(item, score, 0) for item, score in ranking.items()]
    elif isinstance(ranking, list):
        entries = [
            (*each, n) if isinstance(each, list) and len(each) == 2 else (each, 0.0, n)
            for n, each in enumerate(ranking)
        ]
    else:
        raise DataError(
            f"{where(path, line)}: query {query!r} has a {type(ranking).__name__}, expected a list of ids or of "
            "[id, score]"
        )
    for place, (item, score, rank) in enumerate(entries):
        name, value = identifier(item), _number(score)
        if name is None or value is None:
            raise DataError(
                f"{where(path, line)}: entry {place} of query {query!r} is {json.dumps([item, score])[:60]}, expected "
                "an id, or an id and a number"
            )
        if not math.isfinite(value):
            raise _not_finite(where(path, line), query, name, value)
        yield query, name, value, rank, line


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _parsed(place: str, text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_once)
    except DataError as error:
        raise DataError(f"{place}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: not JSON: {error or 'nested too deeply'}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; of a name that comes twice the reader of JSON would quietly keep the last."""
    out = dict(pairs)
    if len(out) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for n, name in enumerate(names) if name in names[:n])
        raise DataError(f"{twice!r} is there twice, expected it once")
    return out
