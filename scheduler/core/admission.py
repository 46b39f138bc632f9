"""How a session comes to its place: it is asked for, waits, is assigned and confirmed."""

from __future__ import annotations

import math
from collections.abc import Collection

from scheduler.core import pool_events as ev
from scheduler.core.errors import LimitError, NoCapacityError, UnknownModelError
from scheduler.core.facts import GIVEN_UP, NOT_ADMITTED, UNREACHABLE, Due, Facts
from scheduler.core.fleet import Shelf
from scheduler.core.happenings import Kind
from scheduler.core.ids import ActorId, SessionId
from scheduler.core.lease import Lease, LeaseState, Step
from scheduler.core.quality import FULL, NO_COMPUTE, Quality
from scheduler.core.queue import Ticket
from scheduler.core.recovery import Recovery
from scheduler.core.roster import ActorRecord
from scheduler.core.usage import whose

_TOLD_AT_ONCE = 64
"""Length of the queue up to which every change of a position is told at once."""
_TOLD_PER_S = 1000
"""Positions of a longer one that are told per second, but each at most once a second."""

_BACK = {
    LeaseState.QUEUED: Step.REFUSE,
    LeaseState.LOST: Step.LOSE,
    LeaseState.PARKED: Step.PARK,
}
"""How a session that an actor did not take goes back to where it came from."""


class Admission:
    """Brings sessions to their places.

    Args:
        facts: The pool's.
        recovery: Takes sessions from actors that cannot be reached.
    """

    def __init__(self, facts: Facts, recovery: Recovery) -> None:
        self._facts = facts
        self._rules = facts.rules
        self._recovery = recovery

    # What is asked

    def ask(self, event: ev.PlaceAsked, now: float) -> None:
        """A session wants a place."""
        facts = self._facts
        facts.expect_owner(event.session, event.principal.tenant)
        known = facts.leases.get(event.session)
        if known is not None:
            self._ask_again(known, event, now)
            return
        if facts.ended.reason(event.session) is not None:
            raise facts.absent(event.session)
        # One that waited with a scheduler before this one may be ahead of the actors.
        existed = event.restore and not event.fork
        before = existed or event.waited > 0
        if event.model not in facts.fleet.names and not before:
            raise UnknownModelError(tuple(facts.fleet.names))
        owner = event.principal
        if not existed:
            holder = facts.holdings.exhausted(owner)
            if holder is not None:
                raise LimitError(
                    f"no more than {holder.max_sessions} sessions at once{whose(holder.name)}",
                    retry_after_s=self._rules.retry_after,
                    quota="max_sessions",
                )
            if not before:
                facts.rations.may_create(owner, now)
            owner = facts.rations.timed(owner, now - event.waited)
        lease = Lease(
            session=event.session,
            model=event.model,
            principal=owner,
            gateway=event.gateway,
            submitted_at=now - event.waited,
            state=LeaseState.LOST if existed else LeaseState.QUEUED,
        )
        facts.add(lease)
        if existed:
            facts.restore_ticket(lease, event.near_host)
            return
        self._ask_new(lease, event, now)
        if not before:
            facts.rations.created(owner, now)

    def _ask_new(self, lease: Lease, event: ev.PlaceAsked, now: float) -> None:
        """A session asks for the first time: it has its place, waits, or is refused."""
        facts = self._facts
        if facts.fleet.is_too_slow(lease.model):
            facts.forget(lease)
            raise NoCapacityError(
                "the model is too slow on these GPUs for one session at any permitted frame rate",
                retry_after_s=self._rules.retry_after,
            )
        ticket = Ticket(lease, next(facts.arrivals), fork=event.fork, near_host=event.near_host)
        if self._place_at_once(ticket, now):
            return
        facts.enqueue(ticket)
        self.place_restores(now)
        self.place_new(now)
        if lease.state is not LeaseState.QUEUED:
            return
        tenant = self._rules.tenant(lease.principal.tenant)
        queued = facts.queue.queued_of(lease.principal.tenant)
        full = facts.queue.new_count > self._rules.queue_limit
        over = tenant.max_queued is not None and queued > tenant.max_queued
        if full or over:
            facts.forget(lease)
            retry_after = self.estimate(len(facts.queue)) or self._rules.retry_after
            if full:
                raise NoCapacityError("the queue is full", retry_after_s=retry_after)
            raise LimitError(
                f"no more than {tenant.max_queued} new sessions of a tenant may wait",
                retry_after_s=retry_after,
                quota="queued",
            )
        facts.told.session(Kind.SESSION_QUEUED, lease)
        if len(facts.queue) > _TOLD_AT_ONCE:
            facts.emit(ev.Waiting(lease.session, len(facts.queue), self.estimate(len(facts.queue))))

    def _place_at_once(self, ticket: Ticket, now: float) -> bool:
        """Places a session while nobody waits: there are no turns to be kept then."""
        facts = self._facts
        if len(facts.queue) or self._is_held_back(ticket):
            return False
        shelf = facts.fleet.shelf(ticket.lease.model)
        if shelf.within_reserve(self._rules.resume_reserve):
            return False
        actor = self._open_actor(shelf, (), ticket.near_host)
        if actor is None:
            return False
        facts.tickets[ticket.lease.session] = ticket
        self._assign(ticket, actor, actor.compute.room(actor.qualities), now)
        return True

    def _open_actor(
        self, shelf: Shelf, avoid: Collection[ActorId], near: str
    ) -> ActorRecord | None:
        fleet = self._facts.fleet
        actor = fleet.choose(shelf, shelf.full, avoid, near)
        return actor or fleet.choose(shelf, shelf.partial, avoid, near)

    def _ask_again(self, lease: Lease, event: ev.PlaceAsked, now: float) -> None:
        facts = self._facts
        lease.gateway = event.gateway
        ticket = facts.tickets.get(lease.session)
        if ticket is None and lease.on_actor:
            if not (event.restore and self._is_out_of_reach(lease, event, now)):
                facts.emit(ev.Placed(lease.session))
                return
            unreached = lease.actor
            admit_until = now + self._rules.admit_timeout
            self._recovery.lose(lease, UNREACHABLE, admit_until=admit_until)
            ticket = facts.tickets.get(lease.session)
            if ticket is not None and unreached is not None:
                self._avoid(ticket, unreached, now)
        elif ticket is None:
            ticket = facts.restore_ticket(lease, event.near_host)
        if ticket is None:
            facts.emit(ev.Placed(lease.session))
            return
        ticket.told = ticket.left_until = None
        ticket.near_host = event.near_host or ticket.near_host
        facts.deadlines.clear((Due.LEFT, lease.session))
        facts.positions_changed = True
        submitted_at = now - event.waited
        if lease.session in facts.queue and submitted_at < lease.submitted_at:
            facts.queue.remove(lease.session)
            lease.submitted_at = submitted_at
            facts.queue.add(ticket)

    def _is_out_of_reach(self, lease: Lease, event: ev.PlaceAsked, now: float) -> bool:
        """Tells whether whoever asks for the place of a session that has one is right that
        it is not to be had there.
        """
        asked = lease.asked_again
        lease.asked_again = (event.gateway, lease.epoch, now)
        again = (
            asked is not None
            and asked[:2] == (event.gateway, lease.epoch)
            and now - asked[2] <= self._rules.reopen_grace
        )
        actor = self._facts.actor_of(lease)
        return again or lease.unsure or actor.doubted or not actor.linked

    def leave(self, event: ev.PlaceLeft, now: float) -> None:
        """Nobody waits for the place of a session any more."""
        ticket = self._facts.tickets.get(event.session)
        if ticket is not None:
            ticket.left_until = now + self._rules.ticket_grace
            self._facts.deadlines.set((Due.LEFT, event.session), ticket.left_until)

    def drop_left(self, session: SessionId, now: float) -> None:
        """Nobody came back for a ticket. A parked session is parked again, one that was lost
        goes on waiting; a new one, submitted later, queues by its time.
        """
        facts = self._facts
        ticket = facts.tickets[session]
        lease = ticket.lease
        if ticket.origin is LeaseState.LOST:
            facts.presence.watch(session, now)
            return
        facts.evict(lease, GIVEN_UP)
        if ticket.origin is LeaseState.QUEUED:
            facts.forget(lease)
            facts.told.session(Kind.SESSION_RELEASED, lease, GIVEN_UP)
            return
        facts.dequeue(session)
        if facts.is_reserved(lease):
            facts.vacate(lease)
            lease.step(Step.PARK)
            facts.told.session(Kind.SESSION_PARKED, lease, GIVEN_UP)

    # What actors answer

    def answered(self, event: ev.AdmitAnswered, now: float) -> None:
        """An actor admitted or refused a session that was assigned to it."""
        lease = self._facts.leases.get(event.session)
        if lease is None or (lease.epoch, lease.actor) != (event.epoch, event.actor):
            return
        if lease.state is LeaseState.ASSIGNED:
            if event.refusal:
                self.requeue(lease, now)
            else:
                self.confirm(lease, now)

    def overdue(self, session: SessionId, now: float) -> None:
        """An actor did not answer in time."""
        lease = self._facts.leases[session]
        self._facts.evict(lease, NOT_ADMITTED)
        self.requeue(lease, now)

    def confirm(self, lease: Lease, now: float) -> None:
        """A session is on its actor."""
        facts = self._facts
        ticket = facts.dequeue(lease.session)
        lease.step(Step.CONFIRM)
        if lease.placed_at is None:
            # Connections that it had while it waited count, their loss does not.
            facts.presence.unwatch(lease.session)
            lease.placed_at = now
        facts.presence.watch(lease.session, now)
        self.lend(lease, now, restored=ticket is not None and ticket.restore)
        lease.wants_compute = False
        restored = ticket is not None and ticket.restore
        kind = Kind.SESSION_RESTORED if restored else Kind.SESSION_PLACED
        facts.told.session(kind, lease, quality=lease.quality)
        facts.note(lease)
        if ticket is not None:
            facts.emit(ev.Placed(lease.session))

    def lend(self, lease: Lease, now: float, *, restored: bool = False) -> None:
        """Lets a session that has just come hold compute for a while, where there is room."""
        actor = self._facts.actor_of(lease)
        compute = actor.compute
        if compute.is_computing(lease.session) or compute.waits(lease.session):
            return
        until = now + self._grace(restored=restored)
        if compute.extend(lease.session, until):
            self._facts.deadlines.bring_forward((Due.LEDGER, actor.actor), until)
            return
        quality = compute.room(actor.qualities)
        if quality:
            compute.lend(lease.session, until, quality)
            self._facts.compute_changed(actor, until)

    def _grace(self, *, restored: bool) -> float:
        return self._rules.resume_grace if restored else self._rules.start_grace

    def requeue(self, lease: Lease, now: float) -> None:
        """The actor did not take a session: the next one is asked, in the old turn."""
        facts = self._facts
        ticket = facts.tickets[lease.session]
        if lease.actor is not None:
            self._avoid(ticket, lease.actor, now)
        lease.wants_compute = ticket.restore and (lease.wants_compute or facts.wants_compute(lease))
        left = lease.actor
        facts.vacate(lease)
        lease.step(_BACK[ticket.origin])
        facts.enqueue(ticket)
        facts.told.session(Kind.SESSION_QUEUED, lease, "an actor did not take it", left=left)

    def _avoid(self, ticket: Ticket, actor: ActorId, now: float) -> None:
        """Has a session placed elsewhere for a while."""
        until = now + self._rules.avoid_time
        ticket.avoid[actor] = until
        self._facts.deadlines.set((Due.AVOID, ticket.lease.session), until)

    # Places

    def place_restores(self, now: float) -> None:
        """Places the sessions that existed before, wherever there is room for each."""
        facts = self._facts
        if not any(facts.fleet.shelf(model).roomy for model in facts.queue.models):
            return
        hopeless: set[tuple[str, bool]] = set()
        placed = []
        for ticket in facts.queue.restores():
            lease = ticket.lease
            if (lease.model, lease.wants_compute) in hopeless:
                continue
            ticket.ask_anew(now)
            found = self._restore_to(ticket)
            if found is not None:
                self._assign(ticket, *found, now)
                placed.append(ticket)
            elif not ticket.avoid:
                hopeless.add((lease.model, lease.wants_compute))
        self._serve(placed)

    def _restore_to(self, ticket: Ticket) -> tuple[ActorRecord, Quality] | None:
        """Returns where a session can go on, and in which quality; with `NO_COMPUTE` it has a
        place and no compute.
        """
        fleet, avoid, near = self._facts.fleet, ticket.avoid, ticket.near_host
        model = ticket.lease.model
        shelf = fleet.shelf(model)
        actor = fleet.choose(shelf, shelf.full, avoid, near)
        if actor is not None:
            return actor, FULL
        actor = fleet.choose(shelf, shelf.partial, avoid, near)
        if actor is not None:
            return actor, actor.compute.room(actor.qualities)
        if not ticket.lease.wants_compute:
            actor = fleet.choose(shelf, shelf.roomy, avoid, near)
            return None if actor is None else (actor, NO_COMPUTE)
        # It goes ahead of those who wait for compute where they are.
        crowded = (actor for actor in fleet.crowded(model) if actor.actor not in avoid)
        actor = next(crowded, None)
        return None if actor is None else (actor, actor.compute.fitting(actor.qualities))

    def place_new(self, now: float) -> None:
        """Places new sessions in their turn. None passes another that waits for the same
        actor, except that a tenant at its limit holds nobody up.
        """
        facts = self._facts
        if all(self._is_full(facts.fleet.shelf(model), set()) for model in facts.queue.models):
            return
        stuck: set[str] = set()
        awaited: set[ActorId] = set()
        placed = []
        for ticket in facts.queue.new():
            model = ticket.lease.model
            if model in stuck or self._is_held_back(ticket):
                continue
            shelf = facts.fleet.shelf(model)
            if self._is_full(shelf, awaited):
                stuck.add(model)
                if stuck.issuperset(facts.queue.models):
                    break
                awaited.update(facts.fleet.serving(model))
                continue
            ticket.ask_anew(now)
            avoid = awaited.union(ticket.avoid) if awaited else ticket.avoid
            actor = self._open_actor(shelf, avoid, ticket.near_host)
            if actor is not None:
                self._assign(ticket, actor, actor.compute.room(actor.qualities), now)
                placed.append(ticket)
        self._serve(placed)

    def _serve(self, placed: list[Ticket]) -> None:
        """Takes those who got a place out of the queue."""
        for ticket in placed:
            self._facts.queue.serve(ticket)
            self._facts.deadlines.clear((Due.AVOID, ticket.lease.session))
        self._facts.positions_changed = self._facts.positions_changed or bool(placed)

    def _is_held_back(self, ticket: Ticket) -> bool:
        return self._facts.usage.left(ticket.tenant) <= 0

    def _is_full(self, shelf: Shelf, awaited: set[ActorId]) -> bool:
        if shelf.within_reserve(self._rules.resume_reserve):
            return True
        if not awaited:
            return not (shelf.full or shelf.partial)
        open_places = (actor for places in (shelf.full, shelf.partial) for _, actor in places)
        return all(actor in awaited for actor in open_places)

    def _assign(self, ticket: Ticket, actor: ActorRecord, quality: Quality, now: float) -> None:
        facts, lease = self._facts, ticket.lease
        lease.step(Step.ASSIGN)
        facts.occupy(lease, actor, facts.next_epoch())
        lease.quality = quality or FULL
        facts.told.session(Kind.SESSION_ASSIGNED, lease)
        admit_until = now + self._rules.admit_timeout
        computing = lease.wants_compute and bool(quality)
        until = None if computing else admit_until + self._grace(restored=ticket.restore)
        facts.book_ahead(actor, lease.session, quality, until)
        facts.deadlines.set((Due.ADMIT, lease.session), admit_until)
        ticket.told = None
        facts.emit(
            ev.Admit(
                actor.actor,
                lease.session,
                lease.epoch,
                lease.principal,
                lease.model,
                ticket.restore or ticket.fork,
                computing,
                lease.quality,
            )
        )

    # Positions

    def tell_positions(self, now: float) -> None:
        """Tells those who wait where they stand, as far as that has changed."""
        facts = self._facts
        if len(facts.queue) > _TOLD_AT_ONCE:
            if facts.deadlines.get((Due.POSITIONS, "")) is None:
                pause = max(1.0, len(facts.queue) / _TOLD_PER_S)
                facts.deadlines.set((Due.POSITIONS, ""), now + pause)
            return
        self.tell_all_positions()

    def tell_all_positions(self) -> None:
        """Tells everybody who waits."""
        facts = self._facts
        facts.positions_changed = False
        for position, ticket in enumerate(facts.queue, 1):
            told = (position, self.estimate(position))
            if ticket.told != told:
                ticket.told = told
                facts.emit(ev.Waiting(ticket.lease.session, *told))

    def estimate(self, position: int) -> float:
        """Returns about how long the ticket at a position waits, in whole seconds."""
        held = self._facts.usage.total
        return float(math.ceil(self._facts.mean_life * position / held)) if held else 0.0
