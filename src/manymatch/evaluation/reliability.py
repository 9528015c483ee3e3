"""Is a probability what it says: calibration error, Brier score, and what a cut-off keeps.

Everything takes n pairs: `probability (n,)`, `right (n,)` bool, and `weight (n,)` where a pair stands for several.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import DataError
from .measures import Floats

__all__ = ["CutOff", "brier_score", "calibration_error", "cut_off"]

_WAYS = ("mass", "width")


def calibration_error(
    probability: Any, right: Any, weight: Any = None, *, bins: int = 15, equal: str = "mass"
) -> float:
    """Expected calibration error: the mean over bins of |mean probability - share of right|, by the weight of the bins.

    Args:
        probability, right, weight: of n pairs; `right` may be a share.
        bins: how many.
        equal: "mass", bins hold equal weight, equal probabilities never parted (so bins may be fewer and unequal);
            or "width", bins cut [0, 1] evenly (Naeini, Cooper and Hauskrecht, AAAI 2015), which puts nearly all pairs
            of rare right answers into the first.

    Raises:
        DataError: no pair, a NaN, lists of unequal length, or another way of cutting.
    """
    p, y, w = _checked(probability, right, weight)
    if equal not in _WAYS or bins < 1:
        raise DataError(
            f"calibration error: equal={equal!r} with {bins} bins, expected {' or '.join(_WAYS)}, 1 or more"
        )
    if equal == "width":
        place = np.minimum((p * bins).astype(np.int64), bins - 1)
    else:
        values, which = np.unique(p, return_inverse=True)
        each = np.bincount(which.ravel(), w, minlength=len(values))
        middle = np.cumsum(each) - each / 2
        place = np.minimum((middle / w.sum() * bins).astype(np.int64), bins - 1)[which.ravel()]
    gap = np.bincount(place, w * (p - y), minlength=bins)
    return float(np.abs(gap).sum() / w.sum())


def brier_score(probability: Any, right: Any, weight: Any = None) -> float:
    """The mean of (probability - right)^2 (Brier 1950). Raises DataError as `calibration_error`."""
    p, y, w = _checked(probability, right, weight)
    # Of a share y of right answers, each pair is right or wrong: the mean of (p - 0)^2 and (p - 1)^2.
    return float(w @ (y * (1 - p) ** 2 + (1 - y) * p**2) / w.sum())


@dataclass(frozen=True)
class CutOff:
    """What a cut-off at probability P keeps.

    Attributes:
        kept: pairs of at least P.
        right: how many of them are right.
        of: how many right answers there are.
        promised: the mean probability of what is kept, which a good calibration has as its precision; NaN for nothing.
    """

    kept: float
    right: float
    of: float
    promised: float

    @property
    def precision(self) -> float:
        """Share of the kept that is right; NaN where nothing is kept."""
        return self.right / self.kept if self.kept else float("nan")

    @property
    def recall(self) -> float:
        """Share of the right answers that is kept; NaN where there are none."""
        return self.right / self.of if self.of else float("nan")


def cut_off(probability: Any, right: Any, at: float, weight: Any = None) -> CutOff:
    """Keep the pairs whose probability is at least `at`. Raises DataError as `calibration_error`."""
    p, y, w = _checked(probability, right, weight)
    kept = p >= at
    mass = float(w[kept].sum())
    promised = float(w[kept] @ p[kept]) / mass if mass else float("nan")
    return CutOff(mass, float(w[kept] @ y[kept]), float(w @ y), promised)


def _checked(probability: Any, right: Any, weight: Any) -> tuple[Floats, Floats, Floats]:
    p, y = np.asarray(probability, np.float64).ravel(), np.asarray(right, np.float64).ravel()
    w = np.ones_like(p) if weight is None else np.asarray(weight, np.float64).ravel()
    if not len(p) == len(y) == len(w):
        raise DataError(f"calibration: {len(p)} probabilities, {len(y)} answers, {len(w)} weights; expected as many")
    if not len(p) or not w.sum() > 0:
        raise DataError("calibration: found no pair, expected at least one of a weight above 0")
    if not (np.isfinite(p).all() and np.isfinite(w).all() and (p >= 0).all() and (p <= 1).all() and (w >= 0).all()):
        raise DataError("calibration: found a probability outside [0, 1] or a weight below 0, or one that is NaN")
    return p, y, w
