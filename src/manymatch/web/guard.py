"""Who may come in: by which name the server was called (Host), from which pages (CORS), with which key."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address, IPv6Network
from typing import TYPE_CHECKING, Annotated, NamedTuple
from urllib.parse import urlsplit

from fastapi import Request, Security
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from ..errors import DataError
from .problems import Refused, problem

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.datastructures import Headers
    from starlette.types import ASGIApp, Receive, Scope, Send

    from .keys import Key, Keys
    from .settings import Settings

__all__ = ["COOKIE", "Guard", "HostCheck", "Origins", "add_hosts", "add_origins"]

COOKIE = "manymatch_session"

_BEARER = HTTPBearer(scheme_name="key", description="A key made by `manymatch key new`.", auto_error=False)
_SESSION = APIKeyCookie(
    name=COOKIE, scheme_name="session", description="What `POST /api/session` sets; it reads only.", auto_error=False
)

_ASK = {"WWW-Authenticate": "Bearer"}
_KEPT = 64


class _Caller(NamedTuple):
    """The key behind a request, None where there is none or an unknown one; whether a key was sent as such."""

    key: Key | None
    sent: bool


class Guard:
    """What a request may do.

    Without keys everybody reads and nobody writes. With keys, reading needs one (unless `settings.public`), sent as
    `Authorization: Bearer KEY` or as the session cookie that was set for one; writing needs a write key sent as such.
    The cookie never writes, since a browser may send it along with what other pages ask for. A key that is sent and
    unknown reads nothing, not even what is public: its owner would otherwise never learn that it was revoked.

    Attributes:
        reader, writer: dependencies of routes; they raise `problems.Refused` (401, 403). Where reading needs a key,
            the schema of the API says so.

    Args:
        keys: the key file, None where there is none.
        settings: `public`, `hosts` and `origins` are read. Raises DataError where a host or origin is none.
    """

    def __init__(self, keys: Keys | None, settings: Settings) -> None:
        self.keys, self.public = keys, settings.public
        self.hosts = frozenset(map(_named_host, settings.hosts))
        self.origins = _named_origins(settings.origins)
        is_open = keys is None or settings.public
        self.reader: Callable[..., Awaitable[None]] = self._read_openly if is_open else self._read_by_key
        self.writer: Callable[..., Awaitable[None]] = self._write_by_key

    def access(self, scope: Scope) -> tuple[bool, bool]:
        """(may read, may write) of the caller."""
        if self.keys is None:
            return True, False
        key, sent = self._caller(self.keys, scope)
        if key is None:
            return self.public and not sent, False
        return True, sent and key.access == "write"

    def client(self, scope: Scope) -> str:
        """Whom a request is counted for: the id of its key, else its address.

        Of IPv6 addresses the first half, since whoever has one has the whole network.
        """
        key = None if self.keys is None else self._caller(self.keys, scope).key
        if key is not None:
            return key.id
        address = scope.get("client")
        return _network(address[0]) if address else "local"

    def session_cookie(self, scope: Scope, token: str) -> str:
        """The Set-Cookie value that lets a browser read on behalf of a key; it does not hold the key itself.

        Raises:
            Refused: 401, the key is unknown (as all are where there is no key file).
        """
        session = None if self.keys is None else self.keys.session(token)
        if session is None:
            raise _unknown()
        return _cookie(scope, session)

    def cleared_cookie(self, scope: Scope) -> str:
        """The Set-Cookie value that makes a browser forget its session."""
        return _cookie(scope, "") + "; Max-Age=0"

    async def _read_openly(self, request: Request) -> None:
        self._let_read(request.scope)

    async def _read_by_key(
        self,
        request: Request,
        key: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)],
        session: Annotated[str | None, Security(_SESSION)],
    ) -> None:
        self._let_read(request.scope)

    async def _write_by_key(
        self, request: Request, key: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)]
    ) -> None:
        self._let_write(request.scope)

    def _let_read(self, scope: Scope) -> None:
        if self.access(scope)[0]:
            return
        if self.keys is not None and self._caller(self.keys, scope).sent:
            raise _unknown()
        raise Refused(401, "Unauthorized", "reading needs a key, sent as Authorization: Bearer KEY", _ASK)

    def _let_write(self, scope: Scope) -> None:
        if self.keys is None:
            raise Refused(403, "Forbidden", "writing is off; start with --key-file, made by manymatch key new --write")
        key, sent = self._caller(self.keys, scope)
        if not sent:
            raise Refused(401, "Unauthorized", "writing needs a write key, sent as Authorization: Bearer KEY", _ASK)
        if key is None:
            raise _unknown()
        if key.access != "write":
            raise Refused(403, "Forbidden", "this key reads; writing needs one made by manymatch key new --write")

    def _caller(self, keys: Keys, scope: Scope) -> _Caller:
        token, session = _credentials(scope["headers"])
        if token is not None:
            return _Caller(keys.find(token), True)
        return _Caller(keys.find_session(session) if session else None, False)


def _unknown() -> Refused:
    return Refused(401, "Unauthorized", "this key is unknown here, or it was revoked", _ASK)


def _credentials(headers: Iterable[tuple[bytes, bytes]]) -> tuple[str | None, str | None]:
    """(the key, the session) that were sent. Other schemes than Bearer are those of a proxy before us."""
    token: str | None = None
    session: str | None = None
    for name, value in headers:
        if name == b"authorization":
            scheme, _, rest = value.partition(b" ")
            if scheme.lower() == b"bearer":
                # Of two keys neither counts: what stands between us and the caller may have looked at the other one.
                token = rest.strip().decode("latin-1") if token is None else ""
        elif name == b"cookie":
            for part in value.split(b";"):
                key, _, kept = part.strip().partition(b"=")
                if key == COOKIE.encode():
                    session = kept.decode("latin-1")
    return token, session


def _cookie(scope: Scope, value: str) -> str:
    # Strict: not even a link from elsewhere brings it along. Over plain HTTP a Secure cookie would not be kept.
    secure = "; Secure" if scope.get("scheme") == "https" else ""
    return f"{COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict{secure}"


@lru_cache(4096)
def _network(address: str) -> str:
    if ":" not in address:
        return address
    try:
        parsed = IPv6Address(address)
    except AddressValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Network((int(parsed) >> 64 << 64, 64)))


# ---- names of the server

_LONGEST = 260
"""Characters of the longest name there can be, with a port."""

_HOST = re.compile(r"(?:(\[[0-9a-f:.]+\])|([a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?)\.?)(?::[0-9]{0,5})?")


def _host(text: str) -> str | None:
    """A name or address without its port, as it is compared; None where it is none."""
    parts = _HOST.fullmatch(text.lower()) if len(text) <= _LONGEST else None
    if parts is None:
        return None
    if parts[1] is None:
        return parts[2]
    try:
        return IPv6Address(parts[1][1:-1]).compressed
    except AddressValueError:
        return None


def _named_host(text: str) -> str:
    """A name from the settings, in the form of `_host`; `*.example.org` stays a pattern and `*` is any name."""
    bare = text.removeprefix("*.")
    name = _host(f"[{bare}]" if bare.count(":") > 1 and not bare.startswith("[") else bare)
    if text == "*":
        return text
    if name is None:
        raise DataError(f"host {text!r}: expected a name or address such as search.example.org or *.example.org")
    return f"*.{name}" if bare != text else name


class HostCheck:
    """ASGI middleware: a request that calls the server by another name than its own is answered with 400.

    A page of any site can point a name of its own at this machine, and its visitors' browsers would then take the
    server for a part of that site (DNS rebinding). Only the Host header tells. Ports are not looked at. Probes ask by
    address, so `/health` and `/ready` answer to any name.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self.app, self.hosts = app, hosts
        self._fine: set[bytes] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._known(scope["headers"]) or _is_probe(scope):
            await self.app(scope, receive, send)
        else:
            answer = problem(400, "BadHost", "the Host header is none of the names of this server")
            await answer(scope, receive, send)

    def _known(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        sent = [value for name, value in headers if name == b"host"]
        if len(sent) != 1:
            return False
        if sent[0] in self._fine:
            return True
        host = _host(sent[0].decode("latin-1"))
        if host is None or not self._names(host):
            return False
        if len(self._fine) < _KEPT:
            self._fine.add(sent[0])
        return True

    def _names(self, host: str) -> bool:
        labels = host.split(".")
        above = ("*." + ".".join(labels[n:]) for n in range(1, len(labels)))
        return "*" in self.hosts or host in self.hosts or any(pattern in self.hosts for pattern in above)


def _is_probe(scope: Scope) -> bool:
    return scope["path"].removeprefix(scope.get("root_path", "")) in ("/health", "/ready")


# ---- pages of other servers

_USUAL = {"http": 80, "https": 443}


def _named_origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    if "*" in origins and len(origins) > 1:
        raise DataError("origin '*': stands for every origin, so expected it alone")
    return tuple(origin if origin == "*" else _named_origin(origin) for origin in origins)


def _named_origin(text: str) -> str:
    """An origin as browsers send it, which is what it is compared with."""
    try:
        parts = urlsplit(text.lower())
        scheme, port = parts.scheme, parts.port
    except ValueError:
        scheme, port = "", None
    fine = scheme in _USUAL and port != _USUAL[scheme] and text.lower() == f"{scheme}://{parts.netloc}"
    if not fine or _host(parts.netloc) is None:
        raise DataError(
            f"origin {text!r}: expected scheme and host alone such as https://example.org, with a port only where it "
            "is not the usual one"
        )
    return text.lower()


class Origins(CORSMiddleware):
    """CORS for named origins: reading with a key of the page's own, never with the visitor's cookie."""

    def __init__(self, app: ASGIApp, origins: tuple[str, ...]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=("GET", "HEAD", "POST", "OPTIONS"),
            allow_headers=("Authorization", "Content-Type"),
            expose_headers=("Retry-After", "WWW-Authenticate"),
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """As the library's, with a refusal in the shape that all our errors have."""
        answer = super().preflight_response(request_headers)
        if answer.status_code < 400:
            return answer
        kept = {name: value for name, value in answer.headers.items() if not name.startswith("content-")}
        return problem(400, "BadRequest", bytes(answer.body).decode(), kept)


def add_hosts(app: Starlette, guard: Guard) -> None:
    """Put the check of the Host header before an app, if the settings ask for one."""
    if guard.hosts:
        app.add_middleware(HostCheck, hosts=guard.hosts)


def add_origins(app: Starlette, guard: Guard) -> None:
    """Put the check of Origin before an app, if the settings ask for one.

    To be added last, so that pages of other servers can read every refusal, and when to come again.
    """
    if guard.origins:
        app.add_middleware(Origins, origins=guard.origins)
