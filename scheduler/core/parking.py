"""Sessions that need no actor give theirs up, and keep their state.

A session is parked when it has been without compute for `park_after`, or much sooner when
nobody is connected to it: one that computes without a connection stops at its chunk boundary
by itself and gives its compute back first. A parked session holds nothing.

What is kept of it lives for a day after the last word of it, or longer than the window in
which its client may come back. So some actor is told every few hours that it is still needed,
for as long as the session is parked.
"""

from __future__ import annotations

from scheduler.core import pool_events as ev
from scheduler.core.facts import MOVE_UNDONE, Due, Facts
from scheduler.core.happenings import Kind
from scheduler.core.ids import SessionId
from scheduler.core.lease import Lease, LeaseState, Step

_LONGEST_PAUSE = 300.0
"""Seconds between two tries to park a session, at most."""

_PARKABLE = frozenset({LeaseState.ACTIVE, LeaseState.DRAINING})
_KEPT = frozenset({LeaseState.PARKED, LeaseState.LOST})
"""States of which an actor that looks after what is kept does not have the session."""


class Parking:
    """Parks sessions.

    Args:
        facts: The pool's.
    """

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._rules = facts.rules

    def review(self, lease: Lease, now: float) -> None:
        """Settles when a session is to be parked, after something about it has changed."""
        if lease.state not in _PARKABLE or lease.parking:
            return
        compute = self._facts.actor_of(lease).compute
        if compute.holds(lease.session) or compute.waits(lease.session):
            lease.idle_since = None
        elif lease.idle_since is None:
            lease.idle_since = now
        at = self._due_at(lease)
        if at is None:
            self._facts.deadlines.clear((Due.PARK, lease.session))
        else:
            self._facts.deadlines.set((Due.PARK, lease.session), max(at, lease.park_not_before))

    def due(self, session: SessionId, now: float) -> None:
        """A session is to be parked; or its actor should have done so by now."""
        lease = self._facts.leases[session]
        if lease.parking:
            self._failed(lease, now)
        else:
            self.order(lease, now, pressed=lease.pressed)

    def order(self, lease: Lease, now: float, *, pressed: bool = False) -> None:
        """Has the actor of a session park it.

        Args:
            lease: Its lease.
            now: The time.
            pressed: The actor ends: the state is kept where other hosts can read it, and the
                session goes on as soon as there is room.
        """
        lease.parking, lease.pressed = True, pressed
        actor = self._facts.actor_of(lease)
        self._facts.deadlines.set((Due.PARK, lease.session), now + self._rules.park_timeout)
        store = pressed or self._facts.is_leaving(actor)
        self._facts.emit(ev.Park(actor.actor, lease.session, lease.epoch, store=store))

    def keep_on(self, session: SessionId, now: float) -> None:
        """What is kept of a session that is on no actor is needed still."""
        lease = self._facts.leases[session]
        if not lease.on_actor:
            self._facts.deadlines.set((Due.KEPT, session), now + self._rules.keep_again)
            self._look_after(lease, store=False)

    def evacuate(self, host: str) -> None:
        """A host is being emptied: what its memory keeps of parked sessions goes where others
        can read it.
        """
        for lease in self._facts.leases.values():
            if lease.kept_on == host:
                self._look_after(lease, store=True)

    def _look_after(self, lease: Lease, *, store: bool) -> None:
        facts = self._facts
        keeper = facts.keeper(lease.kept_on) or facts.keeper("")
        if keeper is not None and lease.state in _KEPT:
            facts.emit(ev.Park(keeper.actor, lease.session, lease.epoch, store=store))

    def answered(self, event: ev.ParkAnswered, now: float) -> None:
        """An actor has parked a session, or could not; or tells where a parked one is kept."""
        lease = self._facts.leases.get(event.session)
        if lease is None or lease.epoch != event.epoch:
            return
        if lease.state in _KEPT and not event.failure:
            lease.kept_on = event.host
        if lease.actor != event.actor:
            return
        if not lease.on_actor:
            return
        if event.failure:
            self._failed(lease, now)
        else:
            self.parked(lease, event.host, now)

    def parked(self, lease: Lease, host: str, now: float) -> None:
        """A session is on no actor any more. One that must go on waits for its next place."""
        facts = self._facts
        connected = facts.presence.is_connected(lease.session)
        wants = facts.wants_compute(lease)
        restoring = connected and (wants or lease.pressed)
        epoch = lease.epoch
        facts.learn_life(lease, now)
        if lease.state is LeaseState.MOVING:
            # It was parked before word of the move came.
            assert lease.target is not None  # noqa: S101 - it moves
            target, its_epoch = lease.target, lease.target_epoch
            facts.emit(ev.Evict(target, lease.session, its_epoch, MOVE_UNDONE, goes_on=True))
            facts.drop_target(lease)
            lease.step(Step.CONFIRM)
        left, reason = lease.actor, self._why(lease, connected=connected)
        facts.vacate(lease)
        lease.step(Step.PARK)
        facts.told.session(Kind.SESSION_PARKED, lease, reason, left=left)
        lease.wants_compute, lease.kept_on = restoring and wants, host
        facts.deadlines.set((Due.KEPT, lease.session), now + self._rules.keep_again)
        facts.emit(ev.ParkedTold(lease.session, epoch, host, restoring))
        if restoring:
            facts.restore_ticket(lease)

    @staticmethod
    def _why(lease: Lease, *, connected: bool) -> str:
        if lease.pressed:
            return "its actor ends"
        return "nothing to do" if connected else "nobody is connected"

    def _failed(self, lease: Lease, now: float) -> None:
        """A session stays where it is, and is parked later."""
        lease.parking = False
        pause = lease.park_pause * 2 or self._rules.park_retry
        lease.park_pause = min(pause, _LONGEST_PAUSE)
        lease.park_not_before = now + lease.park_pause
        self._facts.deadlines.clear((Due.PARK, lease.session))
        self._facts.note(lease)

    def _due_at(self, lease: Lease) -> float | None:
        """Returns when a session has been of no use to anybody for long enough."""
        facts = self._facts
        if lease.pressed:
            return lease.park_not_before
        times = []
        if lease.idle_since is not None and self._rules.park_after is not None:
            times.append(lease.idle_since + self._rules.park_after)
        deserted = facts.presence.deserted_since(lease.session)
        if deserted is not None and not facts.wants_compute(lease):
            # The first client of a new session may take its time, as long as it holds compute.
            expected = lease.idle_since is None and not facts.presence.was_connected(lease.session)
            if not expected or lease.state is LeaseState.DRAINING:
                times.append(deserted + self._rules.park_detached_after)
        return min(times, default=None)
