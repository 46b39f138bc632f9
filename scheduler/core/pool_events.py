"""What the pool is told, what it wants done, and the rules it goes by. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from scheduler.core.ids import ActorId, Epoch, GatewayId, Principal, SessionId
from scheduler.core.lease import LeaseState


@dataclass(frozen=True, slots=True)
class PoolRules:
    """Limits and deadlines of the pool. Times in seconds."""

    queue_limit: int = 64
    """Sessions that may wait for a place."""
    resume_reserve: float = 0.1
    """Share of the slots that new sessions leave free; rounded down to whole slots."""
    compute_ceiling: float = 850.0
    """Chunk-milliseconds per second that may be booked on one actor."""
    cost_smoothing: float = 0.2
    """Weight of a new measurement in the moving average of a chunk's cost."""
    reconnect_window: float = 30.0
    """How long a session is kept without a connection."""
    start_grace: float = 30.0
    """How long a newly placed session holds compute without having asked for it."""
    start_wait: float = 30.0
    """How long a request for compute waits before it is refused."""
    actor_timeout: float = 3.0
    """Silence after which an actor counts as lost."""
    admit_timeout: float = 5.0
    """How long an actor may take to admit a session before the next one is asked."""
    avoid_time: float = 5.0
    """How long an actor that refused a session is not asked again for it."""
    ticket_grace: float = 5.0
    """How long the turn of a session that nobody waits for any more is kept: a gateway whose
    connection broke submits its tickets again. Nor is it over then, only out of the queue."""
    retry_after: float = 5.0
    """Told to those who are refused, when nothing better is known."""
    ended_kept: int = 4096
    """Ended sessions that are remembered, so that a late word of them is answered."""


@dataclass(frozen=True, slots=True)
class Held:
    """A session that an actor holds already."""

    session: SessionId
    epoch: Epoch
    computing: bool
    principal: Principal
    model: str


@dataclass(frozen=True, slots=True)
class ActorRegistered:
    """An actor presents itself, for the first time or again."""

    actor: ActorId
    models: tuple[str, ...]
    """Names it answers to, its own first."""
    address: str
    """Address of its data plane."""
    resident_slots: int
    chunk_ms: float
    period_ms: float
    held: tuple[Held, ...] = ()


@dataclass(frozen=True, slots=True)
class ActorBeat:
    """An actor is alive."""

    actor: ActorId
    chunk_ms: float = 0.0
    """Measured compute of one steady chunk; 0 while unknown."""


@dataclass(frozen=True, slots=True)
class ActorUnlinked:
    """The stream to an actor broke; it may come back."""

    actor: ActorId


@dataclass(frozen=True, slots=True)
class ActorDied:
    """The process of an actor is known to be gone."""

    actor: ActorId


@dataclass(frozen=True, slots=True)
class AdmitAnswered:
    """An actor admitted or refused a session."""

    actor: ActorId
    session: SessionId
    epoch: Epoch
    refusal: str = ""
    """Why it refused; empty when it did not."""


@dataclass(frozen=True, slots=True)
class PlaceAsked:
    """A session wants a place. Asking again for the same session is harmless."""

    session: SessionId
    model: str
    principal: Principal
    gateway: GatewayId
    waited: float = 0.0
    """Seconds it has waited already, with a scheduler before this one."""


@dataclass(frozen=True, slots=True)
class PlaceLeft:
    """Whoever waited for a session's place is gone without a word; it may ask again."""

    session: SessionId


@dataclass(frozen=True, slots=True)
class ReleaseAsked:
    """A session is over."""

    session: SessionId
    reason: str


@dataclass(frozen=True, slots=True)
class BookAsked:
    """A session wants compute."""

    session: SessionId
    epoch: Epoch


@dataclass(frozen=True, slots=True)
class BookWithdrawn:
    """A session no longer waits for compute; what is booked stays."""

    session: SessionId
    epoch: Epoch


@dataclass(frozen=True, slots=True)
class Unbooked:
    """A session gives its compute back."""

    session: SessionId
    epoch: Epoch


@dataclass(frozen=True, slots=True)
class ConnectionsReported:
    """A gateway tells how many connections it has to sessions."""

    gateway: GatewayId
    counts: Mapping[SessionId, int]
    complete: bool
    """True when sessions that are not named have none; else they are unchanged."""


@dataclass(frozen=True, slots=True)
class GatewayLost:
    """A gateway's report ended: its connections count as lost."""

    gateway: GatewayId


Event = (
    ActorRegistered
    | ActorBeat
    | ActorUnlinked
    | ActorDied
    | AdmitAnswered
    | PlaceAsked
    | PlaceLeft
    | ReleaseAsked
    | BookAsked
    | BookWithdrawn
    | Unbooked
    | ConnectionsReported
    | GatewayLost
)


@dataclass(frozen=True, slots=True)
class Admit:
    """Tell an actor that a session was placed on it."""

    actor: ActorId
    session: SessionId
    epoch: Epoch
    principal: Principal
    model: str


@dataclass(frozen=True, slots=True)
class Evict:
    """Tell an actor that a session is no longer its own."""

    actor: ActorId
    session: SessionId
    epoch: Epoch
    reason: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """Tell whoever asked for a place where it stands in the queue."""

    session: SessionId
    position: int
    """From 1."""
    estimate: float
    """Rough wait in seconds; 0 when there is no estimate."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Tell whoever asked for a place that the session has it."""

    session: SessionId


@dataclass(frozen=True, slots=True)
class Ended:
    """Tell the gateways that a session is over."""

    session: SessionId
    reason: str
    gateway: GatewayId | None = None
    """The only one to tell; None for all."""


@dataclass(frozen=True, slots=True)
class BookAnswered:
    """Answer a request for compute."""

    session: SessionId
    epoch: Epoch
    booked: bool
    retry_after: float = 0.0
    """When not booked: seconds after which to try again."""


@dataclass(frozen=True, slots=True)
class Replace:
    """End an actor's process, whatever it does, and launch another."""

    actor: ActorId


Effect = Admit | Evict | Waiting | Placed | Ended | BookAnswered | Replace


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


@dataclass(frozen=True, slots=True)
class PoolView:
    """The pool at one moment."""

    actors: tuple[ActorView, ...] = ()
    sessions: tuple[SessionView, ...] = field(default=())
    """Queued ones first, in their order."""
