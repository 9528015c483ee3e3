"""Putting a batch on the server, and deleting from it: checked as a folder's change is, then written point by point."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import DataError
from ...threads import one_thread
from ..add import Batch, fitting
from ..local.gallery import proxy
from ..local.vectors import ASKING, Space
from ..store.admission import Known, admit
from ..store.rows import Added, Modality, Record
from .api import models
from .filters import any_of
from .points import IDENTITY, SHARED, described, padded, payload_of, point, point_id
from .reading import QdrantReading, source_name
from .server import Server

if TYPE_CHECKING:
    from ...similarity import Similarity

__all__ = ["delete", "put", "source_number"]

Array = np.ndarray[Any, Any]

_BLOCK = 256
"""Points of one request: about 1 MB with embeddings of 2 kB, far below the 32 MB that a server takes."""

_MANY = 500
"""Ids named in one filter."""

_Parts = list[tuple[Modality, Space, Sequence[Record]]]


class _Known:
    """What the server has, and what a batch has added to it so far: id -> (0, modality, owner)."""

    def __init__(self, found: Known) -> None:
        self._found = dict(found)

    def _among(self, ids: Iterable[str]) -> Known:
        return {id: self._found[id] for id in ids if id in self._found}

    def take(self, modality: Modality, records: Sequence[Record]) -> Added:
        """Check the records and know them from then on. Raises DataError as `Transaction.put`."""
        known = admit(modality, records, self._among)
        if modality == "image":
            # The captions of a replaced image are gone before others come.
            self._found = {id: item for id, item in self._found.items() if item[2] not in known}
        self._found |= {record.id: (0, modality, record.owner) for record in records}
        return Added(len(records) - len(known), len(known))


def put(
    server: Server,
    batch: Batch,
    spaces: Mapping[str, Any],
    similarity: Callable[[], Similarity],
    orders: Callable[[int], int],
    keep_spaces: Callable[[Mapping[str, Any]], None],
) -> Added:
    """Check everything, then write.

    Args:
        spaces: what the index holds.
        orders: gives the first of so many new order numbers.
        keep_spaces: called with what it holds from then on, once the collection is there.
    """
    parts: _Parts = [part for part in batch.parts if len(part[2])]
    if not parts:
        return Added()
    held = fitting(batch, spaces)
    source = None if batch.pictures is None else source_number(batch.pictures)
    try:
        for record in (record for _, _, records in parts for record in records):
            (record.caption or "").encode()
        counts, images = _checked(server, parts)
        shared = _shared(server, parts, source)
    except UnicodeEncodeError as error:
        raise DataError(f"text of a new item is not valid Unicode: {error.object[:80]!r}; mend it") from None
    first = orders(sum(len(records) for _, _, records in parts))
    with one_thread():
        for place, (payloads, proxies) in enumerate(_blocks(parts, shared, similarity(), first)):
            if not place:
                server.create(None if proxies is None else proxies.shape[1] + len(ASKING))
                keep_spaces(held)
                if source is not None:
                    server.note(source_name(source), dict(batch.pictures or {}))
            points = [point(p, None if proxies is None else proxies[n]) for n, p in enumerate(payloads)]
            server.call("upsert", points=points, wait=True)
    for some in _some(images):
        # Those of the batch have a later order.
        late = models.FieldCondition(key="order", range=models.Range(lt=first))
        _drop(server, models.Filter(must=[any_of("owner", some), late]))
    return counts[0]


def _checked(server: Server, parts: _Parts) -> tuple[list[Added], list[str]]:
    """Counts of each part, and the images that are replaced. Raises DataError, UnicodeEncodeError."""
    there = server.exists()
    named = {name for _, _, records in parts for r in records for name in (r.id, r.owner) if name is not None}
    points = {point_id(name): name for name in named}
    found = server.fetch(list(points), IDENTITY).values() if there else []
    known = {p["id"]: (0, p["modality"], p.get("owner")) for p in found}
    checks = _Known(known)
    counts = [checks.take(modality, records) for modality, _, records in parts]
    images = [r.id for modality, _, records in parts if modality == "image" for r in records if r.id in known]
    return counts, images


def _shared(server: Server, parts: _Parts, source: int | None) -> dict[str, dict[str, Any]]:
    """Item id -> what is filtered and shown of it; of a caption, what its image says."""
    out: dict[str, dict[str, Any]] = {}
    later: list[Record] = []
    for _, _, records in parts:
        for record in records:
            if record.owner is None:
                out[record.id] = described(record, source)
            else:
                later.append(record)
    elsewhere = {point_id(owner): owner for r in later if (owner := r.owner) is not None and owner not in out}
    found = server.fetch(list(elsewhere), SHARED) if elsewhere else {}
    images = {owner: found[handle] for handle, owner in elsewhere.items()}
    return out | {r.id: out[r.owner] if r.owner in out else images[r.owner] for r in later if r.owner is not None}


def _blocks(
    parts: _Parts, shared: Mapping[str, dict[str, Any]], similarity: Similarity, order: int
) -> Iterator[tuple[list[dict[str, Any]], Array | None]]:
    """Payloads of a request, and their proxies (n, p), None where the similarity has none."""
    for modality, space, records in parts:
        for start in range(0, len(records), _BLOCK):
            some = records[start : start + _BLOCK]
            payloads = [payload_of(modality, r, order + n, shared[r.id]) for n, r in enumerate(some)]
            order += len(some)
            # Of the stored numbers, rounded as they are.
            yield payloads, proxy(similarity, space.unpack(padded(payloads, space.precision)), "gallery")


def source_number(pictures: Mapping[str, Any]) -> int:
    """A source's number follows from what it says: writers need not agree on one."""
    told = json.dumps(dict(pictures), sort_keys=True).encode()
    return int.from_bytes(hashlib.sha256(told).digest()[:6], "big")


def delete(server: Server | None, reading: QdrantReading, ids: Sequence[str]) -> int:
    """Delete items and the captions of the images among them; how many went. Raises UnknownName, nothing gone then."""
    points: dict[str, str] = {}
    for id in ids:
        try:
            points[point_id(id)] = id
        except UnicodeEncodeError:
            reading.item(id)
    found = {} if server is None else server.fetch(list(points), IDENTITY)
    for handle, id in points.items():
        if handle not in found:
            reading.item(id)
    if server is None or not found:
        return 0
    images = {payload["id"] for payload in found.values() if payload["modality"] == "image"}
    count = sum(payload.get("owner") not in images for payload in found.values())
    for some in _some(images):
        # First, so that what dies in between leaves images without captions, not captions without an image.
        own = models.Filter(must=[any_of("owner", some)])
        count += server.count(own)
        _drop(server, own)
    for some in _some(found):
        _drop(server, models.Filter(must=[models.HasIdCondition(has_id=list(some))]))
    return count


def _drop(server: Server, which: models.Filter) -> None:
    server.call("delete", points_selector=models.FilterSelector(filter=which), wait=True)


def _some(values: Iterable[str]) -> Iterator[list[str]]:
    rest = list(values)
    for start in range(0, len(rest), _MANY):
        yield rest[start : start + _MANY]
