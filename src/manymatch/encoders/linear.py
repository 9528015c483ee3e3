"""Linear towers: features to a point, weighted words to a point. What a closed-form fit fills in."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from ..data.features import Features, Pixels
from ..data.pairs import Images
from ..data.text import Tokenizer, Tokens, Vocabulary
from ..errors import DataError
from .base import Head, ImageTower, Locals, TextTower
from .images import ImageInput, feature_blocks, real_fragments
from .standardise import Standardise
from .texts import TextInput

__all__ = ["BagOfWords", "LinearFeatures", "terms_of", "weigh_terms"]

_FRAGMENT_WEIGHT = 0.34
"""Flattened fragments are many and alike; at full weight they would outvote the pooled vector."""


class LinearFeatures(ImageTower):
    """`pooled = W [standardised pooled vector, flattened fragments] + b`.

    Fragments are flattened in their order, so every item must have as many; missing ones are zero.
    """

    reads = "features"

    def __init__(self, inputs: ImageInput, head: Head, *, dim: int) -> None:
        super().__init__()
        self.measured, self.fragments, self.head = inputs, inputs.fragments, head
        width = inputs.pooled_width + inputs.fragments * inputs.fragment_width
        if inputs.pooled_width:
            self.pooled_scale = Standardise(inputs.pooled_width)
        if inputs.fragments:
            self.fragment_scale = Standardise(inputs.fragment_width, power=0.5)
        self.has_pooled = bool(inputs.pooled_width)
        self.linear = nn.Linear(width, dim)

    def fit_input(self, images: Images) -> None:
        """Statistics of the training images, streamed."""
        if self.has_pooled:
            self.pooled_scale.fit(lambda: (f.pooled for f in feature_blocks(images) if f.pooled is not None))
        if self.fragments:
            self.fragment_scale.fit(lambda: (real_fragments(f) for f in feature_blocks(images)))

    def inputs(self, images: Features | Pixels) -> Tensor:
        """What the linear map sees: (n, p + f c)."""
        if isinstance(images, Pixels):
            raise DataError("this run reads precomputed features and has no backbone to look at a picture; use like=ID")
        self.measured.expect(images, all_fragments=True)
        parts = []
        device = self.linear.weight.device
        if self.has_pooled:
            if images.pooled is None:
                raise DataError("this run reads a pooled vector, found only fragments; give --pooled FILE")
            parts.append(self.pooled_scale(torch.as_tensor(images.pooled, dtype=torch.float32, device=device)))
        if self.fragments:
            if images.vectors is None:
                raise DataError("this run reads fragments, found only pooled vectors; give --features FILE")
            vectors = self.fragment_scale(torch.as_tensor(images.vectors, dtype=torch.float32, device=device))
            if images.lengths is not None:
                real = torch.arange(vectors.shape[1]) < torch.as_tensor(images.lengths)[:, None]
                vectors = vectors.masked_fill(~real[..., None].to(device), 0.0)
            parts.append(_FRAGMENT_WEIGHT * vectors.flatten(1))
        return torch.cat(parts, dim=1)

    def local(self, images: Features | Pixels) -> Locals:
        whole = self.linear(self.inputs(images))
        return Locals(whole[:, None, :], torch.ones_like(whole[:, :1], dtype=torch.bool), whole)


def terms_of(words: list[str]) -> list[str]:
    """Different words and different pairs of neighbouring words ("black dog") of one text, sorted."""
    return sorted({*words, *(f"{a} {b}" for a, b in pairwise(words))})


def weigh_terms(
    captions: Iterable[str], *, least: int = 3, least_pairs: int = 8, most: int = 12_000
) -> tuple[Vocabulary, Tensor]:
    """Terms of the training captions and their weights by number.

    A word must be in `least` captions, a pair in `least_pairs`; of more than `most` terms the most frequent stay. The
    weight is `ln(captions / (captions with it + 1))`, halved for pairs (they repeat what their words say).

    Raises:
        DataError: no term is frequent enough.
    """
    tokenizer = Tokenizer()
    counts: Counter[str] = Counter()
    total = 0
    for caption in captions:
        counts.update(terms_of(tokenizer.words(caption)))
        total += 1
    known = [t for t, n in counts.items() if n >= (least_pairs if " " in t else least) and n < total]
    known = sorted(known, key=lambda t: (-counts[t], t))[:most]
    if not known:
        raise DataError(
            f"vocabulary: no word is in {least} of the {total} training captions (or each is in all of them); "
            "train on more captions or lower it with --set least_count=1"
        )
    vocabulary = Vocabulary(tuple(known), tokenizer)
    weights = torch.zeros(len(vocabulary))
    for term in known:
        number = vocabulary.number(term)
        assert number is not None
        weights[number] = max(math.log(total / (counts[term] + 1)), 1e-3) * (0.5 if " " in term else 1.0)
    return vocabulary, weights


class BagOfWords(TextTower):
    """`pooled = sum of the text's weighted terms' rows + b`, the weights of a text scaled to unit length."""

    def __init__(self, inputs: TextInput, head: Head, *, dim: int) -> None:
        super().__init__()
        self.vocabulary, self.head = inputs.vocabulary, head
        self.rows = nn.Embedding(len(inputs.vocabulary), dim)
        self.bias = nn.Parameter(torch.zeros(dim))
        self.register_buffer("weights", torch.zeros(len(inputs.vocabulary)))

    weights: Tensor

    def tokens(self, texts: list[str]) -> Tokens:
        numbers = [
            [n for t in terms_of(self.vocabulary.tokenizer.words(text)) if (n := self.vocabulary.number(t)) is not None]
            for text in texts
        ]
        lengths = np.array([len(row) for row in numbers], np.int64)
        ids = np.zeros((len(numbers), max(1, int(lengths.max(initial=0)))), np.int64)
        for n, row in enumerate(numbers):
            ids[n, : len(row)] = row
        return Tokens(ids, lengths)

    def shares(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """Term numbers (n, w) and their weights (n, w): unit length per text, 0 at padding."""
        ids = torch.as_tensor(tokens.ids, device=self.weights.device)
        return ids, nn.functional.normalize(self.weights[ids], dim=1)

    def cut(self, text: str) -> list[str]:
        """The text itself: its weighted terms are summed before any head, and make one fragment."""
        return [text]

    def local(self, tokens: Tokens) -> Locals:
        ids, shares = self.shares(tokens)
        whole = nn.functional.embedding_bag(ids, self.rows.weight, per_sample_weights=shares, mode="sum") + self.bias
        return Locals(whole[:, None, :], torch.ones_like(whole[:, :1], dtype=torch.bool), whole)
