"""Frozen teachers of one modality, made once of the training pairs: a unit vector of each image, and of its captions.

Both are cut to the directions of largest variance, so that a table holds 512 bytes an image whatever the features are.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..data.features import Features
from ..data.pairs import Pairs
from ..encoders.images import feature_blocks
from ..encoders.linear import term_weights, terms_known, terms_of
from ..encoders.standardise import Standardise

__all__ = ["image_teacher", "text_teacher"]

_WIDTH = 256
_MEASURED = 10_000
"""Images, evenly spread, that statistics and directions are taken of."""


def image_teacher(pairs: Pairs, width: int = _WIDTH) -> Tensor | None:
    """What a frozen network saw of each image (i, w) float16, unit length; None where the pairs have no features.

    The pooled vector where there is one, else the mean of the fragments, standardised by the training split as an image
    tower does it.
    """
    if pairs.features is None:
        return None
    some = pairs.images.take(range(0, len(pairs), -(-len(pairs) // _MEASURED)))
    seen = np.concatenate([_one_vector(block) for block in feature_blocks(some)])
    pooled = "pooled_width" in pairs.features.sizes()
    scale = Standardise(seen.shape[1], power=1.0 if pooled else 0.5)
    scale.fit(lambda: (seen,))
    directions = _directions(scale(torch.from_numpy(seen)), width)
    blocks = (torch.from_numpy(_one_vector(block)) for block in feature_blocks(pairs.images))
    return torch.cat([functional.normalize(scale(block) @ directions, dim=1).half() for block in blocks])


def _one_vector(features: Features) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    if features.pooled is not None:
        return np.asarray(features.pooled, np.float32)
    assert features.vectors is not None
    vectors = np.asarray(features.vectors, np.float32)
    if features.lengths is None:
        return np.asarray(vectors.mean(axis=1), np.float32)
    lengths = np.asarray(features.lengths)[:, None]
    real = np.arange(vectors.shape[1])[None, :] < lengths
    return np.asarray((vectors * real[..., None]).sum(axis=1) / np.maximum(lengths, 1), np.float32)


def _directions(values: Tensor, width: int) -> Tensor:
    """(n, c) -> the c x w map to its directions of largest variance; all of them where c is no more than w."""
    if values.shape[1] <= width:
        return torch.eye(values.shape[1])
    _, found = torch.linalg.eigh(values.T @ values)
    return torch.as_tensor(found[:, -width:])


def text_teacher(pairs: Pairs, width: int = _WIDTH) -> Tensor:
    """What is said of each image (i, w) float16, unit length: its captions' weighted terms together, and of those the
    leading singular directions (latent semantic analysis).

    Raises:
        DataError: no term is frequent enough in the training captions.
    """
    vocabulary = terms_known(pairs.captions, least=min(3, max(1, len(pairs.captions) // 3)))
    weights, words = term_weights(vocabulary, pairs.captions), vocabulary.tokenizer.words
    rows, columns = list[int](), list[int]()
    for row, item in enumerate(pairs.items):
        terms = {term for caption in item.captions for term in terms_of(words(caption))}
        found = sorted(number for term in terms if (number := vocabulary.number(term)) is not None)
        rows += [row] * len(found)
        columns += found
    values = weights[torch.tensor(columns, dtype=torch.long)]
    place = torch.tensor([rows, columns], dtype=torch.long)
    lengths = torch.zeros(len(pairs)).index_add_(0, place[0], values.square()).sqrt()
    values = values / lengths[place[0]]
    size = len(pairs), len(vocabulary)
    said = torch.sparse_coo_tensor(place, values, size, check_invariants=False).coalesce()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        left, strength, _ = torch.svd_lowrank(said, q=min(width, *size), niter=4)
    return functional.normalize(left * strength, dim=1).half()
