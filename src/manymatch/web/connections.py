"""Connections that take and give nothing are cut off, so that those who want an answer get in.

A connection ends that lies idle between two requests, whose headers do not come, whose answer is not taken up, or that
still sends what nobody reads any more; and where there are too many, the one that has waited longest for its next
request makes room. Bodies that come slowly are the app's business.
"""

from __future__ import annotations

import asyncio
import resource
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .problems import problem

if TYPE_CHECKING:
    from uvicorn import Config
    from uvicorn.server import ServerState

    from .metrics import Metrics
    from .settings import Settings

__all__ = ["LEFT", "Connection", "Connections", "raise_open_files"]

LEFT = "manymatch.left"
"""The extension of a request's scope that holds a list of what to call when the client leaves before its answer."""

_HEADER_BYTES = 65_536
"""Of a request line and its headers together."""

_PROGRESS = 65_536
"""Bytes of its answer that a client has to take up within the patience it is given; a modem does."""

_LARGE, _HELD = 1 << 20, 256 << 20
"""Bytes from which an answer that is not taken up yet is kept account of, and how many of them all may hold."""

_MOST = 16_384
"""Connections of one process, where the system would allow more. Each takes about 10 KB."""

_TOO_LONG = f"the request line and headers are longer than {_HEADER_BYTES} bytes"

_LOOKS = 4
"""How often within the shortest patience connections are looked at; each is cut off so much later than it might."""


def raise_open_files() -> int:
    """Let this process open as many files as the system allows it; how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError):
            # Some systems name a limit that they do not grant.
            return soft
    return hard if hard != resource.RLIM_INFINITY else 1 << 30


class Connections:
    """The connections of one process.

    Args:
        settings: `patience` and `idle`.
        metrics: told of each that opens, closes or is cut off.
        most: how many may be open at once. By default four fifths of the files that may be open, since the index and
            its pictures need some.

    Attributes:
        lost: called whenever one is closed, by whomever.
    """

    def __init__(self, settings: Settings, metrics: Metrics | None = None, most: int | None = None) -> None:
        self.patience, self.idle, self.metrics = settings.patience, settings.idle, metrics
        self.most = min(_MOST, raise_open_files() * 4 // 5) if most is None else most
        self.lost: Callable[[], object] = lambda: None
        self._open: set[Connection] = set()
        # In the order in which they began to wait.
        self._waiting: OrderedDict[Connection, None] = OrderedDict()
        self._large: dict[Connection, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._open)

    def protocol(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> Connection:
        """What uvicorn calls for each connection."""
        return Connection(config, server_state, app_state, _loop, self)

    def opened(self, connection: Connection) -> None:
        """A connection was made; where there are too many, one of them ends."""
        self._open.add(connection)
        self.waits(connection)
        if self.metrics is not None:
            self.metrics.opened()
        if self._timer is None:
            self._look_later(connection.loop)
        if len(self._open) > self.most:
            done = (waiting for waiting in self._waiting if not waiting.untaken)
            self._cut(next(done, None) or next(iter(self._waiting)), "crowded")

    def ended(self, connection: Connection) -> None:
        """A connection is closed."""
        self._open.discard(connection)
        self._waiting.pop(connection, None)
        self._large.pop(connection, None)
        self.lost()
        if self.metrics is not None:
            self.metrics.closed()

    def waits(self, connection: Connection) -> None:
        """From now on it waits for its next request."""
        if connection in self._open:
            self._waiting[connection] = None

    def is_waiting(self, connection: Connection) -> bool:
        """Whether it waits for a request, or for the rest of one."""
        return connection in self._waiting

    def runs(self, connection: Connection) -> None:
        """It has a request that is being answered."""
        self._waiting.pop(connection, None)

    def answered(self, connection: Connection) -> None:
        """Its answer was written, all of it into memory. Where answers hold too much, the first one is broken off."""
        if connection.untaken > _LARGE:
            self._large = {large: None for large in self._large if large.untaken > _LARGE} | {connection: None}
            while sum(large.untaken for large in self._large) > _HELD:
                self._cut(next(iter(self._large)), "memory")

    def look(self, now: float) -> None:
        """Cut off what has taken too long.

        Args:
            now: the time of the event loop.
        """
        for connection in [waiting for waiting in self._waiting if now > waiting.until]:
            if not connection.untaken:
                self._cut(connection, "idle" if connection.rests else "slow")
        for connection in [open for open in self._open if open.is_stuck(now, self.patience)]:
            self._cut(connection, "stuck")

    def _look_later(self, loop: asyncio.AbstractEventLoop) -> None:
        def look() -> None:
            self._timer = None
            self.look(loop.time())
            if self._open:
                self._look_later(loop)

        self._timer = loop.call_later(min(self.patience, self.idle) / _LOOKS, look)

    def _cut(self, connection: Connection, reason: str) -> None:
        self._open.discard(connection)
        self._waiting.pop(connection, None)
        self._large.pop(connection, None)
        if self.metrics is not None:
            self.metrics.cut(reason)
        connection.end()


class Connection(HttpToolsProtocol):
    """One connection, as uvicorn speaks it, that knows since when it waits for what.

    Attributes:
        until: while it waits for a request, when it has waited long enough, in the event loop's time.
        rests: it waits with nothing begun: the last request was read whole, and nothing came since.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None,
        connections: Connections,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._all = connections
        self.until, self.rests = 0.0, False
        self._whole = self._headers_came = True
        self._chunk = self._header_bytes = 0
        self._fault: str | None = None
        self._stood: tuple[int, float] | None = None

    # ---- what asyncio calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.until = self.loop.time() + self._all.patience
        self._all.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._all.ended(self)
        if self.cycle is not None and not self.cycle.response_complete:
            calls: list[Callable[[], object]] = cast(Any, self.cycle.scope)["extensions"][LEFT]
            for call in calls:
                call()

    def data_received(self, data: bytes) -> None:
        self._chunk = len(data)
        super().data_received(data)
        if not self._headers_came and not self.transport.is_closing():
            self._header_bytes += len(data)
            if self._header_bytes > _HEADER_BYTES:
                self.send_400_response(_TOO_LONG)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stood = None

    # ---- what the parser calls

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {LEFT: []}  # type: ignore[dict-item]
        self._whole = self._headers_came = False
        self._header_bytes = 0
        if self._all.is_waiting(self):
            self.rests, self.until = False, self.loop.time() + self._all.patience

    def on_headers_complete(self) -> None:
        self._headers_came = True
        # Counted one by one only where they may be too long, because this is done for every request.
        if self._header_bytes + self._chunk > _HEADER_BYTES:
            size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
            if size > _HEADER_BYTES:
                self._fault = _TOO_LONG
                # The parser passes it on as its own error, which ends the connection with `send_400_response`.
                raise ValueError(_TOO_LONG)
        super().on_headers_complete()
        self._all.runs(self)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._whole = True
        if self._all.is_waiting(self):
            self._begin_to_wait()

    # ---- what answering calls

    def on_response_complete(self) -> None:
        has_next = bool(self.pipeline)
        super().on_response_complete()
        if not has_next:
            self._begin_to_wait()
            self._all.waits(self)
        self._all.answered(self)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP request, in the shape of all errors, and close."""
        if self.cycle is None or self.cycle.response_complete:
            answer = problem(400, "BadRequest", self._fault or msg, {"Connection": "close"})
            lines = [b": ".join(header) for header in answer.raw_headers]
            self.transport.write(b"\r\n".join([b"HTTP/1.1 400 Bad Request", *lines, b"", bytes(answer.body)]))
        # Into an answer that is being written nothing can be said.
        self.transport.close()

    # ---- what `Connections` calls

    @property
    def untaken(self) -> int:
        """Bytes of its answers that neither the client nor the system for it has taken yet."""
        return self.transport.get_write_buffer_size()

    def is_stuck(self, now: float, patience: float) -> bool:
        """Whether the client has not taken up enough of its answer for `patience` seconds."""
        size = self.untaken
        if size == 0:
            self._stood = None
        elif self._stood is None or not self._stood[0] - _PROGRESS < size <= self._stood[0]:
            self._stood = size, now
        return self._stood is not None and now - self._stood[1] > patience

    def end(self) -> None:
        """Close; what was not taken up until now is dropped."""
        if self.untaken:
            self.transport.abort()
        else:
            self.transport.close()

    def _begin_to_wait(self) -> None:
        self.rests = self._whole and self._headers_came
        self.until = self.loop.time() + (self._all.idle if self.rests else self._all.patience)
