"""What passes through a tower: fragment-level features on the way to an embedding."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..data.features import Features, Pixels
from ..data.pairs import Images
from ..data.text import Tokens, Vocabulary
from ..embeddings import Encoded
from ..errors import DataError

if TYPE_CHECKING:
    from PIL import Image

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
    """Turns fragment-level features into an embedding.

    Attributes:
        keyed: whether it reads `Locals.key` when it is not training.
    """

    keyed: bool = False

    def forward(self, local: Locals) -> Encoded:
        raise NotImplementedError


class ImageTower(nn.Module):
    """Images to embeddings.

    Attributes:
        reads: "features" (precomputed) or "pixels".
    """

    reads: str

    def begin(self, source: str | None) -> str:
        """Start from weights in a file (`--image-tower NAME:FILE`), for towers that can; what a user should know."""
        if source is not None:
            raise DataError(f"image tower: {type(self).__name__} starts from no file, found {source!r}; leave it out")
        return ""

    def fit_input(self, images: Images) -> None:
        """Statistics of the training images, for towers that keep some."""

    def prepare(self, pictures: Iterable[Image.Image]) -> Pixels:
        """Pictures as this tower reads them, for towers that read pixels."""
        raise DataError(
            "this run reads precomputed features and has no backbone to look at a picture; "
            "give Features, or search with like=ID"
        )

    def forward(self, images: Features | Pixels) -> Encoded:
        raise NotImplementedError


class TextTower(nn.Module):
    """Texts to embeddings.

    Attributes:
        vocabulary: the words of the training captions.
    """

    vocabulary: Vocabulary

    def begin(self, source: str | None) -> str:
        """Start from a file (`--text-tower NAME:FILE`), for towers that can; what a user should know."""
        if source is not None:
            raise DataError(f"text tower: {type(self).__name__} starts from no file, found {source!r}; leave it out")
        return ""

    def tokens(self, texts: list[str]) -> Tokens:
        """Texts as this tower reads them."""
        raise NotImplementedError

    def forward(self, tokens: Tokens) -> Encoded:
        raise NotImplementedError
