"""A session whose actor is gone: it is not over, it waits for another place, first in line."""

from __future__ import annotations

from scheduler.core import pool_events as ev
from scheduler.core.facts import Due, Facts
from scheduler.core.happenings import Kind
from scheduler.core.lease import Lease, LeaseState, Step
from scheduler.core.quality import FULL
from scheduler.core.queue import Ticket


class Recovery:
    """Takes sessions from actors.

    Args:
        facts: The pool's.
    """

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    def lose(self, lease: Lease, evict_reason: str = "", *, admit_until: float = 0.0) -> None:
        """A session that had a place has it no more.

        Args:
            lease: Its lease.
            evict_reason: What its actor is told, where that may be alive; empty: nothing.
            admit_until: While it moves to an actor that has not answered: when that is overdue.
        """
        facts = self._facts
        lost_epoch, host = lease.epoch, facts.actor_of(lease).host
        if evict_reason and lease.actor is not None:
            facts.emit(ev.Evict(lease.actor, lease.session, lost_epoch, evict_reason, goes_on=True))
        reason = evict_reason or "its actor is gone"
        facts.told.session(Kind.SESSION_LOST, lease, reason, left=lease.actor)
        if lease.state is LeaseState.MOVING:
            self._go_on_at_target(lease, admit_until)
        else:
            lease.wants_compute = facts.wants_compute(lease)
            facts.vacate(lease)
            lease.step(Step.LOSE)
            lease.kept_on = host
            facts.restore_ticket(lease)
        facts.emit(ev.ParkedTold(lease.session, lost_epoch, host, restoring=True))
        if lease.state is LeaseState.ACTIVE:
            # It has a place already: whoever comes to it is told of that, and of no loss.
            facts.emit(ev.Placed(lease.session))

    def _go_on_at_target(self, lease: Lease, admit_until: float) -> None:
        """The actor that a session was about to leave is gone: its target is its new place."""
        facts = self._facts
        target, epoch, admitted = lease.target, lease.target_epoch, lease.target_admitted
        assert target is not None  # noqa: S101 - it moves
        facts.forget_target(lease)
        facts.vacate(lease)
        lease.actor, lease.epoch = target, epoch
        facts.take_place(lease)
        lease.step(Step.LOSE)
        lease.step(Step.ASSIGN)
        compute = facts.fleet.actors[target].compute
        lease.quality = compute.quality(lease.session) or FULL
        lease.wants_compute = compute.is_computing(lease.session)
        facts.note(lease)
        if admitted:
            lease.step(Step.CONFIRM)
            lease.wants_compute = False
            facts.told.session(Kind.SESSION_RESTORED, lease, quality=lease.quality)
            return
        facts.told.session(Kind.SESSION_ASSIGNED, lease)
        facts.tickets[lease.session] = Ticket(
            lease, next(facts.arrivals), restore=True, origin=LeaseState.LOST
        )
        facts.deadlines.set((Due.ADMIT, lease.session), admit_until)
