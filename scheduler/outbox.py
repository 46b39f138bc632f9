"""A bounded way out of the event loop's callbacks into one stream."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

from scheduler.process.instruments import Queue

_T = TypeVar("_T")


class Outbox(Generic[_T]):
    """Items for one reader, in order. Used from one event loop.

    What does not fit closes the box: its reader's stream breaks, the peer comes back and
    is told how things stand. Nothing is dropped without the peer learning of it.

    Args:
        limit: Items that may wait.
        kind: Its kind, for who measures queues.
    """

    def __init__(self, limit: int, kind: Queue | None = None) -> None:
        self._limit = limit
        self._kind = kind
        self._items: deque[_T] = deque()
        if kind is not None:
            kind.watch(self._items)
        self._wake = asyncio.Event()
        self._closed = False

    def put(self, item: _T) -> None:
        """Adds an item; on a closed or full box it is not kept, and the box is closed."""
        if self._closed:
            return
        if len(self._items) >= self._limit:
            if self._kind is not None:
                self._kind.overflowed()
            self.close()
            return
        self._items.append(item)
        self._wake.set()

    def close(self) -> None:
        """Ends the reader after what is there already."""
        self._closed = True
        self._wake.set()

    async def __aiter__(self) -> AsyncIterator[_T]:
        """Yields the items until the box is closed and empty."""
        while True:
            while self._items:
                yield self._items.popleft()
            if self._closed:
                return
            self._wake.clear()
            await self._wake.wait()
