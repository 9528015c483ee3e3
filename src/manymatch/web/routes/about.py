"""What is served, whether it is well, the session of a browser, and the pages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import Request, Response
from fastapi.responses import FileResponse

from ..desk import Desk, answer
from ..guard import Guard
from ..problems import Refused
from ..schemas import Info, Liveness, Readiness
from ..threads import Threads
from .asked import Asked
from .reading import json_of
from .telling import Routes, answers, openapi, takes

if TYPE_CHECKING:
    from fastapi import FastAPI

    from ..metrics import Metrics

__all__ = ["State", "about_routes", "info_routes", "metrics_route", "page_routes"]

_STATIC = Path(__file__).parent.parent / "static"
_TEXT = {"description": "the text format of Prometheus", "content": {"text/plain": {"schema": {"type": "string"}}}}
_DONE = {"description": "done"}


class State:
    """Whether requests are welcome: `warm()` while what they need is read, `ready()`, and `stop()` for the rest."""

    def __init__(self) -> None:
        self.now = "ready"

    def warm(self) -> None:
        self.now = "warming"

    def ready(self) -> None:
        self.now = "ready"

    def stop(self) -> None:
        self.now = "stopping"


def info_routes(
    routes: Routes, desk: Desk, compared: Desk | None, asked: Asked, threads: Threads, guard: Guard
) -> None:
    """What is said of one index, and of the one it is compared with."""

    def told() -> dict[str, Any]:
        other = None if compared is None else {"title": compared.title, "method": compared.method()}
        return desk.info() | {"compare": other}

    @routes("GET", "/info", takes(asked.nothing), answers(Info, 401, 409))
    async def info(request: Request) -> Response:
        """What is served here, its limits, and what this caller may do."""
        asked.nothing.read(request.scope["query_string"])
        read, write = guard.access(request.scope)
        return answer(await threads.read(told) | {"access": {"read": read, "write": write}})


def about_routes(routes: Routes, state: State, asked: Asked, guard: Guard) -> None:
    """Routes of the server, whatever it serves."""
    plain = takes(asked.nothing)

    @routes("GET", "/health", plain, answers(Liveness))
    async def health(request: Request) -> Response:
        """Whether the process answers; a restart helps where it does not."""
        asked.nothing.read(request.scope["query_string"])
        return answer({"status": "ok"})

    @routes("GET", "/ready", plain, answers(Readiness))
    async def ready(request: Request) -> Response:
        """Whether searches are answered now; a balancer sends none elsewhere than there."""
        asked.nothing.read(request.scope["query_string"])
        if state.now == "stopping":
            raise Refused(503, "Stopping", "this server is stopping", {"Retry-After": "5"})
        if state.now == "warming":
            raise Refused(503, "Overloaded", "this server is starting", {"Retry-After": "1"})
        return answer({"status": "ready"})

    @routes(
        "POST",
        "/api/session",
        takes(body=asked.session),
        answers(_DONE, 401, body=True, status=204),
    )
    async def enter(request: Request) -> Response:
        """Let this browser read on behalf of a key, by a cookie that does not hold the key."""
        asked.nothing.read(request.scope["query_string"])
        key = asked.session.read(await json_of(request))["key"]
        return Response(status_code=204, headers={"Set-Cookie": guard.session_cookie(request.scope, key)})

    @routes("DELETE", "/api/session", plain, answers(_DONE, status=204))
    async def leave(request: Request) -> Response:
        """Make this browser forget."""
        asked.nothing.read(request.scope["query_string"])
        return Response(status_code=204, headers={"Set-Cookie": guard.cleared_cookie(request.scope)})


def metrics_route(routes: Routes, metrics: Metrics, asked: Asked, threads: Threads) -> None:
    """What Prometheus collects."""

    @routes("GET", "/metrics", takes(asked.nothing), answers(_TEXT, 401))
    async def numbers(request: Request) -> Response:
        """The numbers of this server, for Prometheus."""
        asked.nothing.read(request.scope["query_string"])
        return Response(await threads.read(metrics.render), headers={"Content-Type": metrics.content_type})


def page_routes(app: FastAPI, desk: Desk, threads: Threads, guard: Guard) -> None:
    """Both pages, which are open, and the description of the API, which whoever may read may read."""
    open_, read = Routes(app, ""), Routes(app, "", guard.reader)

    @open_("GET", "/")
    async def page(request: Request) -> Response:
        return FileResponse(_STATIC / "index.html")

    @open_("GET", "/docs")
    async def docs(request: Request) -> Response:
        return FileResponse(_STATIC / "docs.html")

    @read("GET", "/openapi.json")
    async def description(request: Request) -> Response:
        if app.openapi_schema is None:
            app.openapi_schema = openapi(app, await threads.search(desk.example))
        return answer(app.openapi_schema)
