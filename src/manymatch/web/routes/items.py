"""Items: what is known of one, its picture, its elements; and putting and deleting them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import Request, Response
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from ...errors import DataError
from ..desk import Desk
from ..pictures import Served, pixels_of
from ..problems import Refused
from ..schemas import Added, Deleted, Elements, Item
from ..threads import Threads
from .asked import Asked
from .multipart import File
from .reading import form_of, item_id
from .telling import PICTURE, Routes, answers, takes

__all__ = ["item_routes", "not_below", "writing_routes"]

_T = TypeVar("_T")

_PARTS = ("picture", "thumbnail", "elements")
"""What lies below an item; as the end of an id, their slash is sent percent-encoded."""

_UNCHANGED: dict[int | str, dict[str, Any]] = {304: {"description": "as the If-None-Match that was sent"}}


def item_routes(routes: Routes, desk: Desk, asked: Asked, threads: Threads) -> None:
    """Routes that read items of one index."""
    told = takes(asked.nothing, item=True)

    async def picture_of(request: Request, serve: Callable[[bytes, str], Served]) -> Response:
        asked.nothing.read(request.scope["query_string"])
        id = item_id(request)
        try:
            async with threads.files.of(1):
                data, pixels = await threads.read(desk.stored, id)
                async with threads.shown.of(pixels):
                    served = await threads.read(serve, data, id)
        except DataError:
            # The message may name folders of this machine, which are none of a visitor's business.
            raise Refused(404, "NotFound", f"item {id!r} has no picture that can be shown") from None
        headers = {"ETag": f'"{served.tag}"'}
        if _is_known(request.headers.get("if-none-match", ""), headers["ETag"]):
            return Response(status_code=304, headers=headers)
        return Response(served.data, media_type=served.media_type, headers=headers)

    @routes("GET", "/items/{id:path}/picture", told, answers(PICTURE, 401, 404) | _UNCHANGED)
    async def picture(request: Request) -> Response:
        """The picture as it is stored; formats that browsers do not show become JPEG."""
        return await picture_of(request, desk.picture)

    @routes("GET", "/items/{id:path}/thumbnail", told, answers(PICTURE, 401, 404) | _UNCHANGED)
    async def thumbnail(request: Request) -> Response:
        """A small JPEG of the picture."""
        return await picture_of(request, desk.thumbnail)

    @routes("GET", "/items/{id:path}/elements", told, answers(Elements, 401, 404, 409))
    async def item_elements(request: Request) -> Response:
        """What each element of the item attends to."""
        asked.nothing.read(request.scope["query_string"])
        return await threads.search(desk.elements, item_id(request))

    @routes("GET", "/items/{id:path}", told, answers(Item, 401, 404, 409))
    async def item(request: Request) -> Response:
        """The item, the captions it would match, and images like it."""
        asked.nothing.read(request.scope["query_string"])
        return await threads.search(desk.item, item_id(request))


def _is_known(sent: str, tag: str) -> bool:
    return sent.strip() == "*" or tag in (one.strip().removeprefix("W/") for one in sent.split(","))


# ---- writing

_CAPTIONS: TypeAdapter[list[str]] = TypeAdapter(
    Annotated[list[Annotated[str, Field(max_length=10_000)]], Field(max_length=1000, strict=True)]
)


def _finite(value: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        raise ValueError("a number in it is not finite") from None
    return value


_METADATA: TypeAdapter[dict[str, Any]] = TypeAdapter(
    Annotated[dict[str, Any], Field(strict=True), AfterValidator(_finite)]
)

_FORM = {
    "type": "object",
    "properties": {
        "picture": {"type": "string", "format": "binary"},
        "captions": {
            "type": "string",
            "contentMediaType": "application/json",
            "description": "a JSON list of texts",
            "default": "[]",
            "examples": ['["a red wall"]'],
        },
        "metadata": {
            "type": "string",
            "contentMediaType": "application/json",
            "description": "a JSON object",
            "default": "{}",
            "examples": ['{"year": 2001}'],
        },
    },
    "required": ["picture"],
    "additionalProperties": False,
}


def not_below(request: Request) -> None:
    """`/api/items/a/picture` is the picture of `a`, which cannot be put or deleted by itself."""
    if str(request.path_params["id"]).rpartition("/")[2] in _PARTS and "/" in request.path_params["id"]:
        raise Refused(405, "MethodNotAllowed", "this path is only read", {"Allow": "GET, HEAD"})


def writing_routes(routes: Routes, desk: Desk, asked: Asked, threads: Threads) -> None:
    """Routes that change the index."""

    @routes(
        "PUT",
        "/items/{id:path}",
        takes(asked.nothing, item=True, form=_FORM),
        answers(Added, 401, 403, 404, 409, body=True),
    )
    async def put(request: Request) -> Response:
        """Add an image with its captions, or replace the known one of this id. The picture is kept in the index."""
        asked.nothing.read(request.scope["query_string"])
        id = item_id(request)
        form = await form_of(request, threads, desk.settings.body_bytes, ("picture",), ("captions", "metadata"))
        picture = form.get("picture")
        if not isinstance(picture, File):
            raise DataError("picture: missing, expected a picture in the form's field of this name")
        captions = _json(_CAPTIONS, "captions", form.get("captions", "[]"))
        metadata = _json(_METADATA, "metadata", form.get("metadata", "{}"))
        async with threads.sent.of(await threads.read(pixels_of, picture.data)):
            # Told apart here from what is wrong with the index, and within the limits of this server.
            await threads.read(desk.uploaded, picture.data, picture.name)
            return await threads.change(desk.put, id, picture.data, captions, metadata)

    @routes(
        "DELETE",
        "/items/{id:path}",
        takes(asked.nothing, item=True),
        answers(Deleted, 401, 403, 404, 409),
    )
    async def delete(request: Request) -> Response:
        """Delete an item, and the captions of an image."""
        asked.nothing.read(request.scope["query_string"])
        return await threads.change(desk.delete, item_id(request))


def _json(kind: TypeAdapter[_T], name: str, given: File | str) -> _T:
    try:
        return kind.validate_json(given if isinstance(given, str) else b"")
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, (name, *first["loc"])))
        raise DataError(f"{where}: {first['msg']}") from None
