"""Generalised pooling: a learned weight for every rank of the sorted values, made from the number of fragments."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from .base import Pool, lengths_to_valid

__all__ = ["GPO"]


class GPO(Pool):
    """Weighted sum of each dimension's values in descending order (Chen et al., VSE-infinity, CVPR 2021, section 3.2).

    A bidirectional GRU over sine codes of the ranks gives one weight a rank; the weights depend on how many fragments
    there are and on nothing else. 12,704 parameters at the published widths.

    Args:
        code: width of the sine codes.
        hidden: width of the GRU, per direction.
        temperature: the scores are divided by it before the softmax over ranks.
    """

    def __init__(self, code: int = 32, hidden: int = 32, *, temperature: float = 0.1) -> None:
        super().__init__()
        self.code, self.temperature = code, temperature
        self.gru = nn.GRU(code, hidden, batch_first=True, bidirectional=True)
        self.linear = nn.Linear(hidden, 1, bias=False)

    def weights(self, lengths: Tensor) -> Tensor:
        """Numbers of fragments (u,), each at least 1 -> weight of each rank (u, longest): sums to 1, 0 at padding."""
        longest = int(lengths.max())
        codes = _rank_codes(longest, self.code, lengths.device).to(self.linear.weight.dtype)
        packed = pack_padded_sequence(
            codes.expand(len(lengths), -1, -1), lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        outputs, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True)
        scores = self.linear(outputs.view(*outputs.shape[:2], 2, -1).mean(dim=-2)).squeeze(-1)
        padding = ~lengths_to_valid(lengths, longest)
        return (scores.float() / self.temperature).masked_fill(padding, -math.inf).softmax(dim=-1)

    def forward(self, vectors: Tensor, valid: Tensor) -> Tensor:
        # Lengths repeat a lot (regions: mostly one, words: a few dozen), so the GRU runs once for each.
        lengths, row = torch.unique(valid.sum(dim=1), return_inverse=True)
        weights = self.weights(lengths)[row]
        # Rank along the last axis: sorting strided memory takes more than twice as long.
        values = vectors.masked_fill(~valid[..., None], -math.inf).transpose(1, 2).contiguous()
        ranked = values.sort(dim=-1, descending=True).values[..., : weights.shape[1]]
        padding = ~lengths_to_valid(lengths[row], weights.shape[1])[:, None, :]
        return torch.einsum("ndf,nf->nd", ranked.masked_fill(padding, 0.0), weights.to(ranked.dtype))


def _rank_codes(longest: int, width: int, device: torch.device) -> Tensor:
    """(longest, width): sines at even, cosines at odd places, wavelengths from 2 pi to 10,000 times that."""
    place = torch.arange(width, device=device)
    angle = torch.arange(longest, device=device)[:, None] / 10000.0 ** ((place // 2 * 2).float() / width)
    return torch.where(place % 2 == 1, angle.cos(), angle.sin())
