"""Items as points of the server, and back.

The exact embedding lies in the payload, as bytes in the precision of the index. The server's own vectors could not
hold it: a multivector is a list of vectors under MaxSim, neither a Gaussian nor a box nor padded fragments, and the
server is never asked to score by anything but the proxy.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Any

import numpy as np

from ..filters import Value
from ..store.admission import encoded
from ..store.facts import facts_of, text_of
from ..store.rows import Modality, Record, Stored
from .api import models
from .filters import key, term
from .server import PROXY, WORDS
from .words import folded, sparse_text

__all__ = [
    "BIASED",
    "IDENTITY",
    "ITEM",
    "SCORED",
    "SHARED",
    "described",
    "item_of",
    "padded",
    "payload_of",
    "point",
    "point_id",
]

Array = np.ndarray[Any, Any]

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "manymatch")

BIASED = 2
"""In the payload, an item has a bias for captions that ask, 3: for images; 1, of earlier points: for either."""

IDENTITY = ["id", "modality", "owner", "order"]
SCORED = ["order", "biases", "embedding"]
"""Payload fields that scoring and ordering need."""
SHARED = ["metadata", "labels", "picture", "source", "fields", "terms", "numbers", "texts"]
"""Payload fields of an image that its captions repeat, so that they are filtered and shown by them."""
ITEM = ["id", "modality", "owner", "caption", "metadata", "labels", "picture", "source", "order", "biases"]
"""Payload fields that say what an item is."""


def point_id(id: str) -> str:
    """The point that holds an item. Raises UnicodeEncodeError.

    Its digits are a hash, so that points in the order of their ids are a shuffled collection: any run is a fair sample.
    """
    return str(uuid.uuid5(_NAMESPACE, id))


def described(record: Record, source: int | None) -> dict[str, Any]:
    """What is filtered and shown of an image or of a caption without one: the fields of `SHARED`.

    Args:
        source: number of the source of its picture.

    Raises:
        DataError: metadata that is not JSON.
        UnicodeEncodeError: text that is not Unicode.
    """
    names: set[str] = set()
    terms: dict[str, list[str]] = {}
    numbers: dict[str, list[Value]] = {}
    texts: list[dict[str, Any]] = []
    metadata, labels = (
        encoded(record.metadata, "metadata of", record.id),
        encoded(list(record.labels), "labels of", record.id),
    )
    for told in (metadata, labels, record.picture or ""):
        told.encode()
    for name, value in facts_of(record.metadata, record.labels):
        names.add(name)
        terms.setdefault(key(name), []).append(term(value))
        if isinstance(value, str):
            texts.append({"field": name, "words": sorted(set(folded(value)))})
        else:
            numbers.setdefault(key(name), []).append(value)
    return {
        "metadata": json.loads(metadata),
        "labels": json.loads(labels),
        "picture": record.picture,
        "source": None if record.picture is None else source,
        "fields": sorted(names),
        "terms": terms,
        "numbers": numbers,
        "texts": texts,
    }


def payload_of(modality: Modality, record: Record, order: int, shared: Mapping[str, Any]) -> dict[str, Any]:
    """What the server keeps of an item.

    Args:
        order: greater than that of any item stored before.
        shared: as `described` says of it, or of the image it belongs to.
    """
    biases = [float(record.bias_caption), float(record.bias_image)]
    out = {
        "id": record.id,
        "modality": modality,
        "owner": record.owner,
        "caption": record.caption,
        **shared,
        "order": order,
        "biases": biases,
        "biased": [BIASED + which for which, bias in enumerate(biases) if bias] or None,
        "embedding": base64.b64encode(record.vector).decode(),
        "origin": None if record.origin is None else [*astuple(record.origin)],
    }
    return {name: value for name, value in out.items() if value is not None}


def point(payload: dict[str, Any], proxy: Array | None) -> models.PointStruct:
    """The point of an item.

    Args:
        proxy: (p,) the similarity's; minus the biases follow it, so that one inner product takes them off.
    """
    vectors: dict[str, Any] = {}
    if proxy is not None:
        vectors[PROXY] = [*proxy.tolist(), *(-bias for bias in payload["biases"])]
    spoken = (
        payload.get("caption") if payload["modality"] == "caption" else text_of(payload["metadata"], payload["labels"])
    )
    words = sparse_text(spoken or "")
    if words is not None:
        vectors[WORDS] = words
    return models.PointStruct(id=point_id(payload["id"]), vector=vectors, payload=payload)


def item_of(payload: Mapping[str, Any]) -> Stored:
    """What a payload says of its item; the order number stands for the row."""
    return Stored(
        row=int(payload["order"]),
        id=payload["id"],
        modality=payload["modality"],
        owner=payload.get("owner"),
        caption=payload.get("caption"),
        metadata=payload.get("metadata") or {},
        labels=payload.get("labels") or [],
        picture=payload.get("picture"),
        source=payload.get("source"),
    )


def padded(payloads: Sequence[Mapping[str, Any]], precision: str) -> Array:
    """Rows (n, stride) of their embeddings; shorter ones (fragments) are filled with NaN."""
    rows = [np.frombuffer(base64.b64decode(payload["embedding"]), precision) for payload in payloads]
    out = np.full((len(rows), max((len(row) for row in rows), default=0)), np.nan, precision)
    for place, row in enumerate(rows):
        out[place, : len(row)] = row
    return out
