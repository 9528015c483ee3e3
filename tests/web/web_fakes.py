"""A small index in memory, and a client that talks to an app in process."""

import asyncio
import io
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import httpx
from PIL import Image

from manymatch.errors import DataError, UnknownName


def encoded(colour: str, size: tuple[int, int] = (60, 40), form: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, form, **options)
    return out.getvalue()


@dataclass
class FakeItem:
    captions: list[str]
    picture: bytes | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass
class FakeHit:
    rank: int
    id: str
    modality: str
    score: float
    raw_score: float
    probability: float | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    caption: str | None = None
    owner: str | None = None


@dataclass
class FakeResults:
    query: str
    hits: list[FakeHit]
    exact: bool
    searched: int
    milliseconds: float = 1.234

    def to_json(self) -> dict[str, Any]:
        agreement = None if self.exact else 0.99
        return {
            "query": self.query,
            "exact": self.exact,
            "agreement": agreement,
            "bank": False,
            "ambiguity": None,
            "expected_matches": None,
            "hits": [{n: v for n, v in vars(hit).items() if n not in ("caption", "owner")} for hit in self.hits],
        }


class FakeIndex:
    """Scores by shared words; pictures by their first pixel. Takes what `Index.search` takes."""

    def __init__(self, items: dict[str, FakeItem], reads: str = "pixels") -> None:
        self.items, self.reads, self.calls = items, reads, []
        self.model = SimpleNamespace(image_input=reads)

    def search(self, query: Any = None, k: int = 10, *, like=None, among=None, exact=None, offset=0) -> FakeResults:
        self.calls.append({"query": query, "k": k, "like": like, "among": among, "exact": exact, "offset": offset})
        if like is not None:
            words = set(" ".join(self.item(like)["captions"]).split())
        elif isinstance(query, str):
            words = set(query.split())
        elif self.reads == "features":
            raise DataError("search: this run reads precomputed features, so a picture cannot be encoded; use words")
        else:
            words = {{(255, 0, 0): "red", (0, 0, 255): "blue"}.get(query.getpixel((0, 0)), "")}
        texts = self._captions() if among == "captions" else {i: " ".join(x.captions) for i, x in self.items.items()}
        found = sorted(((len(words & set(t.split())), i) for i, t in texts.items() if i != like), reverse=True)
        modality = "caption" if among == "captions" else "image"
        hits = [
            FakeHit(n, i, modality, float(s), float(s), None, self.item(i)["metadata"], *self._said(i))
            for n, (s, i) in enumerate(found, start=1)
        ]
        asked = query if isinstance(query, str) else like or "picture"
        return FakeResults(asked, hits[offset : offset + k], bool(exact), len(hits))

    def _said(self, id: str) -> tuple[str, str | None]:
        owner = id.rpartition("#")[0] if id not in self.items else None
        return self.item(id)["captions"][0], owner

    def _captions(self) -> dict[str, str]:
        return {f"{i}#{n}": text for i, x in self.items.items() for n, text in enumerate(x.captions)}

    def item(self, id: str) -> dict[str, Any]:
        if id in self.items:
            item, modality, captions = self.items[id], "image", self.items[id].captions
        elif id in self._captions():
            item, modality, captions = self.items[id.rpartition("#")[0]], "caption", [self._captions()[id]]
        else:
            raise UnknownName("id in this index", id, sorted(self.items)[:3])
        shown = {"id": id, "modality": modality, "captions": list(captions), "metadata": item.metadata, "labels": []}
        return shown | {"has_picture": item.picture is not None}

    def picture(self, id: str) -> bytes:
        self.item(id)
        data = self.items[id].picture
        if data is None:
            raise DataError(f"image {id!r}: no picture in this index")
        return data

    def examples(self, n: int, seed: int = 0) -> list[str]:
        return list(self._captions().values())[:n]

    def count(self, modality: str) -> int:
        return len(self.items) if modality == "image" else len(self._captions())

    def info(self) -> dict[str, Any]:
        engine = {"image": "exact", "caption": "exact"}
        return {"model": "dive", "similarity": "SmoothChamfer", "engine": engine, "path": "/home/ann/secret.index"}

    def warm(self) -> None:
        pass

    def keep_up(self) -> None:
        pass


class Client:
    """Requests to an app in process. Faults of ours are raised, unless `quiet`."""

    def __init__(self, app: Any, quiet: bool = False) -> None:
        self.app, self.quiet = app, quiet

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=not self.quiet)
            async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
                return await client.request(method, path, **options)

        return asyncio.run(ask())

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def head(self, path: str) -> httpx.Response:
        return self.request("HEAD", path)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.request("POST", path, **options)
