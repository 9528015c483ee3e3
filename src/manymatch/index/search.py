"""One search: what is asked, which items are scored, and in which order they come."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..embeddings import Embedding
from ..errors import DataError, UnknownName
from .candidates import Candidates
from .gallery import Gallery, best
from .results import Hit
from .rows import Modality, Snapshot

if TYPE_CHECKING:
    from ..methods import Model

__all__ = ["Asked", "Ranked", "check_page", "encode", "hits_of", "modality_of", "name_of", "rank"]

Array = np.ndarray[Any, Any]

_AMONG: dict[str | None, Modality] = {None: "image", "images": "image", "captions": "caption"}


@dataclass(frozen=True)
class Asked:
    """A query on its way: its embedding (one item), its modality, and its row when it is an item of the index."""

    embedding: Embedding
    modality: Modality
    row: int | None = None


@dataclass(frozen=True)
class Ranked:
    """Positions in the gallery, best first, with their scores; `agreement` is None when every item was scored."""

    positions: Array
    scores: Array
    agreement: float | None

    @classmethod
    def none(cls) -> Ranked:
        """Nothing to rank, which is exact."""
        return cls(np.empty(0, np.int64), np.empty(0, np.float32), None)


def check_page(k: int, offset: int) -> None:
    """Raises DataError unless k is at least 1 and offset at least 0."""
    for name, value, least in (("k", k, 1), ("offset", offset, 0)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise DataError(f"search: {name} is {value!r}, expected a whole number of at least {least}")


def modality_of(among: str | None) -> Modality:
    """What is searched. Raises UnknownName."""
    if among not in _AMONG:
        raise UnknownName("modality to search among", str(among), ("images", "captions"))
    return _AMONG[among]


def name_of(query: Any, like: str | None) -> str:
    """How results call the query. Raises DataError unless exactly one is given, and words are not empty."""
    if (query is None) == (like is None):
        given = "neither" if like is None else "both"
        raise DataError(f"search: {given} of query and like given, expected one: words, a picture, or like=ID")
    if like is not None:
        return like
    if isinstance(query, Image.Image):
        return str(getattr(query, "filename", "") or "picture")
    if not isinstance(query, str | Path):
        raise DataError(f"search: query is {type(query).__name__}, expected words, a path or a PIL image")
    if isinstance(query, str) and not query.strip():
        raise DataError("search: the query is empty, expected at least one word")
    return str(query)


def encode(model: Model, query: str | Path | Image.Image) -> Asked:
    """Words or a picture as the run sees them. Raises DataError where the run cannot look at pictures."""
    if isinstance(query, str):
        return Asked(model.encode_texts([query]), "caption")
    if model.image_input == "features":
        raise DataError(
            "this run reads precomputed features and has no backbone to look at a picture; use like=ID (--like ID)"
        )
    return Asked(model.encode_images([query]), "image")


def rank(gallery: Gallery, candidates: Candidates | None, asked: Asked, need: int) -> Ranked:
    """The first `need` items, the asking item itself left out. Equal scores keep the order of the store."""
    own = _position(gallery, asked.row)
    found = None
    if candidates is not None:
        found = candidates.find(gallery, asked.embedding, asked.modality, need + (own is not None))
    if found is None:
        positions, agreement = np.arange(len(gallery)), None
        scores = gallery.scores(asked.embedding)[0]
    else:
        positions, agreement = found
        scores = gallery.scores_at(asked.embedding, positions)
    if own is not None:
        kept = positions != own
        positions, scores = positions[kept], scores[kept]
    first = best(scores, need)
    return Ranked(positions[first], scores[first], agreement)


def _position(gallery: Gallery, row: int | None) -> int | None:
    if row is None:
        return None
    place = int(np.searchsorted(gallery.vectors.rows, row))
    return place if place < len(gallery) and gallery.vectors.rows[place] == row else None


def hits_of(snapshot: Snapshot, rows: Array, scores: Array, offset: int) -> list[Hit]:
    """The items at these rows of the store, ranked from `offset` + 1."""
    items = snapshot.items([int(row) for row in rows])
    return [
        Hit(
            rank=offset + place + 1,
            id=item.id,
            modality=item.modality,
            score=float(score),
            raw_score=float(score),
            metadata=item.metadata,
            caption=item.caption or next(iter(snapshot.captions(item.id, 1)), None),
            owner=item.owner,
        )
        for place, (item, score) in enumerate(zip(items, scores, strict=True))
    ]
