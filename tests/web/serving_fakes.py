"""An index of nothing that worker processes can open, and ways to speak to a server byte by byte."""

from __future__ import annotations

import json
import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from manymatch.errors import DataError
from manymatch.web.connections import Connections
from manymatch.web.serving import Server, configured, listen
from manymatch.web.settings import Settings


class Results:
    milliseconds = 0.0

    def __init__(self, query: str) -> None:
        self.query = query

    def to_json(self) -> dict[str, Any]:
        return {"query": self.query, "hits": []}


class Tiny:
    """The query `who` is answered with its process, the query `wait` once the named pipe `gate` is read and written."""

    def __init__(self, gate: Path | None = None) -> None:
        self.path, self.gate = Path("tiny.index"), gate
        self.model = SimpleNamespace(image_input="pixels")
        self.kept = self.is_closed = False

    def search(self, query: Any = None, k: int = 10, **options: Any) -> Results:
        if query == "wait" and self.gate is not None:
            # Opening a named pipe waits until the other end is opened too.
            with open(self.gate, "w") as gate:
                gate.write("waiting\n")
            with open(self.gate) as gate:
                gate.read()
        return Results(f"process {os.getpid()} kept {self.kept}" if query == "who" else str(query))

    def info(self) -> dict[str, Any]:
        made = {"model": "tiny", "similarity": "none", "calibrated": False, "spaces": {}}
        return {"images": 0, "captions": 0, "engine": {"image": "exact"}, **made}

    def count(self, modality: str | None = None) -> int:
        return 0

    def examples(self, n: int, seed: int = 0) -> list[str]:
        return []

    def fields(self) -> list[dict[str, Any]]:
        return []

    def warm(self) -> None:
        pass

    def keep_up(self) -> None:
        self.kept = True

    def close(self) -> None:
        self.is_closed = True


@dataclass(frozen=True)
class TinyOpener:
    """Opens a `Tiny`; or fails, where `damage` is a file that is there."""

    damage: Path | None = None
    gate: Path | None = None

    def __call__(self) -> tuple[Any, None]:
        if self.damage is not None and self.damage.exists():
            raise DataError("tiny.index: damaged; mend it")
        return Tiny(self.gate), None


class Spoken:
    """One connection to a server on this machine."""

    def __init__(self, port: int, timeout: float = 20.0, buffer: int | None = None) -> None:
        self.socket = socket.socket()
        if buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.settimeout(timeout)
        self.socket.connect(("127.0.0.1", port))
        self.left = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, path: str = "/", method: str = "GET", headers: str = "") -> tuple[int, bytes]:
        self.send(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode())
        return self.answer()

    def answer(self) -> tuple[int, bytes]:
        """(status, body) of the next answer."""
        while b"\r\n\r\n" not in self.left:
            self._more()
        head, _, rest = self.left.partition(b"\r\n\r\n")
        found = re.search(rb"content-length: (\d+)", head)
        length = int(found[1]) if found else 0
        while len(rest) < length:
            self._more()
            rest = self.left.partition(b"\r\n\r\n")[2]
        self.left = rest[length:]
        return int(head.split()[1]), rest[:length]

    def json(self, path: str) -> Any:
        return json.loads(self.ask(path)[1])

    def is_cut(self) -> bool:
        """Waits until the other side has closed; False where it does not within the time allowed."""
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionError:
            return True
        except TimeoutError:
            return False
        return True

    def _more(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("closed")
        self.left += data

    def close(self) -> None:
        self.socket.close()

    __del__ = close


@contextmanager
def serving(
    app: Any, settings: Settings, connections: Connections | None = None
) -> Iterator[tuple[int, Connections, Server]]:
    """An ASGI app behind uvicorn in a thread: (its port, its connections, the server)."""
    connections = Connections(settings) if connections is None else connections
    started = threading.Event()
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        server = Server(configured(app, settings, connections), started.set)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            assert started.wait(20)
            yield port, connections, server
        finally:
            server.should_exit = server.force_exit = True
            thread.join()
