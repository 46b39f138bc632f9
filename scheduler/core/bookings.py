"""Compute is asked for, granted, waited for and given back."""

from __future__ import annotations

from scheduler.core import pool_events as ev
from scheduler.core.errors import SessionClosedError
from scheduler.core.facts import Facts
from scheduler.core.happenings import Kind
from scheduler.core.ids import ActorId, Epoch, SessionId
from scheduler.core.lease import Lease
from scheduler.core.moves import Moves
from scheduler.core.quality import FULL, NO_COMPUTE, Quality
from scheduler.core.roster import ActorRecord


class Bookings:
    """Serves the sessions that compute or want to.

    Args:
        facts: The pool's.
        moves: Takes those to another actor that find no compute on theirs.
    """

    def __init__(self, facts: Facts, moves: Moves) -> None:
        self._facts = facts
        self._moves = moves

    def ask(self, event: ev.BookAsked, now: float) -> None:
        """A session wants compute: it has it, goes where it can have it, or waits.

        Raises:
            UnknownSessionError: It is on no actor.
            SessionClosedError: It has ended, or its epoch is void.
        """
        facts = self._facts
        lease = facts.leases.get(event.session)
        if lease is None or lease.actor is None:
            raise facts.absent(event.session)
        actor = self._at(event.session, event.epoch)
        if actor is None:
            raise SessionClosedError("this lease of the session is void")
        quality = actor.compute.book(lease.session)
        refuse_at = None
        if not quality:
            refuse_at = now + facts.rules.start_wait
            actor.compute.wait(lease.session, refuse_at)
            if event.epoch == lease.epoch and self._move(lease, now):
                quality = NO_COMPUTE
            elif actor.qualities and actor.compute.waiting[0] == lease.session:
                quality = self._book_degraded(actor, lease.session)
        facts.compute_changed(actor, refuse_at)
        facts.note(lease)
        if quality:
            self._grant(actor, lease.session, event.epoch)

    def withdraw(self, event: ev.BookWithdrawn, _: float) -> None:
        """A session no longer waits for compute."""
        actor = self._at(event.session, event.epoch)
        if actor is not None and actor.compute.waits(event.session):
            actor.compute.release(event.session)
            self._facts.compute_changed(actor)
            self._facts.note(self._facts.leases[event.session])

    def give_back(self, event: ev.Unbooked, _: float) -> None:
        """A session needs no compute any more."""
        actor = self._at(event.session, event.epoch)
        if actor is None:
            return
        lease = self._facts.leases[event.session]
        if actor.compute.is_computing(event.session):
            self._facts.told.session(Kind.SESSION_IDLE, lease)
        self._facts.stop_computing(actor, event.session, event.epoch)
        self._facts.note(lease)

    def expire(self, actor_id: ActorId, now: float) -> None:
        """Lent bookings end, and requests have waited long enough. Those of sessions that are
        about to have compute elsewhere wait on.
        """
        facts = self._facts
        actor = facts.fleet.actors[actor_id]
        compute = actor.compute
        for session in compute.waiting:
            if session in facts.moving:
                compute.put_off(session, now + facts.rules.start_wait)
        for session in compute.end_lent(now):
            facts.note(facts.leases[session])
        self.serve([actor])
        lent_until = compute.lent_until()
        retry_after = facts.rules.retry_after if lent_until is None else lent_until - now
        for session in compute.refuse(now):
            epoch = self._epoch_at(session, actor)
            facts.emit(ev.BookAnswered(session, epoch, booked=False, retry_after=retry_after))
            facts.told.session(Kind.COMPUTE_REFUSED, facts.leases[session])
            facts.note(facts.leases[session])
        facts.compute_changed(actor, compute.next_expiry())

    def serve(self, touched: list[ActorRecord]) -> None:
        """Grants what waits on the actors that were touched."""
        for actor in touched:
            if not actor.compute.anybody_waits():
                continue
            granted = actor.compute.grant(actor.qualities)
            for session in granted:
                self._grant(actor, session, self._epoch_at(session, actor))
                self._facts.note(self._facts.leases[session])
            if granted:
                self._facts.compute_changed(actor)

    def move_starved(self, now: float) -> None:
        """Moves sessions that wait for compute to actors that have got room."""
        facts = self._facts
        for actor_id in list(facts.starved):
            for session in facts.fleet.actors[actor_id].compute.waiting:
                self._move(facts.leases[session], now)

    def _move(self, lease: Lease, now: float) -> bool:
        return self._moves.can_begin(lease) and self._moves.begin_anywhere(lease, now)

    def _book_degraded(self, actor: ActorRecord, session: SessionId) -> Quality:
        """Books in a lower quality for the first, and only, one that waits."""
        granted = actor.compute.grant(actor.qualities)
        return actor.compute.quality(session) if granted else NO_COMPUTE

    def _grant(self, actor: ActorRecord, session: SessionId, epoch: Epoch) -> None:
        lease = self._facts.leases[session]
        quality, before = actor.compute.quality(session), lease.quality
        if lease.actor == actor.actor:
            lease.quality = quality
        self._facts.told.booked(lease, quality or FULL, before or FULL)
        self._facts.emit(ev.BookAnswered(session, epoch, booked=True, quality=quality or FULL))

    def _at(self, session: SessionId, epoch: Epoch) -> ActorRecord | None:
        """Returns the actor that a session has under an epoch: its own, or its target."""
        lease = self._facts.leases.get(session)
        if lease is None:
            return None
        if lease.actor is not None and lease.epoch == epoch:
            return self._facts.fleet.actors[lease.actor]
        if lease.target is not None and lease.target_epoch == epoch:
            return self._facts.fleet.actors[lease.target]
        return None

    def _epoch_at(self, session: SessionId, actor: ActorRecord) -> Epoch:
        lease = self._facts.leases[session]
        return lease.epoch if lease.actor == actor.actor else lease.target_epoch
