"""Random numbers that can be recorded: whoever draws while training asks here, so that a step can be replayed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from .errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["draw", "recorded"]


class _Replay:
    """Recorded draws by name, and how often each name was asked for."""

    def __init__(self, draws: Mapping[str, Tensor]) -> None:
        self.draws, self.asked = dict(draws), dict[str, int]()

    def take(self, name: str) -> Tensor | None:
        turn = self.asked.get(name, 0)
        self.asked[name] = turn + 1
        return self.draws.pop(f"{name}.{turn}", None)


_now: ContextVar[_Replay | None] = ContextVar("draws", default=None)


def draw(name: str, fresh: Callable[[], Tensor]) -> Tensor:
    """The recorded draw of that name if the step has one, else a fresh one.

    Args:
        name: what is drawn ("negatives", "image noise"); the n-th time in a step it is recorded as `name.n`, from 0.
        fresh: makes it.
    """
    replay = _now.get()
    found = None if replay is None else replay.take(name)
    return fresh() if found is None else found


@contextmanager
def recorded(draws: Mapping[str, Tensor] | None) -> Iterator[None]:
    """Inside, `draw` gives these tensors.

    Raises:
        DataError: some were never asked for; nothing in the step draws them.
    """
    replay = _Replay(draws or {})
    token = _now.set(replay)
    try:
        yield
    finally:
        _now.reset(token)
    if replay.draws:
        asked = sorted(f"{name}.{n}" for name, times in replay.asked.items() for n in range(times))
        raise DataError(f"draws: nothing in the step draws {sorted(replay.draws)}; it draws {asked or 'nothing'}")
