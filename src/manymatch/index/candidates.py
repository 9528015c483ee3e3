"""Candidates of one modality: an engine over its proxies, and how many of them a search has to look at.

The number follows from the wanted agreement: the share of the exact first ten that is among the candidates, on
average over queries of the asking modality. Where no number worth its price reaches it, the search stays exact.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..embeddings import Embedding
from .derived import PAYLOAD, read_header, write_derived
from .engines import Engine, engine_class
from .gallery import Gallery, proxy

__all__ = ["TOP", "Asking", "Candidates", "Plan", "choose_plan"]

Array = np.ndarray[Any, Any]

TOP = 10
"""Agreement is about the first ten."""

_FEWEST = 4 * TOP
_MOST = 10_000
_SAME = 5e-5
"""Scores nearer than this are the same at stored precision (float16)."""
_PRICE = 16
"""What scoring one candidate costs against comparing one proxy, measured on sets of four."""


@dataclass(frozen=True)
class Asking:
    """Queries of one modality to measure with: their embedding, and their own positions to be left out."""

    queries: Embedding
    own: Array | None = None


@dataclass(frozen=True)
class Plan:
    """How a modality is asked: candidates and effort for the first ten, and the agreement measured with them.

    `count` is None when the search is exact; `agreement` is then the best that was reached.
    """

    count: int | None
    effort: int
    agreement: float


class Candidates:
    """An engine with its plans, one for each asking modality. Kept in one derived file."""

    def __init__(self, engine: Engine, plans: Mapping[str, Plan]) -> None:
        self._engine, self.plans = engine, dict(plans)

    @staticmethod
    def plans_at(path: Path, generation: str) -> dict[str, Plan] | None:
        """The plans of a file, or None when it is missing, stale or torn."""
        try:
            with open(path, "rb") as file:
                header = read_header(file, generation)
        except FileNotFoundError:
            return None
        return None if header is None else {asking: Plan(**plan) for asking, plan in header["plans"].items()}

    @classmethod
    def open(cls, path: Path, generation: str, name: str) -> Candidates | None:
        """Map the file, or None when it is missing, stale or damaged."""
        plans = cls.plans_at(path, generation)
        engine = None if plans is None else engine_class(name).read(path, PAYLOAD)
        return None if plans is None or engine is None else cls(engine, plans)

    @classmethod
    def build(cls, name: str, gallery: Gallery, asking: Mapping[str, Asking], wanted: float) -> Candidates | None:
        """Build and measure, or None where the similarity has no proxy or nothing is there."""
        proxies = gallery.proxies()
        if proxies is None:
            return None
        engine = engine_class(name).build(proxies)
        plans = {who: choose_plan(engine, gallery, asked, wanted) for who, asked in asking.items()}
        return cls(engine, {who: plan for who, plan in plans.items() if plan is not None})

    def write(self, path: Path, generation: str) -> None:
        plans = {who: asdict(plan) for who, plan in self.plans.items()}
        write_derived(path, generation, {"plans": plans}, self._engine.write)

    def find(self, gallery: Gallery, query: Embedding, asking: str, need: int) -> tuple[Array, float] | None:
        """Positions (ascending) to score and the measured agreement, or None where the search has to be exact.

        A request for more than the first ten gets candidates and effort in proportion.
        """
        plan = self.plans.get(asking)
        if plan is None or plan.count is None:
            return None
        times = max(1.0, need / TOP)
        count, effort = int(plan.count * times), int(plan.effort * times)
        vector = proxy(gallery.similarity, query, "query")
        if vector is None or count > _most(len(gallery)):
            return None
        found = self._engine.search(vector, count, effort)[0]
        found = np.sort(found[found >= 0])
        return (found, plan.agreement) if len(found) >= need else None


def choose_plan(engine: Engine, gallery: Gallery, asking: Asking, wanted: float) -> Plan | None:
    """The cheapest effort and count whose agreement is at least `wanted`; None without queries to ask with."""
    proxies = proxy(gallery.similarity, asking.queries, "query")
    if proxies is None or len(proxies) < 2 or len(gallery) < 2:
        return None
    right = _right(gallery, asking)
    limit = _most(len(gallery))
    chosen, cheapest, reached = Plan(None, 0, 0.0), float(_PRICE * len(gallery)), 0.0
    for effort in engine.efforts():
        if engine.looked_at(effort) >= cheapest:
            break
        found = engine.search(proxies, limit, effort, threads=os.cpu_count() or 1)
        agreement = _agreement(right, found)
        # Two halves of the queries must agree on it, so that a lucky sample promises less.
        safe = np.minimum(_agreement(right[::2], found[::2]), _agreement(right[1::2], found[1::2]))
        reached = max(reached, float(agreement[-1]))
        if safe[-1] < wanted:
            continue
        count = min(limit, max(_FEWEST, int(np.argmax(safe >= wanted)) + 1))
        cost = engine.looked_at(effort) + _PRICE * count
        if cost < cheapest:
            chosen, cheapest = Plan(count, effort, float(agreement[count - 1])), cost
    return chosen if chosen.count is not None else Plan(None, 0, reached)


def _right(gallery: Gallery, asking: Asking) -> Array:
    """(q, n) bool: the exact first ten of each query, with what ties with the last of them."""
    scores = gallery.scores(asking.queries)
    if asking.own is not None:
        scores[np.arange(len(scores)), asking.own] = -np.inf
    top = min(TOP, scores.shape[1] - 1)
    last = np.partition(scores, -top, axis=1)[:, -top]
    return np.asarray(scores >= last[:, None] - _SAME)


def _agreement(right: Array, found: Array) -> Array:
    """(count,): mean share of the first ten among the first c candidates, for every c at once."""
    top = min(TOP, right.shape[1] - 1)
    hit = right[np.arange(len(right))[:, None], found] & (found >= 0)
    return np.asarray(np.minimum(hit.cumsum(axis=1), top).mean(axis=0) / top)


def _most(n: int) -> int:
    """More candidates than this and scoring all of them is as quick."""
    return max(1, min(_MOST, n // 4))
