"""The operator's service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from sana_gateway.v1 import pool_pb2, pool_pb2_grpc

if TYPE_CHECKING:
    from sana_gateway.v1.pool_pb2_grpc import _ServicerContext as Context


class PoolService(pool_pb2_grpc.PoolServiceServicer):
    """Serves `sana_gateway.v1.PoolService` from what the scheduler says."""

    def __init__(self, describe: Callable[[], Awaitable[pool_pb2.DescribePoolResponse]]) -> None:
        self._describe = describe

    async def DescribePool(  # noqa: N802 - named by the contract
        self,
        request: pool_pb2.DescribePoolRequest,  # noqa: ARG002
        context: Context,  # noqa: ARG002
    ) -> pool_pb2.DescribePoolResponse:
        """Returns the actors and the queue."""
        return await self._describe()
