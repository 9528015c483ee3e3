"""Who gets in when there is more to do than can be done: refused at once, with when to come again, never queued.

Searches are counted while they run, not connections. A request with a body takes its place once the body is there, so
that those who send slowly keep nobody out; what such bodies hold in memory is bounded by itself.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple

from starlette.requests import ClientDisconnect

from .connections import LEFT
from .problems import problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from .metrics import Metrics
    from .settings import Settings

__all__ = ["Admission", "Place", "Rates", "place_of"]

Kind = Literal["search", "picture", "other"]

_PICTURES = 8
"""Pictures that may be read at once, for each search that may run: a page of results asks for dozens."""

_UPLOADS = 4
"""Bodies of the largest size that may lie in memory at once; in small ones that is a great many."""

_CLIENTS = 10_000
"""Clients whose rate is remembered."""

_GONE = 499
"""Told in metrics of a request whose client left before it was answered."""


class Place(NamedTuple):
    """Where a request goes.

    Attributes:
        route: the template of its path, one of few.
        kind: what it costs: "search" runs the model or the index, "picture" reads and may scale one.
        limited: whether it counts against its client's rate.
    """

    route: str
    kind: Kind = "other"
    limited: bool = False


def _places() -> dict[str, Place]:
    open_ones = ("/", "/health", "/ready", "/metrics", "/openapi.json", "/docs")
    out = {path: Place(path) for path in open_ones} | {"/api/session": Place("/api/session", limited=True)}
    for root in _ROOTS:
        out[f"{root}/info"] = Place(f"{root}/info", limited=True)
        for name in ("search", "search/many", "search/image", "elements"):
            out[f"{root}/{name}"] = Place(f"{root}/{name}", "search", True)
    return out


_ROOTS = ("/api", "/api/compare")
_FIXED = _places()
_ELSEWHERE = Place("elsewhere")
_STATIC = Place("/static")
_ITEM = {
    f"{root}/items/": {
        "picture": Place(f"{root}/items/{{id}}/picture", "picture"),
        "thumbnail": Place(f"{root}/items/{{id}}/thumbnail", "picture"),
        "elements": Place(f"{root}/items/{{id}}/elements", "search", True),
        "": Place(f"{root}/items/{{id}}", "search", True),
    }
    for root in _ROOTS
}


def place_of(scope: Scope) -> Place:
    """Where a request goes, by its path as it was sent: once decoded, the item `a/picture` looks like a picture."""
    raw = scope.get("raw_path")
    path: str = scope["path"] if raw is None else raw.decode("ascii", "replace")
    found = _FIXED.get(path)
    if found is not None:
        return found
    for root, items in _ITEM.items():
        if path.startswith(root):
            _id, slash, below = path[len(root) :].rpartition("/")
            return items.get(below, items[""]) if slash else items[""]
    return _STATIC if path.startswith("/static/") else _ELSEWHERE


class Rates:
    """How fast each client asks: `rate` requests a second, and twice as many at once after a pause.

    For each client one number is kept, when it will have been quiet long enough to have all of its burst again; those
    not heard of longest are forgotten first.

    Args:
        rate: requests a second.
        clients: how many are remembered.
        clock: seconds, never set back.
    """

    def __init__(self, rate: float, clients: int = _CLIENTS, clock: Callable[[], float] = time.monotonic) -> None:
        self._each, self._burst = 1.0 / rate, max(1.0, 2.0 * rate) / rate
        self._most, self._clock = clients, clock
        self._rested: OrderedDict[str, float] = OrderedDict()

    def wait(self, client: str) -> float:
        """Seconds this client has to wait; 0 where it may go on, which then counts."""
        now = self._clock()
        then = max(now, self._rested.get(client, now)) + self._each
        # What adding and taking off leave over must not cost the last request of a burst.
        early = then - now - self._burst
        if early > 1e-9:
            return early
        self._rested[client] = then
        self._rested.move_to_end(client)
        if len(self._rested) > self._most:
            self._rested.popitem(last=False)
        return 0.0


class Admission:
    """ASGI middleware, outside of all others but `Origins`.

    Args:
        app: what answers those who get in.
        settings: `searches` and `rate`.
        metrics: told of every request.
        client: who asks; by default its address.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        metrics: Metrics | None = None,
        client: Callable[[Scope], str] | None = None,
    ) -> None:
        self.app, self.metrics, self._client = app, metrics, client or _address
        self._most = {"search": settings.searches, "picture": _PICTURES * settings.searches}
        self._running = {"search": 0, "picture": 0}
        self._rates = Rates(settings.rate) if settings.rate else None
        self._bytes, self._most_bytes = 0, _UPLOADS * max(settings.upload_bytes, settings.body_bytes)

    @property
    def running(self) -> int:
        """Searches that run or wait."""
        return self._running["search"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        place = place_of(scope)
        visit = _Visit(self, place.kind, receive, send)
        try:
            await self._let_in(scope, place, visit)
        finally:
            if visit.entered:
                self.leave(place.kind)
            self._bytes -= visit.held
            if self.metrics is not None:
                searched = visit.entered and place.kind == "search"
                seconds = time.perf_counter() - began
                self.metrics.finished(place.route, scope["method"], visit.status, seconds, searched)

    async def _let_in(self, scope: Scope, place: Place, visit: _Visit) -> None:
        wait = self._rates.wait(self._client(scope)) if self._rates is not None and place.limited else 0.0
        if wait:
            await visit.refuse("rate", wait)
        elif self.is_full(place.kind):
            await visit.refuse(place.kind)
        else:
            if place.kind == "search":
                visit.watch(scope)
            if scope["method"] in _BODILESS:
                visit.enter()
            try:
                await self.app(scope, visit.receive, visit.send)
            except ClientDisconnect:
                # How an app is told that nobody waits for its answer any more; here also once it was refused.
                if not visit.refused:
                    raise
            except asyncio.CancelledError:
                if not visit.left:
                    raise

    def is_full(self, kind: Kind) -> bool:
        """Whether as many of this kind run as may."""
        return kind != "other" and self._running[kind] >= self._most[kind]

    def enter(self, kind: Kind) -> None:
        """One more of this kind runs."""
        if kind != "other":
            self._running[kind] += 1
            if kind == "search" and self.metrics is not None:
                self.metrics.started()

    def leave(self, kind: Kind) -> None:
        """One of this kind ended, however."""
        if kind != "other":
            self._running[kind] -= 1
            if kind == "search" and self.metrics is not None:
                self.metrics.ended()

    def holds(self, size: int) -> bool:
        """Keep count of a part of a body; False where all bodies together have become too much."""
        self._bytes += size
        return self._bytes <= self._most_bytes


class _Visit:
    """One request on its way through."""

    __slots__ = ("_admission", "_kind", "_receive", "_send", "entered", "held", "left", "refused", "status")

    def __init__(self, admission: Admission, kind: Kind, receive: Receive, send: Send) -> None:
        self._admission, self._kind, self._receive, self._send = admission, kind, receive, send
        self.entered = self.refused = self.left = False
        self.held, self.status = 0, _GONE

    def enter(self) -> None:
        self._admission.enter(self._kind)
        self.entered = True

    def watch(self, scope: Scope) -> None:
        """Stop when the client leaves: a search that still waits then frees its place without being run."""
        told: list[Callable[[], object]] | None = scope.get("extensions", {}).get(LEFT)
        task = asyncio.current_task()
        if told is None or task is None:
            return

        def leave() -> None:
            self.left = True
            task.cancel()

        told.append(leave)

    async def send(self, message: Message) -> None:
        if self.refused:
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] != "http.request":
            return message
        size = len(message.get("body", b""))
        self.held += size
        if not self._admission.holds(size):
            return await self._turned_away("bodies")
        if not message.get("more_body", False) and not self.entered:
            if self._admission.is_full(self._kind):
                return await self._turned_away(self._kind)
            self.enter()
        return message

    async def _turned_away(self, reason: str) -> Message:
        await self.refuse(reason)
        # What runs behind stops as if the client had left, and what it still says is not passed on.
        return {"type": "http.disconnect"}

    async def refuse(self, reason: str, wait: float = 1.0) -> None:
        status, headers, body = _ANSWERS[reason] if reason != "rate" else _too_fast(math.ceil(wait))
        self.refused, self.status = True, status
        if self._admission.metrics is not None:
            self._admission.metrics.shed(reason)
        await self._send({"type": "http.response.start", "status": status, "headers": list(headers)})
        await self._send({"type": "http.response.body", "body": body})


_Answer = tuple[int, list[tuple[bytes, bytes]], bytes]
_BODILESS = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})


def _answer(status: int, type: str, message: str, wait: int) -> _Answer:
    made = problem(
        status,
        type,
        message,
        {"Retry-After": str(wait), "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"},
    )
    return status, made.raw_headers, bytes(made.body)


def _too_fast(wait: int) -> _Answer:
    return _answer(429, "TooManyRequests", f"more requests than one client may send; ask again in {wait} s", wait)


_ANSWERS = {
    reason: _answer(503, "Overloaded", f"{what}; ask again in a second", 1)
    for reason, what in {
        "search": "as many searches run as this server allows at once",
        "picture": "as many pictures are read as this server allows at once",
        "bodies": "as much is being uploaded as this server can hold at once",
    }.items()
}


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""
