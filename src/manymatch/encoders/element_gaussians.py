"""Sets whose elements say how sure they are: a total variance for each, beside any head that makes a set."""

from __future__ import annotations

import math
from dataclasses import replace

from torch import Tensor, nn

from ..embeddings import Encoded, GaussianSets, Sets
from ..errors import DataError
from .base import Head, Locals

__all__ = ["ElementGaussians"]


class ElementGaussians(Head):
    """`GaussianSets (n, k, d)`: another head's set, with the log of each element's total variance.

        log v_k = b + w . residual_k + u . global

    The element before it is brought to unit length is the residual and the global vector, so its length, which the
    cosine does not see, may tell how sure it is. w and u begin at zero and b at `log d + start`: at the start every
    element has the variance that d dimensions of log-variance `start` add up to, and ranks as the set alone does.

    Args:
        head: makes `Sets` and keeps its `residual` (n, k, d) and `global` (n, d) vectors.
        dim: width d.
        start: log-variance of one dimension at the start.

    Raises:
        DataError: in a step, a head that makes no sets, or does not keep those tensors.
    """

    def __init__(self, head: Head, dim: int, *, start: float = -7.0) -> None:
        super().__init__()
        self.head, self.keyed, self.blind = head, head.keyed, head.blind
        # No random number is drawn, so that all else begins as it does without variances.
        self.element = nn.Linear(dim, 1, device="meta").to_empty(device="cpu")
        self.whole = nn.Linear(dim, 1, bias=False, device="meta").to_empty(device="cpu")
        for layer in (self.element, self.whole):
            nn.init.zeros_(layer.weight)
        nn.init.constant_(self.element.bias, start + math.log(dim))

    def forward(self, local: Locals) -> Encoded:
        made = self.head(local)
        if not isinstance(made.embedding, Sets):
            raise DataError(f"element variances: the head makes {made.embedding.kind}, expected sets")
        of_elements: Tensor = self.element(made.tensor("residual"))
        of_item: Tensor = self.whole(made.tensor("global"))
        log_variance = of_elements.squeeze(-1) + of_item
        embedding = GaussianSets(made.embedding.elements, log_variance.to(made.embedding.elements.dtype))
        return replace(made, embedding=embedding, tensors={**(made.tensors or {}), "log_variance": log_variance})

    def attend(self, local: Locals) -> Tensor | None:
        """The inner head's; the variances look at no fragment of their own."""
        return self.head.attend(local)
