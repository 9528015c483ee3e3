"""Which queries are shown: where runs disagree, where much is right, and some drawn by a fixed seed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Chosen", "choose", "different", "worst"]

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Chosen:
    """A query and why it is shown."""

    query: int
    why: str


def choose(
    ranks: Sequence[Ints],
    ambiguous: Sequence[tuple[Floats, str]],
    names: Sequence[str],
    images: Ints,
    count: int,
    seed: int,
) -> list[Chosen]:
    """Half where the first two runs disagree most (each ahead in turn), a quarter ambiguous, the rest at random.

    Args:
        ranks: (q,) of the first right answer, of each run; 0 where a query has none, which is not shown.
        ambiguous: ways to be it: (q,), higher is more, and its name; they take turns.
        names: of the runs.
        images: (q,), the image of each query; of one image one query is shown.
        count: how many queries.
        seed: of the random ones.
    """
    allowed = ranks[0] > 0
    taken: set[int] = set()
    out: list[Chosen] = []
    if len(ranks) > 1:
        gap = np.log(np.maximum(ranks[1], 1)) - np.log(np.maximum(ranks[0], 1))
        ways = [(gap, f"{names[0]} is ahead"), (-gap, f"{names[1]} is ahead")]
        out += _turns(ways, images, taken, allowed, count // 2, least=0.0)
    out += _turns(ambiguous, images, taken, allowed, max(count // 4, 1))
    order = np.random.default_rng(seed).permutation(len(allowed))
    rest = _fresh(order, images, taken, allowed)
    return (out + [Chosen(q, "drawn at random") for q in _some(rest, count - len(out))])[:count]


def _turns(
    ways: Sequence[tuple[Floats, str]], images: Ints, taken: set[int], allowed: Any, count: int, least: float = -np.inf
) -> list[Chosen]:
    """The queries of the highest values above `least`, of each way in turn."""
    lines = [
        (_fresh(np.argsort(-values, kind="stable"), images, taken, allowed & (values > least)), why)
        for values, why in ways
    ]
    out = []
    for turn in range(count if lines else 0):
        queries, why = lines[turn % len(lines)]
        out += [Chosen(query, why) for query in _some(queries, 1)]
    return out


def worst(rank: Ints, images: Ints, count: int) -> list[int]:
    """Queries whose first right answer ranks worst, worst first, one of an image; none that ranks first."""
    order = np.argsort(-rank, kind="stable")
    return list(_some(_fresh(order, images, set(), rank > 1), count))


def different(order: Iterable[int], texts: Sequence[str], count: int) -> list[int]:
    """The first rows of an order whose texts differ, at most `count`."""
    seen: dict[str, int] = {}
    for row in order:
        if len(seen) == count:
            break
        seen.setdefault(texts[row], int(row))
    return list(seen.values())


def _fresh(order: Ints, images: Ints, taken: set[int], allowed: Any) -> Iterator[int]:
    """Queries in this order whose image was not shown yet; those that are taken are noted."""
    for query in order:
        if allowed[query] and int(images[query]) not in taken:
            taken.add(int(images[query]))
            yield int(query)


def _some(queries: Iterable[int], count: int) -> Iterator[int]:
    return (query for _, query in zip(range(max(count, 0)), queries, strict=False))
