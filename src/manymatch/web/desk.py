"""One served index, asked: searches, items, pictures and what is said of it, ready for JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic_core import PydanticSerializationError, to_json
from starlette.responses import Response

from .. import __version__
from ..data.decoding import decode
from ..errors import DataError, UnknownName
from ..index.answers.asking import company_counts
from .pictures import Served, Thumbnails, as_stored, pixels_of
from .settings import Settings

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Desk", "Index", "answer"]

_EXAMPLES = 6
_MATCHES = 12

_TOGETHER = 8
"""Queries of a batch that are answered in one turn."""


class Found(Protocol):
    """What a search gives: `index.Results`."""

    @property
    def milliseconds(self) -> float: ...

    def to_json(self) -> dict[str, Any]: ...


class Changed(Protocol):
    """What adding gives: `index.Added`."""

    @property
    def added(self) -> int: ...

    @property
    def replaced(self) -> int: ...


class Index(Protocol):
    """What is asked of an index here; `index.Index` is one."""

    @property
    def path(self) -> Path: ...

    @property
    def model(self) -> Any: ...

    @property
    def search(self) -> Callable[..., Found]: ...

    @property
    def search_many(self) -> Callable[..., Sequence[Found]]: ...

    def item(self, id: str) -> dict[str, Any]: ...

    def picture(self, id: str) -> bytes: ...

    def pixels(self, id: str) -> int: ...

    def elements(self, id: str | None = None, *, query: str | None = None) -> dict[str, Any]: ...

    def put_picture(self, id: str, data: bytes, captions: Sequence[str], metadata: Mapping[str, Any]) -> Changed: ...

    def delete(self, ids: Sequence[str]) -> int: ...

    def examples(self, n: int, seed: int = 0) -> list[str]: ...

    def fields(self) -> list[dict[str, Any]]: ...

    def info(self) -> dict[str, Any]: ...


def answer(body: Any) -> Response:
    """JSON, in which a number that is none is null."""
    try:
        text = to_json(body, inf_nan_mode="null")
    except PydanticSerializationError:
        # Text that is not valid Unicode, which JSON can still spell.
        text = json.dumps(body).encode()
    return Response(text, media_type="application/json")


class Desk:
    """An index, asked. Methods block, and belong in `Threads`. Errors are those of the index.

    Args:
        title: of the page; by default the name of the index folder.
    """

    def __init__(self, index: Index, settings: Settings, title: str | None = None) -> None:
        self.index, self.settings = index, settings
        self.title = title or index.path.name.removesuffix(".index") or "manymatch"
        self._thumbnails = Thumbnails()
        self._examples: tuple[object, list[str]] = None, []

    def search(self, query: Any = None, **options: Any) -> Response:
        """`Results.to_json()` and the milliseconds."""
        return answer(_told(self.index.search(query, **options)))

    def parts(self, queries: Sequence[str]) -> list[Sequence[str]]:
        """Queries to answer at a time, so that others have their turn between; all, where a run encodes them so."""
        size = len(queries) if company_counts(self.index.model) else _TOGETHER
        return [queries[start : start + size] for start in range(0, len(queries), max(1, size))]

    def search_part(self, queries: Sequence[str], **options: Any) -> list[dict[str, Any]]:
        return [_told(found) for found in self.index.search_many(queries, **options)]

    def item(self, item_id: str) -> Response:
        """The item, the captions it would match in this index, and images like it."""
        item = self.index.item(item_id)
        captions = _told(self.index.search(like=item_id, among="captions", k=_MATCHES))
        for hit in captions["hits"]:
            hit["own"] = hit["owner"] == item_id
        like = _told(self.index.search(like=item_id, among="images", k=_MATCHES))
        return answer({"item": item, "captions": captions, "like": like})

    def elements(self, item_id: str | None = None, query: str | None = None) -> Response:
        return answer(self.index.elements(item_id, query=query))

    def picture(self, data: bytes, item_id: str) -> Served:
        """Stored bytes as a browser takes them. Raises PictureError."""
        return as_stored(data, item_id, self.index.pixels(item_id))

    def thumbnail(self, data: bytes, item_id: str) -> Served:
        """A small copy. Raises PictureError."""
        return self._thumbnails.of(data, item_id, self.index.pixels(item_id))

    def stored(self, item_id: str) -> tuple[bytes, int]:
        """The bytes of an item's picture, and how many pixels it has. Raises UnknownName, DataError (none)."""
        data = self.index.picture(item_id)
        return data, pixels_of(data)

    def uploaded(self, data: bytes, name: str) -> Image.Image:
        """A picture that somebody sent. Raises PictureError."""
        return decode(data, name, self.settings.pixels)

    def put(self, item_id: str, data: bytes, captions: Sequence[str], metadata: Mapping[str, Any]) -> Response:
        done = self.index.put_picture(item_id, data, captions, metadata)
        return answer({"added": done.added, "replaced": done.replaced})

    def delete(self, item_id: str) -> Response:
        return answer({"deleted": self.index.delete([item_id])})

    @property
    def folder(self) -> str:
        """Where the index lies, which is said to nobody."""
        return str(self.index.path)

    def method(self) -> str:
        """The name of the run's method."""
        return str(self.index.info()["model"])

    def info(self) -> dict[str, Any]:
        """What is said of this index; nothing of where it lies, nor of who asks."""
        about, settings = self.index.info(), self.settings
        return {
            "title": self.title,
            "images": about["images"],
            "captions": about["captions"],
            "method": about["model"],
            "similarity": about["similarity"],
            "engine": about["engine"]["image"],
            "image_input": self.index.model.image_input,
            "elements": _elements(about["spaces"].get("image", {})),
            "calibrated": about["calibrated"],
            "bank": bool(about.get("bank")),
            "examples": self._examples_of(about["generation"]),
            "fields": self.index.fields(),
            "limits": {
                "k": settings.most,
                "offset": settings.deepest,
                "query_length": settings.query_length,
                "queries": settings.queries,
                "upload_bytes": settings.upload_bytes,
                "pixels": settings.pixels,
            },
            "version": __version__,
        }

    def _examples_of(self, generation: object) -> list[str]:
        if self._examples[0] != generation:
            # Of many captions the shortest make the plainest examples.
            some = sorted(set(self.index.examples(8 * _EXAMPLES)), key=lambda caption: (len(caption), caption))
            self._examples = generation, some[:_EXAMPLES]
        return self._examples[1]

    def example(self) -> tuple[str, str] | None:
        """Words and the id of an item that answers them, to try the API with; None of an empty index."""
        try:
            words = self.index.examples(1)[0]
            return words, str(self.index.search(words, k=1).to_json()["hits"][0]["id"])
        except (IndexError, DataError, UnknownName):
            return None


def _elements(space: Mapping[str, Any]) -> int | None:
    """How many elements an item of this space has; None where items differ."""
    if space.get("kind") == "fragments":
        return None
    return int(space.get("layout", {}).get("k", 1))


def _told(found: Found) -> dict[str, Any]:
    body = found.to_json()
    body["milliseconds"] = round(found.milliseconds, 3)
    return body
