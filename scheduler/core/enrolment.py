"""Actors come, tell what they hold, are heard of, and are lost."""

from __future__ import annotations

import math

from scheduler.core import pool_events as ev
from scheduler.core.admission import Admission
from scheduler.core.drains import Drains
from scheduler.core.facts import SUPERSEDED, Due, Facts
from scheduler.core.happenings import Kind
from scheduler.core.ids import ActorId
from scheduler.core.lease import Lease, LeaseState
from scheduler.core.moves import Moves
from scheduler.core.parking import Parking
from scheduler.core.recovery import Recovery
from scheduler.core.roster import ActorRecord


class Enrolment:
    """Keeps the roster of actors.

    Args:
        facts: The pool's.
        admission: Asks the next actor for sessions that one has not taken.
        recovery: Takes care of sessions that were on an actor that is gone.
        moves: Undoes moves to such an actor.
        parking: Takes sessions as parked whose actor was told to.
        drains: Is told of actors that end.
    """

    def __init__(
        self,
        facts: Facts,
        admission: Admission,
        recovery: Recovery,
        moves: Moves,
        parking: Parking,
        drains: Drains,
    ) -> None:
        self._facts = facts
        self._admission = admission
        self._recovery = recovery
        self._moves = moves
        self._parking = parking
        self._drains = drains

    def register(self, event: ev.ActorRegistered, now: float) -> None:
        """An actor presents itself: what it holds is what it has."""
        facts = self._facts
        is_known = event.actor in facts.fleet.actors
        actor = facts.fleet.add(event)
        self._heard(actor, now)
        if event.draining:
            self._drains.begin(actor, math.inf)
        if is_known:
            self._drains.reconcile(actor, event.told_to_drain, now)
        elif event.told_to_drain is not None:
            self._drains.resume(actor, event.told_to_drain, now)
        if not actor.draining and not actor.resident.taken and actor.idle_since is None:
            actor.idle_since = now
        held = {entry.session: entry for entry in event.held}
        for session in [s for s in actor.resident.sessions if s not in held]:
            self._drop_unheld(facts.leases[session], actor, now)
        for session in [s for s in actor.resident.leaving if s not in held]:
            facts.end_tail(session)
        for entry in event.held:
            self._adopt(actor, entry, now)

    def beat(self, event: ev.ActorBeat, now: float) -> None:
        """An actor is alive."""
        actor = self._facts.fleet.actors.get(event.actor)
        if actor is None:
            return
        self._heard(actor, now)
        if actor.measure(event):
            self._facts.compute_changed(actor)
        if event.ends_in is not None:
            self._drains.begin(actor, now + event.ends_in)

    def unlink(self, event: ev.ActorUnlinked, _: float) -> None:
        """The stream to an actor broke."""
        actor = self._facts.fleet.actors.get(event.actor)
        if actor is not None:
            actor.linked = False
            self._facts.fleet.touch(actor)

    def excuse_silence(self, _: ev.Overslept, now: float) -> None:
        """Gives all actors time to be heard: what they said may not have been read yet."""
        for actor in self._facts.fleet.actors.values():
            self._heard(actor, now)

    def died(self, event: ev.ActorDied, now: float) -> None:
        """The process of an actor is gone."""
        self.lose(event.actor, now)

    def silent(self, actor_id: ActorId, now: float) -> None:
        """An actor has not been heard of: it gets nothing more, and in the end is lost."""
        rules, actor = self._facts.rules, self._facts.fleet.actors[actor_id]
        if actor.doubted:
            self.lose(actor_id, now)
            return
        actor.doubted = True
        self._facts.fleet.touch(actor)
        lost_at = now + rules.actor_timeout * (1 - rules.doubt_share)
        self._facts.deadlines.set((Due.SILENT, actor_id), lost_at)

    def lose(self, actor_id: ActorId, now: float) -> None:
        """An actor is gone: what it held is placed elsewhere, ahead of everything new."""
        facts = self._facts
        actor = facts.fleet.actors.get(actor_id)
        if actor is None:
            return
        actor.linked = False
        facts.fleet.touch(actor)
        for session in list(actor.resident.sessions):
            self._drop_unheld(facts.leases[session], actor, now)
        for session in list(actor.resident.leaving):
            facts.end_tail(session)
        self.forget(actor)
        if not self._drains.lost(actor_id):
            facts.emit(ev.Replace(actor_id))

    def forget(self, actor: ActorRecord) -> None:
        """Drops an actor that holds nothing."""
        facts = self._facts
        facts.fleet.remove(actor)
        facts.starved.pop(actor.actor, None)
        for due in (Due.SILENT, Due.LEDGER):
            facts.deadlines.clear((due, actor.actor))

    def _heard(self, actor: ActorRecord, now: float) -> None:
        rules = self._facts.rules
        silent_at = now + rules.actor_timeout * rules.doubt_share
        self._facts.deadlines.set((Due.SILENT, actor.actor), silent_at)
        if actor.doubted:
            actor.doubted = False
            self._facts.fleet.touch(actor)

    def _drop_unheld(self, lease: Lease, actor: ActorRecord, now: float) -> None:
        """An actor is gone, or came back, without a session that it had."""
        if lease.target == actor.actor:
            self._moves.undo(lease, now, tell_target=False)
        elif lease.state is LeaseState.ASSIGNED:
            # Nothing of it was there yet: it takes its turn again.
            self._admission.requeue(lease, now)
        elif lease.parking and actor.linked:
            self._parking.parked(lease, actor.host, now)
        else:
            self._recovery.lose(lease, admit_until=now + self._facts.rules.admit_timeout)

    def _adopt(self, actor: ActorRecord, held: ev.Held, now: float) -> None:
        """Takes over a session from the actor that holds it, unless it is over or elsewhere."""
        facts = self._facts
        facts.hear_epoch(held.epoch)
        lease = facts.leases.get(held.session)
        if actor.resident.leaving.get(held.session) == held.epoch:
            return
        reason = facts.ended.reason(held.session)
        goes_on = reason is None
        if reason is None and lease is not None and _is_newer(lease, actor, held):
            reason = SUPERSEDED
        if reason is not None:
            facts.emit(ev.Evict(actor.actor, held.session, held.epoch, reason, goes_on))
            return
        if lease is not None and (lease.target, lease.target_epoch) == (actor.actor, held.epoch):
            self._moves.answered(ev.AdmitAnswered(actor.actor, held.session, held.epoch), now)
            return
        if lease is None or lease.actor != actor.actor or lease.epoch != held.epoch:
            lease = self._take_over(actor, held, lease, now)
        elif lease.state is LeaseState.ASSIGNED:
            self._admission.confirm(lease, now)
        if held.awaits_room != lease.awaits_room:
            room = ev.AwaitsRoom(actor.actor, lease.session, lease.epoch, lease.awaits_room)
            facts.emit(room)
        self._settle_compute(lease, actor, held, now)

    def _take_over(
        self, actor: ActorRecord, held: ev.Held, asked: Lease | None, now: float
    ) -> Lease:
        """Makes a lease of what an actor holds; whoever `asked` for the session is told."""
        facts = self._facts
        waited = facts.dequeue(held.session) is not None
        if asked is not None:
            facts.evict(asked, SUPERSEDED)
            facts.vacate(asked)
        lease = Lease(
            session=held.session,
            model=held.model,
            principal=held.principal,
            gateway=asked.gateway if asked else facts.presence.any_gateway(held.session),
            submitted_at=asked.submitted_at if asked else now,
            state=LeaseState.ACTIVE,
            placed_at=now,
            quality=held.quality,
            awaits_room=held.awaits_room and actor.draining,
        )
        facts.add(lease)
        facts.occupy(lease, actor, held.epoch)
        facts.presence.watch(held.session, now)
        reason = "found at its actor"
        facts.told.session(Kind.SESSION_PLACED, lease, reason, quality=held.quality)
        if waited:
            facts.emit(ev.Placed(held.session))
        return lease

    def _settle_compute(self, lease: Lease, actor: ActorRecord, held: ev.Held, now: float) -> None:
        """Records whether a session computes, by the word of its actor."""
        if held.computing:
            quality = actor.compute.quality(held.session) or held.quality
            actor.compute.restore(held.session, quality)
        elif actor.compute.is_computing(held.session):
            actor.compute.release(held.session)
        else:
            self._admission.lend(lease, now)
        self._facts.compute_changed(actor)
        self._facts.note(lease)


def _is_newer(lease: Lease, actor: ActorRecord, held: ev.Held) -> bool:
    """Tells whether a lease voids what an actor holds of the same session."""
    if lease.actor is None:
        # What it was lost or parked with is void: gateways have left it.
        return lease.epoch >= held.epoch
    if actor.actor in (lease.actor, lease.target):
        newest = lease.target_epoch if lease.actor != actor.actor else lease.epoch
        return newest > held.epoch
    return lease.epoch >= held.epoch
