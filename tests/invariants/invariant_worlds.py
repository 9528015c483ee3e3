"""Tiny models of every method, and images and texts of different lengths for them to embed."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import manymatch as mm
from manymatch.data.features import Features
from manymatch.data.pairs import Pairs
from manymatch.embeddings import Embedding
from manymatch.methods import Model

SMALL = {"dim": 32, "word_dim": 12, "hidden": 8, "batch": 16, "least_count": 1}
CALM = {"dropout": 0.0, "feature_dropout": 0.0, "region_drop": 0.0, "word_drop": 0.0}
WIDTH, POOLED = 12, 48


def model_of(name: str, pairs: Pairs, **fields: Any) -> Model:
    """Untrained, in evaluation mode, with batch statistics that are not the ones it begins with."""
    if name == "dive":
        fields = {"head_width": 4, "slot_hidden": 16, **fields}
    model = mm.method(name, **{**SMALL, **CALM, **fields}).build(pairs)
    draw = torch.Generator().manual_seed(7)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.copy_(torch.randn(module.num_features, generator=draw) / 4)
            module.running_var.copy_(torch.rand(module.num_features, generator=draw) + 0.5)
    return model.eval()


def features(lengths: list[int], seed: int, extra: int = 0) -> Features:
    """Images of so many fragments each, padded with what is far from zero, `extra` places further than they need."""
    draw = np.random.default_rng(seed)
    longest = max(lengths)
    vectors = np.concatenate(
        [draw.random((len(lengths), longest, WIDTH)), np.full((len(lengths), extra, WIDTH), 9.0)], 1
    )
    pooled = draw.random((len(lengths), POOLED))
    return Features(vectors.astype(np.float32), np.array(lengths), pooled.astype(np.float32))


def alone(images: Features, row: int) -> Features:
    """One image without any padding."""
    assert images.vectors is not None and images.lengths is not None
    cut = images[row : row + 1]
    assert cut.vectors is not None
    return Features(cut.vectors[:, : images.lengths[row]], cut.lengths, cut.pooled)


def farthest(one: Embedding, other: Embedding) -> float:
    """The largest difference of two embeddings, as a share of the largest number where that is above 1."""
    pairs = zip(one.tensors().values(), other.tensors().values(), strict=True)
    return max(float((a - b).abs().max()) / max(1.0, float(a.abs().max())) for a, b in pairs)
