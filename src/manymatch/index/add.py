"""From pairs or embeddings to records of the store: encoding, packing, and the checks before a transaction begins."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..errors import DataError, UnknownName
from .banked import item_biases
from .local.vectors import ASKING, Space
from .store.origins import Origin
from .store.packed import Packed
from .store.rows import Modality, Record

if TYPE_CHECKING:
    import numpy as np

    from ..bank import Bank
    from ..data.pairs import Pairs, Pictures
    from ..embeddings import Embedding
    from ..methods import Model

__all__ = ["Batch", "embedded_records", "encoded_records", "fitting"]


@dataclass(frozen=True)
class Batch:
    """What one transaction adds: records of each modality with their space, images first."""

    parts: Sequence[tuple[Modality, Space, Sequence[Record]]]
    pictures: Mapping[str, Any] | None = None

    def corrected(self, biases: Mapping[Modality, np.ndarray[Any, Any]]) -> Batch:
        """The same with these biases of the items of its one part. Raises DataError: one is not finite."""
        ((modality, space, records),) = self.parts
        taken = [_biases(biases, asking, len(records)) for asking in ASKING]
        given = zip(records, *taken, strict=True)
        changed = [replace(record, bias_caption=one, bias_image=other) for record, one, other in given]
        return replace(self, parts=[(modality, space, changed)])


def encoded_records(
    model: Model,
    pairs: Pairs,
    precision: str,
    origins: Mapping[str, Origin] | None = None,
    bank: Bank | None = None,
) -> Batch:
    """Encode images and captions of `pairs`. Raises DataError (a picture, a number that is not finite).

    Args:
        origins: id of an image -> where it came from.
        bank: of the index; says the items' biases.
    """
    encoded = model.encode_images(pairs.images)
    packed = Packed.of(encoded)
    space = Space.of(packed, precision)
    biases = _biases(item_biases(bank, model.similarity, encoded, "image", pairs.image_ids), "caption", len(pairs))
    images = [
        Record(
            item.id,
            blob,
            metadata=item.metadata,
            labels=item.labels,
            picture=None if pairs.pictures is None else item.picture,
            origin=None if origins is None else origins.get(item.id),
            bias_caption=bias,
        )
        for item, blob, bias in zip(pairs, packed.blobs(precision), biases, strict=True)
    ]
    parts: list[tuple[Modality, Space, Sequence[Record]]] = [("image", space, images)]
    if pairs.captions:
        encoded = model.encode_texts(pairs.captions)
        packed = Packed.of(encoded)
        space = Space.of(packed, precision)
        owners = [item.id for item in pairs for _ in item.captions]
        biases = _biases(item_biases(bank, model.similarity, encoded, "caption", owners), "image", len(owners))
        captions = [
            Record(id, blob, owner=owner, caption=text, bias_image=bias)
            for id, blob, owner, text, bias in zip(
                pairs.caption_ids, packed.blobs(precision), owners, pairs.captions, biases, strict=True
            )
        ]
        parts.append(("caption", space, captions))
    return Batch(parts, None if pairs.pictures is None else pairs.pictures.describe())


def embedded_records(
    ids: Sequence[str],
    embedding: Embedding | Packed,
    modality: Modality,
    metadata: Sequence[Mapping[str, Any]] | None,
    owners: Sequence[str | None] | None,
    captions: Sequence[str | None] | None,
    pictures: Sequence[str | None] | None,
    source: Pictures | None,
    biases: Mapping[Modality, Sequence[float] | np.ndarray[Any, Any]] | None,
    precision: str,
) -> Batch:
    """Records of items that are encoded already. Raises as `Index.add_embeddings`."""
    if modality not in ("image", "caption"):
        raise UnknownName("modality", modality, ("image", "caption"))
    if modality == "image" and (owners is not None or captions is not None):
        raise DataError("add_embeddings: owners and captions belong to captions, the modality is image")
    if (pictures is None) != (source is None):
        raise DataError("add_embeddings: give pictures and their source together, or neither")
    if isinstance(ids, str):
        raise DataError(f"add_embeddings: ids is the string {ids!r}, expected a list of ids")
    columns: dict[str, Any] = {"ids": ids, "metadata": metadata, "owners": owners, "captions": captions}
    columns |= {"pictures": pictures, **{f"biases[{asking!r}]": given for asking, given in (biases or {}).items()}}
    for name, column in columns.items():
        if column is not None and len(column) != len(embedding):
            raise DataError(f"add_embeddings: {len(column)} {name} for {len(embedding)} items, expected as many")
    for id in ids:
        if not isinstance(id, str) or not id:
            raise DataError(f"add_embeddings: id {id!r}, expected words that are not empty")
    for about in metadata or ():
        if not isinstance(about, Mapping):
            raise DataError(f"add_embeddings: metadata {about!r}, expected a mapping of fields to values")
    packed = Packed.of(embedding)
    taken = [_biases(biases, asking, len(packed)) for asking in ASKING]
    records = [
        Record(
            id,
            blob,
            owner=None if owners is None else owners[n],
            caption=None if captions is None else captions[n],
            metadata={} if metadata is None else metadata[n],
            picture=None if pictures is None else pictures[n],
            bias_caption=taken[0][n],
            bias_image=taken[1][n],
        )
        for n, (id, blob) in enumerate(zip(ids, packed.blobs(precision), strict=True))
    ]
    return Batch([(modality, Space.of(packed, precision), records)], None if source is None else source.describe())


def _biases(given: Mapping[Modality, Any] | None, asking: Modality, count: int) -> list[float]:
    biases = [0.0] * count if given is None or asking not in given else [float(value) for value in given[asking]]
    if not all(math.isfinite(value) for value in biases):
        raise DataError(f"index: a bias for queries that are a {asking} is not finite")
    return biases


def fitting(batch: Batch, spaces: Mapping[str, Any]) -> dict[str, Any]:
    """The spaces an index holds once the batch is in it.

    Raises:
        IndexMismatch: another kind or size of embedding than the index holds.
    """
    out = dict(spaces)
    for modality, space, records in batch.parts:
        if records:
            held = out.setdefault(modality, {"kind": space.kind, "layout": dict(space.layout)})
            Space(held["kind"], held["layout"], space.precision).expect(space)
    return out
