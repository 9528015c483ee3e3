"""The client answers as the index does: the same classes, numbers and errors, over a real server; and what it does when
the server is busy, gone, or something else."""

from __future__ import annotations

import json
import pickle
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import manymatch as mm
from manymatch import Client
from manymatch.errors import UnknownName
from manymatch.index import Added, Index, Results
from manymatch.index.filters import parse_where
from manymatch.web.app import create_app
from manymatch.web.client import ServerError
from manymatch.web.keys import new_key
from manymatch.web.settings import Settings
from manymatch.web.wire import error_of
from served import small_index


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("world") / "pictures"


@pytest.fixture(scope="module")
def index(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    with Index.open(small_index(tmp_path_factory.mktemp("index"), pictures)) as opened:
        yield opened


@contextmanager
def running(index: Index, settings: Settings | None = None) -> Iterator[str]:
    """The address of the app on a free port, served by a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(create_app(index, settings=settings or Settings()), log_level="warning", ws="none")
        server = uvicorn.Server(config)
        thread = Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def client(index: Index) -> Iterator[Client]:
    with running(index) as url, Client(url) as asking:
        yield asking


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A key file, and a key that reads and one that writes."""
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    return file, new_key(file, "read")[1], new_key(file, "write")[1]


def timeless(found: Results) -> Results:
    assert found.milliseconds >= 0
    return replace(found, milliseconds=0.0)


def outcome(searched: Client | Index, *given: Any, **options: Any) -> Any:
    """The answer, or the refusal."""
    try:
        return timeless(searched.search(*given, **options))
    except mm.Error as error:
        return type(error), str(error)


ASKED: list[dict[str, Any]] = [
    {},
    {"k": 3, "offset": 4},
    {"where": {"background": "mint"}},
    {"where": {"objects": {"gte": 1, "lt": 3}, "background": ["mint", "lilac"]}, "facets": ["background", "objects"]},
    {"where": {"objects": 2, "nothing": {"exists": False}}},
    {"where": {"background": {"text": "mint"}, "size": {"exists": True}}},
    {"where": parse_where(["objects>=1", "background=mint|lilac", "!nothing"])},
    {"where": parse_where(["objects>=1", "objects<=2", "objects=2"])},
    {"group_by": "background", "per_group": 2, "k": 4},
    {"among": "captions", "group_by": "owner"},
    {"meanings": True, "per_group": 4},
    {"explain": True, "exact": True},
    {"unlike": "a blue circle"},
    {"unlike_item": "toy-00001.png"},
    {"confident": 0.2, "facets": ("objects",)},
    {"diverse": 0.4, "bank": False},
    {"hybrid": True},
]


@pytest.mark.parametrize("options", ASKED, ids=str)
def test_words_are_answered_as_by_the_index(client: Client, index: Index, options: dict[str, Any]) -> None:
    assert timeless(client.search("a red star", **options)) == timeless(index.search("a red star", **options))


@pytest.mark.parametrize("options", ASKED[:-1], ids=str)
def test_items_are_answered_as_by_the_index(client: Client, index: Index, options: dict[str, Any]) -> None:
    asked = {"like": "toy-00003.png", **options}
    assert outcome(client, **asked) == outcome(index, **asked)


@pytest.mark.parametrize("options", ASKED[:-1], ids=str)
def test_pictures_are_answered_as_by_the_index(
    client: Client, index: Index, pictures: Path, options: dict[str, Any]
) -> None:
    path = pictures / "toy-00005.png"
    assert outcome(client, path, **options) == outcome(index, path, **options)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "CMYK", "I;16"])
def test_a_decoded_picture_is_seen_as_the_index_sees_it(
    client: Client, index: Index, pictures: Path, mode: str
) -> None:
    with Image.open(pictures / "toy-00007.png") as opened:
        picture = opened.convert("L").convert(mode) if mode == "I;16" else opened.convert(mode)
    # One that is to be turned for showing is searched as it lies.
    picture.info["exif"] = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    assert timeless(client.search(picture, k=5)) == timeless(index.search(picture, k=5))


def test_an_answer_is_more_than_its_hits(client: Client) -> None:
    """What the tests above compare is there at all."""
    found = client.search("a red star", group_by="background", meanings=True, facets=["objects"], explain=True)
    assert found.groups and found.meanings and found.facets and found.facets["objects"] and found[0].why
    assert found[0].probability is not None and found.expected_matches is not None and found[0].metadata


def test_many_queries_are_answered_in_their_order(client: Client, index: Index) -> None:
    texts = [f"a {colour} {shape}" for colour in ("red", "blue") for shape in ("star", "circle", "square")] * 12
    assert len(texts) > Settings.queries
    found = client.search_many(texts, k=2, where={"objects": {"lte": 2}}, explain=True)
    expected = index.search_many(texts, k=2, where={"objects": {"lte": 2}}, explain=True)
    assert [timeless(one) for one in found] == [timeless(one) for one in expected]
    assert client.search_many([]) == []


WRONG: list[dict[str, Any]] = [
    {},
    {"query": "a", "like": "toy-00001.png"},
    {"query": " "},
    {"query": 7},
    {"query": Path("nowhere.png")},
    {"query": "a", "k": 0},
    {"query": "a", "offset": -1},
    {"query": "a", "confident": 2},
    {"query": "a", "diverse": 0.5, "group_by": "objects"},
    {"query": "a", "among": "sounds"},
    {"query": "a", "facets": "objects"},
    {"query": "a", "facets": ["nothing"]},
    {"query": "a", "group_by": "nothing"},
    {"query": "a", "where": {"objects": {"near": 3}}},
    {"query": "a", "where": ["objects"]},
    {"query": "a", "unlike": "b", "unlike_item": "toy-00001.png"},
    {"like": "toy-0001.png"},
    {"query": "a", "unlike_item": "nobody"},
]


@pytest.mark.parametrize("asked", WRONG, ids=str)
def test_mistakes_are_told_as_by_the_index(client: Client, index: Index, asked: dict[str, Any]) -> None:
    with pytest.raises(mm.Error) as expected:
        index.search(**asked)
    with pytest.raises(mm.Error) as found:
        client.search(**asked)
    assert type(found.value) is type(expected.value) and str(found.value) == str(expected.value)


def test_an_unknown_name_offers_what_there_is(client: Client) -> None:
    with pytest.raises(UnknownName, match="did you mean 'objects'") as found:
        client.search("a", group_by="object")
    assert (found.value.kind, found.value.name) == ("field", "object") and "background" in found.value.known


def test_what_only_the_server_forbids_is_told(client: Client) -> None:
    picture = Image.new("RGB", (4, 4))
    for options in ({"k": 201}, {"offset": 10_001}):
        with pytest.raises(mm.Error, match=r"(k|offset).*(200|10000|10,000)"):
            client.search("a", **options)
    with pytest.raises(mm.Error, match="unlike is Image, expected words"):
        client.search("a", unlike=picture)  # type: ignore[arg-type]
    with pytest.raises(mm.Error, match="where: conditions that cannot be sent together, found 2; give a mapping"):
        client.search_many(["a"], where=parse_where(["objects>=1", "objects<=2"]))
    with pytest.raises(TypeError, match="colour"):
        client.search_many(["a"], colour="red")


def test_items_pictures_and_elements(client: Client, index: Index, pictures: Path) -> None:
    for id in ("toy-00002.png", "toy-00002.png#1"):
        assert client.item(id) == index.item(id)
    assert client.picture("toy-00002.png") == (pictures / "toy-00002.png").read_bytes()
    assert client.thumbnail("toy-00002.png")[:2] == b"\xff\xd8"
    assert client.elements("toy-00002.png") == index.elements("toy-00002.png")
    assert client.elements(query="a red star") == index.elements(query="a red star")
    with pytest.raises(mm.Error, match="expected one"):
        client.elements()
    for ask in (client.item, client.picture, client.thumbnail, client.elements):
        with pytest.raises(UnknownName, match="'nobody'"):
            ask("nobody")
    with pytest.raises(mm.Error, match="id is '', expected"):
        client.item("")
    with pytest.raises(mm.Error, match="not valid Unicode"):
        client.item("\ud800")
    with pytest.raises(mm.Error, match="not valid Unicode"):
        client.search("\ud800")


def test_what_the_server_says_of_itself(client: Client) -> None:
    said = client.info()
    assert said["images"] == 120 and said["access"] == {"read": True, "write": False}
    assert client.ready()


# ---- keys and changing


def test_without_a_key_nothing_is_told_and_with_one_no_more_than_it_may(
    index: Index, keys: tuple[Path, str, str]
) -> None:
    file, reads, _ = keys
    with running(index, Settings(keys=file)) as url:
        for wrong in (None, "mm_0", reads + "x"):
            with Client(url, wrong) as stranger, pytest.raises(ServerError, match="key") as refused:
                stranger.search("a")
            assert (refused.value.status, refused.value.type) == (401, "Unauthorized")
        with Client(url, reads) as reader:
            assert reader.info()["access"] == {"read": True, "write": False} and len(reader.search("a star"))
            for change in (lambda: reader.put("new", b"x"), lambda: reader.delete(["toy-00001.png"])):
                with pytest.raises(ServerError, match="write") as refused:
                    change()
                assert (refused.value.status, refused.value.type) == (403, "Forbidden")


ODD = [
    "a/picture",
    "snö & ice?.png#3",
    "100%25 %2F",
    " lead",
    'quo"te\\',
    "数/写真",
    "../../etc",
    "a//b",
    ".",
    "..",
    "+",
]


def test_items_come_and_go(index: Index, keys: tuple[Path, str, str], pictures: Path) -> None:
    path = pictures / "toy-00004.png"
    with running(index, Settings(keys=keys[0])) as url, Client(url, keys[2]) as writer:
        for id in ODD:
            assert writer.put(id, path, ["a red star", "a star"], {"objects": 9, "tags": ["x", "y"]}) == Added(1, 0)
            assert writer.item(id) == index.item(id) and writer.item(id)["captions"] == ["a red star", "a star"]
            assert writer.picture(id) == path.read_bytes()
        assert {hit.id for hit in writer.search("a star", where={"objects": 9, "tags": "y"}, k=50)} == set(ODD)
        assert writer.put("+", Image.new("CMYK", (20, 10))) == Added(0, 1)
        assert writer.put("+", path.read_bytes()) == Added(0, 1)
        assert writer.item("+")["metadata"] == {} and writer.item("+")["captions"] == []
        assert writer.delete(ODD[:1]) == 3 and writer.delete(ODD[1:]) == 3 * (len(ODD) - 2) + 1
        with pytest.raises(UnknownName, match=r"unknown .*'a/picture'"):
            writer.delete(["a/picture"])
        for wrong, said in [
            ({"picture": b"<svg/>"}, "SVG"),
            ({"picture": 7}, "picture is int, expected a path"),
            ({"picture": path, "captions": "a star"}, "captions is the string 'a star'"),
            ({"picture": path, "metadata": {"when": object()}}, "sent as JSON"),
            ({"picture": pictures / "nobody.png"}, "nobody.png"),
        ]:
            with pytest.raises(mm.Error, match=said):
                writer.put("new", **wrong)
        with pytest.raises(mm.Error, match="ids is the string"):
            writer.delete("new")
    assert index.count("image") == 120


# ---- the way there


class Script:
    """A server that answers as it is told: (status, headers, body) one request after the other, the last for ever."""

    def __init__(self, *answers: tuple[int, dict[str, str], bytes]) -> None:
        self.answers, self.asked, self.connections = list(answers), [], set()  # type: ignore[var-annotated]

    @contextmanager
    def running(self) -> Iterator[str]:
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                script.asked.append((self.command, self.path, body))
                script.connections.add(self.client_address)
                status, headers, said = script.answers[min(len(script.asked), len(script.answers)) - 1]
                self.send_response(status)
                for name, value in {"Content-Length": str(len(said)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(said)

            do_GET = do_POST = do_PUT = do_DELETE = answer

            def log_message(self, *_: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_port}"
            finally:
                server.shutdown()
                thread.join()


def said(status: int, type: str, message: str = "as it is", **headers: str) -> tuple[int, dict[str, str], bytes]:
    body = json.dumps({"error": {"type": type, "message": message}}).encode()
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, body


BUSY = said(503, "Overloaded", "16 searches run", Retry_After="0")
FULL = said(429, "TooManyRequests", "5 a second", Retry_After="0")
FINE = (200, {}, b'{"title": "t", "added": 1, "replaced": 0, "deleted": 1}')


@pytest.mark.parametrize("answers", [[BUSY, FINE], [BUSY, FULL, FINE]])
def test_a_busy_server_is_asked_again(answers: list[Any]) -> None:
    script = Script(*answers)
    with script.running() as url, Client(url) as client:
        assert client.info()["title"] == "t" and len(script.asked) == len(answers)


def test_what_is_put_is_sent_whole_each_time() -> None:
    script = Script(BUSY, BUSY, FINE)
    with script.running() as url, Client(url) as client:
        assert client.put("a", b"picture bytes") == Added(1, 0)
    assert len(script.asked) == 3 and all(b"picture bytes" in body for _, _, body in script.asked)


def refusal(*answers: tuple[int, dict[str, str], bytes], delete: bool = False) -> tuple[ServerError, int]:
    script = Script(*answers)
    with script.running() as url, Client(url) as client, pytest.raises(ServerError) as refused:
        _ = client.delete(["a"]) if delete else client.info()
    return refused.value, len(script.asked)


def test_patience_ends() -> None:
    error, asked = refusal(BUSY)
    assert (error.status, error.type, str(error), asked) == (503, "Overloaded", "16 searches run", 3)
    assert refusal(FULL)[0].type == "TooManyRequests"


@pytest.mark.parametrize(
    "answer",
    [
        said(503, "Stopping"),
        said(503, "Overloaded", Retry_After="3600"),
        said(503, "Overloaded", Retry_After="Wed, 21 Oct 2026 07:28:00 GMT"),
        said(500, "InternalError", Retry_After="0"),
    ],
)
def test_what_will_not_pass_is_not_waited_for(answer: tuple[int, dict[str, str], bytes]) -> None:
    error, asked = refusal(answer)
    assert error.status == answer[0] and asked == 1


def test_deleting_is_never_tried_twice() -> None:
    assert refusal(BUSY, delete=True)[1] == 1


def test_one_connection_serves_many_requests() -> None:
    script = Script(FINE)
    with script.running() as url, Client(url) as client:
        for _ in range(5):
            client.info()
    assert len(script.asked) == 5 and len(script.connections) == 1


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ((502, {}, b"<h1>Bad Gateway</h1>"), "answered 502, but not as manymatch does"),
        ((200, {}, b"<h1>It works!</h1>"), "answered 200, but not as manymatch does"),
        ((200, {}, b"[]"), "answered 200, but not as manymatch does"),
        ((404, {}, b'{"error": "not found"}'), "answered 404, but not as manymatch does"),
        ((301, {"Location": "https://b.example/"}, b""), "points to https://b.example/; give that address"),
    ],
)
def test_something_else_at_the_address_is_told(answer: tuple[int, dict[str, str], bytes], wanted: str) -> None:
    with pytest.raises(ServerError, match=wanted) as refused:
        raise refusal(answer)[0]
    assert refused.value.type == "NotManymatch" and refused.value.status == answer[0]


def test_nobody_at_the_address_is_told_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with Client(f"http://127.0.0.1:{port}") as client:
        with pytest.raises(
            mm.Error, match=rf"http://127.0.0.1:{port}: nothing answers there .*manymatch serve X"
        ) as told:
            client.search("a")
        assert "\n" not in str(told.value) and not client.ready()


def test_silence_is_told() -> None:
    # Connections are taken up by the system, and nobody answers.
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        Client(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=0.05) as client,
        pytest.raises(mm.Error, match=r"no answer within 0\.05 seconds; give Client a longer timeout"),
    ):
        client.info()


def test_an_address_may_have_a_path_before_it() -> None:
    script = Script(FINE)
    with script.running() as url, Client(f"{url}/photos/") as client:
        client.info()
        client.delete(["a/b", ".."])
    assert [path for _, path, _ in script.asked] == [
        "/photos/api/info",
        "/photos/api/items/a%2Fb",
        "/photos/api/items/%2E%2E",
    ]


@pytest.mark.parametrize("url", ["127.0.0.1:8421", "localhost", "ftp://a/b", "http://", "", "http://[", None])
def test_an_address_that_is_none_is_refused(url: Any) -> None:
    with pytest.raises(mm.Error, match=r"Client: url is .*, expected an address such as http://127"):
        Client(url)


@pytest.mark.parametrize("key", ["two words", "a\r\nX-Evil: 1", "schlüssel", "", 7])
def test_a_key_that_is_none_is_refused_and_not_repeated(key: Any) -> None:
    with pytest.raises(mm.Error, match="key is not what `manymatch key new` prints") as refused:
        Client("http://127.0.0.1:1", key)
    assert not key or str(key) not in str(refused.value)


@given(st.text(max_size=20), st.text(max_size=20), st.lists(st.text(max_size=9), max_size=4))
def test_an_unknown_name_keeps_its_words(kind: str, name: str, known: list[str]) -> None:
    told = str(UnknownName(kind, name, known))
    error = error_of("http://a", httpx.Response(404, json={"error": {"type": "UnknownName", "message": told}}))
    assert isinstance(error, UnknownName) and str(error) == told


def test_errors_can_be_passed_between_processes() -> None:
    error = pickle.loads(pickle.dumps(ServerError("no", 403, "Forbidden")))
    assert (str(error), error.status, error.type) == ("no", 403, "Forbidden") and isinstance(error, mm.Error)


def test_a_client_needs_neither_torch_nor_a_server() -> None:
    code = "import manymatch.web.client, sys; print(*{m.partition('.')[0] for m in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "faiss", "fastapi", "starlette", "uvicorn"} & set(loaded) and "httpx" in loaded
