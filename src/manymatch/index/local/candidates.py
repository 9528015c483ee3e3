"""Candidates of one modality: an engine over its proxies, and how many of them a search has to look at.

The number follows from the wanted agreement: the share of the exact first ten that is among the candidates, on
average over queries of the asking modality. Where no number worth its price reaches it, the search stays exact.
What lies deeper, on later pages or behind filters, is harder to find: it has a number of its own, measured with the
first hundred.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...embeddings import Embedding
from ...similarity import Similarity
from ..store.rows import Modality
from .derived import PAYLOAD, header_at, write_derived
from .engines import Engine, engine_class
from .gallery import Gallery, proxy
from .vectors import ASKING

__all__ = [
    "TOP",
    "Asking",
    "Candidates",
    "First",
    "Plan",
    "asking_proxies",
    "choose_plans",
    "expected",
    "first_of",
    "first_ten",
]

Array = np.ndarray[Any, Any]

TOP = 10
"""Agreement is about the first ten."""

DEEP = 100
"""And about the first hundred, where more than ten are wanted or not all items pass."""

_DEEPEST = 10 * DEEP
"""As deep as what was measured at a hundred is gone on with, in proportion; further down every item is scored."""

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
        plans: asking modality -> plan for the first ten.
        deep: the same for the first hundred.
        generation, last: the store's, when it was built, and its last row then.
        wanted: the agreement that the plans were made for.
    """

    def __init__(
        self,
        engine: Engine,
        plans: Mapping[str, Plan],
        deep: Mapping[str, Plan],
        generation: str,
        last: int,
        wanted: float,
    ) -> None:
        self.engine, self.plans, self.deep = engine, dict(plans), dict(deep)
        self.generation, self.last, self.wanted = generation, last, wanted

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
        plans, deep = plans_of(header), plans_of(header, "deep")
        return cls(engine, plans, deep, header["generation"], int(header["last"]), float(header["wanted"]))

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
        deep: dict[str, Plan] = {}
        for who, asked in asking.items():
            told(f"agreement asked by {who}s")
            found = choose_plans(engine, gallery, asked, who, first_of(gallery, asked, who, (TOP, DEEP)), wanted)
            if found:
                plans[who], deep[who] = found
        return cls(engine, plans, deep, gallery.tail.generation, gallery.tail.last, wanted)

    def asked(self, who: Modality, need: int, passing: int, count: int) -> Plan | None:
        """How to find the first `need` of the `passing` items, of `count` in all, that a filter lets through.

        They lie as much deeper among all items as there are more of those. None where scoring them all is no dearer,
        or agreement was not reached. Its agreement is that of the first ten, or deeper of the first hundred, and not a
        number behind these.
        """
        depth = need * count / max(1, passing)
        first = depth <= TOP + 1
        plan = (self.plans if first else self.deep).get(who)
        if plan is None or plan.count is None or depth > _DEEPEST:
            return None
        times = max(1.0, depth / (TOP if first else DEEP))
        wanted = max(min(_FEWEST, plan.count), math.ceil(plan.count * times * passing / count))
        effort = math.ceil(plan.effort * times)
        price = _SCANNED * passing if passing == count else _SCORED * passing
        if wanted > most(passing) or self.engine.looked_at(effort) + _SCORED * wanted >= price:
            return None
        return Plan(wanted, effort, plan.agreement if depth <= DEEP + 1 else math.nan)

    def write(self, path: Path) -> None:
        """Put the file in place."""
        kept = {"plans": self.plans, "deep": self.deep}
        facts: dict[str, Any] = {name: {who: asdict(p) for who, p in plans.items()} for name, plans in kept.items()}
        write_derived(path, self.generation, facts | {"last": self.last, "wanted": self.wanted}, self.engine.write)


def plans_of(header: Mapping[str, Any], name: str = "plans") -> dict[str, Plan]:
    """The plans that a file's header holds."""
    return {asking: Plan(**plan) for asking, plan in header[name].items()}


def asking_proxies(similarity: Similarity, queries: Embedding, asking: Modality, bank: bool) -> Array | None:
    """Proxies (q, p + 2) of queries: the last two say which of an item's biases is taken off."""
    given = proxy(similarity, queries, "query")
    if given is None:
        return None
    which = np.array([float(bank and asking == who) for who in ASKING], np.float32)
    return np.hstack([given, np.broadcast_to(which, (len(given), len(ASKING)))])


def first_ten(gallery: Gallery, asking: Asking, who: Modality) -> First:
    """The exact first ten rows of each query, by what orders them."""
    return first_of(gallery, asking, who, (TOP,))[0]


def first_of(gallery: Gallery, asking: Asking, who: Modality, tops: Sequence[int]) -> list[First]:
    """The exact first rows of each query, so many of `tops` each; never more than a block of scores in memory."""
    n, there = len(asking.queries), max(1, len(gallery) - (asking.own is not None))
    tops = [min(top, there) for top in tops]
    keep = max(tops) + _TIES
    kept = np.empty((n, 0), np.float32), np.empty((n, 0), np.int64)
    for part, scores in gallery.scored(asking.queries):
        rows = gallery.rows[part]
        scores = scores - gallery.bias(part, who)
        if asking.own is not None:
            scores[asking.own[:, None] == rows[None, :]] = -np.inf
        scores, rows = np.hstack([kept[0], scores]), np.hstack([kept[1], np.broadcast_to(rows, (n, len(part)))])
        if scores.shape[1] > keep:
            places = np.argpartition(-scores, keep - 1, axis=1)[:, :keep]
            scores, rows = np.take_along_axis(scores, places, 1), np.take_along_axis(rows, places, 1)
        kept = scores, rows
    return [_first(*kept, top) for top in tops]


def _first(scores: Array, rows: Array, top: int) -> First:
    last = np.sort(scores, axis=1)[:, -top]
    least = last - _SAME * np.maximum(1.0, np.abs(last))
    return First([own[given >= low] for own, given, low in zip(rows, scores, least, strict=True)], top)


def choose_plans(
    engine: Engine, gallery: Gallery, asking: Asking, who: Modality, rights: Sequence[First], wanted: float
) -> list[Plan]:
    """For each of the exact answers the cheapest effort and count whose agreement is at least `wanted`.

    None at all without queries to ask with.
    """
    proxies = asking_proxies(gallery.similarity, asking.queries, who, bank=gallery.biased(who))
    if proxies is None or len(proxies) < 2 or len(gallery) < 2:
        return []
    searches = [_Search(right, _SCANNED * len(gallery), wanted) for right in rights]
    for effort in engine.efforts():
        price = engine.looked_at(effort)
        left = [search for search in searches if price < search.cheapest]
        for part in (slice(None, None, 4), slice(None)):
            if left:
                found = engine.search(proxies[part], most(len(gallery)), effort, threads=os.cpu_count() or 1)
                near = [rows[rows >= 0] for rows in found]
                left = [search for search in left if search.hopeful(near, part)]
        for search in left:
            search.settle(effort, price)
    return [search.chosen for search in searches]


class _Search:
    """For the cheapest plan that finds enough of `right`.

    Args:
        dear: what scoring every item costs.
    """

    def __init__(self, right: First, dear: float, wanted: float) -> None:
        self._right, self._wanted = right, wanted
        self.cheapest, self.chosen = dear, Plan(None, 0, 0.0)

    def hopeful(self, near: list[Array], part: slice) -> bool:
        """Look at the candidates of a part of the queries; whether more of these, or other numbers, may do."""
        right = First(self._right.handles[part], self._right.top)
        self._mean, self._safe = expected(right.found(near) / right.top)
        if self.chosen.count is None and len(self._mean):
            self.chosen = Plan(None, 0, max(self.chosen.agreement, float(self._mean[-1])))
        return len(self._mean) > 0 and self._mean[-1] >= self._wanted - _HOPELESS

    def settle(self, effort: int, price: float) -> None:
        """Take the fewest candidates that do, where that is the cheapest so far."""
        if self._safe[-1] < self._wanted:
            return
        enough = int(np.argmax(self._safe >= self._wanted)) + 1
        count = min(len(self._safe), max(_FEWEST, enough))
        if price + _SCORED * count < self.cheapest:
            self.cheapest = price + _SCORED * count
            self.chosen = Plan(count, effort, float(self._mean[count - 1]))


def expected(shares: Array) -> tuple[Array, Array]:
    """Mean over the queries (q, c) -> (c,), and what it is with one standard error less.

    The plan is chosen by the second: these queries are a sample, and the cheapest plan that suits them suits others
    a little less.
    """
    mean = shares.mean(axis=0)
    return mean, mean - shares.std(axis=0) / math.sqrt(len(shares))


def most(n: int) -> int:
    """More candidates than this and scoring all of them is as quick."""
    return max(1, min(_MOST, n // 4))
