"""COCO as the field splits it: all 5,000 images of the Karpathy test split, and five folds of 1,000."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ...data.coco_ids import is_karpathy_test
from ...data.pairs import Pairs
from ...errors import DataError
from ..folds import Folds
from ..measures import Average, Mean, Measure
from .base import Asked, Direction, Found, Measured, Protocol
from .own import DEPTHS, Own, in_order

__all__ = ["Coco1K", "Coco5K"]

_FOLD = 1000


class Coco5K(Own):
    """Own captions over all images, as `own`; the name under which published numbers stand beside it."""

    name = "coco-5k"

    def fits(self, pairs: Pairs) -> bool:
        return False


class Coco1K(Protocol):
    """Own captions within consecutive folds of 1,000 images; every number is the mean over the folds.

    The folds come from the same scores as the whole, not from cut lists.
    """

    name = "coco-1k"
    truth_name = "own captions"

    def fits(self, pairs: Pairs) -> bool:
        return is_karpathy_test(pairs)

    def ask(self, pairs: Pairs) -> Asked:
        if len(pairs) < _FOLD:
            raise DataError(
                f"protocol 'coco-1k': {pairs.name} has {len(pairs)} images, expected at least {_FOLD:,} for one fold; "
                "use protocol 'own'"
            )
        folds, own = Folds.of(pairs.owner, len(pairs), _FOLD), pairs.matches()
        left = len(pairs) - _FOLD * len(folds.images)
        notes = [f"coco-1k: the mean of {len(folds.images)} folds of {_FOLD:,} consecutive images"]
        notes += [f"coco-1k: the last {left} images fill no fold and are left out"] if left else []
        return Asked(own, own.transpose(), folds=folds, notes=tuple(notes))

    def measure(self, found: Found) -> Iterator[Measured]:
        sides = [[fold[side] for fold in found.folds] for side in (0, 1)]
        shares = [share for folds in sides for share in _over(folds, lambda d: d.hits(*DEPTHS), _pooled)]
        middles = [middle for folds in sides for middle in _over(folds, lambda d: d.middles(), Average)]
        yield from in_order(shares, middles, len(sides))


def _over(
    folds: Sequence[Direction],
    read: Callable[[Direction], Iterator[Measured]],
    join: Callable[[Sequence[Measure]], Measure],
) -> Iterator[Measured]:
    """Each number of one direction that every fold gives (a cut list may reach less deep in one), joined over them."""
    each_fold = [{found.metric: found for found in read(fold)} for fold in folds]
    for metric, first in each_fold[0].items():
        same = [found[metric] for found in each_fold if metric in found]
        if len(same) < len(folds):
            continue
        asked = sum(each.queries for each in same)
        ranked = max(each.gallery for each in same)
        yield Measured(first.direction, first.metric, join([each.measure for each in same]), asked, ranked)


def _pooled(parts: Sequence[Measure]) -> Measure:
    """The mean over folds of their means, as one weighted mean over all queries."""
    means = [part for part in parts if isinstance(part, Mean)]
    values, images = (np.concatenate([getattr(part, name) for part in means]) for name in ("values", "images"))
    weights = np.concatenate([np.full(len(part.values), 1 / len(part.values)) for part in means])
    return Mean(values, images, means[0].scale, weights)
