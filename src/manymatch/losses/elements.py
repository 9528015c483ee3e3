"""The vectors of an embedding, whatever item they belong to: what a regulariser over a batch's points compares."""

from __future__ import annotations

from torch import Tensor

from ..embeddings import Embedding, Points, Samples, Sets
from ..errors import DataError

__all__ = ["elements_of"]


def elements_of(embedding: Embedding, who: str) -> Tensor:
    """Elements, samples or points (m, d) of all items. Raises DataError, naming `who` asks, for another kind."""
    if isinstance(embedding, Sets):
        return embedding.elements.flatten(0, 1)
    if isinstance(embedding, Samples):
        return embedding.vectors.flatten(0, 1)
    if isinstance(embedding, Points):
        return embedding.vectors
    raise DataError(f"{who}: got {embedding.kind}, expected sets, samples or points")
