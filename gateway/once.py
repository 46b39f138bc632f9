"""Work that is done once for all who ask for it under one key."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

KeyT = TypeVar("KeyT")
ResultT = TypeVar("ResultT")


class Once(Generic[KeyT, ResultT]):
    """Runs work by key. Whoever asks first may leave: the next one gets what comes of it."""

    def __init__(self, kept: int = 0) -> None:
        """Has done nothing yet.

        Args:
            kept: Results that are given to who asks later, too; the oldest are forgotten first.
                What failed is done again.
        """
        self._kept = kept
        self._tasks: OrderedDict[KeyT, asyncio.Task[ResultT]] = OrderedDict()

    def __contains__(self, key: KeyT) -> bool:
        """Tells whether work is under way, or its result kept."""
        return key in self._tasks

    async def do(self, key: KeyT, work: Callable[[], Coroutine[Any, Any, ResultT]]) -> ResultT:
        """Returns the result of the work of a key, which is begun unless it was before.

        Raises:
            Exception: Whatever the work raises.
        """
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.create_task(work())
            task.add_done_callback(lambda done: self._done(key, done))
        return await asyncio.shield(task)

    def forget(self, key: KeyT) -> None:
        """The result of a key is of no use any more."""
        if key in self._tasks and self._tasks[key].done():
            del self._tasks[key]

    async def stop(self) -> None:
        """Ends what is under way."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self, key: KeyT, task: asyncio.Task[ResultT]) -> None:
        failed = task.cancelled() or task.exception() is not None
        if (failed or not self._kept) and self._tasks.get(key) is task:
            del self._tasks[key]
        while len(self._tasks) > self._kept and next(iter(self._tasks.values())).done():
            self._tasks.popitem(last=False)
