"""A GRU whose training step costs little on a CPU: every product that can is one product over all steps.

torch's own on a CPU leaves autograd to go back step by step: each step casts its inputs, multiplies out the gradient of
every weight and adds it to the sum, and the padded outputs are copied whole once a step. Here only the recurrent
product and the gates go step by step, there and back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

__all__ = ["GRU"]


class GRU(nn.GRU):
    """`nn.GRU` of one layer with its parameters and start, that reads padded texts.

    Args:
        inputs: width of what it reads.
        width: of a state, per direction.
        directions: 2, or 1 from left to right.
    """

    def __init__(self, inputs: int, width: int, *, directions: int = 2) -> None:
        super().__init__(inputs, width, batch_first=True, bidirectional=directions == 2)

    def read(self, words: Tensor, lengths: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Read each text to its length.

        On a CPU with gradients it is the quick way, equal but for rounding; else torch's own.

        Args:
            words: (n, w, inputs).
            lengths: (n,), from 1 to w, at least one of them w.

        Returns:
            The outputs of each direction (n, w, width), zero past a text's end, and each direction's state after the
            whole text (directions, n, width).
        """
        if not self._quick(words):
            packed = pack_padded_sequence(words, lengths.cpu(), batch_first=True, enforce_sorted=False)
            states, final = self(packed)
            outputs, _ = pad_packed_sequence(states, batch_first=True)
            return torch.split(outputs, self.hidden_size, dim=-1), final
        cast = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else words.dtype
        weights = (getattr(self, name) for name in self._names())
        *outputs, final = _Read.apply(words, _Steps.of(lengths, words.shape[1]), cast, *weights)  # type: ignore[no-untyped-call]
        return tuple(outputs), final

    def _quick(self, words: Tensor) -> bool:
        held = self.weight_ih_l0
        kinds = (torch.float32, torch.float64)
        return words.is_cpu and torch.is_grad_enabled() and words.dtype in kinds and held.dtype == words.dtype

    def _names(self) -> Iterator[str]:
        for end in ("", "_reverse")[: 1 + self.bidirectional]:
            for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                yield f"{part}_l0{end}"


@dataclass(frozen=True)
class _Steps:
    """The words of all texts (m), step after step, in each step the longest text first.

    Attributes:
        rows: (n,) texts, longest first.
        counts: texts that have a word at each of the w steps.
        place: (m,) where each word lies among the padded n * w.
    """

    rows: Tensor
    counts: list[int]
    place: Tensor

    @classmethod
    def of(cls, lengths: Tensor, longest: int) -> _Steps:
        sorted_lengths, rows = lengths.sort(descending=True, stable=True)
        there = torch.arange(longest)[:, None] < sorted_lengths
        step, rank = there.nonzero(as_tuple=True)
        return cls(rows, there.sum(dim=1).tolist(), rows[rank] * longest + step)

    def walk(self, *, backwards: bool) -> list[tuple[slice, int]]:
        """Each step in reading order: its words among all, and how many of its texts had one before it."""
        steps, start = [], 0
        for t, count in enumerate(self.counts):
            before = self.counts[t + 1 : t + 2] if backwards else [count] * (t > 0)
            steps.append((slice(start, start + count), sum(before)))
            start += count
        return steps[::-1] if backwards else steps


class _Read(torch.autograd.Function):
    """(words, steps, dtype of products, 4 weights a direction) to the outputs of each direction and the final states.

    Gates are kept in the order new, reset, update, so that their gradients and that of the new gate's recurrent part
    are one matrix (m, 4 width) whose first three columns go to the inputs and whose last three go to the states.
    """

    @staticmethod
    def forward(ctx: Any, words: Tensor, steps: _Steps, cast: torch.dtype, *weights: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast("cpu", enabled=False):
            inputs = words.flatten(0, 1)[steps.place].to(cast)
            outputs: list[Tensor] = []
            finals: list[Tensor] = []
            kept: list[Tensor] = []
            for n, part in enumerate(_directions(weights)):
                states, final, saved = _there(inputs, steps, n == 1, part)
                outputs.append(_scatter(states, steps.place, words.shape[:2]))
                finals.append(torch.empty_like(final).index_copy_(0, steps.rows, final))
                kept += saved
        ctx.steps, ctx.cast = steps, cast
        ctx.save_for_backward(words, *weights, inputs, *kept)
        return *outputs, torch.stack(finals)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        words, *rest = ctx.saved_tensors
        size = 4 * (len(gradients) - 1)
        weights, inputs, kept = rest[:size], rest[size], rest[size + 1 :]
        if torch.is_grad_enabled():
            return _by_torch(ctx, words, weights, gradients)
        steps, back, to_inputs = ctx.steps, [], None
        with torch.autocast("cpu", enabled=False):
            for n, part in enumerate(_directions(weights)):
                states = gradients[n].flatten(0, 1)[steps.place]
                final = gradients[-1][n][steps.rows]
                gates = _back(states, final, steps, n == 1, part, kept[4 * n : 4 * n + 4], ctx.cast)
                back += _of_weights(gates, inputs, kept[4 * n + 3], part, 0 if n else steps.counts[0])
                if ctx.needs_input_grad[0]:
                    mine = (gates[:, : -final.shape[1]] @ _rolled(part[0]).to(ctx.cast)).to(words.dtype)
                    to_inputs = mine if to_inputs is None else to_inputs.add_(mine)
        of_words = None if to_inputs is None else _scatter(to_inputs, steps.place, words.shape[:2])
        return of_words, None, None, *back


def _directions(weights: Any) -> list[Any]:
    return [weights[n : n + 4] for n in range(0, len(weights), 4)]


def _rolled(rows: Tensor) -> Tensor:
    """The gates' thirds in the order new, reset, update, where torch has reset, update, new."""
    return rows.roll(len(rows) // 3, 0)


def _scatter(rows: Tensor, place: Tensor, shape: torch.Size) -> Tensor:
    """(m, d) to (n, w, d), zero where nothing comes."""
    return rows.new_zeros(shape.numel(), rows.shape[1]).index_copy_(0, place, rows).view(*shape, -1)


def _there(
    inputs: Tensor, steps: _Steps, backwards: bool, weights: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """States (m, width), final states (n, width) longest first, and what the way back needs, each of m rows.

    That is: gates; the new gate's recurrent part; previous state less new gate; previous state, in the products' type.
    """
    of_inputs, of_states, bias, state_bias = weights
    width, cast = of_states.shape[1], inputs.dtype
    bias = bias + torch.cat([state_bias[: 2 * width], torch.zeros_like(state_bias[2 * width :])])
    gates = torch.addmm(_rolled(bias).to(cast), inputs, _rolled(of_inputs).to(cast).T).to(bias.dtype)
    across = of_states.to(cast).T
    parts = state_bias[2 * width :].repeat(len(inputs), 1)
    states, moved, previous = torch.empty_like(parts), torch.empty_like(parts), torch.zeros_like(parts, dtype=cast)
    state = parts.new_zeros(len(steps.rows), width)
    for at, before in steps.walk(backwards=backwards):
        gate, part, old = gates[at], parts[at], state[: at.stop - at.start]
        if before:
            previous[at][:before] = old[:before]
            product = previous[at][:before] @ across
            gate[:before, width:] += product[:, : 2 * width]
            part[:before] += product[:, 2 * width :]
        new, update = gate[:, :width], gate[:, 2 * width :]
        gate[:, width:].sigmoid_()
        new.addcmul_(gate[:, width : 2 * width], part).tanh_()
        torch.sub(old, new, out=moved[at])
        torch.addcmul(new, update, moved[at], out=old)
        states[at] = old
    return states, state, (gates, parts, moved, previous)


def _back(
    states: Tensor,
    final: Tensor,
    steps: _Steps,
    backwards: bool,
    weights: tuple[Tensor, ...],
    kept: tuple[Tensor, ...],
    cast: torch.dtype,
) -> Tensor:
    """Gradient of the gates (m, 4 width) from that of the states (m, width) and of the final ones, longest first."""
    gates, parts, moved, _ = kept
    across, width = weights[1].to(cast), final.shape[1]
    found, state = states.new_empty(len(states), 4 * width, dtype=cast), final
    for at, before in reversed(steps.walk(backwards=backwards)):
        count = at.stop - at.start
        grad = state[:count].add_(states[at])
        new, reset, update = torch.split(gates[at], width, dim=1)
        piece = found[at] if cast == states.dtype else states.new_empty(count, 4 * width)
        to_new, to_reset, to_update, to_part = torch.split(piece, width, dim=1)
        torch.ops.aten.sigmoid_backward(grad * moved[at], update, grad_input=to_update)
        through = grad * update
        torch.ops.aten.tanh_backward(grad.sub_(through), new, grad_input=to_new)
        torch.ops.aten.sigmoid_backward(to_new * parts[at], reset, grad_input=to_reset)
        torch.mul(to_new, reset, out=to_part)
        if piece.dtype != cast:
            found[at] = piece
        if before:
            torch.add(through[:before], found[at][:before, width:] @ across, out=state[:before])
    return found


def _of_weights(
    gates: Tensor, inputs: Tensor, previous: Tensor, weights: tuple[Tensor, ...], first: int
) -> list[Tensor]:
    """Gradients of a direction's four weights; the first rows had no state before them."""
    width, dtype = previous.shape[1], weights[0].dtype
    of_inputs, of_states = gates[:, : 3 * width].T @ inputs, gates[first:, width:].T @ previous[first:]
    biases = gates.sum(dim=0, dtype=dtype)
    in_order = [rows.to(dtype).roll(-width, 0) for rows in (of_inputs, biases[: 3 * width])]
    return [in_order[0], of_states.to(dtype), in_order[1], biases[width:]]


def _by_torch(
    ctx: Any, words: Tensor, weights: list[Tensor], gradients: tuple[Tensor, ...]
) -> tuple[Tensor | None, ...]:
    """The same gradients as a graph that can itself be differentiated."""
    steps, width = ctx.steps, weights[1].shape[1]
    with torch.autocast("cpu", ctx.cast, enabled=ctx.cast != words.dtype):
        start = words.new_zeros(len(weights) // 4, len(steps.rows), width)
        packed, counts = words.flatten(0, 1)[steps.place], torch.tensor(steps.counts)
        states, final = torch.gru(packed, counts, start, weights, True, 1, 0.0, True, len(weights) == 8)
    outputs = [*torch.split(states, width, dim=1), final]
    upon = [gradient.flatten(0, 1)[steps.place] for gradient in gradients[:-1]]
    needed = [tensor for tensor in (words, *weights) if tensor.requires_grad]
    found = iter(torch.autograd.grad(outputs, needed, [*upon, gradients[-1][:, steps.rows]], create_graph=True))
    mine = [next(found) if tensor.requires_grad else None for tensor in (words, *weights)]
    return mine[0], None, None, *mine[1:]
