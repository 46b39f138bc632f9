"""Keeps as many actors running as there is room for, and replaces those that end.

An actor is good once it has registered with the scheduler; what it does until then, or
how it ends, is its backend's affair (`scheduler.backends.launcher`). Every place for an
actor has one task that launches, watches, ends and launches again, with a pause that
grows while launches fail. A place has a model, which the pool may change.

While an actor is being drained and the backend has room for one more, its successor is
launched before it goes. Where the cluster can grow, the goal follows the demand; an actor
too many is drained before it ends, so that nobody loses a frame for it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import structlog

from scheduler.backends.launcher import ActorLauncher, Found, Room
from scheduler.core.ids import ActorId
from scheduler.scaling import Scaler, ScalingRules

_HandleT = TypeVar("_HandleT")
_log = structlog.get_logger()


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

    def actors_wanted(self) -> int:
        """Returns how many actors the present demand needs."""

    def shed(self) -> None:
        """Drains one actor: there is one too many."""

    def leave(self, actor: ActorId, grace: float | None = None) -> None:
        """Drains an actor whose host is to go, in so many seconds if that is known."""


@dataclass(slots=True, eq=False)
class _Member(Generic[_HandleT]):
    """A running actor."""

    actor: ActorId
    handle: _HandleT
    enrolled: asyncio.Event = field(default_factory=asyncio.Event)
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    retired: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True, eq=False)
class _Place(Generic[_HandleT]):
    """Room for one actor."""

    model: str
    member: _Member[_HandleT] | None = None


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
        self._scaler = Scaler(self._rules.scaling) if self._rules.scaling else None
        self._group: asyncio.TaskGroup | None = None
        self._places: dict[_Place[_HandleT], None] = {}
        self._known: set[ActorId] = set()
        """Actors that are enrolled: one may be before it was found."""
        self._launching: set[ActorId] = set()
        self._emptying: set[ActorId] = set()
        """Actors that are being drained."""
        self._surged: set[ActorId] = set()
        """Of these, those whose successor was launched already."""
        self._leaving: set[ActorId] = set()
        """Actors whose host is to go, and of which the driver was told."""
        self._room = Room(0)
        self._surveyed = False
        """Whether the room is known."""
        self._wanted = 0
        self._surplus_since: float | None = None
        """Since when there is an actor too many."""
        self._wish: int | None = None

    # What the driver says

    def enrolled(self, actor: ActorId) -> None:
        """An actor has registered."""
        self._known.add(actor)
        member = self._member(actor)
        if member is not None:
            member.enrolled.set()

    def replace(self, actor: ActorId) -> None:
        """An actor is lost: its process is ended and another one made."""
        self._known.discard(actor)
        member = self._member(actor)
        if member is not None:
            member.lost.set()

    def emptying(self, actor: ActorId) -> None:
        """An actor is being drained: its successor is launched, if there is room for both."""
        place = self._place(actor)
        if place is None or self._group is None or actor in self._emptying:
            return
        self._emptying.add(actor)
        # One that is drained because there is one too many has no successor.
        if len(self._surged) < self._room.surge and len(self._places) <= self._target:
            self._surged.add(actor)
            self._open(_Place(place.model))

    def kept(self, actor: ActorId) -> None:
        """The drain of an actor was cancelled: one is too many if its successor is there."""
        self._emptying.discard(actor)
        if actor in self._surged:
            self._surged.remove(actor)
            self._driver.shed()

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
            place.model = model
        self.retire(actor)

    # What it does

    async def run(self) -> None:
        """Supervises until cancelled. Actors run on; `stop_actors` ends them."""
        found = await self._adopt()
        async with asyncio.TaskGroup() as group:
            self._group = group
            for each in found:
                self._open(_Place(each.model, self._made(each.actor, each.handle)))
            while True:
                await self._survey()
                await self._take_strangers()
                while len(self._places) < self._target:
                    self._open(_Place(self._next_model()))
                self._shed_surplus()
                await asyncio.sleep(self._rules.survey_every)

    async def stop_actors(self) -> None:
        """Ends all actors. Only after `run` was cancelled."""
        grace = self._rules.stop_grace
        places = list(self._places)
        await asyncio.gather(*(self._end(place, grace=grace) for place in places))

    @property
    def _target(self) -> int:
        """Places that there should be."""
        return self._wanted + len(self._surged)

    def _place(self, actor: ActorId) -> _Place[_HandleT] | None:
        return next((p for p in self._places if p.member and p.member.actor == actor), None)

    def _member(self, actor: ActorId) -> _Member[_HandleT] | None:
        place = self._place(actor)
        return None if place is None else place.member

    def _open(self, place: _Place[_HandleT]) -> None:
        assert self._group is not None  # noqa: S101 - only while it runs
        self._places[place] = None
        self._group.create_task(self._keep(place))

    def _next_model(self) -> str:
        """Returns the first model of which fewer run than were wished for, or the default."""
        running = Counter(place.model for place in self._places)
        models, wishes = self._launcher.models, self._rules.wishes
        short = (model for model in models if running[model] < wishes.get(model, 0))
        return next(short, models[0])

    def _shed_surplus(self) -> None:
        """Drains an actor where demand or room has shrunk; the next one when that is done."""
        if self._emptying or not 0 < self._target < len(self._places):
            self._surplus_since = None
            return
        now = asyncio.get_running_loop().time()
        if self._surplus_since is None:
            self._surplus_since = now
        if self._scaler is not None or now - self._surplus_since >= self._rules.surplus_after:
            self._driver.shed()

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
            self._room = await self._launcher.room()
            leaving = await self._launcher.leaving()
            await self._set_goal()
            self._surveyed = True
        except Exception as error:
            _log.warning("the room for actors is unknown", error=type(error).__name__)
            return
        for actor in leaving.keys() - self._leaving:
            self._driver.leave(actor, leaving[actor])
        self._leaving = set(leaving)

    async def _take_strangers(self) -> None:
        """Takes over actors that serve and were given up: their host was cut off and is back.

        One that there is no place for any more is ended.
        """
        ours = {p.member.actor for p in self._places if p.member} | self._launching
        strangers = self._known - ours
        if not strangers:
            return
        try:
            found = await self._launcher.adopt()
        except Exception as error:
            _log.warning("running actors cannot be found", error=type(error).__name__)
            return
        for each in found:
            if each.actor not in strangers:
                continue
            place = _Place(each.model, self._made(each.actor, each.handle))
            if len(self._places) < self._target:
                _log.info("actor is back", actor_id=each.actor)
                self._open(place)
            else:
                await self._end(place)

    async def _set_goal(self) -> None:
        if self._scaler is None:
            self._wanted = self._room.actors
            return
        now = asyncio.get_running_loop().time()
        goal = self._scaler.goal(self._driver.actors_wanted(), now)
        self._wanted = min(goal, self._room.actors)
        if goal != self._wish:
            await self._launcher.wish(goal)
            self._wish = goal

    async def _keep(self, place: _Place[_HandleT]) -> None:
        """Keeps a place filled, beginning with the actor that is in it already."""
        rules, clock = self._rules, asyncio.get_running_loop().time
        patience = rules.enroll_timeout if place.member is None else rules.adopt_timeout
        pause = rules.first_pause
        while True:
            born = clock()
            if place.member is None:
                await self._launch(place)
            retired = place.member is not None and await self._watch(place.member, patience)
            await self._end(place, grace=rules.stop_grace if retired else 0.0)
            if self._surveyed and len(self._places) > self._target:
                del self._places[place]
                return
            if retired or clock() - born >= rules.settled_after:
                pause = rules.first_pause
            if not retired:
                await asyncio.sleep(pause)
                pause = min(2 * pause, rules.longest_pause)
            patience = rules.enroll_timeout

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
        place.member = self._made(actor, handle)

    def _made(self, actor: ActorId, handle: _HandleT) -> _Member[_HandleT]:
        member = _Member(actor, handle)
        if actor in self._known:
            member.enrolled.set()
        return member

    async def _watch(self, member: _Member[_HandleT], patience: float) -> bool:
        """Returns once an actor is retired, lost, has ended, or did not register in time.

        Returns:
            Whether it is retired.
        """
        ended = asyncio.create_task(self._watch_end(member))
        lost = asyncio.create_task(member.lost.wait())
        retired = asyncio.create_task(member.retired.wait())
        watched = {ended, lost, retired}
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
        for told in (self._known, self._emptying, self._surged, self._leaving):
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
