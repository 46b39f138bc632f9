"""The operator's view of the pool."""

from __future__ import annotations

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
