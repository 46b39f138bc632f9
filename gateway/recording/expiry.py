"""Which recordings are kept. The decision is pure; `Expiry` carries it out.

A recording is kept for a while after its session has ended; where nobody said that it has (its
gateway died, and no other took it up), after it was last recorded. If all of them together take
too much, those that ended first go first; what is being recorded stays, each bounded by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from gateway.recording.index import Beat, Index
from gateway.recording.shelf import Shelf
from scheduler.process.storage import StorageError

SWEEP_S: Final = 60.0
"""How often it is looked for what is to be removed."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Kept:
    """What decides whether a recording is kept."""

    ended_at: float | None
    """When its session ended, in seconds since 1970; None: nobody said that it has."""
    size: int
    """Bytes."""
    beat: Beat
    """Who records it."""

    @classmethod
    def of(cls, index: Index) -> Kept:
        """Returns what matters of a recording."""
        return cls(index.ended_at, index.size, index.beat)

    @property
    def over_at(self) -> float:
        """When it came to its end, as far as is known."""
        return self.beat.at if self.ended_at is None else self.ended_at


def expired(
    recordings: Mapping[str, Kept], now: float, *, kept_s: float, most_bytes: int
) -> list[str]:
    """Returns the sessions whose recordings are to be removed.

    Args:
        recordings: All there are.
        now: Seconds since 1970.
        kept_s: How long one is kept after its session has ended.
        most_bytes: What all of them may take.
    """
    over = sorted(
        (kept.over_at, session_id)
        for session_id, kept in recordings.items()
        if not kept.beat.is_live(now)
    )
    size = sum(kept.size for kept in recordings.values())
    gone = []
    for over_at, session_id in over:
        if now - over_at > kept_s or size > most_bytes:
            gone.append(session_id)
            size -= recordings[session_id].size
    return gone


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
        self.kept_s = kept_s
        self.most_bytes = most_bytes

    async def sweep(self, now: float) -> None:
        """Removes what is to be removed now; what cannot be is tried again the next time."""
        try:
            recordings = {
                session_id: kept
                async for session_id in self._shelf.sessions()
                if (kept := await self._kept(session_id)) is not None
            }
            # Of thousands it takes a while.
            decide = partial(expired, kept_s=self.kept_s, most_bytes=self.most_bytes)
            for session_id in await asyncio.to_thread(decide, recordings, now):
                # Somebody may have gone on with it while the others were read.
                if await self._kept(session_id) == recordings[session_id]:
                    await self._shelf.forget(session_id)
                    _log.info("recording.removed", session_id=session_id)
        except StorageError as error:
            _log.warning("recordings.not_swept", error=str(error))

    async def _kept(self, session_id: str) -> Kept | None:
        index = await self._shelf.index(session_id)
        return None if index is None else await asyncio.to_thread(Kept.of, index)
