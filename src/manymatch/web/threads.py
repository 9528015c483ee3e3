"""Where the work of a server is done, so that no part of it holds up another, nor takes all of the memory."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, TypeVar

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

__all__ = ["Room", "Threads"]

_T = TypeVar("_T")

_READERS = 8
"""Threads that read pictures, and files of pictures that lie in memory before they are sent."""


class Threads:
    """The threads of one server.

    Searches of all indexes share one thread: torch and faiss are pinned to one core a search, and what waits is
    counted before it gets here. Changes, which wait for other writers, have their own. Pictures are read and decoded
    in the ordinary pool.

    Args:
        pixels: of the largest picture, which is also as much as lies decoded at once, of those that were sent and of
            those that are shown.

    Attributes:
        sent, shown: room for decoded pictures, in pixels.
        files: room for encoded pictures that are shown, in pictures.
    """

    def __init__(self, pixels: int) -> None:
        self._search = ThreadPoolExecutor(1, "manymatch-search")
        self._change = ThreadPoolExecutor(1, "manymatch-change")
        self._pictures = CapacityLimiter(_READERS)
        self.sent, self.shown, self.files = Room(pixels), Room(pixels), Room(_READERS)

    async def search(self, work: Callable[..., _T], *given: Any, **options: Any) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._search, partial(work, *given, **options))

    async def change(self, work: Callable[..., _T], *given: Any) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._change, partial(work, *given))

    async def read(self, work: Callable[..., _T], *given: Any) -> _T:
        return await run_sync(work, *given, limiter=self._pictures)

    def close(self) -> None:
        """Finish what runs, and begin nothing more."""
        self._search.shutdown()
        self._change.shutdown()


class Room:
    """So much of something, given out in the order of asking. For one event loop.

    Args:
        most: in all; whoever needs more gets all of it.
    """

    def __init__(self, most: int) -> None:
        self._most = self._free = most
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def of(self, size: int) -> AsyncIterator[None]:
        """Room of this size, once there is."""
        size = min(size, self._most)
        if self._waiting or self._free < size:
            await self._wait(size)
        else:
            self._free -= size
        try:
            yield
        finally:
            self._leave(size)

    async def _wait(self, size: int) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                # Whoever left just now may have passed over it already.
                with suppress(ValueError):
                    self._waiting.remove((size, turn))
                self._next()
            else:
                self._leave(size)
            raise

    def _leave(self, size: int) -> None:
        self._free += size
        self._next()

    def _next(self) -> None:
        while self._waiting and (self._waiting[0][1].cancelled() or self._waiting[0][0] <= self._free):
            size, turn = self._waiting.popleft()
            # Who was cancelled hears of it only in the next turn of the loop.
            if not turn.cancelled():
                self._free -= size
                turn.set_result(None)
