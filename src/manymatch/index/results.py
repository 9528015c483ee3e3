"""What a search answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Hit", "Results"]


@dataclass(frozen=True)
class Hit:
    """One item found.

    Attributes:
        rank: from 1, counted from the first result even when a search starts at an offset.
        id, modality: the item; modality is "image" or "caption".
        score: what orders the results.
        raw_score: the run's similarity.
        probability: that it is a right answer; None without a calibration.
        metadata: the image's; a caption carries that of its image.
        caption: the caption's words, or the image's first caption; None where there is none.
        owner: the image a caption belongs to; None for an image.
    """

    rank: int
    id: str
    modality: str
    score: float
    raw_score: float
    probability: float | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    caption: str | None = None
    owner: str | None = None


@dataclass(frozen=True)
class Results:
    """Hits, best first, and how they were found. Iterating gives the hits.

    Attributes:
        query: the words, the name of the picture, or the id of `like`.
        hits: the results asked for; empty when the index holds none of that modality, or the offset is behind the last.
        exact: True when every item of the modality was scored by the run's own similarity.
        agreement: of an approximate answer, the share of the exact first ten that it found when last measured with
            queries of the asking modality; None when the answer is exact.
        searched: how many items there were to find.
        milliseconds: wall time of the search, the encoding of the query included; reading run and index for the first
            time is not.
    """

    query: str
    hits: tuple[Hit, ...]
    exact: bool
    agreement: float | None
    searched: int
    milliseconds: float

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def __len__(self) -> int:
        return len(self.hits)

    def __getitem__(self, place: int) -> Hit:
        return self.hits[place]

    def to_json(self) -> dict[str, Any]:
        """JSON of `search --json`."""
        shown = ("rank", "id", "modality", "score", "raw_score", "probability", "metadata")
        return {
            "query": self.query,
            "exact": self.exact,
            "agreement": self.agreement,
            "bank": False,
            "ambiguity": None,
            "expected_matches": None,
            "hits": [{name: value for name, value in asdict(hit).items() if name in shown} for hit in self.hits],
        }
