"""What a search answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Group", "Hit", "Meant", "Results"]


@dataclass(frozen=True)
class Hit:
    """One item found.

    Attributes:
        rank: from 1, counted from the first result even when a search starts at an offset.
        id, modality: the item; modality is "image" or "caption".
        score: what orders the results: the run's similarity less the item's bias (query bank), or of a hybrid search
            the sum of reciprocal ranks.
        raw_score: the run's similarity.
        probability: that it is a right answer, read from `raw_score`; None without a calibration.
        metadata: the image's; a caption carries that of its image.
        caption: the caption's words, or the image's first caption; None where there is none.
        owner: the image a caption belongs to; None for an image.
        has_picture: whether the index knows where the picture is, of a caption that of its image.
        why: which elements of query and item matched, strongest first (`explain.Match` as JSON); None unless asked.
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
    has_picture: bool = False
    why: Sequence[Mapping[str, Any]] | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON of a hit in `search --json`; `why` only where it was asked for."""
        shown = {
            "rank": self.rank,
            "id": self.id,
            "modality": self.modality,
            "score": self.score,
            "raw_score": self.raw_score,
            "probability": self.probability,
            "metadata": dict(self.metadata),
            "caption": self.caption,
            "owner": self.owner,
            "has_picture": self.has_picture,
        }
        return shown if self.why is None else shown | {"why": [dict(match) for match in self.why]}


@dataclass(frozen=True)
class Group:
    """Hits that share a value of a metadata field, best first, with their ranks among all answers.

    `value` is None for those without the field.
    """

    value: Any
    hits: tuple[Hit, ...]

    def to_json(self) -> dict[str, Any]:
        return {"value": self.value, "hits": [hit.to_json() for hit in self.hits]}


@dataclass(frozen=True)
class Meant:
    """One thing the query could mean.

    Attributes:
        words: the few that set its captions apart from the others'; None where none do.
        elements: which elements of the query's set it is; empty where modes among the answers were found instead.
        share: of the answers looked at, each counted with its probability where there is one.
        count: how many of them there are.
        hits: the best of them, with their ranks among all answers.
    """

    words: tuple[str, ...] | None
    elements: tuple[int, ...]
    share: float
    count: int
    hits: tuple[Hit, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "words": None if self.words is None else list(self.words),
            "elements": list(self.elements),
            "share": self.share,
            "count": self.count,
            "hits": [hit.to_json() for hit in self.hits],
        }


@dataclass(frozen=True)
class Results:
    """Hits, best first, and how they were found. Iterating gives the hits.

    Attributes:
        query: the words, the name of the picture, or the id of `like`.
        hits: the results asked for; empty when nothing passes, or the offset is behind the last. Of a grouped search
            the best of each group, ranked among these.
        exact: True when every item that passes the filter was scored by the run's own similarity.
        agreement: of an approximate answer, the share of the exact first ten (where it looked deeper, of the first
            hundred) that was found when last measured with queries of the asking modality; None when the answer is
            exact, or what was asked is not what was measured: a filter, an unwanted example, more than a hundred.
        searched: how many items pass the filter.
        milliseconds: wall time of the search, the encoding of the query included; reading run and index for the first
            time is not.
        bank: whether the items' biases took part in the order.
        ambiguity: the run's own number for the query; None where its kind of embedding has none.
        expected_matches: expected number of right answers among the items that pass; None without a calibration.
        likely: how many items have at least the asked (by default an even) probability; None without a calibration.
            Of an approximate answer, among the candidates.
        groups: of a grouped search, one for each of `hits`.
        meanings: what the query could mean, where it was asked for; `meant_by` says in a line how they were told
            apart.
        facets: field -> values with counts, where they were asked for.
        notes: what a reader should know, one line each.
    """

    query: str
    hits: tuple[Hit, ...]
    exact: bool
    agreement: float | None
    searched: int
    milliseconds: float
    bank: bool = False
    ambiguity: float | None = None
    expected_matches: float | None = None
    likely: int | None = None
    groups: tuple[Group, ...] | None = None
    meanings: tuple[Meant, ...] | None = None
    meant_by: str | None = None
    facets: Mapping[str, Sequence[tuple[Any, int]]] | None = None
    notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def __len__(self) -> int:
        return len(self.hits)

    def __getitem__(self, place: int) -> Hit:
        return self.hits[place]

    def to_json(self) -> dict[str, Any]:
        """JSON of `search --json`; groups, meanings and facets only where they were asked for."""
        out: dict[str, Any] = {
            "query": self.query,
            "exact": self.exact,
            "agreement": self.agreement,
            "bank": self.bank,
            "ambiguity": self.ambiguity,
            "expected_matches": self.expected_matches,
            "likely": self.likely,
            "searched": self.searched,
            "hits": [hit.to_json() for hit in self.hits],
            "notes": list(self.notes),
        }
        if self.groups is not None:
            out["groups"] = [group.to_json() for group in self.groups]
        if self.meanings is not None:
            out["meanings"] = [meant.to_json() for meant in self.meanings]
            out["meant_by"] = self.meant_by
        if self.facets is not None:
            out["facets"] = {
                name: [{"value": value, "count": count} for value, count in counted]
                for name, counted in self.facets.items()
            }
        return out
