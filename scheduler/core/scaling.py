"""How loaded the pool is, and what follows: idle actors get another model, loaded ones are
relieved, and whoever adds and removes actors is told how many are wanted.

All of it is slow on purpose. A need must have lasted before anything is done about it, and
only one thing is done at a time, so that the pool does not swing.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterator

from scheduler.core import pool_events as ev
from scheduler.core.facts import Due, Facts
from scheduler.core.fleet import Tally
from scheduler.core.happenings import Kind
from scheduler.core.ids import SessionId
from scheduler.core.lease import Lease, LeaseState
from scheduler.core.moves import Moves
from scheduler.core.pool_view import Signals
from scheduler.core.quality import FULL
from scheduler.core.roster import ActorRecord

LOOK_EVERY = 1.0
"""Seconds between two looks, while there is something to see."""
_SPAN = 60
"""Seconds over which chunks that came late, and batches, are counted."""


class LastMinute:
    """How often something was so, in the last minute, and of how many."""

    def __init__(self) -> None:
        self._seconds: deque[tuple[int, int, int]] = deque()

    def count(self, part: int, whole: int, now: float) -> None:
        """Takes in some more."""
        second = int(now)
        if self._seconds and self._seconds[-1][0] == second:
            _, earlier_part, earlier_whole = self._seconds.pop()
            part, whole = part + earlier_part, whole + earlier_whole
        self._seconds.append((second, part, whole))
        self._drop_old(now)

    def ratio(self, now: float) -> float:
        """Returns part by whole; 0 when there was nothing."""
        self._drop_old(now)
        whole = sum(entry[2] for entry in self._seconds)
        return sum(entry[1] for entry in self._seconds) / whole if whole else 0.0

    def _drop_old(self, now: float) -> None:
        while self._seconds and self._seconds[0][0] <= now - _SPAN:
            self._seconds.popleft()


class Scaling:
    """Fits the actors to the demand.

    Args:
        facts: The pool's.
        moves: Relieves loaded actors.
    """

    def __init__(self, facts: Facts, moves: Moves) -> None:
        self._facts = facts
        self._rules = facts.rules
        self._moves = moves
        self._misses = LastMinute()
        """Chunks that came late, of all."""
        self._fill = LastMinute()
        """Windows, by calls of a model."""
        self._unmet_since: dict[str, float] = {}
        self._uneven_since: dict[str, float] = {}
        self._roomy_since: dict[SessionId, float] = {}
        """Degraded sessions for whose full quality there is room."""
        self._coming: dict[str, tuple[float, int]] = {}
        """Models that an actor was given to: until when it is awaited, and how many there
        were without it."""

    def beat(self, event: ev.ActorBeat, now: float) -> None:
        """Takes in how an actor keeps up."""
        if event.chunks:
            self._misses.count(event.late_chunks, event.chunks, now)
        if event.batches:
            self._fill.count(event.windows, event.batches, now)

    def wake(self, now: float) -> None:
        """Something has changed that is worth a look before long."""
        key = (Due.SCALING, "")
        if self._facts.fleet.actors and self._facts.deadlines.get(key) is None:
            self._facts.deadlines.set(key, now + LOOK_EVERY)

    def look(self, now: float) -> list[ActorRecord]:
        """Relieves a loaded actor, and returns those that are to be given another model."""
        given = self._give_away(now)
        if self._rules.rebalance:
            self._rebalance(now)
        if self._rules.degrade:
            self._hasten(now)
        if self._unmet_since or self._uneven_since or self._coming or self._roomy_since:
            self.wake(now)
        return given

    def signals(self, now: float) -> Signals:
        """Returns what an autoscaler goes by."""
        facts = self._facts
        wanted = self._wanted()
        oldest = facts.queue.oldest(facts.usage.left)
        return Signals(
            queue_age=0.0 if oldest is None else now - oldest,
            queued=len(facts.queue),
            predicted_utilisation=self._utilisation(),
            miss_rate=self._misses.ratio(now),
            batch_fill=self._fill.ratio(now),
            actors_wanted=sum(wanted.values()),
            wanted_by_model=wanted,
        )

    # Demand

    def _own_name(self, model: str) -> str:
        """Returns the own name of the actors that serve a name; the name when none does."""
        serving = self._facts.fleet.serving(model)
        first = next(iter(serving), None)
        return model if first is None else self._facts.fleet.actors[first].models[0]

    def _waiting(self) -> Counter[str]:
        """Returns how many sessions wait for room, by the actors' own models. Those that wait
        for a model which nobody serves or may serve are none.
        """
        facts, waiting = self._facts, Counter[str]()
        for model, count in facts.queue.demand(facts.usage.left).items():
            if model in facts.fleet.names:
                waiting[self._own_name(model)] += count
        return waiting

    def _utilisation(self) -> float:
        fleet, waiting = self._facts.fleet, self._waiting()
        booked = ceiling = 0.0
        for model, actors in fleet.own_models.items():
            tally = fleet.tally(model)
            typical = next(iter(actors.values()))
            booked += tally.booked + tally.wanted + waiting[model] * typical.compute.cost
            ceiling += tally.ceiling
        return booked / ceiling if ceiling else 0.0

    def _wanted(self) -> dict[str, int]:
        """Returns how many actors of each model hold all sessions, and the reserve. Of a model
        that was never seen one is enough to find out how many sessions it holds.
        """
        fleet, waiting = self._facts.fleet, self._waiting()
        wanted = {}
        for model in dict.fromkeys((*fleet.own_models, *waiting)):
            typical = fleet.typical(model)
            needed = 1
            if typical is not None:
                needed = self._needed(typical, fleet.tally(model), waiting[model])
            spares = self._spares(model) if model in fleet.own_models else 0
            wanted[model] = max(spares, needed)
        return wanted

    def _needed(self, typical: ActorRecord, tally: Tally, waiting: int) -> int:
        """Returns how many actors like a typical one hold all that is held and waits."""
        slots, compute = typical.resident.capacity, typical.compute
        at_once: float = max(1, math.floor(compute.ceiling / (compute.cost or 1.0)))
        if compute.encode is not None:
            at_once = min(at_once, compute.encode.sessions_per_actor(compute.encode_ms))
        computing = round(tally.computing + tally.waiting + waiting, 6)
        needed = max(computing / at_once, (tally.held + waiting) / slots)
        places = math.ceil(needed) * slots
        # The reserve is whole slots: none in a small pool.
        if math.floor(places * self._rules.resume_reserve) > 0:
            needed /= 1.0 - self._rules.resume_reserve
        return math.ceil(needed)

    def _spares(self, model: str) -> int:
        return self._rules.warm_spares.get(model, 1)

    # Models

    def _give_away(self, now: float) -> list[ActorRecord]:
        if self._rules.repurpose_after is None:
            return []
        models = self._facts.fleet.own_models
        waiting = self._waiting()
        self._unmet_since = {model: self._unmet_since.get(model, now) for model in waiting}
        self._coming = {
            model: (until, before)
            for model, (until, before) in self._coming.items()
            if now < until and len(models.get(model, ())) <= before
        }
        given: list[ActorRecord] = []
        for model, since in sorted(self._unmet_since.items()):
            if model in self._coming or now - since < self._rules.repurpose_after:
                continue
            actor = self._idle_actor(now - self._rules.repurpose_after, given)
            if actor is not None:
                until = now + self._rules.repurpose_timeout
                self._coming[model] = (until, len(models.get(model, ())))
                self._facts.emit(ev.Repurpose(actor.actor, model))
                self._facts.told.actor(Kind.ACTOR_REPURPOSED, actor.actor, model)
                given.append(actor)
        return given

    def _idle_actor(self, idle_before: float, given: list[ActorRecord]) -> ActorRecord | None:
        """Returns the actor that nobody has needed for the longest time, beyond the spares."""
        spare: list[tuple[float, str, ActorRecord]] = []
        for model, actors in self._facts.fleet.own_models.items():
            if model in self._unmet_since:
                continue
            idle = [
                (actor.idle_since, key, actor)
                for key, actor in actors.items()
                if actor.takes and actor.idle_since is not None and actor not in given
            ]
            if len(idle) > self._spares(model):
                spare += [entry for entry in idle if entry[0] <= idle_before]
        return min(spare)[2] if spare else None

    # Degraded sessions

    def _hasten(self, now: float) -> None:
        """Gives the full quality to a degraded session for which there has been room for a while,
        where it is or elsewhere. Those who wait for a place go first.
        """
        waiting = self._waiting()
        roomy: dict[SessionId, tuple[Lease, ActorRecord]] = {}
        for actor in self._facts.fleet.actors.values():
            for session in actor.compute.degraded if actor.takes else ():
                lease = self._facts.leases[session]
                settled = lease.state is LeaseState.ACTIVE and lease.actor == actor.actor
                if settled and actor.own_model not in waiting and self._has_room(lease, actor):
                    roomy[session] = (lease, actor)
        self._roomy_since = {
            session: since
            for session in roomy
            if now - (since := self._roomy_since.get(session, now)) < self._rules.full_quality_after
        }
        due = next((s for s in roomy if s not in self._roomy_since), None)
        if due is not None:
            self._run_in_full(*roomy[due], now)

    def _has_room(self, lease: Lease, actor: ActorRecord) -> bool:
        if actor.compute.room(session=lease.session):
            return True
        found = self._moves.find_target(lease) if self._moves.can_begin(lease) else None
        return found is not None and found[1] == FULL

    def _run_in_full(self, lease: Lease, actor: ActorRecord, now: float) -> None:
        facts = self._facts
        if not actor.compute.room(session=lease.session):
            found = self._moves.find_target(lease)
            assert found is not None  # noqa: S101 - there has just been one
            self._moves.begin(lease, *found, now)
            return
        actor.compute.hasten(lease.session)
        facts.told.paced(lease, FULL, lease.quality)
        lease.quality = FULL
        facts.emit(ev.Pace(actor.actor, lease.session, lease.epoch, FULL))
        facts.compute_changed(actor)

    # Balance

    def _rebalance(self, now: float) -> None:
        uneven = {}
        for model, pair in self._uneven_pairs():
            uneven[model] = self._uneven_since.get(model, now)
            lasted = now - uneven[model] >= self._rules.rebalance_after
            if lasted and not self._facts.moving and self._relieve(*pair, now):
                del uneven[model]
        self._uneven_since = uneven

    def _uneven_pairs(self) -> Iterator[tuple[str, tuple[ActorRecord, ActorRecord]]]:
        """Yields the most and the least loaded actor of each model where moving a session
        makes them more alike. Where the policy does not want them alike, only actors over
        their ceiling are relieved.
        """
        fleet = self._facts.fleet
        fleet.mend()
        if fleet.balances:
            models = list(fleet.own_models)
        else:
            models = sorted({actor.own_model for actor in fleet.overloaded})
        for model in models:
            loads = [
                (actor.booked_share, key, actor)
                for key, actor in fleet.own_models[model].items()
                if actor.takes
            ]
            if len(loads) > 1:
                loaded, spare = max(loads)[2], min(loads)[2]
                if self._is_uneven(loaded, spare):
                    yield model, (loaded, spare)

    def _is_uneven(self, loaded: ActorRecord, spare: ActorRecord) -> bool:
        high, low = loaded.booked_share, spare.booked_share
        cost = spare.compute.cost / spare.compute.ceiling
        if high - low <= self._rules.rebalance_gap or low + cost >= high:
            return False
        beside = spare.compute.encode is loaded.compute.encode
        return spare.resident.free > 0 and (beside or bool(spare.compute.room()))

    def _relieve(self, loaded: ActorRecord, spare: ActorRecord, now: float) -> bool:
        for session in loaded.resident.sessions:
            lease = self._facts.leases[session]
            if self._may_leave(lease, loaded) and spare.compute.room(session=session):
                self._moves.begin(lease, spare, FULL, now)
                return True
        return False

    def _may_leave(self, lease: Lease, actor: ActorRecord) -> bool:
        computing = actor.compute.is_computing(lease.session)
        return lease.actor == actor.actor and computing and self._moves.can_begin(lease)
