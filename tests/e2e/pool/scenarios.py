"""What dies, and what the viewers see of it. Each returns what it measured."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from sana_gateway import Client
from tests.e2e.pool.fleet import Fleet
from tests.e2e.pool.victims import SCHEDULER, busiest, gone, healthy, pool_with, process_of, titled
from tests.stack import Stack


@dataclass
class Outcome:
    """What a scenario did to a fleet. Times in seconds."""

    scenario: str
    sessions: int
    times: int
    lost: list[str] = field(default_factory=list)
    """Why sessions ended."""
    missing: int = 0
    """Frames that never came."""
    repeated: int = 0
    """Frames that came again."""
    mismatched: int = 0
    """Decoded pictures that are not what their packet said."""
    decoded: int = 0
    gaps_s: list[float] = field(default_factory=list)
    """The longest gap of any viewer, for each time."""
    continuity: dict[str, int] = field(default_factory=dict)
    """How sessions went on, by kind."""
    late: int = 0
    """Frames more than 100 ms late."""

    @property
    def worst_gap_s(self) -> float:
        """The longest gap of all."""
        return max(self.gaps_s, default=0.0)

    def as_json(self) -> dict[str, Any]:
        """Returns it with the numbers that are quoted."""
        return {**asdict(self), "worst_gap_s": round(self.worst_gap_s, 3)}


async def _settle(outcome: Outcome, fleet: Fleet) -> Outcome:
    reports = fleet.reports()
    outcome.lost = fleet.lost
    outcome.missing = sum(each.missing for each in reports)
    outcome.repeated = sum(each.repeated for each in reports)
    outcome.late = sum(each.late for each in reports)
    outcome.mismatched = sum(each.mismatched for each in fleet.members)
    outcome.decoded = sum(each.decoded for each in fleet.members)
    for member in fleet.members:
        for moved in member.moved:
            kind = type(moved).DESCRIPTOR.fields_by_name["continuity"].enum_type
            name = kind.values_by_number[moved.continuity].name.removeprefix("CONTINUITY_")
            outcome.continuity[name] = outcome.continuity.get(name, 0) + 1
    outcome.gaps_s = [round(gap, 3) for gap in outcome.gaps_s]
    return outcome


async def _each_time(
    outcome: Outcome, fleet: Fleet, deed: Callable[[], Awaitable[None]], rest: Callable[[], Any]
) -> Outcome:
    """Does a deed again and again; waits each time until all stream, and for `rest`."""
    for _ in range(outcome.times):
        fleet.watch_gaps()
        await deed()
        await fleet.all_after(time.monotonic())
        await rest()
        await fleet.all_after(time.monotonic())
        outcome.gaps_s.append(fleet.longest_gap_s)
    return await _settle(outcome, fleet)


async def kill_actor(stack: Stack, client: Client, fleet: Fleet, times: int) -> Outcome:
    """`kill -9` of the busiest actor, so many times in a row."""
    pool = await client.describe_pool()
    actors = len(pool.actors)

    async def deed() -> None:
        victim = process_of(stack, await busiest(client))
        victim.kill()
        await gone(victim)

    outcome = Outcome("kill_actor", len(fleet.members), times)
    return await _each_time(outcome, fleet, deed, lambda: pool_with(client, healthy(actors)))


async def stop_actor(stack: Stack, client: Client, fleet: Fleet, times: int) -> Outcome:
    """SIGSTOP of the busiest actor: it hangs, and must not speak if it ever wakes."""
    pool = await client.describe_pool()
    actors = len(pool.actors)

    async def deed() -> None:
        chosen = await busiest(client)
        victim = process_of(stack, chosen)
        victim.send_signal(signal.SIGSTOP)
        await pool_with(
            client, lambda pool: chosen.actor_id not in [each.actor_id for each in pool.actors]
        )
        # If it is still there it wakes as a ghost; whatever it says must reach nobody.
        if victim.is_running():
            victim.send_signal(signal.SIGCONT)

    outcome = Outcome("stop_actor", len(fleet.members), times)
    return await _each_time(outcome, fleet, deed, lambda: pool_with(client, healthy(actors)))


async def drain_actor(stack: Stack, client: Client, fleet: Fleet, times: int) -> Outcome:
    """Drains the busiest actor: nobody misses a frame."""
    del stack
    pool = await client.describe_pool()
    actors = len(pool.actors)

    async def deed() -> None:
        chosen = await busiest(client)
        async for progress in client.drain_actor(chosen.actor_id):
            if progress.remaining == 0:
                break

    outcome = Outcome("drain_actor", len(fleet.members), times)
    return await _each_time(outcome, fleet, deed, lambda: pool_with(client, healthy(actors)))


async def kill_scheduler(stack: Stack, client: Client, fleet: Fleet, times: int) -> Outcome:
    """`kill -9` of the scheduler: nobody notices."""
    pool = await client.describe_pool()
    actors = len(pool.actors)

    async def deed() -> None:
        for victim in titled(stack, SCHEDULER):
            victim.kill()
            await gone(victim)

    outcome = Outcome("kill_scheduler", len(fleet.members), times)
    return await _each_time(outcome, fleet, deed, lambda: pool_with(client, healthy(actors)))


async def kill_gateway(
    stack: Stack, client: Client, fleet: Fleet, times: int, revive: Callable[[], Awaitable[None]]
) -> Outcome:
    """`kill -9` of the gateway; `revive` starts another one at the same address."""
    del stack

    async def nothing() -> None:
        await client.describe_pool()

    outcome = Outcome("kill_gateway", len(fleet.members), times)
    return await _each_time(outcome, fleet, revive, nothing)


async def undisturbed(fleet: Fleet, seconds: float) -> float:
    """Returns the longest gap of a while in which nothing is done: the floor of all others."""
    fleet.watch_gaps()
    await asyncio.sleep(seconds)
    return fleet.longest_gap_s
