"""Why an answer was found: which element of the query met which element of the item, and how closely.

What an embedding consists of, as unit vectors, is told here too; diverse answers and meanings look at the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ...embeddings import Boxes, Embedding, Fragments, Gaussians, GaussianSets, Points, Samples, Sets
from ...errors import DataError
from ...similarity import Order, Similarity

__all__ = ["Match", "elements_of", "explain", "explain_all", "means_of"]


@dataclass(frozen=True)
class Match:
    """An element of the query and the element of the item that is closest to it.

    Attributes:
        query_element, item_element: numbers from 0; of a kind with one vector an item both are 0.
        cosine: of the two, in [-1, 1]; taken from the elements themselves, whatever similarity the run has.
        share: of the query's elements together, in [0, 1]: its cosine's part of the sum of all positive ones, and the
            same for each where none is positive. Shares of an item add up to 1.
        word: what the caller calls the query's element; None where it has no word.
        parts: what else the kind says of the pair. Gaussians, and elements that are: `distance`, squared, of the means,
            and `uncertainty`, the sum of both variances, which the closed-form distance of a match probability adds to
            it. Samples: `distance`, squared, of the two draws. Boxes: how far the item's centre lies `outside` the
            query's rectangle and how far `inside` it reaches, both L1.
    """

    query_element: int
    item_element: int
    cosine: float
    share: float
    word: str | None = None
    parts: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Its attributes, ready for JSON."""
        return asdict(self)


def elements_of(embedding: Embedding) -> tuple[Tensor, Tensor]:
    """Unit elements (n, m, d) float32 and which are real (n, m) bool. A zero vector stays zero.

    Elements are a set's, a sample's draws, or fragments; m is 1 for points, for the means of Gaussians and for the
    centres of boxes.
    """
    vectors = _vectors(embedding)
    valid = embedding.valid if isinstance(embedding, Fragments) else vectors.new_ones(vectors.shape[:2]).bool()
    return functional.normalize(vectors.detach().float(), dim=-1), valid


def _vectors(embedding: Embedding) -> Tensor:
    match embedding:
        case Sets():
            return embedding.elements
        case Samples() | Fragments():
            return embedding.vectors
        case Points():
            return embedding.vectors[:, None]
        case Gaussians():
            return embedding.mean[:, None]
        case Boxes():
            return embedding.center[:, None]
    raise DataError(f"elements of {embedding.kind or type(embedding).__name__}: not one of the kinds")


def means_of(embedding: Embedding) -> Tensor:
    """One unit vector an item (n, d) float32: the mean of its elements; of fragments the pooled vector."""
    vectors = embedding.pooled if isinstance(embedding, Fragments) else _vectors(embedding).mean(dim=1)
    return functional.normalize(vectors.detach().float(), dim=-1)


def explain(
    query: Embedding,
    item: Embedding,
    *,
    words: Sequence[str | None] | None = None,
    similarity: Similarity | None = None,
) -> tuple[Match, ...]:
    """As `explain_all`, of one item. Raises DataError also where there is another number of items."""
    if len(item) != 1:
        raise DataError(f"explain: {len(item)} items, expected one; explain_all takes many")
    return explain_all(query, item, words=words, similarity=similarity)[0]


def explain_all(
    query: Embedding,
    items: Embedding,
    *,
    words: Sequence[str | None] | None = None,
    similarity: Similarity | None = None,
) -> list[tuple[Match, ...]]:
    """For each item every element of the query with its closest element there, strongest first.

    Args:
        query: one item. Its padding, and the items', is never matched.
        items: n items of the same width.
        words: what to call the query's elements, one for each, such as the words that fragments belong to.
        similarity: what scored them. It matters for `order` alone, whose captions lie negated and are turned back.

    Returns:
        n tuples; empty for an item, or all for a query, without a real fragment.

    Raises:
        DataError: not one query, another width, or too few words.
    """
    if isinstance(similarity, Order) and isinstance(query, Points) and isinstance(items, Points):
        query, items = Points(query.vectors.abs()), Points(items.vectors.abs())
    (left, asked), (right, valid) = elements_of(query), elements_of(items)
    _check(left, right, asked, words)
    real = asked[0].nonzero()[:, 0]
    if not len(real) or not valid.shape[1]:
        return [()] * len(items)
    cosines = (right @ left[0, real].T).clamp(-1.0, 1.0).masked_fill(~valid[..., None], -torch.inf)
    closest, partner = cosines.max(dim=1)
    order = closest.argsort(dim=1, descending=True, stable=True)
    columns = {name: values.expand_as(closest) for name, values in _parts(query, items, real, partner).items()}
    numbers = real[order].tolist(), partner.gather(1, order).tolist()
    values = [column.gather(1, order).tolist() for column in (closest, _shares(closest), *columns.values())]

    def match(item: int, place: int) -> Match:
        element = numbers[0][item][place]
        cosine, share, *parts = (value[item][place] for value in values)
        word = None if words is None else words[element]
        return Match(element, numbers[1][item][place], cosine, share, word, dict(zip(columns, parts, strict=True)))

    has = valid.any(dim=1).tolist()
    return [tuple(match(item, place) for place in range(len(real))) if has[item] else () for item in range(len(items))]


def _shares(closest: Tensor) -> Tensor:
    strengths = closest.clamp(min=0)
    strengths = torch.where(strengths.sum(dim=1, keepdim=True) > 0, strengths, torch.ones_like(strengths))
    return strengths / strengths.sum(dim=1, keepdim=True)


def _check(left: Tensor, right: Tensor, asked: Tensor, words: Sequence[str | None] | None) -> None:
    if len(left) != 1:
        raise DataError(f"explain: {len(left)} queries, expected one")
    if left.shape[-1] != right.shape[-1]:
        raise DataError(f"explain: a query of width {left.shape[-1]} and items of width {right.shape[-1]}")
    real = asked[0].nonzero()
    need = int(real[-1]) + 1 if len(real) else 0
    if words is not None and len(words) < need:
        raise DataError(f"explain: {len(words)} words for {need} elements of the query, expected one for each")


def _parts(query: Embedding, items: Embedding, real: Tensor, partner: Tensor) -> dict[str, Tensor]:
    """Name -> numbers (n, elements of the query that are real), or (n, 1) where they are the item's."""
    match query, items:
        case Gaussians(), Gaussians():
            distance = (query.mean - items.mean).square().sum(dim=-1)
            uncertainty = query.log_variance.exp().sum(dim=-1) + items.log_variance.exp().sum(dim=-1)
            found = {"distance": distance[:, None], "uncertainty": uncertainty[:, None]}
        case GaussianSets(), GaussianSets():
            rows = torch.arange(len(items), device=partner.device)[:, None]
            distance = (query.elements[0, real] - items.elements[rows, partner]).square().sum(dim=-1)
            variances = query.log_variance[0, real].exp(), items.log_variance[rows, partner].exp()
            found = {"distance": distance, "uncertainty": variances[0] + variances[1]}
        case Boxes(), Boxes():
            apart = (query.center - items.center).abs()
            outside = (apart - query.offset).clamp(min=0).sum(dim=-1)
            inside = torch.minimum(apart, query.offset).sum(dim=-1)
            found = {"outside": outside[:, None], "inside": inside[:, None]}
        case Samples(), Samples():
            rows = torch.arange(len(items), device=partner.device)[:, None]
            found = {"distance": (query.vectors[0, real] - items.vectors[rows, partner]).square().sum(dim=-1)}
        case _:
            found = {}
    return {name: values.detach().float() for name, values in found.items()}
