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
from .base import Head, ImageTower, Locals, TextTower, lengths_to_valid
from .dropout import Dropout
from .images import ImageInput, feature_blocks, real_fragments
from .standardise import Standardise
from .texts import TextInput

__all__ = ["BagOfWords", "LinearFeatures", "term_weights", "terms_known", "terms_of"]

_FRAGMENT_WEIGHT = 0.34
"""Flattened fragments are many and alike; at full weight they would outvote the pooled vector."""


_WIDEST = 20_000
"""Numbers of an image that a closed form can take: its memory grows with their square, 3 GB here."""


class LinearFeatures(ImageTower):
    """`pooled = W [standardised pooled vector, flattened fragments] + b`.

    Fragments are flattened in their order, so every item must have as many; missing ones are zero. Where that makes
    more than 20,000 numbers, the mean of the real ones stands for them.

    Args:
        inputs: sizes of what comes in.
        head: makes the embedding.
        dim: width d.
        dropout: on the input, while training.
    """

    reads = "features"

    def __init__(self, inputs: ImageInput, head: Head, *, dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.measured, self.fragments, self.head = inputs, inputs.fragments, head
        self.dropout = Dropout(dropout)
        self.flat = inputs.pooled_width + inputs.fragments * inputs.fragment_width <= _WIDEST
        places = inputs.fragments if self.flat else min(inputs.fragments, 1)
        width = inputs.pooled_width + places * inputs.fragment_width
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
        self.measured.expect(images, all_fragments=self.flat)
        parts = []
        device = self.linear.weight.device
        if self.has_pooled:
            if images.pooled is None:
                raise DataError("this run reads a pooled vector, found only fragments; give --pooled FILE")
            parts.append(self.pooled_scale(torch.as_tensor(images.pooled, dtype=torch.float32, device=device)))
        if self.fragments:
            parts.append(self._fragments(images))
        return torch.cat(parts, dim=1)

    def _fragments(self, images: Features) -> Tensor:
        """Of fragments (n, f, c): flattened, or their mean (n, c)."""
        if images.vectors is None:
            raise DataError("this run reads fragments, found only pooled vectors; give --features FILE")
        device = self.linear.weight.device
        vectors = self.fragment_scale(torch.as_tensor(images.vectors, dtype=torch.float32, device=device))
        real = torch.ones(vectors.shape[:2], dtype=torch.bool, device=device)
        if images.lengths is not None:
            real = lengths_to_valid(torch.as_tensor(images.lengths, device=device), vectors.shape[1])
            vectors = vectors.masked_fill(~real[..., None], 0.0)
        if self.flat:
            return _FRAGMENT_WEIGHT * vectors.flatten(1)
        return vectors.sum(dim=1) / real.sum(dim=1, keepdim=True)

    def local(self, images: Features | Pixels) -> Locals:
        whole = self.linear(self.dropout(self.inputs(images)))
        return Locals(whole[:, None, :], torch.ones_like(whole[:, :1], dtype=torch.bool), whole)


def terms_of(words: list[str]) -> list[str]:
    """Different words and different pairs of neighbouring words ("black dog") of one text, sorted."""
    return sorted({*words, *(f"{a} {b}" for a, b in pairwise(words))})


def terms_known(captions: Iterable[str], *, least: int = 3, least_pairs: int = 8, most: int = 12_000) -> Vocabulary:
    """Terms of the training captions.

    A word must be in `least` captions, a pair in `least_pairs`, and none in all of them; of more than `most` terms the
    most frequent stay.

    Raises:
        DataError: no term is frequent enough.
    """
    tokenizer = Tokenizer()
    counts, total = _counted(tokenizer, captions)
    known = [t for t, n in counts.items() if n >= (least_pairs if " " in t else least) and n < total]
    known = sorted(known, key=lambda t: (-counts[t], t))[:most]
    if not known:
        raise DataError(
            f"vocabulary: no word is in {least} of the {total} training captions (or each is in all of them); "
            "train on more captions or lower it with --set least_count=1"
        )
    return Vocabulary(tuple(known), tokenizer)


def term_weights(vocabulary: Vocabulary, captions: Iterable[str]) -> Tensor:
    """Weights by number of the terms of a vocabulary, 0 of numbers that are none.

    The weight is `ln(captions / (captions with it + 1))`, halved for pairs (they repeat what their words say).
    """
    counts, total = _counted(vocabulary.tokenizer, captions)
    weights = torch.zeros(len(vocabulary))
    for term, number in vocabulary.numbers.items():
        weights[number] = max(math.log(total / (counts[term] + 1)), 1e-3) * (0.5 if " " in term else 1.0)
    return weights


def _counted(tokenizer: Tokenizer, captions: Iterable[str]) -> tuple[Counter[str], int]:
    """In how many captions each term is, and how many captions there are."""
    counts: Counter[str] = Counter()
    total = 0
    for caption in captions:
        counts.update(terms_of(tokenizer.words(caption)))
        total += 1
    return counts, total


class BagOfWords(TextTower):
    """`pooled = sum of the text's weighted terms' rows + b`, the weights of a text scaled to unit length.

    Args:
        inputs: the vocabulary, of terms.
        head: makes the embedding.
        dim: width d.
        drop: share of the terms left out while training, the others' weights raised to make up for it.
    """

    def __init__(self, inputs: TextInput, head: Head, *, dim: int, drop: float = 0.0) -> None:
        super().__init__()
        self.vocabulary, self.head, self.drop = inputs.vocabulary, head, Dropout(drop)
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
        shares = self.drop(shares)
        whole = nn.functional.embedding_bag(ids, self.rows.weight, per_sample_weights=shares, mode="sum") + self.bias
        return Locals(whole[:, None, :], torch.ones_like(whole[:, :1], dtype=torch.bool), whole)
