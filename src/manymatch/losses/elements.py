"""The vectors of an embedding: of all items together, or item by item."""

from __future__ import annotations

from torch import Tensor

from ..embeddings import Embedding, Points, Samples, Sets
from ..errors import DataError

__all__ = ["elements_of", "sets_of"]


def elements_of(embedding: Embedding, who: str) -> Tensor:
    """Elements, samples or points (m, d) of all items. Raises DataError, naming `who` asks, for another kind."""
    if isinstance(embedding, Points):
        return embedding.vectors
    if isinstance(embedding, Sets | Samples):
        return sets_of(embedding, who).flatten(0, 1)
    raise DataError(f"{who}: got {embedding.kind}, expected sets, samples or points")


def sets_of(embedding: Embedding, who: str) -> Tensor:
    """Elements or samples (n, k, d), item by item. Raises DataError, naming `who` asks, for another kind."""
    if isinstance(embedding, Sets):
        return embedding.elements
    if isinstance(embedding, Samples):
        return embedding.vectors
    raise DataError(f"{who}: got {embedding.kind}, expected sets or samples")
