"""What says less must hold what says more: a caption inside itself with words left out (ProLIP, ICLR 2025).

Chun, Kim, Park and Yun. Probabilistic Language-Image Pre-Training. ICLR 2025, section 3.3; for boxes a form of our own.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from ..choices import Mode, check_mode
from ..embeddings import Boxes, Encoded, Gaussians
from ..errors import DataError
from .base import Containment

__all__ = ["Inclusion", "inclusion_gap", "sticking_out"]

_WIDENING = -10.0
"""What the authors' code adds to each negated log-variance in an exponent, but not to those of the determinants."""


def inclusion_gap(
    inner: tuple[Tensor, Tensor], outer: tuple[Tensor, Tensor], *, mode: Mode = "paper", widening: float = 0.0
) -> Tensor:
    """`H(1, 2) - H(2, 1)` of each dimension (n, d), with `H(1, 2) = log of the integral of p1^2 p2`, up to a constant.

    Positive exactly where the first is the sharper one; its size grows with the distance of the means. Changing the two
    changes its sign.

    Args:
        inner, outer: mean and log-variance (n, d) of diagonal Gaussians.
        mode: "paper" takes `-h1 - h2 / 2` for the logarithm of the determinants, which the integral has; "released"
            takes it twice, as the authors' code does, which reads the log-variance as that of a standard deviation.
        widening: added to `-h` wherever it stands in an exponent, which scales both precisions alike.
    """
    (m1, h1), (m2, h2) = inner, outer
    determinants = -(h1 - h2) * (1.0 if mode == "released" else 0.5)
    # log(e^-h1 + e^-h2 / 2) less the same with the two changed; what widens both leaves no trace in it.
    half = math.log(2.0)
    widths = torch.logaddexp(-h1, -h2 - half) - torch.logaddexp(-h2, -h1 - half)
    # B^2 / (4 A) - C as -|m1 - m2|^2 / (e^h1 + 2 e^h2): of two large numbers little would be left.
    sharper = (-torch.logaddexp(h2, h1 + half)).exp() - (-torch.logaddexp(h1, h2 + half)).exp()
    return determinants - widths / 2 + (m1 - m2).square() * math.exp(widening) * sharper


def sticking_out(inner: Boxes, outer: Boxes) -> Tensor:
    """How far each side of the inner box lies outside of the outer one (n, d), negative where it lies inside.

    In units of a coordinate of a unit vector, `1 / sqrt(d)`.
    """
    beyond = (inner.center - outer.center).abs() + inner.offset - outer.offset
    return beyond * math.sqrt(beyond.shape[-1])


class Inclusion(Containment):
    """`mean over items and dimensions of -log sigmoid(scale x)`, x how far the whole item lies inside of its part.

    A part of an item, a caption with most words left out or a few of an image's regions, is true of all that the item
    is true of, so what it may mean is wider. For Gaussians (and heads that give `mean` and `log_sigma`) x is
    `inclusion_gap`; for boxes `-sticking_out`, which ProLIP has not.

    Args:
        scale: how sharply it turns from what is not included to what is.
        chosen, left_out: share of the items it looks at, and share of their words or fragments that are left out.
        mode: as `inclusion_gap`; "released" also widens both Gaussians by e^10, by which only variances are compared.

    Raises:
        UnknownName: another mode.
        DataError: a scale that is not positive, a share outside of 0 to 1; in a step, another kind of embedding.
    """

    def __init__(
        self, scale: float = 10.0, *, chosen: float = 0.125, left_out: float = 0.75, mode: Mode = "paper"
    ) -> None:
        super().__init__()
        check_mode(mode)
        if not (0.0 < scale < math.inf and 0.0 < chosen <= 1.0 and 0.0 < left_out < 1.0):
            raise DataError(
                f"inclusion: scale {scale}, chosen {chosen}, left_out {left_out}; expected a positive scale and shares "
                "between 0 and 1"
            )
        self.scale, self.chosen, self.left_out, self.mode = scale, chosen, left_out, mode

    def forward(self, whole: Encoded, part: Encoded) -> Tensor:
        return functional.softplus(-self.scale * self._inside(whole, part)).mean()

    def _inside(self, whole: Encoded, part: Encoded) -> Tensor:
        if isinstance(whole.embedding, Boxes) and isinstance(part.embedding, Boxes):
            return -sticking_out(whole.embedding, part.embedding)
        widening = _WIDENING if self.mode == "released" else 0.0
        return inclusion_gap(_moments(whole), _moments(part), mode=self.mode, widening=widening)


def _moments(items: Encoded) -> tuple[Tensor, Tensor]:
    """Mean and log-variance (n, d)."""
    if isinstance(items.embedding, Gaussians):
        return items.embedding.mean, items.embedding.log_variance
    if {"mean", "log_sigma"} <= set(items.tensors or {}):
        return items.tensor("mean"), 2 * items.tensor("log_sigma")
    raise DataError(f"inclusion: got {items.embedding.kind}, expected gaussians, boxes or samples of a Gaussian")
