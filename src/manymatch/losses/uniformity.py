"""Spread the samples of a batch over the space (Wang and Isola, ICML 2020; an option of PCME's code)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from ..draws import draw
from ..embeddings import Encoded
from ..errors import DataError
from .base import Regulariser
from .elements import elements_of

__all__ = ["Uniformity"]


class Uniformity(Regulariser):
    """`log mean exp(-t |x - y|^2)` over all pairs of samples, elements or points, of images and texts together.

    Above `most` of them, that many are drawn with replacement: the draw "uniform rows", int64 numbers among the images'
    samples, item by item, followed by the texts'.

    Args:
        t: in units of one over squared distance.
        most: the largest number compared with each other.

    Raises:
        DataError: a t that is not positive, or a `most` below 2; in a step, an embedding without such vectors.
    """

    def __init__(self, t: float = 2.0, *, most: int = 128) -> None:
        super().__init__()
        if not 0.0 < t < math.inf or most < 2:
            raise DataError(f"uniformity: t {t}, most {most}; expected a positive t and at least 2")
        self.t, self.most = t, most

    def forward(self, images: Encoded, texts: Encoded) -> Tensor:
        vectors = torch.cat([elements_of(e.embedding, "uniformity") for e in (images, texts)])
        if len(vectors) > self.most:
            rows = draw("uniform rows", lambda: torch.randint(len(vectors), (self.most,), device=vectors.device))
            vectors = vectors[rows.to(vectors.device)]
        energies = -self.t * functional.pdist(vectors).square()
        return energies.logsumexp(dim=0) - math.log(len(energies))
