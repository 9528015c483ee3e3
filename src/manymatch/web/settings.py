"""Every limit and choice of a server, in one frozen object that worker processes can be given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """What a server allows, and to whom.

    Attributes:
        title: of the page; the index folder's name where none.
        upload_bytes: of one body with a picture.
        body_bytes: of any other body.
        pixels: of one picture.
        query_length: characters of a query in words.
        most: hits of one answer, k.
        deepest: hits that may be passed over, offset.
        queries: in one batch.
        rate: requests a second of one client (its key, else its address) and worker process; None: no limit.
        searches: running or waiting at once in one worker process; more are refused at once.
        patience: seconds a client may take for its headers, for a body, or to take up an answer.
        idle: seconds a connection may lie idle between requests.
        keys: the key file; without one reading is open and writing is off.
        public: with a key file, reading needs no key all the same.
        hosts: names the server may be called by; empty: any.
        origins: whose pages may read the API from a browser (CORS).
        proxies: addresses whose X-Forwarded-For and X-Forwarded-Proto are believed.
    """

    title: str | None = None
    upload_bytes: int = 20_000_000
    body_bytes: int = 1_000_000
    pixels: int = 64_000_000
    query_length: int = 1000
    most: int = 200
    deepest: int = 10_000
    queries: int = 64
    rate: float | None = None
    searches: int = 16
    patience: float = 10.0
    idle: float = 15.0
    keys: Path | None = None
    public: bool = False
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
