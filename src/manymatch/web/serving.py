"""A server from the first socket to the last answer: listen, serve in this process or in several, stop gracefully."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import uvicorn

from ..errors import DataError
from .connections import Connections
from .settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp

    from ..index import Index

__all__ = [
    "GRACE",
    "Folders",
    "Opener",
    "Server",
    "address_of",
    "configured",
    "listen",
    "serve",
    "serve_open",
    "warmed",
]

GRACE = 10
"""Seconds that what is being answered may take once a stop is asked for."""

_LAST, _HURRY = 2, 1
"""Seconds for what cannot be interrupted, such as a search that runs: beyond those, and after a second signal."""

_BACKLOG = 2048
_NEVER = 1_000_000


class Opener(Protocol):
    """Opens what is served: the index, and the one it is compared with. Can be pickled, for worker processes."""

    def __call__(self) -> tuple[Index, Index | None]: ...


@dataclass(frozen=True)
class Folders:
    """Opens index folders. Raises DataError, IndexMismatch."""

    index: Path
    compared: Path | None = None

    def __call__(self) -> tuple[Index, Index | None]:
        from ..index import Index

        # Absolute, since what begins with a folder is told to its keeper alone: "search: ..." is not about one.
        index = Index.open(os.path.abspath(self.index))
        return index, None if self.compared is None else Index.open(os.path.abspath(self.compared))


_say = functools.partial(print, flush=True)


def serve(
    opener: Opener,
    settings: Settings | None = None,
    host: str = "127.0.0.1",
    port: int = 8421,
    workers: int = 1,
    open_browser: bool = False,
    told: Callable[[str], object] = _say,
) -> None:
    """Serve until SIGINT or SIGTERM; what is being answered then is finished first, a second signal hurries.

    Args:
        opener: called once in each process that serves.
        settings: limits and choices of the server.
        host, port: where to listen; port 0 takes a free one.
        workers: processes. One serves in this process; more are spawned, and begun anew when they die.
        open_browser: also open the page, where there is a screen.
        told: called with the address once requests are answered there.

    Raises:
        DataError: the address cannot be listened on.
        Error: what is served cannot be opened.
    """
    settings = settings or Settings()
    with listen(host, port) as listener:
        announce = functools.partial(_announce, host, listener, open_browser, told)
        # Read when torch and faiss are loaded; later only threads that ask for it would take one.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        if workers > 1:
            from .workers import Workers

            Workers(opener, settings, listener, workers).run(announce)
            return
        index, compared = opener()
        try:
            _serve_here(index, compared, settings, listener, announce)
        finally:
            for opened in (index, compared):
                if opened is not None:
                    opened.close()


def serve_open(
    index: Index,
    compared: Index | None = None,
    settings: Settings | None = None,
    host: str = "127.0.0.1",
    port: int = 8421,
    open_browser: bool = False,
    told: Callable[[str], object] = _say,
) -> None:
    """As `serve`, in this process, with indexes that are open already and stay so."""
    with listen(host, port) as listener:
        announce = functools.partial(_announce, host, listener, open_browser, told)
        _serve_here(index, compared, settings or Settings(), listener, announce)


def _serve_here(
    index: Index, compared: Index | None, settings: Settings, listener: socket.socket, announce: Callable[[], None]
) -> None:
    indexes = [index] if compared is None else [index, compared]
    warmed(*indexes)
    app, connections = app_of(index, compared, settings)
    Server(configured(app, settings, connections), announce, app.state.serving.stop).run([listener])


def app_of(
    index: Index, compared: Index | None, settings: Settings, folder: Path | None = None
) -> tuple[FastAPI, Connections]:
    """The app of one process, and what its connections are counted by. For `folder` see `Metrics`."""
    from .app import create_app
    from .metrics import Metrics

    metrics = Metrics(folder)
    metrics.about(index)
    app = create_app(index, compared, settings, metrics=metrics)
    return app, Connections(settings, metrics)


def warmed(*indexes: Index, keeps_up: bool = True) -> None:
    """Load what the first search would otherwise wait for; a damaged run or index is told now.

    Args:
        keeps_up: also bring what is derived from the items up to date from now on, in the background.
    """
    for index in indexes:
        index.warm()
        torch = sys.modules.get("torch")
        if torch is not None:
            torch.set_num_threads(1)
        words = index.examples(1) if index.count("image") else []
        if words:
            index.search(words[0], k=1)
        if keeps_up:
            index.keep_up()


def configured(app: ASGIApp, settings: Settings, connections: Connections) -> uvicorn.Config:
    """Uvicorn's configuration of an app. On systems without uvloop, asyncio's own loop serves."""
    return uvicorn.Config(
        cast(Any, app),
        http=cast(Any, connections.protocol),
        ws="none",
        loop="auto",
        # Strangers cause warnings as they please.
        log_level="error",
        access_log=False,
        server_header=False,
        # Unless told, uvicorn believes whoever connects from this machine, and so everybody behind a proxy on it.
        proxy_headers=bool(settings.proxies),
        forwarded_allow_ips=list(settings.proxies),
        # `Connections` sees to that; uvicorn would also end what is still being taken up.
        timeout_keep_alive=_NEVER,
        timeout_graceful_shutdown=GRACE,
        backlog=_BACKLOG,
    )


class Server(uvicorn.Server):
    """Uvicorn's server, with a stop that was asked for as an ordinary end.

    Args:
        config: see `configured`.
        started: called once requests are answered.
        stopping: called when a stop is asked for, before anything else.
    """

    def __init__(
        self, config: uvicorn.Config, started: Callable[[], None], stopping: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(config)
        self._on_start, self._on_stop = started, stopping
        self._asked, self._asks = socket.socketpair()

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until stopped."""
        with self._asked:
            watch = threading.Thread(target=_leave_when_late, args=(self._asked,), name="manymatch-stop", daemon=True)
            watch.start()
            with self._asks:
                super().run(sockets)
            watch.join()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            # The loop would not close before their clients have taken what is left for them.
            connection.transport.abort()
        await asyncio.sleep(0)

    def stop(self) -> None:
        """Listen no more, finish what is being answered, and end; called again, end within a second."""
        # Signals call this, also while it runs: nothing here takes a lock.
        self.should_exit = True
        self._on_stop()
        with suppress(OSError):
            self._asks.send(b"s")

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop by SIGINT and SIGTERM. Uvicorn's own raises them again at the end, as if to be stopped were a fault."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, lambda *_: self.stop()) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _leave_when_late(asked: socket.socket) -> None:
    """End the process when it has not stopped in time: threads that compute are waited for, and cannot be interrupted.

    Args:
        asked: has a byte for each time that a stop was asked for, and its end once the server has stopped.
    """
    wait: float | None = None
    while True:
        asked.settimeout(wait)
        try:
            if not asked.recv(1):
                return
        except TimeoutError:
            print("serve: stopped before everything was answered", file=sys.stderr, flush=True)
            sys.stdout.flush()
            os._exit(0)
        wait = _HURRY if wait else GRACE + _LAST


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises DataError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        other = f"; try --port {port + 1 if port < 65535 else 8421}, or --port 0 for any free one"
        # Python appends the address to the system's words; names that do not resolve have negative numbers.
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise DataError(f"serve: cannot listen on {host} port {port} ({reason}){other if port else ''}") from None
    # Connections have it from the socket that accepts them, whichever loop then serves them.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def address_of(host: str, port: int) -> str:
    """Where a browser on this machine finds it."""
    seen = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{seen}]:{port}" if ":" in seen else f"http://{seen}:{port}"


def _announce(host: str, listener: socket.socket, open_browser: bool, told: Callable[[str], object]) -> None:
    address = address_of(host, listener.getsockname()[1])
    told(f"searching at {address} (Ctrl-C stops)")
    if open_browser and _has_screen():
        webbrowser.open(address)


def _has_screen() -> bool:
    """Where there is none, a text browser could take over the terminal."""
    on_desktop = sys.platform in ("darwin", "win32")
    return on_desktop or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
