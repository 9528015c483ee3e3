"""Similarity of two sets by their best one-to-one assignment (MaxMatch, ACL 2025)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from ..embeddings import Sets
from ..errors import DataError, UnknownName
from .base import Role, Similarity
from .pairwise import add_planes, in_blocks
from .smooth_chamfer import element_cosines

__all__ = ["MOST_ELEMENTS", "Assignment", "best_partners"]

Scale = Literal["exp", "cosine"]

MOST_ELEMENTS = 8
"""Elements of a set: the search for the best assignment takes time and memory like 2 to that power."""


class Assignment(Similarity):
    """Every element meets one of its own: the mean over the pairs of the assignment with the largest sum of cosines.

        s(S1, S2) = 1 / k sum_x (exp c(x, p(x)) - 1),   p = argmax over one-to-one p of sum_x c(x, p(x))

    p is found exactly, without gradients; the k matched pairs learn. Of sets of different sizes the smaller one's
    elements are all matched, and what is left of the larger does not count.

    The paper says exponential scaling and a sum; that p is found on the cosines themselves, and the minus one, are from
    a public re-implementation. At test the authors take a mean of the closest pairs, of how many is not said; here
    training and search score alike. Scores lie in [-0.63, 1.72] and near 1 are 2.7 times as steep as cosines, which a
    triplet's margin should mind.

    Args:
        scale: of a matched cosine, "exp" as above or the "cosine" as it is.

    Raises:
        UnknownName: another scale.
    """

    kinds: ClassVar[tuple[str, ...]] = ("sets",)

    def __init__(self, scale: Scale = "exp") -> None:
        super().__init__()
        if scale not in get_args(Scale):
            raise UnknownName("scale of assignment", scale, get_args(Scale))
        self.scale = scale

    def settings(self) -> dict[str, Any]:
        return {"scale": self.scale}

    def forward(self, queries: Sets, gallery: Sets) -> Tensor:
        """(q, k, d), (g, l, d) -> (q, g). Raises DataError for sets of more than 8 elements."""
        self.expect(queries, gallery)
        cosines = element_cosines(queries, gallery)
        k, q, other, g = cosines.shape
        if max(k, other) > MOST_ELEMENTS:
            raise DataError(
                f"assignment: sets of {k} and {other} elements, the exact one goes up to {MOST_ELEMENTS}; train with "
                f"elements={MOST_ELEMENTS} or another similarity"
            )
        if k > other:
            # Columns are where what is too many is left over.
            cosines = cosines.permute(2, 1, 0, 3)
        if torch.is_grad_enabled():
            return self._score(cosines)
        return in_blocks(lambda rows, columns: self._score(cosines[:, rows, :, columns]), (q, g), 3 * k * other)

    def _score(self, cosines: Tensor) -> Tensor:
        partners = best_partners(cosines.detach())
        matched = cosines.gather(2, partners[:, :, None, :]).squeeze(2)
        return add_planes(matched.expm1() if self.scale == "exp" else matched, 0) / len(matched)

    def proxy(self, embedding: Sets, role: Role) -> Tensor:
        """Mean of the elements (n, d), inexact, but never too high: the best assignment is at least as good as the mean
        of all, so `mean1 . mean2 <= 1 / k sum c(x, p(x)) <= s`."""
        return embedding.elements.mean(dim=1)


def best_partners(closeness: Tensor) -> Tensor:
    """The one-to-one assignment with the largest sum: (k, q, l, g), k <= l -> the column of each row (k, q, g) int64.

    Exact, by the best way to give the first rows any choice of columns, for all pairs at once (Held and Karp's dynamic
    programme): for 4 elements a third of the work of trying all 24, for 8 a tenth of a thousandth. Of equal sums one
    is taken.
    """
    k, q, other, g = closeness.shape
    bits = max(1, (other - 1).bit_length())
    # The columns of all rows so far in one number, which takes little to carry along.
    code = torch.zeros(q, g, dtype=torch.uint8 if bits * k <= 8 else torch.int32, device=closeness.device)
    best = {0: (closeness.new_zeros(()), code)}
    for row in range(k):
        further: dict[int, tuple[Tensor, Tensor]] = {}
        for taken, (total, code) in best.items():
            for column in range(other):
                if taken >> column & 1:
                    continue
                now = total + closeness[row, :, column]
                mark = code + (column << bits * row)
                before = further.get(taken | 1 << column)
                if before is not None:
                    mark = torch.where(now > before[0], mark, before[1])
                    now = torch.maximum(now, before[0])
                further[taken | 1 << column] = (now, mark)
        best = further
    total, code = next(iter(best.values()))
    for now, mark in list(best.values())[1:]:
        code = torch.where(now > total, mark, code)
        total = torch.maximum(now, total)
    return torch.stack([(code >> bits * row) & (1 << bits) - 1 for row in range(k)]).long()
