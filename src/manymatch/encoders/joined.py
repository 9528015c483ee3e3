"""Several towers as one: each makes its embedding of the same items, and the parts become one set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..data.features import Features, Pixels
from ..data.pairs import Images, Pairs
from ..data.text import Tokens, Vocabulary
from ..embeddings import Embedding, Encoded, Gaussians, Points, Sets
from ..errors import DataError
from .base import Head, ImageTower, Locals, TextTower

if TYPE_CHECKING:
    from PIL import Image

    from ..data.store import Where

__all__ = ["JoinedImages", "JoinedTexts", "JoinedTokens", "Joining", "elements_of"]


def elements_of(embedding: Embedding) -> Tensor:
    """What a join takes of an embedding: unit elements (n, k, d) of a set, or one unit vector (n, 1, d).

    Raises:
        DataError: samples, boxes or fragments, whose similarity is no cosine.
    """
    if isinstance(embedding, Sets):
        return embedding.elements
    if isinstance(embedding, Points | Gaussians):
        vectors = embedding.vectors if isinstance(embedding, Points) else embedding.mean
        return functional.normalize(vectors, dim=-1)[:, None]
    raise DataError(f"it embeds as {embedding.kind}, expected points, sets or Gaussians, which cosines compare")


class Joining(nn.Module):
    """Elements of m members to those of one set, `unit(R [sqrt(w_1) e_1k, ..., sqrt(w_m) e_mk])`.

    Unrotated, the cosine of two elements is the weighted mean of the members' cosines. A member of one vector repeats
    it in each element.

    Args:
        widths: d of each member.
        elements: k of the joint.
        dim: width after the rotation R; if it is not below that of all members together, there is none.

    Attributes:
        weights: (m,), they sum to 1.
        rotation: R (dim, sum of the widths), or None.
    """

    weights: Tensor
    rotation: Tensor | None

    def __init__(self, widths: Sequence[int], elements: int, dim: int) -> None:
        super().__init__()
        self.widths, self.elements, self.dim = tuple(widths), elements, min(dim, sum(widths))
        self.register_buffer("weights", torch.full((len(widths),), 1.0 / len(widths)))
        rotated = self.dim < sum(widths)
        self.register_buffer("rotation", torch.zeros(self.dim, sum(widths)) if rotated else None)

    def concatenated(self, parts: Sequence[Embedding]) -> Tensor:
        """(n, k, sum of the widths), unrotated; unit length where the weights sum to 1."""
        sides = []
        for weight, part in zip(self.weights.sqrt(), parts, strict=True):
            elements = elements_of(part)
            sides.append(weight.to(elements) * elements.expand(-1, self.elements, -1))
        return torch.cat(sides, dim=-1)

    def forward(self, parts: Sequence[Embedding]) -> Sets | Points:
        """The joint embedding: a set, or points where every member has one vector."""
        whole = self.concatenated(parts)
        if self.rotation is not None:
            whole = whole @ self.rotation.to(whole).T
        whole = functional.normalize(whole, dim=-1)
        return Sets(whole) if self.elements > 1 else Points(whole[:, 0])


class JoinedImages(ImageTower):
    """Image towers that read the same input.

    Args:
        towers: the members'. They are held, not owned: their weights are the members'.
        fragments: whether each is given fragments; one on the pooled vector of a frozen network is not.
        joining: what makes one embedding of theirs; held, too.
        lead: which of them prepares pictures, reads a feature store, and says what its elements attend to.
    """

    def __init__(self, towers: Sequence[ImageTower], fragments: Sequence[bool], joining: Joining, lead: int) -> None:
        super().__init__()
        # In a tuple, a module is not seen as a part.
        self._towers, self._held, self._lead = tuple(towers), (joining,), (towers[lead],)
        self._fragments = tuple(fragments)
        self.reads = towers[lead].reads

    @property
    def lead(self) -> ImageTower:
        return self._lead[0]

    @property
    def head(self) -> Head:  # type: ignore[override]
        """The lead's, which attends."""
        return self.lead.head

    def takes(self, images: Images) -> bool:
        return self.lead.takes(images)

    def supply(self, pairs: Pairs, store: Where = None, say: Callable[[str], None] | None = None) -> Pairs:
        return self.lead.supply(pairs, store, say)

    def prepare(self, pictures: Iterable[Image.Image]) -> Pixels:
        return self.lead.prepare(pictures)

    def grid(self, height: int, width: int) -> tuple[int, int] | None:
        return self.lead.grid(height, width)

    def seen(self, width: int, height: int) -> tuple[float, float, float, float]:
        return self.lead.seen(width, height)

    def local(self, images: Features | Pixels) -> Locals:
        """What the lead's head is given."""
        return self.lead.local(images)

    def parts(self, images: Features | Pixels) -> list[Embedding]:
        """What each member makes of n images."""
        from .pretrained.backed import Backed

        if isinstance(self.lead, Backed):
            # All members stand on this network, which looks at each picture once.
            images = self.lead.features(images)
        given = zip(self._towers, self._fragments, strict=True)
        return [tower(images if fragments else _pooled(images)).embedding for tower, fragments in given]

    def forward(self, images: Features | Pixels) -> Encoded:
        return Encoded(self._held[0](self.parts(images)))


def _pooled(images: Features | Pixels) -> Features | Pixels:
    """Without fragments, which a tower on a pooled vector alone would find to be too many."""
    return replace(images, vectors=None, lengths=None) if isinstance(images, Features) else images


@dataclass(frozen=True)
class JoinedTokens(Tokens):
    """Texts as the lead reads them, and as each member does.

    Attributes:
        parts: of each member.
    """

    parts: tuple[Tokens, ...] = ()


class JoinedTexts(TextTower):
    """Text towers, each with words of its own.

    Args:
        towers: the members'. They are held, not owned: their weights are the members'.
        joining: what makes one embedding of theirs; held, too.
        lead: which of them says what its elements attend to, in its words.
    """

    def __init__(self, towers: Sequence[TextTower], joining: Joining, lead: int) -> None:
        super().__init__()
        self._towers, self._held, self._place = tuple(towers), (joining,), lead

    @property
    def lead(self) -> TextTower:
        return self._towers[self._place]

    @property
    def head(self) -> Head:  # type: ignore[override]
        """The lead's, which attends."""
        return self.lead.head

    @property
    def vocabulary(self) -> Vocabulary:  # type: ignore[override]
        """The lead's."""
        return self.lead.vocabulary

    def tokens(self, texts: list[str]) -> JoinedTokens:
        parts = tuple(tower.prepare(texts) for tower in self._towers)
        own = parts[self._place]
        return JoinedTokens(own.ids, own.lengths, own.terms, parts)

    @property
    def longest(self) -> int:
        """Of the lead; what reads a bag of words reads all."""
        return self.lead.longest

    def knows(self, text: str) -> bool:
        """Whether some member knows any word of it."""
        return any(tower.knows(text) for tower in self._towers)

    def cuts(self, text: str) -> bool:
        return self.lead.cuts(text)

    def cut(self, text: str) -> list[str]:
        return self.lead.cut(text)

    def local(self, tokens: Tokens) -> Locals:
        """What the lead's head is given."""
        return self.lead.local(_parts(tokens)[self._place])

    def parts(self, tokens: Tokens) -> list[Embedding]:
        """What each member makes of n texts."""
        each = zip(self._towers, _parts(tokens), strict=True)
        return [tower(part).embedding for tower, part in each]

    def forward(self, tokens: Tokens) -> Encoded:
        return Encoded(self._held[0](self.parts(tokens)))


def _parts(tokens: Tokens) -> tuple[Tokens, ...]:
    if not isinstance(tokens, JoinedTokens):
        raise DataError("joined towers: found tokens of one tower, expected those of `tokens`")
    return tokens.parts
