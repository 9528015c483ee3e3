"""Clients of `bench/serve.py`: one process, raw sockets that are kept alive, as little work a request as can be.

    python bench/serve_clients.py PORT --seconds S --connections N [--rate R]

Without a rate the loop is closed: every connection asks again once it is answered, a refused one after a pause. With
one it is open: questions come by chance (Poisson), R a second, whatever became of those before; each takes a free
connection of up to N, and its time counts from the moment it came, so that waiting for a connection is not left out.

Prints one line of JSON: milliseconds of the accepted, counts by status, wrong or broken answers, processor seconds.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import selectors
import socket
import time
from collections import Counter, deque
from itertools import count

QUERIES = 1000
HITS = 10
PAUSE = 0.05
"""Seconds that a refused client of the closed loop waits: far less than what it is asked to."""


class Connection:
    """One question at a time."""

    def __init__(self, port: int) -> None:
        self.port, self.came = port, 0.0
        self.open()

    def open(self) -> None:
        self.socket = socket.create_connection(("127.0.0.1", self.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.read, self.needed = b"", 0

    def ask(self, number: int, came: float) -> None:
        self.came, self.read, self.needed = came, b"", 0
        target = f"/api/search?q=q{number % QUERIES}&k={HITS}"
        self.socket.send(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n\r\n".encode())

    def answered(self) -> bool | None:
        """Whether the answer is whole; None where the connection broke."""
        part = self.socket.recv(65536)
        if not part:
            return None
        self.read += part
        if not self.needed:
            head = self.read.find(b"\r\n\r\n")
            if head < 0:
                return False
            length = self.read[:head].lower().find(b"content-length:")
            self.needed = head + 4 + int(self.read[length + 15 : head].split(b"\r\n", 1)[0])
        return len(self.read) >= self.needed

    @property
    def status(self) -> int:
        return int(self.read[9:12])

    @property
    def closing(self) -> bool:
        return b"connection: close" in self.read[: self.read.find(b"\r\n\r\n")].lower()


class Clients:
    """All connections of one loop.

    Args:
        rate: questions a second of the open loop; None for the closed one.
    """

    def __init__(self, port: int, connections: int, rate: float | None) -> None:
        self.port, self.most, self.rate = port, connections, rate
        self.selector = selectors.DefaultSelector()
        self.idle: deque[Connection] = deque()
        self.resting: deque[tuple[float, Connection]] = deque()
        self.waiting: deque[float] = deque()
        self.opened, self.numbers = 0, count(random.Random(1).randrange(QUERIES))
        self.statuses: Counter[int] = Counter()
        self.times: list[float] = []
        self.refused: list[float] = []
        self.broken = self.wrong = 0
        self.since = 0.0

    def run(self, seconds: float, warm: float) -> dict[str, object]:
        """Ask for so long; what came in the first `warm` seconds is not counted."""
        draw = random.Random(2)
        self.since = time.perf_counter() + warm
        used = 0.0
        end, arrival = self.since + seconds, time.perf_counter()
        if self.rate is None:
            for _ in range(self.most):
                self._ask(time.perf_counter())
        while (now := time.perf_counter()) < end:
            if now < self.since:
                used = _used()
            while self.rate is not None and arrival <= now:
                self._ask(arrival)
                arrival += draw.expovariate(self.rate)
            while self.resting and self.resting[0][0] <= now:
                self._start(self.resting.popleft()[1], now)
            rest = 0.05 if self.rate is None else max(0.0, arrival - now)
            for key, _ in self.selector.select(min(rest, PAUSE / 4 if self.resting else rest)):
                self._read(key.data)
        return {
            "seconds": seconds,
            "times": [round(each, 3) for each in self.times],
            "refused": [round(each, 3) for each in self.refused],
            "statuses": self.statuses,
            "broken": self.broken,
            "wrong": self.wrong,
            "late": len(self.waiting),
            "connections": self.opened,
            "cpu": _used() - used,
        }

    def _ask(self, came: float) -> None:
        if self.idle:
            self._start(self.idle.pop(), came)
        elif self.opened < self.most:
            self.opened += 1
            connection = Connection(self.port)
            self.selector.register(connection.socket, selectors.EVENT_READ, connection)
            self._start(connection, came)
        else:
            self.waiting.append(came)

    def _start(self, connection: Connection, came: float) -> None:
        try:
            connection.ask(next(self.numbers), came)
        except OSError:
            self._again(connection)

    def _again(self, connection: Connection) -> None:
        self.broken += 1
        self._reopen(connection)
        self._next(connection)

    def _reopen(self, connection: Connection) -> None:
        self.selector.unregister(connection.socket)
        connection.socket.close()
        connection.open()
        self.selector.register(connection.socket, selectors.EVENT_READ, connection)

    def _read(self, connection: Connection) -> None:
        try:
            whole = connection.answered()
        except OSError:
            whole = None
        if whole is None:
            self._again(connection)
        elif whole:
            accepted = self._count(connection)
            if connection.closing:
                self._reopen(connection)
            if self.rate is None and not accepted:
                self.resting.append((time.perf_counter() + PAUSE, connection))
            else:
                self._next(connection)

    def _count(self, connection: Connection) -> bool:
        accepted = connection.status == 200
        if connection.came >= self.since:
            spent = 1000 * (time.perf_counter() - connection.came)
            self.statuses[connection.status] += 1
            (self.times if accepted else self.refused).append(spent)
            self.wrong += accepted and connection.read.count(b'"rank"') != HITS
        return accepted

    def _next(self, connection: Connection) -> None:
        if self.waiting:
            self._start(connection, self.waiting.popleft())
        elif self.rate is None:
            self._start(connection, time.perf_counter())
        else:
            self.idle.append(connection)


def _used() -> float:
    spent = resource.getrusage(resource.RUSAGE_SELF)
    return spent.ru_utime + spent.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--warm", type=float, default=2)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--rate", type=float)
    args = parser.parse_args()
    print(json.dumps(Clients(args.port, args.connections, args.rate).run(args.seconds, args.warm)))


if __name__ == "__main__":
    main()
