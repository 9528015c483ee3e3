"""Writing over HTTP: who may, what is put and deleted, and every form that is refused."""

import json
import re

import pytest
from web_fakes import Client, FakeIndex, FakeItem, encoded, error_of, item_path

from manymatch.errors import DataError
from manymatch.web.app import create_app
from manymatch.web.keys import new_key
from manymatch.web.settings import Settings


@pytest.fixture
def index() -> FakeIndex:
    return FakeIndex({"a": FakeItem(["the letter a", "one"], encoded("green"))})


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """The key file, a key that reads and one that writes."""
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    return path, new_key(path, "read")[1], new_key(path, "write")[1]


@pytest.fixture
def app(index, keys):
    return create_app(index, settings=Settings(keys=keys[0], pixels=10_000, upload_bytes=100_000))


@pytest.fixture
def writer(app, keys) -> Client:
    return Client(app, headers={"Authorization": f"Bearer {keys[2]}"})


def put(client: Client, id: str, data: bytes | None = None, **fields: str):
    picture = ("mine.png", encoded("red") if data is None else data, "image/png")
    return client.put(item_path(id), files={"picture": picture}, data=fields)


# ---- who may


def test_writing_is_off_without_a_key_file(index):
    client = Client(create_app(index))
    for answer in (put(client, "b"), client.delete(item_path("a"))):
        assert error_of(answer, 403)[0] == "Forbidden"
    assert set(index.items) == {"a"}


def test_only_a_write_key_writes(app, keys, index):
    reader = Client(app, headers={"Authorization": f"Bearer {keys[1]}"})
    for client, status in ((Client(app), 401), (reader, 403)):
        for answer in (put(client, "b"), client.delete(item_path("a"))):
            assert answer.status_code == status
    assert set(index.items) == {"a"}


def test_reading_needs_a_key_where_there_are_some(app, keys):
    for path in ("/api/search?q=a", "/api/info", "/api/items/a", "/api/items/a/picture", "/openapi.json"):
        answer = Client(app).get(path)
        assert error_of(answer, 401)[0] == "Unauthorized" and answer.headers["www-authenticate"] == "Bearer"
        assert Client(app, headers={"Authorization": f"Bearer {keys[1]}"}).get(path).status_code == 200
    for path in ("/", "/health", "/ready", "/static/app.js"):
        assert Client(app).get(path).status_code == 200


def test_who_may_not_is_told_before_anything_is_read(app):
    """No parameter is looked at, and no body is waited for."""
    assert Client(app).get("/api/search?nothing=1").status_code == 401
    assert Client(app).post("/api/search", content=b"x" * 2_000_000).status_code == 401
    assert Client(app).put(item_path("a"), content=b"x" * 2_000_000).status_code == 401


def test_a_session_reads_and_never_writes(app, keys, index):
    entered = Client(app).post("/api/session", json={"key": keys[2]})
    cookie = entered.headers["set-cookie"]
    assert entered.status_code == 204 and "HttpOnly" in cookie and "SameSite=Strict" in cookie and "Path=/" in cookie
    assert keys[2] not in cookie
    browser = Client(app, headers={"Cookie": cookie.partition(";")[0]})
    assert browser.get("/api/info").json()["access"] == {"read": True, "write": False}
    assert browser.get("/api/search?q=a").status_code == 200
    assert put(browser, "b").status_code == 401 and browser.delete(item_path("a")).status_code == 401
    assert "Max-Age=0" in browser.delete("/api/session").headers["set-cookie"]


def test_info_says_what_this_caller_may_do(writer):
    assert writer.get("/api/info").json()["access"] == {"read": True, "write": True}


# ---- putting


def test_a_picture_is_put_with_its_captions_and_metadata(writer, index):
    answer = put(writer, "new/one", captions=json.dumps(["a red wall"]), metadata=json.dumps({"year": 2001}))
    assert answer.json() == {"added": 1, "replaced": 0}
    assert index.items["new/one"] == FakeItem(["a red wall"], encoded("red"), {"year": 2001})
    assert put(writer, "new/one").json() == {"added": 0, "replaced": 1}
    assert index.items["new/one"] == FakeItem([], encoded("red"), {})


def test_an_item_named_like_a_part_is_put_under_its_encoded_name(writer, index):
    assert put(writer, "a/picture").json()["added"] == 1
    assert "a/picture" in index.items


@pytest.mark.parametrize("part", ["picture", "thumbnail", "elements"])
def test_what_lies_below_an_item_is_only_read(writer, part):
    for method in ("PUT", "DELETE"):
        answer = writer.request(method, f"/api/items/a/{part}")
        assert error_of(answer, 405)[0] == "MethodNotAllowed" and answer.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"captions": "words"}, "captions: Invalid JSON"),
        ({"captions": '"words"'}, "captions: .*array"),
        ({"captions": "[1]"}, "captions.0: .*string"),
        ({"captions": json.dumps(["x" * 10_001])}, "captions.0: "),
        ({"metadata": "[]"}, "metadata: .*object"),
        ({"metadata": '{"a": NaN}'}, "metadata: .*not finite"),
        ({"metadata": '{"a": [1e999]}'}, "metadata: .*not finite"),
        ({"metadata": "[" * 10_000}, "metadata: Invalid JSON"),
        ({"captions": '["\\ud800"]'}, "captions: Invalid JSON"),
        ({"colour": "red"}, "unknown field 'colour'"),
    ],
)
def test_forms_are_held_to_what_they_may_say(writer, index, fields, said):
    kind, message = error_of(put(writer, "b", **fields), 422)
    assert kind == "DataError" and re.search(said, message)
    assert "b" not in index.items


def test_a_form_without_a_picture_is_refused(writer):
    sent = {"captions": (None, b"[]")}
    assert "picture: missing" in error_of(writer.put(item_path("b"), files=sent), 422)[1]
    said = error_of(writer.put(item_path("b"), files={"picture": (None, b"words")}), 422)[1]
    assert "picture: expected a file" in said


@pytest.mark.parametrize("data", [b"", b"<svg/>", encoded("red", (300, 300))[:200], encoded("red", (101, 100))])
def test_what_is_no_picture_within_the_limits_is_not_put(writer, index, data):
    assert error_of(put(writer, "b", data), 422)[0] == "PictureError"
    assert "b" not in index.items


def test_uploads_have_a_limit(writer):
    assert error_of(put(writer, "b", b"x" * 100_001), 413)[0] == "TooLarge"


def form(*parts: bytes, end: bytes = b"--b--\r\n") -> bytes:
    return b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + end


PICTURE = b'Content-Disposition: form-data; name="picture"; filename="a.png"\r\n\r\n' + encoded("red")
WORDS = b'Content-Disposition: form-data; name="captions"\r\n\r\n'


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"nothing", 400),
        (form(PICTURE, end=b""), 400),
        (form(b"no head"), 400),
        (form(b"A: b\r\n\r\nno disposition"), 400),
        (form(b"X: " + b"x" * 10_000 + b"\r\n" + PICTURE), 400),
        (b"--bb\r\n" + PICTURE + b"\r\n--b--", 400),
        (form(PICTURE, PICTURE), 422),
        (form(PICTURE, WORDS + b"[]", WORDS + b"[]"), 422),
        (form(PICTURE, *[WORDS + b"[]"] * 50), 422),
        (form(PICTURE, WORDS + b'["\xff"]'), 422),
        (form(PICTURE, WORDS + b"[]"), 200),
        (form(PICTURE) + b"after", 200),
    ],
)
@pytest.mark.parametrize("sent", ["multipart/form-data; boundary=b", 'Multipart/Form-Data; boundary="b"; charset=x'])
def test_forms_as_they_may_be_written(writer, body, status, sent):
    assert writer.put(item_path("b"), content=body, headers={"content-type": sent}).status_code == status


@pytest.mark.parametrize(
    "sent", ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=" + "b" * 71]
)
def test_forms_name_their_boundary(writer, sent):
    answer = writer.put(item_path("b"), content=form(PICTURE), headers={"content-type": sent})
    assert error_of(answer, 400)[0] == "BadRequest"


# ---- deleting


def test_an_item_is_deleted_with_its_captions(writer, index):
    assert writer.delete(item_path("a")).json() == {"deleted": 3}
    assert not index.items
    assert error_of(writer.delete(item_path("a")), 404)[0] == "UnknownName"


def test_an_index_that_cannot_be_written_now_says_so_and_no_more(writer, index):
    def busy(*given):
        raise DataError(f"{index.path}: another process is writing to this index; wait for it and try again")

    index.delete = index.put_picture = busy
    for answer in (writer.delete(item_path("a")), put(writer, "a")):
        kind, message = error_of(answer, 503)
        assert kind == "Overloaded" and answer.headers["retry-after"] and "/home" not in message
