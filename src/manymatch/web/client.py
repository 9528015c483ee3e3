"""The API from Python: a `Client` of a served index asks as `Index` does, and answers with the same classes."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import urlsplit

import httpx

from ..errors import DataError, Error
from ..index import Added, Results
from ..index.answers.asking import Options, name_of
from ..index.filters import Where, read_where
from .settings import Settings
from .wire import (
    ServerError,
    body_of,
    encoded,
    error_of,
    forms,
    no_such,
    not_ours,
    path_of,
    results_of,
    seconds,
    structured,
)

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Client", "ServerError"]

_TRIES = 3
_LONGEST_WAIT = 10.0
"""Seconds. A server that asks for more has other troubles than a rush."""

_TOO_BUSY = (429, 503)


class Client:
    """A served index. `search` and `search_many` are those of `Index`, and so are their answers and errors.

    Safe to use from many threads; connections are kept and used again. What only reads, and `put`, which done twice is
    the same as once, is tried three times where the server says that it is too busy and when to come back; anything
    else is tried once.

    Args:
        url: where the page is, such as "http://127.0.0.1:8421".
        key: made by `manymatch key new`; None where reading is open.
        timeout: seconds to wait for the connection, and for each part of an answer.

    Raises:
        DataError: a url or a key that cannot be one.
    """

    def __init__(self, url: str, key: str | None = None, timeout: float = 30) -> None:
        self.url = _checked(url)
        headers = {} if key is None else {"Authorization": f"Bearer {_printable(key)}"}
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    # ---- asking

    def search(
        self,
        query: str | Path | Image.Image | None = None,
        k: int = 10,
        *,
        like: str | None = None,
        unlike: str | None = None,
        unlike_item: str | None = None,
        among: Literal["images", "captions"] | None = None,
        where: Mapping[str, Any] | Where | None = None,
        exact: bool | None = None,
        offset: int = 0,
        confident: float | None = None,
        bank: bool | None = None,
        hybrid: bool = False,
        diverse: float | None = None,
        group_by: str | None = None,
        per_group: int = 3,
        facets: Sequence[str] = (),
        meanings: bool = False,
        explain: bool = False,
    ) -> Results:
        """As `Index.search`, but that `unlike` is words only. `milliseconds` are the server's, without the way.

        A picture is sent as the file it is, a decoded one as PNG.

        Raises:
            DataError, UnknownName: as `Index.search`, and beyond the server's limits.
            ServerError: no key, too busy and so on.
            Error: nothing answers.
        """
        given = locals()
        name = name_of(query, like)
        if unlike is not None and not isinstance(unlike, str):
            raise DataError(f"search: unlike is {type(unlike).__name__}, expected words; or give unlike_item=ID")
        asked = {name: given[name] for name in ("like", "unlike", "unlike_item", "among")}
        body = body_of(Options(**{field.name: given[field.name] for field in fields(Options)}), asked)
        if query is None or isinstance(query, str):
            answer = self._by_words(query, body, read_where(where))
        else:
            answer = self._by_picture(encoded(query), body, read_where(where))
        return replace(results_of(answer), query=name)

    def _by_words(self, query: str | None, body: dict[str, Any], where: Where) -> dict[str, Any]:
        whole, lines = structured(where), forms(where)
        if whole is not None:
            told = {"query": query, "where": whole or None}
            return self._json("POST", "api/search", json=body | {n: v for n, v in told.items() if v is not None})
        if lines is None:
            raise no_such(where)
        return self._json("GET", "api/search", params=body | {"where": lines} | ({} if query is None else {"q": query}))

    def _by_picture(self, picture: tuple[str, bytes], body: dict[str, Any], where: Where) -> dict[str, Any]:
        whole, lines = structured(where), forms(where)
        sent: dict[str, Any] = {"files": {"image": picture}}
        if lines is not None:
            return self._json("POST", "api/search/image", params=body | {"where": lines}, **sent)
        if whole is None:
            raise no_such(where)
        return self._json("POST", "api/search/image", params=body, data={"where": json.dumps(whole)}, **sent)

    def search_many(
        self,
        queries: Sequence[str],
        k: int = 10,
        *,
        among: Literal["images", "captions"] | None = None,
        where: Mapping[str, Any] | Where | None = None,
        **options: Any,
    ) -> list[Results]:
        """As `Index.search_many`, sent in batches of 64. Raises as `search`."""
        if isinstance(queries, str):
            raise DataError(f"search_many: queries is the string {queries!r}, expected a list of texts")
        for query in queries:
            if not isinstance(query, str):
                raise DataError(f"search_many: a query is {type(query).__name__}, expected texts")
            name_of(query, None)
        conditions = read_where(where)
        whole = structured(conditions)
        if whole is None:
            raise no_such(conditions)
        body = body_of(Options(k=k, **options), {"among": among, "where": whole or None})
        found: list[Results] = []
        for start in range(0, len(queries), Settings.queries):
            part = list(queries[start : start + Settings.queries])
            answer = self._json("POST", "api/search/many", json=body | {"queries": part})
            found += [results_of(one) for one in answer["results"]]
        return found

    # ---- looking

    def item(self, id: str) -> dict[str, Any]:
        """As `Index.item`: id, modality, captions, metadata, labels, has_picture, owner. Raises UnknownName."""
        found: dict[str, Any] = self._json("GET", path_of(id))["item"]
        return found

    def elements(self, id: str | None = None, *, query: str | None = None) -> dict[str, Any]:
        """As `Index.elements`: what each element of an item, or of a query in words, attends to."""
        if (id is None) == (query is None):
            raise DataError("elements: expected one: the id of an item, or query=WORDS")
        if id is not None:
            return self._json("GET", path_of(id, "/elements"))
        return self._json("GET", "api/elements", params={"q": str(query)})

    def picture(self, id: str) -> bytes:
        """The encoded picture of an item. Raises UnknownName, ServerError (404 "NotFound": it has none)."""
        return self._call("GET", path_of(id, "/picture")).content

    def thumbnail(self, id: str) -> bytes:
        """A small JPEG of the picture, upright. Raises as `picture`."""
        return self._call("GET", path_of(id, "/thumbnail")).content

    def info(self) -> dict[str, Any]:
        """What the server says of its index, of its limits, and of what this key may do."""
        return self._json("GET", "api/info")

    def ready(self) -> bool:
        """Whether searches are answered now: False while the server starts or stops, and where none is."""
        try:
            return self._http.get("ready").status_code == 200
        except httpx.TransportError:
            return False

    # ---- changing

    def put(
        self,
        id: str,
        picture: str | Path | bytes | Image.Image,
        captions: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> Added:
        """Add an image with its captions, or replace the known one of this id. The server keeps the picture.

        Args:
            picture: a path, the encoded bytes, or a decoded picture (sent as PNG).

        Raises:
            DataError: a picture that cannot be read or that the run cannot look at, captions or metadata that are none.
            ServerError: 403 "Forbidden" without a key that may write.
        """
        if isinstance(captions, str):
            raise DataError(f"put: captions is the string {captions!r}, expected a list of texts")
        try:
            words = {"captions": json.dumps(list(captions)), "metadata": json.dumps(dict(metadata or {}))}
        except (TypeError, ValueError) as error:
            raise DataError(f"put: captions and metadata of {id!r} are sent as JSON, and cannot be: {error}") from None
        sent = ("picture", picture) if isinstance(picture, bytes) else encoded(picture, "put", "picture")
        answer = self._json("PUT", path_of(id), files={"picture": sent}, data=words)
        return Added(answer["added"], answer["replaced"])

    def delete(self, ids: Sequence[str]) -> int:
        """Delete items, with the captions of the images among them; how many items went.

        One request an item, in this order; `Index.delete` does all or nothing, here those before a failure are gone.

        Raises:
            UnknownName: an id that is not in the index.
            ServerError: 403 "Forbidden" without a key that may write.
        """
        if isinstance(ids, str):
            raise DataError(f"delete: ids is the string {ids!r}, expected a list of ids")
        return sum(int(self._json("DELETE", path_of(id))["deleted"]) for id in ids)

    # ---- the way there and back

    def _json(self, method: str, path: str, **sent: Any) -> dict[str, Any]:
        answer = self._call(method, path, **sent)
        try:
            body = answer.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise not_ours(self.url, answer)
        return body

    def _call(self, method: str, path: str, **sent: Any) -> httpx.Response:
        """The answer, after waiting where the server is too busy. Raises what the answer says."""
        for left in reversed(range(_TRIES if method != "DELETE" else 1)):
            answer = self._ask(method, path, **sent)
            wait = seconds(answer) if answer.status_code in _TOO_BUSY else None
            if not left or wait is None or wait > _LONGEST_WAIT:
                break
            time.sleep(wait)
        if answer.status_code == 200:
            return answer
        raise error_of(self.url, answer)

    def _ask(self, method: str, path: str, **sent: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **sent)
        except httpx.ConnectError as error:
            hint = "is it running? start it with: manymatch serve X"
            raise Error(f"{self.url}: nothing answers there ({error}); {hint}") from error
        except httpx.TimeoutException as error:
            wait = self._http.timeout.read
            raise Error(f"{self.url}: no answer within {wait:g} seconds; give Client a longer timeout") from error
        except httpx.TransportError as error:
            raise Error(f"{self.url}: the connection broke off ({error}); ask again") from error
        except UnicodeEncodeError as error:
            raise DataError(f"{error.object!r} is not valid Unicode; mend it") from None


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except (ValueError, TypeError, AttributeError):
        fine = False
    if not fine:
        raise DataError(f"Client: url is {url!r}, expected an address such as http://127.0.0.1:8421")
    return url.rstrip("/")


def _printable(key: str) -> str:
    if not isinstance(key, str) or not re.fullmatch(r"[!-~]+", key):
        # Not shown: messages end up in logs.
        raise DataError("Client: key is not what `manymatch key new` prints: letters, digits and signs, without blanks")
    return key
