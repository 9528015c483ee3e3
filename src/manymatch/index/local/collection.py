"""A collection in a folder: SQLite is the truth, mapped files beside it make searching quick."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..add import Batch, fitting
from ..collection import Near, Spoken
from ..filters import Where
from ..store.amending import Amended
from ..store.overview import FieldSeen
from ..store.rows import MODALITIES, Added, Modality, Snapshot, Stored
from ..store.store import Store
from ..turn import Turn
from .view import EXACT_UP_TO, Shelf, View

if TYPE_CHECKING:
    from ...embeddings import Embedding
    from ...similarity import Similarity
    from .candidates import Candidates

__all__ = ["LocalCollection", "LocalReading"]

Array = np.ndarray[Any, Any]

_VIEWS = 2
"""Generations kept open: while others write, a search may still read the one before the last."""

_EVERYTHING = Where()

_FEW_OF_ALL = 0.5
"""Below this share of the rows, those that pass a filter are read one by one rather than with all the others."""


class LocalCollection:
    """Items of one index folder. Safe to use from many threads, and in many processes at once.

    Args:
        folder: the index folder.
        store: its truth.
        similarity: gives the run's similarity; called when a search first needs it.
        spoken: queries of a modality without items, which agreement is measured with.
    """

    def __init__(
        self, folder: Path, store: Store, similarity: Callable[[], Similarity], spoken: Spoken | None = None
    ) -> None:
        self._folder, self._store, self._similarity, self._spoken = folder, store, similarity, spoken
        self._views: deque[View] = deque(maxlen=_VIEWS)
        self._lock, self._turn = threading.Lock(), Turn(folder)

    @contextmanager
    def reading(self) -> Iterator[LocalReading]:
        """One whole generation, whatever is written meanwhile."""
        with self._store.reading() as snapshot:
            yield LocalReading(snapshot, lambda: self._current(snapshot))

    def _current(self, snapshot: Snapshot) -> View:
        generation = snapshot.generation
        with self._lock:
            for view in self._views:
                if view.generation == generation:
                    return view
            before = next((v for v in self._views if snapshot.changes_since(v.generation) is not None), None)
            with self._store.reading() as now:
                newest = now.generation == generation
            view = View(self._folder, snapshot, self._similarity, before, newest, self._spoken)
            if before is None or before is self._views[0]:
                self._views.appendleft(view)
            return view

    def put(self, batch: Batch) -> Added:
        """One transaction, on the disk when this returns. Raises as `Index.add_embeddings`."""
        with self._store.writing() as change:
            spaces = fitting(batch, change.setting("spaces"))
            counts = [
                change.put(modality, records, batch.pictures) for modality, _, records in batch.parts if len(records)
            ]
            if spaces != change.setting("spaces"):
                change.set("spaces", spaces)
        return counts[0] if counts else Added()

    def amend(self, amended: Sequence[Amended], pictures: Mapping[str, Any] | None = None) -> None:
        """One transaction. Raises DataError; nothing is changed then."""
        with self._store.writing() as change:
            change.amend(amended, pictures)

    def delete(self, ids: Sequence[str]) -> int:
        """One transaction. Raises UnknownName; nothing is deleted then."""
        with self._store.writing() as change:
            return change.delete(ids)

    def refresh(self, progress: Callable[[str], object] | None = None, *, wait: bool = True) -> None:
        """Bring mapped rows up to date, and build candidates that are missing or too far behind."""
        told = progress or (lambda what: None)
        with self._turn.taken(wait, told) as ours:
            if not ours:
                return
            with self._store.reading() as snapshot:
                view = self._current(snapshot)
                for modality in view.due(snapshot):
                    # Another process may have built them since they were last looked for.
                    view.restock(modality)
                for modality in view.due(snapshot):
                    view.build(modality, snapshot, told)
                    self._restock(view, modality)

    def rebuild(self, progress: Callable[[str], object] | None = None) -> str:
        """Make everything that is derived anew, whether it is due or not; the generation it is made from."""
        told = progress or (lambda what: None)
        with self._turn.taken(told=told), self._store.reading() as snapshot:
            view = self._current(snapshot)
            for modality in MODALITIES:
                view.remake(modality, snapshot, told)
                self._restock(view, modality)
            return snapshot.generation

    def _restock(self, built: View, modality: Modality) -> None:
        """Views of later generations, opened while that one was building, take its candidates."""
        with self._lock:
            for view in self._views:
                if view is not built:
                    view.restock(modality)

    def about(self) -> dict[str, Any]:
        """As JSON."""
        with self._store.reading() as snapshot:
            view = self._current(snapshot)
            counts = {modality: snapshot.count(modality) for modality in MODALITIES}
            return {
                "generation": snapshot.generation,
                "engine": {modality: view.engine(modality, count) for modality, count in counts.items()},
                "agreement": {
                    modality: {
                        who: plan.agreement
                        for who, plan in view.plans(modality, snapshot).items()
                        if plan.count is not None
                    }
                    for modality in counts
                },
                "notes": view.notes,
            }

    def close(self) -> None:
        """Let go of connections and maps; the next use opens them again."""
        with self._lock:
            self._views.clear()
        self._store.close()


class LocalReading:
    """One generation of a store."""

    def __init__(self, snapshot: Snapshot, view: Callable[[], View]) -> None:
        self._snapshot, self._open = snapshot, view
        self.count = snapshot.count
        self.item = snapshot.item
        self.captions, self.first_captions = snapshot.captions, snapshot.first_captions
        self.fields = snapshot.fields
        self.examples = snapshot.examples
        self.source = snapshot.source
        self.origins, self.images_among = snapshot.origins, snapshot.images_among

    @cached_property
    def _view(self) -> View:
        return self._open()

    @property
    def notes(self) -> list[str]:
        return self._view.notes

    def overview(self) -> list[FieldSeen]:
        return self._view.lately.get("overview", self._snapshot.overview)

    def embedding(self, item: Stored) -> Embedding:
        space = self._view.space(item.modality)
        assert space is not None, "an item has the space of its modality"
        return space.unpack_one(self._snapshot.vector(item.row))

    def pool(self, modality: Modality, where: Where) -> LocalPool | None:
        shelf = self._view.shelf(modality, self._snapshot)
        if shelf is None:
            return None
        from .gallery import places

        def find() -> Array:
            return places(shelf.gallery.rows, self._snapshot.passing(modality, where))

        passing = shelf.lately.get(("passing", where), find) if where else None
        return LocalPool(self._snapshot, modality, shelf, passing, where)


class LocalPool:
    """Items of a shelf that pass a filter; handles are positions in its gallery."""

    def __init__(
        self,
        snapshot: Snapshot,
        modality: Modality,
        shelf: Shelf,
        passing: Array | None,
        where: Where = _EVERYTHING,
    ) -> None:
        self._snapshot, self._modality, self._shelf, self._passing = snapshot, modality, shelf, passing
        self._gallery, self._where = shelf.gallery, where

    @property
    def similarity(self) -> Similarity:
        return self._gallery.similarity

    def __len__(self) -> int:
        return len(self._gallery) if self._passing is None else len(self._passing)

    @cached_property
    def _there(self) -> Array:
        return self._gallery.positions() if self._passing is None else self._passing

    def scan(self, queries: Embedding) -> tuple[Array, Array]:
        if self._passing is not None and len(self._passing) > _FEW_OF_ALL * len(self._gallery.rows):
            scores = self._gallery.scores(queries)
            return self._passing, scores[:, np.searchsorted(self._gallery.positions(), self._passing)]
        return self._there, self._gallery.scores(queries, self._passing)

    def near(self, proxy: Array, asking: Modality, need: int) -> Near | None:
        from .gallery import best

        candidates = self._shelf.candidates
        few = self._passing is not None and len(self._passing) <= EXACT_UP_TO
        plan = None if candidates is None or few else candidates.asked(asking, need, len(self), len(self._gallery))
        if candidates is None or plan is None or plan.count is None:
            return None
        count, effort = plan.count, plan.effort
        found, late = self._found(candidates, proxy, count, effort), self._late(proxy, count)
        positions, scores = (np.concatenate(parts) for parts in zip(found, late, strict=True))
        positions = positions[best(scores, count)]
        # Nobody has measured answers that a filter thins, or deeper ones than a hundred.
        measured = None if self._passing is not None or math.isnan(plan.agreement) else plan.agreement
        return Near(np.sort(positions), measured) if len(positions) >= min(need, len(self)) else None

    def _found(self, candidates: Candidates, proxy: Array, count: int, effort: int) -> tuple[Array, Array]:
        """Positions and inner products of those in the structure."""
        if self._passing is None:
            # Some may be gone: asking for as many again is far quicker than telling the engine which.
            asked = count if self._shelf.whole else 2 * count
            found = self._there_of(candidates.engine.search_scored(proxy[None], asked, effort))
            if self._shelf.whole or len(found[0]) >= count:
                return found
        rows = self._gallery.rows[self._there]
        among = rows[: np.searchsorted(rows, candidates.last, side="right")]
        return self._there_of(candidates.engine.search_scored(proxy[None], count, effort, among=among))

    def _there_of(self, found: tuple[Array, Array]) -> tuple[Array, Array]:
        """Of an engine's rows and inner products for one query, those that are still there, as positions."""
        (rows,), (scores,) = found
        known = self._gallery.rows
        positions = np.minimum(np.searchsorted(known, rows), len(known) - 1)
        there = known[positions] == rows
        if self._gallery.alive is not None:
            there &= self._gallery.alive[positions]
        return positions[there], scores[there]

    def _late(self, proxy: Array, count: int) -> tuple[Array, Array]:
        """The same of those that came after it was built."""
        from .gallery import best, places

        late, proxies = self._shelf.late
        scores = proxies @ proxy if len(late) else np.empty(0, np.float32)
        if self._passing is not None:
            passing = places(late, self._passing)
            late, scores = late[passing], scores[passing]
        first = best(scores, count)
        return late[first], scores[first]

    def scores(self, query: Embedding, handles: Array) -> Array:
        return np.asarray(self._gallery.scores(query, handles)[0])

    def take(self, handles: Array) -> Embedding:
        return self._gallery.embedding(handles)

    def bias(self, handles: Array, asking: Modality) -> Array:
        return self._gallery.bias(handles, asking)

    def biased(self, asking: Modality) -> bool:
        return self._gallery.biased(asking)

    def sample(self, count: int) -> Array:
        drawn = self._shelf.sample
        return np.sort((drawn if self._passing is None else drawn[np.isin(drawn, self._passing)])[:count])

    def handle(self, item: Stored) -> Array:
        from .gallery import places

        found = places(self._gallery.rows, np.array([item.row]))
        return found if self._passing is None else found[np.isin(found, self._passing)]

    def words(self, text: str, count: int) -> Array:
        rows = None if self._passing is None else self._gallery.rows[self._passing]
        found = np.asarray(self._snapshot.words(self._modality, text, count, rows), np.int64)
        return np.asarray(np.searchsorted(self._gallery.rows, found))

    def items(self, handles: Array) -> list[Stored]:
        return self._snapshot.items([int(row) for row in self._gallery.rows[handles]])

    def values(self, field: str, handles: Array) -> list[list[Any]]:
        return self._snapshot.values(field, self._gallery.rows[handles])

    def facet(self, field: str, handles: Array | None, limit: int) -> list[tuple[Any, int]]:
        if handles is not None:
            return self._facet(field, handles, limit)
        asked = ("facet", field, limit, self._where)
        return self._shelf.lately.get(asked, lambda: self._facet(field, self._passing, limit))

    def _facet(self, field: str, chosen: Array | None, limit: int) -> list[tuple[Any, int]]:
        rows = None if chosen is None else np.sort(self._gallery.rows[chosen])
        return self._snapshot.facet(self._modality, field, rows, limit)
