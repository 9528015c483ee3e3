"""A collection on a Qdrant server or cluster. The server is the truth there, with its own log and replicas."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import DataError
from ..add import Batch
from ..collection import Spoken
from ..local.candidates import Plan
from ..local.vectors import Space
from ..placement import Placement
from ..store.amending import Amended
from ..store.rows import MODALITIES, Added
from ..store.store import Store
from ..turn import Turn
from .amending import amend
from .api import QdrantClient
from .changes import delete, put, source_number
from .measure import Measured, due, measure
from .pool import Samples
from .reading import QdrantReading
from .server import KEY, Server, connect

if TYPE_CHECKING:
    from ...similarity import Similarity

__all__ = ["QdrantCollection"]


@dataclass(frozen=True)
class _Settings:
    """What the folder keeps of a collection elsewhere."""

    spaces: Mapping[str, Any]
    precision: str
    wanted: float
    measured: Mapping[str, Measured]

    def space(self, modality: str) -> Space:
        found = self.spaces[modality]
        return Space(found["kind"], found["layout"], self.precision)


class QdrantCollection:
    """Items of one index on a server. Safe to use from many threads, and from many processes and machines at once.

    The folder keeps the run and these settings: `identity` and `fingerprint` (which the server's collection repeats, so
    that no other index is written into it), `url`, `precision`, `agreement`, and where they are set `collection` (its
    name there, else "manymatch-" and the identity) and `placement` (fields of `Placement`). `spaces` and `plans` are
    written here.

    Reading is live: a search sees what others add or delete while it runs. Of two writers of one item the later wins.

    Args:
        folder: the index folder.
        store: its settings; its items are not used.
        similarity: gives the run's similarity, called when items are put or searched.
        client: of the server; by default one for `url`, with the key in the environment variable QDRANT_API_KEY.
        spoken: queries of a modality without items, which agreement is measured with.
    """

    def __init__(
        self,
        folder: Path,
        store: Store,
        similarity: Callable[[], Similarity],
        client: QdrantClient | None = None,
        spoken: Spoken | None = None,
    ) -> None:
        self._folder, self._store, self._similarity, self._given = folder, store, similarity, client
        self._spoken = spoken
        self._lock, self._turn = threading.Lock(), Turn(folder)
        self._server: Server | None = None
        self._samples = Samples()
        self._last = 0

    @contextmanager
    def reading(self) -> Iterator[QdrantReading]:
        """What the server has, now and while it is read."""
        settings = self._settings()
        yield self._reading(settings)

    def _reading(self, settings: _Settings) -> QdrantReading:
        spaces = {modality: settings.space(modality) for modality in settings.spaces}
        plans = {modality: found.plans for modality, found in settings.measured.items()}
        return QdrantReading(self._there(settings), spaces, self._similarity, plans, self._samples)

    def put(self, batch: Batch) -> Added:
        """Everything is checked before anything is written, and on the server's log when this returns.

        The server has no transaction over several points: where the connection breaks in between, a part of the batch
        may be there. Putting the batch again makes it whole, because a point's id follows from the item's; it then
        counts as replaced what was there.

        Raises:
            DataError: as `Index.add_embeddings`; the server cannot be reached or refuses the key.
            IndexMismatch: another kind or size of embedding than the index holds, or a collection of another index.
        """
        settings = self._settings()
        with self._lock:
            return put(self._connected(), batch, settings.spaces, self._similarity, self._orders, self._keep_spaces)

    def delete(self, ids: Sequence[str]) -> int:
        """Raises UnknownName; nothing is deleted then."""
        settings = self._settings()
        with self._lock:
            return delete(self._there(settings), self._reading(settings), ids)

    def amend(self, amended: Sequence[Amended], pictures: Mapping[str, Any] | None = None) -> None:
        """What is renamed is put anew with the embedding it has, then the old item is deleted; see `amending`."""
        settings = self._settings()
        server = self._there(settings)
        if server is None or not amended:
            return
        spaces = {modality: settings.space(modality) for modality in settings.spaces}
        source = None if pictures is None else source_number(pictures)
        amend(server, amended, pictures, source, spaces, self.put, self.delete)

    def refresh(self, progress: Callable[[str], object] | None = None, *, wait: bool = True) -> None:
        """Wait for the server to have its graph ready, and measure how many candidates a search has to ask for.

        That reads every item once over the network; it is done when it never was, and when the number of items has
        changed by more than a quarter since, or another agreement is wanted.
        """
        told = progress or (lambda what: None)
        with self._turn.taken(wait, told) as ours:
            if not ours:
                return
            settings = self._settings()
            reading, server = self._reading(settings), self._there(settings)
            late = due(reading, settings.measured, settings.wanted)
            if server is None or not late:
                return
            found = measure(reading, server, late, settings.wanted, told, self._spoken)
            with self._store.writing() as change:
                kept = {modality: m.to_json() for modality, m in {**settings.measured, **found}.items()}
                change.set("plans", kept)

    def due(self) -> bool:
        """Whether `refresh` would measure."""
        settings = self._settings()
        return bool(due(self._reading(settings), settings.measured, settings.wanted))

    def about(self) -> dict[str, Any]:
        """As JSON. `generation` is None: the server has none."""
        settings = self._settings()
        server = self._connected()
        plans = {modality: found.plans for modality, found in settings.measured.items()}
        return {
            "generation": None,
            "engine": dict.fromkeys(MODALITIES, "qdrant"),
            "agreement": {modality: _agreement(plans.get(modality, {})) for modality in MODALITIES},
            "url": server.url,
            "collection": server.name,
        }

    def close(self) -> None:
        """Let go of the connection; the next use opens another one."""
        with self._lock:
            if self._server is not None and self._given is None and not self._server.in_memory:
                self._server.client.close()
            self._server = None
        self._store.close()

    # ---- the folder and the server

    def _settings(self) -> _Settings:
        with self._store.reading() as snapshot:
            found = snapshot.settings()
        plans = {modality: Measured.of_json(told) for modality, told in found.get("plans", {}).items()}
        return _Settings(found["spaces"], found["precision"], found["agreement"], plans)

    def _keep_spaces(self, spaces: Mapping[str, Any]) -> None:
        with self._store.writing() as change:
            if spaces != change.setting("spaces"):
                change.set("spaces", dict(spaces))

    def _connected(self) -> Server:
        if self._server is None:
            with self._store.reading() as snapshot:
                found = snapshot.settings()
            url, owner = found["url"], {name: found[name] for name in ("identity", "fingerprint")}
            name = found.get("collection") or f"manymatch-{owner['identity']}"
            client = self._given or connect(url, os.environ.get(KEY))
            self._server = Server(client, url, name, owner, Placement(**found.get("placement", {})))
        return self._server

    def _there(self, settings: _Settings) -> Server | None:
        """The server's collection; None before the first item."""
        if not settings.spaces:
            return None
        server = self._connected()
        if not server.exists():
            raise DataError(
                f"Qdrant at {server.url}: collection {server.name!r} of the index {self._folder} is gone; "
                "restore it from a snapshot, or build the index again"
            )
        return server

    def _orders(self, count: int) -> int:
        """The first of `count` order numbers above all before: microseconds, so that no writer has to ask another."""
        first = max(time.time_ns() // 1000, self._last + 1)
        self._last = first + count
        return first


def _agreement(plans: Mapping[str, Plan]) -> dict[str, float]:
    return {asking: plan.agreement for asking, plan in plans.items() if plan.count is not None}
