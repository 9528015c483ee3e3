"""One measured number: its value, what each image contributes to it, and what it would be on resampled images.

Queries of one image are not independent (five captions describe one photo), so everything that asks how sure a number
is resamples images, not queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

__all__ = ["Average", "Correlation", "Mean", "Measure", "Median", "Sum", "interval", "median", "resampled"]

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]


class Measure(Protocol):
    """What is known of one number over n images."""

    @property
    def value(self) -> float:
        """The number."""
        ...

    def contributions(self, images: int) -> Floats | None:
        """(n,): what each image adds to the value, which is their sum; None where it is no such sum."""
        ...

    def drawn(self, weights: Floats) -> Floats:
        """(b, n) how often each image was drawn -> (b,) the number on those images; NaN where none could be had."""
        ...


@dataclass(frozen=True)
class Mean:
    """The weighted mean of one value a query, times `scale`.

    Attributes:
        values: (q,).
        images: (q,), the image row of each query: its own, or its caption's.
        scale: 100 for shares in percent.
        weights: (q,); equal if not given.
    """

    values: Floats
    images: Ints
    scale: float = 100.0
    weights: Floats | None = None

    @property
    def value(self) -> float:
        return float(self.scale * np.average(self.values, weights=self.weights))

    def _sums(self, images: int) -> tuple[Floats, Floats]:
        weights = np.ones(len(self.values)) if self.weights is None else self.weights
        total = np.asarray(np.bincount(self.images, weights * self.values, minlength=images), np.float64)
        return self.scale * total, np.bincount(self.images, weights, minlength=images).astype(np.float64)

    def contributions(self, images: int) -> Floats | None:
        total, count = self._sums(images)
        return np.asarray(total / count.sum())

    def drawn(self, weights: Floats) -> Floats:
        total, count = self._sums(weights.shape[1])
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((weights @ total) / (weights @ count))


@dataclass(frozen=True)
class Sum:
    """Several measures added up, such as RSUM."""

    parts: Sequence[Measure]

    @property
    def value(self) -> float:
        return float(sum(part.value for part in self.parts))

    def contributions(self, images: int) -> Floats | None:
        return np.asarray(sum(part.contributions(images) for part in self.parts))  # type: ignore[misc]

    def drawn(self, weights: Floats) -> Floats:
        return np.asarray(sum(part.drawn(weights) for part in self.parts))


def median(values: Floats) -> float:
    """The middle value; two middle ones are averaged and rounded down, as the field's evaluators do."""
    ordered = np.sort(values)
    return _between(ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2])


def _between(low: Any, high: Any) -> float:
    return float(low if low == high else (low + high) // 2)


@dataclass(frozen=True)
class Median:
    """The `median` of one value a query."""

    values: Floats
    images: Ints

    @property
    def value(self) -> float:
        return median(self.values)

    def contributions(self, images: int) -> Floats | None:
        return None

    def drawn(self, weights: Floats) -> Floats:
        order = np.argsort(self.values, kind="stable")
        values, images = self.values[order], self.images[order]
        out = np.full(len(weights), np.nan)
        for n, row in enumerate(weights):
            reached = np.cumsum(row[images])
            if len(reached) and reached[-1] > 0:
                low, high = (values[np.searchsorted(reached, reached[-1] / 2, side)] for side in ("left", "right"))
                out[n] = _between(low, high)
        return out


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation of two values of each item, in [-1, 1]; ties have the mean of their ranks.

    Attributes:
        first, second: (m,).
        images: (m,), the image row of each.
    """

    first: Floats
    second: Floats
    images: Ints

    @property
    def value(self) -> float:
        return _spearman(self.first, self.second)

    def contributions(self, images: int) -> Floats | None:
        return None

    def drawn(self, weights: Floats) -> Floats:
        out = np.full(len(weights), np.nan)
        for n, row in enumerate(weights):
            taken = np.repeat(np.arange(len(self.first)), row[self.images].astype(np.int64))
            if len(taken):
                out[n] = _spearman(self.first[taken], self.second[taken])
        return out


def _spearman(first: Floats, second: Floats) -> float:
    """NaN where one of them is constant: it orders nothing."""
    a, b = (_ranked(values) for values in (first, second))
    a, b = a - a.mean(), b - b.mean()
    spread = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / spread if spread > 0 else float("nan")


def _ranked(values: Floats) -> Floats:
    """Ranks from 1, tied values share their mean rank."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return np.asarray((last - (count - 1) / 2)[place.ravel()], np.float64)


def resampled(images: int, times: int, seed: int = 0) -> Floats:
    """(times, images): how often each image stands in each bootstrap sample of `images` images."""
    rng = np.random.default_rng(seed)
    return np.asarray(rng.multinomial(images, np.full(images, 1 / images), size=times), np.float64)


def interval(measure: Measure, weights: Floats | None, level: float = 0.95) -> tuple[float | None, float | None]:
    """Ends of the percentile bootstrap interval (Efron and Tibshirani 1993, chapter 13); None without resamples."""
    if weights is None:
        return None, None
    drawn = measure.drawn(weights)
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return None, None
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Average:
    """The plain mean of several measures, such as the medians of five folds."""

    parts: Sequence[Measure]

    @property
    def value(self) -> float:
        return float(np.mean([part.value for part in self.parts]))

    def contributions(self, images: int) -> Floats | None:
        found = [part.contributions(images) for part in self.parts]
        return None if any(each is None for each in found) else np.asarray(np.mean(found, axis=0))  # type: ignore[arg-type]

    def drawn(self, weights: Floats) -> Floats:
        return np.asarray(np.mean([part.drawn(weights) for part in self.parts], axis=0))
