"""What OpenAPI is told of a route: what it takes, what it answers, and every way it may refuse."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from fastapi import Depends, Request, Response
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from ..problems import TYPES
from ..schemas import ANSWERS, Problem
from .asked import ID_LENGTH, Body, Parameters

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["FORM", "PICTURE", "Routes", "answers", "openapi", "takes"]

_WHY = {
    400: "malformed, or called by a name that is not the server's",
    401: "no key, or an unknown one",
    403: "this key may not write, or writing is off",
    404: "no such path, item or field",
    405: "another method than this path has",
    408: "the body came too slowly",
    409: "the index was made by another run or format",
    413: "the body is too large",
    415: "a body of another content type",
    422: "a value out of range, an unknown parameter or field, a picture that cannot be read",
    429: "more requests than one client may send; come again after Retry-After seconds",
    500: "a fault of ours",
    503: "more searches than run at once, or stopping; come again after Retry-After seconds",
}
_ALWAYS = (400, 422, 429, 500, 503)
_BODY = (408, 413, 415)
_PICTURES = ("image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp", "image/avif")
_REF = "#/components/schemas/{model}"
_BINARY = {"schema": {"type": "string", "format": "binary"}}

PICTURE: Mapping[str, Any] = {"description": "the picture", "content": dict.fromkeys(_PICTURES, _BINARY)}
"""An answer that is a picture."""

FORM = "multipart/form-data"


Endpoint = Callable[[Request], Awaitable[Response]]


class Routes:
    """Adds routes to an app. All lie in one flat list, since routers inside each other cost every request anew.

    Args:
        prefix: of all paths.
        needs: dependencies of all routes.
    """

    def __init__(self, app: FastAPI, prefix: str, *needs: Callable[..., Any]) -> None:
        self._app, self._prefix, self._needs = app, prefix, needs

    def __call__(
        self,
        method: str,
        path: str,
        told: Mapping[str, Any] | None = None,
        answers: Mapping[int | str, dict[str, Any]] | None = None,
    ) -> Callable[[Endpoint], Endpoint]:
        """A decorator. `told` is what `takes` gives; a route without is none of the schema's."""

        def add(endpoint: Endpoint) -> Endpoint:
            self._app.add_api_route(
                self._prefix + path,
                endpoint,
                methods=[method],
                dependencies=[Depends(need) for need in self._needs],
                response_class=Response,
                status_code=next((int(code) for code in answers or () if int(code) < 300), 200),
                responses=dict(answers or {}),
                openapi_extra=dict(told or {}),
                include_in_schema=told is not None,
                operation_id=f"{endpoint.__name__}{'_compared' if 'compare' in self._prefix else ''}",
            )
            return endpoint

        return add


def answers(
    what: type[BaseModel] | Mapping[str, Any], *others: int, body: bool = False, status: int = 200
) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route.

    Args:
        what: the model of its answer, or the answer itself as OpenAPI has it.
        others: statuses it refuses with besides those that every route has.
        body: whether it reads one.
        status: of its answer.
    """
    refused = sorted({*_ALWAYS, *others, *(_BODY if body else ())})
    told = {"description": "the answer", "content": _json(what)} if isinstance(what, type) else dict(what)
    return {status: told} | {code: _refusal(code) for code in refused}


def _refusal(status: int) -> dict[str, Any]:
    return {"description": f"{_WHY[status]} ({', '.join(TYPES[status])})", "content": _json(Problem)}


def _json(model: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _REF.format(model=model.__name__)}}}


def takes(
    parameters: Parameters | None = None,
    *,
    item: bool = False,
    body: Body | None = None,
    form: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The `openapi_extra` of a route: parameters, the id in its path, a JSON body, or the schema of a form."""
    told: dict[str, Any] = {}
    listed = [*([_ITEM] if item else []), *(parameters.openapi if parameters else [])]
    if listed:
        told["parameters"] = [{**one, "schema": dict(one["schema"])} for one in listed]
    if body is not None:
        told["requestBody"] = {"required": True, "content": {"application/json": {"schema": body.schema}}}
    if form is not None:
        told["requestBody"] = {"required": True, "content": {FORM: {"schema": dict(form)}}}
    return told


_ITEM = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "id of an item, percent-encoded, its slashes too",
    "schema": {"type": "string", "minLength": 1, "maxLength": ID_LENGTH},
}


def openapi(app: FastAPI, example: tuple[str, str] | None) -> dict[str, Any]:
    """The description of the API, with words and an id of this index to try it with."""
    told = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    # Told here, since the framework would make a validator of every answer of every route.
    _, described = models_json_schema([(model, "serialization") for model in ANSWERS], ref_template=_REF)
    told.setdefault("components", {})["schemas"] = described["$defs"]
    if example is not None:
        words, item = example
        for method, operation in _operations(told):
            # Whoever tries out how items are deleted shall not delete one of the index.
            tried = {"q": words, "id": item if method == "get" else "an-id-of-your-own"}
            for parameter in operation.get("parameters", ()):
                if parameter["name"] in tried:
                    parameter["example"] = tried[parameter["name"]]
            schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            if "query" in schema.get("properties", {}):
                schema["examples"] = [{"query": words, "k": 5}]
            elif "queries" in schema.get("properties", {}):
                schema["examples"] = [{"queries": [words], "k": 5}]
    return told


def _operations(told: Mapping[str, Any]) -> Iterable[tuple[str, dict[str, Any]]]:
    return (operation for path in told["paths"].values() for operation in path.items())
