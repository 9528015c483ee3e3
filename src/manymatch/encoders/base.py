"""What passes through a tower: fragment-level features on the way to an embedding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..data.features import Features, Pixels
from ..data.pairs import Images, Pairs
from ..data.text import Tokens, Vocabulary
from ..embeddings import Encoded
from ..errors import DataError
from .images import backbone_of

if TYPE_CHECKING:
    from PIL import Image

    from ..data.store import Where
    from .linear_start import LinearStart

__all__ = ["Head", "ImageTower", "Locals", "Pool", "TextTower", "lengths_to_valid"]


@dataclass(frozen=True)
class Locals:
    """Inside a tower: `vectors (n, f, c)`, `valid (n, f)` bool, True is real, and one global vector `pooled (n, d)`.

    c and d may differ (DivE's words are 300 wide, its global vector 1,024).

    Attributes:
        spread: a second global vector (n, d) made by weights of its own, where a tower gives its uncertainty head one
            (PCME: a second linear map of the mean cell, a second GRU).
        key: (n,) int64 made from each item's input alone, whatever its batch and padding; a head that draws derives its
            noise from it, so that a search repeats.
    """

    vectors: Tensor
    valid: Tensor
    pooled: Tensor
    spread: Tensor | None = None
    key: Tensor | None = None


class Pool(nn.Module):
    """Many vectors to one: `(n, f, d), (n, f) -> (n, d)`. Padding never counts."""

    def forward(self, vectors: Tensor, valid: Tensor) -> Tensor:
        raise NotImplementedError


def lengths_to_valid(lengths: Tensor, longest: int) -> Tensor:
    """(n,) counts to (n, longest) bool."""
    return torch.arange(longest, device=lengths.device)[None, :] < lengths[:, None]


class Head(nn.Module):
    """Turns fragment-level features into an embedding.

    Attributes:
        keyed: whether it reads `Locals.key` when it is not training.
        blind: why `attend` gives None, in one line.
    """

    keyed: bool = False
    blind: str = "its head takes one vector of the whole item and attends to no fragment"

    def forward(self, local: Locals) -> Encoded:
        raise NotImplementedError

    def attend(self, local: Locals) -> Tensor | None:
        """How much of what an element reads comes from each fragment.

        Returns:
            (n, k, f), of every element shares from 0 to 1 that sum to 1, 0 at padding, which depend on the batch no
            more than the embedding does; None where the head weighs no whole fragments. A set's k is its number of
            elements, any other head's is 1.
        """
        return None


class ImageTower(nn.Module):
    """Images to embeddings.

    Attributes:
        reads: "features" (precomputed) or "pixels".
        head: what makes the embedding.
        start: a linear solution that it begins at, beside the head; None where it begins from random weights.
    """

    reads: str
    head: Head

    def __init__(self) -> None:
        super().__init__()
        self.start: LinearStart | None = None

    def begin(self, source: str | None) -> str:
        """Start from weights in a file (`--image-tower NAME:FILE`), for towers that can; what a user should know."""
        if source is not None:
            raise DataError(f"image tower: {type(self).__name__} starts from no file, found {source!r}; leave it out")
        return ""

    def takes(self, images: Images) -> bool:
        """Whether it reads the features of these images; otherwise it looks at their pictures.

        What a pretrained network gave is for the towers on that network alone (`Backed`).
        """
        return self.reads == "features" and backbone_of(images.features) is None

    def supply(self, pairs: Pairs, store: Where = None, say: Callable[[str], None] | None = None) -> Pairs:
        """The pairs with what a frozen backbone sees in their pictures, for towers that have one; see `Backed`."""
        return pairs

    def rates(self) -> Mapping[str, float]:
        """Start of a parameter's name in the tower -> factor on the learning rate, where layers learn at rates of their
        own; the longest start that fits counts, the recipe's own among them."""
        return {}

    def borrowed(self, name: str) -> bool:
        """Whether a weight of its state is read from a folder of its own each time, and is no part of a run."""
        return False

    def fit_input(self, images: Images) -> None:
        """Statistics of the training images, for towers that keep some."""

    def prepare(self, pictures: Iterable[Image.Image]) -> Pixels:
        """Pictures as this tower reads them, for towers that read pixels."""
        raise DataError(
            "this run reads precomputed features and has no backbone to look at a picture; "
            "give Features, or search with like=ID"
        )

    def grid(self, height: int, width: int) -> tuple[int, int] | None:
        """Rows and columns of the cells, row by row, that pixels of this size become; None where they are no grid."""
        return None

    def seen(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of what `prepare` keeps of a picture of this size, in shares of its sides."""
        return 0.0, 0.0, 1.0, 1.0

    def local(self, images: Features | Pixels) -> Locals:
        """What the head is given of n images."""
        raise NotImplementedError

    def forward(self, images: Features | Pixels) -> Encoded:
        if self.start is None:
            return self.head(self.local(images))
        # First: of features that are for one step, `local` may leave nothing.
        whole = self.start.whole(images)
        moved: Encoded = self.start(self.head(self.local(images)), whole)
        return moved


class TextTower(nn.Module):
    """Texts to embeddings.

    Attributes:
        vocabulary: the words of the training captions; a tower with another tokeniser has its own `knows`, `cuts`,
            `cut` and `longest`.
        head: what makes the embedding.
        start: as `ImageTower.start`.
    """

    vocabulary: Vocabulary
    head: Head

    def __init__(self) -> None:
        super().__init__()
        self.start: LinearStart | None = None

    def begin(self, source: str | None) -> str:
        """Start from a file (`--text-tower NAME:FILE`), for towers that can; what a user should know."""
        if source is not None:
            raise DataError(f"text tower: {type(self).__name__} starts from no file, found {source!r}; leave it out")
        return ""

    def rates(self) -> Mapping[str, float]:
        """As `ImageTower.rates`."""
        return {}

    def borrowed(self, name: str) -> bool:
        """As `ImageTower.borrowed`."""
        return False

    def tokens(self, texts: list[str]) -> Tokens:
        """Texts as this tower reads them, without what its linear start reads."""
        raise NotImplementedError

    def prepare(self, texts: list[str]) -> Tokens:
        """Texts as `forward` takes them."""
        tokens = self.tokens(texts)
        return tokens if self.start is None else replace(tokens, terms=self.start.terms(texts))

    @property
    def longest(self) -> int:
        """Words (word-pieces, tokens) that are read of a text; 0 is all."""
        return self.vocabulary.tokenizer.longest

    def knows(self, text: str) -> bool:
        """Whether it knows any word of the text."""
        return self.vocabulary.knows(text)

    def cuts(self, text: str) -> bool:
        """Whether the text is longer than what is read of it."""
        return self.vocabulary.cuts(text)

    def cut(self, text: str) -> list[str]:
        """What each fragment of a text is: words or word-pieces, spelt as in the vocabulary.

        What the vocabulary has no word for stands in square brackets: the marks [start] and [end], and an unknown word
        as it was typed.
        """
        vocabulary, tokens = self.vocabulary, self.tokens([text])
        ids = tokens.ids[0, : int(tokens.lengths[0])].tolist()
        known = {number: word for word, number in vocabulary.numbers.items() if number in set(ids)}
        marks = {vocabulary.specials.start: "[start]", vocabulary.specials.end: "[end]"}
        strange = (word for word in vocabulary.tokenizer.words(text) if not _has(vocabulary, word))
        return [known.get(n) or marks.get(n) or f"[{next(strange, 'unknown')}]" for n in ids]

    def local(self, tokens: Tokens) -> Locals:
        """What the head is given of n texts."""
        raise NotImplementedError

    def forward(self, tokens: Tokens) -> Encoded:
        encoded = self.head(self.local(tokens))
        if self.start is None:
            return encoded
        if tokens.terms is None:
            raise DataError(
                "texts: this tower reads terms beside words, found words alone; give it what `prepare` gives"
            )
        moved: Encoded = self.start(encoded, self.start.whole(tokens.terms))
        return moved


def _has(vocabulary: Vocabulary, word: str) -> bool:
    if vocabulary.tokenizer.kind == "wordpiece":
        return vocabulary.knows(word)
    return vocabulary.number(word) is not None
