"""The pool: which session is on which actor, which computes, and which waits.

`apply(event, now)` changes the facts; `decide(now)` draws the conclusions: it meets the
deadlines, grants compute, places and moves sessions, and returns what is to be done. Nothing
here is asynchronous and nothing is sampled: a place and a booking are taken in the same step
in which they are found free, and a live session is never put out to make room for another.

Three ledgers are kept: *places* in an actor's memory, *compute* of an actor, and a host's
time to *encode* (`ledgers`, `compute`). The parts of the pool share its `facts`:
`admission` and `recovery` bring sessions to their places, `bookings` to their compute,
`moves` from one actor to another; `parking` keeps those that need no actor, `drains` empties
actors, `scaling` fits them to the demand, `enrolment` keeps the roster.

The facts are rebuilt from the actors: one that registers tells which sessions it holds.
Epochs go on above the highest one heard of.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from typing import Any

from scheduler.core import pool_events as ev
from scheduler.core.admission import Admission
from scheduler.core.bookings import Bookings
from scheduler.core.drains import Drains
from scheduler.core.enrolment import Enrolment
from scheduler.core.errors import InvariantError, NotReadyError
from scheduler.core.facts import (
    GIVEN_UP,
    NO_CLIENT,
    NOT_ADMITTED,
    SUPERSEDED,
    Due,
    Facts,
)
from scheduler.core.happenings import Listener
from scheduler.core.ids import ActorId, SessionId
from scheduler.core.lease import Lease, LeaseState
from scheduler.core.moves import Moves
from scheduler.core.parking import Parking
from scheduler.core.placement import PlacementPolicy
from scheduler.core.pool_view import PoolView, SessionView, Signals, Told
from scheduler.core.queue import Ticket
from scheduler.core.rations import OVERTIME, Rations
from scheduler.core.recovery import Recovery
from scheduler.core.scaling import Scaling

__all__ = ["GIVEN_UP", "NOT_ADMITTED", "NO_CLIENT", "SUPERSEDED", "Pool"]

_ROUNDS = 32
"""Rounds of conclusions from conclusions, after which the rest waits for the next event."""

_WAITING = frozenset({LeaseState.QUEUED, LeaseState.ASSIGNED})


class Pool:
    """The scheduler's core.

    Args:
        rules: Limits and deadlines.
        policy: Chooses among the actors with room.
        first_epoch: Epochs begin above it, so above those of any scheduler before this one.
        wall_offset: What to add to the pool's clock for seconds since 1970: quotas are of days
            and months.
    """

    def __init__(
        self,
        rules: ev.PoolRules,
        policy: PlacementPolicy,
        *,
        first_epoch: int = 0,
        wall_offset: float = 0.0,
    ) -> None:
        self.rules = rules
        self._facts = facts = Facts(rules, policy, first_epoch, wall_offset)
        self._recovery = Recovery(facts)
        self._admission = Admission(facts, self._recovery)
        self._moves = Moves(facts, self._recovery)
        self._bookings = Bookings(facts, self._moves)
        self._parking = Parking(facts)
        self._drains = Drains(facts, self._moves, self._parking)
        self._enrolment = Enrolment(
            facts, self._admission, self._recovery, self._moves, self._parking, self._drains
        )
        self._scaling = Scaling(facts, self._moves)
        self._handlers: dict[type[ev.Event], Callable[[Any, float], None]] = {
            ev.ActorRegistered: self._enrolment.register,
            ev.ActorBeat: self._beat,
            ev.ActorUnlinked: self._enrolment.unlink,
            ev.Overslept: self._enrolment.excuse_silence,
            ev.ActorDied: self._enrolment.died,
            ev.AdmitAnswered: self._answered,
            ev.PlaceAsked: self._admission.ask,
            ev.PlaceLeft: self._admission.leave,
            ev.ReleaseAsked: self._release,
            ev.BookAsked: self._bookings.ask,
            ev.BookWithdrawn: self._bookings.withdraw,
            ev.Unbooked: self._bookings.give_back,
            ev.ConnectionsReported: self._connections,
            ev.GatewayLost: self._gateway_lost,
            ev.ParkAnswered: self._parking.answered,
            ev.SessionRestored: self._moves.restored,
            ev.SessionDeparted: self._moves.departed,
            ev.DrainAsked: self._drains.ask,
            ev.DrainCancelled: self._drains.cancel,
            ev.UploadAsked: self._upload,
        }
        self._dues: dict[Due, Callable[[Any, float], None]] = {
            Due.SILENT: self._enrolment.silent,
            Due.LEDGER: self._bookings.expire,
            Due.ADMIT: self._admission.overdue,
            Due.LEFT: self._admission.drop_left,
            Due.AVOID: self._look_at_queue,
            Due.MOVE: self._moves.overdue,
            Due.MOVE_AGAIN: self._look_at,
            Due.DEPART: lambda session, _: self._moves.tail_overdue(session),
            Due.PARK: self._parking.due,
            Due.KEPT: self._parking.keep_on,
            Due.DRAIN: self._drains.last_call,
            Due.SCALING: self._scale,
            Due.POSITIONS: lambda _, __: self._admission.tell_all_positions(),
            Due.SPENT: self._overspent,
            Due.OVERTIME: lambda session, now: self._finish(session, OVERTIME, now),
        }

    # What happens

    def apply(self, event: ev.Event, now: float) -> None:
        """Takes in what happened. `decide` must follow, also after an error.

        Raises:
            UnknownModelError: `PlaceAsked` for a model that nobody answers to.
            NoCapacityError: `PlaceAsked` while the queue is full.
            LimitError: `PlaceAsked` while as many sessions of the tenant wait as may; that or
                `UploadAsked` when a quota is used up.
            SessionClosedError: `PlaceAsked` or `BookAsked` for a session that has ended, or
                with an epoch that is void.
            UnknownSessionError: `BookAsked` for a session that is nowhere, `PlaceAsked` for one
                of another tenant.
            BadArgumentError: `DrainAsked` for an actor that is not there.
        """
        self._facts.now = now
        self._handlers[type(event)](event, now)

    def decide(self, now: float) -> list[ev.Effect]:
        """Draws the conclusions of all that was applied and of the time.

        Returns:
            What is to be done, in order.
        """
        facts = self._facts
        facts.now = now
        if facts.presence.is_due(now):
            for session in facts.presence.deserted(now):
                self._deserted(session, now)
        for _ in range(_ROUNDS):
            if facts.deadlines.is_due(now):
                for due, subject in facts.deadlines.due(now):
                    self._dues[due](subject, now)
            if not facts.has_news:
                break
            self._conclude(now)
        if facts.positions_changed:
            self._admission.tell_positions(now)
        effects, facts.effects = facts.effects, []
        return effects

    def next_deadline(self) -> float | None:
        """Returns when `decide` has something to do although nothing happens."""
        deadline = self._facts.deadlines.next()
        deserted = self._facts.presence.next_deadline()
        if deadline is None or deserted is None:
            return deserted if deadline is None else deadline
        return min(deadline, deserted)

    def listen(self, listener: Listener) -> None:
        """Names the one who hears what happens, as it happens; it must not call back."""
        self._facts.told.listener = listener

    # What is known

    @property
    def served_models(self) -> tuple[str, ...]:
        """Names that a session may ask for."""
        return tuple(self._facts.fleet.names)

    def expect_owner(self, session: SessionId, tenant: str) -> None:
        """Checks that a session, if there is or was one, is a tenant's.

        Raises:
            UnknownSessionError: It is another's, who alone is told that it exists.
        """
        self._facts.expect_owner(session, tenant)

    def lease(self, session: SessionId) -> Lease:
        """Returns the lease of a session that is on an actor; while it moves, on its first.

        Raises:
            NotReadyError: It waits for its place, or is parked.
            SessionClosedError: It has ended.
            UnknownSessionError: Never heard of.
        """
        lease = self._facts.leases.get(session)
        if lease is None:
            raise self._facts.absent(session)
        if lease.state is LeaseState.PARKED and session not in self._facts.tickets:
            raise NotReadyError("the session is parked: ask for a place")
        if not lease.on_actor:
            raise NotReadyError("the session still waits for its place")
        return lease

    def target(self, session: SessionId) -> Lease:
        """Returns the lease of a session that moves as it will be at its target.

        Raises:
            NotReadyError: It does not move, or its target has not answered.
            SessionClosedError: It has ended.
            UnknownSessionError: Never heard of.
        """
        lease = self._facts.leases.get(session)
        if lease is None:
            raise self._facts.absent(session)
        if lease.target is None or not lease.target_admitted:
            raise NotReadyError("the session does not move")
        return dataclasses.replace(lease, actor=lease.target, epoch=lease.target_epoch)

    def address(self, actor: ActorId) -> str:
        """Returns the data-plane address of an actor that holds sessions.

        Raises:
            InvariantError: No such actor.
        """
        known = self._facts.fleet.actors.get(actor)
        if known is None:
            raise InvariantError(f"there is no actor {actor}")
        return known.address

    @property
    def rations(self) -> Rations:
        """What everybody has used."""
        return self._facts.rations

    def describe(self, now: float, sessions: Told = "all") -> PoolView:
        """Returns the pool as operators see it, with as many sessions as are needed."""
        facts = self._facts
        deserted_since = facts.presence.deserted_since
        told: list[SessionView] = []
        if sessions != "none":
            told += [self._in_line(ticket, k, now) for k, ticket in enumerate(facts.queue, 1)]
        if sessions == "all":
            told += [
                self._view(lease, now)
                for lease in facts.leases.values()
                if lease.session not in facts.queue
            ]
        return PoolView(
            actors=tuple(actor.view() for _, actor in sorted(facts.fleet.actors.items())),
            sessions=tuple(told),
            counts=Counter(
                (lease.state, deserted_since(lease.session) is not None)
                for lease in facts.leases.values()
            ),
            signals=self.signals(now),
            on_demand=self.rules.models if self.rules.on_demand else (),
        )

    def use(self) -> dict[ActorId, tuple[int, int]]:
        """Returns of each actor how many sessions compute on it, and how many it has."""
        actors = self._facts.fleet.actors
        return {key: (each.compute.computing, each.resident.taken) for key, each in actors.items()}

    def signals(self, now: float) -> Signals:
        """Returns what an autoscaler goes by; cheaper than `describe`."""
        return self._scaling.signals(now)

    # Inside

    def _conclude(self, now: float) -> None:
        """Gives each part its turn to look at what has changed."""
        facts = self._facts
        facts.fleet.mend()
        room = facts.fleet.improved or facts.queue_changed
        facts.fleet.improved = facts.queue_changed = False
        noted, facts.noted = facts.noted, {}
        for session in noted:
            lease = facts.leases.get(session)
            if lease is not None:
                self._review(lease, now)
        touched = facts.fleet.take_touched()
        if not (room or touched):
            return
        for actor in touched:
            if actor.idle_since is None and not actor.resident.taken:
                actor.idle_since = now
        if room and len(facts.queue):
            self._admission.place_restores(now)
        self._bookings.serve(touched)
        if room and facts.starved:
            self._bookings.move_starved(now)
        self._drains.review(touched, now, room=room)
        if room and len(facts.queue):
            self._admission.place_new(now)
        self._scaling.wake(now)

    def _review(self, lease: Lease, now: float) -> None:
        self._parking.review(lease, now)
        if lease.actor is not None:
            actor = self._facts.fleet.actors[lease.actor]
            if actor.draining:
                self._facts.fleet.touch(actor)

    def _beat(self, event: ev.ActorBeat, now: float) -> None:
        self._enrolment.beat(event, now)
        self._scaling.beat(event, now)

    def _answered(self, event: ev.AdmitAnswered, now: float) -> None:
        self._admission.answered(event, now)
        self._moves.answered(event, now)

    def _release(self, event: ev.ReleaseAsked, now: float) -> None:
        lease = self._facts.leases.get(event.session)
        if lease is not None:
            self._facts.finish(lease, event.reason, now)
        elif self._facts.ended.reason(event.session) is None:
            # An actor that registers later may hold it.
            self._facts.discard_unknown(event.session, event.reason)
            self._facts.end(event.session, event.reason)

    def _connections(self, event: ev.ConnectionsReported, now: float) -> None:
        facts = self._facts
        for session, count in event.counts.items():
            reason = facts.ended.reason(session)
            if count > 0 and reason is not None:
                facts.emit(ev.Ended(session, reason, event.gateway))
        alive = {s: n for s, n in event.counts.items() if facts.ended.reason(s) is None}
        changed = facts.presence.report(event.gateway, alive, now, complete=event.complete)
        self._note_all(changed)

    def _gateway_lost(self, event: ev.GatewayLost, now: float) -> None:
        self._note_all(self._facts.presence.lose(event.gateway, now))

    def _note_all(self, sessions: list[SessionId]) -> None:
        for session in sessions:
            lease = self._facts.leases.get(session)
            if lease is not None:
                self._facts.note(lease)

    def _deserted(self, session: SessionId, now: float) -> None:
        """A session was without a connection for a whole window."""
        facts = self._facts
        lease = facts.leases.get(session)
        reason = NO_CLIENT.format(self.rules.reconnect_window)
        if lease is None:
            # Only gateways knew of it.
            facts.discard_unknown(session, reason)
            facts.end(session, reason)
        elif lease.placed_at is not None:
            facts.finish(lease, reason, now)
        elif lease.state not in _WAITING:
            # It existed before, and whoever asked for its place is gone too.
            ticket = facts.tickets.get(session)
            if ticket is None or ticket.left_until is not None:
                facts.finish(lease, reason, now)

    def _upload(self, event: ev.UploadAsked, now: float) -> None:
        lease = self._facts.leases.get(event.session)
        if lease is None:
            raise self._facts.absent(event.session)
        rations = self._facts.rations
        rations.reserve(event.session, event.upload, event.size, lease.principal, now)

    def _overspent(self, subject: str, now: float) -> None:
        reason, sessions = self._facts.rations.overspent(subject, now)
        for session in sessions:
            self._finish(session, reason, now)

    def _finish(self, session: str, reason: str, now: float) -> None:
        lease = self._facts.leases.get(SessionId(session))
        if lease is not None:
            self._facts.finish(lease, reason, now)

    def _look_at_queue(self, _: SessionId, __: float) -> None:
        self._facts.queue_changed = True

    def _look_at(self, session: SessionId, _: float) -> None:
        lease = self._facts.leases.get(session)
        if lease is not None:
            self._facts.note(lease)
            if self._facts.starved:
                self._facts.queue_changed = True

    def _scale(self, _: str, now: float) -> None:
        for actor in self._scaling.look(now):
            self._enrolment.forget(actor)

    def _in_line(self, ticket: Ticket, position: int, now: float) -> SessionView:
        """Returns a session that waits for a place."""
        return dataclasses.replace(
            self._view(ticket.lease, now),
            queue_position=position,
            estimated_wait=self._admission.estimate(position),
            priority=self.rules.tenant(ticket.tenant).priority,
        )

    def _view(self, lease: Lease, now: float) -> SessionView:
        actor = self._facts.fleet.actors.get(lease.actor) if lease.actor is not None else None
        return SessionView(
            session=lease.session,
            tenant=lease.principal.tenant,
            state=lease.state,
            detached=self._facts.presence.deserted_since(lease.session) is not None,
            actor=lease.actor,
            computing=actor is not None and actor.compute.is_computing(lease.session),
            age=now - lease.submitted_at,
            model=lease.model,
            quality=lease.quality,
        )
