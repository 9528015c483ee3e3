"""Words as the run sees them, kept for the next who asks the same: a page, a filter, a facet come after the first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .asking import Asked, in_words

if TYPE_CHECKING:
    from ...embeddings import Embedding

__all__ = ["Encodings"]

_BYTES = 32 * 2**20

_OVERHEAD = 1500
"""Bytes that Python takes for one text with its tensors, whatever they hold."""


class Encodings:
    """Queries in words by their text, as one run encodes them; those not asked for lately are forgotten. Thread-safe.

    What is given out is shared: nobody may change it, as nobody may change an embedding.

    Args:
        bytes: how much memory they may take.
    """

    def __init__(self, bytes: int = _BYTES) -> None:
        self._bytes, self._taken = bytes, 0
        self._kept: OrderedDict[str, tuple[Asked, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, texts: Sequence[str], encode: Callable[[list[str]], Embedding]) -> list[Asked]:
        """Each of the texts as a query; those that are not known yet are encoded together, each once."""
        known = self._known(texts)
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        if missing:
            found = encode(missing)
            fresh = {asked.text or "": asked for asked in in_words(missing, found)}
            self._keep(fresh)
            known |= fresh
        return [known[text] for text in texts]

    def _known(self, texts: Sequence[str]) -> dict[str, Asked]:
        out = {}
        with self._lock:
            for text in texts:
                found = self._kept.get(text)
                if found is not None:
                    self._kept.move_to_end(text)
                    out[text] = found[0]
        return out

    def _keep(self, fresh: dict[str, Asked]) -> None:
        with self._lock:
            for text, asked in fresh.items():
                size = _size(text, asked.embedding)
                _, before = self._kept.pop(text, (None, 0))
                self._kept[text] = asked, size
                self._taken += size - before
            while self._taken > self._bytes:
                self._taken -= self._kept.popitem(last=False)[1][1]


def _size(text: str, embedding: Embedding) -> int:
    # Its proxy is no larger than the embedding itself.
    return _OVERHEAD + 4 * len(text) + 2 * sum(tensor.nbytes for tensor in embedding.tensors().values())
