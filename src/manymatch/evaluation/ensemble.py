"""Several models as one: the mean of their score matrices, tile by tile."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from ..embeddings import Embedding
from ..similarity import Similarity

__all__ = ["Joined", "MeanScore"]


class Joined:
    """The same n items as each of several models embeds them."""

    def __init__(self, parts: Sequence[Embedding]) -> None:
        self.parts = tuple(parts)

    def __len__(self) -> int:
        return len(self.parts[0])

    def __getitem__(self, rows: Any) -> Self:
        return type(self)([part[rows] for part in self.parts])

    def layout(self) -> dict[str, int]:
        """Sizes that decide how large a tile may be: those of the member with most vectors an item."""

        def vectors(sizes: dict[str, int]) -> int:
            return math.prod(size for letter, size in sizes.items() if letter != "d")

        return max((part.layout() for part in self.parts), key=vectors)

    def first_not_finite(self) -> int | None:
        """Row of the first item some model gave a NaN or an infinity."""
        found = [row for part in self.parts if (row := part.first_not_finite()) is not None]
        return min(found, default=None)


class MeanScore:
    """`(queries, gallery)` of `Joined` items -> the mean of the members' scores (q, g).

    Members should score on one scale; for similarities of different scales the larger one decides.
    """

    def __init__(self, members: Sequence[Similarity]) -> None:
        self.members = tuple(members)
        self.symmetric = all(member.symmetric for member in members)

    def __call__(self, queries: Joined, gallery: Joined) -> Tensor:
        scores = [member(q, g) for member, q, g in zip(self.members, queries.parts, gallery.parts, strict=True)]
        return torch.stack(scores).mean(dim=0)
