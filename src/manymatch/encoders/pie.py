"""PIE-Net: k elements of one item, each the global vector changed by what one attention head saw (PVSE)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..embeddings import Encoded, Sets
from .base import Head, Locals
from .dropout import Dropout

__all__ = ["LocalAttention", "PIEHead", "PIENet"]


class LocalAttention(nn.Module):
    """k weighted means of the fragments: `softmax over fragments of W2 tanh(W1 x)` (PVSE, equation 1).

    Args:
        inputs: width c of the fragments.
        heads: k.
        hidden: inner width, c / 2 if not given.
    """

    def __init__(self, inputs: int, *, heads: int = 1, hidden: int | None = None) -> None:
        super().__init__()
        inner = hidden or max(1, inputs // 2)
        self.first, self.second = nn.Linear(inputs, inner, bias=False), nn.Linear(inner, heads, bias=False)
        nn.init.xavier_uniform_(self.first.weight)
        nn.init.xavier_uniform_(self.second.weight)

    def forward(self, vectors: Tensor, valid: Tensor) -> Tensor:
        """(n, f, c), (n, f) -> (n, k, c)."""
        return self.attend(vectors, valid)[0]

    def attend(self, vectors: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """As `forward`, and the weights (n, f, k): each head's sum to 1 over the fragments, 0 at padding."""
        scores = self.second(torch.tanh(self.first(vectors)))
        weights = scores.masked_fill(~valid[..., None], -math.inf).softmax(dim=1)
        return weights.transpose(1, 2) @ vectors, weights


class PIENet(nn.Module):
    """`LayerNorm(global + residual)`, the residual a sigmoid of what each head saw (PVSE, equations 2 and 3).

    Args:
        inputs: width c of the fragments.
        dim: width d of the global vector.
        elements: k.
        hidden: inner width of the attention, c / 2 if not given.
        dropout: on the residual.
    """

    def __init__(
        self, inputs: int, dim: int, *, elements: int = 1, hidden: int | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.attention = LocalAttention(inputs, heads=elements, hidden=hidden)
        self.linear, self.norm, self.dropout = nn.Linear(inputs, dim), nn.LayerNorm(dim), Dropout(dropout)
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, vectors: Tensor, valid: Tensor, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """(n, f, c), (n, f), (n, d) -> elements (n, k, d), not unit length, and residuals (n, k, d)."""
        residual = self.dropout(torch.sigmoid(self.linear(self.attention(vectors, valid))))
        return self.norm(pooled[:, None, :] + residual), residual

    def attend(self, local: Locals) -> Tensor:
        """What each element's attention head reads of each fragment: (n, k, f), rows sum to 1."""
        return self.attention.attend(local.vectors, local.valid)[1].transpose(1, 2)


class PIEHead(Head):
    """PVSE's set: `Sets (n, k, d)`; residuals after dropout kept as `residual`, global vectors as `global`.

    Arguments as `PIENet`.
    """

    def __init__(
        self, inputs: int, dim: int, *, elements: int = 2, hidden: int | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.net = PIENet(inputs, dim, elements=elements, hidden=hidden, dropout=dropout)

    def forward(self, local: Locals) -> Encoded:
        elements, residual = self.net(local.vectors, local.valid, local.pooled)
        return Encoded(
            Sets(functional.normalize(elements, dim=-1)), tensors={"residual": residual, "global": local.pooled}
        )

    def attend(self, local: Locals) -> Tensor:
        return self.net.attend(local)
