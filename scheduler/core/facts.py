"""What the pool knows, and the steps that all of its parts share.

The parts (`admission`, `bookings`, `moves`, `parking`, `drains`, `scaling`) change these
facts and tell nobody: each looks at what was `noted` or touched when `Pool.decide` gives it
its turn.
"""

from __future__ import annotations

import enum
import itertools
from typing import TYPE_CHECKING

from scheduler.core import pool_events as ev
from scheduler.core.deadlines import Deadlines
from scheduler.core.errors import SessionClosedError, UnknownSessionError
from scheduler.core.fleet import Fleet
from scheduler.core.happenings import Happenings, Kind
from scheduler.core.ids import ActorId, Epoch, SessionId
from scheduler.core.lease import UNPLACED, Lease, LeaseState, Step
from scheduler.core.presence import Presence
from scheduler.core.quality import Quality
from scheduler.core.queue import PlaceQueue, Ticket
from scheduler.core.rations import ENDING_S, Rations
from scheduler.core.roster import ActorRecord, Endings
from scheduler.core.tenants import Holdings, TenantUsage

if TYPE_CHECKING:
    from scheduler.core.placement import PlacementPolicy

NO_CLIENT = "no client for {:g} s"
NOT_ADMITTED = "not admitted in time"
GIVEN_UP = "given up while waiting"
SUPERSEDED = "the session is held elsewhere"
MOVE_UNDONE = "the move was undone"
MOVED = "the session goes on elsewhere"
UNREACHABLE = "the session could not be reached"

_LIFE_SMOOTHING = 0.2
"""Weight of a session's length in the moving average that estimates rest on."""


class Due(enum.IntEnum):
    """What a deadline is for. Its subject is an actor, a session or a model."""

    SILENT = 1
    """Actor: not heard of for too long."""
    LEDGER = 2
    """Actor: a lent booking ends, or a request for compute is refused."""
    ADMIT = 3
    """Session: the actor's answer is overdue."""
    LEFT = 4
    """Session: nobody came back for its ticket."""
    AVOID = 5
    """Session: an actor that refused it may be asked again."""
    MOVE = 6
    """Session: its move takes too long."""
    MOVE_AGAIN = 7
    """Session: it may be moved again, after a move that was undone."""
    DEPART = 8
    """Session: its old actor takes too long to be rid of it."""
    PARK = 9
    """Session: it is to be parked, or that takes too long."""
    DRAIN = 10
    """Actor: the grace of its drain is nearly over."""
    SCALING = 11
    """Look at the balance and at the use of the actors."""
    POSITIONS = 12
    """A long queue is told of its positions."""
    KEPT = 13
    """Session: it is still parked, and what is kept of it is still needed."""
    SPENT = 14
    """Subject of quotas: its streamed time may be used up."""
    OVERTIME = 15
    """Session: it has lasted as long as it may, and no gateway has ended it."""


DueKey = tuple[Due, str]


class Facts:
    """The state of a pool.

    Args:
        rules: Limits and deadlines.
        policy: Chooses among the actors with room.
        first_epoch: Epochs begin above it, so above those of any scheduler before this one.
        wall_offset: What to add to the pool's clock for seconds since 1970.
    """

    def __init__(
        self,
        rules: ev.PoolRules,
        policy: PlacementPolicy,
        first_epoch: int = 0,
        wall_offset: float = 0.0,
    ) -> None:
        self.rules = rules
        self.now = 0.0
        """When what is under way happens, on the pool's clock."""
        self.fleet = Fleet(rules, policy)
        self.leases: dict[SessionId, Lease] = {}
        self.tickets: dict[SessionId, Ticket] = {}
        """Tickets of sessions that wait for a place or for an actor's answer."""
        self.queue = PlaceQueue(rules)
        self.queue_changed = False
        """Whether the queue is to be looked at although no actor has got room."""
        self.positions_changed = False
        self.presence = Presence(rules.reconnect_window)
        self.usage = TenantUsage(rules.tenant)
        self.holdings = Holdings()
        self.ended = Endings(rules.ended_kept)
        self.deadlines = Deadlines[DueKey]()
        self.rations = Rations(
            rules.tenant,
            lambda subject, at: self.deadlines.bring_forward((Due.SPENT, subject), at),
            wall_offset,
        )
        self.effects: list[ev.Effect] = []
        self.told = Happenings()
        """Tells who follows the pool."""
        self.noted: dict[SessionId, None] = {}
        """Sessions whose place, compute or connections changed."""
        self.moving: dict[SessionId, None] = {}
        self.tails: dict[SessionId, ActorId] = {}
        """Actors that still show what they made of a session that went on elsewhere."""
        self.starved: dict[ActorId, None] = {}
        """Actors with sessions that wait for compute."""
        self.arrivals = itertools.count()
        self.mean_life = 0.0
        """How long sessions hold their place, in seconds; 0 while unknown."""
        self._highest_epoch = first_epoch

    @property
    def has_news(self) -> bool:
        """Whether something changed that has not been looked at."""
        return bool(
            self.noted or self.queue_changed or self.fleet.improved or self.fleet.is_touched
        )

    def emit(self, effect: ev.Effect) -> None:
        """Adds something to be done."""
        self.effects.append(effect)

    def note(self, lease: Lease) -> None:
        """Has the parts look at a session."""
        self.noted[lease.session] = None

    def next_epoch(self) -> Epoch:
        """Returns an epoch above all that were heard of."""
        self._highest_epoch += 1
        return Epoch(self._highest_epoch)

    def hear_epoch(self, epoch: Epoch) -> None:
        """Takes in an epoch that an actor names."""
        self._highest_epoch = max(self._highest_epoch, epoch)

    # Places and bookings

    def actor_of(self, lease: Lease) -> ActorRecord:
        """Returns the actor of a session that has one."""
        assert lease.actor is not None  # noqa: S101 - asked only of sessions on an actor
        return self.fleet.actors[lease.actor]

    def occupy(self, lease: Lease, actor: ActorRecord, epoch: Epoch) -> None:
        """Gives a session a place."""
        if self.tails.get(lease.session) == actor.actor:
            self.end_tail(lease.session, MOVED)
        lease.actor, lease.epoch = actor.actor, epoch
        self.take_place(lease)
        self.fill(lease.session, actor)
        self.note(lease)

    def take_place(self, lease: Lease) -> None:
        """Counts a place for whom its session is counted for."""
        self.usage.take(lease.principal.tenant)
        self.rations.begin(lease.session, lease.principal, self.now)

    def vacate(self, lease: Lease) -> None:
        """Takes back the place of a session and what it booked, if it has one."""
        if lease.target is not None:
            self.drop_target(lease)
        if lease.actor is None:
            return
        actor = self.fleet.actors[lease.actor]
        self.stop_computing(actor, lease.session, lease.epoch)
        self.clear(lease.session, actor)
        self.usage.give_back(lease.principal.tenant)
        self.rations.end(lease.session, self.now)
        lease.actor = lease.idle_since = None
        lease.parking = lease.pressed = lease.awaits_room = lease.unsure = False
        lease.park_pause = lease.park_not_before = 0.0
        for due in (Due.ADMIT, Due.PARK, Due.MOVE_AGAIN):
            self.deadlines.clear((due, lease.session))

    def drop_target(self, lease: Lease) -> None:
        """Takes back what a session that moves holds at its target."""
        assert lease.target is not None  # noqa: S101 - asked only of sessions that move
        target = self.fleet.actors[lease.target]
        self.stop_computing(target, lease.session, lease.target_epoch)
        self.clear(lease.session, target)
        self.forget_target(lease)

    def forget_target(self, lease: Lease) -> None:
        """Ends a move, whatever came of it."""
        lease.target, lease.target_epoch, lease.target_admitted = None, UNPLACED, False
        self.moving.pop(lease.session, None)
        self.deadlines.clear((Due.MOVE, lease.session))

    def fill(self, session: SessionId, actor: ActorRecord) -> None:
        """Takes a slot of an actor."""
        actor.resident.sessions[session] = None
        actor.idle_since = None
        self.fleet.touch(actor)

    def clear(self, session: SessionId, actor: ActorRecord) -> None:
        """Frees a slot of an actor."""
        actor.resident.sessions.pop(session, None)
        self.fleet.touch(actor)

    def stop_computing(self, actor: ActorRecord, session: SessionId, epoch: Epoch) -> None:
        """Takes back what a session booked or asked for at an actor."""
        if actor.compute.waits(session):
            self.emit(ev.BookAnswered(session, epoch, booked=False))
        if actor.compute.release(session):
            self.compute_changed(actor)

    def book_ahead(
        self, actor: ActorRecord, session: SessionId, quality: Quality, until: float | None
    ) -> None:
        """Books compute for a session that is about to come to an actor.

        Args:
            actor: Where it comes to.
            session: Which.
            quality: In which; `NO_COMPUTE`: it comes without compute.
            until: Until when it is lent; None: it computes.
        """
        if until is None:
            actor.compute.restore(session, quality)
        elif quality:
            actor.compute.lend(session, until, quality)
        self.compute_changed(actor, until if quality else None)

    def compute_changed(self, actor: ActorRecord, until: float | None = None) -> None:
        """Has the ledger of an actor looked at, now and when something in it ends.

        Args:
            actor: Whose ledger.
            until: End of a booking or a request that was added; None when none was.
        """
        self.fleet.touch(actor)
        if until is not None:
            self.deadlines.bring_forward((Due.LEDGER, actor.actor), until)
        if actor.compute.anybody_waits():
            self.starved[actor.actor] = None
        else:
            self.starved.pop(actor.actor, None)

    def wants_compute(self, lease: Lease) -> bool:
        """Tells whether a session computes or waits to."""
        if lease.actor is None:
            return lease.wants_compute
        compute = self.fleet.actors[lease.actor].compute
        return compute.is_computing(lease.session) or compute.waits(lease.session)

    def evict(self, lease: Lease, reason: str, *, goes_on: bool = True) -> None:
        """Tells the actors of a session that it is no longer theirs."""
        if lease.actor is not None:
            self.emit(ev.Evict(lease.actor, lease.session, lease.epoch, reason, goes_on))
        if lease.target is not None:
            epoch = lease.target_epoch
            self.emit(ev.Evict(lease.target, lease.session, epoch, reason, goes_on))

    def end_tail(self, session: SessionId, reason: str = "", *, goes_on: bool = True) -> None:
        """Frees the slot of a session that left; with a reason its old actor is told."""
        old = self.tails.pop(session, None)
        self.deadlines.clear((Due.DEPART, session))
        actor = self.fleet.actors.get(old) if old is not None else None
        epoch = actor.resident.leaving.pop(session, None) if actor is not None else None
        if actor is not None and epoch is not None:
            if reason:
                self.emit(ev.Evict(actor.actor, session, epoch, reason, goes_on))
            self.fleet.touch(actor)

    # What is kept

    def keeper(self, host: str) -> ActorRecord | None:
        """Returns an actor that sees to the states in a host's memory, and in the storage.

        Args:
            host: Which host; empty: any, for the storage alone.
        """
        actors = self.fleet.on_host(host) if host else self.fleet.actors.values()
        return next((each for each in actors if each.linked), None)

    def is_leaving(self, actor: ActorRecord) -> bool:
        """Tells whether an actor's host is being emptied: all of its actors are."""
        return all(each.draining for each in self.fleet.on_host(actor.host) or (actor,))

    def discard_kept(self, lease: Lease, reason: str) -> None:
        """Has removed what is kept of a session that ends, where no actor of its own does it."""
        ticket = self.tickets.get(lease.session)
        host = lease.kept_on or (ticket.near_host if ticket is not None else "")
        own = {self.fleet.actors[actor].host for actor in (lease.actor, lease.target) if actor}
        is_new = lease.state is LeaseState.QUEUED and not (ticket is not None and ticket.fork)
        if host in own or (own and not host) or is_new:
            return
        keeper = self.keeper(host) or (None if own else self.keeper(""))
        if keeper is not None:
            self.emit(ev.Evict(keeper.actor, lease.session, self.next_epoch(), reason))

    def discard_unknown(self, session: SessionId, reason: str) -> None:
        """Has removed on every host what is kept of a session of which no more is known."""
        keepers: dict[str, ActorId] = {}
        for actor in self.fleet.actors.values():
            if actor.linked:
                keepers.setdefault(actor.host, actor.actor)
        for keeper in keepers.values():
            self.emit(ev.Evict(keeper, session, self.next_epoch(), reason))

    # The queue

    def enqueue(self, ticket: Ticket) -> None:
        """Lets a session wait for a place."""
        self.tickets[ticket.lease.session] = ticket
        self.queue.add(ticket)
        self.queue_changed = self.positions_changed = True

    def dequeue(self, session: SessionId) -> Ticket | None:
        """Ends a session's wait; returns its ticket, if it had one."""
        ticket = self.tickets.pop(session, None)
        if session in self.queue:
            self.queue.remove(session)
            self.positions_changed = True
        if ticket is not None:
            for due in (Due.LEFT, Due.AVOID, Due.ADMIT):
                self.deadlines.clear((due, session))
        return ticket

    def restore_ticket(self, lease: Lease, near_host: str = "") -> Ticket:
        """Lets a session that existed before wait, ahead of all new ones."""
        ticket = Ticket(lease, next(self.arrivals), restore=True, origin=lease.state)
        ticket.near_host = near_host or lease.kept_on
        self.enqueue(ticket)
        return ticket

    # Ends

    def finish(self, lease: Lease, reason: str, now: float) -> None:
        """Ends a session, wherever it is."""
        self.learn_life(lease, now)
        self.evict(lease, reason, goes_on=False)
        self.discard_kept(lease, reason)
        self.end_tail(lease.session, reason, goes_on=False)
        left = lease.actor
        lease.step(Step.RELEASE)
        self.forget(lease)
        self.told.session(Kind.SESSION_RELEASED, lease, reason, left=left)
        self.end(lease.session, reason, lease.principal.tenant)

    def add(self, lease: Lease) -> None:
        """Takes in a lease, in the place of an older one of its session."""
        before = self.leases.get(lease.session)
        if before is not None:
            self.holdings.give_back(before.principal)
        self.holdings.take(lease.principal)
        self.leases[lease.session] = lease
        if lease.principal.ends_at is not None:
            at = lease.principal.ends_at + ENDING_S
            self.deadlines.set((Due.OVERTIME, lease.session), at)

    def forget(self, lease: Lease) -> None:
        """Drops a lease. Who is connected stays known: the session may be asked for again."""
        self.vacate(lease)
        self.dequeue(lease.session)
        for due in (Due.KEPT, Due.OVERTIME):
            self.deadlines.clear((due, lease.session))
        self.noted.pop(lease.session, None)
        self.rations.usage.forget(lease.session)
        self.holdings.give_back(lease.principal)
        del self.leases[lease.session]

    def end(self, session: SessionId, reason: str, tenant: str | None = None) -> None:
        """Remembers and tells that a session is over; None: whose it was is not known."""
        self.presence.forget(session)
        self.ended.add(session, reason, tenant)
        self.emit(ev.Ended(session, reason))

    def expect_owner(self, session: SessionId, tenant: str) -> None:
        """Checks that a session, if it is known, is a tenant's.

        Raises:
            UnknownSessionError: It is another's.
        """
        lease = self.leases.get(session)
        owner = self.ended.tenant(session) if lease is None else lease.principal.tenant
        if owner not in (None, tenant):
            raise UnknownSessionError("there is no such session")

    def absent(self, session: SessionId) -> SessionClosedError | UnknownSessionError:
        """Returns why a session has no lease."""
        reason = self.ended.reason(session)
        if reason is not None:
            return SessionClosedError(f"the session has ended: {reason}")
        return UnknownSessionError("there is no such session")

    def learn_life(self, lease: Lease, now: float) -> None:
        """Takes a session that leaves its place into the mean of how long they stay."""
        if lease.placed_at is None or lease.actor is None:
            return
        life = now - lease.placed_at
        weight = _LIFE_SMOOTHING if self.mean_life else 1.0
        self.mean_life += weight * (life - self.mean_life)

    def is_reserved(self, lease: Lease) -> bool:
        """Tells whether an actor was asked to admit a session and has not answered."""
        return lease.state is LeaseState.ASSIGNED
