"""Wakes the play-out of all sessions of an event loop, each when its next frame is due.

A timer for every frame of every session would wake the loop 1,536 times a second for 64
sessions. Here one timer serves them all: it fires when the earliest frame is due, but not
within `INTERVAL_S` of the time before, and then serves every session that is due by then,
earliest deadline first. So a frame is never early, and late by at most the interval (plus
what the loop is late, and a millisecond that epoll rounds up); a session that is alone is
not late on its account.
"""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush
from typing import Protocol

import structlog

log = structlog.get_logger(__name__)

INTERVAL_S = 0.003
"""Least time between two wake-ups."""
RETRY_S = 0.5
"""After a failure, which is ours, a session goes on with what is due this much later."""


class Paced(Protocol):
    """A session's play-out."""

    def play(self, now: float) -> float | None:
        """Hands out what is due by `now`; returns when more is, None while nothing waits."""


class Pacing:
    """The one timer. Made and used on one event loop."""

    def __init__(self) -> None:
        """Waits for somebody to wake."""
        self.wakes = 0
        """Times the timer has fired."""
        self._at: dict[Paced, float] = {}
        # Entries whose time is not the one in `_at` are left over and skipped.
        self._heap: list[tuple[float, int, Paced]] = []
        self._entries = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._woke_at = float("-inf")

    def wake(self, paced: Paced, at: float | None) -> None:
        """Calls `paced.play` at a time of the loop instead of when it was to be called before.

        Args:
            paced: Whom.
            at: When; None: not any more.
        """
        if at is None:
            self._at.pop(paced, None)
        elif self._at.get(paced) != at:
            self._enter(paced, at)
            self._arm()

    def _enter(self, paced: Paced, at: float) -> None:
        self._at[paced] = at
        self._entries += 1
        heappush(self._heap, (at, self._entries, paced))

    def _arm(self) -> None:
        """Sets the timer to the earliest time that is still meant."""
        heap, meant = self._heap, self._at
        while heap and meant.get(heap[0][2]) != heap[0][0]:
            heappop(heap)
        if not heap:
            return
        at = max(heap[0][0], self._woke_at + INTERVAL_S)
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        self._timer_at = at
        self._timer = asyncio.get_running_loop().call_at(at, self._fire)

    def _fire(self) -> None:
        self.wakes += 1
        self._timer = None
        now = self._woke_at = asyncio.get_running_loop().time()
        heap, meant = self._heap, self._at
        while heap and heap[0][0] <= now:
            at, _, paced = heappop(heap)
            if meant.get(paced) != at:
                continue
            del meant[paced]
            try:
                again = paced.play(now)
            except Exception as error:  # one session's affair must not end all others'
                log.error("play.failed", error=type(error).__name__)
                again = now + RETRY_S
            if again is not None:
                self._enter(paced, again)
        self._arm()
