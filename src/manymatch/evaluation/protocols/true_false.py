"""Sentences that are true or false of their image (NLVR): does the model score the true ones higher?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...data.matches import Matches
from ...data.pairs import Item, Pairs
from ...errors import DataError
from ..areas import RocArea
from .base import Asked, Found, Measured, Protocol

__all__ = ["TrueFalse", "says_false", "truth_of"]

_SPELLED = {"true": True, "false": False}


def truth_of(item: Item) -> bool | None:
    """Whether an item's sentence is true of its image, by the field `label` or its one label; None if neither says."""
    label = item.metadata.get("label", item.labels[0] if len(item.labels) == 1 else None)
    return _SPELLED.get(label.lower()) if isinstance(label, str) else label if isinstance(label, bool) else None


def says_false(pairs: Pairs) -> bool:
    """Whether some sentence is false of its image, which makes it a wrong answer to it."""
    return any(truth_of(item) is False for item in pairs)


class TrueFalse(Protocol):
    """Own pairs alone are scored: AUC of true against false, over all and within one sentence."""

    name = "true-false"
    truth_name = "true and false sentences"
    left_out = "have no label true or false"

    def fits(self, pairs: Pairs) -> bool:
        return says_false(pairs)

    def ask(self, pairs: Pairs) -> Asked:
        labels = [truth_of(item) for item in pairs]
        if len({label for label in labels if label is not None}) < 2:
            raise DataError(
                f"protocol 'true-false': {pairs.name} has {labels.count(True)} images with a sentence labelled true "
                f"and {labels.count(False)} labelled false, expected some of each (a field `label`, true or false)"
            )
        known = np.array([label is not None for label in labels])[pairs.owner]
        own = Matches.of(pairs.owner[known], np.flatnonzero(known), (len(pairs), len(pairs.captions)))
        note = "true-false: a false sentence is no right answer, so protocol 'own' is not measured unless named"
        return Asked(own, notes=(note,), extra=np.array([label is True for label in labels]))

    def measure(self, found: Found) -> Iterator[Measured]:
        ranks = found.i2t.ranks
        if ranks.scores is None or not np.isfinite(ranks.scores).all():
            found.said.append("true-false: rankings without a score for every own pair say nothing here; left out")
            return
        images, right = ranks.query, found.asked.extra[ranks.query]
        texts = [found.pairs.captions[caption] for caption in ranks.items]
        sentences = np.unique(texts, return_inverse=True)[1].ravel()
        everything = np.zeros_like(sentences)
        for metric, groups in (("AUC", everything), ("AUC same sentence", sentences)):
            both = np.intersect1d(groups[right], groups[~right])
            used = np.isin(groups, both)
            if not len(both):
                found.said.append(f"true-false: no sentence is true of one image and false of another; no {metric}")
                continue
            measure = RocArea(ranks.scores[used], right[used], images[used], groups[used], found.ties)
            yield Measured("both", metric, measure, int(right[used].sum()), int((~right[used]).sum()))
            where = "" if groups is everything else f", within {len(both)} sentences"
            found.said.append(
                f"true-false: {metric} compares {right[used].sum()} true with {(~right[used]).sum()} false pairs{where}"
            )
