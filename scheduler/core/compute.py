"""The compute ledger of one actor: who has it booked, and who waits for it.

A booking costs `chunk_ms` of compute for every `period_ms` of play-out. The sum over
all bookings stays under a ceiling, except that a lone session is always let in: a slow
actor serves one session badly rather than none.
"""

from __future__ import annotations

from collections.abc import Iterator

from scheduler.core.ids import SessionId

_ROUNDING = 1e-6
"""Milliseconds per second by which sums of floats may miss the ceiling."""


class ComputeLedger:
    """Bookings of one actor. Times are seconds on the scheduler's clock.

    Args:
        chunk_ms: Declared compute of one steady chunk.
        period_ms: Play-out time of one steady chunk.
        ceiling: Chunk-milliseconds per second that may be booked.
        smoothing: Weight of a new measurement in the moving average of `chunk_ms`, 0 to 1.
    """

    def __init__(
        self, chunk_ms: float, period_ms: float, *, ceiling: float, smoothing: float
    ) -> None:
        self.chunk_ms = chunk_ms
        self.period_ms = period_ms
        self.ceiling = ceiling
        self._smoothing = smoothing
        self._booked: dict[SessionId, float | None] = {}
        """Until when a booking lasts; None when until it is given back."""
        self._waiting: dict[SessionId, float] = {}
        """When a request is refused, in the order of the requests."""

    @property
    def cost(self) -> float:
        """Chunk-milliseconds per second of one booking."""
        return self.chunk_ms * 1000.0 / self.period_ms

    @property
    def booked(self) -> float:
        """Chunk-milliseconds per second that are booked."""
        return self.cost * len(self._booked)

    @property
    def waiting(self) -> int:
        """Number of requests that wait."""
        return len(self._waiting)

    @property
    def computing(self) -> int:
        """Number of bookings without an end."""
        return sum(until is None for until in self._booked.values())

    def holds(self, session: SessionId) -> bool:
        """Tells whether a session has a booking of either kind."""
        return session in self._booked

    def is_computing(self, session: SessionId) -> bool:
        """Tells whether a session has a booking without an end."""
        return self._booked.get(session, 0.0) is None

    def waits(self, session: SessionId) -> bool:
        """Tells whether a session's request waits."""
        return session in self._waiting

    def has_room(self) -> bool:
        """Tells whether a new session may book: there is room and nobody waits for it."""
        return not self._waiting and self._fits()

    def measure(self, chunk_ms: float) -> None:
        """Refines the cost of a chunk by a measurement in milliseconds."""
        self.chunk_ms += self._smoothing * (chunk_ms - self.chunk_ms)

    def lend(self, session: SessionId, until: float) -> None:
        """Books for a session until a deadline, or until it books for itself."""
        self._booked[session] = until

    def restore(self, session: SessionId) -> None:
        """Records that a session computes already, whatever the ceiling says."""
        self._booked[session] = None

    def book(self, session: SessionId, refuse_at: float) -> bool:
        """Books for a session without an end, or lets it wait.

        Returns:
            Whether it is booked now. A request that waits already keeps its turn.
        """
        if session in self._booked or self.has_room():
            self._booked[session] = None
            return True
        self._waiting.setdefault(session, refuse_at)
        return False

    def release(self, session: SessionId) -> None:
        """Gives back what a session booked or asked for, if anything."""
        self._booked.pop(session, None)
        self._waiting.pop(session, None)

    def expire(self, now: float) -> list[SessionId]:
        """Ends the lent bookings that are over and the requests that waited too long.

        Returns:
            The sessions whose request is refused.
        """
        for session in [s for s, until in self._booked.items() if _is_over(until, now)]:
            del self._booked[session]
        refused = [s for s, refuse_at in self._waiting.items() if refuse_at <= now]
        for session in refused:
            del self._waiting[session]
        return refused

    def grant(self) -> list[SessionId]:
        """Books for those who wait, in order, as far as there is room.

        Returns:
            The sessions that are booked now.
        """
        granted = []
        while self._waiting and self._fits():
            session = next(iter(self._waiting))
            del self._waiting[session]
            self._booked[session] = None
            granted.append(session)
        return granted

    def lent_until(self) -> float | None:
        """Returns when the next lent booking ends, if one is lent."""
        return min((until for until in self._booked.values() if until is not None), default=None)

    def deadlines(self) -> Iterator[float]:
        """Yields the times at which `expire` has something to do."""
        yield from (until for until in self._booked.values() if until is not None)
        yield from self._waiting.values()

    def _fits(self) -> bool:
        return not self._booked or self.booked + self.cost <= self.ceiling + _ROUNDING


def _is_over(until: float | None, now: float) -> bool:
    return until is not None and until <= now
