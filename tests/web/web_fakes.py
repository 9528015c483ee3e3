"""A small index in memory, and a client that talks to an app in process."""

import asyncio
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import httpx
from PIL import Image

from manymatch.errors import DataError, UnknownName
from manymatch.index import Added, Hit, Results
from manymatch.index.answers.results import Group, Meant
from manymatch.index.filters import read_where


def encoded(colour: str, size: tuple[int, int] = (60, 40), form: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, form, **options)
    return out.getvalue()


@dataclass
class FakeItem:
    captions: list[str]
    picture: bytes | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


class FakeIndex:
    """Scores by shared words; pictures by their first pixel. Takes what `Index` takes, and notes each search."""

    def __init__(self, items: dict[str, FakeItem], reads: str = "pixels", path: str = "/home/ann/secret.index") -> None:
        self.items, self.reads, self.calls = items, reads, []
        self.batches: list[int] = []
        self.model = SimpleNamespace(image_input=reads)
        self.path = Path(path)
        self.changes = 0
        self.most_pixels = 64_000_000

    # ---- asking

    def search(self, query: Any = None, k: int = 10, *, like=None, offset=0, among=None, where=None, **options: Any):
        asked = {"query": query, "k": k, "like": like, "offset": offset, "among": among, "where": where}
        self.calls.append(asked | options)
        conditions = read_where(where).conditions
        self._check_fields(options)
        texts = self._captions() if among == "captions" else {i: " ".join(x.captions) for i, x in self.items.items()}
        words = self._words(query, like)
        found = sorted(((len(words & set(t.split())), i) for i, t in texts.items() if i != like), reverse=True)
        passing = [(s, i) for s, i in found if all(self._passes(i, c) for c in conditions)]
        hits = [self._hit(rank, i, float(s), among, options) for rank, (s, i) in enumerate(passing, start=1)]
        page = tuple(hits[offset : offset + k])
        name = query if isinstance(query, str) else like or str(getattr(query, "filename", "") or "picture")
        return self._results(name, page, len(hits), options)

    def search_many(self, queries: Sequence[str], k: int = 10, **options: Any):
        self.batches.append(len(queries))
        return [self.search(query, k, **options) for query in queries]

    def _words(self, query: Any, like: str | None) -> set[str]:
        if like is not None:
            return set(" ".join(self.item(like)["captions"]).split())
        if isinstance(query, str):
            return set(query.split())
        if self.reads == "features":
            raise DataError("this run reads precomputed features and has no backbone to look at a picture")
        return {{(255, 0, 0): "red", (0, 0, 255): "blue"}.get(query.getpixel((0, 0)), "")}

    def _check_fields(self, options: Mapping[str, Any]) -> None:
        known = {name for item in self.items.values() for name in item.metadata}
        for name in [*options.get("facets", ()), *([options["group_by"]] if options.get("group_by") else [])]:
            if name not in known:
                raise UnknownName("field", name, known)
        if options.get("confident") is not None:
            raise DataError("search: confident cannot cut: the index has no calibration")

    def _passes(self, id: str, condition: Any) -> bool:
        value = self.item(id)["metadata"].get(condition.field)
        if condition.kind == "exists":
            return (value is not None) == condition.present
        if condition.kind == "in":
            return value in condition.values
        if condition.kind == "text":
            return all(word in str(value).split() for word in condition.words)
        tests = {"gt": "__gt__", "gte": "__ge__", "lt": "__lt__", "lte": "__le__"}
        return value is not None and all(getattr(value, tests[n])(bound) is True for n, bound in condition.bounds)

    def _hit(self, rank: int, id: str, score: float, among: str | None, options: Mapping[str, Any]) -> Hit:
        item, owner = self.item(id), id.rpartition("#")[0] if id not in self.items else None
        match = {"query_element": 0, "item_element": 0, "cosine": 1.0, "share": 1.0, "word": None, "parts": {}}
        return Hit(
            rank=rank,
            id=id,
            modality="caption" if among == "captions" else "image",
            score=score,
            raw_score=score,
            metadata=item["metadata"],
            caption=item["captions"][0] if item["captions"] else None,
            owner=owner,
            has_picture=item["has_picture"],
            why=[match] if options.get("explain") else None,
        )

    def _results(self, name: str, page: tuple[Hit, ...], searched: int, options: Mapping[str, Any]) -> Results:
        exact, by = bool(options.get("exact")), options.get("group_by")
        counted = {f: [(v, 1) for v in self._values(f)] for f in options.get("facets", ())}
        return Results(
            query=name,
            hits=page,
            exact=exact,
            agreement=None if exact else 0.99,
            searched=searched,
            milliseconds=1.234,
            groups=tuple(Group(hit.metadata.get(by), (hit,)) for hit in page) if by else None,
            meanings=(Meant(("red",), (0,), 1.0, len(page), page),) if options.get("meanings") else None,
            meant_by="by its elements" if options.get("meanings") else None,
            facets=counted or None,
            notes=("no probabilities: the index has no calibration",),
        )

    def _values(self, name: str) -> list[Any]:
        return [item.metadata[name] for item in self.items.values() if name in item.metadata]

    # ---- looking

    def _captions(self) -> dict[str, str]:
        return {f"{i}#{n}": text for i, x in self.items.items() for n, text in enumerate(x.captions)}

    def item(self, id: str) -> dict[str, Any]:
        if id in self.items:
            item, modality, captions = self.items[id], "image", self.items[id].captions
        elif id in self._captions():
            item, modality, captions = self.items[id.rpartition("#")[0]], "caption", [self._captions()[id]]
        else:
            raise UnknownName("id in this index", id, sorted(self.items)[:3])
        return {
            "id": id,
            "modality": modality,
            "captions": list(captions),
            "metadata": item.metadata,
            "labels": [],
            "has_picture": item.picture is not None,
            "owner": id.rpartition("#")[0] if modality == "caption" else None,
        }

    def picture(self, id: str) -> bytes:
        self.item(id)
        data = self.items[id if id in self.items else id.rpartition("#")[0]].picture
        if data is None:
            raise DataError(f"{self.path}: image {id!r}: no picture in this index")
        return data

    def pixels(self, id: str) -> int:
        self.picture(id)
        return self.most_pixels

    def elements(self, id: str | None = None, *, query: str | None = None) -> dict[str, Any]:
        none = {"elements": 1, "kind": None, "rows": None, "columns": None, "boxes": None, "words": None}
        if id is not None:
            self.item(id)
            return none | {"shares": None, "why": "one vector an item"}
        return none | {"kind": "words", "words": query.split(), "shares": [[1.0 / len(query.split())]], "why": None}

    def examples(self, n: int, seed: int = 0) -> list[str]:
        return list(self._captions().values())[:n]

    def fields(self) -> list[dict[str, Any]]:
        none = {"low": None, "high": None}
        return [
            {"name": name, "kind": "mixed", "items": len(values), "values": _counted(values)} | none
            for name in sorted({name for item in self.items.values() for name in item.metadata})
            for values in [self._values(name)]
        ]

    def info(self) -> dict[str, Any]:
        return {
            "path": str(self.path),
            "images": len(self.items),
            "captions": len(self._captions()),
            "model": "dive",
            "similarity": "SmoothChamfer",
            "spaces": {"image": {"kind": "sets", "layout": {"k": 4, "d": 8}}},
            "engine": {"image": "exact", "caption": "exact"},
            "calibrated": False,
            "generation": str(self.changes),
        }

    # ---- changing

    def put_picture(self, id: str, data: bytes, captions: Sequence[str], metadata: Mapping[str, Any]) -> Added:
        known = id in self.items
        self.items[id] = FakeItem(list(captions), data, dict(metadata))
        self.changes += 1
        return Added(int(not known), int(known))

    def delete(self, ids: Sequence[str]) -> int:
        gone = [self.item(id) for id in ids]
        for id in ids:
            self.items.pop(id)
        self.changes += 1
        return sum(1 + len(item["captions"]) for item in gone)

    def warm(self) -> None:
        pass

    def keep_up(self) -> None:
        pass


def _counted(values: list[Any]) -> list[dict[str, Any]]:
    return [{"value": value, "count": values.count(value)} for value in dict.fromkeys(map(str, values))]


ODD_IDS = [
    "a/picture",
    "a/thumbnail/",
    "deep/er/one.jpg",
    "snö & ice?.png#3",
    "100%25 %2F",
    " lead",
    'quo"te\\',
    "数/写真",
    "../../etc/passwd",
    "/abs",
    "a//b",
    ".",
]


def small_index(**options: Any) -> FakeIndex:
    """Four items and those with odd ids."""
    items = {
        "red.png": FakeItem(["a red wall", "red paint"], encoded("red"), {"year": 2001, "tag": "wall"}),
        "blue.jpg": FakeItem(["a blue wall"], encoded("blue", (1200, 800), "JPEG")),
        "none": FakeItem(["a wall nobody photographed"]),
        "a": FakeItem(["the letter a"], encoded("green")),
    }
    odd = {id: FakeItem([f"odd {n}"], encoded("gray")) for n, id in enumerate(ODD_IDS)}
    return FakeIndex(items | odd, **options)


def item_path(id: str, part: str = "") -> str:
    """As `encodeURIComponent` in the page makes it."""
    return f"/api/items/{quote(id, safe='-_.!~*()')}{part}"


class Client:
    """Requests to an app in process. Faults of ours are raised, unless `quiet`."""

    def __init__(self, app: Any, quiet: bool = False, headers: Mapping[str, str] | None = None) -> None:
        self.app, self.quiet, self.headers = app, quiet, dict(headers or {})

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=not self.quiet)
            async with httpx.AsyncClient(transport=transport, base_url="http://here", headers=self.headers) as client:
                return await client.request(method, path, **options)

        return asyncio.run(ask())

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def head(self, path: str) -> httpx.Response:
        return self.request("HEAD", path)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.request("POST", path, **options)

    def put(self, path: str, **options: Any) -> httpx.Response:
        return self.request("PUT", path, **options)

    def delete(self, path: str, **options: Any) -> httpx.Response:
        return self.request("DELETE", path, **options)


def error_of(answer: httpx.Response, status: int) -> tuple[str, str]:
    """Type and message of a refusal of this status, in the one shape there is."""
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"} and set(answer.json()["error"]) == {"type", "message"}
    return answer.json()["error"]["type"], answer.json()["error"]["message"]
