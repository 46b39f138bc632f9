"""What the pool remembers of each actor, and of the sessions that are over."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from scheduler.core.compute import ComputeLedger
from scheduler.core.ids import ActorId, SessionId
from scheduler.core.ledgers import EncodeLedger, ResidentLedger
from scheduler.core.placement import ActorLoad
from scheduler.core.pool_events import ActorBeat, ActorRegistered, PoolRules
from scheduler.core.pool_view import ActorView
from scheduler.core.quality import Quality, degraded

_NOTABLE = 0.001
"""Share by which a cost must have changed for it to matter at once."""


@dataclass(slots=True, eq=False)
class ActorRecord:
    """One actor: what it declared, and its ledgers."""

    actor: ActorId
    models: tuple[str, ...]
    address: str
    host: str
    resident: ResidentLedger
    compute: ComputeLedger
    qualities: tuple[Quality, ...] = ()
    """In which it may run sessions rather than have them wait, best first; empty when the
    rules forbid that."""
    linked: bool = True
    """Whether its stream stands."""
    doubted: bool = False
    """Whether it has been silent for so long that it may be gone."""
    draining: bool = False
    """Whether it takes no more sessions."""
    idle_since: float | None = None
    """Since when it has no session."""

    @classmethod
    def of(cls, event: ActorRegistered, rules: PoolRules, encode: EncodeLedger) -> ActorRecord:
        """Makes the record of an actor that was not known."""
        resident = ResidentLedger(event.resident_slots, event.resident_bytes, event.session_bytes)
        compute = ComputeLedger(
            event.chunk_ms,
            event.period_ms,
            ceiling=rules.compute_ceiling,
            smoothing=rules.cost_smoothing,
            actor=event.actor,
            encode_ms=event.encode_ms,
            encode=encode,
            steps_ms=event.degraded_steps,
        )
        qualities: tuple[Quality, ...] = ()
        if rules.degrade:
            qualities = degraded(event.degraded_rates, event.degraded_steps, event.chunk_ms)
        return cls(
            event.actor, event.models, event.address, event.host, resident, compute, qualities
        )

    def renew(self, event: ActorRegistered) -> None:
        """Takes in what it declares now; measured costs stay."""
        self.models, self.address, self.linked = event.models, event.address, True
        self.resident.slots = event.resident_slots
        self.resident.limit_bytes = event.resident_bytes

    def measure(self, beat: ActorBeat) -> bool:
        """Takes in what it measured; tells whether that changes what it can take."""
        compute, resident = self.compute, self.resident
        before = (*compute.costs, float(resident.session_bytes))
        compute.measure(beat.chunk_ms, beat.encode_ms, beat.steps_ms, beat.gains)
        if beat.session_bytes > 0:
            resident.session_bytes = beat.session_bytes
        after = (*compute.costs, float(resident.session_bytes))
        return after != before and any(
            abs(new - old) > _NOTABLE * old for old, new in zip(before, after, strict=True)
        )

    @property
    def own_model(self) -> str:
        """Name of the model it has loaded."""
        return self.models[0]

    @property
    def takes(self) -> bool:
        """Whether it may get sessions at all."""
        return self.linked and not (self.draining or self.doubted)

    @property
    def booked_share(self) -> float:
        """Share of its compute that is booked."""
        return self.compute.booked / self.compute.ceiling

    def load(self) -> ActorLoad:
        """Returns it as placement policies see it."""
        return ActorLoad(
            self.actor,
            self.resident.taken,
            self.resident.capacity,
            self.compute.booked,
            self.compute.ceiling,
        )

    def view(self) -> ActorView:
        """Returns it as operators see it."""
        encode = self.compute.encode
        return ActorView(
            actor=self.actor,
            models=self.models,
            address=self.address,
            healthy=self.linked,
            sessions=self.resident.taken,
            resident_slots=self.resident.slots,
            computing=self.compute.computing,
            booked_ms_per_s=self.compute.booked,
            ceiling_ms_per_s=self.compute.ceiling,
            host=self.host,
            resident_bytes=self.resident.limit_bytes,
            booked_bytes=self.resident.booked_bytes,
            booked_encode_ms_per_s=self.compute.booked_encode,
            encode_ceiling_ms_per_s=encode.ceiling if encode else 0.0,
            draining=self.draining,
            real_time_factor=self.compute.cost / 1000.0,
        )


class Endings:
    """Sessions that are over, and why; of too many the oldest are forgotten.

    Args:
        limit: How many are remembered.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._reasons: OrderedDict[SessionId, tuple[str, str | None]] = OrderedDict()

    def add(self, session: SessionId, reason: str, tenant: str | None = None) -> None:
        """Remembers why a session is over, and whose it was, where that is known."""
        self._reasons[session] = (reason, tenant)
        while len(self._reasons) > self._limit:
            self._reasons.popitem(last=False)

    def reason(self, session: SessionId) -> str | None:
        """Returns why a session is over; None if that is not known of it."""
        return self._reasons.get(session, (None, None))[0]

    def tenant(self, session: SessionId) -> str | None:
        """Returns whose a session was that is over; None if that is not known of it."""
        return self._reasons.get(session, (None, None))[1]
