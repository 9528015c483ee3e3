"""Linear towers that go on learning: small networks beside the linear maps, whose output begins at zero."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..data.features import Features, Pixels
from ..data.text import Tokens
from ..embeddings import Encoded, Gaussians
from .base import Head, Locals
from .dropout import Dropout
from .images import ImageInput
from .linear import BagOfWords, LinearFeatures
from .text_input import TextInput

__all__ = ["ResidualBag", "ResidualFeatures", "SpreadHead"]

_SMALL = 0.3
"""Size of a coordinate that the texts' network reads, and factor on what it gives."""


class _Residual(nn.Module):
    """`V relu(U x)`, V zero at the start; gives its hidden layer (n, h) too."""

    def __init__(self, inputs: int, hidden: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.first, self.last, self.dropout = nn.Linear(inputs, hidden), nn.Linear(hidden, dim), Dropout(dropout)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.dropout(functional.relu(self.first(inputs)))
        return self.last(hidden), hidden


class ResidualFeatures(LinearFeatures):
    """`pooled = W x + b + V relu(U x)`; the head's one fragment is the hidden layer (n, 1, h).

    Args:
        inputs, head, dim: as `LinearFeatures`.
        hidden: width h.
        feature_dropout, dropout: on the input, which both read, and on the hidden layer.
    """

    def __init__(
        self, inputs: ImageInput, head: Head, *, dim: int, hidden: int, feature_dropout: float, dropout: float
    ) -> None:
        super().__init__(inputs, head, dim=dim, dropout=feature_dropout)
        self.residual = _Residual(self.linear.in_features, hidden, dim, dropout)

    def local(self, images: Features | Pixels) -> Locals:
        inputs = self.dropout(self.inputs(images))
        further, hidden = self.residual(inputs)
        return Locals(hidden[:, None], _one(hidden), self.linear(inputs) + further)


class ResidualBag(BagOfWords):
    """`pooled = y + V relu(U unit(y))` of a bag's vector y; the head's one fragment is the hidden layer (n, 1, h).

    Args:
        inputs, head, dim, drop: as `BagOfWords`.
        hidden: width h.
        dropout: on the hidden layer.
    """

    def __init__(self, inputs: TextInput, head: Head, *, dim: int, hidden: int, drop: float, dropout: float) -> None:
        super().__init__(inputs, head, dim=dim, drop=drop)
        self.residual = _Residual(dim, hidden, dim, dropout)

    def local(self, tokens: Tokens) -> Locals:
        whole = super().local(tokens).pooled
        size = _SMALL * math.sqrt(whole.shape[-1])
        further, hidden = self.residual(size * functional.normalize(whole, dim=-1))
        return Locals(hidden[:, None], _one(hidden), whole + _SMALL * further)


class SpreadHead(Head):
    """`Gaussians (n, d)`: the global vector, unit length, and a linear map of the one fragment as log-variance.

    The map begins at zero, so every item begins equally sure.

    Args:
        inputs: width of the fragment.
        dim: width d.
        start: every log-variance at the start.
    """

    def __init__(self, inputs: int, dim: int, *, start: float) -> None:
        super().__init__()
        self.log_variance = nn.Linear(inputs, dim)
        nn.init.zeros_(self.log_variance.weight)
        nn.init.constant_(self.log_variance.bias, start)

    def forward(self, local: Locals) -> Encoded:
        mean = functional.normalize(local.pooled, dim=-1)
        log_variance = self.log_variance(local.vectors[:, 0])
        return Encoded(Gaussians(mean, log_variance), tensors={"mean": mean, "log_variance": log_variance})


def _one(hidden: Tensor) -> Tensor:
    return torch.ones_like(hidden[:, :1], dtype=torch.bool)
