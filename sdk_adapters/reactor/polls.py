"""Requests that wait for their answer instead of asking again.

Clients of this wire poll, with pauses that double from 200 ms. An answer that comes a
millisecond after a poll costs them the whole pause, so a poll is kept until there is
something to say. All clients bear this: they set no limit, or one above half a minute.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from prometheus_client import Gauge

PLACE_HOLD_S: Final = 20.0
"""How long a poll waits for the place of its session.

A ticket lives 120 s, in which clients pause six times, for 6.2 s in all.
"""
ANSWER_HOLD_S: Final = 1.0
"""How long a poll waits for the answer to an offer."""
MAX_HELD: Final = 256
"""Polls of a process that wait at once; further ones are answered with what is known."""
LOOK_S: Final = 1.0
"""How long a poll may outlive its client, who says nothing when it goes."""

_HELD = Gauge("sana_gateway_reactor_held_polls", "Polls that wait for their answer now.")


class Polls:
    """The polls that wait."""

    def __init__(self) -> None:
        """Begins with none."""
        self._held = 0

    async def hold(
        self,
        known: Callable[[], Coroutine[Any, Any, object]],
        at_most_s: float,
        is_gone: Callable[[], bool],
    ) -> None:
        """Returns once the answer is known, the time is over, or nobody waits for it.

        Args:
            known: Returns or raises when the answer is known; is cancelled when it takes too
                long. What it says is not looked at: the caller knows where the answer is.
            at_most_s: Longest wait.
            is_gone: Tells whether the client has hung up.
        """
        if self._held >= MAX_HELD:
            return
        self._held += 1
        _HELD.inc()
        waiting = asyncio.create_task(known())
        try:
            await _until_done(waiting, at_most_s, is_gone)
        finally:
            self._held -= 1
            _HELD.dec()
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)


async def _until_done(
    waiting: asyncio.Task[object], at_most_s: float, is_gone: Callable[[], bool]
) -> None:
    now = asyncio.get_running_loop().time
    deadline = now() + at_most_s
    while not waiting.done() and (left := deadline - now()) > 0 and not is_gone():
        await asyncio.wait([waiting], timeout=min(left, LOOK_S))
