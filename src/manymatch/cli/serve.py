"""`manymatch serve`: the search page of an index, on this machine."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import DataError

if TYPE_CHECKING:
    import uvicorn

    from ..index import Index

__all__ = ["run", "serve"]


def serve(
    index: Annotated[Path, typer.Argument(metavar="X", help="The index folder.")],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8421,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Search an index in the browser, until Ctrl-C."""
    from ..index import Index

    with Index.open(index) as opened:
        run(opened, host, port, open_browser=open_browser)


def run(index: Index, host: str = "127.0.0.1", port: int = 8421, *, open_browser: bool = False) -> None:
    """Serve the page of an open index until SIGINT or SIGTERM; what is being answered is finished first.

    Raises:
        DataError: the address cannot be listened on.
    """
    import uvicorn

    from ..web.app import create_app

    with _listen(host, port) as listener:
        # What the first search would otherwise wait for; a damaged run or index is told now.
        index.warm()
        index.keep_up()
        config = uvicorn.Config(
            create_app(index), log_level="warning", access_log=False, timeout_graceful_shutdown=5, server_header=False
        )
        address = _address(host, listener.getsockname()[1])
        typer.echo(f"searching at {address} (Ctrl-C stops)")
        if open_browser and _has_screen():
            # The socket already listens, so a browser faster than the server waits instead of failing.
            typer.launch(address)
        server = uvicorn.Server(config)
        with _stopped_by_signals(server):
            server.run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=256)
    except OSError as error:
        other = f"; try --port {port + 1 if port < 65535 else 8421}, or --port 0 for any free one"
        # Python appends the address to the system's words; names that do not resolve have negative numbers.
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise DataError(f"serve: cannot listen on {host} port {port} ({reason}){other if port else ''}") from None


def _has_screen() -> bool:
    """Where there is none, a text browser could take over the terminal."""
    on_desktop = sys.platform in ("darwin", "win32")
    return on_desktop or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _address(host: str, port: int) -> str:
    seen = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{seen}]:{port}" if ":" in seen else f"http://{seen}:{port}"


@contextmanager
def _stopped_by_signals(server: uvicorn.Server) -> Iterator[None]:
    """Uvicorn raises again, once it is done, the signal that stopped it; here a stop asked for is no failure."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
