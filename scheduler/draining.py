"""Who watches the drains of actors, and what the crew is told of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from scheduler.core import pool_events as ev
from scheduler.core.errors import RequestError
from scheduler.core.ids import ActorId
from scheduler.links import Crew, DrainWatch


class Draining:
    """The drains of a pool, beside what the pool itself knows of them.

    Args:
        tell: Tells the pool what happened.
    """

    def __init__(self, tell: Callable[[ev.Event], None]) -> None:
        self._tell = tell
        self.crew: Crew | None = None
        """Who makes and ends actors."""
        self._watches: dict[ActorId, set[DrainWatch]] = {}
        self._emptying: set[ActorId] = set()
        """Actors of which the crew knows that they are being drained."""
        self._shed: set[ActorId] = set()
        """Actors that are drained because the crew wants fewer, and for nothing else."""

    async def watch(self, actor: ActorId, grace: float | None) -> AsyncIterator[ev.DrainProgress]:
        """Drains an actor; see `SchedulerService.drain`."""
        watch = DrainWatch()
        watches = self._watches.setdefault(actor, set())
        watches.add(watch)
        try:
            self._tell(ev.DrainAsked(actor, grace))
            self._take_from_crew(actor)
            async for progress in watch:
                yield progress
        finally:
            watches.discard(watch)
            if not watches and self._watches.get(actor) is watches:
                del self._watches[actor]

    def shed(self, actor: ActorId) -> None:
        """Drains an actor that is one too many; one that is unknown is none."""
        self._shed.add(actor)
        if not self._begin(actor):
            self._shed.discard(actor)

    def keep(self, actor: ActorId) -> None:
        """Lets an actor that was shed take sessions again, unless somebody else has asked for
        its drain, too.
        """
        if actor in self._shed:
            self._tell(ev.DrainCancelled(actor))
            self._shed.discard(actor)

    def leave(self, actor: ActorId, grace: float | None) -> bool:
        """Drains an actor that nobody watches; tells whether there is such an actor."""
        self._take_from_crew(actor)
        return self._begin(actor, grace)

    def progressed(self, effect: ev.DrainProgress) -> None:
        """A drain has come further."""
        over = effect.cancelled or effect.lost or effect.remaining == 0
        for watch in self._watches.get(effect.actor, ()):
            watch.tell(effect, over=over)
        if effect.cancelled:
            self._kept(effect.actor)
        elif effect.remaining:
            self._tell_crew(effect.actor)

    def over(self, actor: ActorId) -> None:
        """The drain of an actor is over, whatever became of it."""
        self._emptying.discard(actor)
        self._shed.discard(actor)
        for watch in self._watches.pop(actor, ()):
            watch.end()

    def close(self) -> None:
        """Ends all who watch."""
        for watches in self._watches.values():
            for watch in watches:
                watch.end()

    def _begin(self, actor: ActorId, grace: float | None = None) -> bool:
        try:
            self._tell(ev.DrainAsked(actor, grace))
        except RequestError:
            return False
        return True

    def _take_from_crew(self, actor: ActorId) -> None:
        """The drain of an actor is asked for by others than the crew: it no longer ends it."""
        if actor in self._shed:
            self._shed.discard(actor)
            self._tell_crew(actor)

    def _tell_crew(self, actor: ActorId) -> None:
        if actor not in self._emptying and actor not in self._shed:
            self._emptying.add(actor)
            if self.crew is not None:
                self.crew.emptying(actor)

    def _kept(self, actor: ActorId) -> None:
        """An actor takes sessions again."""
        known = actor in self._emptying or actor in self._shed
        self._emptying.discard(actor)
        self._shed.discard(actor)
        if known and self.crew is not None:
            self.crew.kept(actor)
