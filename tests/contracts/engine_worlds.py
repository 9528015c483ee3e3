"""A small world with every answer known: items of any kind of embedding, and all of them scored without an index."""

from __future__ import annotations

import hashlib
import json
import operator as ops
import os
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from manymatch import runs
from manymatch.data.pairs import Item, Pairs
from manymatch.embeddings import Boxes, Embedding, Gaussians, Points, Samples, Sets
from manymatch.errors import DataError
from manymatch.index import Index
from manymatch.similarity import similarity_class

TOPICS = 24
TAGS = ["dog", "cat", "snow", "Snow day", "7"]


def embed(kind: str, names: Sequence[str], d: int = 16, *, spread: float = 0.25) -> Embedding:
    """One item a name, the same for the same name, around one of a few topics."""
    centers = np.random.default_rng(5).standard_normal((TOPICS, d))
    rngs = [np.random.default_rng(zlib.crc32(name.encode())) for name in names]
    k = {"sets": 3, "samples": 3}.get(kind, 1)
    rows = [centers[rng.integers(TOPICS)] + spread * rng.standard_normal((k, d)) for rng in rngs]
    vectors = functional.normalize(torch.from_numpy(np.array(rows, np.float32).reshape(-1, k, d)), dim=-1)
    extent = torch.from_numpy(np.array([rng.standard_normal(d) for rng in rngs], np.float32).reshape(-1, d))
    made = {
        "points": lambda: Points(vectors[:, 0]),
        "sets": lambda: Sets(vectors),
        "samples": lambda: Samples(1.2 * vectors),
        "gaussians": lambda: Gaussians(vectors[:, 0], 0.3 * extent - 3),
        "boxes": lambda: Boxes(vectors[:, 0], extent.abs() / (4 * d)),
    }
    return made[kind]()


class World:
    """Stands in for a run: whatever a text or an image is called decides what it becomes."""

    image_input = "features"

    def __init__(self, similarity: str = "smooth_chamfer", kind: str | None = None) -> None:
        self.name, self.similarity = similarity, similarity_class(similarity)().eval()
        self.kind = kind or self.similarity.kinds[0]

    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self.name} {self.kind}".encode()).hexdigest()

    def prepare_images(self, images: Any) -> Any:
        return images

    def embed(self, names: Iterable[str]) -> Embedding:
        return embed(self.kind, list(names))

    def encode_texts(self, texts: Sequence[str]) -> Embedding:
        return self.embed(texts)

    def encode_images(self, images: Any) -> Embedding:
        return self.embed(seen(item) for item in images.items)


def seen(item: Item) -> str:
    """What an image looks like: another version of it looks different."""
    return f"{item.id} {item.metadata.get('version', 0)}"


def keep_worlds(patch: pytest.MonkeyPatch) -> None:
    """Let worlds be saved into an index and loaded from it again."""

    def save_search(model: World, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "run.json").write_text(json.dumps([model.name, model.kind]))

    patch.setattr(runs, "save_search", save_search)
    patch.setattr(runs, "load", lambda folder, **how: World(*json.loads((folder / "run.json").read_text())))


def lower_limits(patch: pytest.MonkeyPatch, limit: int = 30) -> None:
    """Let engines give candidates of a hundred items already, and what is derived be made again after few changes."""
    for module in ("local.view", "local.collection", *(() if missing_qdrant() else ("qdrant.pool", "qdrant.measure"))):
        patch.setattr(f"manymatch.index.{module}.EXACT_UP_TO", limit)
    patch.setattr("manymatch.index.local.view._FEW", limit)
    if not missing_qdrant():
        # The client's own mode goes through every item in Python for each query.
        patch.setattr("manymatch.index.qdrant.measure.EFFORTS", (32,))
        patch.setattr("manymatch.index.qdrant.measure._QUERIES", 40)


def missing_qdrant() -> str:
    """Why there is no engine `qdrant` here; empty where there is one."""
    try:
        import manymatch.index.qdrant  # noqa: F401
    except (ImportError, DataError) as error:
        return str(error)
    return ""


def some_items(count: int, *, start: int = 0, version: int = 0) -> list[Item]:
    """Images with metadata of every sort, and one or two captions."""
    out = []
    for n in range(start, start + count):
        metadata: dict[str, Any] = {
            "year": 1990 + n % 30,
            "tag": TAGS[n % 5 : n % 5 + 1 + n % 2],
            "shot": {"lens": 0.5 * (n % 4), "on": n % 2 == 0},
            "title": f"Über {('snow', 'hill', 'a lake')[n % 3]} no {n}",
            "version": version,
        }
        if n % 4 == 0:
            metadata["note"] = "taken at night" if n % 8 else 3
        captions = tuple(f"caption {c} of p{n} v{version}" for c in range(1 + n % 2))
        out.append(Item(f"p{n}", captions, labels=(f"group {n % 6}",), metadata=metadata, row=n))
    return out


SERVER = os.environ.get("QDRANT_URL")
URLS = {"qdrant": ":memory:", "qdrant server": SERVER}
"""Engine as tests call it -> where its collections lie."""

_collections: list[tuple[str, str]] = []


def built(world: World, folder: Path, engine: str, items: Sequence[Item], **options: Any) -> Index:
    if engine not in URLS:
        return Index.build(world, Pairs(items), folder, engine=engine, **options)  # type: ignore[arg-type]
    index = Index.build(world, Pairs(items), folder, engine="qdrant", url=URLS[engine], **options)  # type: ignore[arg-type]
    about = index.info()
    _collections.append((about["url"], about["collection"]))
    return index


def drop_collections() -> None:
    """Leave nothing on a server, nor in the memory that stands in for one."""
    while _collections:
        from manymatch.index.qdrant import connect

        url, name = _collections.pop()
        connect(url, os.environ.get("QDRANT_API_KEY")).delete_collection(name)


# ---- what an index has to answer


@dataclass
class Known:
    """An item of the truth.

    Attributes:
        about: what filters see: of a caption its image's.
        bias: asking modality -> what is taken off its score.
    """

    id: str
    modality: str
    embedding: Embedding
    about: Mapping[str, Any] = field(default_factory=dict)
    owner: str | None = None
    caption: str | None = None
    bias: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Scored:
    """An item with the score that orders and the run's own."""

    id: str
    score: float
    raw: float


class Truth:
    """All items, in the order in which they came, scored at once with the run's similarity."""

    def __init__(self, world: World, precision: str = "float32") -> None:
        self.world, self.precision = world, getattr(torch, precision)
        self.items: dict[str, Known] = {}
        self._whole: dict[str, Embedding] = {}

    @classmethod
    def of(cls, world: World, items: Sequence[Item], precision: str = "float32") -> Truth:
        truth = cls(world, precision)
        truth.add(items)
        return truth

    def stored(self, embedding: Embedding) -> Embedding:
        return embedding.to(self.precision).to(torch.float32)

    def put(self, known: Known) -> None:
        """Add an item, or replace it; it is then the last one."""
        self._whole.clear()
        if known.modality == "image":
            self.delete([known.id])
        self.items.pop(known.id, None)
        self.items[known.id] = replace(known, embedding=self.stored(known.embedding))

    def add(self, items: Sequence[Item]) -> None:
        for item in items:
            about = {**item.metadata, "labels": list(item.labels)}
            self.put(Known(item.id, "image", self.world.embed([seen(item)]), about))
        for item in items:
            for n, text in enumerate(item.captions):
                id, about = f"{item.id}#{n}", self.items[item.id].about
                self.put(Known(id, "caption", self.world.embed([text]), about, item.id, text))

    def delete(self, ids: Iterable[str]) -> int:
        self._whole.clear()
        gone = set(ids)
        gone |= {k.id for k in self.items.values() if k.owner in gone}
        return len([self.items.pop(id) for id in gone if id in self.items])

    def of_modality(self, modality: str, where: Mapping[str, Any] | None = None) -> list[Known]:
        return [k for k in self.items.values() if k.modality == modality and passes(k, where)]

    def order(
        self,
        query: str | Embedding,
        modality: str = "image",
        where: Mapping[str, Any] | None = None,
        *,
        asking: str = "caption",
        bank: bool = True,
    ) -> list[Scored]:
        """Everything that passes, best first, equal scores in the order in which they came.

        Args:
            query: words, or an item as `like`.
        """
        all_of_them = self.of_modality(modality)
        there = [passes(known, where) for known in all_of_them]
        them = [known for known, passing in zip(all_of_them, there, strict=True) if passing]
        if not them:
            return []
        asked = self.world.embed([query]) if isinstance(query, str) else query
        if modality not in self._whole:
            self._whole[modality] = type(asked).concat([known.embedding for known in all_of_them])
        with torch.inference_mode():
            raw = self.world.similarity(asked, self._whole[modality])[0].numpy()[there]
        bias = np.array([k.bias.get(asking, 0.0) if bank else 0.0 for k in them], np.float32)
        score = raw - bias
        order = np.argsort(-score, kind="stable")
        return [Scored(them[n].id, float(score[n]), float(raw[n])) for n in order]

    def like(self, id: str, modality: str, where: Mapping[str, Any] | None = None, **how: Any) -> list[Scored]:
        """As `order`, asked by an item, which is not among them."""
        item = self.items[id]
        found = self.order(item.embedding, modality, where, asking=item.modality, **how)
        return [scored for scored in found if scored.id != id]


def slack(expected: Sequence[Scored], within: float = 2e-6) -> float:
    """What two computations of the same float32 scores may differ by."""
    return within * max([1.0, *(abs(s.raw) for s in expected)])


def same_order(hits: Iterable[Any], expected: Sequence[Scored], everything: Sequence[Scored] | None = None) -> None:
    """Hits are the expected items with their scores; only those of nearly equal score may have swapped."""
    true, least = {s.id: s for s in everything or expected}, slack(everything or expected)
    hits = list(hits)
    assert len(hits) == len(expected) and len({hit.id for hit in hits}) == len(hits)
    for hit, wanted in zip(hits, expected, strict=True):
        assert abs(true[hit.id].score - wanted.score) <= 2 * least, f"{hit.id} in place of {wanted.id}"
    true_scores(hits, true.values(), least)


def true_scores(hits: Iterable[Any], expected: Iterable[Scored], least: float | None = None) -> None:
    """Every hit is an item that passes, with its own scores, and no worse one comes before a better one."""
    expected = list(expected)
    true, hits = {s.id: s for s in expected}, list(hits)
    least = slack(expected) if least is None else least
    for hit in hits:
        assert abs(hit.score - true[hit.id].score) <= least and abs(hit.raw_score - true[hit.id].raw) <= least
    assert all(a.score >= b.score for a, b in pairwise(hits)) and len({hit.id for hit in hits}) == len(hits)


def found_of_first(hits: Iterable[Any], expected: Sequence[Scored], top: int = 10) -> float:
    """Share of the exact first ten that was found; what ties with the tenth at stored precision counts too."""
    last = expected[min(top, len(expected)) - 1].score
    right = {s.id for s in expected if s.score >= last - 5e-5 * max(1.0, abs(last))}
    return min(top, len([hit for hit in hits if hit.id in right])) / top


# ---- filters, told again in a few lines


def values_of(about: Mapping[str, Any], name: str) -> list[Any]:
    """Values of "a" or "a.b"; a bool is a number."""
    value: Any = about
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    many = value if isinstance(value, list) else [] if value is None or isinstance(value, Mapping) else [value]
    return [int(each) if isinstance(each, bool) else each for each in many]


def passes(known: Known, where: Mapping[str, Any] | None) -> bool:
    return all(
        _holds(values_of(known.about, name), operator, wanted)
        for name, given in (where or {}).items()
        for operator, wanted in (given if isinstance(given, Mapping) else {"in": given}).items()
    )


def _holds(values: list[Any], operator: str, wanted: Any) -> bool:
    if operator == "exists":
        return bool(values) == wanted
    if operator == "in":
        return any(value == each for value in values for each in (wanted if isinstance(wanted, list) else [wanted]))
    if operator == "text":
        asked = set(_words(wanted))
        return any(isinstance(value, str) and asked <= set(_words(value)) for value in values)
    same = [value for value in values if isinstance(value, str) == isinstance(wanted, str)]
    return any(_COMPARE[operator](value, wanted) for value in same)


_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {"gt": ops.gt, "gte": ops.ge, "lt": ops.lt, "lte": ops.le}


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower().replace("ü", "u"))
