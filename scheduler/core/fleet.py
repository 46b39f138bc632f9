"""The actors, by the names they answer to, in the order of the placement policy.

Whoever changes what an actor holds says so by `touch`; the order is mended when it is next
asked for. So finding a place costs the same among ten actors as among a thousand.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from scheduler.core.errors import InvariantError
from scheduler.core.ids import ActorId, SessionId
from scheduler.core.ledgers import EncodeLedger
from scheduler.core.placement import PlacementPolicy, Rank, RankedPolicy
from scheduler.core.pool_events import ActorRegistered, PoolRules
from scheduler.core.quality import NO_COMPUTE, Quality
from scheduler.core.roster import ActorRecord

_Place = tuple[Rank, ActorId]
"""Where an actor stands in the order of the policy."""
_Names = tuple[str, ...]
"""All names of an actor. Those that have the same are a group."""


class _Standing(NamedTuple):
    """What the order knows of an actor."""

    capacity: int
    free: int
    """Places that may be taken; 0 when it takes no sessions."""
    share: float
    """Compute of one more session in the best quality that it may have, as a share of that
    of the full one; 0: none may compute."""
    place: _Place


class Tally(NamedTuple):
    """What actors have booked, together or one alone."""

    actors: int = 0
    booked: float = 0.0
    """Chunk-milliseconds per second."""
    ceiling: float = 0.0
    """What may be booked."""
    computing: float = 0.0
    """Bookings, as sessions of full quality."""
    waiting: int = 0
    """Sessions that wait for compute."""
    wanted: float = 0.0
    """Chunk-milliseconds per second that they wait for."""
    held: int = 0
    """Sessions that hold a place."""

    def plus(self, other: Tally, sign: int = 1) -> Tally:
        """Returns the sum, or with -1 the difference."""
        return Tally(
            self.actors + sign * other.actors,
            self.booked + sign * other.booked,
            self.ceiling + sign * other.ceiling,
            self.computing + sign * other.computing,
            self.waiting + sign * other.waiting,
            self.wanted + sign * other.wanted,
            self.held + sign * other.held,
        )


NOTHING = Tally()


@dataclass(slots=True, eq=False)
class Shelf:
    """The actors that serve a name, and all other names that the same actors serve."""

    standings: dict[ActorId, _Standing] = field(default_factory=dict)
    capacity: int = 0
    free: int = 0
    full: list[_Place] = field(default_factory=list)
    """Those with room for a session in full quality."""
    partial: list[_Place] = field(default_factory=list)
    """Those with room for one in a lower quality."""
    roomy: list[_Place] = field(default_factory=list)
    """Those with a free place in memory, whatever their compute."""

    def put(self, actor: ActorId, standing: _Standing | None) -> None:
        """Takes in where an actor stands now; None: it no longer serves the name."""
        earlier = self.standings.pop(actor, None)
        if earlier is not None:
            self.capacity -= earlier.capacity
            self.free -= earlier.free
            for places in self._lists(earlier):
                del places[bisect.bisect_left(places, earlier.place)]
        if standing is not None:
            self.standings[actor] = standing
            self.capacity += standing.capacity
            self.free += standing.free
            for places in self._lists(standing):
                bisect.insort(places, standing.place)

    def within_reserve(self, reserve: float) -> bool:
        """Tells whether only places are left that are kept for sessions that come back."""
        return self.free <= math.floor(self.capacity * reserve)

    def _lists(self, standing: _Standing) -> list[list[_Place]]:
        if standing.free <= 0:
            return []
        if standing.share >= 1.0:
            return [self.roomy, self.full]
        return [self.roomy, self.partial] if standing.share > 0 else [self.roomy]


class Fleet:
    """All actors.

    Args:
        rules: Ceilings and reserve.
        policy: Chooses among the actors with room.
    """

    def __init__(self, rules: PoolRules, policy: PlacementPolicy) -> None:
        self._rules = rules
        self._policy = policy
        self._ranked = policy if isinstance(policy, RankedPolicy) else None
        self.balances = self._ranked is not None and self._ranked.balances
        self.actors: dict[ActorId, ActorRecord] = {}
        self.names: dict[str, None] = dict.fromkeys(rules.models)
        """Names that may be asked for, with those of actors that are gone: they wait."""
        self.improved = False
        """Whether an actor got room since this was last set to false."""
        self._groups: dict[_Names, dict[ActorId, ActorRecord]] = {}
        self._shelves: dict[frozenset[_Names], Shelf] = {}
        self._by_name: dict[str, Shelf] = {}
        self._by_group: dict[_Names, list[Shelf]] = {}
        """The shelves on which a group stands."""
        self._hosts: dict[str, EncodeLedger] = {}
        self._touched: set[ActorId] = set()
        self._stale: set[ActorId] = set()
        """Actors whose standing is not mended yet."""
        self._own: dict[str, dict[ActorId, ActorRecord]] = {}
        self._last: dict[str, ActorRecord] = {}
        """The actor of an own model that was taken in last; it may be gone."""
        self._tallies: dict[str, Tally] = {}
        self._counted: dict[ActorId, tuple[str, Tally]] = {}
        """What each actor has in the tally of its own model."""
        self._uncounted: set[ActorId] = set()
        """Actors whose part in the tallies is not up to date."""
        self._overloaded: dict[ActorId, ActorRecord] = {}
        self._crowded: dict[ActorId, ActorRecord] = {}
        """Actors with room and with sessions of their own that wait for it."""

    def add(self, event: ActorRegistered) -> ActorRecord:
        """Takes in an actor that registers, for the first time or again."""
        known = self.actors.get(event.actor)
        if known is not None:
            self._unshelve(known)
            self._disown(known)
        host = self._host(event)
        actor = known or ActorRecord.of(event, self._rules, host)
        actor.renew(event)
        host.join(event.actor, event.encode_capacity_ms)
        self.actors[event.actor] = actor
        self.names.update(dict.fromkeys(event.models))
        self._own.setdefault(actor.own_model, {})[actor.actor] = actor
        self._last[actor.own_model] = actor
        self._shelve(actor)
        self.touch(actor)
        self.improved = True
        return actor

    def remove(self, actor: ActorRecord) -> None:
        """Forgets an actor."""
        self._unshelve(actor)
        self._touched.discard(actor.actor)
        self._stale.discard(actor.actor)
        self._uncounted.discard(actor.actor)
        self._crowded.pop(actor.actor, None)
        self._overloaded.pop(actor.actor, None)
        self._disown(actor)
        del self.actors[actor.actor]
        host = actor.compute.encode
        if host is not None:
            host.leave(actor.actor)
            if not host.actors:
                self._hosts.pop(actor.host, None)
        self.improved = True

    @property
    def is_touched(self) -> bool:
        """Whether what an actor holds has changed and nobody has looked at it."""
        return bool(self._touched or self._stale)

    def touch(self, actor: ActorRecord) -> None:
        """Notes that what an actor holds has changed."""
        self._touched.add(actor.actor)
        self._stale.add(actor.actor)
        host = actor.compute.encode
        if host is not None and host.ceiling > 0:
            # The others of its host have another standing too, and their sessions may go on.
            self._touched.update(host.actors)
            self._stale.update(host.actors)

    def take_touched(self) -> list[ActorRecord]:
        """Returns the actors that were touched since the last time, in order of their ids."""
        if not self._touched:
            return []
        touched, self._touched = self._touched, set()
        return [self.actors[actor] for actor in sorted(touched)]

    def mend(self) -> None:
        """Brings the order up to date."""
        if self._stale:
            stale, self._stale = self._stale, set()
            for actor in stale:
                self._mend(self.actors[actor])

    def shelf(self, model: str) -> Shelf:
        """Returns the actors that serve a name, in their present order."""
        self.mend()
        return self._by_name.get(model) or _EMPTY

    def crowded(self, model: str) -> list[ActorRecord]:
        """Returns the actors of a name with room that sessions of their own wait for."""
        self.mend()
        serving = self.serving(model)
        return [actor for key, actor in sorted(self._crowded.items()) if key in serving]

    def serving(self, model: str) -> Collection[ActorId]:
        """Returns the ids of the actors that serve a name."""
        shelf = self._by_name.get(model)
        return shelf.standings.keys() if shelf else ()

    @property
    def own_models(self) -> Mapping[str, Mapping[ActorId, ActorRecord]]:
        """Actors by the first of their names, which is their own."""
        return self._own

    def typical(self, model: str) -> ActorRecord | None:
        """Returns an actor as one of an own model is, or was; None when none was ever seen."""
        return next(iter(self._own.get(model, {}).values()), None) or self._last.get(model)

    def is_too_slow(self, model: str) -> bool:
        """Tells whether there are actors that serve a name and none of them keeps up with a
        single session.
        """
        serving = self.serving(model)
        records = (self.actors[actor] for actor in serving)
        return bool(serving) and not any(each.compute.keeps_up(each.qualities) for each in records)

    def tally(self, model: str) -> Tally:
        """Returns what the actors of an own model have booked together."""
        self._count_all()
        return self._tallies.get(model, NOTHING)

    @property
    def overloaded(self) -> list[ActorRecord]:
        """Actors whose sessions need more than may be booked."""
        self._count_all()
        return list(self._overloaded.values())

    def choose(
        self,
        shelf: Shelf,
        places: list[_Place],
        avoid: Collection[ActorId] = (),
        near_host: str = "",
    ) -> ActorRecord | None:
        """Returns the actor of the placement policy.

        Args:
            shelf: Those that serve the model.
            places: Which of its lists.
            avoid: Actors that are not to be taken.
            near_host: Host whose actors are preferred; empty: none.

        Returns:
            The actor; None when there is none, or all are to be avoided.

        Raises:
            InvariantError: The policy named an actor that is not one of the candidates.
        """
        if not places:
            return None
        if near_host in self._hosts:
            near = [
                standing.place
                for actor in self._hosts[near_host].actors
                if (standing := shelf.standings.get(actor)) and _contains(places, standing.place)
            ]
            chosen = self._choose(sorted(near), avoid)
            if chosen is not None:
                return chosen
        return self._choose(places, avoid)

    def choose_beside(
        self, shelf: Shelf, actor: ActorRecord, session: SessionId
    ) -> tuple[ActorRecord, Quality] | None:
        """Returns another actor on the host of the one that a session computes at, and the
        quality in which it can do so there; None when there is none.

        The order of the actors is that for sessions which are new to a host. This one encodes
        there already, so that all encoders being booked is nothing to it.
        """
        host = actor.compute.encode
        if host is None or not host.booked_for(session):
            return None
        beside: dict[Quality, list[_Place]] = {}
        worth: dict[Quality, float] = {NO_COMPUTE: 0.0}
        for key in host.actors:
            standing = shelf.standings.get(key)
            if key != actor.actor and standing is not None and standing.free:
                other = self.actors[key]
                quality = other.compute.room(other.qualities, session)
                worth[quality] = other.compute.worth(quality)
                beside.setdefault(quality, []).append(standing.place)
        best = max(worth, key=worth.__getitem__)
        found = self._choose(sorted(beside[best]), ()) if best else None
        return None if found is None else (found, best)

    def _choose(self, places: list[_Place], avoid: Collection[ActorId]) -> ActorRecord | None:
        if self._ranked is not None:
            found = next((actor for _, actor in places if actor not in avoid), None)
            return self.actors[found] if found is not None else None
        candidates = sorted(actor for _, actor in places if actor not in avoid)
        return self._chosen(candidates) if candidates else None

    def _chosen(self, candidates: list[ActorId]) -> ActorRecord:
        named = self._policy.choose([self.actors[actor].load() for actor in candidates])
        if named not in candidates:
            raise InvariantError("the placement policy chose none of the candidates")
        return self.actors[named]

    def on_host(self, host: str) -> list[ActorRecord]:
        """Returns the actors of a host."""
        known = self._hosts.get(host)
        return [self.actors[key] for key in known.actors] if known is not None else []

    def _host(self, event: ActorRegistered) -> EncodeLedger:
        # An actor that names no host shares none.
        key = event.host or f"actor {event.actor}"
        return self._hosts.setdefault(key, EncodeLedger(self._rules.encode_ceiling))

    def _mend(self, actor: ActorRecord) -> None:
        self._uncounted.add(actor.actor)
        standing, compute = self._standing(actor), actor.compute
        if standing.free and compute.anybody_waits() and compute.fitting(actor.qualities):
            self.improved = self.improved or actor.actor not in self._crowded
            self._crowded[actor.actor] = actor
        else:
            self._crowded.pop(actor.actor, None)
        for shelf in self._by_group[actor.models]:
            earlier = shelf.standings[actor.actor]
            if earlier == standing:
                continue
            if standing.free > earlier.free or standing.share > earlier.share:
                self.improved = True
            shelf.put(actor.actor, standing)

    def _count_all(self) -> None:
        self.mend()
        uncounted, self._uncounted = self._uncounted, set()
        for actor in uncounted:
            self._count(self.actors[actor])

    def _count(self, actor: ActorRecord) -> None:
        """Brings the tally of an actor's model up to date."""
        compute = actor.compute
        waiting, booked = compute.waiting_count, compute.booked
        counted = Tally(
            1,
            booked,
            compute.ceiling,
            compute.sessions,
            waiting,
            waiting * compute.cost,
            len(actor.resident.sessions),
        )
        model = actor.own_model
        _, earlier = self._counted.get(actor.actor, (model, NOTHING))
        if counted == earlier:
            return
        self._counted[actor.actor] = (model, counted)
        together = self._tallies.get(model, NOTHING)
        self._tallies[model] = together.plus(earlier, -1).plus(counted)
        if booked > compute.ceiling and compute.computing > 1 and actor.takes:
            self._overloaded[actor.actor] = actor
        else:
            self._overloaded.pop(actor.actor, None)

    def _disown(self, actor: ActorRecord) -> None:
        """Takes an actor out of the sums of its own model."""
        model = actor.own_model
        own = self._own[model]
        del own[actor.actor]
        _, counted = self._counted.pop(actor.actor, (model, NOTHING))
        self._tallies[model] = self._tallies.get(model, NOTHING).plus(counted, -1)
        if not own:
            # Nothing is left: nor are rounding errors.
            del self._own[model], self._tallies[model]

    def _standing(self, actor: ActorRecord) -> _Standing:
        load = actor.load()
        free = max(0, load.resident_slots - load.sessions) if actor.takes else 0
        share = actor.compute.worth(actor.compute.room(actor.qualities)) if free else 0.0
        rank = self._ranked.rank(load) if self._ranked is not None else ()
        return _Standing(load.resident_slots, free, share, (rank, actor.actor))

    def _shelve(self, actor: ActorRecord) -> None:
        """Adds an actor to those that serve its names."""
        group = self._groups.get(actor.models)
        if group is None:
            self._groups[actor.models] = {actor.actor: actor}
            self._rearrange()
            return
        group[actor.actor] = actor
        for shelf in self._by_group[actor.models]:
            shelf.put(actor.actor, self._standing(actor))

    def _unshelve(self, actor: ActorRecord) -> None:
        group = self._groups[actor.models]
        del group[actor.actor]
        if not group:
            del self._groups[actor.models]
            self._rearrange()
            return
        for shelf in self._by_group[actor.models]:
            shelf.put(actor.actor, None)

    def _rearrange(self) -> None:
        """Settles which groups serve which name, after one has come or gone."""
        named: dict[str, list[_Names]] = {}
        for group in self._groups:
            for name in group:
                named.setdefault(name, []).append(group)
        serving = {
            # The others only stand in, while nobody has it as their own.
            name: frozenset([group for group in groups if group[0] == name] or groups)
            for name, groups in named.items()
        }
        shelves = self._shelves
        self._shelves = {key: shelves.get(key) or self._filled(key) for key in serving.values()}
        self._by_name = {name: self._shelves[key] for name, key in serving.items()}
        self._by_group = {
            group: [shelf for key, shelf in self._shelves.items() if group in key]
            for group in self._groups
        }

    def _filled(self, groups: frozenset[_Names]) -> Shelf:
        shelf = Shelf()
        for group in groups:
            for actor in self._groups[group].values():
                shelf.put(actor.actor, self._standing(actor))
        return shelf


_EMPTY = Shelf()


def _contains(places: list[_Place], place: _Place) -> bool:
    at = bisect.bisect_left(places, place)
    return at < len(places) and places[at] == place
