"""The pool: which session is on which actor, which computes, and which waits.

`apply(event, now)` changes the facts; `decide(now)` draws the conclusions: it meets the
deadlines, grants compute, places sessions, and returns what is to be done. Nothing here
is asynchronous and nothing is sampled: a place and a booking are taken in the same step
in which they are found free.

Two ledgers are kept for every actor. *Resident slots* bound how many sessions it holds;
*compute* bounds how many of them run at once (see `scheduler.core.compute`). A live
session is never put out to make room for another.

The facts are rebuilt from the actors: one that registers tells which sessions it holds.
Epochs go on above the highest one heard of.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from scheduler.core import pool_events as ev
from scheduler.core.errors import (
    InvariantError,
    NoCapacityError,
    NotReadyError,
    SessionClosedError,
    UnknownModelError,
    UnknownSessionError,
)
from scheduler.core.ids import ActorId, Epoch, SessionId
from scheduler.core.lease import Lease, LeaseState, Step
from scheduler.core.placement import PlacementPolicy
from scheduler.core.presence import Presence
from scheduler.core.queue import PlaceQueue, Ticket
from scheduler.core.roster import ActorRecord, Endings

WORKER_DIED = "its worker died"
NO_CLIENT = "no client for {:g} s"
NOT_ADMITTED = "not admitted in time"
GIVEN_UP = "given up while waiting"
SUPERSEDED = "the session is held elsewhere"

_LIFE_SMOOTHING = 0.2
"""Weight of a session's length in the moving average that estimates rest on."""


class Pool:
    """The scheduler's core.

    Args:
        rules: Limits and deadlines.
        policy: Chooses among the actors with room.
    """

    def __init__(self, rules: ev.PoolRules, policy: PlacementPolicy) -> None:
        self.rules = rules
        self._policy = policy
        self._actors: dict[ActorId, ActorRecord] = {}
        self._names: dict[str, None] = {}
        """Names that were ever answered to: while an actor is being replaced, they wait."""
        self._leases: dict[SessionId, Lease] = {}
        self._tickets: dict[SessionId, Ticket] = {}
        """Tickets of sessions that are queued or assigned."""
        self._queue = PlaceQueue()
        self._presence = Presence(rules.reconnect_window)
        self._ended = Endings(rules.ended_kept)
        self._highest_epoch = 0
        self._arrivals = itertools.count()
        self._mean_life = 0.0
        self._effects: list[ev.Effect] = []
        self._handlers: dict[type[ev.Event], Callable[[Any, float], None]] = {
            ev.ActorRegistered: self._register,
            ev.ActorBeat: self._beat,
            ev.ActorUnlinked: self._unlink,
            ev.ActorDied: self._died,
            ev.AdmitAnswered: self._answered,
            ev.PlaceAsked: self._place_asked,
            ev.PlaceLeft: self._place_left,
            ev.ReleaseAsked: self._release_asked,
            ev.BookAsked: self._book_asked,
            ev.BookWithdrawn: self._book_withdrawn,
            ev.Unbooked: self._unbooked,
            ev.ConnectionsReported: self._connections,
            ev.GatewayLost: self._gateway_lost,
        }

    # What happens

    def apply(self, event: ev.Event, now: float) -> None:
        """Takes in what happened. `decide` must follow.

        Raises:
            UnknownModelError: `PlaceAsked` for a model that nobody answers to.
            NoCapacityError: `PlaceAsked` while the queue is full.
            SessionClosedError: `PlaceAsked` or `BookAsked` for a session that has ended, or
                with an epoch that is void.
            UnknownSessionError: `BookAsked` for a session that is nowhere.
        """
        self._handlers[type(event)](event, now)

    def decide(self, now: float) -> list[ev.Effect]:
        """Draws the conclusions of all that was applied and of the time.

        Returns:
            What is to be done, in order.
        """
        self._lose_silent_actors(now)
        self._drop_left_tickets(now)
        self._give_up_admissions(now)
        self._release_deserted(now)
        self._serve_compute(now)
        self._place_waiting(now)
        self._tell_positions()
        effects, self._effects = self._effects, []
        return effects

    def next_deadline(self) -> float | None:
        """Returns when `decide` has something to do although nothing happens."""
        return min(self._deadlines(), default=None)

    # What is known

    @property
    def served_models(self) -> tuple[str, ...]:
        """Names that a session may ask for."""
        return tuple(self._names)

    def lease(self, session: SessionId) -> Lease:
        """Returns the lease of a session that is on an actor.

        Raises:
            NotReadyError: It still waits.
            SessionClosedError: It has ended.
            UnknownSessionError: Never heard of.
        """
        lease = self._leases.get(session)
        if lease is None:
            raise self._absent(session)
        if lease.state is not LeaseState.ACTIVE:
            raise NotReadyError("the session still waits for its place")
        return lease

    def address(self, actor: ActorId) -> str:
        """Returns the data-plane address of an actor that holds sessions.

        Raises:
            InvariantError: No such actor.
        """
        known = self._actors.get(actor)
        if known is None:
            raise InvariantError(f"there is no actor {actor}")
        return known.address

    def describe(self, now: float) -> ev.PoolView:
        """Returns the pool as operators see it."""
        queued = [ticket.lease for ticket in self._queue]
        others = [x for x in self._leases.values() if x.state is not LeaseState.QUEUED]
        return ev.PoolView(
            actors=tuple(actor.view() for _, actor in sorted(self._actors.items())),
            sessions=tuple(self._view_session(lease, now) for lease in (*queued, *others)),
        )

    # Actors

    def _register(self, event: ev.ActorRegistered, now: float) -> None:
        actor = self._actors.get(event.actor)
        if actor is None:
            actor = self._actors[event.actor] = ActorRecord.of(event, self.rules, now)
        actor.renew(event, now)
        self._names.update(dict.fromkeys(event.models))
        held = {entry.session: entry for entry in event.held}
        for session in sorted(actor.sessions - held.keys()):
            self._drop_unheld(self._leases[session], now)
        for entry in event.held:
            self._adopt(actor, entry, now)

    def _drop_unheld(self, lease: Lease, now: float) -> None:
        """An actor came back without a session that it had."""
        if lease.state is LeaseState.ASSIGNED:
            self._requeue(lease, now)
        else:
            self._lose(lease, now)

    def _adopt(self, actor: ActorRecord, held: ev.Held, now: float) -> None:
        """Takes over a session from the actor that holds it, unless it is over or elsewhere."""
        self._highest_epoch = max(self._highest_epoch, held.epoch)
        lease = self._leases.get(held.session)
        reason = self._ended.reason(held.session)
        if reason is None and lease is not None and _is_newer(lease, actor, held):
            reason = SUPERSEDED
        if reason is not None:
            self._effects.append(ev.Evict(actor.actor, held.session, held.epoch, reason))
            return
        if lease is None or lease.actor != actor.actor or lease.epoch != held.epoch:
            self._take_over(actor, held, lease, now)
        self._confirm(self._leases[held.session], actor, now)
        if held.computing:
            actor.compute.restore(held.session)
        elif actor.compute.is_computing(held.session):
            actor.compute.release(held.session)

    def _take_over(
        self, actor: ActorRecord, held: ev.Held, asked: Lease | None, now: float
    ) -> None:
        """Makes a lease of what an actor holds; whoever `asked` for the session is told."""
        waiting = self._tickets.pop(held.session, None)
        self._queue.remove(held.session)
        if asked is not None:
            self._detach(asked, SUPERSEDED)
        self._leases[held.session] = Lease(
            session=held.session,
            model=held.model,
            principal=held.principal,
            gateway=asked.gateway if asked else self._presence.any_gateway(held.session),
            submitted_at=asked.submitted_at if asked else now,
            state=LeaseState.ACTIVE,
            actor=actor.actor,
            epoch=held.epoch,
            placed_at=now,
        )
        actor.sessions.add(held.session)
        self._presence.watch(held.session, now)
        if waiting is not None:
            self._effects.append(ev.Placed(held.session))

    def _beat(self, event: ev.ActorBeat, now: float) -> None:
        actor = self._actors.get(event.actor)
        if actor is not None:
            actor.beat(event.chunk_ms, now)

    def _unlink(self, event: ev.ActorUnlinked, _: float) -> None:
        actor = self._actors.get(event.actor)
        if actor is not None:
            actor.linked = False

    def _died(self, event: ev.ActorDied, now: float) -> None:
        actor = self._actors.get(event.actor)
        if actor is not None:
            self._lose_actor(actor, now)

    def _lose_silent_actors(self, now: float) -> None:
        for actor in list(self._actors.values()):
            if now >= actor.seen_at + self.rules.actor_timeout:
                self._lose_actor(actor, now)

    def _lose_actor(self, actor: ActorRecord, now: float) -> None:
        for session in sorted(actor.sessions):
            lease = self._leases[session]
            if lease.state is LeaseState.ASSIGNED:
                # Nothing of it was there yet: it takes its turn again.
                self._requeue(lease, now)
            else:
                self._lose(lease, now)
        del self._actors[actor.actor]
        self._effects.append(ev.Replace(actor.actor))

    # Places

    def _place_asked(self, event: ev.PlaceAsked, now: float) -> None:
        known = self._leases.get(event.session)
        if known is not None:
            self._ask_again(known, event, now)
            return
        if self._ended.reason(event.session) is not None:
            raise self._absent(event.session)
        # One that waited with a scheduler before this one may be ahead of the actors.
        if event.model not in self._names and event.waited <= 0:
            raise UnknownModelError(self.served_models)
        lease = Lease(
            session=event.session,
            model=event.model,
            principal=event.principal,
            gateway=event.gateway,
            submitted_at=now - event.waited,
        )
        self._leases[event.session] = lease
        self._presence.expect(event.session)
        self._enqueue(Ticket(lease, next(self._arrivals)))
        self._place_waiting(now)
        if lease.state is LeaseState.QUEUED and len(self._queue) > self.rules.queue_limit:
            self._forget(lease)
            retry_after = self._estimate(len(self._queue)) or self.rules.retry_after
            raise NoCapacityError("the queue is full", retry_after_s=retry_after)

    def _ask_again(self, lease: Lease, event: ev.PlaceAsked, now: float) -> None:
        lease.gateway = event.gateway
        ticket = self._tickets.get(lease.session)
        if ticket is None:
            self._effects.append(ev.Placed(lease.session))
            return
        ticket.told = ticket.left_until = None
        lease.submitted_at = min(lease.submitted_at, now - event.waited)
        if lease.state is LeaseState.QUEUED:
            self._queue.remove(lease.session)
            self._queue.add(ticket)

    def _place_left(self, event: ev.PlaceLeft, now: float) -> None:
        ticket = self._tickets.get(event.session)
        if ticket is not None:
            ticket.left_until = now + self.rules.ticket_grace

    def _drop_left_tickets(self, now: float) -> None:
        """Drops tickets that nobody came back for; submitted later, they queue by their time."""
        for ticket in list(self._tickets.values()):
            if ticket.left_until is not None and ticket.left_until <= now:
                self._evict(ticket.lease, GIVEN_UP)
                self._forget(ticket.lease)

    def _enqueue(self, ticket: Ticket) -> None:
        self._tickets[ticket.lease.session] = ticket
        self._queue.add(ticket)

    def _place_waiting(self, now: float) -> None:
        """Places tickets in their turn. None passes another that waits for the same actor."""
        awaited: set[ActorId] = set()
        takers: dict[str, list[ActorRecord]] = {}
        for ticket in list(self._queue):
            ticket.ask_anew(now)
            model = ticket.lease.model
            if model not in takers:
                takers[model] = self._takers(model)
            room = [actor for actor in takers[model] if actor.actor not in awaited]
            candidates = [actor for actor in room if actor.actor not in ticket.avoid]
            if candidates:
                self._assign(ticket, candidates, now)
                takers.clear()
            elif not room:
                awaited.update(actor.actor for actor in self._serving(model))

    def _serving(self, model: str) -> list[ActorRecord]:
        named = [actor for _, actor in sorted(self._actors.items()) if model in actor.models]
        # Its first name is an actor's own; under the others it stands in for a model that is
        # not served itself.
        return [actor for actor in named if actor.models[0] == model] or named

    def _takers(self, model: str) -> list[ActorRecord]:
        """Returns the actors that may take a new session, if the reserve allows one at all."""
        serving = self._serving(model)
        slots = sum(actor.resident_slots for actor in serving)
        free = sum(actor.free_slots for actor in serving)
        if free <= math.floor(slots * self.rules.resume_reserve):
            return []
        return [actor for actor in serving if actor.is_open()]

    def _assign(self, ticket: Ticket, candidates: list[ActorRecord], now: float) -> None:
        lease = ticket.lease
        chosen = self._policy.choose([actor.load() for actor in candidates])
        actor = next((a for a in candidates if a.actor == chosen), None)
        if actor is None:
            raise InvariantError("the placement policy chose none of the candidates")
        self._highest_epoch += 1
        lease.step(Step.ASSIGN)
        lease.actor, lease.epoch = actor.actor, Epoch(self._highest_epoch)
        lease.admit_until = now + self.rules.admit_timeout
        ticket.told = None
        self._queue.remove(lease.session)
        actor.sessions.add(lease.session)
        actor.compute.lend(lease.session, lease.admit_until + self.rules.start_grace)
        self._effects.append(
            ev.Admit(actor.actor, lease.session, lease.epoch, lease.principal, lease.model)
        )

    def _answered(self, event: ev.AdmitAnswered, now: float) -> None:
        lease = self._leases.get(event.session)
        if lease is None or (lease.epoch, lease.actor) != (event.epoch, event.actor):
            return
        if event.refusal:
            if lease.state is LeaseState.ASSIGNED:
                self._requeue(lease, now)
            return
        self._confirm(lease, self._actors[event.actor], now)

    def _confirm(self, lease: Lease, actor: ActorRecord, now: float) -> None:
        if lease.state is not LeaseState.ASSIGNED:
            return
        lease.step(Step.CONFIRM)
        lease.admit_until, lease.placed_at = None, now
        if not actor.compute.is_computing(lease.session):
            actor.compute.lend(lease.session, now + self.rules.start_grace)
        del self._tickets[lease.session]
        self._presence.watch(lease.session, now)
        self._effects.append(ev.Placed(lease.session))

    def _requeue(self, lease: Lease, now: float) -> None:
        """The actor did not take a session: the next one is asked, in the old turn."""
        ticket = self._tickets[lease.session]
        if lease.actor is not None:
            ticket.avoid[lease.actor] = now + self.rules.avoid_time
        self._detach(lease)
        lease.step(Step.REFUSE)
        self._queue.add(ticket)

    def _give_up_admissions(self, now: float) -> None:
        for lease in [ticket.lease for ticket in self._tickets.values()]:
            if lease.admit_until is not None and lease.admit_until <= now:
                self._evict(lease, NOT_ADMITTED)
                self._requeue(lease, now)

    def _tell_positions(self) -> None:
        for position, ticket in enumerate(self._queue, 1):
            told = (position, self._estimate(position))
            if ticket.told != told:
                ticket.told = told
                self._effects.append(ev.Waiting(ticket.lease.session, *told))

    def _estimate(self, position: int) -> float:
        """Returns about how long the ticket at a position waits, in whole seconds."""
        slots = sum(len(actor.sessions) for actor in self._actors.values())
        return float(math.ceil(self._mean_life * position / slots)) if slots else 0.0

    # Compute

    def _book_asked(self, event: ev.BookAsked, now: float) -> None:
        actor, lease = self._holder(event)
        if actor.compute.book(lease.session, now + self.rules.start_wait):
            self._effects.append(ev.BookAnswered(lease.session, lease.epoch, booked=True))

    def _holder(self, event: ev.BookAsked) -> tuple[ActorRecord, Lease]:
        lease = self._leases.get(event.session)
        if lease is None or lease.actor is None:
            raise self._absent(event.session)
        if lease.epoch != event.epoch:
            raise SessionClosedError("this lease of the session is void")
        return self._actors[lease.actor], lease

    def _book_withdrawn(self, event: ev.BookWithdrawn, _: float) -> None:
        actor = self._actor_of(event.session, event.epoch)
        if actor is not None and actor.compute.waits(event.session):
            actor.compute.release(event.session)

    def _unbooked(self, event: ev.Unbooked, _: float) -> None:
        actor = self._actor_of(event.session, event.epoch)
        if actor is not None:
            self._stop_computing(actor, event.session, event.epoch)

    def _actor_of(self, session: SessionId, epoch: Epoch) -> ActorRecord | None:
        """Returns where a session is, unless the epoch is void."""
        lease = self._leases.get(session)
        if lease is None or lease.actor is None or lease.epoch != epoch:
            return None
        return self._actors[lease.actor]

    def _stop_computing(self, actor: ActorRecord, session: SessionId, epoch: Epoch) -> None:
        if actor.compute.waits(session):
            self._effects.append(ev.BookAnswered(session, epoch, booked=False))
        actor.compute.release(session)

    def _serve_compute(self, now: float) -> None:
        for actor in self._actors.values():
            refused = actor.compute.expire(now)
            lent_until = actor.compute.lent_until()
            retry_after = self.rules.retry_after if lent_until is None else lent_until - now
            for session in actor.compute.grant():
                epoch = self._leases[session].epoch
                self._effects.append(ev.BookAnswered(session, epoch, booked=True))
            for session in refused:
                epoch = self._leases[session].epoch
                self._effects.append(
                    ev.BookAnswered(session, epoch, booked=False, retry_after=retry_after)
                )

    # Presence

    def _connections(self, event: ev.ConnectionsReported, now: float) -> None:
        self._presence.report(event.gateway, event.counts, now, complete=event.complete)
        for session, count in event.counts.items():
            reason = self._ended.reason(session)
            if count > 0 and reason is not None:
                self._presence.forget(session)
                self._effects.append(ev.Ended(session, reason, event.gateway))
            elif count > 0 and session not in self._leases:
                self._presence.doubt(session, now)

    def _gateway_lost(self, event: ev.GatewayLost, now: float) -> None:
        self._presence.lose(event.gateway, now)

    def _release_deserted(self, now: float) -> None:
        for session in self._presence.deserted(now):
            self._finish(self._leases[session], NO_CLIENT.format(self.rules.reconnect_window), now)
        for session in self._presence.unclaimed(now):
            if session not in self._leases:
                self._end(session, WORKER_DIED)

    # Ends

    def _release_asked(self, event: ev.ReleaseAsked, now: float) -> None:
        lease = self._leases.get(event.session)
        if lease is not None:
            self._finish(lease, event.reason, now)
        elif self._ended.reason(event.session) is None:
            # An actor that registers later may hold it.
            self._end(event.session, event.reason)

    def _finish(self, lease: Lease, reason: str, now: float) -> None:
        self._learn_life(lease, now)
        self._evict(lease, reason)
        lease.step(Step.RELEASE)
        self._forget(lease)
        self._end(lease.session, reason)

    def _lose(self, lease: Lease, now: float) -> None:
        """The actor no longer has a session that was on it."""
        self._learn_life(lease, now)
        lease.step(Step.LOSE)
        lease.step(Step.RELEASE)
        self._forget(lease)
        self._end(lease.session, WORKER_DIED)

    def _evict(self, lease: Lease, reason: str) -> None:
        if lease.actor is not None:
            self._effects.append(ev.Evict(lease.actor, lease.session, lease.epoch, reason))

    def _detach(self, lease: Lease, evict_reason: str = "") -> None:
        """Gives back what a lease holds on its actor."""
        if lease.actor is None:
            return
        if evict_reason:
            self._evict(lease, evict_reason)
        actor = self._actors[lease.actor]
        self._stop_computing(actor, lease.session, lease.epoch)
        actor.sessions.discard(lease.session)
        lease.actor = lease.admit_until = None

    def _forget(self, lease: Lease) -> None:
        """Drops a lease. Who is connected stays known: the session may be asked for again."""
        self._detach(lease)
        self._queue.remove(lease.session)
        self._tickets.pop(lease.session, None)
        del self._leases[lease.session]

    def _end(self, session: SessionId, reason: str) -> None:
        self._presence.forget(session)
        self._ended.add(session, reason)
        self._effects.append(ev.Ended(session, reason))

    def _absent(self, session: SessionId) -> SessionClosedError | UnknownSessionError:
        reason = self._ended.reason(session)
        if reason is not None:
            return SessionClosedError(f"the session has ended: {reason}")
        return UnknownSessionError("there is no such session")

    def _learn_life(self, lease: Lease, now: float) -> None:
        if lease.placed_at is None:
            return
        life = now - lease.placed_at
        weight = _LIFE_SMOOTHING if self._mean_life else 1.0
        self._mean_life += weight * (life - self._mean_life)

    # Views

    def _deadlines(self) -> Iterator[float]:
        for actor in self._actors.values():
            yield actor.seen_at + self.rules.actor_timeout
            yield from actor.compute.deadlines()
        for ticket in self._tickets.values():
            if ticket.lease.admit_until is not None:
                yield ticket.lease.admit_until
            if ticket.left_until is not None:
                yield ticket.left_until
        yield from _open_ends(self._queue)
        yield from self._presence.deadlines()

    def _view_session(self, lease: Lease, now: float) -> ev.SessionView:
        actor = self._actors.get(lease.actor) if lease.actor is not None else None
        return ev.SessionView(
            session=lease.session,
            tenant=lease.principal.tenant,
            state=lease.state,
            detached=self._presence.is_deserted(lease.session),
            actor=lease.actor,
            computing=actor is not None and actor.compute.is_computing(lease.session),
            age=now - lease.submitted_at,
        )


def _open_ends(tickets: Iterable[Ticket]) -> Iterator[float]:
    """Yields when refusals of waiting tickets are forgotten."""
    for ticket in tickets:
        yield from ticket.avoid.values()


def _is_newer(lease: Lease, actor: ActorRecord, held: ev.Held) -> bool:
    """Tells whether a lease voids what an actor holds of the same session."""
    if lease.actor is None:
        return False
    if lease.actor == actor.actor:
        return lease.epoch > held.epoch
    return lease.epoch >= held.epoch
