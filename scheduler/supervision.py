"""Keeps as many actors running as there is room for, and replaces those that are lost.

An actor is good once it has registered with the scheduler; what it does until then, or
how it ends, is its backend's affair (`scheduler.backends.launcher`). Every place for an
actor has one task that launches, watches, ends and launches again, with a pause that
grows while launches fail.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import structlog

from scheduler.backends.launcher import ActorLauncher
from scheduler.core.ids import ActorId

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
    """How long an actor gets to stop when the service ends."""
    survey_every: float = 2.0
    """How often the backend is asked whether there is room for more."""


@dataclass(slots=True, eq=False)
class _Member(Generic[_HandleT]):
    """A running actor."""

    actor: ActorId
    handle: _HandleT
    enrolled: asyncio.Event = field(default_factory=asyncio.Event)
    lost: asyncio.Event = field(default_factory=asyncio.Event)


class Supervisor(Generic[_HandleT]):
    """The crew of a scheduler.

    Args:
        launcher: Makes and ends processes.
        died: Told of every actor whose process has ended.
        rules: Patience.
    """

    def __init__(
        self,
        launcher: ActorLauncher[_HandleT],
        died: Callable[[ActorId], None],
        rules: SupervisionRules | None = None,
    ) -> None:
        self._launcher = launcher
        self._died = died
        self._rules = rules or SupervisionRules()
        self._members: dict[ActorId, _Member[_HandleT]] = {}
        self._known: set[ActorId] = set()
        """Actors that are enrolled: one may be before it was found."""
        self._places = 0
        self._wanted = 0

    def enrolled(self, actor: ActorId) -> None:
        """An actor has registered."""
        self._known.add(actor)
        member = self._members.get(actor)
        if member is not None:
            member.enrolled.set()

    def replace(self, actor: ActorId) -> None:
        """An actor is lost: its process is ended and another one made."""
        self._known.discard(actor)
        member = self._members.get(actor)
        if member is not None:
            member.lost.set()

    async def run(self) -> None:
        """Supervises until cancelled. Actors run on; `stop_actors` ends them."""
        found = await self._adopt()
        async with asyncio.TaskGroup() as group:
            for actor, handle in found:
                self._places += 1
                group.create_task(self._keep(self._member(actor, handle)))
            while True:
                self._wanted = await self._survey()
                while self._places < self._wanted:
                    self._places += 1
                    group.create_task(self._keep(None))
                await asyncio.sleep(self._rules.survey_every)

    async def stop_actors(self) -> None:
        """Ends all actors. Only after `run` was cancelled."""
        members = list(self._members.values())
        grace = self._rules.stop_grace
        await asyncio.gather(*(self._end(member, grace=grace) for member in members))

    async def _adopt(self) -> Sequence[tuple[ActorId, _HandleT]]:
        """Finds the actors that run. None is launched before: it might be one too many."""
        pause = self._rules.first_pause
        while True:
            try:
                return await self._launcher.adopt()
            except Exception as error:
                _log.warning("running actors cannot be found", error=type(error).__name__)
            await asyncio.sleep(pause)
            pause = min(2 * pause, self._rules.longest_pause)

    async def _survey(self) -> int:
        try:
            return await self._launcher.capacity()
        except Exception as error:
            _log.warning("the room for actors is unknown", error=type(error).__name__)
            return self._wanted

    async def _keep(self, member: _Member[_HandleT] | None) -> None:
        """Keeps one place for an actor filled, beginning with one that runs already."""
        clock = asyncio.get_running_loop().time
        patience = self._rules.enroll_timeout if member is None else self._rules.adopt_timeout
        pause = self._rules.first_pause
        while True:
            born = clock()
            member = member or await self._launch()
            if member is not None:
                await self._watch(member, patience)
                await self._end(member)
            if self._places > self._wanted > 0:
                self._places -= 1
                return
            settled = clock() - born >= self._rules.settled_after
            pause = self._rules.first_pause if settled else pause
            await asyncio.sleep(pause)
            pause = min(2 * pause, self._rules.longest_pause)
            member, patience = None, self._rules.enroll_timeout

    async def _launch(self) -> _Member[_HandleT] | None:
        actor = ActorId(secrets.token_hex(4))
        try:
            handle = await self._launcher.launch(actor)
        except Exception as error:
            _log.warning("an actor cannot be launched", error=type(error).__name__)
            return None
        _log.info("actor launched", actor_id=actor)
        return self._member(actor, handle)

    def _member(self, actor: ActorId, handle: _HandleT) -> _Member[_HandleT]:
        member = self._members[actor] = _Member(actor, handle)
        if actor in self._known:
            member.enrolled.set()
        return member

    async def _watch(self, member: _Member[_HandleT], patience: float) -> None:
        """Returns once an actor is lost, has ended, or did not register in time."""
        ended = asyncio.create_task(self._watch_end(member))
        lost = asyncio.create_task(member.lost.wait())
        try:
            late = not await _within(patience, member.enrolled.wait(), ended, lost)
            if late:
                _log.warning("actor did not register in time", actor_id=member.actor)
                return
            await asyncio.wait({ended, lost}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            lost.cancel()

    async def _watch_end(self, member: _Member[_HandleT]) -> None:
        try:
            reason = await self._launcher.ended(member.handle)
        except Exception as error:
            reason = type(error).__name__
        _log.warning("actor ended", actor_id=member.actor, reason=reason)
        self._died(member.actor)

    async def _end(self, member: _Member[_HandleT], *, grace: float = 0.0) -> None:
        try:
            await self._launcher.kill(member.handle, grace=grace)
        except Exception as error:
            _log.warning(
                "an actor cannot be ended", actor_id=member.actor, error=type(error).__name__
            )
        self._members.pop(member.actor, None)


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
