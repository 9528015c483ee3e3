"""How many candidates to ask the server for: agreement with exact search, measured by reading every item once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from ..local.candidates import TOP, First, Plan
from ..store.rows import Modality

__all__ = ["EFFORTS", "choose", "first_ten"]

Array = np.ndarray[Any, Any]

EFFORTS = (64, 128, 256, 512, 1024, 2048, 4096)
"""Values of `hnsw_ef` that are tried. The server looks at no fewer than it returns, so that an effort is tried with as
many candidates, of which any first part is what asking for so many with that effort gives."""

_FEWEST = 4 * TOP
_SAME = 5e-5
"""Scores nearer than this, in units of the tenth where that is above one, are the same at stored precision."""
_TIES = 64
"""Items that may tie with the tenth; further ones do not count as right."""
_PRICE = 16
"""What fetching and scoring one candidate costs against comparing one proxy on the server."""


def first_ten(
    blocks: Iterable[tuple[Array, Mapping[Modality, Array]]], own: Mapping[Modality, Array | None], count: int
) -> dict[Modality, First]:
    """The exact first ten of queries of each modality, from one pass; never more than a block of scores in memory.

    Args:
        blocks: handles (b,) and scores (q, b) by what orders them, of each asking modality.
        own: the queries' own handles (q,), which are left out; None where they are not among the items.
        count: of items in all.
    """
    kept: dict[Modality, tuple[Array, Array]] = {}
    tops = {asking: max(1, min(TOP, count - (mine is not None))) for asking, mine in own.items()}
    for handles, scored in blocks:
        for asking, scores in scored.items():
            kept[asking] = _merged(kept.get(asking), handles, scores, own[asking], tops[asking] + _TIES)
    out: dict[Modality, First] = {}
    for asking, (scores, found) in kept.items():
        last = np.sort(scores, axis=1)[:, -min(tops[asking], scores.shape[1])]
        least = last - _SAME * np.maximum(1.0, np.abs(last))
        out[asking] = First([row[s >= low] for row, s, low in zip(found, scores, least, strict=True)], tops[asking])
    return out


def _merged(
    before: tuple[Array, Array] | None, handles: Array, scores: Array, own: Array | None, keep: int
) -> tuple[Array, Array]:
    if own is not None:
        rows = {handle: row for row, handle in enumerate(own)}
        for column, handle in enumerate(handles):
            if handle in rows:
                scores[rows[handle], column] = -np.inf
    found = np.broadcast_to(handles, scores.shape)
    if before is not None:
        scores, found = np.hstack([before[0], scores]), np.hstack([before[1], found])
    if scores.shape[1] <= keep:
        return scores, found
    places = np.argpartition(-scores, keep - 1, axis=1)[:, :keep]
    return np.take_along_axis(scores, places, 1), np.take_along_axis(found, places, 1)


def choose(right: First, tried: Iterator[tuple[int, list[Array]]], wanted: float) -> Plan:
    """The cheapest effort and count whose agreement is at least `wanted`; exact where none is.

    Args:
        tried: effort and the candidates of every query, best first, cheapest effort first; read only as far as it
            can still be cheaper.
    """
    chosen, cheapest, reached = Plan(None, 0, 0.0), np.inf, 0.0
    for effort, candidates in tried:
        hits = right.found(candidates)
        if not hits.size:
            break
        agreement = hits.mean(axis=0) / right.top
        # Two halves of the queries must agree on it, so that a lucky sample promises less.
        safe = np.minimum(hits[::2].mean(axis=0), hits[1::2].mean(axis=0)) / right.top
        reached = max(reached, float(agreement[-1]))
        if safe[-1] >= wanted:
            count = min(len(safe), max(_FEWEST, int(np.argmax(safe >= wanted)) + 1))
            if effort + _PRICE * count < cheapest:
                chosen, cheapest = Plan(count, effort, float(agreement[count - 1])), effort + _PRICE * count
        if 2 * effort + _PRICE * _FEWEST >= cheapest:
            break
    return chosen if chosen.count is not None else Plan(None, 0, reached)
