"""Mean match probability of the elements of two sets ("MP" in DivE's ablation)."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from ..embeddings import Sets
from .base import Probabilistic, Role
from .pairwise import mean_log_odds
from .smooth_chamfer import element_cosines

__all__ = ["ElementProbability"]


class ElementProbability(Probabilistic):
    """Log-odds of `p(S1, S2) = mean over x, y of sigmoid(a cos(x, y) + b)`. A set of one gives `a cos + b`.

    Args:
        scale: a, at the start.
        shift: b, at the start.
        learned: whether a and b train, as the paper has it; the released code holds them at 1 and 0 by oversight.
    """

    kinds: ClassVar[tuple[str, ...]] = ("sets",)

    def __init__(self, scale: float = 1.0, shift: float = 0.0, learned: bool = True) -> None:
        super().__init__(scale, shift, learned=learned)
        self.learned = learned

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "learned": self.learned}

    def forward(self, queries: Sets, gallery: Sets) -> Tensor:
        """(q, k, d), (g, l, d) -> log-odds (q, g)."""
        self.expect(queries, gallery)
        scale, shift = self.scalars(queries.elements.device)
        return mean_log_odds(scale * element_cosines(queries, gallery) + shift, dim=(0, 2))

    def proxy(self, embedding: Sets, role: Role) -> Tensor:
        """Mean of the elements (n, d), the query's times a: orders exactly as a -> 0, so candidates are inexact."""
        mean = embedding.elements.mean(dim=1)
        return self.scalars(mean.device)[0] * mean if role == "query" else mean
