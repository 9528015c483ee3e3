"""What passes through a tower: fragment-level features on the way to an embedding."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..data.features import Features, Pixels
from ..data.text import Tokens, Vocabulary
from ..embeddings import Encoded

__all__ = ["Head", "ImageTower", "Locals", "Pool", "TextTower", "lengths_to_valid"]


@dataclass(frozen=True)
class Locals:
    """Inside a tower: `vectors (n, f, c)`, `valid (n, f)` bool, True is real, and one global vector `pooled (n, d)`.

    c and d may differ (DivE's words are 300 wide, its global vector 1,024).

    Attributes:
        spread: a second global vector (n, d) made by weights of its own, where a tower gives its uncertainty head one
            (PCME: a second linear map of the mean cell, a second GRU).
        key: (n,) int64 made from each item's input alone, whatever its batch and padding; a head that draws derives its
            noise from it, so that a search repeats.
    """

    vectors: Tensor
    valid: Tensor
    pooled: Tensor
    spread: Tensor | None = None
    key: Tensor | None = None


class Pool(nn.Module):
    """Many vectors to one: `(n, f, d), (n, f) -> (n, d)`. Padding never counts."""

    def forward(self, vectors: Tensor, valid: Tensor) -> Tensor:
        raise NotImplementedError


def lengths_to_valid(lengths: Tensor, longest: int) -> Tensor:
    """(n,) counts to (n, longest) bool."""
    return torch.arange(longest, device=lengths.device)[None, :] < lengths[:, None]


class Head(nn.Module):
    """Turns fragment-level features into an embedding."""

    def forward(self, local: Locals) -> Encoded:
        raise NotImplementedError


class ImageTower(nn.Module):
    """Images to embeddings.

    Attributes:
        reads: "features" (precomputed) or "pixels".
    """

    reads: str

    def forward(self, images: Features | Pixels) -> Encoded:
        raise NotImplementedError


class TextTower(nn.Module):
    """Texts to embeddings.

    Attributes:
        vocabulary: the words of the training captions.
    """

    vocabulary: Vocabulary

    def tokens(self, texts: list[str]) -> Tokens:
        """Texts as this tower reads them."""
        raise NotImplementedError

    def forward(self, tokens: Tokens) -> Encoded:
        raise NotImplementedError
