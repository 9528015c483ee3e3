"""What text towers over a network of somebody else have in common: its tokeniser, and what learns on its outputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...data.text import Tokens
from ...draws import draw
from ..base import Head, Locals, Pool, TextTower, lengths_to_valid
from ..dropout import Dropout
from ..noise import key_of_ids
from .words import Words

__all__ = ["NetworkTexts"]


class NetworkTexts(TextTower):
    """`Linear(token states)` as fragments, the tokeniser's marks among them.

    The global vector is the pool of the mapped states plus a linear map of what the network itself makes of the text.

    Args:
        words: the network's tokeniser.
        widths: of a token's state and of the network's own vector of a text.
        head: makes the embedding; its fragments are `dim` wide.
        dim: joint width d; None gives states and the network's own vector as they are, and learns nothing.
        pool: of the mapped states.
        dropout: on the mapped states.
        drop: share of the tokens that are left out of the fragments while training.
    """

    def __init__(
        self,
        words: Words,
        widths: tuple[int, int],
        head: Head,
        *,
        dim: int | None,
        pool: Pool | None = None,
        dropout: float = 0.0,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.words, self.head, self.drop, self.dropout = words, head, drop, Dropout(dropout)
        self.linear = None if dim is None else nn.Linear(widths[0], dim)
        self.whole = None if dim is None else nn.Linear(widths[1], dim)
        self.pool = None if dim is None else pool

    def read(self, tokens: Tokens) -> tuple[Tensor, Tensor, Tensor]:
        """What the network gives of n texts: states (n, w, c), which of them are real (n, w), own vectors (n, p)."""
        raise NotImplementedError

    def begin(self, source: str | None) -> str:
        """Nothing: the source named the network, which is there already."""
        return ""

    @property
    def longest(self) -> int:
        return self.words.longest

    def knows(self, text: str) -> bool:
        return self.words.knows(text)

    def cuts(self, text: str) -> bool:
        return self.words.cuts(text)

    def cut(self, text: str) -> list[str]:
        return self.words.cut(text)

    def tokens(self, texts: list[str]) -> Tokens:
        return self.words.tokens(texts)

    def local(self, tokens: Tokens) -> Locals:
        states, valid, own = self.read(tokens)
        key = self._key(tokens, own.device) if self.head.keyed and not self.training else None
        if self.linear is None or self.whole is None:
            return Locals(states, valid, own, key=key)
        if self.training and self.drop:
            kept = valid & (draw("token drop", lambda: torch.rand(valid.shape, device=valid.device)) > self.drop)
            valid = torch.where(kept.any(dim=1, keepdim=True), kept, valid)
        vectors = self.dropout(self.linear(states))
        # Of one scale, whatever length the network gives its vector.
        pooled = self.whole(functional.layer_norm(own, own.shape[-1:]))
        return Locals(vectors, valid, pooled if self.pool is None else pooled + self.pool(vectors, valid), key=key)

    def _key(self, tokens: Tokens, device: torch.device) -> Tensor:
        ids, lengths = torch.as_tensor(tokens.ids, device=device), torch.as_tensor(tokens.lengths, device=device)
        return key_of_ids(ids, lengths_to_valid(lengths, ids.shape[1]))
