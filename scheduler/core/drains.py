"""Actors that are to be emptied: their sessions leave without missing a frame.

A few at a time move to other actors. Those for which there is no room stay where they are
and are told so, until there is room; shortly before the end of the grace, if there is one,
the last ones are parked and wait first in line. Sessions without a client are parked as they
always are. None is ended.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scheduler.core import pool_events as ev
from scheduler.core.errors import BadArgumentError
from scheduler.core.facts import Due, Facts
from scheduler.core.happenings import Kind
from scheduler.core.ids import ActorId
from scheduler.core.lease import Lease, LeaseState, Step
from scheduler.core.moves import Moves
from scheduler.core.parking import Parking
from scheduler.core.roster import ActorRecord


@dataclass(slots=True)
class _Drain:
    """An actor that is being emptied."""

    until: float = math.inf
    """When its process ends come what may."""
    asked: bool = False
    """Somebody asked for it; else the actor itself said that its process is to end."""
    told: ev.DrainProgress | None = None
    retired: bool = False


class Drains:
    """Empties actors.

    Args:
        facts: The pool's.
        moves: Takes sessions elsewhere.
        parking: Keeps those for which there is no room.
    """

    def __init__(self, facts: Facts, moves: Moves, parking: Parking) -> None:
        self._facts = facts
        self._moves = moves
        self._parking = parking
        self._drains: dict[ActorId, _Drain] = {}

    def ask(self, event: ev.DrainAsked, now: float) -> None:
        """An actor is to be emptied. Asked again, the earlier end counts.

        Raises:
            BadArgumentError: There is no such actor.
        """
        actor = self._facts.fleet.actors.get(event.actor)
        if actor is None:
            raise BadArgumentError("there is no such actor")
        self.begin(actor, math.inf if event.grace is None else now + event.grace)
        drain = self._drains[actor.actor]
        drain.asked, drain.told = True, None
        self._tell_actor(actor, drain, now)

    def reconcile(self, actor: ActorRecord, told: ev.ToldToDrain | None, now: float) -> None:
        """Has an actor that presents itself again go by what the scheduler knows of its drain.

        Args:
            actor: Which.
            told: What it was told last.
            now: The time.
        """
        drain = self._drains.get(actor.actor)
        if drain is not None and drain.asked:
            self._tell_actor(actor, drain, now)
        elif told is not None:
            self._facts.emit(ev.TellDrain(actor.actor, None))

    def resume(self, actor: ActorRecord, told: ev.ToldToDrain, now: float) -> None:
        """Goes on with a drain that a scheduler before this one began."""
        self.begin(actor, math.inf if told.ends_in is None else now + told.ends_in)
        self._drains[actor.actor].asked = True

    def begin(self, actor: ActorRecord, until: float) -> None:
        """Lets an actor be emptied by a time; infinity: when there is room. With the last one
        of a host goes what its memory keeps.
        """
        begins = actor.actor not in self._drains
        drain = self._drains.setdefault(actor.actor, _Drain())
        actor.draining = True
        if begins:
            self._facts.told.actor(Kind.ACTOR_DRAINING, actor.actor, actor.own_model)
        if begins and self._facts.is_leaving(actor):
            self._parking.evacuate(actor.host)
        self._facts.fleet.touch(actor)
        if until < drain.until:
            drain.until = until
            last_call = until - self._facts.rules.drain_last_call
            self._facts.deadlines.set((Due.DRAIN, actor.actor), last_call)

    def cancel(self, event: ev.DrainCancelled, _: float) -> None:
        """An actor is to take sessions again. Moves under way go on."""
        actor = self._facts.fleet.actors.get(event.actor)
        drain = self._drains.pop(event.actor, None)
        if actor is None or drain is None:
            return
        actor.draining = False
        self._facts.told.actor(Kind.ACTOR_KEPT, actor.actor, actor.own_model)
        if drain.asked:
            self._facts.emit(ev.TellDrain(actor.actor, None))
        self._facts.deadlines.clear((Due.DRAIN, actor.actor))
        self._facts.fleet.touch(actor)
        for session in actor.resident.sessions:
            lease = self._facts.leases[session]
            if lease.state is LeaseState.DRAINING:
                lease.step(Step.CONFIRM)
                lease.pressed = False
                self._tell_room(lease, awaits=False)
                self._facts.note(lease)
        self._facts.emit(
            ev.DrainProgress(actor.actor, actor.resident.taken, without_room=0, cancelled=True)
        )

    def lost(self, actor: ActorId) -> bool:
        """An actor is gone, its sessions are taken care of; tells whether it was to go."""
        drain = self._drains.pop(actor, None)
        self._facts.deadlines.clear((Due.DRAIN, actor))
        if drain is not None and not drain.retired:
            self._facts.emit(ev.DrainProgress(actor, 0, 0, lost=True))
        return drain is not None and drain.retired

    def last_call(self, actor_id: ActorId, now: float) -> None:
        """The grace is nearly over."""
        actor = self._facts.fleet.actors.get(actor_id)
        if actor is not None:
            self._facts.fleet.touch(actor)
            self._press(actor, now)

    def review(self, touched: list[ActorRecord], now: float, *, room: bool) -> None:
        """Goes on with the drains of actors that were touched; with all when there is room
        that was not there before.
        """
        if not self._drains:
            return
        if room:
            going = [self._facts.fleet.actors[actor] for actor in self._drains]
        else:
            going = [actor for actor in touched if actor.actor in self._drains]
        for actor in going:
            self._go_on(actor, self._drains[actor.actor], now)

    def _go_on(self, actor: ActorRecord, drain: _Drain, now: float) -> None:
        leases = [self._facts.leases[session] for session in actor.resident.sessions]
        leaving = 0
        for lease in leases:
            if lease.target == actor.actor:
                self._moves.undo(lease, now)
            elif lease.state is LeaseState.ACTIVE:
                lease.step(Step.DRAIN)
                self._facts.note(lease)
            leaving += lease.state is LeaseState.MOVING
        for lease in leases:
            if lease.state is not LeaseState.DRAINING:
                continue
            if leaving < self._facts.rules.drain_concurrency:
                leaving += self._move(lease, now)
        if now >= drain.until - self._facts.rules.drain_last_call:
            self._press(actor, now)
        self._tell_progress(actor, drain)

    def _move(self, lease: Lease, now: float) -> bool:
        if not self._moves.can_begin(lease):
            return False
        moves = self._moves.begin_anywhere(lease, now)
        if not moves:
            self._tell_room(lease, awaits=True)
        return moves

    def _press(self, actor: ActorRecord, now: float) -> None:
        """Parks what has not left."""
        for session in list(actor.resident.sessions):
            lease = self._facts.leases[session]
            if lease.state is LeaseState.DRAINING and not (lease.parking or lease.pressed):
                self._parking.order(lease, now, pressed=True)

    def _tell_actor(self, actor: ActorRecord, drain: _Drain, now: float) -> None:
        ends_in = None if drain.until == math.inf else max(0.0, drain.until - now)
        self._facts.emit(ev.TellDrain(actor.actor, ev.ToldToDrain(ends_in)))

    def _tell_room(self, lease: Lease, *, awaits: bool) -> None:
        if lease.awaits_room != awaits and lease.actor is not None:
            lease.awaits_room = awaits
            self._facts.emit(ev.AwaitsRoom(lease.actor, lease.session, lease.epoch, awaits))
            if awaits:
                self._facts.told.session(Kind.SESSION_AWAITS_ROOM, lease)

    def _tell_progress(self, actor: ActorRecord, drain: _Drain) -> None:
        leases = [self._facts.leases[session] for session in actor.resident.sessions]
        without_room = sum(lease.awaits_room for lease in leases)
        progress = ev.DrainProgress(actor.actor, actor.resident.taken, without_room)
        if progress != drain.told:
            drain.told = progress
            self._facts.emit(progress)
        if actor.resident.taken == 0 and not drain.retired:
            drain.retired = True
            self._facts.told.actor(Kind.ACTOR_RETIRED, actor.actor, actor.own_model)
            self._facts.emit(ev.Retire(actor.actor))
