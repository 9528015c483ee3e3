"""Keep every item's distribution near the standard normal (the information bottleneck of PCME and PCME++)."""

from __future__ import annotations

import math

from torch import Tensor

from ..choices import Mode, check_choice, check_mode
from ..embeddings import Encoded, Gaussians, GaussianSets
from .base import Regulariser
from .choices import Reduction

__all__ = ["KLPrior"]


class KLPrior(Regulariser):
    """`KL(N(mean, variance) | N(0, 1)) = -1/2 (1 + h - mean^2 - e^h)`, h the log-variance; image plus text.

    Reads a Gaussian embedding; Gaussian sets, an element's total variance spread evenly over its dimensions; or `mean`
    and `log_variance` or `log_sigma`, each (n, d), and in released mode `samples` (n, j, d) of a head that gives some.

    Args:
        reduction: "sum" over items and dimensions (PCME) or "mean" (PCME++).
        mode: for a head that gives samples, "released" takes its log standard deviation for h as it is and the mean of
            its draws for the mean, as PCME's code does; "paper" takes twice it, and the mean itself. A Gaussian is the
            same in both.

    Raises:
        UnknownName: another word for a setting.
        DataError: in a step, a head that gives none of these.
    """

    def __init__(self, *, reduction: Reduction = "sum", mode: Mode = "paper") -> None:
        super().__init__()
        check_mode(mode)
        check_choice("kl_prior reduction", reduction, Reduction)
        self.reduction, self.mode = reduction, mode

    def forward(self, images: Encoded, texts: Encoded) -> Tensor:
        return self._divergence(images) + self._divergence(texts)

    def _divergence(self, items: Encoded) -> Tensor:
        mean, h = self._moments(items)
        terms = (mean.square() + h.exp() - 1 - h) / 2
        return terms.sum() if self.reduction == "sum" else terms.mean()

    def _moments(self, items: Encoded) -> tuple[Tensor, Tensor]:
        if isinstance(items.embedding, GaussianSets):
            elements = items.embedding.elements
            return elements, (items.embedding.log_variance - math.log(elements.shape[-1]))[..., None]
        if isinstance(items.embedding, Gaussians):
            return items.embedding.mean, items.embedding.log_variance
        if "log_sigma" not in (items.tensors or {}):
            return items.tensor("mean"), items.tensor("log_variance")
        if self.mode == "released":
            return items.tensor("samples").mean(dim=1), items.tensor("log_sigma")
        return items.tensor("mean"), 2 * items.tensor("log_sigma")
