"""Messages between the nodes of an association graph: Transformer layers whose attention the graph steers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..encoders.dropout import Dropout

__all__ = ["Fusion", "RelationLayer", "Standalone"]


class RelationLayer(nn.Module):
    """One post-norm Transformer layer in which n nodes listen to m others, `(n, d), (m, d), (n, m) -> (n, d)`.

    Args:
        dim: d, also the width of the feed-forward part.
        heads: attention heads; all share the bias.
        dropout: on attention weights, inside the feed-forward part and on both residual branches.
    """

    def __init__(self, dim: int, heads: int = 16, dropout: float = 0.1) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, heads, dropout)
        self.attention_norm = nn.LayerNorm(dim)
        self.feed_forward = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), Dropout(dropout), nn.Linear(dim, dim))
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.dropout = Dropout(dropout)

    def forward(self, nodes: Tensor, others: Tensor, bias: Tensor, heard: list[Tensor] | None = None) -> Tensor:
        """Nodes after listening.

        Args:
            nodes, others: who listens, and to whom.
            bias: added to the attention logits, minus infinity where one may not listen.
            heard: attention weights (heads, n, m) are appended to it.
        """
        asked = heard is not None
        said, weights = self.attention(
            nodes, others, others, attn_mask=bias, need_weights=asked, average_attn_weights=False
        )
        if heard is not None:
            heard.append(weights)
        nodes = self.attention_norm(nodes + self.dropout(said))
        return self.feed_forward_norm(nodes + self.dropout(self.feed_forward(nodes)))


class Fusion(nn.Module):
    """All nodes are one sequence and one layer serves both modalities (HREM's "fusion", the authors' own choice)."""

    def __init__(self, dim: int, heads: int = 16, dropout: float = 0.1) -> None:
        super().__init__()
        self.layer = RelationLayer(dim, heads, dropout)

    def forward(self, nodes: Tensor, bias: Tensor, images: int, heard: list[Tensor] | None = None) -> Tensor:
        """Nodes (n, d), of which the first `images` are images, and bias (n, n) give nodes (n, d).

        `heard` is that of `RelationLayer.forward`, appended to once a layer.
        """
        return self.layer(nodes, nodes, bias, heard)


class Standalone(nn.Module):
    """First across the modalities, then inside each (HREM's "standalone"); each has layers of its own.

    The authors did not publish this form; layer by layer it is our reading of the paper.

    Args:
        across: whether the modalities listen to each other at all.
    """

    def __init__(self, dim: int, heads: int = 16, dropout: float = 0.1, *, across: bool = True) -> None:
        super().__init__()
        self.across = nn.ModuleList(RelationLayer(dim, heads, dropout) for _ in range(2 * across))
        self.inside = nn.ModuleList(RelationLayer(dim, heads, dropout) for _ in range(2))

    def forward(self, nodes: Tensor, bias: Tensor, images: int, heard: list[Tensor] | None = None) -> Tensor:
        """As `Fusion.forward`."""
        v, u = nodes[:images], nodes[images:]
        if len(self.across):
            v, u = (
                self.across[0](v, u, bias[:images, images:], heard),
                self.across[1](u, v, bias[images:, :images], heard),
            )
        v = self.inside[0](v, v, bias[:images, :images], heard)
        return torch.cat([v, self.inside[1](u, u, bias[images:, images:], heard)])
