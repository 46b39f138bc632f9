"""The operator's service over gRPC."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.grpc_api.interceptors import caller
from gateway.operator_calls import OperatorCalls
from sana_gateway.v1 import pool_pb2, pool_pb2_grpc

if TYPE_CHECKING:
    from sana_gateway.v1.pool_pb2_grpc import _ServicerContext as Context


class PoolService(pool_pb2_grpc.PoolServiceServicer):
    """Serves `sana_gateway.v1.PoolService` from what the scheduler says.

    Args:
        calls: What operators may ask.
    """

    def __init__(self, calls: OperatorCalls) -> None:
        self._calls = calls

    async def DescribePool(  # noqa: N802 - named by the contract
        self,
        request: pool_pb2.DescribePoolRequest,
        context: Context,  # noqa: ARG002
    ) -> pool_pb2.DescribePoolResponse:
        """Returns the actors and the queue."""
        return await self._calls.pool(caller(), request)

    async def DescribeSession(  # noqa: N802 - named by the contract
        self,
        request: pool_pb2.DescribeSessionRequest,
        context: Context,  # noqa: ARG002
    ) -> pool_pb2.DescribeSessionResponse:
        """Returns a session of any tenant, and what became of it lately."""
        return await self._calls.session(caller(), request.session_id)

    async def EndSession(  # noqa: N802 - named by the contract
        self,
        request: pool_pb2.EndSessionRequest,
        context: Context,  # noqa: ARG002
    ) -> pool_pb2.EndSessionResponse:
        """Ends a session of any tenant."""
        await self._calls.end(caller(), request.session_id, request.reason)
        return pool_pb2.EndSessionResponse()

    async def DrainActor(  # type: ignore[override] # noqa: N802 - writes through the context
        self, request: pool_pb2.DrainActorRequest, context: Context
    ) -> None:
        """Empties an actor; tells how far it has come."""
        async for progress in self._calls.drain(caller(), request):
            await context.write(progress)
