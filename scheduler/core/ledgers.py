"""Two of the three ledgers: places in an actor's memory, and a host's time to encode.

The third, compute, is in `scheduler.core.compute`. Declared values come with an actor's
registration and are refined by what it measures. A measurement never takes away what is
taken already; it only decides what still fits.
"""

from __future__ import annotations

import math

from scheduler.core.ids import ActorId, Epoch, SessionId

ROUNDING = 1e-6
"""Milliseconds per second by which sums of floats may miss a ceiling."""


class ResidentLedger:
    """Places in the memory of one actor: slots, and bytes where they are declared.

    Args:
        slots: Sessions it holds at most.
        limit_bytes: Memory for sessions; 0: only the slots count.
        session_bytes: Memory of one session.
    """

    def __init__(self, slots: int, limit_bytes: int = 0, session_bytes: int = 0) -> None:
        self.slots = slots
        self.limit_bytes = limit_bytes
        self.session_bytes = session_bytes
        self.sessions: dict[SessionId, None] = {}
        """Sessions that hold a place, in the order in which they came."""
        self.leaving: dict[SessionId, Epoch] = {}
        """Sessions that went on elsewhere and are still shown from here, with their epoch
        here. They hold a place too."""

    @property
    def taken(self) -> int:
        """Places that are held."""
        return len(self.sessions) + len(self.leaving)

    @property
    def booked_bytes(self) -> int:
        """Bytes that are held."""
        return self.taken * self.session_bytes

    @property
    def capacity(self) -> int:
        """Places there are; at least one, however large a session is."""
        if self.limit_bytes <= 0 or self.session_bytes <= 0:
            return self.slots
        return max(1, min(self.slots, self.limit_bytes // self.session_bytes))

    @property
    def free(self) -> int:
        """Places that nobody holds."""
        return max(0, self.capacity - self.taken)


class EncodeLedger:
    """Encode-milliseconds per second of one host, which its actors share.

    A session that is on its way from one actor of the host to another is booked at both and
    counts once, at the larger of the two: the old one encodes no more than it has left.

    Args:
        ceiling: Share of the host's capacity that may be booked, 0 to 1.
    """

    def __init__(self, ceiling: float) -> None:
        self._share = ceiling
        self._capacities: dict[ActorId, float] = {}
        self._bookings: dict[SessionId, dict[ActorId, float]] = {}
        """What is booked for each session, and at which actors."""
        self._total = 0.0
        self.ceiling = 0.0
        """What may be booked, by the smallest word of its actors; 0: it is not counted."""

    @property
    def booked(self) -> float:
        """What is booked."""
        return self._total

    @property
    def actors(self) -> tuple[ActorId, ...]:
        """Actors on the host."""
        return tuple(self._capacities)

    def sessions_per_actor(self, ms_per_s: float) -> float:
        """Returns how many sessions may be encoded for each actor of the host; infinity where
        that is not counted.

        Args:
            ms_per_s: What one of them needs.
        """
        if self.ceiling <= 0 or ms_per_s <= 0:
            return math.inf
        sessions = max(1, math.floor((self.ceiling + ROUNDING) / ms_per_s))
        return sessions / max(1, len(self._capacities))

    def join(self, actor: ActorId, capacity_ms: float) -> None:
        """Takes in what an actor says about its host; 0: nothing."""
        self._capacities[actor] = capacity_ms
        self._settle()

    def leave(self, actor: ActorId) -> None:
        """Forgets an actor and what is booked at it."""
        self._capacities.pop(actor, None)
        self._settle()
        for session in [s for s, booked in self._bookings.items() if actor in booked]:
            self.book(actor, session, 0.0)

    def book(self, actor: ActorId, session: SessionId, ms_per_s: float) -> None:
        """Records what a session needs at an actor; 0: nothing."""
        before = self.booked_for(session)
        if ms_per_s:
            self._bookings.setdefault(session, {})[actor] = ms_per_s
        elif session in self._bookings:
            self._bookings[session].pop(actor, None)
            if not self._bookings[session]:
                del self._bookings[session]
        self._total += self.booked_for(session) - before
        if not self._bookings:
            self._total = 0.0

    def booked_for(self, session: SessionId) -> float:
        """Returns what is booked for a session, wherever on the host it is."""
        return max(self._bookings.get(session, _NONE).values(), default=0.0)

    def fits(self, ms_per_s: float, session: SessionId | None = None) -> bool:
        """Tells whether a session may be booked; a lone one always may.

        Args:
            ms_per_s: What it needs.
            session: Whose; what it has booked already is not added. None: a new one.
        """
        if self.ceiling <= 0:
            return True
        already = 0.0 if session is None else self.booked_for(session)
        others = self._total - already
        if ms_per_s <= already or others <= ROUNDING:
            return True
        return others + ms_per_s <= self.ceiling + ROUNDING

    def _settle(self) -> None:
        told = [capacity for capacity in self._capacities.values() if capacity > 0]
        self.ceiling = self._share * min(told, default=0.0)


_NONE: dict[ActorId, float] = {}
