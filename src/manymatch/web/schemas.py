"""What is answered, as the API's schema describes it. Answers are made by the index; tests hold them against these."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "ANSWERS",
    "Added",
    "Deleted",
    "Elements",
    "Hit",
    "Info",
    "Item",
    "Liveness",
    "Many",
    "Problem",
    "Readiness",
    "Results",
]

Modality = Literal["image", "caption"]
Share = Annotated[float, Field(ge=0, le=1)]
Whole = Annotated[int, Field(ge=0)]


class Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Match(Answer):
    """An element of the query and the element of the item that is closest to it."""

    query_element: Whole
    item_element: Whole
    cosine: float
    share: Annotated[float, Field(description="of the query's elements together; those of an item add up to 1")]
    word: str | None
    parts: Annotated[dict[str, float], Field(description="what else the kind of embedding says of the pair")]


class Hit(Answer):
    """One item found."""

    rank: Annotated[int, Field(ge=1, description="from 1, counted from the first result whatever the offset")]
    id: str
    modality: Modality
    score: Annotated[float, Field(description="what orders the results")]
    raw_score: Annotated[float, Field(description="the run's own similarity")]
    probability: Annotated[Share | None, Field(description="that it is right; null without a calibration")]
    metadata: dict[str, Any]
    caption: Annotated[str | None, Field(description="the caption's words, or the image's first caption")]
    owner: Annotated[str | None, Field(description="the image a caption belongs to")]
    has_picture: bool
    why: Annotated[list[Match], Field(description="only where `explain` was asked for", default_factory=list)]


class Group(Answer):
    """Hits that share a value of the field that was grouped by; null gathers those without it."""

    value: Any
    hits: list[Hit]


class Meant(Answer):
    """One thing the query could mean."""

    words: Annotated[list[str] | None, Field(description="the few that set its captions apart")]
    elements: Annotated[list[Whole], Field(description="of the query's set; empty where modes were found instead")]
    share: Annotated[float, Field(description="of the answers looked at")]
    count: Whole
    hits: list[Hit]


class Counted(Answer):
    value: Any
    count: Whole


class Results(Answer):
    """Hits, best first, and how they were found."""

    query: Annotated[str, Field(description="the words, the name of the picture, or the id of `like`")]
    exact: Annotated[bool, Field(description="every item that passes the filter was scored")]
    agreement: Annotated[Share | None, Field(description="of an approximate answer with the exact one, as measured")]
    bank: bool
    ambiguity: Annotated[float | None, Field(description="the run's own number for the query")]
    expected_matches: Annotated[float | None, Field(ge=0, description="expected number of right answers in all")]
    likely: Annotated[Whole | None, Field(description="items at least as probable as was asked, else even")]
    searched: Annotated[int, Field(ge=0, description="items that pass the filter")]
    hits: list[Hit]
    notes: list[str]
    milliseconds: Annotated[float, Field(ge=0, description="that the search took")]
    groups: Annotated[list[Group], Field(description="only with `group_by`", default_factory=list)]
    meanings: Annotated[list[Meant], Field(description="only where asked for", default_factory=list)]
    meant_by: Annotated[str | None, Field(description="how meanings were told apart", default=None)]
    facets: Annotated[dict[str, list[Counted]], Field(description="only where asked for", default_factory=dict)]


class Many(Answer):
    """The answers of a batch, in the order of its queries."""

    results: list[Results]


class Stored(Answer):
    id: str
    modality: Modality
    captions: list[str]
    metadata: dict[str, Any]
    labels: list[str]
    has_picture: bool
    owner: str | None


class OwnHit(Hit):
    own: Annotated[bool, Field(description="whether the caption is one of the item's own")]


class Captions(Results):
    hits: list[OwnHit]  # type: ignore[assignment]


class Item(Answer):
    """An item, the captions it would match in this index, and images like it."""

    item: Stored
    captions: Captions
    like: Results


class Elements(Answer):
    """What each element of an item, or of a query in words, attends to."""

    elements: Whole
    kind: Literal["grid", "regions", "words"] | None
    rows: Whole | None
    columns: Whole | None
    boxes: Annotated[list[list[Share]] | None, Field(description="[x0, y0, x1, y1] of each region, in 0..1")]
    words: list[str] | None
    shares: Annotated[list[list[Share]] | None, Field(description="one list an element, which sums to 1")]
    why: Annotated[str | None, Field(description="why there is none")]


class Value(Answer):
    value: str | int | float | bool
    count: Whole


class Metadata(Answer):
    """A metadata field of the index, and what can be asked of it."""

    name: str
    kind: Literal["number", "text", "boolean", "mixed"]
    items: Whole
    low: float | None
    high: float | None
    values: Annotated[list[Value], Field(description="the most frequent")]


class Compared(Answer):
    title: str
    method: str


class Access(Answer):
    read: bool
    write: bool


class Limits(Answer):
    k: Whole
    offset: Whole
    query_length: Whole
    queries: Whole
    upload_bytes: Whole
    pixels: Whole


class Info(Answer):
    """What is served here, and what this caller may do with it."""

    title: str
    images: Whole
    captions: Whole
    method: str
    similarity: str
    engine: str
    image_input: Literal["pixels", "features"]
    elements: Annotated[Whole | None, Field(description="how many an item has; null where items differ")]
    calibrated: bool
    bank: bool
    examples: list[str]
    fields: list[Metadata]
    compare: Compared | None
    access: Access
    limits: Limits
    version: str


class Added(Answer):
    added: Whole
    replaced: Whole


class Deleted(Answer):
    deleted: Annotated[int, Field(ge=1, description="items that went: the item and its captions")]


class Liveness(Answer):
    status: Literal["ok"]


class Readiness(Answer):
    status: Literal["ready"]


class Told(Answer):
    type: str
    message: str


class Problem(Answer):
    """Why a request was not answered."""

    error: Told


ANSWERS: tuple[type[BaseModel], ...] = (
    Results, Many, Item, Elements, Info, Added, Deleted, Liveness, Readiness, Problem,
)  # fmt: skip
"""What a route may answer."""
