"""A query's rectangle against the candidates' centres (P2RM, ACM MM 2022; the distance of Query2Box, ICLR 2020)."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..embeddings import Boxes
from ..errors import DataError
from .base import Role, Similarity
from .pairwise import in_blocks

__all__ = ["BoxDistance"]


class BoxDistance(Similarity):
    """`s(q, g) = -(d_out + gamma d_in)`, at most 0; the gallery's offsets are not looked at.

    With m, o the query's centre and offset and x the candidate's centre, in L1:
    `d_out = sum max(|x - m| - o, 0)` is how far outside the rectangle x lies, `d_in = sum min(|x - m|, o)` how far from
    its centre the part inside reaches.

    Args:
        gamma: what a step inside costs against one outside, in [0, 1].

    Raises:
        DataError: gamma outside of that.
    """

    kinds: ClassVar[tuple[str, ...]] = ("boxes",)
    symmetric: ClassVar[bool] = False

    def __init__(self, gamma: float = 0.02) -> None:
        super().__init__()
        if not 0 <= gamma <= 1 or not math.isfinite(gamma):
            raise DataError(f"box_distance: gamma {gamma}, expected a number from 0 to 1")
        self.gamma = float(gamma)

    def settings(self) -> dict[str, Any]:
        return {"gamma": self.gamma}

    def forward(self, queries: Boxes, gallery: Boxes) -> Tensor:
        """(q, d), (g, d) -> (q, g)."""
        self.expect(queries, gallery)
        middle, offset, other = queries.center[:, None], queries.offset[:, None], gallery.center

        def score(rows: slice, columns: slice) -> Tensor:
            apart = (other[columns] - middle[rows]).abs()
            # Between the part outside and the whole lies the part inside: outside + gamma (whole - outside).
            return -torch.lerp(torch.relu(apart - offset[rows]), apart, self.gamma).sum(dim=-1)

        return in_blocks(score, (len(queries), len(gallery)), other.shape[-1])

    def proxy(self, embedding: Boxes, role: Role) -> Tensor:
        """The centre (n, d), inexact."""
        return embedding.center
