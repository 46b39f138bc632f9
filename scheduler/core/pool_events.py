"""What the pool is told, what it wants done, and the rules it goes by. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from scheduler.core.ids import ActorId, Epoch, GatewayId, Principal, SessionId
from scheduler.core.quality import FULL, Quality
from scheduler.core.tenants import ANYBODY, TenantRules


@dataclass(frozen=True, slots=True)
class PoolRules:
    """Limits and deadlines of the pool. Times in seconds."""

    queue_limit: int = 64
    """New sessions that may wait for a place; those that existed before are never refused."""
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
    resume_grace: float = 5.0
    """The same for one that was parked: what it came back for follows at once."""
    start_wait: float = 30.0
    """How long a request for compute waits before it is refused."""
    actor_timeout: float = 2.0
    """Silence after which an actor counts as lost."""
    doubt_share: float = 0.6
    """Share of that silence after which an actor gets no more sessions, and a gateway is believed
    that cannot reach it: two beats are missing."""
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
    encode_ceiling: float = 0.85
    """Share of a host's encode-milliseconds that may be booked."""
    park_after: float | None = 60.0
    """How long a session may be without compute before it is parked; None: for ever."""
    park_detached_after: float = 5.0
    """The same for a session that nobody is connected to."""
    park_timeout: float = 30.0
    """How long an actor may take to park a session."""
    keep_again: float = 6 * 3600.0
    """Pause after which what is kept of a parked session is said to be needed still: it lives
    for a day without."""
    park_retry: float = 5.0
    """Pause before a session that could not be parked is parked again; doubles each time."""
    move_timeout: float = 15.0
    """How long a session may take to go on at the actor that it moves to."""
    depart_timeout: float = 10.0
    """How long an actor may go on to show what it made of a session that has left."""
    reopen_grace: float = 10.0
    """A gateway that asks for the place of a live session twice in this time cannot reach it."""
    drain_concurrency: int = 4
    """Sessions that leave an actor that is being emptied at the same time."""
    drain_last_call: float = 20.0
    """So long before the end of a drain's grace its last sessions are parked."""
    tenants: Mapping[str, TenantRules] = field(default_factory=dict)
    """What tenants are entitled to."""
    default_tenant: TenantRules = ANYBODY
    """What those are entitled to that are not named."""
    ageing: float = 30.0
    """Waiting time that outweighs one step of priority."""
    degrade: bool = False
    """Whether sessions may run at a lower rate or with fewer steps, where the model allows it,
    rather than wait."""
    full_quality_after: float = 5.0
    """How long there must have been room for the full quality before such a session gets it."""
    models: tuple[str, ...] = ()
    """Names that may be asked for although no actor answers to them yet."""
    on_demand: bool = False
    """Whether there may be no actor at all until somebody asks."""
    warm_spares: Mapping[str, int] = field(default_factory=dict)
    """Idle actors of a model that are not given to another one; 1 where not named."""
    repurpose_after: float | None = 60.0
    """How long a model must lack an actor, and an actor be idle, before it is given to that
    model; None: never."""
    repurpose_timeout: float = 300.0
    """How long a repurposed actor may take to come back, before another one is taken."""
    rebalance: bool = True
    """Whether sessions are moved away from loaded actors without need."""
    rebalance_gap: float = 0.3
    """Difference of booked shares from which on a session is moved."""
    rebalance_after: float = 10.0
    """How long the difference must have lasted."""

    def tenant(self, name: str) -> TenantRules:
        """Returns what a tenant is entitled to."""
        return self.tenants.get(name, self.default_tenant)


@dataclass(frozen=True, slots=True)
class Held:
    """A session that an actor holds already."""

    session: SessionId
    epoch: Epoch
    computing: bool
    principal: Principal
    model: str
    quality: Quality = FULL
    """How it runs."""
    awaits_room: bool = False
    """It was told that it is to leave and that there is no room elsewhere."""


@dataclass(frozen=True, slots=True)
class ToldToDrain:
    """What an actor was told of its drain, by this scheduler or one before it."""

    ends_in: float | None = None
    """Seconds until its process ends come what may; None: it waits for room for ever."""


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
    host: str = ""
    """Host whose memory keeps its snapshots; actors of one host share them."""
    resident_bytes: int = 0
    """Memory for sessions; 0: only the slots count."""
    session_bytes: int = 0
    """Declared memory of one session."""
    encode_capacity_ms: float = 0.0
    """Encode-milliseconds per second that its host has; 0: not counted."""
    encode_ms: float = 0.0
    """Declared encode-milliseconds of one second of one session."""
    degraded_rates: tuple[float, ...] = ()
    """Shares of its own frame rate at which it may run sessions, highest first; below 1."""
    degraded_steps: Mapping[int, float] = field(default_factory=dict)
    """Declared compute of one steady chunk with fewer steps, by their number."""
    draining: bool = False
    """Its process was told to end."""
    told_to_drain: ToldToDrain | None = None
    """The drain that it was told of; None: none stands."""


@dataclass(frozen=True, slots=True)
class ActorBeat:
    """An actor is alive."""

    actor: ActorId
    chunk_ms: float = 0.0
    """Measured compute of one steady chunk; 0 while unknown."""
    encode_ms: float = 0.0
    """Measured encode-milliseconds of one second of one session; 0 while unknown."""
    session_bytes: int = 0
    """Measured memory of one session; 0 while unknown."""
    chunks: int = 0
    """Chunks finished since the last beat."""
    late_chunks: int = 0
    """Of these, those that came after their deadline."""
    ends_in: float | None = None
    """Its process was told to end and will be in so many seconds; None: it was not."""
    windows: int = 0
    """Windows computed since the last beat."""
    batches: int = 0
    """Calls of the model that they took."""
    steps_ms: Mapping[int, float] | None = None
    """Measured compute of one steady chunk with fewer steps, by their number."""
    gains: Mapping[int, float] | None = None
    """What windows gain by running together, by their number: times the throughput one by one."""


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
    restore: bool = False
    """It existed before (lost with its actor, parked, or a fork): it is restored where it is
    placed, and goes ahead of new ones, but for a fork."""
    near_host: str = ""
    """Host that keeps its snapshot; preferred, not demanded."""
    fork: bool = False
    """It is a copy that was at no actor yet: it waits, and is refused, as a new one."""


@dataclass(frozen=True, slots=True)
class UploadAsked:
    """Somebody announces an upload. Asking again for the same upload is harmless."""

    session: SessionId
    upload: str
    """Id of the upload."""
    size: int
    """Announced bytes."""


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
class ParkAnswered:
    """An actor has parked a session, or could not."""

    actor: ActorId
    session: SessionId
    epoch: Epoch
    host: str = ""
    """Host that keeps it in memory; empty: it lies in the storage."""
    failure: str = ""
    """Why it could not be parked; then it stays where it is."""


@dataclass(frozen=True, slots=True)
class SessionRestored:
    """A session that came from elsewhere goes on at its new actor."""

    actor: ActorId
    session: SessionId
    epoch: Epoch


@dataclass(frozen=True, slots=True)
class SessionDeparted:
    """A session was handed over and all of it shown: its old actor is rid of it."""

    actor: ActorId
    session: SessionId
    epoch: Epoch
    """Its epoch at that actor."""


@dataclass(frozen=True, slots=True)
class DrainAsked:
    """An actor is to be emptied."""

    actor: ActorId
    grace: float | None = None
    """Seconds until its process ends come what may; None: it waits for room for ever."""


@dataclass(frozen=True, slots=True)
class DrainCancelled:
    """An actor is to take sessions again."""

    actor: ActorId


@dataclass(frozen=True, slots=True)
class Overslept:
    """The scheduler itself did not run for a while: nobody is to blame for having been silent."""


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
    | ParkAnswered
    | SessionRestored
    | SessionDeparted
    | DrainAsked
    | DrainCancelled
    | Overslept
    | UploadAsked
)


@dataclass(frozen=True, slots=True)
class Admit:
    """Tell an actor that a session was placed on it."""

    actor: ActorId
    session: SessionId
    epoch: Epoch
    principal: Principal
    model: str
    restore: bool = False
    """It existed before: it waits there for a snapshot."""
    computing: bool = False
    """Compute is booked for it already."""
    quality: Quality = FULL
    """How it is to run."""


@dataclass(frozen=True, slots=True)
class Park:
    """Tell an actor to keep a session's state and give the session up; answered by
    `ParkAnswered`. To one that does not have the session: to look after what is kept of it.
    """

    actor: ActorId
    session: SessionId
    epoch: Epoch
    store: bool
    """Into the storage; else into the memory of the host."""


@dataclass(frozen=True, slots=True)
class Moves:
    """Tell the gateways that a session is to move: see `Pool.target`."""

    session: SessionId


@dataclass(frozen=True, slots=True)
class ParkedTold:
    """Tell the gateways that a session is on no actor any more; whoever needs it places it."""

    session: SessionId
    epoch: Epoch
    """Of the lease that ended."""
    host: str
    """Host whose memory keeps its state; empty: it lies in the storage, if anywhere."""
    restoring: bool = False
    """It already waits for another place, as it was lost or must go on: who is connected
    leaves the old place and asks for the new one at once."""


@dataclass(frozen=True, slots=True)
class AwaitsRoom:
    """Tell the actor of a session that is to be drained whether there is no room elsewhere."""

    actor: ActorId
    session: SessionId
    epoch: Epoch
    awaits: bool


@dataclass(frozen=True, slots=True)
class TellDrain:
    """Tell an actor that it is being emptied, or no longer is: it repeats that to a scheduler
    that comes after this one.
    """

    actor: ActorId
    told: ToldToDrain | None
    """None: no longer."""


@dataclass(frozen=True, slots=True)
class DrainProgress:
    """Tell whoever drains an actor how far it has come."""

    actor: ActorId
    remaining: int
    without_room: int
    cancelled: bool = False
    lost: bool = False
    """The actor is gone: what was still on it goes on elsewhere, with a gap."""


@dataclass(frozen=True, slots=True)
class Retire:
    """An actor is drained: it ends, and another takes its place if one is wanted."""

    actor: ActorId


@dataclass(frozen=True, slots=True)
class Repurpose:
    """End an idle actor and launch one of another model in its place."""

    actor: ActorId
    model: str


@dataclass(frozen=True, slots=True)
class Evict:
    """Tell an actor that a session is no longer its own."""

    actor: ActorId
    session: SessionId
    epoch: Epoch
    reason: str
    goes_on: bool = False
    """The session goes on elsewhere, or is to: what is kept of it stays."""


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
    quality: Quality = FULL
    """When booked: how it is to run from now on."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Tell an actor how a session runs from now on."""

    actor: ActorId
    session: SessionId
    epoch: Epoch
    quality: Quality


@dataclass(frozen=True, slots=True)
class Replace:
    """End an actor's process, whatever it does, and launch another."""

    actor: ActorId


Effect = (
    Admit
    | Evict
    | Waiting
    | Placed
    | Ended
    | BookAnswered
    | Replace
    | Park
    | Moves
    | ParkedTold
    | AwaitsRoom
    | Pace
    | TellDrain
    | DrainProgress
    | Retire
    | Repurpose
)
