"""What a collection on a server is asked: single items, names, examples, and pools for searching."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from ...errors import DataError, UnknownName
from ..filters import Where
from ..local.candidates import Plan
from ..local.vectors import Space
from ..store.origins import Origin
from ..store.overview import FieldSeen
from ..store.rows import Modality, Stored
from . import facets
from .api import models
from .filters import any_of, of, passing, term_path
from .points import IDENTITY, ITEM, item_of, padded, point_id
from .pool import QdrantPool, Samples
from .server import Server

if TYPE_CHECKING:
    from ...embeddings import Embedding
    from ...similarity import Similarity

__all__ = ["QdrantReading", "source_name"]

_KNOWN = 1000
"""Ids that a mistyped one is compared with."""


class QdrantReading:
    """A live look: what others add or delete meanwhile is seen from then on, in the middle of a search too.

    Args:
        server: None before the first item.
        spaces: how the embeddings of each modality lie there.
        plans: modality searched -> asking modality -> how candidates are asked for.
        samples: shared with other readings.
    """

    notes: tuple[str, ...] = ()

    def __init__(
        self,
        server: Server | None,
        spaces: Mapping[str, Space],
        similarity: Callable[[], Similarity],
        plans: Mapping[str, Mapping[str, Plan]],
        samples: Samples,
    ) -> None:
        self._server, self._spaces, self._similarity, self._plans = server, spaces, similarity, plans
        self._samples = samples
        self._said: dict[str, list[str]] = {}

    def count(self, modality: Modality | None = None) -> int:
        if self._server is None:
            return 0
        return self._server.count(None if modality is None else of(modality, models.Filter()))

    def item(self, id: str) -> Stored:
        payload = self._payload(id, ITEM)
        if payload is None:
            known = self._some_ids()
            raise UnknownName("id in this index", id, get_close_matches(id, known, n=3, cutoff=0.5) or known[:3])
        return item_of(payload)

    def _payload(self, id: str, fields: list[str]) -> dict[str, Any] | None:
        try:
            point = point_id(id)
        except UnicodeEncodeError:
            return None
        return None if self._server is None else self._server.fetch([point], fields).get(point)

    def _some_ids(self) -> list[str]:
        pages = [] if self._server is None else self._server.scroll(None, ["id"], page=_KNOWN)
        return sorted(str((record.payload or {})["id"]) for record in next(iter(pages), []))

    def captions(self, id: str) -> list[str]:
        self._listen([id])
        return list(self._said.get(id, []))

    def first_captions(self, ids: Sequence[str]) -> dict[str, str]:
        self._listen(ids)
        return {id: said[0] for id in ids if (said := self._said.get(id))}

    def _listen(self, ids: Sequence[str]) -> None:
        """Fetch the captions of several images in one go, and keep them as long as this reading."""
        fresh = [id for id in ids if id not in self._said]
        if self._server is None or not fresh:
            return
        own = models.Filter(must=[any_of("owner", fresh)])
        found = [r.payload or {} for page in self._server.scroll(own, ["owner", "caption", "order"]) for r in page]
        self._said.update((id, []) for id in fresh)
        for payload in sorted(found, key=lambda payload: payload["order"]):
            if "caption" in payload:
                self._said[payload["owner"]].append(str(payload["caption"]))

    def embedding(self, item: Stored) -> Embedding:
        space = self._spaces[item.modality]
        payload = self._payload(item.id, ["embedding"])
        if payload is None:
            raise UnknownName("id in this index", item.id, ())
        return space.unpack(padded([payload], space.precision))

    def fields(self) -> list[str]:
        return [] if self._server is None else facets.fields(self._server)

    def overview(self) -> list[FieldSeen]:
        """Some minutes old where as many items are there as then."""
        server = self._server
        if server is None:
            return []
        return self._samples.get(f"fields of {self.count()}", lambda: facets.overview(server))

    def examples(self, n: int, seed: int) -> list[str]:
        """Point ids are hashes: captions from a drawn one on are drawn themselves."""
        if self._server is None or n < 1:
            return []
        first = str(uuid.uuid5(uuid.NAMESPACE_OID, str(seed)))
        own = of("caption", models.Filter())
        out: dict[str, None] = {}
        for start in (first, None):
            page = next(self._server.scroll(own, ["caption"], page=4 * n, first=start), [])
            out.update((str(p["caption"]), None) for r in page if "caption" in (p := r.payload or {}))
            if len(out) >= n:
                break
        return list(out)[:n]

    def source(self, number: int) -> dict[str, Any]:
        assert self._server is not None, "an item with a source lies on the server"
        found = self._server.metadata().get(source_name(number))
        if found is None:
            raise DataError(
                f"Qdrant at {self._server.url}: collection {self._server.name!r} does not say where the pictures of "
                f"source {number} are; add these images again"
            )
        return dict(found)

    def origins(self) -> Iterator[tuple[str, Origin]]:
        pages = [] if self._server is None else self._server.scroll(of("image", models.Filter()), ["id", "origin"])
        for page in pages:
            for record in page:
                payload = record.payload or {}
                if "origin" in payload:
                    yield str(payload["id"]), Origin(*payload["origin"])

    def images_among(self, ids: Sequence[str]) -> set[str]:
        points = []
        for id in ids:
            try:
                points.append(point_id(id))
            except UnicodeEncodeError:
                continue
        found = {} if self._server is None else self._server.fetch(points, IDENTITY)
        return {str(payload["id"]) for payload in found.values() if payload["modality"] == "image"}

    def pool(self, modality: Modality, where: Where) -> QdrantPool | None:
        space = self._spaces.get(modality)
        if self._server is None or space is None:
            return None
        server = self._server
        for field in where.fields:
            # Text, equality and existence are looked up there; a range of numbers does without.
            server.indexed(term_path(field), models.PayloadSchemaType.KEYWORD)
        conditions = passing(where, lambda field: facets.texts(server, field))
        return QdrantPool(
            server,
            modality,
            conditions,
            space,
            self._similarity,
            self._plans.get(modality, {}),
            self._samples,
        )


def source_name(number: int) -> str:
    """What the collection's metadata calls the source of that number."""
    return f"source-{number}"
