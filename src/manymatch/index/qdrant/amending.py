"""Images on the server that keep their embeddings while their ids, pictures or metadata change.

A point's id follows from its item's, so a renamed image is a new point with the old one's embedding; what a kill leaves
half done is two points of one image, of which indexing again removes the old one.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple
from typing import Any, TypeVar

from ...errors import DataError
from ..add import Batch
from ..local.vectors import Space
from ..store.amending import Amended, caption_id
from ..store.rows import Modality, Record
from .api import models
from .filters import any_of
from .points import point_id
from .server import Server

__all__ = ["amend"]

_BLOCK = 256
"""Images of one batch."""

_T = TypeVar("_T")

_Found = tuple[Amended, dict[str, Any], list[dict[str, Any]]]
"""An image with what the server says of it and of its captions."""


def amend(
    server: Server,
    amended: Sequence[Amended],
    pictures: Mapping[str, Any] | None,
    source: int | None,
    spaces: Mapping[str, Space],
    put: Callable[[Batch], object],
    delete: Callable[[list[str]], object],
) -> None:
    """Put what is amended under its new ids, then delete the old ones.

    Everything is read first, because ids may go round in a ring: all embeddings that are renamed are held in memory.

    Args:
        source: number of the source that pictures are read from now.
        spaces: how the embeddings of each modality lie there.

    Raises:
        DataError: an image that is not there any more.
    """
    found = [one for some in _parts(amended) for one in _found(server, some)]
    described = [one for one in found if _differs(*one[:2], source)]
    differing = {one.before for one, *_ in described}
    for some in _parts([one for one, *_ in found if one.before not in differing]):
        operations = [
            models.SetPayloadOperation(
                set_payload=models.SetPayload(payload={"origin": [*astuple(one.origin)]}, points=[point_id(one.id)])
            )
            for one in some
        ]
        server.call("batch_update_points", update_operations=operations, wait=True)
    for part in _parts(described):
        put(_batch(part, spaces, pictures))
    after = {one.id for one in amended}
    for ids in _parts([one.before for one in amended if one.before not in after]):
        delete(list(ids))


def _found(server: Server, amended: Sequence[Amended]) -> list[_Found]:
    """Raises DataError: one that is not there."""
    points = {one.before: point_id(one.before) for one in amended}
    images = server.fetch(list(points.values()), True)
    lost = next((id for id, point in points.items() if point not in images), None)
    if lost is not None:
        raise DataError(f"image {lost!r} was deleted by another process meanwhile; try again")
    captions: dict[str, list[dict[str, Any]]] = {}
    for page in server.scroll(models.Filter(must=[any_of("owner", list(points))]), True):
        for record in page:
            payload = record.payload or {}
            captions.setdefault(payload["owner"], []).append(payload)
    return [
        (one, images[points[one.before]], sorted(captions.get(one.before, []), key=lambda said: said["order"]))
        for one in amended
    ]


def _differs(one: Amended, payload: Mapping[str, Any], source: int | None) -> bool:
    """Whether more than its origin is another one now."""
    was = (
        payload["id"],
        payload.get("metadata") or {},
        payload.get("labels") or [],
        payload.get("picture"),
        payload.get("source"),
    )
    of = None if one.picture is None else source
    return was != (one.id, dict(one.metadata), list(one.labels), one.picture, of)


def _batch(found: Sequence[_Found], spaces: Mapping[str, Space], pictures: Mapping[str, Any] | None) -> Batch:
    images, captions = [], []
    for one, payload, said in found:
        more = {"metadata": one.metadata, "labels": one.labels, "picture": one.picture, "origin": one.origin}
        images.append(_record(one.id, payload, more))
        for caption in said:
            id = caption_id(caption["id"], one.before, one.id)
            captions.append(_record(id, caption, {"owner": one.id, "caption": caption.get("caption")}))
    parts: list[tuple[Modality, Space, Sequence[Record]]] = [("image", spaces["image"], images)]
    if captions:
        parts.append(("caption", spaces["caption"], captions))
    return Batch(parts, pictures)


def _record(id: str, payload: Mapping[str, Any], more: Mapping[str, Any]) -> Record:
    biases = dict(zip(("bias_caption", "bias_image"), payload["biases"], strict=True))
    return Record(id, base64.b64decode(payload["embedding"]), **biases, **more)


def _parts(values: Sequence[_T]) -> Iterator[Sequence[_T]]:
    for start in range(0, len(values), _BLOCK):
        yield values[start : start + _BLOCK]
