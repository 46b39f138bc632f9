"""What the tests ask of a pool: to be as wanted, and which actor has the most to do."""

from __future__ import annotations

from collections.abc import Callable

from sana_gateway import Client
from sana_gateway.v1 import pool_pb2
from sdk_adapters.harness import deeds
from tests.e2e.driving import WAIT_S, polled


async def pool_with(
    client: Client,
    condition: Callable[[pool_pb2.DescribePoolResponse], object],
    within_s: float = WAIT_S,
) -> pool_pb2.DescribePoolResponse:
    """Waits until the pool is as wanted; returns it."""

    async def look() -> pool_pb2.DescribePoolResponse | None:
        pool = await client.describe_pool()
        return pool if condition(pool) else None

    found = await polled(look, within_s)
    assert found is not None
    return found


def serving(pool: pool_pb2.DescribePoolResponse) -> list[pool_pb2.Actor]:
    """Returns the actors that take sessions."""
    return [each for each in pool.actors if each.healthy and not each.draining]


def healthy(count: int) -> Callable[[pool_pb2.DescribePoolResponse], bool]:
    """Tells whether so many actors serve."""
    return lambda pool: len(serving(pool)) == count


async def busiest(client: Client) -> pool_pb2.Actor:
    """Returns the actor with the most sessions."""
    return await deeds.Site(client).busiest()
