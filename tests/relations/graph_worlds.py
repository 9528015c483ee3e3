"""Random batches for the association graph, its official weights under our names, and a score's plain definition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from manymatch.embeddings import Encoded, Fragments, Points
from official_names import HREM_GRAPH

WIDTH = 8


def side(lengths: Sequence[int], padded: int, seed: int, width: int = WIDTH) -> Encoded:
    """Unit points with random fragments, so many each; padding is random too, as a projector's bias leaves it."""
    draw = torch.Generator().manual_seed(seed)
    points = functional.normalize(torch.randn(len(lengths), width, generator=draw), dim=-1)
    vectors = torch.randn(len(lengths), padded, width, generator=draw)
    return recorded(points, vectors, torch.tensor(lengths))


def recorded(points: Tensor, vectors: Tensor, lengths: Tensor) -> Encoded:
    valid = torch.arange(vectors.shape[1]) < lengths[:, None]
    return Encoded(Points(points), Fragments(vectors, valid, points))


def ours(weights: Mapping[str, Any]) -> dict[str, Tensor]:
    """The official names to ours."""
    out = {}
    for key, value in weights.items():
        start = next(s for s in HREM_GRAPH if key.startswith(s))
        out[HREM_GRAPH[start] + key[len(start) :]] = torch.as_tensor(value)
    return out


def one_pair(image: Tensor, words: Tensor, padded: Tensor, top: int, mode: str) -> dict[str, Tensor]:
    """Fragment scores of one image and one caption, written down from the definition.

    Args:
        image: regions that count (r, d).
        words: valid words (w, d).
        padded: the rows a short caption borrows in released mode (top - w or none, d).
    """
    regions = functional.normalize(image, dim=-1)
    more = functional.normalize(torch.cat([words, padded]) if mode == "released" else words, dim=-1)
    cosines = more @ regions.T
    by_word, by_region = cosines, cosines[: len(words)]
    if mode == "released":
        cosines = functional.leaky_relu(cosines, 0.1)
        by_word = functional.normalize(cosines, dim=0)
        by_region = functional.normalize(cosines, dim=1)[: len(words)]
    word, region = by_word.max(1).values, by_region.max(0).values
    return {
        "mean_t2i": word[: len(words)].mean(),
        "mean_i2t": region.mean(),
        "best_t2i": filled(word, top),
        "best_i2t": filled(region, top),
    }


def filled(scores: Tensor, top: int) -> Tensor:
    best = scores.sort(descending=True).values[:top]
    return torch.cat([best, best[-1:].expand(top - len(best))])
