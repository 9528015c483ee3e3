"""P2RM: an item is a box, near to what lies inside it. No formula of it is public: a reading on Query2Box.

Liang et al. Point to Rectangle Matching for Image Text Retrieval. ACM MM 2022; Ren, Hu and Leskovec. Query2Box:
Reasoning over Knowledge Graphs in Vector Space using Box Embeddings. ICLR 2020.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ..encoders import BoxHead, Head
from ..similarity import BoxDistance, Similarity
from .base import Ranges
from .pcme import PCMETowers

__all__ = ["P2RM"]


@dataclass(frozen=True, kw_only=True)
class P2RM(PCMETowers):
    """Every item is an axis-aligned box; a query's box is compared with the candidates' centres.

    Attributes:
        inside: share of the distance that counts inside the box.
    """

    name: ClassVar[str] = "p2rm"
    paper: ClassVar[str] = "Liang et al., ACM MM 2022 (a reading on Query2Box)"
    summary: ClassVar[str] = "boxes, a query's box against candidates' centres"
    fixed: ClassVar[Mapping[str, str]] = {"mode": "no code of its authors is public"}
    ranges: ClassVar[Ranges] = {"inside": (0.0, 1.0)}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "published": {**PCMETowers.published, "objective": "triplet", "all_until": 0.0}
    }

    temperature: float = 1.0
    margin: float = 10.0
    inside: float = 0.02

    def head(self, inputs: int, side: Literal["image", "text"]) -> Head:
        return BoxHead(inputs, self.dim, spread=self.spread)

    def similarity(self) -> Similarity:
        return BoxDistance(self.inside)
