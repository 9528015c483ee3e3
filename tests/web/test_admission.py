"""Overload and rate: who is answered, who is told to come again, and that every place is given back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from serving_fakes import Tiny
from starlette.requests import ClientDisconnect

from manymatch.web.admission import Admission, Rates, place_of
from manymatch.web.app import create_app
from manymatch.web.connections import LEFT
from manymatch.web.metrics import Metrics
from manymatch.web.settings import Settings


class Inside:
    """The app behind: waits to be let go, and reads bodies as apps do."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.begun = self.answered = 0
        self.fault: Exception | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", scope["method"] in ("POST", "PUT")
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            body, more = body + message["body"], message["more_body"]
        self.begun += 1
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})
        self.answered += 1


class Asked:
    """One request: its task, its answer, and the parts of its body that have been sent so far."""

    def __init__(self, admission: Admission, path: str, method: str = "GET", client: str = "1.2.3.4") -> None:
        self.status: int | None = None
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.left: list[Callable[[], None]] = []
        self.scope = {
            "type": "http", "method": method, "path": path, "raw_path": path.encode(), "headers": [],
            "client": (client, 1), "extensions": {LEFT: self.left},
        }  # fmt: skip
        self.task = asyncio.ensure_future(admission(self.scope, self.sent.get, self._send))

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            assert self.status is None
            self.status, self.headers = message["status"], dict(message["headers"])
        self.body += message.get("body", b"")

    def part(self, data: bytes, more: bool) -> None:
        self.sent.put_nowait({"type": "http.request", "body": data, "more_body": more})

    @property
    def error(self) -> str:
        return json.loads(self.body)["error"]["type"]


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def asynchronous(test: Callable[..., Any]) -> Callable[..., None]:
    def run() -> None:
        asyncio.run(test())

    run.__name__ = test.__name__
    return run


def counted(metrics: Metrics) -> dict[str, float]:
    families = text_string_to_metric_families(metrics.render().decode())
    return {f"{s.name}{sorted(s.labels.values())}": s.value for family in families for s in family.samples}


def test_every_route_of_the_app_has_its_place():
    app = create_app(Tiny(), Tiny(), Settings(), metrics=Metrics())  # type: ignore[arg-type]
    templates = {route.path.replace(":path", "") for route in routes_of(app)}
    assert {"/api/search", "/api/items/{id}/picture", "/api/compare/elements", "/metrics", "/docs"} <= templates
    for template in templates - {"/static"}:
        path = template.replace("{id}", "a%2Fpicture")
        assert place_of({"path": "/elsewhere", "raw_path": path.encode()}).route == template


def routes_of(app: Any) -> list[Any]:
    """All routes, those of included routers too."""
    found, waiting = [], list(app.routes)
    while waiting:
        route = waiting.pop()
        inner = getattr(route, "routes", None) or getattr(getattr(route, "original_router", None), "routes", None)
        if inner and not hasattr(route, "endpoint"):
            waiting += inner
        else:
            found.append(route)
    return found


@pytest.mark.parametrize(
    ("path", "route", "kind"),
    [
        ("/api/search", "/api/search", "search"),
        ("/api/search/image", "/api/search/image", "search"),
        ("/api/compare/search", "/api/compare/search", "search"),
        ("/api/items/a", "/api/items/{id}", "search"),
        ("/api/items/a/b/elements", "/api/items/{id}/elements", "search"),
        ("/api/items/a/thumbnail", "/api/items/{id}/thumbnail", "picture"),
        ("/api/items/a%2Fthumbnail", "/api/items/{id}", "search"),
        ("/api/items/thumbnail", "/api/items/{id}", "search"),
        ("/api/compare/items/a/picture", "/api/compare/items/{id}/picture", "picture"),
        ("/static/app.js", "/static", "other"),
        ("/health", "/health", "other"),
        ("/wp-login.php", "elsewhere", "other"),
        ("/api/search/", "elsewhere", "other"),
        ("", "elsewhere", "other"),
    ],
)
def test_places(path, route, kind):
    place = place_of({"path": "/not/looked/at", "raw_path": path.encode()})
    assert (place.route, place.kind) == (route, kind)


@given(st.text())
def test_any_path_has_one_of_few_routes(path):
    scope = {"path": path, "raw_path": path.encode("utf-8", "surrogatepass")}
    assert len(place_of(scope).route) < 40 and place_of({"path": path}) is not None


@asynchronous
async def test_more_searches_than_may_run_are_refused_at_once():
    inside, metrics = Inside(), Metrics()
    admission = Admission(inside, Settings(searches=2), metrics)
    first, second = Asked(admission, "/api/search"), Asked(admission, "/api/items/a")
    await settled()
    third = Asked(admission, "/api/search", "HEAD")
    others = [Asked(admission, path) for path in ("/health", "/metrics", "/static/app.js", "/api/items/a/thumbnail")]
    await settled()
    assert (third.status, third.error, third.headers[b"retry-after"]) == (503, "Overloaded", b"1")
    assert third.headers[b"content-length"] == str(len(third.body)).encode()
    assert inside.begun == 6 and admission.running == 2
    inside.gate.set()
    await settled()
    assert [one.status for one in (first, second, *others)] == [200] * 6 and admission.running == 0
    fourth = Asked(admission, "/api/search")
    await settled()
    assert fourth.status == 200
    told = counted(metrics)
    assert told["manymatch_shed_total['search']"] == 1 and told["manymatch_searches_running[]"] == 0
    assert told["manymatch_search_seconds_count[]"] == 3
    assert told["manymatch_requests_total['/api/search', '503', 'HEAD']"] == 1


@asynchronous
async def test_pictures_have_a_bound_of_their_own():
    inside = Inside()
    admission = Admission(inside, Settings(searches=1))
    asked = [Asked(admission, "/api/items/a/picture") for _ in range(9)]
    await settled()
    assert [one.status for one in asked] == [None] * 8 + [503]
    search = Asked(admission, "/api/search")
    inside.gate.set()
    await settled()
    assert search.status == 200


@asynchronous
async def test_a_body_that_is_on_its_way_takes_no_place():
    inside = Inside()
    admission = Admission(inside, Settings(searches=1))
    slow = [Asked(admission, "/api/search", "POST") for _ in range(5)]
    for one in slow:
        one.part(b"a", more=True)
    await settled()
    assert admission.running == 0
    quick = Asked(admission, "/api/search")
    await settled()
    assert admission.running == 1
    slow[0].part(b"b", more=False)
    await settled()
    assert (slow[0].status, slow[0].error) == (503, "Overloaded") and slow[0].task.done()
    inside.gate.set()
    await settled()
    slow[1].part(b"b", more=False)
    await settled()
    assert (quick.status, slow[1].status, slow[1].body, admission.running) == (200, 200, b"ab", 0)
    for one in slow[2:]:
        one.sent.put_nowait({"type": "http.disconnect"})
    with pytest.raises(ClientDisconnect):
        await slow[2].task
    await asyncio.wait([one.task for one in slow])
    assert [one.task.exception() is None for one in slow] == [True, True, False, False, False]


@asynchronous
async def test_bodies_hold_so_much_memory_together():
    inside = Inside()
    admission = Admission(inside, Settings(upload_bytes=100, body_bytes=10))
    asked = [Asked(admission, "/api/search/image", "POST") for _ in range(5)]
    for one in asked:
        one.part(b"x" * 99, more=True)
        await settled()
    assert [one.status for one in asked] == [None] * 4 + [503]
    inside.gate.set()
    for one in asked[:4]:
        one.part(b"", more=False)
    await settled()
    assert [one.status for one in asked] == [200] * 4 + [503]
    again = Asked(admission, "/api/search/image", "POST")
    again.part(b"x" * 99, more=False)
    await settled()
    assert again.status == 200


@asynchronous
async def test_who_leaves_frees_its_place():
    inside, metrics = Inside(), Metrics()
    admission = Admission(inside, Settings(searches=1), metrics)
    gone = Asked(admission, "/api/search")
    await settled()
    gone.left[0]()
    await settled()
    assert gone.task.done() and gone.task.exception() is None and admission.running == 0
    assert counted(metrics)["manymatch_requests_total['/api/search', '499', 'GET']"] == 1
    assert inside.answered == 0


@asynchronous
async def test_what_is_cancelled_by_the_server_stays_cancelled():
    admission = Admission(Inside(), Settings(searches=1))
    asked = Asked(admission, "/api/search")
    await settled()
    asked.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked.task
    assert admission.running == 0


@asynchronous
async def test_a_fault_frees_its_place_and_goes_on():
    inside = Inside()
    inside.fault = ValueError("ours")
    inside.gate.set()
    admission = Admission(inside, Settings(searches=1))
    for _ in range(3):
        with pytest.raises(ValueError, match="ours"):
            await Asked(admission, "/api/search").task
    assert admission.running == 0


@asynchronous
async def test_rate():
    inside = Inside()
    inside.gate.set()
    admission = Admission(inside, Settings(rate=0.5))
    asked = [Asked(admission, "/api/search") for _ in range(2)]
    others = [Asked(admission, path) for path in ("/health", "/api/items/a/thumbnail", "/static/a") for _ in range(5)]
    stranger = Asked(admission, "/api/search", client="5.6.7.8")
    await settled()
    assert [one.status for one in (*asked, *others, stranger)] == [200, 429] + [200] * 16
    assert asked[1].error == "TooManyRequests" and asked[1].headers[b"retry-after"] == b"2"


@given(
    st.sampled_from([0.25, 1.0, 3.0, 50.0]),
    st.lists(st.floats(0, 5, allow_subnormal=False), max_size=200),
)
def test_never_more_than_the_rate_and_one_burst(rate, pauses):
    time, allowed = [0.0], []
    rates = Rates(rate, clock=lambda: time[0])
    for pause in pauses:
        time[0] += pause
        wait = rates.wait("a")
        if wait:
            # Whoever waits as long as told is let in.
            time[0] += wait
            assert rates.wait("a") == 0
        allowed.append(time[0])
    for first in range(len(allowed)):
        for last in range(first, len(allowed)):
            most = max(1.0, 2 * rate) + rate * (allowed[last] - allowed[first])
            assert last - first + 1 <= most + 1e-6


def test_a_burst_is_twice_the_rate_and_never_less_than_one():
    rates = Rates(5.0, clock=lambda: 7.0)
    assert [rates.wait("a") == 0 for _ in range(11)] == [True] * 10 + [False]
    assert Rates(0.1, clock=lambda: 7.0).wait("a") == 0


def test_clients_are_remembered_up_to_a_number():
    rates = Rates(1.0, clients=3, clock=lambda: 0.0)
    for client in "abcd":
        rates.wait(client)
    assert list(rates._rested) == ["b", "c", "d"]
