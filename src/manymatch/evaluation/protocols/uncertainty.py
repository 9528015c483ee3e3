"""Does a model know what it does not know: ambiguity against how many answers are right, confidence against errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ...data.pairs import Pairs
from ...embeddings import Embedding
from ..areas import RiskCoverage
from ..measures import Correlation, Mean
from ..metrics import hits, reach
from .base import Asked, Direction, Found, Measured, Protocol
from .own import Own

__all__ = ["Uncertainty"]

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]


class Uncertainty(Protocol):
    """Spearman of ambiguity and the number of right answers, and areas under the risk-coverage curve.

    Args:
        truths: protocols whose right answers may be several; the first that fits the data gives them, else each
            query's own are right. Their `Asked.extra` is None, or which images and which captions were looked at for
            more right answers than their own: rows, and only these are counted.
    """

    name = "uncertainty"
    truth_name = "widest truth"

    def __init__(self, truths: Sequence[Protocol]) -> None:
        self.truths = tuple(truths)

    def ask(self, pairs: Pairs) -> Asked:
        widest = next((truth for truth in self.truths if truth.fits(pairs)), Own())
        asked = widest.ask(pairs)
        note = f"uncertainty: right answers are those of protocol '{widest.name}' ({widest.truth_name})"
        return Asked(asked.i2t, asked.t2i, best=True, notes=(note, *asked.notes), extra=asked.extra)

    def measure(self, found: Found) -> Iterator[Measured]:
        sides = (found.i2t, found.images), (found.t2i, found.texts)
        for (direction, items), known in zip(sides, found.asked.extra or (None, None), strict=True):
            if not len(direction.asked) or reach(direction.ranks) < 1:
                continue
            spread = _ambiguity(items)
            if spread is None:
                found.said.append(f"uncertainty: {direction.name}: {_why(items)}; rows by ambiguity are left out")
            else:
                yield from _counted(direction, spread, known, found.said)
            yield from _risks(direction, spread, found.said)


def _ambiguity(items: Embedding | None) -> Floats | None:
    spread = None if items is None else items.ambiguity()
    return None if spread is None else spread.double().numpy()


def _why(items: Embedding | None) -> str:
    if items is None:
        return "an ensemble, or scores from elsewhere, have no one embedding that could be ambiguous"
    return f"embeddings of kind {items.kind} have no ambiguity of their own"


def _counted(direction: Direction, spread: Floats, known: Ints | None, said: list[str]) -> Iterator[Measured]:
    """Spearman between a query's ambiguity and how many right answers it has, where both vary."""
    rows = direction.asked if known is None else np.intersect1d(direction.asked, known)
    if len(rows) < len(direction.asked):
        said.append(
            f"uncertainty: {direction.name}: {len(rows)} of {len(direction.asked)} queries were looked at for more "
            "right answers than their own; spearman is over these"
        )
    counts = direction.ranks.positives[rows].astype(np.float64)
    measure = Correlation(spread[rows], counts, direction.images[rows])
    if len(rows) and np.isfinite(measure.value):
        yield Measured(direction.name, "spearman", measure, len(rows), direction.ranks.gallery)
        return
    same = len(np.unique(counts)) < 2
    why = "no two queries have different numbers of right answers" if same else "every ambiguity is the same"
    said.append(f"uncertainty: {direction.name}: {why}; spearman is left out")


def _risks(direction: Direction, spread: Floats | None, said: list[str]) -> Iterator[Measured]:
    """AURC by what the model says of itself, between chance and the best order."""
    rows = direction.asked
    risk, images = 1.0 - hits(direction.ranks, 1, direction.ties), direction.images[rows]
    best = direction.ranks.best
    confidences = {
        "ambiguity": None if spread is None else -spread[rows],
        "score": None if best is None else best[rows],
        "best": -risk,
    }
    for name, confidence in confidences.items():
        if confidence is None or not np.isfinite(confidence).all():
            if name == "score":
                said.append(f"uncertainty: {direction.name}: its best scores are not known; AURC by score is left out")
            continue
        word = "at" if name == "best" else "by"
        if name == "best":
            yield direction.measured("AURC at random", Mean(risk, images))
        yield direction.measured(f"AURC {word} {name}", RiskCoverage(confidence, risk, images, direction.ties))
