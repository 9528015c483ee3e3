"""Canonical correlation in closed form: the linear maps of images and captions that agree best with each other.

Hotelling. Relations between two sets of variates. Biometrika 1936; regularised, each direction scaled by its
correlation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data.pairs import Item, Pairs
from .linear import BagOfWords, LinearFeatures, term_weights

__all__ = ["IMAGE_RIDGE", "TEXT_RIDGE", "Canonical", "fit_canonical"]

IMAGE_RIDGE = 3.0
"""Added to the image covariance, in units of its mean eigenvalue."""
TEXT_RIDGE = 0.5
"""Added to the text covariance, in units of `trace / 2,500`."""

_BLOCK = 512
_LEAST = 1e-8
"""Of a ridge, so that a side that does not vary has a root."""


@dataclass(frozen=True)
class Canonical:
    """What a fit found.

    Attributes:
        correlations: of the directions kept, falling.
        image_norm, text_norm: root of the mean squared length of what the maps give of the training images and
            captions.
    """

    correlations: tuple[float, ...]
    image_norm: float
    text_norm: float


def fit_canonical(
    images: LinearFeatures,
    texts: BagOfWords,
    pairs: Pairs,
    *,
    image_ridge: float = IMAGE_RIDGE,
    text_ridge: float = TEXT_RIDGE,
    say: Callable[[str], None] = lambda line: None,
) -> Canonical:
    """Fill both towers' weights from the training pairs: streaming sums, then one symmetric eigenproblem.

    With whitened sides `Lx^-1 Cxy Ly^-T = U S V^T` the directions are `Lx^-T U S` and `Ly^-T V S`; any square root
    gives the same ones, and Cholesky's is the cheapest. A width beyond the data's rank stays zero.

    Args:
        images, texts: towers of one width, the first with its statistics fitted.
        pairs: the training split, with features.
        image_ridge: added to the image covariance, in units of its mean eigenvalue.
        text_ridge: added to the text covariance, in units of `trace / 2,500`: the mean eigenvalue if its spectrum had
            2,500 directions, so that it does not shrink as rare terms are added.
        say: told what is being done.
    """
    texts.weights.copy_(term_weights(texts.vocabulary, pairs.captions))
    say(f"sums over {len(pairs)} images and {len(pairs.captions)} captions ({len(texts.vocabulary)} terms)")
    text_mean, cyy = _text_sums(texts, pairs)
    image_mean, cxx, cxy = _image_sums(images, texts, pairs)
    say("canonical directions")
    ridges = image_ridge * float(cxx.diagonal().mean()), text_ridge * float(cyy.diagonal().sum()) / 2500.0
    lx, ly = _root(cxx, ridges[0]), _root(cyy, ridges[1])
    middle = torch.linalg.solve_triangular(lx, cxy, upper=False)
    middle = torch.linalg.solve_triangular(ly, middle.T, upper=False).T
    dim = min(len(texts.bias), *middle.shape)
    values, left = torch.linalg.eigh(middle @ middle.T)
    left, strength = left[:, -dim:].flip(1), values[-dim:].flip(0).clamp(min=1e-12).sqrt()
    right = middle.T @ left
    to_image = torch.linalg.solve_triangular(lx.T, left * strength, upper=True)
    to_text = torch.linalg.solve_triangular(ly.T, right, upper=True)
    _fold(images, texts, to_image, to_text, image_mean, text_mean)
    return Canonical(
        tuple(float(s) for s in strength),
        *(_norm(strength, way, ridge) for way, ridge in zip((to_image, to_text), ridges, strict=True)),
    )


def _norm(strength: Tensor, directions: Tensor, ridge: float) -> float:
    """Root mean square length of what the directions give.

    With the ridge in the covariance it would be `sum S^2`, and the ridge is no spread of the data.
    """
    spread = float(strength.square().sum() - max(ridge, _LEAST) * directions.square().sum())
    return max(spread, 1e-12) ** 0.5


def _root(covariance: Tensor, ridge: float) -> Tensor:
    """Lower Cholesky factor of the ridged covariance; the argument is overwritten."""
    covariance.diagonal().add_(max(ridge, _LEAST))
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
