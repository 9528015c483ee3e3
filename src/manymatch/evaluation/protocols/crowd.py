"""Crowd judgments: own captions, and what most people say fits too, over the whole gallery."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...data.matches import Matches
from ...data.pairs import Pairs
from ...errors import DataError
from .base import Asked, Found, Measured, Protocol
from .own import DEPTHS

__all__ = ["Crowd"]


class Crowd(Protocol):
    """Right answers are a query's own, and those to which more than half of the people asked said yes."""

    name = "crowd"
    truth_name = "own captions and crowd"

    def fits(self, pairs: Pairs) -> bool:
        return "crowd" in pairs.truths

    def ask(self, pairs: Pairs) -> Asked:
        truth = pairs.truths.get("crowd")
        if truth is None:
            raise DataError(
                f"protocol 'crowd': {pairs.name} has no crowd judgments; give --truth FILE (tab-separated: image, "
                "caption id, share of yes, number of yes, number of no)"
            )
        own, (more, judged) = pairs.matches(), truth.positives(pairs)
        right = Matches.union((own, more), own.shape)
        note = f"crowd: {len(right) - len(own):,} right answers beside the {len(own):,} own captions"
        # Of what nobody judged it is not known how many answers are right: what counts them must know which those are.
        looked_at = np.unique(judged.images), np.unique(judged.captions)
        return Asked(right, right.transpose(), notes=(note,), extra=looked_at)

    def measure(self, found: Found) -> Iterator[Measured]:
        for direction in (found.i2t, found.t2i):
            yield from direction.hits(*DEPTHS)
            yield from direction.precisions()
