"""What holds for every request before a route sees it: HEAD, ids inside paths, bodies in bounds, headers of safety."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect

from .problems import Refused, problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from .settings import Settings

__all__ = ["Doorway"]

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_OURS = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]
_CACHED = (b"cache-control", b"private, no-cache")
"""Where an answer does not say: a cache in between may not give it to others, and a new version is seen at once."""


class Doorway:
    """ASGI middleware.

    HEAD is answered as GET without its body, and everything whole, whatever Range asks for. Below `items` a path stays
    as it was sent, because once decoded the item `a/picture` and the picture of `a` look alike; the routes decode the
    id. A body that is longer than the settings allow is refused with 413, by its announced length or as soon as it
    exceeds it, and with 408 one that takes longer than `patience` in all. What nobody caught is answered with 500 and
    raised on, so that its trace is in the log.
    """

    def __init__(self, app: ASGIApp, items: Sequence[str], settings: Settings) -> None:
        self.app, self.items, self.settings = app, tuple(items), settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headless = scope["method"] == "HEAD"
        inner = {**scope, "method": "GET"} if headless else dict(scope)
        if any(name == b"range" for name, _ in scope["headers"]):
            inner["headers"] = [header for header in scope["headers"] if header[0] != b"range"]
        raw = scope.get("raw_path")
        if raw is not None and scope["path"].startswith(tuple(scope.get("root_path", "") + i for i in self.items)):
            inner["path"] = raw.decode("ascii", "replace")
        answering = _Answering(send, headless)
        body = receive if scope["method"] in ("GET", "HEAD") else self._bounded(Headers(scope=scope), receive)
        try:
            await self.app(inner, body, answering.send)
        except ClientDisconnect:
            return
        except Refused as refused:
            await refused.answer()(inner, receive, answering.send)
        except Exception:
            if not answering.started:
                what = "a fault of manymatch itself; its trace is in the server's output"
                await problem(500, "InternalError", what)(inner, receive, answering.send)
            raise

    def _bounded(self, headers: Headers, receive: Receive) -> Receive:
        """The body as it arrives. What goes beyond its bounds is refused where the route reads it."""
        settings = self.settings
        upload = headers.get("content-type", "").lower().startswith("multipart/")
        most = settings.upload_bytes if upload else settings.body_bytes
        announced = headers.get("content-length", "0")
        until = asyncio.get_running_loop().time() + settings.patience
        read, whole = 0, False

        async def bounded() -> Message:
            nonlocal read, whole
            if whole:
                return await receive()
            if announced.isdecimal() and len(announced) < 20 and int(announced) > most:
                raise _too_large(most)
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
            except TimeoutError:
                slow = f"the body did not arrive within {settings.patience:g} seconds"
                raise Refused(408, "Timeout", slow, {"Connection": "close"}) from None
            whole = not message.get("more_body", False)
            read += len(message.get("body", b""))
            if read > most:
                raise _too_large(most)
            return message

        return bounded


class _Answering:
    """The way out: our headers on every answer, no body for HEAD."""

    def __init__(self, send: Send, headless: bool) -> None:
        self._send, self._headless, self.started = send, headless, False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = [*message.get("headers", ()), *_OURS]
            if all(name != _CACHED[0] for name, _ in headers):
                headers.append(_CACHED)
            message = {**message, "headers": headers}
        elif self._headless:
            message = {**message, "body": b""}
        await self._send(message)


def _too_large(most: int) -> Refused:
    size = f"{most / 1_000_000:g} MB" if most >= 1_000_000 else f"{most} bytes"
    return Refused(413, "TooLarge", f"the body is larger than {size}; send less")
