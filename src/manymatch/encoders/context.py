"""Context inside one item: fragments look at each other before they are pooled (HREM, section 3.2)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from ..errors import DataError
from .base import Pool
from .dropout import Dropout
from .pooling import TopMeanPool, mean_pool

__all__ = ["ContextPool", "FragmentContext"]


class FragmentContext(nn.Module):
    """One Transformer encoder layer, normalised after each half, ReLU, no last norm: (n, f, d), (n, f) -> (n, f, d).

    Padding is never looked at; what stands at padded places afterwards means nothing. Same weights and start as
    torch's own layer, whose two paths (with and without gradient) do not round alike.

    Args:
        dim: width d.
        heads: attention heads; they must divide d.
        hidden: width of the feed-forward half, d if not given.
        dropout: on attention weights, inside the feed-forward half and after each half.

    Raises:
        DataError: the heads do not divide d.
    """

    def __init__(self, dim: int, *, heads: int = 16, hidden: int | None = None, dropout: float = 0.1) -> None:
        super().__init__()
        if heads < 1 or dim % heads:
            fits = [h for h in range(1, min(heads, dim) + 1) if dim % h == 0]
            raise DataError(
                f"context: width {dim} cannot be split over {heads} heads; expected a multiple of {heads}, "
                f"or heads that divide it such as {fits[-1] if fits else 1}"
            )
        self.heads, self.rate = heads, dropout
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.attention_norm, self.last_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.wide, self.narrow = nn.Linear(dim, hidden or dim), nn.Linear(hidden or dim, dim)
        self.dropout = Dropout(dropout)
        nn.init.xavier_uniform_(self.qkv.weight)
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.out.bias)

    def forward(self, vectors: Tensor, valid: Tensor) -> Tensor:
        vectors = self.attention_norm(vectors + self.dropout(self._attend(vectors, valid)))
        inner = self.dropout(functional.relu(self.wide(vectors)))
        return self.last_norm(vectors + self.dropout(self.narrow(inner)))

    def _attend(self, vectors: Tensor, valid: Tensor) -> Tensor:
        queries, keys, values = self.qkv(vectors).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(
            queries,
            keys,
            values,
            attn_mask=valid[:, None, None, :],
            dropout_p=self.rate if self.training else 0.0,
        )
        return self.out(seen.transpose(1, 2).flatten(2))


class ContextPool(Pool):
    """`beta * initial pool + (1 - beta) * mean of the fragments in context` (HREM, equation 3).

    Args:
        dim: width d.
        beta: share of the initial pool, 0 to 1; at 1 there is no context layer at all (HREM's ablation).
        initial: pools the fragments as they come; the mean of the two largest values if not given.
        heads, dropout: of the context layer.

    Raises:
        DataError: beta outside 0 to 1, or heads that do not divide d.
    """

    def __init__(
        self, dim: int, *, beta: float = 0.8, initial: Pool | None = None, heads: int = 16, dropout: float = 0.1
    ) -> None:
        super().__init__()
        if not 0.0 <= beta <= 1.0:
            raise DataError(f"beta {beta}, expected a share from 0 to 1")
        self.beta, self.initial = beta, initial or TopMeanPool(2)
        self.context = FragmentContext(dim, heads=heads, dropout=dropout) if beta < 1.0 else None

    def forward(self, vectors: Tensor, valid: Tensor) -> Tensor:
        initial = self.initial(vectors, valid)
        if self.context is None:
            return initial
        return self.beta * initial + (1.0 - self.beta) * mean_pool(self.context(vectors, valid), valid)
