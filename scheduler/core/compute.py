"""The compute ledger of one actor: who has it booked, and who waits for it.

A booking costs `chunk_ms` of compute for every `period_ms` of play-out, and the time to
encode what is made, which the actors of a host share. A session that runs at a share of its
frame rate costs that share of both; one that runs with fewer steps costs the compute of
these. The sum over all bookings stays under a ceiling, except that a lone session may take all
there is: it runs at the highest permitted quality that keeps up. What was declared decides
whether there is one. A measurement alone locks nobody out, as it is only corrected by
computing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from scheduler.core.chunks import WORTHWHILE
from scheduler.core.ids import ActorId, SessionId
from scheduler.core.ledgers import ROUNDING, EncodeLedger
from scheduler.core.quality import FULL, NO_COMPUTE, Quality

NOBODY = ActorId("")
WHOLE = 1000.0
"""Chunk-milliseconds per second that there are: a session that needs more falls behind."""
SHORT = 0.3
"""Batches count up to this share of a period (docs/simulator.md)."""
_NOTHING: Mapping[int, float] = MappingProxyType({})


class ComputeLedger:
    """Bookings of one actor. Times are seconds on the scheduler's clock.

    Args:
        chunk_ms: Declared compute of one steady chunk.
        period_ms: Play-out time of one steady chunk.
        ceiling: Chunk-milliseconds per second that may be booked where windows run one by one.
        smoothing: Weight of a new measurement in the moving averages, 0 to 1.
        actor: Whose it is.
        encode_ms: Declared encode-milliseconds of one second of one session.
        encode: Ledger of its host; without one encoding is not counted.
        steps_ms: Declared compute of a steady chunk with fewer steps, by their number.
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
        steps_ms: Mapping[int, float] = _NOTHING,
    ) -> None:
        self.chunk_ms = chunk_ms
        self.period_ms = period_ms
        self.ceiling = ceiling
        """Chunk-milliseconds per second that may be booked, with what batches gain."""
        self._ceiling = ceiling
        self.encode_ms = encode_ms
        self.encode = encode
        self._steps_ms = dict(steps_ms)
        self._declared = {0: chunk_ms, **steps_ms}
        self._smoothing = smoothing
        self._actor = actor
        self._until: dict[SessionId, float | None] = {}
        """Until when a booking lasts; None when until it is given back."""
        self._quality: dict[SessionId, Quality] = {}
        self._rates = 0.0
        """Sum of the booked shares of the frame rate."""
        self._fewer = Counter[int]()
        """Of these, how many run with fewer steps, by their number."""
        self._fewer_rates: dict[int, float] = {}
        """The sums of their shares."""
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
        return self.cost * self.sessions

    @property
    def booked_encode(self) -> float:
        """Encode-milliseconds per second that its sessions need."""
        return self.encode_ms * self._rates

    @property
    def sessions(self) -> float:
        """What is booked, as sessions of full quality."""
        if not self._fewer:
            return self._rates
        saved = sum(
            rate * (1.0 - self.worth(Quality(1.0, steps)))
            for steps, rate in self._fewer_rates.items()
        )
        return self._rates - saved

    def worth(self, quality: Quality) -> float:
        """Returns the compute of a session, as a share of that of one of full quality."""
        if not (quality.steps and self.chunk_ms):
            return quality.rate
        steps_ms = self._steps_ms.get(quality.steps, self.chunk_ms)
        return quality.rate * steps_ms / self.chunk_ms

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

    def quality(self, session: SessionId) -> Quality:
        """Returns the quality that a session has booked; `NO_COMPUTE` if it has not."""
        return self._quality.get(session, NO_COMPUTE)

    def room(self, lower: Sequence[Quality] = (), session: SessionId | None = None) -> Quality:
        """Returns the best quality that a new booking may have: the full one or one of
        `lower`, best first; `NO_COMPUTE` when none fits or somebody waits already.

        Args:
            lower: Lower qualities that will do.
            session: Whose booking. One that comes from another actor of the host has its
                encoding booked there. None: a session of which nothing is booked.
        """
        if self._waiting:
            return NO_COMPUTE
        return self.fitting(lower, session)

    def fitting(self, lower: Sequence[Quality] = (), session: SessionId | None = None) -> Quality:
        """Returns the best quality that fits, whoever waits; `NO_COMPUTE` when none does."""
        if self._fits(FULL, session):
            return FULL
        quality = next((each for each in lower if self._fits(each, session)), NO_COMPUTE)
        if quality or not self._is_alone(session) or not self.keeps_up(lower):
            return quality
        lowest = lower[-1] if lower else FULL
        return lowest if self._encodes(lowest.rate, session) else NO_COMPUTE

    def keeps_up(self, lower: Sequence[Quality] = ()) -> bool:
        """Tells whether a lone session keeps up in full quality or in one of `lower`, by what
        was declared.
        """
        return any(
            each.rate * self._declared.get(each.steps, self._declared[0]) <= self.period_ms
            for each in (FULL, *lower)
        )

    def measure(
        self,
        chunk_ms: float,
        encode_ms: float = 0.0,
        steps_ms: Mapping[int, float] | None = None,
        gains: Mapping[int, float] | None = None,
    ) -> None:
        """Refines the costs by measurements in milliseconds; 0 means unknown.

        Args:
            chunk_ms: Of a steady chunk with all steps.
            encode_ms: Encode-milliseconds of one second of one session.
            steps_ms: Of a steady chunk with fewer steps, by their number.
            gains: What windows gain by running together, by their number; all that is known.
        """
        if chunk_ms > 0:
            self.chunk_ms += self._smoothing * (chunk_ms - self.chunk_ms)
        for steps, measured_ms in (steps_ms or _NOTHING).items():
            known_ms = self._steps_ms.get(steps)
            if known_ms is not None and measured_ms > 0:
                self._steps_ms[steps] = known_ms + self._smoothing * (measured_ms - known_ms)
        self.ceiling = self._with_batches(gains) if gains else self._ceiling
        if encode_ms > 0:
            self.encode_ms += self._smoothing * (encode_ms - self.encode_ms)
            for session in self._quality:
                self._tell_host(session)

    @property
    def costs(self) -> tuple[float, ...]:
        """All that `measure` refines, in milliseconds."""
        return (self.chunk_ms, self.encode_ms, self.ceiling, *self._steps_ms.values())

    @property
    def degraded(self) -> list[SessionId]:
        """Sessions that are booked below the full quality."""
        return [session for session, quality in self._quality.items() if quality != FULL]

    def hasten(self, session: SessionId) -> None:
        """Books what a session has booked in full quality from now on."""
        self._put(session, self._until[session], FULL)

    def lend(self, session: SessionId, until: float, quality: Quality = FULL) -> None:
        """Books for a session until a deadline, or until it books for itself."""
        self._put(session, until, quality)

    def extend(self, session: SessionId, until: float) -> bool:
        """Lends what is lent to a session until another time; tells whether anything is."""
        if self._until.get(session) is None:
            return False
        self._until[session] = until
        return True

    def restore(self, session: SessionId, quality: Quality = FULL) -> None:
        """Records that a session computes, whatever the ceiling says."""
        self._waiting.pop(session, None)
        self._put(session, None, quality)

    def book(self, session: SessionId, lower: Sequence[Quality] = ()) -> Quality:
        """Books for a session without an end, in full quality where that fits.

        Args:
            session: Who asks. What it has booked already it keeps, and in full quality from
                now on where there is room.
            lower: Lower qualities that will do, best first.

        Returns:
            The quality that is booked; `NO_COMPUTE` when there is no room. Then it may `wait`.
        """
        quality = self._quality.get(session)
        if quality is None:
            quality = self.room(lower, session)
        elif quality != FULL and not self._waiting and self._fits(FULL, session):
            quality = FULL
        if quality:
            self._put(session, None, quality)
        return quality

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

    def grant(self, lower: Sequence[Quality] = ()) -> list[SessionId]:
        """Books for those who wait, in order, as far as there is room.

        Args:
            lower: Lower qualities that will do, best first.

        Returns:
            The sessions that are booked now.
        """
        granted = []
        while self._waiting:
            session = next(iter(self._waiting))
            quality = self.fitting(lower, session)
            if not quality:
                break
            del self._waiting[session]
            self._put(session, None, quality)
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

    def _with_batches(self, gains: Mapping[int, float]) -> float:
        """Returns what may be booked as windows run together.

        Never more than could be computed one by one: then nobody depends on finding company,
        and what batches gain is the reserve. Only such count that are short, as whoever comes
        while one is under way waits for its end.
        """
        counted = (
            gain
            for size, gain in gains.items()
            if gain >= WORTHWHILE and size * self.chunk_ms / gain <= SHORT * self.period_ms
        )
        return max(self._ceiling, min(WHOLE, self._ceiling * max(counted, default=1.0)))

    def _fits(self, quality: Quality, session: SessionId | None) -> bool:
        sessions = self.sessions if self._fewer else self._rates
        sessions += 1.0 if quality is FULL else self.worth(quality)
        if session is not None and session in self._quality:
            sessions -= self.worth(self._quality[session])
        wanted = self.chunk_ms * 1000.0 / self.period_ms * sessions
        if wanted > self.ceiling + ROUNDING and not (
            wanted <= WHOLE + ROUNDING and self._is_alone(session)
        ):
            return False
        return self._encodes(quality.rate, session)

    def _is_alone(self, session: SessionId | None) -> bool:
        """Tells whether nobody else has anything booked."""
        own = session in self._until
        return len(self._until) == int(own)

    def _encodes(self, rate: float, session: SessionId | None) -> bool:
        return self.encode is None or self.encode.fits(self.encode_ms * rate, session)

    def _put(self, session: SessionId, until: float | None, quality: Quality) -> None:
        self._drop(session)
        self._until[session] = until
        self._quality[session] = quality
        self._rates += quality.rate
        if quality.steps:
            self._count_fewer(quality, 1)
        self._computing += until is None
        self._tell_host(session)

    def _drop(self, session: SessionId) -> bool:
        if session not in self._until:
            return False
        self._computing -= self._until.pop(session) is None
        quality = self._quality.pop(session)
        self._rates = self._rates - quality.rate if self._until else 0.0
        if quality.steps:
            self._count_fewer(quality, -1)
        self._tell_host(session)
        return True

    def _count_fewer(self, quality: Quality, sign: int) -> None:
        steps = quality.steps
        self._fewer[steps] += sign
        self._fewer_rates[steps] = self._fewer_rates.get(steps, 0.0) + sign * quality.rate
        if not self._fewer[steps]:
            # Nothing is left: nor are rounding errors.
            del self._fewer[steps], self._fewer_rates[steps]

    def _tell_host(self, session: SessionId) -> None:
        if self.encode is not None and self.encode_ms > 0:
            rate = self.quality(session).rate
            self.encode.book(self._actor, session, self.encode_ms * rate)


def _is_over(until: float | None, now: float) -> bool:
    return until is not None and until <= now
