"""Searching: by words, by an item, by a picture, and many at once."""

from __future__ import annotations

from typing import Any

from fastapi import Request, Response

from ...errors import DataError
from ..desk import Desk, answer
from ..pictures import pixels_of
from ..schemas import Elements, Many, Results
from ..threads import Threads
from .asked import Asked
from .multipart import File
from .reading import form_of, json_of
from .telling import Routes, answers, takes

__all__ = ["search_routes"]

_IMAGE = {
    "type": "object",
    "properties": {
        "image": {"type": "string", "format": "binary", "description": "the picture to start from"},
        "where": {
            "type": "string",
            "contentMediaType": "application/json",
            "description": "conditions on metadata as a JSON object, where the parameter of this name cannot say them",
            "examples": ['{"year": {"gte": 2000}}'],
        },
    },
    "required": ["image"],
    "additionalProperties": False,
}


def search_routes(routes: Routes, desk: Desk, asked: Asked, threads: Threads) -> None:
    """Routes that search one index."""

    @routes("GET", "/search", takes(asked.search), answers(Results, 401, 404, 409))
    async def search(request: Request) -> Response:
        """Search by words, or from an item of the index on; exactly one of `q` and `like`."""
        options = asked.search.read(request.scope["query_string"])
        query = options.pop("q", None)
        _one_of(query, options.get("like"), "q")
        return await threads.search(desk.search, query, **options)

    @routes("POST", "/search", takes(body=asked.body), answers(Results, 401, 404, 409, body=True))
    async def search_by_body(request: Request) -> Response:
        """The same as JSON, with conditions on metadata as an object."""
        asked.nothing.read(request.scope["query_string"])
        options = asked.body.read(await json_of(request))
        query = options.pop("query", None)
        _one_of(query, options.get("like"), "query")
        return await threads.search(desk.search, query, **options)

    @routes("POST", "/search/many", takes(body=asked.many), answers(Many, 401, 404, 409, body=True))
    async def search_many(request: Request) -> Response:
        """Several queries in words, answered in their order."""
        asked.nothing.read(request.scope["query_string"])
        options = asked.many.read(await json_of(request))
        results: list[dict[str, Any]] = []
        for part in desk.parts(options.pop("queries")):
            results += await threads.search(desk.search_part, part, **options)
        return answer({"results": results})

    @routes(
        "POST",
        "/search/image",
        takes(asked.image, form=_IMAGE),
        answers(Results, 401, 404, 409, body=True),
    )
    async def search_by_picture(request: Request) -> Response:
        """Search from a picture on."""
        options = asked.image.read(request.scope["query_string"])
        form = await form_of(request, threads, desk.settings.body_bytes, ("image",), ("where",))
        image, where = form.get("image"), form.get("where")
        if not isinstance(image, File):
            raise DataError("image: missing, expected a picture in the form's field of this name")
        if isinstance(where, str):
            if "where" in options:
                raise DataError("where: given as a parameter and in the form, expected it once")
            options |= asked.where.read_field("where", where)
        async with threads.sent.of(await threads.read(pixels_of, image.data)):
            picture = await threads.read(desk.uploaded, image.data, image.name)
            # What results call the query.
            picture.filename = image.name  # type: ignore[attr-defined]
            return await threads.search(desk.search, picture, **options)

    @routes("GET", "/elements", takes(asked.elements), answers(Elements, 401, 404, 409))
    async def elements(request: Request) -> Response:
        """What each element of a query in words attends to."""
        options = asked.elements.read(request.scope["query_string"])
        return await threads.search(desk.elements, None, options["q"])


def _one_of(query: object, like: object, called: str) -> None:
    if (query is None) == (like is None):
        given = "neither" if query is None else "both"
        raise DataError(f"search: {given} of {called} and like given, expected one: words, or the id of an item")
