"""What holds for every request before a route sees it: HEAD, ids inside paths, the size of bodies, safety headers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Doorway", "problem"]

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def problem(status: int, kind: str, message: str) -> JSONResponse:
    """The one shape of every error: `{"error": {"type", "message"}}`."""
    return JSONResponse({"error": {"type": kind, "message": message}}, status)


class Doorway:
    """ASGI middleware.

    HEAD is answered as GET without its body. Below `items` a path stays as it was sent, because once decoded the item
    `a/picture` and the picture of `a` look alike; the routes decode the id. Bodies longer than `max_body` bytes are
    refused with 413, by their announced length or, where none was announced, as soon as they exceed it.
    """

    def __init__(self, app: ASGIApp, items: str, max_body: int) -> None:
        self.app, self.items, self.max_body = app, items, max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headless = scope["method"] == "HEAD"
        root = scope.get("root_path", "")
        inner = {**scope, "method": "GET" if headless else scope["method"]}
        raw = scope.get("raw_path")
        if raw is not None and scope["path"].startswith(root + self.items):
            inner["path"] = raw.decode("ascii", "replace")

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message.setdefault("headers", []))
                for name, value in _HEADERS.items():
                    headers[name] = value
            elif headless:
                message = {**message, "body": b""}
            await send(message)

        announced = Headers(scope=scope).get("content-length", "0")
        if announced.isdecimal() and int(announced) > self.max_body:
            await self._too_large()(inner, receive, dressed)
            return
        await self.app(inner, self._counted(receive), dressed)

    def _counted(self, receive: Receive) -> Receive:
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.max_body:
                raise HTTPException(413, self._reason())
            return message

        return counted

    def _reason(self) -> str:
        return f"the upload is larger than {self.max_body // 1_000_000} MB; send a smaller picture"

    def _too_large(self) -> JSONResponse:
        return problem(413, "TooLarge", self._reason())
