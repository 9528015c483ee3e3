"""Text towers over a recurrent network: words, a GRU in one or two directions, a global vector."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from ..data.text import Tokens
from ..errors import DataError, UnknownName
from .base import Head, Locals, Pool, TextTower, lengths_to_valid
from .dropout import Dropout
from .gru import GRU
from .noise import key_of_ids
from .pooling import LastPool, MaxMeanPool
from .text_input import TextInput, read_at
from .word_drop import DropManner, WordDrop
from .word_vectors import start_vectors

__all__ = ["BiGRUTower", "TextInput", "read_at"]

Merge = Literal["average", "concatenate"]
_POOLS: dict[str, type[Pool] | None] = {"final": None, "last_step": LastPool, "max_mean": MaxMeanPool}


class BiGRUTower(TextTower):
    """Word table, one-layer GRU, global vector, head.

    The published systems: VSE-infinity is a Pool over averaged directions; DivE "final" and "words"; PVSE "final",
    "concatenate" and "words" (its older published weights "last_step"); PCME as PVSE with "last_step" and
    `second_gru`; VSE++ "last_step" with one direction.

    Args:
        inputs: the vocabulary.
        head: makes the embedding.
        dim: joint width d. The GRU's width per direction is d, or d / 2 for two concatenated directions.
        word_dim: width of the word table.
        fragments: what the head sees, the word table's rows ("words") or the GRU's outputs ("states").
        pooling: the global vector: "final" (each direction's state after its whole text), "last_step" (the output at
            the last word, where the backward direction has read that word alone), "max_mean" or a Pool of the outputs.
        merge: how two directions become one vector.
        directions: 2, or 1 from left to right.
        second_gru: a second GRU of the same form whose global vector is `Locals.spread` (PCME's uncertainty path).
        dropout: on words, outputs and global vectors.
        drop: share of words masked, replaced or deleted while training, as `WordDrop`.
        drop_manner, drop_marks: of `WordDrop`.

    Raises:
        UnknownName, DataError: a setting that is none of these; an odd `dim` for concatenated directions.
    """

    def __init__(
        self,
        inputs: TextInput,
        head: Head,
        *,
        dim: int,
        word_dim: int = 300,
        fragments: Literal["words", "states"] = "states",
        pooling: Literal["final", "last_step", "max_mean"] | Pool = "max_mean",
        merge: Merge = "average",
        directions: Literal[1, 2] = 2,
        second_gru: bool = False,
        dropout: float = 0.1,
        drop: float = 0.2,
        drop_manner: DropManner = "mask",
        drop_marks: bool = False,
    ) -> None:
        super().__init__()
        _check(dim, fragments, pooling, merge, directions)
        self.vocabulary, self.head, self.fragments, self.merge = inputs.vocabulary, head, fragments, merge
        self.drop = WordDrop(inputs.vocabulary, drop, manner=drop_manner, marks=drop_marks)
        self.words = nn.Embedding(len(inputs.vocabulary), word_dim)
        nn.init.uniform_(self.words.weight, -0.1, 0.1)
        width = dim // 2 if directions == 2 and merge == "concatenate" else dim

        self.gru = GRU(word_dim, width, directions=directions)
        self.second_gru = GRU(word_dim, width, directions=directions) if second_gru else None
        made = _POOLS[pooling] if isinstance(pooling, str) else None
        self.pool = pooling if isinstance(pooling, Pool) else None if made is None else made()
        self.dropout = Dropout(dropout)

    def begin(self, source: str | None) -> str:
        """Start the word table from a file of word vectors (`--text-tower bigru:FILE`), see `start_vectors`.

        Raises:
            DataError: the file cannot be read or is of another width.
        """
        if source is None:
            return ""
        words = [""] * len(self.vocabulary)
        for word, number in self.vocabulary.numbers.items():
            words[number] = word
        rows, found = start_vectors(Path(source), words)
        if rows.shape[1] != self.words.embedding_dim:
            raise DataError(
                f"{source}: vectors of width {rows.shape[1]}, but the word table's is {self.words.embedding_dim}; "
                f"--set word_dim={rows.shape[1]}"
            )
        with torch.no_grad():
            self.words.weight.copy_(rows)
        known = len(self.vocabulary.words)
        return f"{int(found.sum()):,} of {known:,} words begin from {source}, the others from random vectors"

    def tokens(self, texts: list[str]) -> Tokens:
        return self.vocabulary.encode(texts)

    def local(self, tokens: Tokens) -> Locals:
        device = self.words.weight.device
        ids, lengths = torch.as_tensor(tokens.ids, device=device), torch.as_tensor(tokens.lengths, device=device)
        ids, lengths = self.drop(ids, lengths)
        longest = int(lengths.max())
        ids, valid = ids[:, :longest], lengths_to_valid(lengths, longest)
        words = self.dropout(self.words(ids))
        states, pooled = self._read(self.gru, words, valid)
        spread = None if self.second_gru is None else self._read(self.second_gru, words, valid)[1]
        key = key_of_ids(ids, valid) if self.head.keyed and not self.training else None
        return Locals(words if self.fragments == "words" else states, valid, pooled, spread, key)

    def _read(self, gru: GRU, words: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """(n, w, word_dim), (n, w) -> outputs (n, w, d) and the global vector (n, d)."""
        states, final = gru.read(words, valid.sum(dim=1))
        outputs = self.dropout(self._merged(states))
        return outputs, self.dropout(self._merged(final.unbind())) if self.pool is None else self.pool(outputs, valid)

    def _merged(self, states: tuple[Tensor, ...]) -> Tensor:
        """(..., width) of each direction -> (..., d)."""
        return torch.cat(states, dim=-1) if self.merge == "concatenate" else sum(states[1:], states[0]) / len(states)


def _check(dim: int, fragments: str, pooling: str | Pool, merge: str, directions: int) -> None:
    named: tuple[tuple[str, str, tuple[str, ...]], ...] = (
        ("text fragments", fragments, ("words", "states")),
        ("text pooling", pooling if isinstance(pooling, str) else "final", tuple(_POOLS)),
        ("merge of directions", merge, ("average", "concatenate")),
    )
    for kind, value, known in named:
        if value not in known:
            raise UnknownName(kind, value, known)
    if directions not in (1, 2):
        raise DataError(f"directions {directions}, expected 1 or 2")
    if directions == 2 and merge == "concatenate" and dim % 2:
        raise DataError(f"dim {dim}: two concatenated directions are dim / 2 wide each, expected an even number")
