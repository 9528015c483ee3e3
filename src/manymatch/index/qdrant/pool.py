"""Items of one modality on the server that pass a filter. Handles are point ids."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from ...errors import DataError
from ..collection import Near
from ..filters import Value
from ..local.candidates import TOP, Plan
from ..local.gallery import finite_scores
from ..local.vectors import ASKING, Space
from ..store.rows import Modality, Stored
from .api import models
from .facets import facet, most_frequent
from .filters import key, of, value_of_term
from .points import BIASED, ITEM, SCORED, item_of, padded, point_id
from .server import PROXY, WORDS, Server
from .words import sparse_query

if TYPE_CHECKING:
    from ...embeddings import Embedding
    from ...similarity import Similarity

__all__ = ["EXACT_UP_TO", "MOST", "QdrantPool", "Samples", "handles_of", "scored"]

Array = np.ndarray[Any, Any]

Drawn = TypeVar("Drawn")

EXACT_UP_TO = 1000
"""Items up to which every one is fetched and scored. Far fewer than in a folder: each comes over the network."""

MOST = 5000
"""Candidates of one query at most: with embeddings of 2 kB more than 10 MB to fetch."""

_QUERIES = 16
"""Queries scored at once, so that a similarity's inner table stays small."""

_FOUND = [*ITEM, "embedding"]
"""Payload fields of a candidate: all that a search may ask of it, in one request."""


class Samples:
    """The last few samples and overviews, so that not every search fetches one. Five minutes old they still tell.

    Thread-safe.
    """

    def __init__(self, count: int = 8, seconds: float = 300.0) -> None:
        self._count, self._seconds = count, seconds
        self._kept: dict[str, tuple[float, object]] = {}
        self._lock = threading.Lock()

    def get(self, name: str, draw: Callable[[], Drawn]) -> Drawn:
        """The sample of that name, drawn anew when it is old."""
        drawn, kept = self._kept.get(name, (-np.inf, None))
        if time.monotonic() - drawn <= self._seconds:
            return cast(Drawn, kept)
        page = draw()
        with self._lock:
            self._kept[name] = time.monotonic(), page
            for other in sorted(self._kept, key=lambda other: self._kept[other][0])[: -self._count]:
                del self._kept[other]
        return page


class QdrantPool:
    """Items that pass, as they are while it is asked: nothing holds them still between two calls.

    What a search has fetched of an item is kept as long as the pool, so that it is not fetched again.

    Args:
        conditions: what passes, whatever its modality.
        plans: asking modality -> how candidates are asked for.
        samples: shared with other pools.
    """

    def __init__(
        self,
        server: Server,
        modality: Modality,
        conditions: models.Filter,
        space: Space,
        similarity: Callable[[], Similarity],
        plans: Mapping[str, Plan],
        samples: Samples,
    ) -> None:
        self._server, self._modality, self._conditions = server, modality, conditions
        self.which = of(modality, conditions)
        self._filtered = conditions != models.Filter()
        self._space, self._given, self._plans = space, similarity, plans
        self._samples = samples
        self._known: dict[str, dict[str, Any]] = {}
        self._biased: dict[str, bool] = {}

    @property
    def similarity(self) -> Similarity:
        return self._given()

    @cached_property
    def _count(self) -> int:
        return self._server.count(self.which)

    def __len__(self) -> int:
        return self._count

    # ---- scoring

    def blocks(self, payload: Sequence[str] = SCORED) -> Iterator[tuple[Array, list[dict[str, Any]]]]:
        """Every item that passes, page by page in the order of point ids: handles and payloads."""
        for page in self._server.scroll(self.which, list(payload)):
            yield handles_of(page), [record.payload or {} for record in page]

    def scan(self, queries: Embedding) -> tuple[Array, Array]:
        found, parts = [], []
        for handles, payloads in self.blocks():
            found.append(handles)
            parts.append(scored(self.similarity, queries, self.unpacked(payloads)))
            self._keep(handles, payloads, ["order", "biases"])
        if not found:
            return handles_of([]), np.empty((len(queries), 0), np.float32)
        handles, scores = np.concatenate(found), np.hstack(parts)
        order = np.argsort(self._orders(handles), kind="stable")
        return handles[order], scores[:, order]

    def unpacked(self, payloads: Sequence[Mapping[str, Any]]) -> Embedding:
        """Embeddings of payloads, float32."""
        return self._space.unpack(padded(payloads, self._space.precision))

    def near(self, proxy: Array, asking: Modality, need: int) -> Near | None:
        plan = self._plans.get(asking)
        if plan is None or plan.count is None or len(self) <= EXACT_UP_TO:
            return None
        count, effort = plan.wanted(need)
        if count > min(MOST, len(self)):
            return None
        found = self._nearest(proxy, count, effort)
        handles = handles_of(found)
        self._keep(handles, [point.payload or {} for point in found], _FOUND)
        handles = handles[np.argsort(self._orders(handles), kind="stable")]
        # A filter leaves other items than agreement was measured with, and it was measured of the first ten.
        agreement = None if self._filtered or need > TOP + 1 else plan.agreement
        return Near(handles, agreement) if len(handles) >= min(need, len(self)) else None

    def _nearest(self, proxy: Array, count: int, effort: int) -> list[Any]:
        found = self._server.call(
            "query_points",
            query=proxy.tolist(),
            using=PROXY,
            query_filter=self.which,
            limit=count,
            search_params=self._server.searching(effort),
            with_payload=_FOUND,
        )
        return list(found.points)

    def scores(self, query: Embedding, handles: Array) -> Array:
        return np.asarray(finite_scores(self.similarity, query, self.take(handles))[0])

    def take(self, handles: Array) -> Embedding:
        return self.unpacked(self._payloads(handles, ["embedding"]))

    def bias(self, handles: Array, asking: Modality) -> Array:
        return self.bias_of(self._payloads(handles, ["biases"]), asking)

    def bias_of(self, payloads: Sequence[Mapping[str, Any]], asking: Modality) -> Array:
        """As `bias`, of payloads."""
        which = ASKING.index(asking)
        return np.array([payload["biases"][which] for payload in payloads], np.float32)

    def biased(self, asking: Modality) -> bool:
        if asking not in self._biased:
            # Biases are for queries of the other modality, except where somebody gave others.
            wanted = [BIASED + ASKING.index(asking), *([1] if asking != self._modality else [])]
            some = models.Filter(must=[models.FieldCondition(key="biased", match=models.MatchAny(any=wanted))])
            self._biased[asking] = bool(next(self._server.scroll(of(self._modality, some), False, page=1), []))
        return self._biased[asking]

    def sample(self, count: int) -> Array:
        # Point ids are hashes: the first of them are drawn evenly.
        page = self._samples.get(f"{count} {self.which.model_dump_json()}", lambda: self._first(count))
        self._keep(handles_of(page), [point.payload or {} for point in page], SCORED)
        return handles_of(page)

    def _first(self, count: int) -> list[models.Record]:
        return next(self._server.scroll(self.which, SCORED, page=max(1, count)), [])[:count]

    def handle(self, item: Stored) -> Array:
        handle = point_id(item.id)
        passes = item.modality == self._modality
        if passes and self._filtered:
            passes = self._server.count(of(self._modality, self._conditions, [handle])) > 0
        return _array([handle] if passes else [])

    # ---- words

    def words(self, text: str, count: int) -> Array:
        query = sparse_query(text)
        if query is None or count < 1:
            return handles_of([])
        best: dict[str, float] = {}
        for handle, score in [*self._own_words(query, count), *self._caption_words(query, count)]:
            best[handle] = max(score, best.get(handle, -np.inf))
        handles = _array(best)
        order = np.lexsort((self._orders(handles), -np.array(list(best.values()))))
        return np.asarray(handles[order][:count])

    def _own_words(self, query: models.SparseVector, count: int) -> Iterator[tuple[str, float]]:
        found = self._server.call(
            "query_points", query=query, using=WORDS, query_filter=self.which, limit=count, with_payload=False
        )
        for point in found.points:
            yield str(point.id), float(point.score)

    def _caption_words(self, query: models.SparseVector, count: int) -> Iterator[tuple[str, float]]:
        """An image is as good as the best of its captions, which pass where it does."""
        if self._modality != "image":
            return
        found = self._server.call(
            "query_points_groups",
            group_by="owner",
            group_size=1,
            query=query,
            using=WORDS,
            query_filter=of("caption", self._conditions),
            limit=count,
            with_payload=False,
        )
        for group in found.groups:
            yield point_id(str(group.id)), float(group.hits[0].score)

    # ---- what items are

    def items(self, handles: Array) -> list[Stored]:
        return [item_of(payload) for payload in self._payloads(handles, ITEM)]

    def values(self, field: str, handles: Array) -> list[list[Value]]:
        name = key(field)
        found = [(payload["terms"] or {}).get(name, []) for payload in self._payloads(handles, ["terms"])]
        return [[value_of_term(term) for term in terms] for terms in found]

    def facet(self, field: str, handles: Array | None, limit: int) -> list[tuple[Value, int]]:
        if handles is None:
            return facet(self._server, field, self.which, limit)
        return most_frequent(self.values(field, handles), limit)

    # ---- what was fetched

    def _payloads(self, handles: Array, fields: Sequence[str]) -> list[dict[str, Any]]:
        wanted = [str(handle) for handle in handles]
        known = self._known
        missing = [h for h in dict.fromkeys(wanted) if h not in known or any(f not in known[h] for f in fields)]
        found = self._server.fetch(missing, list(fields))
        if len(found) < len(missing):
            raise DataError(
                f"Qdrant at {self._server.url}: {len(missing) - len(found)} of the items found were deleted meanwhile; "
                "search again"
            )
        self._keep(_array(found), list(found.values()), fields)
        return [known[handle] for handle in wanted]

    def _keep(self, handles: Array, payloads: Sequence[Mapping[str, Any]], fields: Sequence[str]) -> None:
        for handle, payload in zip(handles, payloads, strict=True):
            self._known.setdefault(handle, {}).update({field: payload.get(field) for field in fields})

    def _orders(self, handles: Array) -> Array:
        return np.array([payload["order"] for payload in self._payloads(handles, ["order"])], np.int64)


def scored(similarity: Similarity, queries: Embedding, block: Embedding) -> Array:
    """Raw scores (q, n) float32. Raises DataError when one is not finite."""
    starts = range(0, len(queries), _QUERIES)
    return np.concatenate([finite_scores(similarity, queries[start : start + _QUERIES], block) for start in starts])


def handles_of(points: Sequence[Any]) -> Array:
    """Their ids (n,)."""
    return _array(str(point.id) for point in points)


def _array(handles: Iterable[str]) -> Array:
    return np.array(list(handles), object)
