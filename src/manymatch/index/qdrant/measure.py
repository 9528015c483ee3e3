"""Measuring a server: wait until its graph is ready, read every item once, and see how many candidates are enough."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...threads import one_thread
from ..collection import Spoken
from ..filters import Where
from ..local.candidates import Plan, asking_proxies, most
from ..store.rows import MODALITIES, Modality
from .api import models
from .plans import EFFORTS, choose, first_ten
from .pool import EXACT_UP_TO, MOST, QdrantPool, handles_of, scored
from .reading import QdrantReading
from .server import PROXY, Server

if TYPE_CHECKING:
    from ...embeddings import Embedding

__all__ = ["Measured", "due", "measure"]

Array = np.ndarray[Any, Any]

_QUERIES = 200
"""Queries of each asking modality."""

_TOGETHER = 8
"""Queries of one request."""

_GROWN = 0.25
"""Agreement is measured again when the number of items has changed by more than this share."""


@dataclass(frozen=True)
class Measured:
    """What was measured of searching one modality, when it had `count` items and that agreement was wanted."""

    count: int
    wanted: float
    plans: Mapping[str, Plan]

    @classmethod
    def of_json(cls, told: Mapping[str, Any]) -> Measured:
        return cls(told["count"], told["wanted"], {asking: Plan(**plan) for asking, plan in told["plans"].items()})

    def to_json(self) -> dict[str, Any]:
        plans = {asking: asdict(plan) for asking, plan in self.plans.items()}
        return {"count": self.count, "wanted": self.wanted, "plans": plans}


def due(reading: QdrantReading, before: Mapping[str, Measured], wanted: float) -> list[Modality]:
    """Modalities too large to score whole, that were never measured, have changed since, or for another agreement."""
    out: list[Modality] = []
    for modality in MODALITIES:
        count = reading.count(modality)
        old = before[modality].count if modality in before and before[modality].wanted == wanted else 0
        if count > EXACT_UP_TO and abs(count - old) > _GROWN * old:
            out.append(modality)
    return out


def measure(
    reading: QdrantReading,
    server: Server,
    late: list[Modality],
    wanted: float,
    told: Callable[[str], object],
    spoken: Spoken | None = None,
) -> dict[str, Measured]:
    """Plans of each of these modalities, for every asking modality that has items to ask with, or is `spoken`."""
    _settled(server, told)
    out: dict[str, Measured] = {}
    with one_thread():
        for modality in late:
            told(f"agreement among {modality}s")
            pool = reading.pool(modality, Where())
            if pool is not None:
                out[modality] = Measured(len(pool), wanted, _plans(reading, server, pool, modality, wanted, spoken))
    return out


def _settled(server: Server, told: Callable[[str], object]) -> None:
    """What is measured before the graph is there would be another search than the later ones."""
    if server.call("get_collection").status == models.CollectionStatus.YELLOW:
        told("waiting for the server's graph")
    while server.call("get_collection").status == models.CollectionStatus.YELLOW:
        time.sleep(1.0)


def _plans(
    reading: QdrantReading,
    server: Server,
    pool: QdrantPool,
    searched: Modality,
    wanted: float,
    spoken: Spoken | None,
) -> dict[str, Plan]:
    queries: dict[Modality, Embedding] = {}
    own: dict[Modality, Array | None] = {}
    for asking in MODALITIES:
        asked = reading.pool(asking, Where())
        handles = handles_of([]) if asked is None else asked.sample(_QUERIES)
        if asked is not None and len(handles) > 1:
            queries[asking], own[asking] = asked.take(handles), handles if asking == searched else None
        elif not len(handles) and spoken is not None:
            given = spoken(asking, _QUERIES)
            if given is not None:
                queries[asking], own[asking] = given, None
    proxies = {
        asking: asking_proxies(pool.similarity, asked, asking, pool.biased(asking)) for asking, asked in queries.items()
    }
    if any(given is None for given in proxies.values()):
        return {}
    right = first_ten(_scored(pool, queries), own, len(pool))
    return {
        asking: choose(right[asking], _tried(server, pool, given), wanted)
        for asking, given in proxies.items()
        if given is not None
    }


def _scored(pool: QdrantPool, queries: Mapping[Modality, Embedding]) -> Iterator[tuple[Array, dict[Modality, Array]]]:
    """Every item, block by block, scored by what orders it."""
    for handles, payloads in pool.blocks():
        block = pool.unpacked(payloads)
        yield (
            handles,
            {
                asking: scored(pool.similarity, asked, block) - pool.bias_of(payloads, asking)
                for asking, asked in queries.items()
            },
        )


def _tried(server: Server, pool: QdrantPool, proxies: Array) -> Iterator[tuple[int, list[Array]]]:
    for effort in EFFORTS:
        if effort > min(MOST, most(len(pool))):
            return
        found: list[Array] = []
        for start in range(0, len(proxies), _TOGETHER):
            requests = [
                models.QueryRequest(
                    query=given.tolist(),
                    using=PROXY,
                    filter=pool.which,
                    limit=effort,
                    params=server.searching(effort),
                    with_payload=False,
                )
                for given in proxies[start : start + _TOGETHER]
            ]
            answers = server.call("query_batch_points", requests=requests)
            found += [handles_of(answer.points) for answer in answers]
        yield effort, found
