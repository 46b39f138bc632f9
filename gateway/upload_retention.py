"""Uploads that nobody owns any more: those of sessions whose gateway died before they ended.

A session's uploads go when it ends. What is left lies below the id of a session that the scheduler
does not know and to which nothing was added for a long time.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import structlog
from prometheus_client import Counter

from gateway.placement import SchedulerAwayError
from scheduler.core.errors import RequestError, UnknownSessionError
from scheduler.kept_names import folder_of
from scheduler.process.storage import StorageError

SWEEP_S: Final = 3600.0
"""Time between two looks at the storage. Gateways look at times of their own."""
PAGE: Final = 256
"""Names that are asked for at once."""
SESSION_ID: Final = re.compile(r"s[0-9a-f]{32}")
"""What the folder of a session's uploads is called; other folders belong to others."""

_LEFT_OVER: Final = Counter(
    "sana_gateway_left_over_uploads", "Sessions whose forgotten uploads were removed."
)
_log = structlog.get_logger(__name__)


class AgedStore(Protocol):
    """What is needed of `scheduler.process.storage.Storage`."""

    async def names(self, prefix: str, after: str, limit: int) -> list[str]:
        """Lists what lies below a prefix."""

    async def newest(self, prefix: str) -> float | None:
        """Tells when something below it was last written."""

    async def delete(self, prefix: str) -> None:
        """Removes all below it."""


class UploadRetention:
    """Removes what was forgotten.

    Args:
        store: Where uploads lie.
        find: Asks the scheduler for a session; raises `UnknownSessionError` where there is none.
        kept_s: How long uploads of a session that nobody knows are kept after the last was
            written. Longer than a scheduler that lost its memory takes to hear of all sessions.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        store: AgedStore,
        find: Callable[[str], Awaitable[object]],
        kept_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._find = find
        self.kept_s = kept_s
        self._clock = clock

    async def run(self) -> None:
        """Looks again and again. Ends by being cancelled."""
        while True:
            await asyncio.sleep(SWEEP_S * random.uniform(0.5, 1.5))  # noqa: S311 - to spread load
            try:
                await self.sweep()
            except (StorageError, SchedulerAwayError) as error:
                _log.warning("uploads.not_swept", error=type(error).__name__)

    async def sweep(self) -> int:
        """Looks once; returns how many sessions' uploads it removed.

        Raises:
            StorageError: The storage failed.
            SchedulerAwayError: Nobody can tell which sessions there are.
        """
        after, removed = "", 0
        while names := await self._store.names("", after, PAGE):
            after = names[-1]
            for name in filter(SESSION_ID.fullmatch, names):
                if await self._is_left_over(name):
                    await self._store.delete(name)
                    _LEFT_OVER.inc()
                    removed += 1
        if removed:
            _log.info("uploads.swept", sessions=removed)
        return removed

    async def _is_left_over(self, session_id: str) -> bool:
        newest = await self._store.newest(session_id)
        if newest is not None and self._clock() - newest < self.kept_s:
            return False
        # Whoever has a kept state may yet come back.
        if await self._store.newest(folder_of(session_id)) is not None:
            return False
        try:
            await self._find(session_id)
        except UnknownSessionError:
            return True
        except RequestError:
            # It waits for a place, or is parked.
            return False
        return False
