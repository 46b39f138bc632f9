"""Which recordings are kept. The decision is pure; `Expiry` carries it out.

A recording is kept for a while after its session has ended; where nobody said that it has (its
gateway died, and no other took it up), after it was last recorded. If all of them together take
too much, those that ended first go first; what is being recorded stays, each bounded by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import structlog

from gateway.recording.index import Index
from gateway.recording.shelf import Shelf
from scheduler.process.storage import StorageError

SWEEP_S: Final = 60.0
"""How often it is looked for what is to be removed."""

_log = structlog.get_logger(__name__)


def expired(
    recordings: Mapping[str, Index], now: float, *, kept_s: float, most_bytes: int
) -> list[str]:
    """Returns the sessions whose recordings are to be removed.

    Args:
        recordings: All there are.
        now: Seconds since 1970.
        kept_s: How long one is kept after its session has ended.
        most_bytes: What all of them may take.
    """
    over = sorted(
        (_ended_at(index), session_id)
        for session_id, index in recordings.items()
        if not index.is_recorded(now)
    )
    size = sum(index.size for index in recordings.values())
    gone = []
    for ended_at, session_id in over:
        if now - ended_at > kept_s or size > most_bytes:
            gone.append(session_id)
            size -= recordings[session_id].size
    return gone


def _ended_at(index: Index) -> float:
    return index.beat_at if index.ended_at is None else index.ended_at


class Expiry:
    """Removes what is kept no longer."""

    def __init__(self, shelf: Shelf, *, kept_s: float, most_bytes: int) -> None:
        """Prepares.

        Args:
            shelf: Where recordings are kept.
            kept_s: How long one is kept after its session has ended.
            most_bytes: What all of them may take.
        """
        self._shelf = shelf
        self._kept_s = kept_s
        self._most_bytes = most_bytes

    async def sweep(self, now: float) -> None:
        """Removes what is to be removed now; what cannot be is tried again the next time."""
        try:
            recordings = {
                session_id: index
                async for session_id in self._shelf.sessions()
                if (index := await self._shelf.index(session_id)) is not None
            }
            for session_id in expired(
                recordings, now, kept_s=self._kept_s, most_bytes=self._most_bytes
            ):
                await self._shelf.forget(session_id)
                _log.info("recording.removed", session_id=session_id)
        except StorageError as error:
            _log.warning("recordings.not_swept", error=str(error))
