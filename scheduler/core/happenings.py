"""What happens in the pool, for those who follow it: operators, and owners of sessions.

Nothing is decided by it. Where nobody listens nothing is kept.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from scheduler.core.ids import ActorId, GatewayId, Principal, SessionId
from scheduler.core.lease import Lease
from scheduler.core.quality import FULL, Quality


class Kind(enum.Enum):
    """What happened; see `sana_gateway.v1.EventKind`, whose names these are."""

    SCHEDULER_STARTED = "scheduler_started"
    ACTOR_ENROLLED = "actor_enrolled"
    ACTOR_LOST = "actor_lost"
    ACTOR_DRAINING = "actor_draining"
    ACTOR_KEPT = "actor_kept"
    ACTOR_RETIRED = "actor_retired"
    ACTOR_REPURPOSED = "actor_repurposed"
    GATEWAY_LINKED = "gateway_linked"
    GATEWAY_LOST = "gateway_lost"
    SESSION_QUEUED = "session_queued"
    SESSION_ASSIGNED = "session_assigned"
    SESSION_PLACED = "session_placed"
    SESSION_RESTORED = "session_restored"
    SESSION_MOVING = "session_moving"
    SESSION_MOVED = "session_moved"
    SESSION_STAYED = "session_stayed"
    SESSION_AWAITS_ROOM = "session_awaits_room"
    SESSION_PARKED = "session_parked"
    SESSION_LOST = "session_lost"
    SESSION_RELEASED = "session_released"
    SESSION_COMPUTING = "session_computing"
    SESSION_IDLE = "session_idle"
    SESSION_DEGRADED = "session_degraded"
    SESSION_FULL_QUALITY = "session_full_quality"
    ADMISSION_REJECTED = "admission_rejected"
    COMPUTE_REFUSED = "compute_refused"


@dataclass(frozen=True, slots=True)
class Happened:
    """Something that happened."""

    kind: Kind
    session: SessionId | None = None
    owner: Principal | None = None
    """Whose session that is."""
    model: str = ""
    """The session's as it was asked for, or the actor's own."""
    actor: ActorId | None = None
    """The actor; of a session, where it is or goes."""
    left: ActorId | None = None
    """Of a session that leaves an actor: which."""
    gateway: GatewayId | None = None
    reason: str = ""
    """Why, for people: words of ours, or of an operator."""
    quality: Quality | None = None
    """How a session runs from now on, where that changes."""


Listener = Callable[[Happened], object]
"""Hears what happens, as it happens; must not call back."""


class Happenings:
    """Tells the one who listens."""

    def __init__(self) -> None:
        self.listener: Listener | None = None

    def actor(self, kind: Kind, actor: ActorId, model: str = "") -> None:
        """Something happened to an actor."""
        if self.listener is not None:
            self.listener(Happened(kind, actor=actor, model=model))

    def session(
        self,
        kind: Kind,
        lease: Lease,
        reason: str = "",
        *,
        actor: ActorId | None = None,
        left: ActorId | None = None,
        quality: Quality | None = None,
    ) -> None:
        """Something happened to a session.

        Args:
            kind: What.
            lease: Its lease.
            reason: Why.
            actor: Where it is or goes, where the lease does not say that.
            left: Where it was, where it leaves.
            quality: How it runs from now on.
        """
        if self.listener is None:
            return
        self.listener(
            Happened(
                kind,
                session=lease.session,
                owner=lease.principal,
                model=lease.model,
                actor=actor if actor is not None else lease.actor,
                left=left,
                reason=reason,
                quality=quality,
            )
        )

    def booked(self, lease: Lease, quality: Quality, before: Quality) -> None:
        """A session holds compute, perhaps in another quality than before."""
        self.session(Kind.SESSION_COMPUTING, lease, quality=quality)
        self.paced(lease, quality, before)

    def paced(self, lease: Lease, quality: Quality, before: Quality) -> None:
        """A session runs in a quality from now on."""
        if quality == before:
            return
        kind = Kind.SESSION_FULL_QUALITY if quality == FULL else Kind.SESSION_DEGRADED
        self.session(kind, lease, quality=quality)
