"""One collection of a Qdrant server: reached, created, asked, and what goes wrong said in one line."""

from __future__ import annotations

import json
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from ...errors import DataError, IndexMismatch
from ..placement import Placement
from .api import QdrantClient, ResourceExhaustedResponse, ResponseHandlingException, UnexpectedResponse, models

__all__ = ["KEY", "MEMORY", "PROXY", "WORDS", "Refused", "Server", "connect"]

MEMORY = ":memory:"
"""In place of a url: the client's own brute-force mode, which lives as long as the process. For tests and trials."""

KEY = "QDRANT_API_KEY"
"""Environment variable with the key of the server. It is never stored."""

PROXY, WORDS = "proxy", "words"
"""Names of the dense and the sparse vector of a point."""

_OURS = "manymatch"
"""What the collection's metadata calls that which is ours."""

_SECONDS = 60
"""How long one request may take."""

_LONG = 3600
"""How long the index of a payload field may take: it reads every item."""

_INDEXED = {
    "modality": models.PayloadSchemaType.KEYWORD,
    "id": models.PayloadSchemaType.KEYWORD,
    "owner": models.PayloadSchemaType.KEYWORD,
    "order": models.PayloadSchemaType.INTEGER,
    "biased": models.PayloadSchemaType.INTEGER,
    "fields": models.PayloadSchemaType.KEYWORD,
    "texts[].words": models.PayloadSchemaType.KEYWORD,
}

_LOOPBACK = ("localhost", "127.0.0.1", "::1")

_shared: list[QdrantClient] = []
_lock = threading.Lock()


def connect(url: str, key: str | None = None) -> QdrantClient:
    """A client of the server at `url`. Nothing is asked of it yet.

    Args:
        url: http(s)://host:port, or ":memory:" for the one shared by everything in this process.
        key: the server's API key.

    Raises:
        DataError: no url of a server.
    """
    if url == MEMORY:
        with _lock:
            if not _shared:
                _shared.append(QdrantClient(MEMORY))
            return _shared[0]
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise DataError(f"url {url!r} of a Qdrant server: expected http://host:6333, https://host:6333 or {MEMORY}")
    if "@" in parts.netloc:
        # The url is stored, and shown in messages.
        raise DataError(f"url of the Qdrant server {parts.hostname}: found a user or password in it; set {KEY} instead")
    with warnings.catch_warnings():
        if parts.hostname in _LOOPBACK:
            warnings.filterwarnings("ignore", "Api key is used with an insecure connection", UserWarning)
        # The check of versions runs in a thread of its own and can only warn.
        return QdrantClient(url=url, api_key=key, timeout=_SECONDS, check_compatibility=False)


class Server:
    """One collection. Safe to use from many threads, as the client is.

    Args:
        client: of its server.
        url: of its server, for messages.
        name: of the collection.
        owner: what the collection's metadata must say: `identity` and `fingerprint` of the index.
        placement: of the collection, where it is made.
    """

    def __init__(
        self, client: QdrantClient, url: str, name: str, owner: Mapping[str, str], placement: Placement
    ) -> None:
        self.client, self.url, self.name = client, url, name
        self._owner, self._placement = dict(owner), placement
        self.in_memory = client.init_options.get("location") == MEMORY
        self._seen = False
        self._indexed: set[str] = set()

    def call(self, method: str, **arguments: Any) -> Any:
        """A method of the client, on this collection. Raises DataError as the class says."""
        with self._told(method):
            return getattr(self.client, method)(collection_name=self.name, **arguments)

    def exists(self) -> bool:
        """Whether the collection is there, and this index's.

        Raises:
            IndexMismatch: it is another index's, or another program's.
            DataError: the server cannot be reached, or refuses the key.
        """
        if not self._seen and self.call("collection_exists"):
            self._check(self.metadata())
            self._seen = True
        return self._seen

    def _check(self, metadata: Mapping[str, Any]) -> None:
        found = metadata.get(_OURS)
        if found == self._owner:
            return
        whose = "is no index of manymatch"
        if isinstance(found, Mapping):
            whose = f"is of the index {found.get('identity')} (run {str(found.get('fingerprint'))[:12]})"
        raise IndexMismatch(
            f"Qdrant at {self.url}: collection {self.name!r} {whose}, expected the index {self._owner['identity']} "
            f"(run {self._owner['fingerprint'][:12]}); open the index it belongs to, or choose another collection"
        )

    def metadata(self) -> dict[str, Any]:
        """What the collection says of itself."""
        return dict(self.call("get_collection").config.metadata or {})

    def note(self, name: str, value: Any) -> None:
        """Keep something in the collection's metadata."""
        self.call("update_collection", metadata={name: value})

    def create(self, width: int | None) -> None:
        """Make the collection where it is missing, and whatever an interrupted making left out.

        Args:
            width: numbers of a proxy; None where the similarity has none.
        """
        if not self.exists():
            try:
                self._make(width)
            except DataError:
                # Another writer may have been quicker.
                if not self.exists():
                    raise
        if not self.in_memory and not self._indexed >= set(_INDEXED):
            self._indexed |= set(self.call("get_collection").payload_schema or {})
            for field, kind in _INDEXED.items():
                self._index(field, kind)

    def _make(self, width: int | None) -> None:
        placement, dense = self._placement, {}
        if width is not None:
            dense[PROXY] = models.VectorParams(size=width, distance=models.Distance.DOT, on_disk=placement.on_disk)
        scalar = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, always_ram=True)
        self.call(
            "create_collection",
            vectors_config=dense,
            sparse_vectors_config={WORDS: models.SparseVectorParams(modifier=models.Modifier.IDF)},
            shard_number=placement.shards,
            replication_factor=placement.replicas,
            write_consistency_factor=placement.confirmed,
            on_disk_payload=True,
            quantization_config=models.ScalarQuantization(scalar=scalar) if placement.int8 else None,
            metadata={_OURS: self._owner},
        )
        if _OURS not in self.metadata():
            self.call("delete_collection")
            raise DataError(
                f"Qdrant at {self.url}: the server keeps no metadata of collections, expected version 1.16 or later; "
                "update it"
            )
        self._seen = True

    def indexed(self, field: str, kind: models.PayloadSchemaType) -> bool:
        """Whether a payload field has an index; one is made when a field is first asked about.

        False where the key may only read.
        """
        if self.in_memory or field in self._indexed:
            return True
        self._indexed |= set(self.call("get_collection").payload_schema or {})
        try:
            self._index(field, kind)
        except Refused:
            return False
        return True

    def _index(self, field: str, kind: models.PayloadSchemaType) -> None:
        if field not in self._indexed:
            self.call("create_payload_index", field_name=field, field_schema=kind, wait=True, timeout=_LONG)
            self._indexed.add(field)

    def searching(self, effort: int) -> models.SearchParams | None:
        """How hard a search looks; the in-memory mode looks at everything."""
        if self.in_memory:
            return None
        # Proxies in one byte only say which to look at: what they find is ordered by the whole numbers.
        whole = models.QuantizationSearchParams(rescore=True, oversampling=1.5)
        return models.SearchParams(hnsw_ef=effort, quantization=whole)

    def scroll(
        self, which: models.Filter | None, payload: Any, page: int = 256, first: str | None = None
    ) -> Iterator[list[models.Record]]:
        """Points that pass, page by page, ascending by point id from `first` on."""
        while True:
            found, first = self.call(
                "scroll", scroll_filter=which, limit=page, offset=first, with_payload=payload, with_vectors=False
            )
            if found:
                yield found
            if first is None:
                return

    def fetch(self, points: Sequence[str], payload: Any) -> dict[str, dict[str, Any]]:
        """Point id -> payload, of those that are there."""
        out: dict[str, dict[str, Any]] = {}
        for start in range(0, len(points), 512):
            part = list(points[start : start + 512])
            for record in self.call("retrieve", ids=part, with_payload=payload, with_vectors=False):
                out[str(record.id)] = record.payload or {}
        return out

    def count(self, which: models.Filter | None) -> int:
        """How many points pass."""
        return int(self.call("count", count_filter=which, exact=True).count)

    @contextmanager
    def _told(self, method: str) -> Iterator[None]:
        where = f"Qdrant at {self.url}"
        try:
            yield
        except ResponseHandlingException as error:
            raise DataError(
                f"{where}: no answer to {method} ({_short(error.source)}); start the server, or correct the url"
            ) from error
        except ResourceExhaustedResponse as error:
            raise DataError(f"{where}: overloaded ({_short(error)}); try again in {error.retry_after_s} s") from error
        except UnexpectedResponse as error:
            if error.status_code in (401, 403):
                raise Refused(
                    f"{where}: the key was refused for {method} of {self.name!r} ({error.status_code}); "
                    f"set {KEY} to a key that may"
                ) from error
            raise DataError(
                f"{where}: {method} of {self.name!r} was answered with {error.status_code} ({_said(error)}); "
                "see to the server and try again"
            ) from error


class Refused(DataError):
    """The key may not do that."""


def _short(error: object) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def _said(error: UnexpectedResponse) -> str:
    try:
        return _short(json.loads(error.content)["status"]["error"])
    except (ValueError, KeyError, TypeError):
        return _short(error.reason_phrase)
