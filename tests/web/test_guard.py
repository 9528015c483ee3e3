"""Who may come in: keys, sessions, names of the server, pages of others. Over a small app with a route of each kind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI, Request, Response
from hypothesis import example, given
from hypothesis import strategies as st
from web_fakes import Client

from manymatch.errors import DataError
from manymatch.web.guard import COOKIE, Guard, HostCheck, add_hosts, add_origins
from manymatch.web.keys import Keys, new_key, revoke_key
from manymatch.web.problems import Refused
from manymatch.web.settings import Settings


@dataclass
class Made:
    """A key file with a key of each kind, and what is guarded by it."""

    file: Path
    read: str
    write: str
    ids: dict[str, str]

    def client(self, with_keys: bool = True, **settings: Any) -> Client:
        return Client(app_of(Guard(Keys.open(self.file) if with_keys else None, Settings(**settings))))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    (reading, read), (writing, write) = new_key(file), new_key(file, "write")
    return Made(file, read, write, {"read": reading.id, "write": writing.id})


def app_of(guard: Guard) -> FastAPI:
    app = FastAPI()
    add_hosts(app, guard)
    add_origins(app, guard)

    @app.exception_handler(Refused)
    def refused(request: Request, error: Refused) -> Response:
        return error.answer()

    @app.get("/look", dependencies=[Depends(guard.reader)])
    def look(request: Request) -> list[Any]:
        return [*guard.access(request.scope), guard.client(request.scope)]

    @app.post("/change", dependencies=[Depends(guard.writer)])
    def change() -> str:
        return "changed"

    @app.post("/session")
    def session(request: Request, key: str) -> Response:
        return Response(status_code=204, headers={"Set-Cookie": guard.session_cookie(request.scope, key)})

    @app.delete("/session")
    def leave(request: Request) -> Response:
        return Response(status_code=204, headers={"Set-Cookie": guard.cleared_cookie(request.scope)})

    @app.get("/health")
    def health() -> str:
        return "ok"

    return app


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def kind(answer: httpx.Response) -> tuple[int, str]:
    body = answer.json()
    return answer.status_code, body["error"]["type"] if isinstance(body, dict) else "fine"


FINE, UNKNOWN, FORBIDDEN = (200, "fine"), (401, "Unauthorized"), (403, "Forbidden")
WRONG = "mm_01234567_" + "A" * 43


# ---- keys


def test_without_keys_everybody_reads_and_nobody_writes(made: Made) -> None:
    client = made.client(with_keys=False)
    for headers in ({}, bearer(made.write), bearer("anything")):
        assert client.get("/look", headers=headers).json() == [True, False, "127.0.0.1"]
        answer = client.post("/change", headers=headers)
        assert kind(answer) == FORBIDDEN and "start with --key-file" in answer.text
    assert kind(client.post("/session", params={"key": made.read})) == UNKNOWN


@pytest.mark.parametrize("public", [False, True])
def test_what_each_key_may_do(made: Made, public: bool) -> None:
    client = made.client(public=public)
    expected = {
        None: (FINE if public else UNKNOWN, UNKNOWN),
        made.read: (FINE, FORBIDDEN),
        made.write: (FINE, FINE),
        # A wrong key is told even where reading is public.
        WRONG: (UNKNOWN, UNKNOWN),
        "": (UNKNOWN, UNKNOWN),
    }
    for token, (reading, writing) in expected.items():
        headers = {} if token is None else bearer(token)
        looked, changed = client.get("/look", headers=headers), client.post("/change", headers=headers)
        assert (kind(looked), kind(changed)) == (reading, writing), token
        for answer in (looked, changed):
            assert (answer.headers.get("www-authenticate") == "Bearer") == (answer.status_code == 401)


def test_access_and_client_are_of_the_caller(made: Made) -> None:
    client = made.client(public=True)
    assert client.get("/look").json() == [True, False, "127.0.0.1"]
    assert client.get("/look", headers=bearer(made.read)).json() == [True, False, made.ids["read"]]
    assert client.get("/look", headers=bearer(made.write)).json() == [True, True, made.ids["write"]]


def test_the_scheme_is_read_as_others_write_it(made: Made) -> None:
    client = made.client()
    assert kind(client.get("/look", headers={"Authorization": f"bEARER   {made.read} "})) == FINE
    # A proxy before us may ask for a password of its own.
    assert kind(client.get("/look", headers={"Authorization": "Basic eDp5"})) == UNKNOWN
    assert kind(made.client(public=True).get("/look", headers={"Authorization": "Basic eDp5"})) == FINE
    doubled = [("Authorization", f"Bearer {made.read}"), ("Authorization", f"Bearer {made.write}")]
    assert kind(client.get("/look", headers=doubled)) == UNKNOWN
    assert kind(client.get("/look", params={"key": made.read})) == UNKNOWN


def test_a_revoked_key_is_refused_without_a_restart(tmp_path: Path) -> None:
    key, token = new_key(tmp_path / "keys.json", "write")
    client = Client(app_of(Guard(Keys.open(tmp_path / "keys.json"), Settings())))
    assert kind(client.post("/change", headers=bearer(token))) == FINE
    revoke_key(tmp_path / "keys.json", key.id)
    assert kind(client.post("/change", headers=bearer(token))) == UNKNOWN
    assert kind(client.get("/look", headers=bearer(token))) == UNKNOWN


@given(sent=st.binary(max_size=200), header=st.sampled_from([b"authorization", b"cookie"]), whole=st.booleans())
@example(b"Bearer \xff\xfe", b"authorization", True)
@example(b"manymatch_session=\xff; ;;=;manymatch_session", b"cookie", True)
def test_any_header_is_answered(made: Made, sent: bytes, header: bytes, whole: bool) -> None:
    guard = Guard(Keys.open(made.file), Settings())
    prefix = b"" if whole else {b"authorization": b"Bearer ", b"cookie": b"manymatch_session="}[header]
    scope = {"type": "http", "headers": [(header, prefix + sent)], "client": ("10.1.2.3", 1)}
    assert guard.access(scope) == (False, False)
    assert guard.client(scope) == "10.1.2.3"


# ---- sessions


def session_of(client: Client, token: str) -> str:
    answer = client.post("/session", params={"key": token})
    assert answer.status_code == 204
    return answer.headers["set-cookie"]


@pytest.mark.parametrize("access", ["read", "write"])
def test_a_session_reads_and_never_writes(made: Made, access: str) -> None:
    client = made.client()
    token = {"read": made.read, "write": made.write}[access]
    cookie, *rest = session_of(client, token).split("; ")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} == set(rest)
    assert token not in cookie and token[12:] not in cookie
    headers = {"Cookie": f"other=1; {cookie}; more=2"}
    assert client.get("/look", headers=headers).json() == [True, False, made.ids[access]]
    assert kind(client.post("/change", headers=headers)) == UNKNOWN
    # Neither does its content, sent as a key would be, nor a key sent as the cookie.
    value = cookie.removeprefix(f"{COOKIE}=")
    for token_like in (value, value.replace("ms_", "mm_", 1)):
        assert kind(client.post("/change", headers=bearer(token_like))) == UNKNOWN
    assert kind(client.get("/look", headers={"Cookie": f"{COOKIE}={token}"})) == UNKNOWN


def test_a_key_goes_before_the_session(made: Made) -> None:
    client = made.client()
    cookie = {"Cookie": session_of(client, made.read).split(";")[0]}
    assert kind(client.post("/change", headers=cookie | bearer(made.write))) == FINE
    assert kind(client.get("/look", headers=cookie | bearer(WRONG))) == UNKNOWN


def test_an_old_session_does_not_keep_a_browser_from_what_is_public(made: Made) -> None:
    old = {"Cookie": f"{COOKIE}=ms_01234567_{'A' * 43}"}
    assert kind(made.client(public=True).get("/look", headers=old)) == FINE
    assert kind(made.client().get("/look", headers=old)) == UNKNOWN


def test_a_session_ends(made: Made) -> None:
    client = made.client()
    cleared = client.request("DELETE", "/session").headers["set-cookie"]
    assert cleared.startswith(f"{COOKIE}=; ") and "Max-Age=0" in cleared and "Path=/" in cleared
    refused = client.post("/session", params={"key": WRONG})
    assert kind(refused) == UNKNOWN and "set-cookie" not in refused.headers


def test_over_https_the_session_stays_there(made: Made) -> None:
    guard = Guard(Keys.open(made.file), Settings())
    assert "Secure" in guard.session_cookie({"scheme": "https"}, made.read).split("; ")
    assert "Secure" in guard.cleared_cookie({"scheme": "https"}).split("; ")
    assert "Secure" not in guard.session_cookie({"scheme": "http"}, made.read).split("; ")


# ---- clients


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("not:an:address", "not:an:address"),
        ("testclient", "testclient"),
    ],
)
def test_a_client_without_a_key_is_its_network(address: str, counted: str) -> None:
    assert Guard(None, Settings()).client({"headers": [], "client": (address, 5)}) == counted


def test_a_client_on_a_local_socket_has_a_name() -> None:
    assert Guard(None, Settings()).client({"headers": [], "client": None}) == "local"


# ---- what the schema says


def security(guard: Guard) -> tuple[Any, Any]:
    paths = app_of(guard).openapi()["paths"]
    return paths["/look"]["get"].get("security"), paths["/change"]["post"].get("security")


def test_the_schema_asks_for_a_key_where_the_server_does(made: Made) -> None:
    keys = Keys.open(made.file)
    assert security(Guard(keys, Settings())) == ([{"key": []}, {"session": []}], [{"key": []}])
    assert security(Guard(keys, Settings(public=True))) == (None, [{"key": []}])
    assert security(Guard(None, Settings())) == (None, [{"key": []}])
    schemes = app_of(Guard(keys, Settings())).openapi()["components"]["securitySchemes"]
    assert (schemes["key"]["type"], schemes["key"]["scheme"]) == ("http", "bearer")
    assert (schemes["session"]["in"], schemes["session"]["name"]) == ("cookie", COOKIE)


# ---- names of the server

LOCAL = ("localhost", "127.0.0.1", "[::1]")


@pytest.mark.parametrize(
    ("hosts", "sent", "fine"),
    [
        (LOCAL, "localhost", True),
        (LOCAL, "LocalHost:8421", True),
        (LOCAL, "localhost.:1", True),
        (LOCAL, "127.0.0.1:80", True),
        (LOCAL, "[::1]:8421", True),
        (LOCAL, "[0:0::1]", True),
        (("::1",), "[::1]", True),
        (("Search.Example.org:8421",), "search.example.org", True),
        (LOCAL, "evil.example", False),
        (LOCAL, "localhost.evil.example", False),
        (LOCAL, "evil.example:localhost", False),
        (LOCAL, "evil@localhost", False),
        (LOCAL, "localhost, evil.example", False),
        (LOCAL, "localhost:80:80", False),
        (LOCAL, "127.0.0.1.evil.example", False),
        (LOCAL, "2130706433", False),
        (LOCAL, "::1", False),
        (LOCAL, "[::1", False),
        (LOCAL, "[:::1]", False),
        (LOCAL, "", False),
        (LOCAL, ":80", False),
        (LOCAL, "localh\xf6st", False),
        (("*.example.org",), "a.example.org", True),
        (("*.example.org",), "b.A.Example.org:1", True),
        (("*.example.org",), "example.org", False),
        (("*.example.org",), ".example.org", False),
        (("*.example.org",), "aexample.org", False),
        (("*.example.org",), "*.example.org", False),
        (("*.example.org",), "a.example.org.evil", False),
        (("*.org",), "a." * 32_000 + "org", False),
        (("*",), "anything.example", True),
        (("*",), "any thing", False),
    ],
)
def test_the_server_answers_to_its_names(made: Made, hosts: tuple[str, ...], sent: str, fine: bool) -> None:
    client = made.client(with_keys=False, hosts=hosts)
    for _ in range(2):
        answer = client.get("/look", headers={"Host": sent.encode("latin-1")})
        assert kind(answer) == (FINE if fine else (400, "BadHost"))
    assert client.get("/health", headers={"Host": sent.encode("latin-1")}).json() == "ok"


def test_without_names_it_answers_to_any(made: Made) -> None:
    assert kind(made.client(with_keys=False).get("/look", headers={"Host": "evil.example"})) == FINE


async def _reached(scope: Any, receive: Any, send: Any) -> None:
    scope["reached"] = True


def passes(check: HostCheck, headers: list[tuple[bytes, bytes]], **scope: Any) -> bool:
    asked: dict[str, Any] = {"type": "http", "path": "/look", "headers": headers, **scope}

    async def send(message: Any) -> None:
        pass

    # Nothing in it waits for anything.
    with pytest.raises(StopIteration):
        check(asked, send, send).send(None)
    return "reached" in asked


def test_a_missing_or_doubled_host_is_refused() -> None:
    check = HostCheck(_reached, Guard(None, Settings(hosts=LOCAL)).hosts)
    assert passes(check, [(b"host", b"localhost")])
    assert not passes(check, [])
    assert not passes(check, [(b"host", b"localhost"), (b"host", b"localhost")])
    assert not passes(check, [(b"host", b"localhost"), (b"host", b"evil.example")])


def test_probes_and_what_is_no_request_pass() -> None:
    check = HostCheck(_reached, Guard(None, Settings(hosts=LOCAL)).hosts)
    assert passes(check, [], type="lifespan")
    for path in ("/health", "/ready"):
        assert passes(check, [], path=path)
        assert passes(check, [], path=f"/under{path}", root_path="/under")
    assert not passes(check, [], path="/health/../look")


@given(st.binary(max_size=300) | st.from_regex(rb"[a-z\[\]:.0-9*@-]{0,30}", fullmatch=True))
def test_no_host_is_taken_for_another(sent: bytes) -> None:
    check = HostCheck(_reached, Guard(None, Settings(hosts=("only.example.org",))).hosts)
    name = sent.decode("latin-1").lower().partition(":")[0].removesuffix(".")
    assert not passes(check, [(b"host", sent)]) or name == "only.example.org"


def test_names_seen_are_remembered_only_so_far() -> None:
    check = HostCheck(_reached, Guard(None, Settings(hosts=("*.example.org",))).hosts)
    assert all(passes(check, [(b"host", b"%d.example.org" % n)]) for n in range(500))
    assert len(check._fine) <= 64


@pytest.mark.parametrize(
    "host", ["", "https://example.org", "example.org/x", "a b", "*.", "*.*.org", "[::g]", "münchen"]
)
def test_a_name_that_is_none_is_told(host: str) -> None:
    with pytest.raises(DataError, match=r"host .*expected a name or address"):
        Guard(None, Settings(hosts=("localhost", host)))


# ---- pages of others

SHOP = "https://shop.example.org"


def ask_before(client: Client, origin: str, method: str = "GET", headers: str = "authorization") -> httpx.Response:
    asked = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
    return client.request("OPTIONS", "/look", headers=asked)


def cors(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control")}


def test_unless_named_no_page_is_let_in(made: Made) -> None:
    client = made.client(with_keys=False)
    assert not cors(client.get("/look", headers={"Origin": SHOP}))
    assert ask_before(client, SHOP).status_code == 405


def test_a_named_page_reads_with_a_key_of_its_own(made: Made) -> None:
    client = made.client(origins=(SHOP,))
    answer = client.get("/look", headers={"Origin": SHOP, **bearer(made.read)})
    assert kind(answer) == FINE and answer.headers["access-control-allow-origin"] == SHOP
    assert "access-control-allow-credentials" not in answer.headers and answer.headers["vary"] == "Origin"
    assert client.get("/look", headers={"Origin": SHOP}).headers["access-control-allow-origin"] == SHOP
    for method in ("GET", "HEAD", "POST"):
        before = ask_before(client, SHOP, method, "Authorization, content-type")
        assert before.status_code == 200 and before.headers["access-control-allow-origin"] == SHOP
        assert "access-control-allow-credentials" not in before.headers and "Origin" in before.headers["vary"]


def test_other_pages_and_other_verbs_are_not_let_in(made: Made) -> None:
    client = made.client(origins=(SHOP,))
    for other in ("https://evil.example", f"{SHOP}.evil.example", "http://shop.example.org", "null", f"{SHOP}:444"):
        answer = client.get("/look", headers={"Origin": other, **bearer(made.read)})
        assert "access-control-allow-origin" not in answer.headers and answer.headers["vary"] == "Origin"
        before = ask_before(client, other)
        assert kind(before) == (400, "BadRequest") and "access-control-allow-origin" not in before.headers
    for refused in (ask_before(client, SHOP, "PUT"), ask_before(client, SHOP, "DELETE")):
        assert kind(refused) == (400, "BadRequest")
    assert kind(ask_before(client, SHOP, "GET", "x-other")) == (400, "BadRequest")


def test_every_page_may_be_let_in(made: Made) -> None:
    client = made.client(origins=("*",))
    answer = client.get("/look", headers={"Origin": "https://any.example", **bearer(made.read)})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers


def test_a_wrong_name_is_refused_whatever_the_origin_which_may_read_why(made: Made) -> None:
    client = made.client(with_keys=False, hosts=LOCAL, origins=(SHOP,))
    answer = client.get("/look", headers={"Host": "evil.example", "Origin": SHOP})
    assert kind(answer) == (400, "BadHost") and answer.headers["access-control-allow-origin"] == SHOP


@pytest.mark.parametrize(
    "origin",
    [
        "shop.example.org",
        "https://shop.example.org/",
        "https://shop.example.org/x",
        "https://shop.example.org:443",
        "http://shop.example.org:80",
        "https://",
        "https://a@b",
        "https://*.example.org",
        "null",
        "ftp://shop.example.org",
        "https://a:b",
        "https://[::1",
        "",
    ],
)
def test_an_origin_that_is_none_is_told(origin: str) -> None:
    with pytest.raises(DataError, match=r"origin .*expected scheme and host"):
        Guard(None, Settings(origins=(origin,)))


def test_origins_as_people_write_them() -> None:
    named = Guard(None, Settings(origins=("HTTPS://Shop.Example.org", "http://localhost:5173", "http://[::1]:8080")))
    assert named.origins == ("https://shop.example.org", "http://localhost:5173", "http://[::1]:8080")


def test_every_origin_stands_alone() -> None:
    with pytest.raises(DataError, match="expected it alone"):
        Guard(None, Settings(origins=("*", SHOP)))
