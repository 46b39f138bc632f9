"""Keeps as many actors running as there is room for, and replaces those that end.

An actor is good once it has registered with the scheduler; what it does until then, or
how it ends, is its backend's affair (`scheduler.backends.launcher`). Every place for an
actor has one task that launches, watches, ends and launches again, with a pause that
grows while launches fail. A place has a model, which the pool may change.

While an actor is being drained and the backend has room for one more, its successor is
launched before it goes. How many actors of each model there should be follows from the room
and the demand (`scheduler.scaling`). One too many is given up before it serves, or drained
before it ends, so that nobody loses a frame for it; it is taken back when it is not one too
many any more.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import structlog

from scheduler.backends.launcher import ActorLauncher, Found, Room
from scheduler.core.ids import ActorId
from scheduler.scaling import Scaler, ScalingRules, Stage, Standing, fit, share_out

_HandleT = TypeVar("_HandleT")
_log = structlog.get_logger()

_ANY = 1_000_000
"""Actors that no host has."""
_UNKNOWN: Mapping[ActorId, tuple[int, int]] = {}
_LOOKS = 5
"""Surveys at which an actor is looked for that has enrolled and was not launched here: it may
be one that was given up, or one that came by itself."""


@dataclass(frozen=True, slots=True)
class SupervisionRules:
    """Patience with actors. Times in seconds."""

    enroll_timeout: float = 600.0
    """How long a launched actor may take to register: weights are loaded meanwhile."""
    adopt_timeout: float = 10.0
    """How long an actor that was found running may take to register."""
    first_pause: float = 0.5
    """Pause before an actor is replaced, or a backend that fails is asked again."""
    longest_pause: float = 30.0
    """What the pause grows to, by doubling, while actors die young or the backend fails."""
    settled_after: float = 30.0
    """Age at which an actor counts as a success."""
    stop_grace: float = 5.0
    """How long an actor gets to stop when it is retired or the service ends."""
    survey_every: float = 2.0
    """How often the backend is asked whether there is room for more."""
    surplus_after: float = 10.0
    """How long there must have been one actor too many before it is drained, where the room
    for it has gone: a backend that miscounts for a moment costs nobody a move."""
    scaling: ScalingRules | None = None
    """How the cluster follows the demand; None: all room there is, is used."""
    wishes: Mapping[str, int] = field(default_factory=dict)
    """How many actors of each model there should be to begin with; the rest are of the
    launcher's first model."""


class Driver(Protocol):
    """The scheduler's driver, as supervision knows it."""

    def actor_died(self, actor: ActorId) -> None:
        """The process of an actor is gone."""

    def wanted(self) -> Mapping[str, int]:
        """Returns how many actors of each model the present demand needs."""

    def use(self) -> Mapping[ActorId, tuple[int, int]]:
        """Returns of each actor how many sessions compute on it, and how many it has."""

    def shed(self, actor: ActorId) -> None:
        """Drains an actor that is one too many."""

    def keep(self, actor: ActorId) -> None:
        """Ends that drain, unless somebody else has asked for it too."""

    def leave(self, actor: ActorId, grace: float | None = None) -> bool:
        """Drains an actor whose host is to go, in so many seconds if that is known; tells
        whether there is such an actor.
        """


@dataclass(slots=True, eq=False)
class _Member(Generic[_HandleT]):
    """A running actor."""

    actor: ActorId
    handle: _HandleT
    launched: bool = True
    """It was launched here; else it was found running."""
    enrolled: asyncio.Event = field(default_factory=asyncio.Event)
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    retired: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True, eq=False)
class _Place(Generic[_HandleT]):
    """Room for one actor."""

    model: str
    member: _Member[_HandleT] | None = None
    given_up: asyncio.Event = field(default_factory=asyncio.Event)
    """Nobody needs it any more."""


class Supervisor(Generic[_HandleT]):
    """The crew of a scheduler.

    Args:
        launcher: Makes and ends processes.
        driver: Told of every actor whose process has ended, and asked for the demand.
        rules: Patience, and what to run.
    """

    def __init__(
        self,
        launcher: ActorLauncher[_HandleT],
        driver: Driver,
        rules: SupervisionRules | None = None,
    ) -> None:
        self._launcher = launcher
        self._driver = driver
        self._rules = rules or SupervisionRules()
        self._scaler = (
            Scaler(self._rules.scaling, launcher.models[0]) if self._rules.scaling else None
        )
        self._group: asyncio.TaskGroup | None = None
        self._places: dict[_Place[_HandleT], None] = {}
        self._known: set[ActorId] = set()
        """Actors that are enrolled: one may be before it was found."""
        self._launching: set[ActorId] = set()
        self._emptying: set[ActorId] = set()
        """Actors that are being drained for good: others take their places."""
        self._shed: set[ActorId] = set()
        """Actors that are being drained because they are too many."""
        self._kept: set[ActorId] = set()
        """Actors whose drain was called off by somebody else: others are shed first."""
        self._leaving: set[ActorId] = set()
        """Actors whose host is to go: there is no room for them any more."""
        self._told: set[ActorId] = set()
        """Of these, those that the driver has taken word of."""
        self._looked_for: Counter[ActorId] = Counter()
        self._room = Room(0)
        self._goals: dict[str, int] | None = None
        """How many actors of each model there should be; None until the room is known."""
        self._surplus_since: float | None = None
        """Since when there is an actor too many."""
        self._wishes: dict[str, int] = {}
        """How many of each model the demand needs, whatever room there is."""
        self._wish: int | None = None

    # What the driver says

    def enrolled(self, actor: ActorId) -> None:
        """An actor has registered."""
        self._known.add(actor)
        self._told.discard(actor)
        self._looked_for.pop(actor, None)
        member = self._member(actor)
        if member is not None:
            member.enrolled.set()

    def replace(self, actor: ActorId) -> None:
        """An actor is lost: its process is ended and another one made."""
        self._known.discard(actor)
        self._emptying.discard(actor)
        member = self._member(actor)
        if member is not None:
            member.lost.set()

    def emptying(self, actor: ActorId) -> None:
        """An actor is being drained for good: its successor may come before it goes."""
        self._shed.discard(actor)
        self._emptying.add(actor)

    def kept(self, actor: ActorId) -> None:
        """The drain of an actor was called off: one is too many if its successor is there."""
        self._emptying.discard(actor)
        self._shed.discard(actor)
        self._kept.add(actor)

    def retire(self, actor: ActorId) -> None:
        """An actor is drained: its process ends in order, and another one is made."""
        self._known.discard(actor)
        member = self._member(actor)
        if member is not None:
            member.retired.set()

    def repurpose(self, actor: ActorId, model: str) -> None:
        """An actor ends in order, and one of another model takes its place."""
        place = self._place(actor)
        if place is not None and model in self._launcher.models:
            if self._goals is not None:
                self._goals[place.model] = self._goals.get(place.model, 0) - 1
                self._goals[model] = self._goals.get(model, 0) + 1
            place.model = model
        self.retire(actor)

    # What it does

    async def run(self) -> None:
        """Supervises until cancelled. Actors run on; `stop_actors` ends them."""
        found = await self._adopt()
        async with asyncio.TaskGroup() as group:
            self._group = group
            for each in found:
                self._open(_Place(each.model, self._found(each)))
            if self._scaler is not None:
                now = asyncio.get_running_loop().time()
                self._scaler.begin(Counter(each.model for each in found), now)
            while True:
                await self._survey()
                await self._take_strangers()
                self._fit()
                await asyncio.sleep(self._rules.survey_every)

    async def stop_actors(self) -> None:
        """Ends all actors. Only after `run` was cancelled."""
        grace = self._rules.stop_grace
        places = list(self._places)
        await asyncio.gather(*(self._end(place, grace=grace) for place in places))

    def _place(self, actor: ActorId) -> _Place[_HandleT] | None:
        return next((p for p in self._places if p.member and p.member.actor == actor), None)

    def _member(self, actor: ActorId) -> _Member[_HandleT] | None:
        place = self._place(actor)
        return None if place is None else place.member

    def _open(self, place: _Place[_HandleT]) -> None:
        assert self._group is not None  # noqa: S101 - only while it runs
        self._places[place] = None
        self._group.create_task(self._keep(place))

    # How many there should be

    def _running(self, *without: set[ActorId]) -> Counter[str]:
        """Returns the places of each model, but for those of some actors: they are to be
        filled, though their actors may be about to end.
        """
        gone = self._leaving.union(*without)
        return Counter(
            place.model
            for place in self._places
            if not (place.given_up.is_set() or (place.member and place.member.actor in gone))
        )

    async def _set_goals(self) -> None:
        """Settles how many actors of each model there should be."""
        running, models = self._running(self._shed), self._launcher.models
        wanted = {model: n for model, n in self._driver.wanted().items() if model in models}
        if self._scaler is None:
            self._goals = self._use_all(running, wanted)
            return
        now = asyncio.get_running_loop().time()
        # What was wished for is on its way.
        self._wishes = self._scaler.goals(wanted, running | Counter(self._wishes), now)
        self._goals = share_out(self._room.actors, running, self._wishes)
        wish = sum(self._wishes.values())
        if wish != self._wish:
            await self._launcher.wish(wish)
            self._wish = wish

    def _use_all(self, running: Counter[str], wanted: Mapping[str, int]) -> dict[str, int]:
        """Returns goals that use the room there is: what is there stays or is taken back, then
        comes what there should be to begin with, what the demand lacks, and of the first model
        as many as there is room for.
        """
        models, room = self._launcher.models, self._room.actors
        goals = dict.fromkeys(models, 0) | dict(running)
        for needs in (running, self._running(), self._rules.wishes, wanted):
            more = {model: max(n, needs.get(model, 0)) for model, n in goals.items()}
            goals = share_out(room, goals, more)
        goals[models[0]] += max(0, room - sum(goals.values()))
        return goals

    def _standings(
        self, model: str, use: Mapping[ActorId, tuple[int, int]] = _UNKNOWN
    ) -> Iterator[Standing[_Place[_HandleT]]]:
        """Yields the places of a model whose actors are not about to end for good."""
        for place in self._places:
            member = place.member
            if place.model != model or place.given_up.is_set():
                continue
            if member is None:
                yield Standing(place, Stage.STARTING)
            elif not (member.retired.is_set() or self._is_going(member.actor)):
                kept = int(member.actor in self._kept)
                used = (kept, *use.get(member.actor, (0, 0)))
                yield Standing(place, self._stage(member), used)

    def _stage(self, member: _Member[_HandleT]) -> Stage:
        if not member.enrolled.is_set():
            return Stage.STARTING if member.launched else Stage.BOUND
        return Stage.SHED if member.actor in self._shed else Stage.SERVING

    def _is_going(self, actor: ActorId) -> bool:
        return actor in self._emptying or actor in self._leaving

    def _fit(self) -> None:
        """Makes of the actors as many as there should be."""
        if self._goals is None:
            return
        scaling, use = self._rules.scaling, self._driver.use()
        most_starting = scaling.start_at_once if scaling else _ANY
        models = dict.fromkeys((*self._goals, *(place.model for place in self._places)))
        changes = {
            model: fit(self._goals.get(model, 0), tuple(self._standings(model, use)), most_starting)
            for model in models
        }
        for model, each in changes.items():
            for place in each.keep:
                self._keep_on(place)
            for _ in range(min(each.start, self._free)):
                self._open(_Place(model))
        if not any(each.drop or each.shed for each in changes.values()):
            self._surplus_since = None
            self._kept.clear()
        elif self._is_believed(wait=scaling is None):
            for each in changes.values():
                for place in each.drop:
                    place.given_up.set()
                for place in each.shed:
                    self._let_go(place)

    @property
    def _free(self) -> int:
        """Actors that can be launched now. There is room beyond the usual while others are
        being drained.
        """
        occupied = sum(
            not (place.member and place.member.actor in self._leaving) for place in self._places
        )
        surge = self._room.surge if self._emptying else 0
        return self._room.actors + surge - occupied

    def _is_believed(self, *, wait: bool) -> bool:
        """Tells whether there is an actor too many for long enough; where the room for it has
        gone, a backend may have miscounted.
        """
        now = asyncio.get_running_loop().time()
        if self._surplus_since is None:
            self._surplus_since = now
        waited = now - self._surplus_since >= self._rules.surplus_after
        return self._room.actors > 0 and (waited or not wait)

    def _let_go(self, place: _Place[_HandleT]) -> None:
        if place.member is not None:
            self._shed.add(place.member.actor)
            self._driver.shed(place.member.actor)

    def _keep_on(self, place: _Place[_HandleT]) -> None:
        if place.member is not None:
            self._shed.discard(place.member.actor)
            self._driver.keep(place.member.actor)

    def _is_too_many(self, place: _Place[_HandleT]) -> bool:
        """Tells whether there are as many actors of a model as there should be without the one
        of a place, which has ended.
        """
        if self._goals is None:
            return False
        others = [each for each in self._standings(place.model) if each.key is not place]
        there = sum(each.stage is not Stage.SHED for each in others)
        return there >= self._goals.get(place.model, 0)

    # What there is

    async def _adopt(self) -> Sequence[Found[_HandleT]]:
        """Finds the actors that run. None is launched before: it might be one too many."""
        pause = self._rules.first_pause
        while True:
            try:
                return await self._launcher.adopt()
            except Exception as error:
                _log.warning("running actors cannot be found", error=type(error).__name__)
            await asyncio.sleep(pause)
            pause = min(2 * pause, self._rules.longest_pause)

    async def _survey(self) -> None:
        """Looks how much room there is, and what of it is about to go."""
        try:
            # In this order: a host that begins to go in between is in neither.
            leaving = await self._launcher.leaving()
            self._room, self._leaving = await self._launcher.room(), set(leaving)
            await self._set_goals()
        except Exception as error:
            _log.warning("the room for actors is unknown", error=type(error).__name__)
            return
        self._told &= leaving.keys()
        for actor in leaving.keys() - self._told:
            # One that has not registered yet hears of it when it has.
            if self._driver.leave(actor, leaving[actor]):
                self._told.add(actor)

    async def _take_strangers(self) -> None:
        """Takes over actors that serve and were given up: their host was cut off and is back.

        One that there is no place for any more is ended.
        """
        ours = {p.member.actor for p in self._places if p.member} | self._launching
        strangers = {actor for actor in self._known - ours if self._looked_for[actor] < _LOOKS}
        if not strangers:
            return
        self._looked_for.update(strangers)
        try:
            found = await self._launcher.adopt()
        except Exception as error:
            _log.warning("running actors cannot be found", error=type(error).__name__)
            return
        for each in found:
            if each.actor not in strangers:
                continue
            place = _Place(each.model, self._found(each))
            if self._free > 0:
                _log.info("actor is back", actor_id=each.actor)
                self._open(place)
            else:
                await self._end(place)

    async def _keep(self, place: _Place[_HandleT]) -> None:
        """Keeps a place filled, beginning with the actor that is in it already."""
        rules, clock = self._rules, asyncio.get_running_loop().time
        patience = rules.enroll_timeout if place.member is None else rules.adopt_timeout
        pause = rules.first_pause
        while not place.given_up.is_set():
            born = clock()
            if place.member is None:
                await self._launch(place)
            retired = place.member is not None and await self._watch(place, patience)
            await self._end(place, grace=rules.stop_grace if retired else 0.0)
            if self._is_too_many(place):
                break
            if retired or clock() - born >= rules.settled_after:
                pause = rules.first_pause
            if not retired:
                await _within(pause, place.given_up.wait())
                pause = min(2 * pause, rules.longest_pause)
            patience = rules.enroll_timeout
        del self._places[place]

    async def _launch(self, place: _Place[_HandleT]) -> None:
        actor = ActorId(secrets.token_hex(4))
        self._launching.add(actor)
        try:
            handle = await self._launcher.launch(actor, place.model)
        except Exception as error:
            _log.warning("an actor cannot be launched", error=type(error).__name__)
            return
        finally:
            self._launching.discard(actor)
        _log.info("actor launched", actor_id=actor, model=place.model)
        place.member = self._acquainted(_Member(actor, handle))

    def _found(self, found: Found[_HandleT]) -> _Member[_HandleT]:
        return self._acquainted(_Member(found.actor, found.handle, launched=False))

    def _acquainted(self, member: _Member[_HandleT]) -> _Member[_HandleT]:
        if member.actor in self._known:
            member.enrolled.set()
        return member

    async def _watch(self, place: _Place[_HandleT], patience: float) -> bool:
        """Returns once the actor of a place is retired, lost, has ended, did not register in
        time, or the place was given up.

        Returns:
            Whether it is retired.
        """
        member = place.member
        assert member is not None  # noqa: S101 - asked only of places with an actor
        ended = asyncio.create_task(self._watch_end(member))
        lost = asyncio.create_task(member.lost.wait())
        retired = asyncio.create_task(member.retired.wait())
        given_up = asyncio.create_task(place.given_up.wait())
        watched = {ended, lost, retired, given_up}
        try:
            late = not await _within(patience, member.enrolled.wait(), *watched)
            if late:
                _log.warning("actor did not register in time", actor_id=member.actor)
                return False
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            return member.retired.is_set()
        finally:
            for task in watched:
                task.cancel()

    async def _watch_end(self, member: _Member[_HandleT]) -> None:
        try:
            reason = await self._launcher.ended(member.handle)
        except Exception as error:
            reason = type(error).__name__
        if not member.retired.is_set():
            _log.warning("actor ended", actor_id=member.actor, reason=reason)
        self._driver.actor_died(member.actor)

    async def _end(self, place: _Place[_HandleT], *, grace: float = 0.0) -> None:
        member = place.member
        if member is None:
            return
        try:
            await self._launcher.kill(member.handle, grace=grace)
        except Exception as error:
            _log.warning(
                "an actor cannot be ended", actor_id=member.actor, error=type(error).__name__
            )
        place.member = None
        for told in (self._known, self._emptying, self._shed, self._kept, self._told):
            told.discard(member.actor)


async def _within(
    timeout: float,  # noqa: ASYNC109 - the caller goes on, nothing is cancelled but the wait
    first: Awaitable[object],
    *others: asyncio.Task[object] | asyncio.Task[None] | asyncio.Task[bool],
) -> bool:
    """Tells whether any of several things happens in time; only the first is then cancelled."""
    own = asyncio.ensure_future(first)
    try:
        done, _ = await asyncio.wait(
            {own, *others}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
        )
    finally:
        own.cancel()
    return bool(done)
