"""Finds the processes of a running service that a scenario stops or kills."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import psutil

from sana_gateway import Client
from sana_gateway.v1 import pool_pb2
from sdk_adapters.harness import processes
from sdk_adapters.harness.deeds import actor_process
from tests.e2e.driving import polled
from tests.stack import Stack


def titled(stack: Stack, title: str) -> list[psutil.Process]:
    """Returns the living processes of a service whose title begins so."""
    return [psutil.Process(pid) for pid in processes.titled(_members(stack), title)]


def process_of(stack: Stack, actor: pool_pb2.Actor) -> psutil.Process:
    """Returns the process that serves an actor's data plane."""
    return psutil.Process(actor_process(_members(stack), actor.address))


def _members(stack: Stack) -> list[int]:
    return [each.pid for each in stack.members()]


async def pool_with(
    client: Client, condition: Callable[[pool_pb2.DescribePoolResponse], bool]
) -> pool_pb2.DescribePoolResponse:
    """Waits until the pool is as wanted."""

    async def look() -> pool_pb2.DescribePoolResponse | None:
        pool = await client.describe_pool()
        return pool if condition(pool) else None

    found = await polled(look)
    assert found is not None
    return found


def healthy(count: int) -> Callable[[pool_pb2.DescribePoolResponse], bool]:
    """Tells whether so many actors serve."""
    return lambda pool: sum(each.healthy and not each.draining for each in pool.actors) == count


async def busiest(client: Client) -> pool_pb2.Actor:
    """Returns the actor with the most sessions."""
    pool = await client.describe_pool()
    return max(pool.actors, key=lambda actor: (actor.sessions, actor.actor_id))


async def gone(process: psutil.Process) -> None:
    """Waits for a process to end."""
    await asyncio.to_thread(process.wait, 30)
