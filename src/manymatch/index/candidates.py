"""Candidates of one modality: an engine over its proxies, and how many of them a search has to look at.

The number follows from the wanted agreement: the share of the exact first ten that is among the candidates, on
average over queries of the asking modality. Where no number worth its price reaches it, the search stays exact.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..embeddings import Embedding
from ..similarity import Similarity
from .derived import PAYLOAD, header_at, write_derived
from .engines import Engine, engine_class
from .gallery import Gallery, proxy
from .rows import Modality
from .vectors import ASKING

__all__ = ["TOP", "Asking", "Candidates", "First", "Plan", "asking_proxies", "choose_plan", "first_ten"]

Array = np.ndarray[Any, Any]

TOP = 10
"""Agreement is about the first ten."""

_FEWEST = 4 * TOP
_MOST = 20_000
_SAME = 5e-5
"""Scores nearer than this, in units of the largest of a query's first ten where that is above one, are the same at
stored precision (float16)."""
_TIES = 64
"""Items of equal score that may stand behind the tenth; further ones do not count as right."""
_SCORED = 40
"""What scoring a candidate costs against comparing a proxy, measured on sets of four: its row is fetched by itself."""
_SCANNED = 25
"""The same of an item that is scored with its neighbours."""
_HOPELESS = 0.1
"""An effort that misses what is wanted by so much with a quarter of the queries is not tried with all of them."""


@dataclass(frozen=True)
class Asking:
    """Queries of one modality to measure with: their embedding, and their own handles to be left out."""

    queries: Embedding
    own: Array | None = None


@dataclass(frozen=True)
class First:
    """The exact first of each query: handles and scores (q, up to TOP + ties), and how many count as the first ten.

    Attributes:
        handles: one array a query: the first ten and whatever ties with the last of them.
        top: how many of those an answer has room for.
    """

    handles: list[Array]
    top: int

    def found(self, candidates: list[Array]) -> Array:
        """(q, c): how many of the first ten are among the first 1, 2, ... c candidates of each query."""
        longest = max((len(c) for c in candidates), default=0)
        out = np.zeros((len(candidates), longest), np.float32)
        for row, (right, near) in enumerate(zip(self.handles, candidates, strict=True)):
            hits = np.minimum(np.isin(near, right).cumsum(), self.top)
            out[row, : len(hits)] = hits
            out[row, len(hits) :] = hits[-1] if len(hits) else 0
        return out

    def agreement(self, candidates: list[Array]) -> Array:
        """(c,): mean share of the first ten among the first 1, 2, ... c candidates."""
        return np.asarray(self.found(candidates).mean(axis=0) / max(1, self.top))


@dataclass(frozen=True)
class Plan:
    """How a modality is asked: candidates and effort for the first ten, and the agreement measured with them.

    `count` is None when the search is exact; `agreement` is then the best that was reached.
    """

    count: int | None
    effort: int
    agreement: float

    def wanted(self, need: int) -> tuple[int, int]:
        """Candidates and effort for the first `need`."""
        times = max(1.0, need / TOP)
        return int((self.count or 0) * times), math.ceil(self.effort * times)


class Candidates:
    """An engine with its plans, one for each asking modality. Kept in one derived file.

    Attributes:
        plans: asking modality -> plan.
        generation, last: the store's, when it was built, and its last row then.
    """

    def __init__(self, engine: Engine, plans: Mapping[str, Plan], generation: str, last: int) -> None:
        self.engine, self.plans, self.generation, self.last = engine, dict(plans), generation, last

    @classmethod
    def open(cls, path: Path, name: str) -> Candidates | None:
        """Map the file, or None when it is missing or damaged."""
        header, engine = header_at(path), None
        while header is not None:
            engine = engine_class(name).read(path, PAYLOAD)
            before, header = header, header_at(path)
            # Unless another process replaced the file in between.
            if header == before:
                break
        if header is None or engine is None:
            return None
        return cls(engine, plans_of(header), header["generation"], int(header["last"]))

    @classmethod
    def build(
        cls,
        name: str,
        gallery: Gallery,
        asking: Mapping[Modality, Asking],
        wanted: float,
        told: Callable[[str], object],
    ) -> Candidates | None:
        """Build and measure, or None where the similarity has no proxy or nothing is there."""
        if next(iter(gallery.proxies()), None) is None:
            return None

        def proxies() -> Any:
            return ((gallery.rows[part], given) for part, given in gallery.proxies())

        told("candidates")
        engine = engine_class(name).build(len(gallery), proxies)
        plans: dict[str, Plan] = {}
        for who, asked in asking.items():
            told(f"agreement asked by {who}s")
            right = first_ten(gallery, asked, who)
            plan = choose_plan(engine, gallery, asked, who, right, wanted)
            if plan is not None:
                plans[who] = plan
        return cls(engine, plans, gallery.tail.generation, gallery.tail.last)

    def write(self, path: Path) -> None:
        """Put the file in place."""
        facts = {"plans": {who: asdict(plan) for who, plan in self.plans.items()}, "last": self.last}
        write_derived(path, self.generation, facts, self.engine.write)


def plans_of(header: Mapping[str, Any]) -> dict[str, Plan]:
    """The plans that a file's header holds."""
    return {asking: Plan(**plan) for asking, plan in header["plans"].items()}


def asking_proxies(similarity: Similarity, queries: Embedding, asking: Modality, bank: bool) -> Array | None:
    """Proxies (q, p + 2) of queries: the last two say which of an item's biases is taken off."""
    given = proxy(similarity, queries, "query")
    if given is None:
        return None
    which = np.array([float(bank and asking == who) for who in ASKING], np.float32)
    return np.hstack([given, np.broadcast_to(which, (len(given), len(ASKING)))])


def first_ten(gallery: Gallery, asking: Asking, who: Modality) -> First:
    """The exact first ten rows of each query, by what orders them; never more than a block of scores in memory."""
    n = len(asking.queries)
    top = max(1, min(TOP, len(gallery) - (asking.own is not None)))
    kept = np.empty((n, 0), np.float32), np.empty((n, 0), np.int64)
    for part, scores in gallery.scored(asking.queries):
        rows = gallery.rows[part]
        scores = scores - gallery.bias(part, who)
        if asking.own is not None:
            scores[asking.own[:, None] == rows[None, :]] = -np.inf
        scores, rows = np.hstack([kept[0], scores]), np.hstack([kept[1], np.broadcast_to(rows, (n, len(part)))])
        if scores.shape[1] > top + _TIES:
            places = np.argpartition(-scores, top + _TIES - 1, axis=1)[:, : top + _TIES]
            scores, rows = np.take_along_axis(scores, places, 1), np.take_along_axis(rows, places, 1)
        kept = scores, rows
    out = []
    for scores, rows in zip(*kept, strict=True):
        last = np.sort(scores)[::-1][top - 1]
        out.append(rows[scores >= last - _SAME * max(1.0, float(np.abs(last)))])
    return First(out, top)


def choose_plan(
    engine: Engine, gallery: Gallery, asking: Asking, who: Modality, right: First, wanted: float
) -> Plan | None:
    """The cheapest effort and count whose agreement is at least `wanted`; None without queries to ask with."""
    proxies = asking_proxies(gallery.similarity, asking.queries, who, bank=gallery.biased)
    if proxies is None or len(proxies) < 2 or len(gallery) < 2:
        return None
    chosen, cheapest, reached = Plan(None, 0, 0.0), float(_SCANNED * len(gallery)), 0.0
    for effort in engine.efforts():
        if engine.looked_at(effort) >= cheapest:
            break
        for part in (slice(None, None, 4), slice(None)):
            hits = First(right.handles[part], right.top).found(
                list(engine.search(proxies[part], most(len(gallery)), effort, threads=os.cpu_count() or 1))
            )
            agreement, safe = _expected(hits / right.top)
            if agreement[-1] < wanted - _HOPELESS:
                break
        reached = max(reached, float(agreement[-1]))
        if safe[-1] < wanted:
            continue
        count = min(hits.shape[1], max(_FEWEST, int(np.argmax(safe >= wanted)) + 1))
        cost = engine.looked_at(effort) + _SCORED * count
        if cost < cheapest:
            chosen, cheapest = Plan(count, effort, float(agreement[count - 1])), cost
    return chosen if chosen.count is not None else Plan(None, 0, reached)


def _expected(shares: Array) -> tuple[Array, Array]:
    """Mean over the queries (q, c) -> (c,), and what it is with one standard error less.

    The plan is chosen by the second: these queries are a sample, and the cheapest plan that suits them suits others
    a little less.
    """
    mean = shares.mean(axis=0)
    return mean, mean - shares.std(axis=0) / math.sqrt(len(shares))


def most(n: int) -> int:
    """More candidates than this and scoring all of them is as quick."""
    return max(1, min(_MOST, n // 4))
