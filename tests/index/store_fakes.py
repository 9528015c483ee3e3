"""Stores without a run: items whose vectors are a few bytes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manymatch.index.store.rows import Record
from manymatch.index.store.store import Store

SETTINGS = {
    "fingerprint": "0" * 64,
    "similarity": "Cosine",
    "model": "fake",
    "precision": "float16",
    "engine": "auto",
    "agreement": 0.99,
}


def empty_store(folder: Path) -> Store:
    folder.mkdir(parents=True, exist_ok=True)
    return Store.create(folder / "index.sqlite", SETTINGS)


def image(id: str, metadata: Mapping[str, Any] | None = None, **more: Any) -> Record:
    return Record(id, id.encode(), metadata=metadata or {}, **more)


def caption(id: str, text: str | None, owner: str | None = None, **more: Any) -> Record:
    return Record(id, id.encode(), owner=owner, caption=text, **more)
