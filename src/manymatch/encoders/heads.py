"""From fragment-level features to an embedding: one point, or a set by slot attention."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..choices import Mode, check_mode
from ..embeddings import Encoded, Fragments, Points, Sets
from ..errors import DataError, UnknownName
from .base import Head, Locals
from .dropout import Dropout

__all__ = ["PointHead", "SetHead", "SlotAttention", "grid_positions", "sine_positions"]

Positions = Literal["none", "sequence", "grid"]
Over = Literal["slots", "inputs"]


class PointHead(Head):
    """The global vector, unit length: `Points (n, d)` (VSE++); as it came it is kept as `raw`.

    Fragments are kept where they are as wide as the global vector, which is what relations over fragments need (HREM).

    Args:
        order: "above" takes absolute values last, "below" negates them too: where images and captions of an order
            embedding lie (VSE++; see the similarity `order`).
    """

    def __init__(self, *, order: Literal["above", "below"] | None = None) -> None:
        super().__init__()
        self.order = order

    def forward(self, local: Locals) -> Encoded:
        vectors = functional.normalize(local.pooled, dim=-1)
        if self.order is not None:
            vectors = vectors.abs() if self.order == "above" else -vectors.abs()
        alike = local.vectors.shape[-1] == local.pooled.shape[-1]
        return Encoded(
            Points(vectors),
            fragments=Fragments(local.vectors, local.valid, local.pooled) if alike else None,
            tensors={"raw": local.pooled},
        )


def sine_positions(valid: Tensor, width: int, *, mode: Mode = "paper") -> Tensor:
    """Sine code of each position (n, f, width), positions scaled to (0, 2 pi] over the text.

    "paper" scales by the true length, "released" by the padded length, so there a code depends on its batch
    (authors' code of DivE: the second way its padding counts).
    """
    place = valid.cumsum(dim=1).float() if mode == "paper" else torch.ones_like(valid).cumsum(dim=1).float()
    return _sine_code(place, width)


def grid_positions(rows: int, columns: int, width: int, device: torch.device | None = None) -> Tensor:
    """Sine code of each cell of a grid (rows * columns, width), row by row: half for its row, half for its column.

    Each half scales its positions to (0, 2 pi] over the grid (authors' code of DivE). An odd width gives the row one
    number less.
    """
    down = _sine_code(torch.arange(1, rows + 1, device=device).float(), width // 2)
    along = _sine_code(torch.arange(1, columns + 1, device=device).float(), width - width // 2)
    down, along = down[:, None].expand(-1, columns, -1), along[None].expand(rows, -1, -1)
    return torch.cat([down, along], dim=-1).flatten(0, 1)


def _sine_code(place: Tensor, width: int) -> Tensor:
    """(..., f) rising from 1 -> (..., f, width): sines at even, cosines at odd numbers."""
    place = place / (place[..., -1:] + 1e-6) * 2 * math.pi
    number = torch.arange(width, device=place.device)
    angle = place[..., None] / 10000.0 ** ((number // 2 * 2).float() / width)
    return torch.where(number % 2 == 1, angle.cos(), angle.sin())


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
        positions: sine code added to the keys of fragments that do not know their place: of a "sequence" (words), of a
            square "grid" (cells, row by row), or "none".
        over: what the softmax runs over: the "slots", or the "inputs" as in a Transformer decoder (the paper's
            ablation, in which slots do not compete and padding has no weight in either mode).
        mode: "paper" gives padding no weight; "released" keeps the authors' masking, by which padding takes 1 / k.

    Raises:
        UnknownName: another name for positions, over or mode.
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
        positions: Positions = "none",
        over: Over = "slots",
        mode: Mode = "paper",
    ) -> None:
        super().__init__()
        check_mode(mode)
        if positions not in get_args(Positions):
            raise UnknownName("positions", str(positions), get_args(Positions))
        if over not in get_args(Over):
            raise UnknownName("softmax over", over, get_args(Over))
        inner = heads * head_width
        self.slots = nn.Parameter(torch.randn(elements, dim))
        self.slot_norm, self.input_norm = nn.LayerNorm(dim), nn.LayerNorm(inputs)
        self.query = nn.Linear(dim, inner, bias=False)
        self.key = nn.Linear(inputs, inner, bias=False)
        self.value = nn.Linear(inputs, inner, bias=False)
        self.out = nn.Sequential(nn.Linear(inner, dim), Dropout(dropout))
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, hidden), nn.GELU(), Dropout(dropout), nn.Linear(hidden, dim)
        )
        self.last_norm = nn.LayerNorm(dim)
        self.iterations, self.heads = iterations, heads
        self.positions, self.over, self.mode = positions, over, mode

    def forward(self, vectors: Tensor, valid: Tensor) -> Tensor:
        """(n, f, c), (n, f) -> slot outputs (n, k, d), layer-normalised."""
        slots, _ = self.attend(vectors, valid)
        return slots

    def attend(self, vectors: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """As `forward`, and the last block's softmax before it is renormalised: (n, heads, k, f)."""
        key, value = self._read_inputs(vectors, valid)
        # Laid out once as the products want them, not anew in every iteration and kept each time for the way back.
        keys = self._heads(key).transpose(-1, -2).contiguous()
        values = self._heads(value).contiguous()
        slots = self.slots.expand(len(vectors), -1, -1)
        shares = keys.new_zeros(())
        for _ in range(self.iterations):
            update, shares = self._read(self._heads(self.query(self.slot_norm(slots))), keys, values, valid)
            slots = slots + self.out(update)
            slots = slots + self.feed_forward(slots)
        return self.last_norm(slots), shares

    def _read_inputs(self, vectors: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (n, f, heads * head_width); while learning zero at padding where nothing reads that."""
        unread = self.over == "inputs" or self.mode == "paper"
        if not (unread and vectors.is_cpu and torch.is_grad_enabled()) or self.positions == "grid" or bool(valid.all()):
            context = self.input_norm(vectors)
            return self.key(self._placed(context, valid)), self.value(context)
        real = valid.flatten().nonzero()[:, 0]
        context = self.input_norm(vectors.flatten(0, 1).index_select(0, real))
        placed = context
        if self.positions == "sequence":
            placed = context + sine_positions(valid, context.shape[-1], mode=self.mode).flatten(0, 1)[real]
        key, value = (
            rows.new_zeros(valid.numel(), rows.shape[1]).index_copy(0, real, rows).view(*valid.shape, -1)
            for rows in (self.key(placed), self.value(context))
        )
        return key, value

    def shares(self, vectors: Tensor, valid: Tensor) -> Tensor:
        """What each slot reads of each input in the last block, attention heads averaged: (n, k, f), rows sum to 1.

        Each head weighs values of its own by its shares brought to a sum of 1 over the inputs, so they are averaged
        after that. Padding, which takes part in "released", is left out. A slot that won nothing reads all alike.
        """
        _, won = self.attend(vectors, valid)
        real = valid[:, None, None, :]
        won = won.float().masked_fill(~real, 0.0)
        total = won.sum(dim=-1, keepdim=True)
        return torch.where(total > 0, won / total, real / real.sum(dim=-1, keepdim=True)).mean(dim=1)

    def _placed(self, context: Tensor, valid: Tensor) -> Tensor:
        width = context.shape[-1]
        if self.positions == "sequence":
            return context + sine_positions(valid, width, mode=self.mode)
        if self.positions == "grid":
            side = math.isqrt(context.shape[1])
            if side * side != context.shape[1]:
                raise DataError(f"slots: {context.shape[1]} fragments are no square grid; expected side x side cells")
            return context + grid_positions(side, side, width, context.device)
        return context

    def _heads(self, tensor: Tensor) -> Tensor:
        return tensor.view(*tensor.shape[:-1], self.heads, -1).transpose(1, 2)

    def _read(self, queries: Tensor, keys: Tensor, values: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        logits = queries @ keys / math.sqrt(queries.shape[-1])
        padding = ~valid[:, None, None, :]
        if self.over == "inputs":
            shares = logits.masked_fill(padding, -math.inf).softmax(dim=-1)
            return (shares @ values).transpose(1, 2).flatten(2), shares
        if self.mode == "released":
            # Equal logits for every slot: the softmax over slots makes padding's share 1 / k, not 0.
            logits = logits.masked_fill(padding, -torch.finfo(logits.dtype).max)
        shares = logits.softmax(dim=2)
        if self.mode == "paper":
            shares = shares.masked_fill(padding, 0.0)
        weights = shares / (shares.sum(dim=-1, keepdim=True) + 1e-7)
        return (weights @ values).transpose(1, 2).flatten(2), shares


class SetHead(Head):
    """DivE's set: `S_i = normalise(LN(global) + slot_i)`, `Sets (n, k, d)`.

    Slot outputs are kept as `residual`, LN(global) as `global`.
    """

    def __init__(self, slots: SlotAttention, dim: int) -> None:
        super().__init__()
        self.slots = slots
        self.global_norm = nn.LayerNorm(dim)

    def forward(self, local: Locals) -> Encoded:
        residual = self.slots(local.vectors, local.valid)
        whole = self.global_norm(local.pooled)
        elements = functional.normalize(whole[:, None, :] + residual, dim=-1)
        return Encoded(Sets(elements), tensors={"residual": residual, "global": whole})

    def attend(self, local: Locals) -> Tensor:
        return self.slots.shares(local.vectors, local.valid)
