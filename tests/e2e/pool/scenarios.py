"""What dies, and what the viewers see of it. Each returns what it measured."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from sana_gateway import CallError, Client
from sana_gateway.v1 import pool_pb2
from tests.e2e.pool.fleet import Fleet
from tests.e2e.pool.victims import SCHEDULER, busiest, gone, healthy, pool_with, process_of, titled
from tests.stack import Stack

Scenario = Callable[[Stack, Client, Fleet, int], Awaitable["Outcome"]]


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
    back_s: list[float] = field(default_factory=list)
    """The longest wait of any viewer for a frame after the deed, for each time."""
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
    outcome.back_s = [round(back, 3) for back in outcome.back_s]
    return outcome


async def _each_time(
    outcome: Outcome, fleet: Fleet, deed: Callable[[], Awaitable[None]], rest: Callable[[], Any]
) -> Outcome:
    """Does a deed again and again; waits each time until all stream, and for `rest`."""
    for _ in range(outcome.times):
        fleet.watch_gaps()
        await deed()
        outcome.back_s.append(max(await fleet.all_after(time.monotonic())))
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
        await _drained(client, (await busiest(client)).actor_id)

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


async def roll(stack: Stack, client: Client, fleet: Fleet, times: int) -> Outcome:
    """Drains every actor, one after the other, as an update of all does."""
    del stack
    pool = await client.describe_pool()
    actors = len(pool.actors)

    async def deed() -> None:
        for actor in (await client.describe_pool()).actors:
            await _drained(client, actor.actor_id)
            await pool_with(client, healthy(actors))

    outcome = Outcome("roll", len(fleet.members), times)
    return await _each_time(outcome, fleet, deed, lambda: pool_with(client, healthy(actors)))


async def terminate_actor(stack: Stack, client: Client, fleet: Fleet, times: int) -> Outcome:
    """SIGTERM of the busiest actor: it drains itself, and ends."""
    pool = await client.describe_pool()
    actors = len(pool.actors)

    async def deed() -> None:
        victim = process_of(stack, await busiest(client))
        victim.terminate()
        await gone(victim)

    outcome = Outcome("terminate_actor", len(fleet.members), times)
    return await _each_time(outcome, fleet, deed, lambda: pool_with(client, healthy(actors)))


async def kill_target(stack: Stack, client: Client, fleet: Fleet, times: int) -> Outcome:
    """`kill -9` of the actor to which sessions are moving; then the drain goes on."""
    pool = await client.describe_pool()
    actors = len(pool.actors)

    async def deed() -> None:
        chosen = await busiest(client)
        victims = [
            process_of(stack, each)
            for each in (await client.describe_pool()).actors
            if each.actor_id != chosen.actor_id
        ]
        drain = asyncio.create_task(_drained(client, chosen.actor_id))
        await pool_with(client, _is_moving)
        for victim in victims:
            victim.kill()
            await gone(victim)
        await drain

    outcome = Outcome("kill_target", len(fleet.members), times)
    return await _each_time(outcome, fleet, deed, lambda: pool_with(client, healthy(actors)))


async def kill_scheduler_amid(stack: Stack, client: Client, fleet: Fleet, times: int) -> Outcome:
    """`kill -9` of the scheduler while sessions move; the drain is asked for again."""
    pool = await client.describe_pool()
    actors = len(pool.actors)

    async def deed() -> None:
        chosen = await busiest(client)
        drain = asyncio.create_task(_drained(client, chosen.actor_id))
        await pool_with(client, _is_moving)
        for victim in titled(stack, SCHEDULER):
            victim.kill()
            await gone(victim)
        with contextlib.suppress(CallError):
            await drain
        await pool_with(client, lambda pool: bool(pool.actors))
        with contextlib.suppress(CallError):  # it may be gone already
            await _drained(client, chosen.actor_id)

    outcome = Outcome("kill_scheduler_amid", len(fleet.members), times)
    return await _each_time(outcome, fleet, deed, lambda: pool_with(client, healthy(actors)))


def kill_gateway(revive: Callable[[], Awaitable[None]]) -> Scenario:
    """`kill -9` of the gateway; `revive` starts another one at the same address."""

    async def scenario(stack: Stack, client: Client, fleet: Fleet, times: int) -> Outcome:
        del stack
        outcome = Outcome("kill_gateway", len(fleet.members), times)
        return await _each_time(outcome, fleet, revive, client.describe_pool)

    return scenario


async def _drained(client: Client, actor_id: str) -> None:
    """Drains an actor to its end."""
    async for progress in client.drain_actor(actor_id):
        if progress.remaining == 0:
            return


def _is_moving(pool: pool_pb2.DescribePoolResponse) -> bool:
    return any(each.state == pool_pb2.LEASE_STATE_MOVING for each in pool.sessions)


async def undisturbed(fleet: Fleet, seconds: float) -> float:
    """Returns the longest gap of a while in which nothing is done: the floor of all others."""
    fleet.watch_gaps()
    await asyncio.sleep(seconds)
    return fleet.longest_gap_s
