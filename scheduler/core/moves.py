"""A session leaves one actor for another while it goes on.

The target admits it under a higher epoch, the gateways are told (`Moves`) and have it
handed over, and when it goes on there its lease changes hands. Until then the old place is
its place: a move that fails is undone, and nothing has happened. The old actor keeps the
slot until it has shown all that it made.
"""

from __future__ import annotations

from scheduler.core import pool_events as ev
from scheduler.core.facts import MOVE_UNDONE, MOVED, Due, Facts
from scheduler.core.happenings import Kind
from scheduler.core.ids import ActorId, Epoch, SessionId
from scheduler.core.lease import Lease, LeaseState, Step
from scheduler.core.quality import FULL, NO_COMPUTE, Quality
from scheduler.core.recovery import Recovery
from scheduler.core.roster import ActorRecord

_MOVABLE = frozenset({LeaseState.ACTIVE, LeaseState.DRAINING})


class Moves:
    """Moves sessions.

    Args:
        facts: The pool's.
        recovery: Takes care of a session that was handed over to nobody.
    """

    def __init__(self, facts: Facts, recovery: Recovery) -> None:
        self._facts = facts
        self._rules = facts.rules
        self._recovery = recovery

    def can_begin(self, lease: Lease) -> bool:
        """Tells whether a session could move: somebody is connected who hands it over, and
        neither a park nor an earlier move is under way or has just failed.
        """
        return (
            lease.state in _MOVABLE
            and not lease.parking
            and lease.session not in self._facts.tails
            and self._facts.deadlines.get((Due.MOVE_AGAIN, lease.session)) is None
            and self._facts.presence.is_connected(lease.session)
        )

    def find_target(self, lease: Lease) -> tuple[ActorRecord, Quality] | None:
        """Returns where a session could move, and in which quality; with `NO_COMPUTE` it would
        have a place there and no compute.
        """
        fleet = self._facts.fleet
        shelf = fleet.shelf(lease.model)
        avoid = () if lease.actor is None else (lease.actor,)
        actor = fleet.choose(shelf, shelf.full, avoid)
        if actor is not None:
            return actor, FULL
        beside = fleet.choose_beside(shelf, self._facts.actor_of(lease), lease.session)
        if beside is not None and beside[1] == FULL:
            return beside
        actor = fleet.choose(shelf, shelf.partial, avoid)
        if actor is not None:
            return actor, actor.compute.room(actor.qualities)
        if beside is not None:
            return beside
        if self._facts.wants_compute(lease):
            return None
        actor = fleet.choose(shelf, shelf.roomy, avoid)
        return None if actor is None else (actor, NO_COMPUTE)

    def begin_anywhere(self, lease: Lease, now: float) -> bool:
        """Has a session move to wherever there is room; tells whether there is."""
        found = self.find_target(lease)
        if found is not None:
            self.begin(lease, *found, now)
        return found is not None

    def begin(self, lease: Lease, target: ActorRecord, quality: Quality, now: float) -> None:
        """Reserves a place for a session at another actor."""
        facts = self._facts
        computing = facts.wants_compute(lease)
        lease.step(Step.MOVE)
        if lease.awaits_room and lease.actor is not None:
            lease.awaits_room = False
            facts.emit(ev.AwaitsRoom(lease.actor, lease.session, lease.epoch, awaits=False))
        lease.target, lease.target_epoch = target.actor, facts.next_epoch()
        facts.moving[lease.session] = None
        facts.told.session(Kind.SESSION_MOVING, lease, actor=target.actor, left=lease.actor)
        facts.fill(lease.session, target)
        admit_until = now + self._rules.admit_timeout
        until = None if computing else admit_until + self._rules.start_grace
        facts.book_ahead(target, lease.session, quality, until)
        facts.deadlines.set((Due.MOVE, lease.session), admit_until)
        facts.deadlines.clear((Due.PARK, lease.session))
        facts.emit(
            ev.Admit(
                target.actor,
                lease.session,
                lease.target_epoch,
                lease.principal,
                lease.model,
                restore=True,
                computing=computing,
                quality=quality or FULL,
            )
        )

    def answered(self, event: ev.AdmitAnswered, now: float) -> None:
        """The target of a move admitted the session or refused it."""
        lease = self._moving(event.session, event.actor, event.epoch)
        if lease is None or lease.target_admitted:
            return
        if event.refusal:
            self.undo(lease, now, tell_target=False)
            return
        lease.target_admitted = True
        self._facts.deadlines.set((Due.MOVE, lease.session), now + self._rules.move_timeout)
        self._facts.emit(ev.Moves(lease.session))

    def restored(self, event: ev.SessionRestored, now: float) -> None:
        """A session goes on at its target: that is its place from now on."""
        lease = self._moving(event.session, event.actor, event.epoch)
        if lease is not None:
            self._switch(lease, now)

    def departed(self, event: ev.SessionDeparted, now: float) -> None:
        """An actor is rid of a session that it handed over."""
        lease = self._facts.leases.get(event.session)
        if lease is not None and (lease.actor, lease.epoch) == (event.actor, event.epoch):
            if lease.target_admitted:
                # Word from the target is still on its way: nowhere else can the session be.
                self._switch(lease, now)
            elif lease.on_actor:
                # The move for which it was handed over was undone. What it held is free again.
                self._recovery.lose(lease, admit_until=now + self._rules.admit_timeout)
        actor = self._facts.fleet.actors.get(event.actor)
        if actor is not None and actor.resident.leaving.get(event.session) == event.epoch:
            self._facts.end_tail(event.session)

    def overdue(self, session: SessionId, now: float) -> None:
        """A move takes too long."""
        self.undo(self._facts.leases[session], now)

    def tail_overdue(self, session: SessionId) -> None:
        """An actor should have been rid of a session by now."""
        self._facts.end_tail(session, MOVED)

    def undo(self, lease: Lease, now: float, *, tell_target: bool = True) -> None:
        """Ends a move: the session stays where it is."""
        facts = self._facts
        target, epoch = lease.target, lease.target_epoch
        if tell_target and target is not None:
            facts.emit(ev.Evict(target, lease.session, epoch, MOVE_UNDONE, goes_on=True))
        lease.unsure = lease.unsure or lease.target_admitted
        facts.drop_target(lease)
        lease.step(Step.CONFIRM)
        facts.told.session(Kind.SESSION_STAYED, lease, MOVE_UNDONE)
        facts.deadlines.set((Due.MOVE_AGAIN, lease.session), now + self._rules.avoid_time)
        actor = facts.actor_of(lease)
        refuse_at = now + self._rules.start_wait
        actor.compute.put_off(lease.session, refuse_at)
        facts.compute_changed(actor, refuse_at)
        facts.note(lease)

    def _moving(self, session: SessionId, target: ActorId, epoch: Epoch) -> Lease | None:
        lease = self._facts.leases.get(session)
        if lease is None or (lease.target, lease.target_epoch) != (target, epoch):
            return None
        return lease

    def _switch(self, lease: Lease, now: float) -> None:
        facts = self._facts
        session, old, target = lease.session, facts.actor_of(lease), lease.target
        old_epoch, epoch = lease.epoch, lease.target_epoch
        assert target is not None  # noqa: S101 - it moves
        facts.forget_target(lease)
        facts.stop_computing(old, session, old_epoch)
        facts.clear(session, old)
        old.resident.leaving[session] = old_epoch
        facts.tails[session] = old.actor
        facts.deadlines.set((Due.DEPART, session), now + self._rules.depart_timeout)
        facts.deadlines.clear((Due.MOVE_AGAIN, session))
        lease.actor, lease.epoch = target, epoch
        lease.quality = facts.fleet.actors[target].compute.quality(session) or FULL
        lease.awaits_room = lease.unsure = lease.pressed = False
        lease.idle_since = None
        lease.step(Step.CONFIRM)
        quality = lease.quality
        facts.told.session(Kind.SESSION_MOVED, lease, left=old.actor, quality=quality)
        facts.note(lease)
