"""What is done to a pool under a fleet that plays: a table of scenarios, and their driver."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final

import psutil

from sana_gateway import CallError, Client
from sana_gateway.v1 import pool_pb2
from sdk_adapters.harness.deeds import SCHEDULER
from tests.e2e.pool.fleet import Fleet
from tests.e2e.pool.outcome import Outcome
from tests.e2e.pool.victims import busiest, gone, healthy, pool_with, process_of, titled
from tests.stack import Stack


async def _no_gateway() -> None:
    raise LookupError("this service has no gateway of its own to kill")


@dataclass(frozen=True)
class Site:
    """A running pool."""

    stack: Stack
    """Of the scheduler and the actors."""
    client: Client
    revive: Callable[[], Awaitable[None]] = _no_gateway
    """Kills the gateway, and starts another one at its address."""

    async def actors(self) -> list[pool_pb2.Actor]:
        """Returns all actors."""
        return list((await self.client.describe_pool()).actors)

    async def victim(self) -> psutil.Process:
        """Returns the process of the busiest actor."""
        return process_of(self.stack, await busiest(self.client))

    def schedulers(self) -> list[psutil.Process]:
        """Returns the process of the scheduler."""
        return titled(self.stack, SCHEDULER)

    async def drain(self, actor_id: str) -> None:
        """Drains an actor to its end."""
        async for progress in self.client.drain_actor(actor_id):
            if progress.remaining == 0:
                return


async def kill(victims: Iterable[psutil.Process]) -> None:
    """Ends processes as `kill -9` does."""
    for each in victims:
        each.kill()
        await gone(each)


def _is_moving(pool: pool_pb2.DescribePoolResponse) -> bool:
    return any(each.state == pool_pb2.LEASE_STATE_MOVING for each in pool.sessions)


# -- deeds --------------------------------------------------------------------------------------


async def _kill_actor(site: Site) -> None:
    await kill([await site.victim()])


async def _stop_actor(site: Site) -> None:
    chosen = await busiest(site.client)
    victim = process_of(site.stack, chosen)
    victim.send_signal(signal.SIGSTOP)
    await pool_with(
        site.client, lambda pool: chosen.actor_id not in [each.actor_id for each in pool.actors]
    )
    # If it is still there it wakes as a ghost; whatever it says must reach nobody.
    with contextlib.suppress(psutil.NoSuchProcess):
        victim.send_signal(signal.SIGCONT)


async def _terminate_actor(site: Site) -> None:
    victim = await site.victim()
    victim.terminate()
    await gone(victim)


async def _drain_actor(site: Site) -> None:
    await site.drain((await busiest(site.client)).actor_id)


async def _roll(site: Site) -> None:
    actors = await site.actors()
    for each in actors:
        await site.drain(each.actor_id)
        await pool_with(site.client, healthy(len(actors)))


async def _kill_scheduler(site: Site) -> None:
    await kill(site.schedulers())


async def _kill_target(site: Site) -> None:
    chosen = await busiest(site.client)
    others = [each for each in await site.actors() if each.actor_id != chosen.actor_id]
    victims = [process_of(site.stack, each) for each in others]
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(site.drain(chosen.actor_id))
        await pool_with(site.client, _is_moving)
        await kill(victims)


async def _kill_scheduler_amid(site: Site) -> None:
    chosen = await busiest(site.client)

    async def drain() -> None:
        # The scheduler takes the call along, and the actor may have gone before the next.
        with contextlib.suppress(CallError):
            await site.drain(chosen.actor_id)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(drain())
        await pool_with(site.client, _is_moving)
        await kill(site.schedulers())
    await pool_with(site.client, lambda pool: bool(pool.actors))
    await drain()


async def _kill_gateway(site: Site) -> None:
    await site.revive()


# -- the table ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scenario:
    """What is done, to whom, and what viewers may notice of it."""

    about: str
    deed: Callable[[Site], Awaitable[None]]
    strays: int = 0
    """Frames that may be missing or come again, for each session and time."""


SCENARIOS: Final = {
    "kill_actor": Scenario("kill -9 of the busiest actor", _kill_actor),
    "stop_actor": Scenario("SIGSTOP of the busiest actor: it hangs", _stop_actor),
    "drain_actor": Scenario("the busiest actor is drained", _drain_actor),
    "terminate_actor": Scenario("SIGTERM of the busiest actor: it drains itself", _terminate_actor),
    "roll": Scenario("every actor is drained, one after the other, as at an update", _roll),
    "kill_scheduler": Scenario("kill -9 of the scheduler", _kill_scheduler),
    "kill_target": Scenario("kill -9 of the actors to which a drain moves sessions", _kill_target),
    "kill_scheduler_amid": Scenario("kill -9 of the scheduler amid a drain", _kill_scheduler_amid),
    # What is on its way to a client when its gateway dies is lost, or comes again: a frame.
    "kill_gateway": Scenario("kill -9 of the gateway; another one comes", _kill_gateway, strays=1),
}
"""By name. In none of them is a session lost, or a picture not what its packet says."""


async def play(name: str, site: Site, fleet: Fleet, times: int = 1) -> Outcome:
    """Plays a scenario, so many times in a row; waits each time until all is as before."""
    scenario = SCENARIOS[name]
    actors = len(await site.actors())
    outcome = Outcome(name, len(fleet.members), times, scenario.strays)
    for _ in range(times):
        fleet.watch_gaps()
        await scenario.deed(site)
        outcome.back_s.append(max(await fleet.all_after(time.monotonic())))
        await pool_with(site.client, healthy(actors))
        await fleet.all_after(time.monotonic())
        outcome.gaps_s.append(fleet.longest_gap_s)
    outcome.settle(fleet)
    return outcome
