"""Train the first elements of a set to be a set of their own (MetaEmbed, ICLR 2026)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..embeddings import Encoded, Sets
from ..errors import DataError
from ..similarity import Similarity
from .base import PartScored, ScoreLoss, Scores, score

__all__ = ["Nested", "prefixes_of"]


def prefixes_of(elements: int) -> tuple[int, ...]:
    """Sizes of the prefixes of a set: powers of two, and the whole: 4 -> (1, 2, 4)."""
    return (*(2**n for n in range(elements.bit_length()) if 2**n < elements), elements)


class Nested(PartScored):
    """A score loss on the first 1, 2, 4, ... elements of both sides, each scored as the whole sets are; their mean.

    What all elements share then lies in the first, which is a trained vector to find candidates by, and the others are
    free to differ. The slots have a fixed order because each begins from a vector of its own, which is learned.

    Args:
        loss: of each prefix's scores.
        prefixes: sizes, rising; the last is the whole set.
    """

    def __init__(self, loss: ScoreLoss, prefixes: Sequence[int]) -> None:
        super().__init__()
        self.loss, self.prefixes = loss, tuple(prefixes)

    def forward(
        self, similarity: Similarity, scores: Scores, matches: Tensor, images: Encoded, texts: Encoded
    ) -> Tensor:
        """The mean over the prefixes.

        Args:
            similarity: the model's own.
            scores: of the whole sets.
            matches: (i, c) bool.
            images, texts: what the towers gave.

        Raises:
            DataError: embeddings that are no sets of so many elements.
        """
        found = []
        for size in self.prefixes:
            parts = [_first(items, size, self.prefixes[-1]) for items in (images, texts)]
            found.append(self.loss(scores if size == self.prefixes[-1] else score(similarity, *parts), matches))
        return torch.stack(found).mean()

    def advance(self, step: int, steps: int, epochs: int = 0) -> None:
        self.loss.advance(step, steps, epochs)


def _first(items: Encoded, size: int, whole: int) -> Sets:
    embedding = items.embedding
    if not isinstance(embedding, Sets) or embedding.elements.shape[1] != whole:
        raise DataError(f"nested: got {embedding.kind} {embedding.layout()}, expected sets of {whole} elements")
    return embedding.first(size)
