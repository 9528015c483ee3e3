"""From fragment-level features to an embedding: one point, or a set by slot attention."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..embeddings import Encoded, Points, Sets
from ..errors import UnknownName
from .base import Head, Locals

__all__ = ["Mode", "PointHead", "SetHead", "SlotAttention", "sine_positions"]

Mode = Literal["paper", "released"]


class PointHead(Head):
    """The global vector, unit length: `Points (n, d)` (VSE++)."""

    def forward(self, local: Locals) -> Encoded:
        return Encoded(Points(functional.normalize(local.pooled, dim=-1)))


def sine_positions(valid: Tensor, width: int, *, mode: Mode = "paper") -> Tensor:
    """Sine code of each position (n, f, width), positions scaled to (0, 2 pi] over the text.

    "paper" scales by the true length, "released" by the padded length, so there a code depends on its batch
    (authors' code of DivE; seed of its second padding dependence).
    """
    place = valid.cumsum(dim=1).float() if mode == "paper" else torch.ones_like(valid).cumsum(dim=1).float()
    place = place / (place[:, -1:] + 1e-6) * 2 * math.pi
    even = torch.arange(width, device=valid.device) // 2 * 2
    angle = place[..., None] / 10000.0 ** (even.float() / width)
    odd = torch.arange(width, device=valid.device) % 2 == 1
    return torch.where(odd, angle.cos(), angle.sin())


class SlotAttention(nn.Module):
    """Aggregation block of DivE (section 3.1), `iterations` times with shared weights.

    Slots compete: the softmax runs over the k slots for every input, and each slot takes the mean of the inputs
    weighted by what it won. No recurrent cell; keys and values are the same in every iteration and computed once.

    Args:
        inputs: width c of the fragments.
        dim: width d of the slots.
        elements: k.
        iterations: times the block is applied.
        heads, head_width: attention heads; 4 of 512 in the paper's code.
        hidden: width of the feed-forward layer.
        dropout: after the attention's output and inside the feed-forward layer.
        positions: add a sine code to the keys (texts whose fragments do not know their place).
        mode: "paper" gives padding no weight; "released" keeps the authors' masking, by which padding takes 1 / k.
    """

    def __init__(
        self,
        inputs: int,
        dim: int,
        *,
        elements: int = 4,
        iterations: int = 4,
        heads: int = 4,
        head_width: int = 512,
        hidden: int = 4096,
        dropout: float = 0.1,
        positions: bool = False,
        mode: Mode = "paper",
    ) -> None:
        super().__init__()
        if mode not in ("paper", "released"):
            raise UnknownName("mode", mode, ("paper", "released"))
        inner = heads * head_width
        self.slots = nn.Parameter(torch.randn(elements, dim))
        self.slot_norm, self.input_norm = nn.LayerNorm(dim), nn.LayerNorm(inputs)
        self.query = nn.Linear(dim, inner, bias=False)
        self.key = nn.Linear(inputs, inner, bias=False)
        self.value = nn.Linear(inputs, inner, bias=False)
        self.out = nn.Sequential(nn.Linear(inner, dim), nn.Dropout(dropout))
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, dim)
        )
        self.last_norm = nn.LayerNorm(dim)
        self.iterations, self.heads, self.positions, self.mode = iterations, heads, positions, mode

    def forward(self, vectors: Tensor, valid: Tensor) -> Tensor:
        """(n, f, c), (n, f) -> slot outputs (n, k, d), layer-normalised."""
        slots, _ = self.attend(vectors, valid)
        return slots

    def attend(self, vectors: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """As `forward`, and the last block's softmax over slots before it is renormalised: (n, heads, k, f)."""
        context = self.input_norm(vectors)
        keyed = context + sine_positions(valid, context.shape[-1], mode=self.mode) if self.positions else context
        keys, values = self._heads(self.key(keyed)), self._heads(self.value(context))
        slots = self.slots.expand(len(vectors), -1, -1)
        shares = keys.new_zeros(())
        for _ in range(self.iterations):
            update, shares = self._read(self._heads(self.query(self.slot_norm(slots))), keys, values, valid)
            slots = slots + self.out(update)
            slots = slots + self.feed_forward(slots)
        return self.last_norm(slots), shares

    def _heads(self, tensor: Tensor) -> Tensor:
        return tensor.view(*tensor.shape[:-1], self.heads, -1).transpose(1, 2)

    def _read(self, queries: Tensor, keys: Tensor, values: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        logits = queries @ keys.transpose(-1, -2) / math.sqrt(queries.shape[-1])
        padding = ~valid[:, None, None, :]
        if self.mode == "released":
            # Equal logits for every slot: the softmax over slots makes padding's share 1 / k, not 0.
            logits = logits.masked_fill(padding, -torch.finfo(logits.dtype).max)
        shares = logits.softmax(dim=2)
        if self.mode == "paper":
            shares = shares.masked_fill(padding, 0.0)
        weights = shares / (shares.sum(dim=-1, keepdim=True) + 1e-7)
        return (weights @ values).transpose(1, 2).flatten(2), shares


class SetHead(Head):
    """DivE's set: `S_i = normalise(LN(global) + slot_i)`, `Sets (n, k, d)`; slot outputs kept as `residual`."""

    def __init__(self, slots: SlotAttention, dim: int) -> None:
        super().__init__()
        self.slots = slots
        self.global_norm = nn.LayerNorm(dim)

    def forward(self, local: Locals) -> Encoded:
        residual = self.slots(local.vectors, local.valid)
        elements = self.global_norm(local.pooled)[:, None, :] + residual
        return Encoded(Sets(functional.normalize(elements, dim=-1)), tensors={"residual": residual})
