"""Search over HTTP: queries a second, times, what is shed under overload, memory. Rows with ratios within one run.

    python bench/serve.py [--seconds 60] [--clients 8] [--workers 2] [--times 4] [--folder F] [--items 100000]

The collection is that of `bench/search.py` (clustered sets, width 256), kept in `--folder` where one is named; a
thousand different questions, whose encodings the workers know. Server and clients share two cores. Clients are one
process of raw sockets (`serve_clients.py`), so that what they take is little, and it is told.

in process   the same questions asked of the index in one thread, without a server: what the ratios are against
closed       clients that ask again as soon as they are answered: what the server can do
crowd        four times as many clients; a refused one asks again after 50 ms, not after what it is asked to wait
overload     questions that come by chance, four times as many a second as the row "closed" answered, over up to 64
             connections, whatever became of those before: visitors who know nothing of each other. Times count from
             when a question came. A closed loop never asks for more than it is answered, so that this row shows
             what is shed

`cpu ms` is the processor time of all the server's processes for each answer, `times` against the first row.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from search import Run, made
from search_worlds import World
from serve_clients import HITS, QUERIES
from serve_processes import Processes, Watched
from timing import Timed

from manymatch.index import Index

_CONNECTIONS = 64
_RATE, _P99 = 600, 25
"""What is wanted of the row "closed", in questions a second and milliseconds, without any error."""


@dataclass(frozen=True)
class Measured:
    rate: float
    p99: float
    errors: int

    def told(self) -> str:
        met = self.rate >= _RATE and self.p99 <= _P99 and not self.errors
        return f"target, {_RATE} a second with p99 up to {_P99} ms and no errors: {'met' if met else 'missed'}"


def head() -> None:
    print(f"  {'':12}{'a second':>10}{'p50 ms':>9}{'p99 ms':>9}{'cpu ms':>9}{'times':>8}{'refused':>9}", flush=True)


def row(name: str, rate: float, times: Any, cpu: float, against: float, refused: float) -> None:
    p50, p99 = (np.quantile(times, share) for share in (0.5, 0.99))
    print(f"  {name:12}{rate:10.0f}{p50:9.2f}{p99:9.2f}{cpu:9.2f}{cpu / against:8.1f}{refused:9.1%}", flush=True)


def in_process(folder: Path, world: World) -> float:
    """Processor milliseconds of a question, its JSON included."""
    run: Any = Run(world)
    with Index.open(folder, run) as index:
        timed = Timed(lambda n: json.dumps(index.search(f"q{n}", k=HITS).to_json()), QUERIES, 3)
    row("in process", 1000 / timed.p50, [timed.p50, timed.p50, timed.p99], timed.cpu, timed.cpu, 0.0)
    return timed.cpu


class Bench:
    """A server that is asked in several ways.

    Args:
        against: processor milliseconds of a question in process.
    """

    def __init__(self, server: Processes, port: int, against: float) -> None:
        self._server, self._port, self._against = server, port, against

    def ask(self, name: str, connections: int, seconds: float, rate: float | None = None) -> Measured:
        """Prints a row."""
        command = [sys.executable, str(Path(__file__).with_name("serve_clients.py")), str(self._port)]
        command += ["--seconds", str(seconds), "--warm", "0", "--connections", str(connections)]
        command += [] if rate is None else ["--rate", str(rate)]
        workers, everybody = self._server.workers(), self._server.all()
        began = time.perf_counter()
        with Watched.while_(workers) as watched, Watched.while_(everybody) as whole:
            told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        spent = time.perf_counter() - began
        found = json.loads(told)
        times, refused = found["times"] or [np.inf], found["refused"]
        answered = len(times) / seconds
        share = len(refused) / (len(times) + len(refused))
        row(name, answered, times, 1000 * sum(whole.cpu) / len(times), self._against, share)
        strange = {status: count for status, count in found["statuses"].items() if status not in ("200", "503")}
        self._more(found, strange, rate, watched, whole, spent)
        errors = found["broken"] + found["wrong"] + sum(strange.values()) + (0 if rate else len(refused))
        return Measured(answered, float(np.quantile(times, 0.99)), errors)

    def _more(
        self,
        found: dict[str, Any],
        strange: dict[str, int],
        rate: float | None,
        workers: Watched,
        whole: Watched,
        spent: float,
    ) -> None:
        cores = [f"{each / spent:.2f}" for each in workers.cpu]
        others = sum(whole.cpu) - sum(workers.cpu)
        print(
            f"    cores: workers {' + '.join(cores)}, rest of the server {max(0.0, others) / spent:.2f}, "
            f"clients {found['cpu'] / spent:.2f}; anonymous memory of the workers {workers.memory:.0f} MiB, "
            f"{workers.slope:+.1f} MiB a minute"
        )
        errors = f"    errors: {found['broken']} broken, {found['wrong']} wrong, other answers {strange or 'none'}"
        if rate is not None:
            quick = np.quantile(found["refused"], 0.99) if found["refused"] else np.nan
            errors += f"; asked {rate:.0f} a second, refusals p99 {quick:.2f} ms, {found['late']} still waiting"
        print(errors, flush=True)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--times", type=float, default=4, help="of the overload")
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--elements", type=int, default=4)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keep the index here, and use what is there")
    return parser.parse_args()


def main() -> None:
    args = parsed()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    world = World("clustered", args.items, args.elements, args.width, seed=args.seed)
    folder = args.folder or Path(tempfile.mkdtemp()) / "index"
    try:
        made(folder, world)
        print(f"{args.items:,} clustered sets of {args.elements} x {args.width}, {HITS} hits, {args.workers} workers")
        head()
        against, port = in_process(folder, world), free_port()
        server = Processes(folder, world, port, args.workers)
        try:
            server.wait()
            bench = Bench(server, port, against)
            bench.ask("warming up", args.clients, 5)
            closed = bench.ask("closed", args.clients, args.seconds)
            print(f"    {closed.told()}")
            bench.ask("crowd", round(args.times * args.clients), args.seconds)
            bench.ask("overload", _CONNECTIONS, args.seconds, args.times * closed.rate)
        finally:
            code = server.stop()
        print(f"  stopped with exit code {code}")
    finally:
        if args.folder is None:
            shutil.rmtree(folder.parent)


if __name__ == "__main__":
    main()
