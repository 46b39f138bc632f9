"""The operator's service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

from sana_gateway.v1 import pool_pb2, pool_pb2_grpc
from scheduler.core.errors import BadArgumentError

if TYPE_CHECKING:
    from sana_gateway.v1.pool_pb2_grpc import _ServicerContext as Context


class PoolService(pool_pb2_grpc.PoolServiceServicer):
    """Serves `sana_gateway.v1.PoolService` from what the scheduler says.

    Args:
        describe: Returns the pool as it is now.
        drain: Empties an actor; yields how far it has come.
    """

    def __init__(
        self,
        describe: Callable[[], Awaitable[pool_pb2.DescribePoolResponse]],
        drain: Callable[[pool_pb2.DrainActorRequest], AsyncIterator[pool_pb2.DrainActorResponse]],
    ) -> None:
        self._describe = describe
        self._drain = drain

    async def DescribePool(  # noqa: N802 - named by the contract
        self,
        request: pool_pb2.DescribePoolRequest,  # noqa: ARG002
        context: Context,  # noqa: ARG002
    ) -> pool_pb2.DescribePoolResponse:
        """Returns the actors and the queue."""
        return await self._describe()

    async def DrainActor(  # type: ignore[override] # noqa: N802 - writes through the context
        self, request: pool_pb2.DrainActorRequest, context: Context
    ) -> None:
        """Empties an actor; tells how far it has come."""
        if not request.actor_id:
            raise BadArgumentError("actor_id is missing")
        if request.HasField("grace") and request.grace.ToNanoseconds() < 0:
            raise BadArgumentError("grace is 0 or more")
        async for progress in self._drain(request):
            await context.write(progress)
