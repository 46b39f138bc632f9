"""So many a second for all together, one after the other. Pure, but for `turn`.

Where a bucket refuses what is too much, turns put it off: whoever waits for an answer before asking
again is slowed down, and the time of an event loop that all of them take together has a bound.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from gateway.limits.buckets import Rate

MOST_WAITING: Final = 256
"""How many may wait for a turn of one kind."""


class Turns:
    """Gives everybody a time to go on.

    Args:
        rate: How many a second; the burst goes on at once after a pause.
        most_waiting: How many may wait; further ones get no turn.
    """

    def __init__(self, rate: Rate, most_waiting: int = MOST_WAITING) -> None:
        self._step_s = 1 / rate.per_second
        self._ahead_s = (rate.burst - 1) * self._step_s
        # Half a turn more than that: a wait is the sum of many parts of seconds.
        self._longest_s = (most_waiting + 0.5) * self._step_s
        self._next_at = 0.0
        """When a turn comes that is not ahead of its time."""

    def wait_s(self, now: float) -> float | None:
        """Takes a turn; returns how long until it comes, None if too many wait already.

        Args:
            now: Any clock that goes forward, in seconds.
        """
        next_at = max(self._next_at, now)
        wait_s = max(0.0, next_at - self._ahead_s - now)
        if wait_s > self._longest_s:
            return None
        self._next_at = next_at + self._step_s
        return wait_s


async def turn(turns: Turns) -> bool:
    """Returns when a turn has come; False, at once: too many wait already."""
    wait_s = turns.wait_s(time.monotonic())
    if wait_s:
        await asyncio.sleep(wait_s)
    return wait_s is not None
