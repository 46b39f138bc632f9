"""What is done to a service under load: a table of deeds, and how each is done.

Killing takes processes of this machine that are ours: a stack of one's own, or the service of
a test. Draining is asked for over the wire, and takes an operator's rights.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from sana_gateway import CallError, Client, GatewayError
from sana_gateway.v1 import pool_pb2
from sdk_adapters.harness import processes

SCHEDULER: Final = "ray::SchedulerShell"
"""How the title of the scheduler's process begins."""
ACTOR: Final = "ray::RayShellHost"
"""And that of an actor."""
WORKER: Final = "gateway.front_door.worker"
"""What a media worker runs."""
GONE_S: Final = 30.0
_LOOK_S: Final = 0.1


class DeedError(Exception):
    """It could not be done."""


class Deed(StrEnum):
    """What is done."""

    KILL_ACTOR = "kill-actor"
    HANG_ACTOR = "hang-actor"
    DRAIN_ACTOR = "drain-actor"
    KILL_SCHEDULER = "kill-scheduler"
    KILL_GATEWAY = "kill-gateway"
    KILL_WORKER = "kill-worker"


class Running(Protocol):
    """One role of a service: a process, and all that it started."""

    def members(self) -> list[int]:
        """Returns all its processes that live."""


class Ours(Protocol):
    """A service whose processes are ours."""

    @property
    def head(self) -> Running:
        """Scheduler and actors."""

    @property
    def gateways(self) -> Sequence[Running]:
        """Before them."""

    async def revive(self, gateway: int) -> None:
        """Kills a gateway and starts another one at its address."""


@dataclass(frozen=True, slots=True)
class Site:
    """A running service, as far as we may touch it."""

    client: Client
    stack: Ours | None = None
    """None: it is not ours."""

    async def pool(self) -> pool_pb2.DescribePoolResponse:
        """Returns the pool.

        Raises:
            GatewayError: It is not told to us, or the service does not answer.
        """
        return await self.client.describe_pool()

    async def busiest(self) -> pool_pb2.Actor:
        """Returns the actor with the most sessions.

        Raises:
            DeedError: There is none.
        """
        actors = [each for each in (await self.pool()).actors if each.healthy and not each.draining]
        if not actors:
            raise DeedError("no actor serves")
        return max(actors, key=lambda actor: (actor.sessions, actor.actor_id))

    async def healthy(self) -> int:
        """Returns how many actors serve; 0 while nobody can say."""
        try:
            pool = await self.pool()
        except GatewayError:
            return 0
        return sum(each.healthy and not each.draining for each in pool.actors)

    async def _actors(self) -> list[str]:
        return [each.actor_id for each in (await self.pool()).actors]

    async def until_forgotten(self, actor_id: str) -> None:
        """Waits until an actor is none of the pool's any more.

        Raises:
            TimeoutError: It still is.
            GatewayError: The service does not answer.
        """
        async with asyncio.timeout(GONE_S):
            while actor_id in await self._actors():  # noqa: ASYNC110 - the pool calls nobody
                await asyncio.sleep(_LOOK_S)

    async def until_healthy(self, actors: int) -> None:
        """Waits until so many actors serve, for as long as it takes."""
        while await self.healthy() < actors:  # noqa: ASYNC110 - the pool does not call back
            await asyncio.sleep(_LOOK_S)

    @property
    def ours(self) -> Ours:
        """The service's processes.

        Raises:
            DeedError: The service is somebody else's.
        """
        if self.stack is None:
            raise DeedError("this service is not ours to kill")
        return self.stack


# -- the deeds: each returns what was done, for the timeline -------------------------------------


async def _kill_actor(site: Site) -> str:
    chosen = await site.busiest()
    pid = actor_process(site.ours.head.members(), chosen.address)
    await kill(pid)
    await site.until_forgotten(chosen.actor_id)
    return f"kill -9 of an actor with {chosen.sessions} sessions"


async def _hang_actor(site: Site) -> str:
    chosen = await site.busiest()
    pid = actor_process(site.ours.head.members(), chosen.address)
    processes.send(pid, signal.SIGSTOP)
    try:
        await site.until_forgotten(chosen.actor_id)
    finally:
        # If it is still there it wakes as a ghost; whatever it says must reach nobody.
        processes.send(pid, signal.SIGCONT)
    return f"an actor with {chosen.sessions} sessions hung (SIGSTOP)"


async def _drain_actor(site: Site) -> str:
    chosen = await site.busiest()
    # The scheduler may take the call along; the drain goes on.
    with suppress(CallError):
        async for progress in site.client.drain_actor(chosen.actor_id):
            if progress.remaining == 0:
                break
    return f"an actor with {chosen.sessions} sessions was drained"


async def _kill_scheduler(site: Site) -> str:
    pids = processes.titled(site.ours.head.members(), SCHEDULER)
    if not pids:
        raise DeedError("the scheduler has no process of its own")
    for pid in pids:
        await kill(pid)
    return "kill -9 of the scheduler"


async def _kill_gateway(site: Site) -> str:
    number = len(site.ours.gateways) - 1
    await site.ours.revive(number)
    others = f", {number} other goes on" if number else ""
    return f"kill -9 of a gateway; another one comes in its place{others}"


async def _kill_worker(site: Site) -> str:
    members = site.ours.gateways[0].members()
    workers = [pid for pid in members if WORKER in processes.command_of(pid)]
    if not workers:
        raise DeedError("the gateway has no media workers")
    await kill(workers[0])
    return f"kill -9 of one of {len(workers)} media workers"


# -- the table -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kind:
    """A line of the table."""

    about: str
    do: Callable[[Site], Awaitable[str]]
    kills: bool = True
    """Whether it takes processes that are ours."""
    lasts: bool = False
    """Whether it goes on for a while; else it is done in a moment."""


DEEDS: Final[Mapping[Deed, Kind]] = {
    Deed.KILL_ACTOR: Kind("kill -9 of the busiest actor", _kill_actor),
    Deed.KILL_SCHEDULER: Kind("kill -9 of the scheduler", _kill_scheduler),
    Deed.KILL_GATEWAY: Kind("kill -9 of a gateway; another one comes", _kill_gateway),
    Deed.DRAIN_ACTOR: Kind("the busiest actor is drained", _drain_actor, kills=False, lasts=True),
    Deed.HANG_ACTOR: Kind("SIGSTOP of the busiest actor", _hang_actor),
    Deed.KILL_WORKER: Kind("kill -9 of a media worker (--media-workers)", _kill_worker),
}


def actor_process(pids: list[int], address: str) -> int:
    """Returns the process that serves an actor's data plane.

    Args:
        pids: Of the service.
        address: As the pool tells it.

    Raises:
        DeedError: None of them does.
    """
    actors = processes.titled(pids, ACTOR)
    pid = processes.listening(actors, address.removeprefix("unix:"))
    if pid is None:
        raise DeedError("no process of the service is that actor")
    return pid


async def kill(pid: int) -> None:
    """Ends a process as `kill -9` does, and waits until it is gone.

    Raises:
        DeedError: It is not.
    """
    processes.send(pid, signal.SIGKILL)
    try:
        await processes.gone(pid, GONE_S)
    except TimeoutError:
        raise DeedError("a process did not end when it was killed") from None
