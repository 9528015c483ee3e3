"""The search page and its API over one index, or two side by side. Nothing is kept at module level."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.routing import Match

from .. import __version__
from ..errors import Error
from .admission import Admission
from .desk import Desk, Index
from .doorway import Doorway
from .guard import Guard, add_hosts, add_origins
from .keys import Keys
from .problems import TYPES, Refused, problem, status_of
from .routes.about import State, about_routes, info_routes, metrics_route, page_routes
from .routes.asked import Asked
from .routes.items import item_routes, not_below, writing_routes
from .routes.search import search_routes
from .routes.telling import Routes
from .settings import Settings
from .threads import Threads

if TYPE_CHECKING:
    from .metrics import Metrics

__all__ = ["State", "create_app"]

_STATIC = Path(__file__).parent / "static"
_ROOT, _COMPARED = "/api", "/api/compare"
_LOG = logging.getLogger(__name__)


def create_app(
    index: Index, compared: Index | None = None, settings: Settings | None = None, *, metrics: Metrics | None = None
) -> FastAPI:
    """The page at `/` and the API below `/api/` for this index; below `/api/compare/` reads the other one, if any.

    `app.state.serving` is the `State` that `/ready` tells of. Every refusal is `{"error": {"type", "message"}}` with a
    status of `problems.TYPES`. Pictures are served by the id of their item only.

    Raises:
        DataError: the key file, or a host or origin of the settings, is none.
    """
    settings = settings or Settings()
    guard = Guard(None if settings.keys is None else Keys.open(settings.keys), settings)
    threads, asked = Threads(settings.pixels), Asked(settings)
    app = _bare_app(threads)
    app.state.serving = State()
    desk = Desk(index, settings, settings.title)
    other = None if compared is None else Desk(compared, settings)
    # Searches come first, since routes are tried in the order in which they were added.
    _add_reading(app, _ROOT, desk, other, asked, threads, guard)
    if other is not None:
        _add_reading(app, _COMPARED, other, None, asked, threads, guard)
    writing_routes(Routes(app, _ROOT, not_below, guard.writer), desk, asked, threads)
    about_routes(Routes(app, ""), app.state.serving, asked, guard)
    if metrics is not None:
        metrics_route(Routes(app, "", guard.reader), metrics, asked, threads)
    page_routes(app, desk, threads, guard)
    app.mount("/static", StaticFiles(directory=_STATIC), name="static")
    _answer_errors(app, tuple(one.folder for one in (desk, other) if one is not None))
    add_hosts(app, guard)
    app.add_middleware(Doorway, items=(f"{_ROOT}/items/", f"{_COMPARED}/items/"), settings=settings)
    app.add_middleware(Admission, settings=settings, metrics=metrics, client=guard.client)
    add_origins(app, guard)
    return app


def _add_reading(
    app: FastAPI, prefix: str, desk: Desk, compared: Desk | None, asked: Asked, threads: Threads, guard: Guard
) -> None:
    """What either index is asked, told once."""
    routes = Routes(app, prefix, guard.reader)
    search_routes(routes, desk, asked, threads)
    info_routes(routes, desk, compared, asked, threads, guard)
    item_routes(routes, desk, asked, threads)


def _bare_app(threads: Threads) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        threads.close()

    return FastAPI(
        title="manymatch",
        description="Image-text search over one index. Higher scores are closer.",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )


# ---- refusals


def _answer_errors(app: FastAPI, folders: tuple[str, ...]) -> None:
    @app.exception_handler(Error)
    async def mendable(request: Request, error: Error) -> JSONResponse:
        told, found = str(error), status_of(error)
        if found is not None and not told.startswith(folders):
            return problem(*found, told)
        # The keeper of the index can mend it, not the caller; what is said names places of this machine.
        _LOG.error("%s %s: %s", request.method, request.scope["path"], told)
        if request.method in ("PUT", "DELETE"):
            return problem(503, "Overloaded", "the index cannot be changed now; try again later", {"Retry-After": "5"})
        return problem(500, "InternalError", "the index cannot be read as it is; the server's output says why")

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> JSONResponse:
        return error.answer()

    @app.exception_handler(HTTPException)
    async def unrouted(request: Request, error: HTTPException) -> JSONResponse:
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(_allowed(app, request))
        known = TYPES.get(error.status_code, ("BadRequest",))
        return problem(error.status_code, known[0], error.detail, headers)


def _allowed(app: FastAPI, request: Request) -> list[str]:
    """The methods of this path; the router itself tells those of the first route alone."""
    path: str | None = None
    found: set[str] = set()
    for route in app.routes:
        if not isinstance(route, APIRoute) or path not in (None, route.path):
            continue
        if route.matches(request.scope)[0] is not Match.NONE:
            path = route.path
            found |= route.methods or set()
    # What is mounted is only read.
    found = found or {"GET"}
    return sorted(found | ({"HEAD"} if "GET" in found else set()))
