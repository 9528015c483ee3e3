"""Words left out, masked or replaced while training: the size augmentation of texts."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ..data.text import Vocabulary
from ..data.wordpiece import CONTINUES
from ..draws import draw
from ..errors import DataError, UnknownName
from .base import lengths_to_valid

__all__ = ["DropManner", "WordDrop"]

DropManner = Literal["mask", "unknown"]


class WordDrop(nn.Module):
    """Changes and shortens texts; acts only while training.

    "mask" (authors' code of VSE-infinity, HREM and DivE): each word is selected with probability p; of the selected
    50 % become the mask word, 10 % a random word (never a special one; any entry of the vocabulary there) and 40 % are
    deleted. Of word-pieces the whole word is selected, each of its pieces is masked or replaced.
    "unknown" (authors' code of PCME): each token becomes the unknown word with probability p, then exactly
    `floor(p * words)` tokens of the text are deleted at random.

    Args:
        vocabulary: its special numbers, words and spelling of word-pieces.
        p: probability.
        manner: "mask" or "unknown".
        marks: the start and end of a text are words like any other (VSE-infinity's BiGRU; "mask" only). Else they stay.

    Attributes:
        views: how many times each text is changed, each time anew: while training h texts come out for every one that
            goes in, one after the other, for a head that knows (`ViewsHead`).

    Raises:
        UnknownName, DataError: another manner, `marks` with "unknown".
    """

    joined: Tensor
    plain: Tensor

    def __init__(self, vocabulary: Vocabulary, p: float, *, manner: DropManner = "mask", marks: bool = False) -> None:
        super().__init__()
        if manner not in get_args(DropManner):
            raise UnknownName("manner of dropping words", manner, get_args(DropManner))
        if marks and manner == "unknown":
            raise DataError('word drop: found marks=True with manner="unknown", expected start and end to stay there')
        self.p, self.manner, self.specials, self.views = p, manner, vocabulary.specials, 1
        fixed = () if marks else (self.specials.start, self.specials.end)
        self.fixed = [number for number in fixed if number is not None]
        joined, plain = torch.zeros(len(vocabulary), dtype=torch.bool), torch.ones(len(vocabulary), dtype=torch.bool)
        if vocabulary.tokenizer.kind == "wordpiece":
            joined[[number for piece, number in vocabulary.numbers.items() if piece.startswith(CONTINUES)]] = True
        plain[self.specials.numbers()] = False
        self.register_buffer("joined", joined, persistent=False)
        self.register_buffer("plain", plain.nonzero()[:, 0], persistent=False)

    def forward(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(n, w), (n,) -> the same shapes, survivors packed to the front; at least one token of a text stays.

        With several views there are so many times as many while training, of the draws too: "word selection" (n, w)
        and, by manner, "word fate" (n, w) uniform and "word replacement" (n, w) numbers, or "word removal" (n, w)
        uniform.

        Raises:
            DataError: "mask" with a vocabulary that has no mask word.
        """
        if self.training and self.views > 1:
            ids, lengths = ids.repeat_interleave(self.views, dim=0), lengths.repeat_interleave(self.views)
        if not self.training or not self.p:
            return ids, lengths
        valid = lengths_to_valid(lengths, ids.shape[1])
        free = valid & ~torch.isin(ids, ids.new_tensor(self.fixed))
        ids, deleted = self._mask(ids, free) if self.manner == "mask" else self._unknown(ids, free)
        kept = valid & ~deleted
        kept[:, 0] |= ~kept.any(dim=1)
        lengths = kept.sum(dim=1)
        ids = ids.gather(1, (~kept).int().argsort(dim=1, stable=True))
        return ids.masked_fill(~lengths_to_valid(lengths, ids.shape[1]), self.specials.pad), lengths

    def _mask(self, ids: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
        """What the tokens become, and which are deleted."""
        if self.specials.mask is None:
            raise DataError(
                "word drop: the vocabulary has no mask word; build one with it, or set the share of dropped words to 0"
            )
        # All pieces of a word read the draws of its first one.
        word = ((~self.joined[ids]).cumsum(dim=1) - 1).clamp(min=0)
        selected = (_uniform("word selection", ids).gather(1, word) < self.p) & free
        fate = _uniform("word fate", ids).gather(1, word)
        ids = torch.where(selected & (fate < 0.5), self.specials.mask, ids)
        anything = draw(
            "word replacement", lambda: self.plain[torch.randint(len(self.plain), ids.shape).to(ids.device)]
        )
        ids = torch.where(selected & (fate >= 0.5) & (fate < 0.6), anything.to(ids.device), ids)
        return ids, selected & (fate >= 0.6)

    def _unknown(self, ids: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
        """What the tokens become, and which are deleted."""
        ids = torch.where((_uniform("word selection", ids) < self.p) & free, self.specials.unknown, ids)
        removed = (free.sum(dim=1, keepdim=True) * self.p + 1e-6).long()
        order = _uniform("word removal", ids).masked_fill(~free, 2.0).argsort(dim=1).argsort(dim=1)
        return ids, free & (order < removed)


def _uniform(name: str, ids: Tensor) -> Tensor:
    """Draws in [0, 1), one a token."""
    return draw(name, lambda: torch.rand(ids.shape, device=ids.device)).to(ids.device)
