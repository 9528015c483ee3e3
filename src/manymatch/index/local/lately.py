"""What was lately asked of one generation: a filter comes again with every page, facets with every word typed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TypeVar, cast

import numpy as np

__all__ = ["Lately"]

_ANSWERS = 64
_BYTES = 32 * 2**20

Found = TypeVar("Found")


class Lately:
    """Answers by question, those that were not asked for lately forgotten. Thread-safe.

    Args:
        answers: how many are kept.
        bytes: how much memory the arrays among them may take; a larger one is not kept.
    """

    def __init__(self, answers: int = _ANSWERS, bytes: int = _BYTES) -> None:
        self._answers, self._bytes = answers, bytes
        self._kept: OrderedDict[Hashable, object] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, question: Hashable, find: Callable[[], Found]) -> Found:
        """The answer to a question, which always has the same one. Nobody may change it."""
        with self._lock:
            if question in self._kept:
                self._kept.move_to_end(question)
                return cast(Found, self._kept[question])
        found = find()
        with self._lock:
            self._kept[question] = found
            while len(self._kept) > self._answers or sum(map(_size, self._kept.values())) > self._bytes:
                self._kept.popitem(last=False)
        return found


def _size(answer: object) -> int:
    return answer.nbytes if isinstance(answer, np.ndarray) else 0
