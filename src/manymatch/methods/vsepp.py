"""VSE++: one point an item, compared by cosine. The control of every richer embedding: same towers, same budget.

Faghri, Fleet, Kiros and Fidler. VSE++: Improving Visual-Semantic Embeddings with Hard Negatives. BMVC 2018.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from ..encoders import Head, PointHead
from ..similarity import Cosine, Similarity
from .base import Method

__all__ = ["VSEpp"]


@dataclass(frozen=True, kw_only=True)
class VSEpp(Method):
    """Every item is one unit vector."""

    name: ClassVar[str] = "vsepp"
    paper: ClassVar[str] = "Faghri, Fleet, Kiros and Fidler, BMVC 2018"
    summary: ClassVar[str] = "one point an item, cosine, hardest-negative triplet; the control"

    def head(self, inputs: int, side: Literal["image", "text"]) -> Head:
        return PointHead()

    def similarity(self) -> Similarity:
        return Cosine()
