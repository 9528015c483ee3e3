"""The protocol contract: which right answers it asks for, and which numbers it reads from where they stand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ...data.matches import Matches
from ...data.pairs import Pairs
from ...embeddings import Embedding
from ..folds import Folds
from ..measures import Mean, Measure, Median
from ..metrics import (
    asking,
    average_precisions,
    first_ranks,
    hits,
    middle_ranks,
    normalized_gains,
    queries,
    r_precisions,
    reach,
)
from ..ranks import Ranks

__all__ = ["Asked", "Direction", "Found", "Measured", "Protocol", "nothing"]

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]
Rows = Iterator[tuple[slice, np.ndarray[Any, Any]]]


@dataclass(frozen=True)
class Asked:
    """What a protocol wants to know of the scores.

    Attributes:
        i2t: right answers (i, c); None asks nothing of that direction.
        t2i: right answers (c, i), which need not be the same pairs.
        folds: rank within each of them too.
        within: "t2t" (c, c) or "i2i" (i, i): right answers among items of one kind, without the diagonal.
        rows: whole rows of scores are read (`Found.rows`).
        best: the highest score of each query is read (`Ranks.best`).
        notes: what the reader of the numbers should know, in words.
        extra: what the protocol's own `measure` reads again.
    """

    i2t: Matches | None = None
    t2i: Matches | None = None
    folds: Folds | None = None
    within: Mapping[str, Matches] = field(default_factory=dict)
    rows: bool = False
    best: bool = False
    notes: tuple[str, ...] = ()
    extra: Any = None


@dataclass(frozen=True)
class Direction:
    """One way of asking, and where its right answers stand.

    Attributes:
        name: "i2t", "t2i", "t2t" or "i2i".
        ranks: of q queries.
        images: (q,), the image row of each query.
        ties: how equal scores count.
    """

    name: str
    ranks: Ranks
    images: Ints
    ties: str

    @property
    def asked(self) -> Ints:
        """Queries that have a right answer, the order of every value below."""
        return asking(self.ranks)

    def _mean(self, metric: str, values: Floats, scale: float = 100.0) -> Measured:
        return self.measured(metric, Mean(values, self.images[self.asked], scale))

    def measured(self, metric: str, measure: Measure) -> Measured:
        """A measure of this direction, with its counts."""
        return Measured(self.name, metric, measure, queries(self.ranks), self.ranks.gallery)

    def hits(self, *depths: int) -> Iterator[Measured]:
        """R@K for each depth that the ranking reaches."""
        for k in depths:
            if k <= reach(self.ranks) or reach(self.ranks) == self.ranks.gallery:
                yield self._mean(f"R@{k}", hits(self.ranks, k, self.ties))

    def middles(self) -> Iterator[Measured]:
        """Median and mean rank of the first right answer, where it is known for every query."""
        if self._all_found():
            values = middle_ranks(self.ranks, self.ties)
            yield self.measured("median rank", Median(values, self.images[self.asked]))
            yield self._mean("mean rank", first_ranks(self.ranks, self.ties), 1.0)

    def precisions(self) -> Iterator[Measured]:
        """R-precision and mAP@R, where every query's ranking reaches as deep as it has right answers."""
        depth, positives = self.ranks.depth, self.ranks.positives
        if depth is None or bool((depth >= np.minimum(positives, self.ranks.gallery))[self.asked].all()):
            yield self._mean("R-precision", r_precisions(self.ranks, self.ties))
            yield self._mean("mAP@R", average_precisions(self.ranks, self.ties))

    def gains(self, *depths: int | None) -> Iterator[Measured]:
        """nDCG of right and wrong down to each depth that the ranking reaches; None is to the end of the gallery."""
        for k in depths:
            if reach(self.ranks) >= min(k or self.ranks.gallery, self.ranks.gallery):
                name = "nDCG" if k is None else f"nDCG@{k}"
                yield self._mean(name, normalized_gains(self.ranks, k, self.ties))

    def _all_found(self) -> bool:
        if self.ranks.depth is None:
            return True
        first = np.minimum.reduceat(self.ranks.above, self.ranks.indptr[:-1][self.asked])
        return bool((first < self.ranks.gallery).all())


@dataclass(frozen=True)
class Found:
    """What the scores said, of what one protocol asked.

    Attributes:
        pairs: what was ranked.
        asked: what was asked for.
        i2t, t2i: both directions.
        folds: both directions in each fold.
        within: "t2t", "i2i": ranks among items of one kind.
        rows: "i2t" or "t2i" -> (queries, scores (b, g)) block by block, all finite; when `asked.rows`.
        images, texts: the embeddings of one model; None of an ensemble, or of scores from elsewhere.
        ties: how equal scores count.
        said: where a protocol adds what its reader should know of these numbers, in words.
    """

    pairs: Pairs
    asked: Asked
    i2t: Direction
    t2i: Direction
    folds: tuple[tuple[Direction, Direction], ...]
    within: Mapping[str, Direction]
    rows: Callable[[str], Rows]
    images: Embedding | None
    texts: Embedding | None
    ties: str
    said: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Measured:
    """One number of a protocol.

    Attributes:
        direction: "i2t", "t2i", "t2t", "i2i" or "both".
        metric: its name in tables.
        measure: the number itself.
        queries, gallery: how many asked, and how many were ranked.
    """

    direction: str
    metric: str
    measure: Measure
    queries: int
    gallery: int


class Protocol(ABC):
    """One way to judge a ranking; a file of this room has one, found by its name."""

    name: ClassVar[str]
    truth_name: ClassVar[str]
    """What tables call its right answers."""
    left_out: ClassVar[str] = "have no right answer"
    """What a note says of the queries that its truth leaves out."""

    def fits(self, pairs: Pairs) -> bool:
        """Whether it is measured when nobody names a protocol."""
        return False

    @abstractmethod
    def ask(self, pairs: Pairs) -> Asked:
        """What it wants to know. Raises DataError when the data do not carry its truth."""

    @abstractmethod
    def measure(self, found: Found) -> Iterator[Measured]:
        """Its numbers, in the order of its table."""


def nothing(shape: tuple[int, int]) -> Matches:
    """No right answers at all."""
    return Matches.of([], [], shape)
