"""What is done to a pool under a fleet that plays: a table of scenarios, and their driver.

What `sana-gateway load chaos` does to a service is done here by its own deeds; the others need
more than one of these parts at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from sana_gateway import CallError, Client
from sana_gateway.v1 import pool_pb2
from sdk_adapters.harness import deeds, processes
from sdk_adapters.harness.deeds import DEEDS, Deed
from tests.e2e.pool.fleet import Fleet
from tests.e2e.pool.outcome import Outcome
from tests.e2e.pool.victims import busiest, healthy, pool_with
from tests.stack import Stack


async def _no_gateway() -> None:
    raise LookupError("this service has no gateway of its own to kill")


@dataclass(frozen=True)
class _Role:
    """One role of a service as the harness knows it."""

    stack: Stack

    def members(self) -> list[int]:
        return [each.pid for each in self.stack.members()]


@dataclass(frozen=True)
class _Ours:
    """A service of the tests as the harness knows it."""

    head: _Role
    gateways: Sequence[_Role]
    again: Callable[[], Awaitable[None]]

    async def revive(self, gateway: int) -> None:
        del gateway  # the scenarios kill the first
        await self.again()


@dataclass(frozen=True)
class Site:
    """A running pool."""

    stack: Stack
    """Of the scheduler and the actors."""
    client: Client
    revive: Callable[[], Awaitable[None]] = _no_gateway
    """Kills the gateway, and starts another one at its address."""

    async def do(self, deed: Deed) -> None:
        """Does what the load harness does to its own services."""
        head = _Role(self.stack)
        await DEEDS[deed].do(deeds.Site(self.client, _Ours(head, [head], self.revive)))

    async def actors(self) -> list[pool_pb2.Actor]:
        """Returns all actors."""
        return list((await self.client.describe_pool()).actors)

    def process_of(self, actor: pool_pb2.Actor) -> int:
        """Returns the process of an actor."""
        return deeds.actor_process(_Role(self.stack).members(), actor.address)

    async def victim(self) -> int:
        """Returns the process of the busiest actor."""
        return self.process_of(await busiest(self.client))

    def schedulers(self) -> list[int]:
        """Returns the process of the scheduler."""
        return processes.titled(_Role(self.stack).members(), deeds.SCHEDULER)

    async def drain(self, actor_id: str) -> None:
        """Drains an actor to its end."""
        async for progress in self.client.drain_actor(actor_id):
            if progress.remaining == 0:
                return


async def kill(victims: Iterable[int]) -> None:
    """Ends processes as `kill -9` does."""
    for each in victims:
        await deeds.kill(each)


def _is_moving(pool: pool_pb2.DescribePoolResponse) -> bool:
    return any(each.state == pool_pb2.LEASE_STATE_MOVING for each in pool.sessions)


# -- deeds --------------------------------------------------------------------------------------


def _as_in_chaos(deed: Deed) -> Callable[[Site], Awaitable[None]]:
    return lambda site: site.do(deed)


async def _terminate_actor(site: Site) -> None:
    victim = await site.victim()
    processes.send(victim, signal.SIGTERM)
    await processes.gone(victim, deeds.GONE_S)


async def _roll(site: Site) -> None:
    actors = await site.actors()
    for each in actors:
        await site.drain(each.actor_id)
        await pool_with(site.client, healthy(len(actors)))


async def _kill_target(site: Site) -> None:
    chosen = await busiest(site.client)
    others = [each for each in await site.actors() if each.actor_id != chosen.actor_id]
    victims = [site.process_of(each) for each in others]
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


# -- the table ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scenario:
    """What is done, to whom, and what viewers may notice of it."""

    about: str
    deed: Callable[[Site], Awaitable[None]]
    strays: int = 0
    """Frames that may be missing or come again, for each session and time."""


SCENARIOS: Final = {
    "kill_actor": Scenario("kill -9 of the busiest actor", _as_in_chaos(Deed.KILL_ACTOR)),
    "stop_actor": Scenario("SIGSTOP of the busiest actor: it hangs", _as_in_chaos(Deed.HANG_ACTOR)),
    "drain_actor": Scenario("the busiest actor is drained", _as_in_chaos(Deed.DRAIN_ACTOR)),
    "terminate_actor": Scenario("SIGTERM of the busiest actor: it drains itself", _terminate_actor),
    "roll": Scenario("every actor is drained, one after the other, as at an update", _roll),
    "kill_scheduler": Scenario("kill -9 of the scheduler", _as_in_chaos(Deed.KILL_SCHEDULER)),
    "kill_target": Scenario("kill -9 of the actors to which a drain moves sessions", _kill_target),
    "kill_scheduler_amid": Scenario("kill -9 of the scheduler amid a drain", _kill_scheduler_amid),
    # What is on its way to a client when its gateway dies is lost, or comes again: a frame.
    "kill_gateway": Scenario(
        "kill -9 of the gateway; another one comes", _as_in_chaos(Deed.KILL_GATEWAY), strays=1
    ),
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
