"""A tower that begins at the linear solution: a closed-form map beside its head, whose own part begins at zero."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..data.pairs import Pairs
from ..data.text import Tokens
from ..embeddings import Boxes, Embedding, Encoded, Fragments, Gaussians, Points, Samples, Sets
from ..errors import DataError
from .base import ImageTower, TextTower
from .canonical import IMAGE_RIDGE, TEXT_RIDGE, fit_canonical
from .heads import PointHead
from .images import ImageInput
from .linear import BagOfWords, LinearFeatures
from .pretrained.backed import Backed
from .text_input import TextInput

__all__ = ["LinearStart", "begin_linear", "expect_features", "fit_linear", "linear_parts"]

_PLACES: Mapping[type[Embedding], str] = {
    Points: "vectors",
    Sets: "elements",
    Samples: "vectors",
    Gaussians: "mean",
    Boxes: "center",
    Fragments: "pooled",
}
"""Kind of embedding -> the field that says where an item lies."""

_ALSO = ("mean", "samples", "views", "global")
"""Named tensors that say it too, for terms that read them."""


class LinearStart(nn.Module):
    """`unit(linear(x) + Z e)` in the place of each vector e that a head gives, with Z zero at the start.

    Of a set e is each element, of samples each draw, of a Gaussian the mean and of a box the centre; spreads and
    offsets stay the head's. At the start all vectors of an item are then the linear solution's one.

    Args:
        linear: the linear tower on the same input, narrower than `dim` or as wide; zeros fill it up.
        dim: width d of the head's vectors.
        rate: factor on the learning rate of all of this.
    """

    def __init__(self, linear: LinearFeatures | BagOfWords, dim: int, rate: float) -> None:
        super().__init__()
        self.linear, self.rate = linear, rate
        self.turn = nn.Linear(dim, dim, bias=False)
        nn.init.zeros_(self.turn.weight)

    def whole(self, given: Any) -> Tensor:
        """linear(x) of n features or terms x, filled up with zeros (n, d)."""
        found = self.linear.local(given).pooled
        return functional.pad(found, (0, self.turn.in_features - found.shape[-1]))

    def forward(self, encoded: Encoded, whole: Tensor) -> Encoded:
        """What the head made of n items, moved from what `whole` gives of them; the same kinds and shapes."""
        embedding = encoded.embedding
        name = next(name for kind, name in _PLACES.items() if isinstance(embedding, kind))
        place = getattr(embedding, name)
        moved = self._moved(whole, place)
        tensors = {
            key: (moved if value is place else self._moved(whole, value)) if key in _ALSO else value
            for key, value in (encoded.tensors or {}).items()
        }
        return replace(encoded, embedding=replace(embedding, **{name: moved}), tensors=tensors)

    def terms(self, texts: list[str]) -> Tokens:
        """Texts as the linear map of a text tower takes them."""
        assert isinstance(self.linear, BagOfWords)
        return self.linear.tokens(texts)

    def _moved(self, whole: Tensor, vectors: Tensor) -> Tensor:
        """(n, d) and (n, ..., d) -> (n, ..., d)."""
        while whole.ndim < vectors.ndim:
            whole = whole[:, None]
        return functional.normalize(whole + self.turn(vectors), dim=-1)


def begin_linear(
    images: ImageTower,
    texts: TextTower,
    image_input: ImageInput,
    text_input: TextInput,
    *,
    dim: int,
    width: int,
    rate: float,
    feature_dropout: float,
    word_drop: float,
) -> None:
    """Give both towers a linear start, still to be fitted by `fit_linear`.

    Args:
        images, texts: towers on features, or on a frozen network's, and on captions.
        image_input, text_input: what they were built of; the second with `terms`.
        dim: width d of what their heads give.
        width: of the linear maps, at most d.
        rate: as `LinearStart`.
        feature_dropout, word_drop: on the features and terms that they read, while training.
    """
    assert text_input.terms is not None
    features = replace(image_input, tower="features", backbone=None)
    bag = TextInput("bag", text_input.terms)
    inner = images.inner if isinstance(images, Backed) else images
    linear = LinearFeatures(features, PointHead(), dim=min(width, dim), dropout=feature_dropout)
    inner.start = LinearStart(linear, dim, rate)
    texts.start = LinearStart(BagOfWords(bag, PointHead(), dim=min(width, dim), drop=word_drop), dim, rate)


def expect_features(inputs: ImageInput, what: str) -> None:
    """Raises DataError, beginning with `what`, unless an image tower of these inputs reads fixed features."""
    if inputs.tower == "features" or (inputs.backbone is not None and inputs.backbone["tuning"] == "frozen"):
        return
    raise DataError(
        f"{what}: a closed form needs features that stay, and the image tower {inputs.tower!r} reads pictures; give "
        "--features or --pooled FILE, or a frozen network with --image-tower hf:NAME"
    )


def linear_parts(images: ImageTower, texts: TextTower) -> tuple[LinearFeatures, BagOfWords] | None:
    """The linear maps that both towers begin at; None where they begin at none."""
    image_start = (images.inner if isinstance(images, Backed) else images).start
    if image_start is None or texts.start is None:
        return None
    linear, bag = image_start.linear, texts.start.linear
    assert isinstance(linear, LinearFeatures) and isinstance(bag, BagOfWords)
    return linear, bag


@torch.no_grad()
def fit_linear(
    images: LinearFeatures,
    texts: BagOfWords,
    pairs: Pairs,
    say: Callable[[str], None] | None,
    *,
    image_ridge: float = IMAGE_RIDGE,
    text_ridge: float = TEXT_RIDGE,
) -> None:
    """Fill both with the canonical solution of the training pairs, each scaled to a root mean square length of 1.

    Args:
        images: its statistics are fitted too.
        pairs: the training split, with features.
        say: told what came of it, in one line.
        image_ridge, text_ridge: as `fit_canonical`.
    """
    began = time.perf_counter()
    images.fit_input(pairs.images)
    found = fit_canonical(images, texts, pairs, image_ridge=image_ridge, text_ridge=text_ridge)
    for weight, norm in _weights(images, texts, found.image_norm, found.text_norm):
        weight.div_(norm)
    if say is not None:
        best, spent = ", ".join(f"{s:.2f}" for s in found.correlations[:3]), time.perf_counter() - began
        say(f"linear start: {len(texts.vocabulary):,} terms, correlations {best} ..., {spent:.0f} s")


def _weights(images: LinearFeatures, texts: BagOfWords, *norms: float) -> Iterator[tuple[Tensor, float]]:
    for weights, norm in zip(
        ((images.linear.weight, images.linear.bias), (texts.rows.weight, texts.bias)), norms, strict=True
    ):
        for weight in weights:
            yield weight, norm
