"""What a server tells Prometheus. A registry for each app, so that several apps live in one process.

Where several worker processes serve, each writes its numbers into files of one folder, and any of them tells of all;
`prometheus_client` decides that when it is first imported, by the environment variable `MULTIPROCESS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__

if TYPE_CHECKING:
    from prometheus_client import Counter, Gauge

    from ..index import Index

__all__ = ["MULTIPROCESS", "Metrics", "gone"]

MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"})


class Metrics:
    """The numbers of one app.

    Args:
        folder: where the worker processes of this server write theirs, None where there is one process. Then the
            environment named it before `prometheus_client` was imported.
    """

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, folder: Path | None = None) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

        # When each was first counted is a third again of what is told, and nobody asks for it.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._folder, self._registry = folder, CollectorRegistry()
        own = self._registry
        self._counted: Callable[[], Mapping[str, int]] | None = None
        self._requests = Counter(
            "manymatch_requests", "Requests answered.", ["route", "method", "status"], registry=own
        )
        self._seconds = Histogram(
            "manymatch_request_seconds", "From a request's headers to the end of its answer.", ["route"],
            buckets=_SECONDS, registry=own,
        )  # fmt: skip
        self._searches = Histogram(
            "manymatch_search_seconds",
            "Requests that searched, those refused left out.",
            buckets=_SECONDS,
            registry=own,
        )
        self._running = Gauge(
            "manymatch_searches_running", "Searches running or waiting.", registry=own, multiprocess_mode="livesum"
        )
        self._shed = Counter("manymatch_shed", "Requests refused to keep the others quick.", ["reason"], registry=own)
        self._open = Gauge("manymatch_connections_open", "Open connections.", registry=own, multiprocess_mode="livesum")
        self._cut = Counter("manymatch_connections_cut", "Connections ended from this side.", ["reason"], registry=own)
        self._items = Gauge(
            "manymatch_items", "Items of the index.", ["modality"], registry=own, multiprocess_mode="mostrecent"
        )
        self._build = Gauge(
            "manymatch_build_info", "What serves what.", ["version", "method", "similarity"], registry=own,
            multiprocess_mode="max",
        )  # fmt: skip
        # Looking a label up costs more than counting; there are few, since labels are bounded.
        self._by_answer: dict[tuple[str, str, int], Counter] = {}
        self._by_route: dict[str, Callable[[float], object]] = {}

    def about(self, index: Index) -> None:
        """Tell of this index: what made it once, and how many items it has whenever somebody asks."""
        known = index.info()
        self._build.labels(__version__, str(known["model"]), str(known["similarity"])).set(1)
        self._counted = lambda: {"image": index.count("image"), "caption": index.count("caption")}

    # ---- requests

    def started(self) -> None:
        """A search began."""
        self._running.inc()

    def ended(self) -> None:
        """A search that began ended, however."""
        self._running.dec()

    def finished(self, route: str, method: str, status: int, seconds: float, searched: bool = False) -> None:
        """A request was answered.

        Args:
            route: its template, never the path that was asked for.
            searched: whether it searched, and was not refused.
        """
        key = (route, method if method in _METHODS else "other", status)
        answer = self._by_answer.get(key)
        if answer is None:
            answer = self._by_answer[key] = self._requests.labels(*key)
        answer.inc()
        observe = self._by_route.get(route)
        if observe is None:
            observe = self._by_route[route] = self._seconds.labels(route).observe
        observe(seconds)
        if searched:
            self._searches.observe(seconds)

    def shed(self, reason: str) -> None:
        """A request was refused: "search", "picture", "bodies" or "rate"."""
        self._shed.labels(reason).inc()

    # ---- connections

    def opened(self) -> None:
        self._open.inc()

    def closed(self) -> None:
        self._open.dec()

    def cut(self, reason: str) -> None:
        """A connection was ended from this side: "slow", "idle", "stuck", "crowded" or "memory"."""
        self._cut.labels(reason).inc()

    # ---- telling

    def render(self) -> bytes:
        """The text format 0.0.4 of Prometheus; of all workers, where there are several."""
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.multiprocess import MultiProcessCollector

        if self._counted is not None:
            _set(self._items, self._counted())
        if self._folder is None:
            return generate_latest(self._registry)
        everybody = CollectorRegistry()
        MultiProcessCollector(everybody, str(self._folder))  # type: ignore[no-untyped-call]
        return generate_latest(everybody)


def _set(gauge: Gauge, values: Mapping[str, int]) -> None:
    for name, value in values.items():
        gauge.labels(name).set(value)


def gone(folder: Path, process: int) -> None:
    """A worker process of this folder ended: what it had open or running is no longer told. What it counted stays."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(process, str(folder))  # type: ignore[no-untyped-call]
