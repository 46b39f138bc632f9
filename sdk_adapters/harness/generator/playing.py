"""What a user wants of the play buttons, against what the session does just now."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from sana_gateway import Phase
from sdk_adapters.harness.generator.watching import Watching

PATIENCE_S: Final = 2.0
"""How long after its answer a command may take to show in the session's state."""
AGAIN_S: Final = 1.0
"""Pause before something that was refused is asked for again, where nothing was said."""

_IDLE: Final = Phase.Value("PHASE_IDLE")
_PAUSED: Final = Phase.Value("PHASE_PAUSED")
_PAUSING: Final = Phase.Value("PHASE_PAUSING")
_GOING: Final = frozenset(
    Phase.Value(f"PHASE_{name}") for name in ("RUNNING", "AWAITING_COMPUTE", "AWAITING_SOURCE")
)


class Player:
    """Presses start, pause and resume so that the session does what its user wants.

    A clip that has ended is started again for as long as the user wants to see it. One
    button is pressed at a time: the next when the session shows that it took the last.
    """

    def __init__(
        self,
        watching: Watching,
        press: Callable[[str, float], None],
        clock: Callable[[], float],
        later: Callable[[float, Callable[[], None]], asyncio.TimerHandle],
    ) -> None:
        """Wants nothing yet.

        Args:
            watching: Is told when frames are due.
            press: Sends `start`, `pause` or `resume`; the second value says for when it was
                planned.
            clock: Tells the time.
            later: Calls after so many seconds, as an event loop does.
        """
        self._watching = watching
        self._press = press
        self._clock = clock
        self._later = later
        self._wanted: bool | None = None
        self._planned: float | None = None
        self._phase: int = _IDLE
        self._pressed_in: int | None = None
        """Phase in which the button was pressed that does not show yet."""
        self._answering = False
        self._settled_at = self._not_before = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def play(self, planned: float) -> None:
        """The user wants to see the picture move."""
        self._wanted, self._planned = True, planned
        self._look()

    def halt(self, planned: float) -> None:
        """The user wants it to stand."""
        self._wanted, self._planned = False, planned
        self._watching.stops(self._clock())
        self._look()

    def told(self, phase: int) -> None:
        """The session's phase is this."""
        if phase != self._phase:
            self._pressed_in = None
        self._phase = phase
        self._look()

    def completed(self) -> None:
        """The clip was shown to its end."""
        self._pressed_in, self._not_before = None, 0.0

    def refused(self, retry_after: float | None) -> None:
        """A command was refused."""
        self._not_before = self._clock() + (retry_after or AGAIN_S)

    async def sent(self, command: Awaitable[bool]) -> None:
        """Waits for the answer to a button that was pressed."""
        try:
            accepted = await command
        finally:
            self._answering = False
        if accepted:
            self._settled_at = self._clock() + PATIENCE_S
        else:
            self._pressed_in = None
        self._look()

    def _look(self) -> None:
        """Presses what is to be pressed now, if anything."""
        name, now = self._button(), self._clock()
        if self._wanted and self._phase in _GOING and not self._watching.due:
            # It never stood: the pause is unanswered, or was refused.
            self._watching.resumes(now, paused=False)
        if name is None or self._answering:
            return
        shows = self._pressed_in != self._phase
        if (wait := max(self._not_before, 0.0 if shows else self._settled_at) - now) > 0:
            self._look_again(wait)
            return
        planned, self._planned = self._planned, None
        if name == "start":
            self._watching.starts(now)
        elif name == "resume":
            self._watching.resumes(now, paused=self._phase == _PAUSED)
        self._answering, self._pressed_in = True, self._phase
        self._press(name, now if planned is None else planned)

    def _button(self) -> str | None:
        if self._wanted is None:
            return None
        if self._wanted:
            if self._phase == _IDLE:
                return "start"
            return "resume" if self._phase in (_PAUSED, _PAUSING) else None
        return "pause" if self._phase in _GOING else None

    def _look_again(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._later(seconds + 0.01, self._look)

    def close(self) -> None:
        """Presses nothing any more."""
        self._wanted = None
        if self._timer is not None:
            self._timer.cancel()
