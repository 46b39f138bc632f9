"""What the pool remembers of each actor, and of the sessions that are over."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from scheduler.core.compute import ComputeLedger
from scheduler.core.ids import ActorId, SessionId
from scheduler.core.placement import ActorLoad
from scheduler.core.pool_events import ActorRegistered, ActorView, PoolRules


@dataclass(slots=True)
class ActorRecord:
    """One actor: what it declared, and both of its ledgers."""

    actor: ActorId
    models: tuple[str, ...]
    address: str
    resident_slots: int
    compute: ComputeLedger
    seen_at: float
    """When it was last heard of."""
    linked: bool = True
    """Whether its stream stands."""
    sessions: set[SessionId] = field(default_factory=set)
    """Sessions that hold one of its slots."""

    @classmethod
    def of(cls, event: ActorRegistered, rules: PoolRules, now: float) -> ActorRecord:
        """Makes the record of an actor that was not known."""
        ledger = ComputeLedger(
            event.chunk_ms,
            event.period_ms,
            ceiling=rules.compute_ceiling,
            smoothing=rules.cost_smoothing,
        )
        return cls(
            event.actor, event.models, event.address, event.resident_slots, ledger, seen_at=now
        )

    @property
    def free_slots(self) -> int:
        """Slots that no session holds."""
        return max(0, self.resident_slots - len(self.sessions))

    def renew(self, event: ActorRegistered, now: float) -> None:
        """Takes in what it declares now; measured costs stay."""
        self.models, self.address = event.models, event.address
        self.resident_slots, self.seen_at, self.linked = event.resident_slots, now, True

    def beat(self, chunk_ms: float, now: float) -> None:
        """Takes in a sign of life, with a measurement unless it is 0."""
        self.seen_at = now
        if chunk_ms > 0:
            self.compute.measure(chunk_ms)

    def is_open(self) -> bool:
        """Tells whether it can take a new session now."""
        return self.linked and self.free_slots > 0 and self.compute.has_room()

    def load(self) -> ActorLoad:
        """Returns it as placement policies see it."""
        return ActorLoad(
            actor_id=self.actor,
            sessions=len(self.sessions),
            resident_slots=self.resident_slots,
            booked_ms_per_s=self.compute.booked,
            ceiling_ms_per_s=self.compute.ceiling,
        )

    def view(self) -> ActorView:
        """Returns it as operators see it."""
        return ActorView(
            actor=self.actor,
            models=self.models,
            address=self.address,
            healthy=self.linked,
            sessions=len(self.sessions),
            resident_slots=self.resident_slots,
            computing=self.compute.computing,
            booked_ms_per_s=self.compute.booked,
            ceiling_ms_per_s=self.compute.ceiling,
        )


class Endings:
    """Sessions that are over, and why; of too many the oldest are forgotten.

    Args:
        limit: How many are remembered.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._reasons: OrderedDict[SessionId, str] = OrderedDict()

    def add(self, session: SessionId, reason: str) -> None:
        """Remembers why a session is over."""
        self._reasons[session] = reason
        while len(self._reasons) > self._limit:
            self._reasons.popitem(last=False)

    def reason(self, session: SessionId) -> str | None:
        """Returns why a session is over; None if that is not known of it."""
        return self._reasons.get(session)
