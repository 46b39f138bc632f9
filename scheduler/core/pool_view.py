"""The pool at one moment, as operators and autoscalers see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from scheduler.core.ids import ActorId, SessionId
from scheduler.core.lease import LeaseState
from scheduler.core.quality import FULL, Quality

Told = Literal["all", "waiting", "none"]
"""Which sessions are told of with the pool: all, those that wait for a place, or none."""


@dataclass(frozen=True, slots=True)
class ActorView:
    """An actor as operators see it."""

    actor: ActorId
    models: tuple[str, ...]
    address: str
    healthy: bool
    sessions: int
    resident_slots: int
    computing: int
    booked_ms_per_s: float
    ceiling_ms_per_s: float
    host: str = ""
    resident_bytes: int = 0
    booked_bytes: int = 0
    booked_encode_ms_per_s: float = 0.0
    encode_ceiling_ms_per_s: float = 0.0
    draining: bool = False
    real_time_factor: float = 0.0
    """Compute of a steady chunk over its play-out time."""


@dataclass(frozen=True, slots=True)
class SessionView:
    """A session as operators see it."""

    session: SessionId
    tenant: str
    state: LeaseState
    detached: bool
    """Whether it is without a connection and will be released for it."""
    actor: ActorId | None
    computing: bool
    age: float
    """Seconds since it first asked for a place."""
    model: str = ""
    """As it was asked for."""
    quality: Quality = FULL
    """How it runs."""
    queue_position: int = 0
    """Place in the queue, from 1; 0: it waits for none."""
    estimated_wait: float = 0.0
    """Seconds that it will wait for about; 0: not known."""
    priority: int = 0
    """Of its tenant, while it waits."""


@dataclass(frozen=True, slots=True)
class Signals:
    """What an autoscaler goes by."""

    queue_age: float = 0.0
    """Seconds that the first in the queue has waited."""
    queued: int = 0
    predicted_utilisation: float = 0.0
    """Booked share of all compute that may be booked, with those who wait."""
    miss_rate: float = 0.0
    """Share of chunks that came after their deadline, over the last minute."""
    actors_wanted: int = 0
    """Actors that the present demand needs."""
    batch_fill: float = 0.0
    """Windows in one call of a model, on average over the last minute; 0: none ran."""
    wanted_by_model: Mapping[str, int] = field(default_factory=dict)
    """The same, by the actors' own models."""


@dataclass(frozen=True, slots=True)
class PoolView:
    """The pool at one moment."""

    actors: tuple[ActorView, ...] = ()
    sessions: tuple[SessionView, ...] = field(default=())
    """Queued ones first, in their order; as many as were asked for."""
    counts: Mapping[tuple[LeaseState, bool], int] = field(default_factory=dict)
    """How many sessions have a state and are, or are not, detached."""
    signals: Signals = Signals()
    on_demand: tuple[str, ...] = ()
    """Models that may be asked for although no actor has them."""
