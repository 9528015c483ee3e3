"""From pairs or embeddings to records of the store: encoding, packing, and the checks before a transaction begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..embeddings import Embedding
from ..errors import DataError, UnknownName
from .rows import Added, Modality, Record, Transaction
from .vectors import Space

if TYPE_CHECKING:
    from ..data.pairs import Pairs, Pictures
    from ..methods import Model

__all__ = ["Batch", "embedded_records", "encoded_records", "put"]


@dataclass(frozen=True)
class Batch:
    """What one transaction adds: records of each modality with their space, images first."""

    parts: Sequence[tuple[Modality, Space, Sequence[Record]]]
    pictures: Mapping[str, Any] | None = None


def encoded_records(model: Model, pairs: Pairs, precision: str) -> Batch:
    """Encode images and captions of `pairs`. Raises DataError (a picture, a number that is not finite)."""
    embedding = model.encode_images(pairs.images)
    space = Space.of(embedding, precision)
    images = [
        Record(
            item.id,
            blob,
            metadata=item.metadata,
            labels=item.labels,
            picture=None if pairs.pictures is None else item.picture,
        )
        for item, blob in zip(pairs, space.pack(embedding), strict=True)
    ]
    parts: list[tuple[Modality, Space, Sequence[Record]]] = [("image", space, images)]
    if pairs.captions:
        embedding = model.encode_texts(pairs.captions)
        space = Space.of(embedding, precision)
        owners = [item.id for item in pairs for _ in item.captions]
        captions = [
            Record(id, blob, owner=owner, caption=text)
            for id, blob, owner, text in zip(
                pairs.caption_ids, space.pack(embedding), owners, pairs.captions, strict=True
            )
        ]
        parts.append(("caption", space, captions))
    return Batch(parts, None if pairs.pictures is None else pairs.pictures.describe())


def embedded_records(
    ids: Sequence[str],
    embedding: Embedding,
    modality: Modality,
    metadata: Sequence[Mapping[str, Any]] | None,
    owners: Sequence[str | None] | None,
    captions: Sequence[str | None] | None,
    pictures: Sequence[str | None] | None,
    source: Pictures | None,
    precision: str,
) -> Batch:
    """Records of items that are encoded already. Raises as `Index.add_embeddings`."""
    if modality not in ("image", "caption"):
        raise UnknownName("modality", modality, ("image", "caption"))
    if modality == "image" and (owners is not None or captions is not None):
        raise DataError("add_embeddings: owners and captions belong to captions, the modality is image")
    if (pictures is None) != (source is None):
        raise DataError("add_embeddings: give pictures and their source together, or neither")
    columns = {"ids": ids, "metadata": metadata, "owners": owners, "captions": captions, "pictures": pictures}
    for name, column in columns.items():
        if column is not None and len(column) != len(embedding):
            raise DataError(f"add_embeddings: {len(column)} {name} for {len(embedding)} items, expected as many")
    for id in ids:
        if not isinstance(id, str) or not id:
            raise DataError(f"add_embeddings: id {id!r}, expected words that are not empty")
    space = Space.of(embedding, precision)
    records = [
        Record(
            id,
            blob,
            owner=None if owners is None else owners[n],
            caption=None if captions is None else captions[n],
            metadata={} if metadata is None else metadata[n],
            picture=None if pictures is None else pictures[n],
        )
        for n, (id, blob) in enumerate(zip(ids, space.pack(embedding), strict=True))
    ]
    return Batch([(modality, space, records)], None if source is None else source.describe())


def put(change: Transaction, batch: Batch) -> Added:
    """Store a batch; counts are of its first modality, captions go with their images.

    Raises:
        DataError: as `Transaction.put`.
        IndexMismatch: another kind or size of embedding than the index holds.
    """
    counts = []
    spaces: dict[str, Any] = change.setting("spaces")
    for modality, space, records in batch.parts:
        if not records:
            continue
        held = spaces.get(modality)
        if held is None:
            spaces[modality] = {"kind": space.kind, "layout": dict(space.layout)}
            change.set("spaces", spaces)
        else:
            Space(held["kind"], held["layout"], space.precision).expect(space)
        counts.append(change.put(modality, records, batch.pictures))
    return counts[0] if counts else Added()
