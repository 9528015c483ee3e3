"""What holds for every answer of the server: the page, HEAD, methods, safety headers, faults, readiness."""

import asyncio
import re
import threading
from html.parser import HTMLParser
from pathlib import Path

import pytest
from web_fakes import Client, FakeIndex, FakeItem, encoded, error_of

import manymatch.web
from manymatch.errors import CheckpointError, DataError, IndexMismatch
from manymatch.web.app import create_app
from manymatch.web.keys import new_key
from manymatch.web.metrics import Metrics
from manymatch.web.routes import items, reading, search
from manymatch.web.settings import Settings

STATIC = Path(manymatch.web.__file__).parent / "static"


# ---- the page, and what holds for every answer


def test_info_says_what_is_here_and_not_where(client):
    info = client.get("/api/info").json()
    assert info["images"] == 16 and info["captions"] == 17
    assert (info["method"], info["engine"], info["image_input"]) == ("dive", "exact", "pixels")
    assert 1 <= len(info["examples"]) <= 6 and "/home" not in str(info)
    assert info["title"] == "secret" and info["elements"] == 4 and info["compare"] is None
    assert info["access"] == {"read": True, "write": False} and info["limits"]["k"] == 200
    assert [field["name"] for field in info["fields"]] == ["tag", "year"]


def test_the_title_is_chosen(index):
    assert Client(create_app(index, settings=Settings(title="Photos"))).get("/api/info").json()["title"] == "Photos"


def test_what_is_served_here_is_looked_up_again_when_the_index_changed():
    index = FakeIndex({"a": FakeItem(["red"])})
    client = Client(create_app(index))
    assert client.get("/api/info").json()["examples"] == ["red"]
    index.put_picture("b", encoded("blue"), ["blue"], {})
    assert client.get("/api/info").json()["examples"] == ["red", "blue"]


def test_health(client):
    assert client.get("/health").json() == {"status": "ok"}


def test_ready_says_how_things_stand(index):
    app = create_app(index)
    client = Client(app)
    assert client.get("/ready").json() == {"status": "ready"}
    app.state.serving.warm()
    assert error_of(client.get("/ready"), 503)[0] == "Overloaded"
    app.state.serving.ready()
    assert client.get("/ready").status_code == 200
    app.state.serving.stop()
    assert error_of(client.get("/ready"), 503)[0] == "Stopping" and client.get("/ready").headers["retry-after"]
    assert client.get("/health").status_code == 200


def test_metrics_are_told_where_they_are_kept(client, index):
    assert error_of(client.get("/metrics"), 404)[0] == "NotFound"
    counted = Client(create_app(index, metrics=Metrics()))
    counted.get("/api/search?q=red")
    answer = counted.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'manymatch_requests_total{method="GET",route="/api/search",status="200"} 1.0' in answer.text


class Links(HTMLParser):
    """What a page loads, and whether anything in it would need `unsafe-inline`."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.inline: list[str] = []

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        if tag in ("script", "link", "img"):
            self.loads.append(named.get("src") or named.get("href") or "")
        if tag == "style" or (tag == "script" and "src" not in named):
            self.inline.append(tag)
        self.inline += [name for name in named if name.startswith("on") or name == "style"]


def test_the_page_loads_only_its_own_packaged_files(client):
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    links = Links()
    links.feed(page.text)
    assert not links.inline
    assert links.loads and all(re.fullmatch(r"static/[a-z-]+\.(css|js|svg)", path) for path in links.loads)
    for path in links.loads:
        assert client.get(f"/{path}").content == (STATIC / path.removeprefix("static/")).read_bytes()


def test_scripts_import_and_styles_load_nothing_from_elsewhere(client):
    for file in STATIC.iterdir():
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|@import|\burl\(", text), file.name
        for name in re.findall(r'from "\./([^"]+)"', text):
            assert client.get(f"/static/{name}").headers["content-type"].startswith("text/javascript")


EVERY = [
    "/",
    "/docs",
    "/openapi.json",
    "/static/app.js",
    "/api/info",
    "/health",
    "/api/search?q=red",
    "/api/items/red.png",
    "/api/items/red.png/picture",
    "/api/items/red.png/thumbnail",
    "/nowhere",
    "/api/items/nobody",
]


@pytest.mark.parametrize("path", EVERY)
def test_head_is_get_without_the_body(client, path):
    got, head = client.get(path), client.head(path)
    assert head.status_code == got.status_code and head.content == b""
    assert head.headers["content-type"] == got.headers["content-type"]
    assert head.headers["content-length"] == got.headers["content-length"] == str(len(got.content))


@pytest.mark.parametrize("path", EVERY)
def test_safety_headers_are_on_every_answer(client, path):
    headers = client.get(path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'" and policy["script-src"] == "'self'" and policy["style-src"] == "'self'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", [*EVERY, "/static/app.js", "/static/nowhere"])
def test_answers_are_for_whoever_asked_and_are_not_used_again_unasked(client, path):
    assert client.get(path).headers["cache-control"] == "private, no-cache"


@pytest.mark.parametrize("asked", ["bytes=zz", "bytes=5-2", "bytes=99999999-", "bytes=0-1", "lines=1-2"])
def test_all_is_answered_whole_whatever_range_is_asked_for(client, asked):
    for path in ("/", "/static/app.js", "/api/info"):
        whole, part = client.get(path), client.get(path, headers={"range": asked})
        assert (part.status_code, part.content) == (200, whole.content)


def test_errors_of_routing_have_the_same_shape(client):
    assert error_of(client.get("/nowhere"), 404)[0] == "NotFound"
    assert error_of(client.delete("/api/search"), 405)[0] == "MethodNotAllowed"
    assert client.head("/api/search/image").status_code == 405


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/api/search", "GET, HEAD, POST"),
        ("/api/search/image", "POST"),
        ("/api/session", "DELETE, POST"),
        ("/api/items/a", "DELETE, GET, HEAD, PUT"),
        ("/api/items/a/picture", "GET, HEAD"),
        ("/static/app.js", "GET, HEAD"),
        ("/health", "GET, HEAD"),
        ("/", "GET, HEAD"),
    ],
)
def test_other_methods_are_405_and_hear_which_there_are(client, path, allowed):
    for method in ("PATCH", "TRACE", "OPTIONS", "QUERY"):
        answer = client.request(method, path)
        assert error_of(answer, 405)[0] == "MethodNotAllowed" and answer.headers["allow"] == allowed


@pytest.mark.parametrize("path", ["/api/search/?q=red", "/api/info/", "/health/", "/api/items", "/static"])
def test_nothing_is_redirected(client, path):
    assert client.get(path).status_code == 404


def test_the_key_of_a_session_is_unknown_where_there_are_no_keys(client):
    assert error_of(client.post("/api/session", json={"key": "x"}), 401)[0] == "Unauthorized"
    assert error_of(client.post("/api/session", json={"key": ""}), 422)[0] == "DataError"
    assert error_of(client.post("/api/session", json={"key": "x", "name": "y"}), 422)[0] == "DataError"
    assert client.delete("/api/session").status_code == 204


# ---- bodies


async def sent_slowly(app, parts: int, pause: float) -> tuple[int, dict[bytes, bytes]]:
    """Status and headers of the answer to a body that comes in parts."""
    told: list[dict] = []

    async def receive():
        nonlocal parts
        parts -= 1
        await asyncio.sleep(pause)
        return {"type": "http.request", "body": b" ", "more_body": parts > 0}

    async def send(message):
        told.append(message)

    headers = [(b"host", b"here"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/api/search", "raw_path": b"/api/search", "headers": headers}
    scope |= {"query_string": b"", "scheme": "http", "http_version": "1.1", "root_path": "", "server": ("here", 80)}
    await app(scope, receive, send)
    return told[0]["status"], dict(told[0]["headers"])


def test_a_body_that_comes_too_slowly_is_408_however_steadily(index):
    app = create_app(index, settings=Settings(patience=0.05))
    status, headers = asyncio.run(sent_slowly(app, 1000, 0.01))
    assert status == 408 and headers[b"connection"] == b"close"


def test_whoever_leaves_in_the_middle_of_a_body_is_no_fault_of_ours(index):
    told: list[dict] = []

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        told.append(message)

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/api/search", "query_string": b"", "headers": headers}
    asyncio.run(create_app(index)(scope, receive, send))
    assert not told


# ---- faults


def test_our_own_faults_are_500_without_their_trace():
    index = FakeIndex({"a": FakeItem(["a"])})
    index.search = lambda *args, **options: 1 / 0
    with pytest.raises(ZeroDivisionError):
        Client(create_app(index)).get("/api/search?q=a")
    kind, message = error_of(Client(create_app(index), quiet=True).get("/api/search?q=a"), 500)
    assert kind == "InternalError" and "division" not in message


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (DataError("/home/ann/secret.index: setting 'k' is damaged; build the index again"), 500, "InternalError"),
        (DataError("/home/ann/secret.index/index.sqlite: damaged"), 500, "InternalError"),
        (CheckpointError("/home/ann/secret.index/run: incomplete"), 500, "InternalError"),
        (IndexMismatch("another run than this index was made with"), 409, "IndexMismatch"),
        (DataError("search: too vague"), 422, "DataError"),
    ],
)
def test_what_the_keeper_of_the_index_has_to_mend_names_no_place(error, status, kind, caplog):
    index = FakeIndex({"a": FakeItem(["a"])})
    index.search = lambda *args, **options: (_ for _ in ()).throw(error)
    told, message = error_of(Client(create_app(index)).get("/api/search?q=a"), status)
    assert told == kind and "/home" not in message
    assert ("/home" in caplog.text) == (status == 500)


def test_pages_of_other_servers_can_read_that_they_have_to_wait(index):
    shop = {"Origin": "https://shop.example"}
    client = Client(create_app(index, settings=Settings(rate=0.5, origins=(shop["Origin"],))), headers=shop)
    answers = [client.get("/api/info") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == shop["Origin"]


def test_what_was_sent_is_looked_at_in_a_thread_of_its_own(index, tmp_path, monkeypatch):
    """Some hundred thousand blocks before the first pixel, or parts of a form, would else hold up everybody."""
    seen: list[str] = []

    def noted(work):
        return lambda *given: (seen.append(threading.current_thread().name), work(*given))[1]

    for module, name in ((search, "pixels_of"), (items, "pixels_of"), (reading, "read_form")):
        monkeypatch.setattr(module, name, noted(getattr(module, name)))
    _, key = new_key(tmp_path / "keys.json", "write")
    client = Client(
        create_app(index, settings=Settings(keys=tmp_path / "keys.json")), headers={"Authorization": f"Bearer {key}"}
    )
    assert client.post("/api/search/image", files={"image": encoded("red")}).status_code == 200
    assert client.put("/api/items/new", files={"picture": encoded("red")}).status_code == 200
    assert len(seen) == 4 and threading.current_thread().name not in seen


def test_two_apps_share_nothing():
    one, two = (Client(create_app(FakeIndex({id: FakeItem([id])}))) for id in ("one", "two"))
    assert one.get("/api/items/one").status_code == 200 and two.get("/api/items/one").status_code == 404
