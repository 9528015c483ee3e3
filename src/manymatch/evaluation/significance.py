"""Whether two systems differ by more than chance: paired over images, corrected for how many tests were made.

The queries of one image are not independent, five captions describe one photo; so images are what is resampled and
what is swapped, each with all its queries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .measures import Floats, Measure

__all__ = ["Difference", "holm", "randomisation_test"]

_BLOCK = 4 << 20
"""Signs drawn at a time."""


@dataclass(frozen=True)
class Difference:
    """A number of one system less that of another on the same images; itself a measure."""

    first: Measure
    second: Measure

    @property
    def value(self) -> float:
        return self.first.value - self.second.value

    def contributions(self, images: int) -> Floats | None:
        first, second = self.first.contributions(images), self.second.contributions(images)
        return None if first is None or second is None else first - second

    def drawn(self, weights: Floats) -> Floats:
        return self.first.drawn(weights) - self.second.drawn(weights)


def randomisation_test(differences: Floats, times: int = 10_000, seed: int = 0) -> Floats:
    """p of the paired randomisation test over images (Fisher 1935; Smucker, Allan and Carterette, CIKM 2007).

    If the systems do not differ, either could have given either answer to an image: what the image contributes to the
    difference may as well have the other sign. Two-sided: the share of random signs under which the sum is at least as
    far from 0 as it is. Exact, over all signs, where those of the images that differ are no more than `times`; else
    of `times` random ones, (1 + as far) / (1 + times).

    Args:
        differences: (n, m), what each of n images contributes to each of m differences, which are their sums.
        times: random signs.
        seed: of the signs, which are the same for all m, so that no p depends on what else is tested.

    Returns:
        (m,), above 0, at most 1.
    """
    sums = np.abs(differences.sum(axis=0))
    # Sums of the same numbers in another order may differ in the last bits.
    sums = sums - 1e-9 * np.abs(differences).sum(axis=0)
    out = np.empty(differences.shape[1])
    few = (differences != 0).sum(axis=0) <= np.log2(times)
    for column in np.flatnonzero(few):
        values = differences[differences[:, column] != 0, column]
        out[column] = np.mean(np.abs(_every_sum(values)) >= sums[column])
    if not few.all():
        many, far = ~few, 0
        for drawn in _random_sums(differences[:, many], times, seed):
            far = far + (np.abs(drawn) >= sums[many]).sum(axis=0)
        out[many] = (1 + far) / (1 + times)
    return out


def _every_sum(values: Floats) -> Floats:
    """(2^n,): the sums of n values under all signs."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def _random_sums(differences: Floats, times: int, seed: int) -> Iterator[Floats]:
    """(b, m) sums under random signs, until there are `times`."""
    rng, images, whole = np.random.default_rng([seed, 1]), len(differences), differences.sum(axis=0)
    block = max(1, _BLOCK // images)
    for start in range(0, times, block):
        size = min(block, times - start)
        bits = np.unpackbits(rng.integers(0, 256, (size, -(-images // 8)), np.uint8), axis=1, count=images)
        yield whole - 2.0 * (bits.astype(np.float64) @ differences)


def holm(p: Sequence[float]) -> list[float]:
    """p corrected for their number (Holm 1979): all below a level are sure at that level, taken together.

    The smallest is multiplied by how many there are, the next by one less, and so on; none falls below a smaller one's.
    It holds however the tests depend on each other.
    """
    out, largest = [0.0] * len(p), 0.0
    for place, n in enumerate(sorted(range(len(p)), key=lambda n: p[n])):
        largest = max(largest, min(1.0, (len(p) - place) * p[n]))
        out[n] = largest
    return out
