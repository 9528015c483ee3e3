"""Text towers: words and a bidirectional GRU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ..data.text import MASK, PAD, Tokens, Vocabulary
from ..embeddings import Encoded
from ..errors import UnknownName
from .base import Head, Locals, TextTower, lengths_to_valid
from .pooling import max_mean_pool

__all__ = ["BiGRUTower", "TextInput", "drop_words", "read_at"]


@dataclass(frozen=True)
class TextInput:
    """What a text tower will be given: written into the run, enough to build the tower again.

    Attributes:
        tower: "bigru" or "bag".
        vocabulary: words (and for "bag" pairs of words) of the training captions.
    """

    tower: str
    vocabulary: Vocabulary

    def to_json(self) -> dict[str, Any]:
        return {"tower": self.tower, "vocabulary": self.vocabulary.to_json()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> TextInput:
        return cls(value["tower"], Vocabulary.from_json(value["vocabulary"]))


def read_at(captions: list[str], tower: str | None, *, least: int) -> TextInput:
    """The vocabulary of the training captions for a text tower. Raises UnknownName."""
    chosen = tower or "bigru"
    if chosen != "bigru":
        raise UnknownName("text tower", chosen, ("bigru",))
    return TextInput("bigru", Vocabulary.build(captions, least=least))


def drop_words(ids: Tensor, lengths: Tensor, p: float, vocabulary: int) -> tuple[Tensor, Tensor]:
    """Size augmentation of texts while training (authors' code of VSE-infinity and DivE).

    Each word is selected with probability p; of the selected, 50 % become the mask word, 10 % a random word and 40 %
    are deleted. A text keeps at least one word. (n, w), (n,) -> the same shapes, survivors packed to the front.
    """
    valid = lengths_to_valid(lengths, ids.shape[1])
    selected = (torch.rand(ids.shape, device=ids.device) < p) & valid
    fate = torch.rand(ids.shape, device=ids.device)
    ids = torch.where(selected & (fate < 0.5), MASK, ids)
    anything = torch.randint(MASK + 1, max(vocabulary, MASK + 2), ids.shape, device=ids.device)
    ids = torch.where(selected & (fate >= 0.5) & (fate < 0.6), anything, ids)
    kept = valid & ~(selected & (fate >= 0.6))
    kept[:, 0] |= ~kept.any(dim=1)
    order = (~kept).int().argsort(dim=1, stable=True)
    lengths = kept.sum(dim=1)
    return ids.gather(1, order).masked_fill(~lengths_to_valid(lengths, ids.shape[1]), PAD), lengths


class BiGRUTower(TextTower):
    """Word table, one-layer bidirectional GRU with averaged directions, head.

    Args:
        inputs: the vocabulary.
        head: makes the embedding.
        dim: joint width d = GRU width per direction.
        word_dim: width of the word table.
        fragments: "words" (DivE: the word table's rows) or "states" (the GRU's outputs).
        pooling: "last" (DivE: mean of the two final states) or "max_mean" over the outputs.
        dropout: on words and outputs.
        drop: probability with which a word is masked, replaced or deleted while training.
    """

    def __init__(
        self,
        inputs: TextInput,
        head: Head,
        *,
        dim: int,
        word_dim: int = 300,
        fragments: Literal["words", "states"] = "states",
        pooling: Literal["last", "max_mean"] = "max_mean",
        dropout: float = 0.1,
        drop: float = 0.2,
    ) -> None:
        super().__init__()
        for kind, value, known in (
            ("text fragments", fragments, ("words", "states")),
            ("text pooling", pooling, ("last", "max_mean")),
        ):
            if value not in known:
                raise UnknownName(kind, value, known)
        self.vocabulary, self.head, self.drop = inputs.vocabulary, head, drop
        self.fragments, self.pooling = fragments, pooling
        self.words = nn.Embedding(len(inputs.vocabulary), word_dim)
        nn.init.uniform_(self.words.weight, -0.1, 0.1)
        self.gru = nn.GRU(word_dim, dim, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(dropout)

    def tokens(self, texts: list[str]) -> Tokens:
        return self.vocabulary.encode(texts)

    def forward(self, tokens: Tokens) -> Encoded:
        device = self.words.weight.device
        ids, lengths = torch.as_tensor(tokens.ids, device=device), torch.as_tensor(tokens.lengths, device=device)
        if self.training and self.drop:
            ids, lengths = drop_words(ids, lengths, self.drop, len(self.vocabulary))
        longest = int(lengths.max())
        valid = lengths_to_valid(lengths, longest)
        words = self.dropout(self.words(ids[:, :longest]))
        packed = pack_padded_sequence(words, lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, final = self.gru(packed)
        outputs, _ = pad_packed_sequence(states, batch_first=True)
        outputs = self.dropout(outputs.view(*outputs.shape[:-1], 2, -1).mean(dim=-2))
        pooled = self.dropout(final.mean(dim=0)) if self.pooling == "last" else max_mean_pool(outputs, valid)
        return self.head(Locals(words if self.fragments == "words" else outputs, valid, pooled))
