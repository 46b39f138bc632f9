"""The compute ledger of one actor: who has it booked, and who waits for it.

A booking costs `chunk_ms` of compute for every `period_ms` of play-out, and the time to
encode what is made, which the actors of a host share. A session that runs at a share of its
frame rate costs that share. The sum over all bookings stays under a ceiling, except that a
lone session may take all there is: it runs at the highest permitted rate that keeps up. What
was declared decides whether there is one. A measurement alone locks nobody out, as it is only
corrected by computing.
"""

from __future__ import annotations

from collections.abc import Sequence

from scheduler.core.ids import ActorId, SessionId
from scheduler.core.ledgers import ROUNDING, EncodeLedger

NOBODY = ActorId("")

FULL = 1.0
"""The whole frame rate."""
WHOLE = 1000.0
"""Chunk-milliseconds per second that there are: a session that needs more falls behind."""


class ComputeLedger:
    """Bookings of one actor. Times are seconds on the scheduler's clock.

    Args:
        chunk_ms: Declared compute of one steady chunk.
        period_ms: Play-out time of one steady chunk.
        ceiling: Chunk-milliseconds per second that may be booked.
        smoothing: Weight of a new measurement in the moving averages, 0 to 1.
        actor: Whose it is.
        encode_ms: Declared encode-milliseconds of one second of one session.
        encode: Ledger of its host; without one encoding is not counted.
    """

    def __init__(
        self,
        chunk_ms: float,
        period_ms: float,
        *,
        ceiling: float,
        smoothing: float,
        actor: ActorId = NOBODY,
        encode_ms: float = 0.0,
        encode: EncodeLedger | None = None,
    ) -> None:
        self.chunk_ms = chunk_ms
        self.period_ms = period_ms
        self.ceiling = ceiling
        self.encode_ms = encode_ms
        self.encode = encode
        self._declared = chunk_ms
        self._smoothing = smoothing
        self._actor = actor
        self._until: dict[SessionId, float | None] = {}
        """Until when a booking lasts; None when until it is given back."""
        self._share: dict[SessionId, float] = {}
        self._shares = 0.0
        """Sum of the booked shares."""
        self._computing = 0
        self._waiting: dict[SessionId, float] = {}
        """When a request is refused, in the order of the requests."""

    @property
    def cost(self) -> float:
        """Chunk-milliseconds per second of one booking at the full rate."""
        return self.chunk_ms * 1000.0 / self.period_ms

    @property
    def booked(self) -> float:
        """Chunk-milliseconds per second that are booked."""
        return self.cost * self._shares

    @property
    def booked_encode(self) -> float:
        """Encode-milliseconds per second that its sessions need."""
        return self.encode_ms * self._shares

    @property
    def shares(self) -> float:
        """Sum of the shares of the frame rate that are booked: sessions at the full rate."""
        return self._shares

    @property
    def waiting_count(self) -> int:
        """Number of requests that wait."""
        return len(self._waiting)

    @property
    def waiting(self) -> tuple[SessionId, ...]:
        """Sessions whose request waits, in their order."""
        return tuple(self._waiting)

    @property
    def computing(self) -> int:
        """Number of bookings without an end."""
        return self._computing

    def holds(self, session: SessionId) -> bool:
        """Tells whether a session has a booking of either kind."""
        return session in self._until

    def is_computing(self, session: SessionId) -> bool:
        """Tells whether a session has a booking without an end."""
        return self._until.get(session, 0.0) is None

    def waits(self, session: SessionId) -> bool:
        """Tells whether a session's request waits."""
        return session in self._waiting

    def anybody_waits(self) -> bool:
        """Tells whether any request waits."""
        return bool(self._waiting)

    def share(self, session: SessionId) -> float:
        """Returns the share of its frame rate that a session has booked; 0 if none."""
        return self._share.get(session, 0.0)

    def room(self, rates: Sequence[float] = (), session: SessionId | None = None) -> float:
        """Returns the largest share that a new booking may have: the whole rate or one of
        `rates`, highest first; 0 when none fits or somebody waits already.

        Args:
            rates: Lower shares that will do.
            session: Whose booking. One that comes from another actor of the host has its
                encoding booked there. None: a session of which nothing is booked.
        """
        if self._waiting:
            return 0.0
        return self.fitting(rates, session)

    def fitting(self, rates: Sequence[float] = (), session: SessionId | None = None) -> float:
        """Returns the largest share that fits, whoever waits; 0 when none does."""
        if self._fits(FULL, session):
            return FULL
        share = next((rate for rate in rates if self._fits(rate, session)), 0.0)
        if share or not self._is_alone(session) or not self.keeps_up(rates):
            return share
        lowest = min(rates, default=FULL)
        return lowest if self._encodes(lowest, session) else 0.0

    def keeps_up(self, rates: Sequence[float] = ()) -> bool:
        """Tells whether a lone session keeps up at the full rate or at one of `rates`, by what
        was declared.
        """
        return self._declared / self.period_ms * min(rates, default=FULL) <= 1.0

    def measure(self, chunk_ms: float, encode_ms: float = 0.0) -> None:
        """Refines the costs by measurements in milliseconds; 0 means unknown."""
        if chunk_ms > 0:
            self.chunk_ms += self._smoothing * (chunk_ms - self.chunk_ms)
        if encode_ms > 0:
            self.encode_ms += self._smoothing * (encode_ms - self.encode_ms)
            for session in self._share:
                self._tell_host(session)

    @property
    def degraded(self) -> list[SessionId]:
        """Sessions that are booked at less than the full rate."""
        return [session for session, share in self._share.items() if share < FULL]

    def hasten(self, session: SessionId) -> None:
        """Books what a session has booked at the full rate from now on."""
        self._put(session, self._until[session], FULL)

    def lend(self, session: SessionId, until: float, share: float = FULL) -> None:
        """Books for a session until a deadline, or until it books for itself."""
        self._put(session, until, share)

    def extend(self, session: SessionId, until: float) -> bool:
        """Lends what is lent to a session until another time; tells whether anything is."""
        if self._until.get(session) is None:
            return False
        self._until[session] = until
        return True

    def restore(self, session: SessionId, share: float = FULL) -> None:
        """Records that a session computes, whatever the ceiling says."""
        self._waiting.pop(session, None)
        self._put(session, None, share)

    def book(self, session: SessionId, rates: Sequence[float] = ()) -> float:
        """Books for a session without an end, at the full rate where it fits.

        Args:
            session: Who asks. What it has booked already it keeps, and at the full rate
                from now on where there is room.
            rates: Lower shares that will do, highest first.

        Returns:
            The share that is booked; 0 when there is no room. Then it may `wait`.
        """
        share = self._share.get(session)
        if share is None:
            share = self.room(rates, session)
        elif share < FULL and not self._waiting and self._fits(FULL, session):
            share = FULL
        if share:
            self._put(session, None, share)
        return share

    def wait(self, session: SessionId, refuse_at: float) -> None:
        """Lets a request wait. One that waits already keeps its turn."""
        self._waiting.setdefault(session, refuse_at)

    def release(self, session: SessionId) -> bool:
        """Gives back what a session booked or asked for; tells whether there was anything."""
        waited = self._waiting.pop(session, None) is not None
        return self._drop(session) or waited

    def end_lent(self, now: float) -> list[SessionId]:
        """Ends the lent bookings that are over, and returns whose they were."""
        over = [session for session, until in self._until.items() if _is_over(until, now)]
        for session in over:
            self._drop(session)
        return over

    def refuse(self, now: float) -> list[SessionId]:
        """Ends the requests that have waited long enough, and returns whose they were."""
        refused = [session for session, at in self._waiting.items() if at <= now]
        for session in refused:
            del self._waiting[session]
        return refused

    def grant(self, rates: Sequence[float] = ()) -> list[SessionId]:
        """Books for those who wait, in order, as far as there is room.

        Args:
            rates: Lower shares that will do, highest first.

        Returns:
            The sessions that are booked now.
        """
        granted = []
        while self._waiting:
            session = next(iter(self._waiting))
            share = self.fitting(rates, session)
            if not share:
                break
            del self._waiting[session]
            self._put(session, None, share)
            granted.append(session)
        return granted

    def put_off(self, session: SessionId, refuse_at: float) -> None:
        """Lets a request that waits be refused later."""
        if session in self._waiting:
            self._waiting[session] = refuse_at

    def lent_until(self) -> float | None:
        """Returns when the next lent booking ends, if one is lent."""
        return min((until for until in self._until.values() if until is not None), default=None)

    def next_expiry(self) -> float | None:
        """Returns when `end_lent` or `refuse` has something to do."""
        return min(
            (
                *(until for until in self._until.values() if until is not None),
                *self._waiting.values(),
            ),
            default=None,
        )

    def _fits(self, share: float, session: SessionId | None) -> bool:
        more = share if session is None else share - self.share(session)
        ceiling = max(self.ceiling, WHOLE) if self._is_alone(session) else self.ceiling
        if self.cost * (self._shares + more) > ceiling + ROUNDING:
            return False
        return self._encodes(share, session)

    def _is_alone(self, session: SessionId | None) -> bool:
        """Tells whether nobody else has anything booked."""
        own = session in self._until
        return len(self._until) == int(own)

    def _encodes(self, share: float, session: SessionId | None) -> bool:
        return self.encode is None or self.encode.fits(self.encode_ms * share, session)

    def _put(self, session: SessionId, until: float | None, share: float) -> None:
        self._drop(session)
        self._until[session] = until
        self._share[session] = share
        self._shares += share
        self._computing += until is None
        self._tell_host(session)

    def _drop(self, session: SessionId) -> bool:
        if session not in self._until:
            return False
        self._computing -= self._until.pop(session) is None
        self._shares -= self._share.pop(session)
        if not self._until:
            self._shares = 0.0
        self._tell_host(session)
        return True

    def _tell_host(self, session: SessionId) -> None:
        if self.encode is not None and self.encode_ms > 0:
            self.encode.book(self._actor, session, self.encode_ms * self.share(session))


def _is_over(until: float | None, now: float) -> bool:
    return until is not None and until <= now
