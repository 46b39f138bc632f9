"""What operators see of the pool, and do to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import grpc

from sana_gateway.tracing import Metadata
from sana_gateway.v1 import pool_pb2, pool_pb2_grpc


async def describe_pool(
    channel: grpc.aio.Channel, metadata: Metadata = ()
) -> pool_pb2.DescribePoolResponse:
    """Returns the actors and the queue as they are now.

    Args:
        channel: Connection to a gateway.
        metadata: Metadata of the call; the token must carry the scope `operator`.

    Raises:
        grpc.aio.AioRpcError: The call failed.
    """
    stub: pool_pb2_grpc.PoolServiceAsyncStub = pool_pb2_grpc.PoolServiceStub(channel)
    response: pool_pb2.DescribePoolResponse = await stub.DescribePool(
        pool_pb2.DescribePoolRequest(), metadata=metadata
    )
    return response


async def drain_actor(
    channel: grpc.aio.Channel,
    actor_id: str,
    *,
    grace: timedelta | None = None,
    cancel: bool = False,
    metadata: Metadata = (),
) -> AsyncIterator[pool_pb2.DrainActorResponse]:
    """Empties an actor without a session losing a frame; yields how far it has come.

    Leaving the iterator does not end the drain.

    Args:
        channel: Connection to a gateway.
        actor_id: Which.
        grace: Time until its process ends come what may; None: it waits for room for ever.
        cancel: Ends a drain under way instead.
        metadata: Metadata of the call; the token must carry the scope `operator`.

    Raises:
        grpc.aio.AioRpcError: The call failed.
    """
    stub: pool_pb2_grpc.PoolServiceAsyncStub = pool_pb2_grpc.PoolServiceStub(channel)
    request = pool_pb2.DrainActorRequest(actor_id=actor_id, cancel=cancel)
    if grace is not None:
        request.grace.FromTimedelta(grace)
    async for progress in stub.DrainActor(request, metadata=metadata):
        yield progress
