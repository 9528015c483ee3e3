"""The search page and its JSON API over one index. Nothing is kept at module level, so tests make an app in process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import unquote

from fastapi import APIRouter, Depends, FastAPI, File, Query, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from .. import __version__
from ..data.decoding import decode
from ..errors import DataError, Error, UnknownName
from .doorway import Doorway, problem
from .pictures import Served, Thumbnails, as_stored

if TYPE_CHECKING:
    from ..index import Index

__all__ = ["create_app"]

_STATIC = Path(__file__).parent / "static"
_ITEMS = "/api/items/"
_MAX_UPLOAD = 20_000_000
_EXAMPLES = 6
_ASKED = frozenset({"q", "like", "among", "exact", "k", "offset"})
_MATCHES = 12

Modality = Literal["images", "captions"]
Count = Annotated[int, Query(ge=1, le=200, description="how many hits")]
Offset = Annotated[int, Query(ge=0, le=1_000_000, description="how many hits to pass over first")]
Words = Annotated[str | None, Query(max_length=1000, description="what to look for, in words")]


def create_app(index: Index) -> FastAPI:
    """The page at `/` and the API below `/api/` for this index.

    A mistake of the caller is answered with 4xx and `{"error": {"type", "message"}}`; an unknown id, or one without a
    picture where the picture was asked for, with 404. Pictures are served by the id of their item only.
    """
    app = FastAPI(title="manymatch", version=__version__, docs_url=None, redoc_url=None)
    app.add_middleware(Doorway, items=_ITEMS, max_body=_MAX_UPLOAD)
    _answer_errors(app)
    asked = _Asked(index)
    app.include_router(_search_routes(asked))
    app.include_router(_item_routes(asked))
    app.include_router(_other_routes(asked))
    app.mount("/static", StaticFiles(directory=_STATIC), name="static")
    return app


class _Asked:
    """The index, asked one search at a time: torch and faiss already use the cores there are."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self._one = threading.Lock()

    def search(self, query: Any = None, k: int = 10, **options: Any) -> dict[str, Any]:
        """`Results.to_json()`, and what the page shows besides: how many were searched, how long, each caption."""
        with self._one:
            results = self.index.search(query, k, **options)
        body = results.to_json()
        for shown, hit in zip(body["hits"], results.hits, strict=True):
            shown |= {"caption": hit.caption, "owner": hit.owner, "has_picture": self._has_picture(hit.id)}
        return body | {"searched": results.searched, "milliseconds": round(results.milliseconds, 2)}

    def item(self, item_id: str) -> dict[str, Any]:
        """The item, the captions it would match in this index, and images like it."""
        item = self.index.item(item_id)
        captions = self.search(like=item_id, among="captions", k=_MATCHES)
        for hit in captions["hits"]:
            hit["own"] = hit["owner"] == item_id
        return {"item": item, "captions": captions, "like": self.search(like=item_id, among="images", k=_MATCHES)}

    def info(self) -> dict[str, Any]:
        """What the start page says of this index; nothing of where it lies."""
        about = self.index.info()
        # Of many captions the shortest make the plainest examples.
        some = sorted(set(self.index.examples(8 * _EXAMPLES)), key=lambda caption: (len(caption), caption))
        return {
            "images": self.index.count("image"),
            "captions": self.index.count("caption"),
            "method": about["model"],
            "similarity": about["similarity"],
            "engine": about["engine"]["image"],
            "image_input": self.index.model.image_input,
            "examples": some[:_EXAMPLES],
            "version": __version__,
        }

    def _has_picture(self, item_id: str) -> bool:
        try:
            return bool(self.index.item(item_id)["has_picture"])
        except UnknownName:
            # Deleted since the search looked: its tile shows words.
            return False


def _search_routes(asked: _Asked) -> APIRouter:
    routes = APIRouter(prefix="/api")

    @routes.get("/search")
    def search(
        request: Request,
        q: Words = None,
        like: Annotated[str | None, Query(max_length=4096, description="id of an item to start from")] = None,
        among: Modality | None = None,
        exact: bool | None = None,
        k: Count = 24,
        offset: Offset = 0,
    ) -> JSONResponse:
        unknown = sorted(set(request.query_params) - _ASKED)
        if unknown:
            # Passed over in silence, a filter that is not there would look like one that everything passes.
            raise DataError(f"search: unknown parameter {unknown[0]!r}, known: {', '.join(sorted(_ASKED))}")
        words = (q or "").strip()
        if bool(words) == (like is not None):
            given = "both" if words else "neither"
            raise DataError(f"search: {given} of q and like given, expected one: words, or the id of an item")
        query = words or None
        return JSONResponse(asked.search(query, k, like=like, among=among, exact=exact, offset=offset))

    @routes.post("/search/image")
    def search_image(
        image: Annotated[UploadFile, File(description="a picture of at most 20 MB")],
        among: Modality | None = None,
        exact: bool | None = None,
        k: Count = 24,
        offset: Offset = 0,
    ) -> JSONResponse:
        picture = decode(image.file.read(), image.filename or "upload")
        found = asked.search(picture, k, among=among, exact=exact, offset=offset)
        return JSONResponse(found | {"query": image.filename})

    return routes


def _item_id(request: Request) -> str:
    """The id as the caller meant it; `Doorway` left it percent-encoded."""
    sent = str(request.path_params["id"])
    try:
        return unquote(sent, errors="strict")
    except UnicodeDecodeError:
        raise HTTPException(404, f"item {sent!r}: not UTF-8, so no id of this index") from None


ItemId = Annotated[str, Depends(_item_id)]


def _item_routes(asked: _Asked) -> APIRouter:
    routes = APIRouter(prefix=_ITEMS.rstrip("/"))
    thumbnails = Thumbnails()

    def picture_of(item_id: str, serve: Callable[[bytes, str], Served], request: Request) -> Response:
        try:
            served = serve(asked.index.picture(item_id), item_id)
        except DataError:
            # The message may name folders of this machine, which are none of a visitor's business.
            raise HTTPException(404, f"item {item_id!r} has no picture that can be shown") from None
        headers = {"ETag": f'"{served.tag}"', "Cache-Control": "private, no-cache"}
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(served.data, media_type=served.media_type, headers=headers)

    @routes.get("/{id:path}/picture", response_class=Response)
    def picture(item_id: ItemId, request: Request) -> Response:
        return picture_of(item_id, as_stored, request)

    @routes.get("/{id:path}/thumbnail", response_class=Response)
    def thumbnail(item_id: ItemId, request: Request) -> Response:
        return picture_of(item_id, thumbnails.of, request)

    @routes.get("/{id:path}")
    def item(item_id: ItemId) -> JSONResponse:
        return JSONResponse(asked.item(item_id))

    return routes


def _other_routes(asked: _Asked) -> APIRouter:
    routes = APIRouter()

    @routes.get("/", response_class=FileResponse)
    def page() -> FileResponse:
        return FileResponse(_STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    @routes.get("/api/info")
    def info() -> JSONResponse:
        return JSONResponse(asked.info())

    @routes.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    return routes


_KINDS = {404: "NotFound", 405: "MethodNotAllowed", 413: "TooLarge"}


def _answer_errors(app: FastAPI) -> None:
    @app.exception_handler(Error)
    def mendable(request: Request, error: Error) -> JSONResponse:
        return problem(404 if isinstance(error, UnknownName) else 422, type(error).__name__, str(error))

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        parts = [f"{'.'.join(map(str, e['loc'][1:])) or 'body'}: {e['msg']}" for e in error.errors()]
        return problem(422, "DataError", "; ".join(parts))

    @app.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> JSONResponse:
        answer = problem(error.status_code, _KINDS.get(error.status_code, "BadRequest"), error.detail)
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(Exception)
    def ours(request: Request, error: Exception) -> JSONResponse:
        return problem(500, "InternalError", "a fault of manymatch itself; its trace is in the server's output")
