"""One worker process: opens the index for itself, and serves the connections that its parent hands it."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import Error
from .metrics import MULTIPROCESS
from .serving import Server, app_of, configured, warmed

if TYPE_CHECKING:
    from ..index import Index
    from .serving import Opener
    from .settings import Settings

__all__ = ["HANDED", "work"]

HANDED = b"c"
"""The byte that a connection comes with."""

_ENOUGH = 64
"""Connections taken at a time before requests are answered again."""


def work(number: int, opener: Opener, settings: Settings, channel: socket.socket, closed: Any, folder: Path) -> None:
    """What a worker process does.

    Args:
        number: of the worker; the first one keeps the index up to date.
        opener: gives it what to serve.
        settings: of the server.
        channel: brings connections, and takes what the parent has to know.
        closed: shared with the parent, counts at `number` the connections that have ended.
        folder: of metrics.
    """
    # Ctrl-C reaches every process of a terminal; the parent passes on what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ[MULTIPROCESS] = str(folder)
    opened: list[Index] = []
    try:
        index, compared = opener()
        opened = [index] if compared is None else [index, compared]
        warmed(*opened, keeps_up=number == 0)
        server = _Worker(index, compared, settings, channel, closed, number, folder)
    except Error as error:
        _tell(channel, "starting", str(error))
        sys.exit(2)
    server.run([])
    for one in opened:
        one.close()
    if server.is_orphan:
        _tidy(folder)


def _tidy(folder: Path) -> None:
    """What the parent does at its end, where it was killed; the last worker removes the folder."""
    for file in folder.glob(f"*_{os.getpid()}.db"):
        file.unlink()
    with suppress(OSError):
        folder.rmdir()


def _tell(channel: socket.socket, state: str, trouble: str | None = None) -> None:
    # The parent may have gone.
    with suppress(OSError):
        channel.sendall(json.dumps({"state": state, "trouble": trouble}).encode() + b"\n")


class _Worker(Server):
    """A server that does not listen.

    Attributes:
        is_orphan: its parent ended before it asked for a stop.
    """

    def __init__(
        self,
        index: Index,
        compared: Index | None,
        settings: Settings,
        channel: socket.socket,
        closed: Any,
        number: int,
        folder: Path,
    ) -> None:
        app, self._connections = app_of(index, compared, settings, folder)
        self._connections.lost = self._count
        started, stopping = functools.partial(_tell, channel, "serving"), app.state.serving.stop
        super().__init__(configured(app, settings, self._connections), started, stopping)
        self._channel, self._closed, self._number = channel, closed, number
        self.is_orphan = False
        self._beginning: set[asyncio.Task[None]] = set()
        channel.setblocking(False)

    def _count(self) -> None:
        self._closed[self._number] += 1

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        asyncio.get_running_loop().add_reader(self._channel, self._take)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        _tell(self._channel, "leaving")
        # What was handed over until now is served yet.
        while self._take():
            await asyncio.sleep(0)
        asyncio.get_running_loop().remove_reader(self._channel)
        if self._beginning:
            await asyncio.wait(self._beginning)
        await super().shutdown(sockets)

    def _take(self) -> bool:
        """Whether there may be more."""
        for _ in range(_ENOUGH):
            try:
                said, files, _flags, _address = socket.recv_fds(self._channel, 1, 1)
            except BlockingIOError:
                return False
            except OSError:
                said, files = b"", []
            if not said:
                # The parent has gone, and with it whoever listens.
                self.is_orphan = True
                asyncio.get_running_loop().remove_reader(self._channel)
                if not self.should_exit:
                    self.stop()
                return False
            if files:
                task = asyncio.get_running_loop().create_task(self._begin(files[0]))
                self._beginning.add(task)
                task.add_done_callback(self._beginning.discard)
            else:
                # No file could be opened for it.
                self._count()
        return True

    async def _begin(self, file: int) -> None:
        loop = asyncio.get_running_loop()
        connection = socket.socket(fileno=file)
        connection.setblocking(False)

        def protocol() -> asyncio.Protocol:
            return self._connections.protocol(self.config, self.server_state, self.lifespan.state, loop)

        try:
            await loop.connect_accepted_socket(protocol, connection)
        except OSError:
            # Whoever asked has left already.
            connection.close()
            self._count()
