"""The highest scores of items with the queries of a bank: one pass, step by step, never a whole matrix."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..embeddings import Embedding
from ..errors import DataError
from .queries import Queries, elements_of

__all__ = ["nearest", "prefix_means"]

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float32]]
Scorer = Callable[[Any, Any], Tensor]

_TILE_BYTES = 64 << 20
"""What the scores of one step may take with their temporaries."""

_LONGEST, _STEP = 16_384, 16
"""Most queries or items of one step; and what its sides are multiples of, so that equal items score equal to the last
bit wherever they lie."""

_PARTS = 8
"""A row is looked through in so many parts laid one over the other."""


def nearest(
    similarity: Scorer,
    queries: Queries,
    items: Embedding,
    count: int,
    own: Ints | None = None,
    *,
    most: int = _LONGEST,
) -> Floats:
    """The `count` highest scores of each item with the queries, falling: (n, at most count) float32.

    Args:
        similarity: `similarity(queries, items)`.
        queries: of a bank.
        items: n of them, on the device where scores are computed.
        count: how many.
        own: (n,) `owner_keys` of the items' images; queries of the same image do not count, theirs are minus infinity
            at the end.
        most: queries and items of one step; fewer where they are large.

    Raises:
        DataError: a score that is not finite.
    """
    device = next(iter(items.tensors().values())).device
    elements = elements_of(items.layout()) * queries.elements
    height, width = _block(len(queries), len(items), elements, min(most, queries.together))
    owners = None if own is None else _shared(torch.as_tensor(np.asarray(own, np.int64)), queries.owners)
    best: list[Tensor | None] = [None] * math.ceil(len(items) / width)
    with torch.inference_mode():
        for asked in _slices(len(queries), height):
            some = _padded(queries.embedding(asked), height).to(device)
            for number, part in enumerate(_slices(len(items), width)):
                scores = _scores(similarity, some, _padded(items[part], width))
                scores = scores[: part.stop - part.start, : asked.stop - asked.start]
                if not math.isfinite(float(scores.sum())) and not bool(torch.isfinite(scores).all()):
                    raise DataError("query bank: a score is not finite, expected numbers; did training diverge?")
                if owners is not None:
                    same = owners[part][:, None] == queries.owners[asked][None, :]
                    scores = scores.masked_fill(same.to(device), -math.inf)
                best[number] = _merged(best[number], scores, count)
    parts = [part.cpu() for part in best if part is not None]
    return np.asarray(torch.cat(parts).numpy() if parts else np.zeros((0, min(count, len(queries))), np.float32))


def prefix_means(nearest: Floats) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Means of the first 1, 2, ... of each row (n, k); what does not count (minus infinity) is left out.

    A row in which nothing counts is given the mean of the others, as 0 may lie far off every score; without others, 0.
    """
    counts = np.isfinite(nearest)
    sums = np.where(counts, nearest, 0.0).astype(np.float64).cumsum(axis=1)
    means = sums / np.maximum(counts.cumsum(axis=1), 1)
    known = counts.any(axis=1)
    if known.any() and not known.all():
        means[~known] = means[known].mean(axis=0)
    return np.asarray(means, np.float64)


def _scores(similarity: Scorer, queries: Embedding, items: Embedding) -> Tensor:
    """Of items (n) with queries (m): (n, m) float32."""
    # Rows of items are how they are read; a matrix is turned more slowly than it is computed.
    turned = bool(getattr(similarity, "symmetric", False))
    return (similarity(items, queries) if turned else similarity(queries, items).T).float()


def _merged(kept: Tensor | None, scores: Tensor, count: int) -> Tensor:
    """The highest of what was kept (n, k) and of further scores (n, m), falling."""
    best = _highest(scores, min(count, scores.shape[1]))
    if kept is None:
        return best
    both = torch.cat([kept, best], dim=1)
    return both.topk(min(count, both.shape[1]), dim=1).values


def _highest(scores: Tensor, count: int) -> Tensor:
    """The highest of each row (n, m), falling: (n, count)."""
    width = scores.shape[1] // _PARTS
    if width < 2 * count:
        return scores.topk(count, dim=1).values
    # Of places that lie over each other the best are compared first: no other place can hold one of the highest.
    laid = scores[:, : width * _PARTS].view(len(scores), _PARTS, width)
    places = laid.amax(dim=1).topk(count, dim=1, sorted=False).indices
    near = laid.gather(2, places[:, None, :].expand(-1, _PARTS, -1)).flatten(1)
    return torch.cat([near, scores[:, width * _PARTS :]], dim=1).topk(count, dim=1).values


def _shared(own: Tensor, owners: Tensor) -> Tensor | None:
    """The items' owners, None where no query has one of them."""
    return own if bool(torch.isin(own, owners).any()) else None


def _block(queries: int, items: int, elements: int, most: int) -> tuple[int, int]:
    """Queries and items of one step, by bytes; spread evenly, multiples of the step."""
    scores = max(_TILE_BYTES // (4 * 3 * max(elements, 1)), _STEP * _STEP)
    height = _even(queries, min(most, _LONGEST, max(_STEP, scores // 256)))
    return height, _even(items, min(most, _LONGEST, max(_STEP, scores // height)))


def _even(size: int, longest: int) -> int:
    parts = math.ceil(size / max(longest // _STEP * _STEP, _STEP))
    return max(math.ceil(size / max(parts, 1) / _STEP), 1) * _STEP


def _slices(size: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, size)) for start in range(0, size, step))


def _padded(items: Embedding, size: int) -> Embedding:
    """The last item repeated, so that every step has one shape."""
    return items if len(items) == size else items[torch.arange(size).clamp(max=len(items) - 1)]
