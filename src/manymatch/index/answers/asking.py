"""What is asked: words, a picture or an item, as the run sees it; and how the answer is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Real
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import DataError, UnknownName
from ..store.rows import Modality, Stored

if TYPE_CHECKING:
    from ...embeddings import Embedding
    from ...methods import Model
    from ..collection import Reading

__all__ = ["Asked", "Options", "company_counts", "encode_picture", "in_words", "modality_of", "name_of", "stored"]

Array = np.ndarray[Any, Any]

_AMONG: dict[str | None, Modality] = {None: "image", "images": "image", "captions": "caption"}


@dataclass(frozen=True)
class Asked:
    """A query on its way.

    Attributes:
        embedding: one item.
        modality: what it is.
        item: the item of the index it is, which is never among its own results.
        unlike: what the results shall not be like, one item of either modality.
        text: its words, for hybrid search.
        proxies: with biases or without -> its proxy (1, p + 2); ranking keeps here what it made.
    """

    embedding: Embedding
    modality: Modality
    item: Stored | None = None
    unlike: Embedding | None = None
    text: str | None = None
    proxies: dict[bool, Array | None] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def ambiguity(self) -> float | None:
        """The run's own number for it; None where its kind of embedding has none."""
        given = self.embedding.ambiguity()
        return None if given is None else float(given[0])


@dataclass(frozen=True)
class Options:
    """How an answer is wanted; `Index.search` says what each means. Raises DataError for what cannot be."""

    k: int = 10
    offset: int = 0
    exact: bool | None = None
    bank: bool | None = None
    confident: float | None = None
    hybrid: bool = False
    diverse: float | None = None
    group_by: str | None = None
    per_group: int = 3
    facets: tuple[str, ...] = ()
    meanings: bool = False
    explain: bool = False

    def __post_init__(self) -> None:
        for name, value, least in (("k", self.k, 1), ("offset", self.offset, 0), ("per_group", self.per_group, 1)):
            if isinstance(value, bool) or not hasattr(value, "__index__") or value < least:
                raise DataError(f"search: {name} is {value!r}, expected a whole number of at least {least}")
            # Ranks are told as JSON, which knows no whole numbers of other libraries.
            object.__setattr__(self, name, index(value))
        for name, share in (("confident", self.confident), ("diverse", self.diverse)):
            number = isinstance(share, Real) and not isinstance(share, bool)
            if share is not None and not (number and 0 <= share <= 1):
                raise DataError(f"search: {name} is {share!r}, expected a number from 0 to 1")
        if self.diverse is not None and self.group_by is not None:
            raise DataError("search: diverse and group_by both change the order; choose one")


def modality_of(among: str | None) -> Modality:
    """What is searched. Raises UnknownName."""
    if among not in _AMONG:
        raise UnknownName("modality to search among", str(among), ("images", "captions"))
    return _AMONG[among]


def name_of(query: Any, like: str | None, called: tuple[str, str] = ("query", "like")) -> str:
    """How results call the query. Raises DataError unless exactly one is given, and words are not empty.

    Args:
        called: the names of the two arguments, for messages.
    """
    if (query is None) == (like is None):
        given = "neither" if like is None else "both"
        raise DataError(
            f"search: {given} of {called[0]} and {called[1]} given, expected one: words, a picture, or {called[1]}=ID"
        )
    return like if like is not None else _named(query, called[0])


def _named(query: Any, called: str) -> str:
    from PIL import Image

    if isinstance(query, Image.Image):
        return str(getattr(query, "filename", "") or "picture")
    if not isinstance(query, str | Path):
        raise DataError(f"search: {called} is {type(query).__name__}, expected words, a path or a PIL image")
    if isinstance(query, str) and not query.strip():
        raise DataError(f"search: the {called} is empty, expected at least one word")
    return str(query)


def encode_picture(model: Model, picture: Any) -> Asked:
    """A picture as the run sees it. Raises DataError where the run cannot look at pictures."""
    if model.image_input == "features":
        raise DataError(
            "this run reads precomputed features and has no backbone to look at a picture; use like=ID (--like ID)"
        )
    return Asked(model.encode_images([picture]), "image")


def in_words(texts: Sequence[str], embedding: Embedding) -> list[Asked]:
    """Queries in words, each with its own part of what they were encoded to together."""
    return [Asked(embedding[place], "caption", text=text) for place, text in enumerate(texts)]


def company_counts(model: Model) -> bool:
    """Whether a text's embedding depends on those encoded with it, as in some of the authors' released code."""
    members = (company_counts(member) for member in getattr(model, "models", ()))
    return getattr(getattr(model, "method", None), "mode", "paper") == "released" or any(members)


def stored(reading: Reading, id: str) -> Asked:
    """An item of the index as a query. Raises UnknownName."""
    item = reading.item(id)
    return Asked(reading.embedding(item), item.modality, item, text=item.caption)
