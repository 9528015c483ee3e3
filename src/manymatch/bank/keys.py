"""Which images a query came from, as numbers: nothing of their names or captions is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..data.pairs import Pairs

__all__ = ["item_keys", "owner_keys"]

Ints = np.ndarray[Any, np.dtype[np.int64]]


def owner_keys(ids: Iterable[str]) -> Ints:
    """(n,): one number for each image id, the same on every machine. A caption's owner is its image."""
    return _hashes(ids)


def item_keys(pairs: Pairs) -> tuple[Ints, Ints]:
    """One number for each caption together with the id of its image, and the row of that image: (c,), (c,)."""
    texts = (f"{item.id}\0{caption}" for item in pairs.items for caption in item.captions)
    return _hashes(texts), pairs.owner


def _hashes(texts: Iterable[str]) -> Ints:
    found = (hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in texts)
    return np.frombuffer(b"".join(found), "<i8").astype(np.int64)
