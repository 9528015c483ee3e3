"""CCA: one linear map of each side, fitted in closed form. On small data it beats every network from random weights.

Hotelling. Relations between two sets of variates. Biometrika 1936; regularised, on precomputed image features and
weighted words with pairs of words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from ..data.pairs import Item, Pairs
from ..encoders import BagOfWords, Head, ImageInput, ImageTower, LinearFeatures, PointHead, TextInput, look_at
from ..encoders.linear import weigh_terms
from ..encoders.pretrained import is_pretrained, on_backbone
from ..encoders.pretrained.backed import Backed
from ..errors import DataError, UnknownName
from ..similarity import Cosine, Similarity
from .base import Method, Ranges

__all__ = ["CCA"]

_BLOCK = 512


@dataclass(frozen=True, kw_only=True)
class CCA(Method):
    """Canonical directions of image features and caption words, each scaled by its correlation.

    Image features are files of the user's, or the pooled vector of a pretrained network.

    Attributes:
        image_ridge: added to the image covariance, in units of its mean eigenvalue.
        text_ridge: added to the text covariance, in units of `trace / 2,500`: the mean eigenvalue if its spectrum had
            2,500 directions, so that it does not shrink as rare terms are added.
        least_pairs: captions a pair of neighbouring words must be in.
        most_terms: of more terms, the most frequent stay (memory grows with the square).
    """

    name: ClassVar[str] = "cca"
    paper: ClassVar[str] = "Hotelling, Biometrika 1936"
    summary: ClassVar[str] = "linear maps in closed form on features and weighted words; the honest control"
    fitted: ClassVar[bool] = True
    fixed: ClassVar[Mapping[str, str]] = dict.fromkeys(
        {spec.name for spec in fields(Method)} - {"dim", "least_count"}, "a closed form has no such part"
    )
    ranges: ClassVar[Ranges] = {
        **dict.fromkeys(("image_ridge", "text_ridge"), (1e-9, math.inf)),
        **dict.fromkeys(("least_pairs", "most_terms"), (1, math.inf)),
    }

    dim: int = 300
    image_ridge: float = 3.0
    text_ridge: float = 0.5
    least_pairs: int = 8
    most_terms: int = 12_000

    def head(self, inputs: int, side: Literal["image", "text"]) -> Head:
        return PointHead()

    def similarity(self) -> Similarity:
        return Cosine()

    def resolve(self, pairs: Pairs) -> Self:
        return self

    def inputs(self, pairs: Pairs, image_tower: str | None, text_tower: str | None) -> tuple[ImageInput, TextInput]:
        backed = is_pretrained(image_tower)
        if image_tower not in (None, "features") and not backed:
            raise UnknownName("image tower of cca", image_tower, ("features", "hf:NAME", "onnx:FILE"))
        if text_tower not in (None, "bag"):
            raise UnknownName("text tower of cca", text_tower, ("bag",))
        if pairs.features is None and not backed:
            raise DataError(
                "cca is a linear map of features, found none; give --features or --pooled FILE, or a pretrained "
                "network with --image-tower hf:NAME"
            )
        tower = image_tower if backed else "features"
        images = look_at(pairs, tower, longest_side=self.longest_side, fragments=not backed)
        if backed and images.fragments:
            raise DataError(
                f"cca: {image_tower} gives fragments and no pooled vector, which a closed form needs; take another"
            )
        return images, TextInput("bag", self._terms(pairs)[0])

    def _terms(self, pairs: Pairs) -> tuple[Any, Tensor]:
        return weigh_terms(pairs.captions, least=self.least_count, least_pairs=self.least_pairs, most=self.most_terms)

    def image_tower(self, inputs: ImageInput) -> ImageTower:
        if inputs.backbone is not None:
            inner = self.image_tower(replace(inputs, tower="features", backbone=None))
            return on_backbone(inputs, inner, rate=1.0, decay=1.0)
        return LinearFeatures(inputs, self.head(self.dim, "image"), dim=self.dim)

    def text_tower(self, inputs: TextInput) -> BagOfWords:
        return BagOfWords(inputs, self.head(self.dim, "text"), dim=self.dim)

    def fit(self, model: Any, pairs: Pairs, say: Callable[[str], None]) -> dict[str, Any]:
        """Streaming sums over the training split, then one symmetric eigenproblem.

        With whitened sides `Lx^-1 Cxy Ly^-T = U S V^T` the directions are `Lx^-T U S` and `Ly^-T V S`; any square root
        gives the same ones, and Cholesky's is the cheapest.
        """
        images, texts = model.images.inner if isinstance(model.images, Backed) else model.images, model.texts
        assert isinstance(images, LinearFeatures) and isinstance(texts, BagOfWords)
        texts.weights.copy_(self._terms(pairs)[1])
        say(f"sums over {len(pairs)} images and {len(pairs.captions)} captions ({len(texts.vocabulary)} terms)")
        text_mean, cyy = _text_sums(texts, pairs)
        image_mean, cxx, cxy = _image_sums(images, texts, pairs)
        say("canonical directions")
        lx = _root(cxx, self.image_ridge * float(cxx.diagonal().mean()))
        ly = _root(cyy, self.text_ridge * float(cyy.diagonal().sum()) / 2500.0)
        middle = torch.linalg.solve_triangular(lx, cxy, upper=False)
        middle = torch.linalg.solve_triangular(ly, middle.T, upper=False).T
        dim = min(self.dim, *middle.shape)
        values, left = torch.linalg.eigh(middle @ middle.T)
        left, strength = left[:, -dim:].flip(1), values[-dim:].flip(0).clamp(min=1e-12).sqrt()
        right = middle.T @ left
        to_image = torch.linalg.solve_triangular(lx.T, left * strength, upper=True)
        to_text = torch.linalg.solve_triangular(ly.T, right, upper=True)
        _fold(images, texts, to_image, to_text, image_mean, text_mean)
        return {"correlations": [round(float(s), 4) for s in strength[:10]], "terms": len(texts.vocabulary)}


def _root(covariance: Tensor, ridge: float) -> Tensor:
    """Lower Cholesky factor of the ridged covariance; the argument is overwritten."""
    covariance.diagonal().add_(max(ridge, 1e-8))
    return torch.linalg.cholesky(covariance)


def _text_sums(tower: BagOfWords, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Mean term vector (t,) and the covariance (t, t), float64."""
    size = len(tower.vocabulary)
    second = torch.zeros(size * size)
    total = torch.zeros(size, dtype=torch.float64)
    for start in range(0, len(pairs.captions), _BLOCK):
        ids, shares = tower.shares(tower.tokens(pairs.captions[start : start + _BLOCK]))
        total.index_add_(0, ids.flatten(), shares.flatten().double())
        second.index_add_(
            0, (ids[:, :, None] * size + ids[:, None, :]).flatten(), (shares[:, :, None] * shares[:, None, :]).flatten()
        )
    captions = max(len(pairs.captions), 1)
    mean = total / captions
    covariance = second.view(size, size).double().div_(captions)
    covariance.addr_(mean, mean, alpha=-1.0)
    return mean, covariance


def _own_means(tower: BagOfWords, items: Sequence[Item]) -> Tensor:
    """Mean term vector of each image's own captions (i, t) float32."""
    size = len(tower.vocabulary)
    out = torch.zeros(len(items) * size)
    ids, shares = tower.shares(tower.tokens([caption for item in items for caption in item.captions]))
    counts = torch.tensor([len(item.captions) for item in items])
    rows = torch.repeat_interleave(torch.arange(len(items)), counts)
    out.index_add_(0, (rows[:, None] * size + ids).flatten(), (shares / counts[rows][:, None]).flatten())
    return out.view(len(items), size)


def _image_sums(images: LinearFeatures, texts: BagOfWords, pairs: Pairs) -> tuple[Tensor, Tensor, Tensor]:
    """Mean input (w,), covariance (w, w) and cross-covariance with the images' mean captions (w, t), float64.

    Images without a caption take no part.
    """
    width, terms = images.linear.in_features, len(texts.vocabulary)
    total = torch.zeros(width, dtype=torch.float64)
    second = torch.zeros(width, width, dtype=torch.float64)
    cross = torch.zeros(width, terms, dtype=torch.float64)
    own_total = torch.zeros(terms, dtype=torch.float64)
    captioned = [n for n, item in enumerate(pairs.items) if item.captions]
    for start in range(0, len(captioned), _BLOCK):
        block = pairs.images.take(captioned[start : start + _BLOCK])
        x, y = images.inputs(block.read_features()), _own_means(texts, block.items)
        total += x.sum(0)
        own_total += y.sum(0)
        second += x.T @ x
        cross += x.T @ y
    mean = total / len(captioned)
    second.div_(len(captioned)).addr_(mean, mean, alpha=-1.0)
    cross.div_(len(captioned)).addr_(mean, own_total / len(captioned), alpha=-1.0)
    return mean, second, cross


def _fold(
    images: LinearFeatures, texts: BagOfWords, to_image: Tensor, to_text: Tensor, image_mean: Tensor, text_mean: Tensor
) -> None:
    """Directions and centring into the towers' weights; a width beyond the data's rank stays zero."""
    dim = to_image.shape[1]
    with torch.no_grad():
        images.linear.weight.zero_()
        images.linear.bias.zero_()
        texts.rows.weight.zero_()
        texts.bias.zero_()
        images.linear.weight[:dim] = to_image.T.float()
        images.linear.bias[:dim] = -(image_mean @ to_image).float()
        texts.rows.weight[:, :dim] = to_text.float()
        texts.bias[:dim] = -(text_mean @ to_text).float()
