"""The operator's service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Final

from gateway.audit import AuditLog
from gateway.grpc_api.interceptors import caller
from gateway.ingress import Operations
from sana_gateway.v1 import pool_pb2, pool_pb2_grpc
from scheduler.core.errors import BadArgumentError

if TYPE_CHECKING:
    from sana_gateway.v1.pool_pb2_grpc import _ServicerContext as Context


MOST_REASON: Final = 200
"""Characters of the reason why an operator ends a session."""
ENDED: Final = "ended by an operator"
"""What clients read where the operator gave no reason."""


class PoolService(pool_pb2_grpc.PoolServiceServicer):
    """Serves `sana_gateway.v1.PoolService` from what the scheduler says.

    Args:
        describe: Returns the pool as it is now.
        drain: Empties an actor; yields how far it has come.
        operations: Knows single sessions.
        audit: Remembers who asked.
    """

    def __init__(
        self,
        describe: Callable[[], Awaitable[pool_pb2.DescribePoolResponse]],
        drain: Callable[[pool_pb2.DrainActorRequest], AsyncIterator[pool_pb2.DrainActorResponse]],
        operations: Operations,
        audit: AuditLog,
    ) -> None:
        self._describe = describe
        self._drain = drain
        self._operations = operations
        self._audit = audit

    async def DescribePool(  # noqa: N802 - named by the contract
        self,
        request: pool_pb2.DescribePoolRequest,  # noqa: ARG002
        context: Context,  # noqa: ARG002
    ) -> pool_pb2.DescribePoolResponse:
        """Returns the actors and the queue."""
        # It tells of the sessions of all tenants.
        with self._audit.around(caller(), "pool.read"):
            return await self._describe()

    async def DescribeSession(  # noqa: N802 - named by the contract
        self,
        request: pool_pb2.DescribeSessionRequest,
        context: Context,  # noqa: ARG002
    ) -> pool_pb2.DescribeSessionResponse:
        """Returns a session of any tenant, and what became of it lately."""
        with self._audit.around(caller(), "session.read", request.session_id):
            if not request.session_id:
                raise BadArgumentError("session_id is missing")
            return await self._operations.session(request.session_id)

    async def EndSession(  # noqa: N802 - named by the contract
        self,
        request: pool_pb2.EndSessionRequest,
        context: Context,  # noqa: ARG002
    ) -> pool_pb2.EndSessionResponse:
        """Ends a session of any tenant."""
        with self._audit.around(caller(), "session.end", request.session_id):
            if not request.session_id:
                raise BadArgumentError("session_id is missing")
            if len(request.reason) > MOST_REASON or not request.reason.isprintable():
                raise BadArgumentError(f"a reason is one line of {MOST_REASON} characters at most")
            await self._operations.end(request.session_id, request.reason or ENDED)
        return pool_pb2.EndSessionResponse()

    async def DrainActor(  # type: ignore[override] # noqa: N802 - writes through the context
        self, request: pool_pb2.DrainActorRequest, context: Context
    ) -> None:
        """Empties an actor; tells how far it has come."""
        action = "actor.drain.cancel" if request.cancel else "actor.drain"
        grace = request.HasField("grace") and {"grace_s": request.grace.ToMilliseconds() / 1e3}
        with self._audit.around(caller(), action, request.actor_id, **(grace or {})):
            if not request.actor_id:
                raise BadArgumentError("actor_id is missing")
            if request.HasField("grace") and request.grace.ToNanoseconds() < 0:
                raise BadArgumentError("grace is 0 or more")
            progress = self._drain(request)
            began = await anext(progress, None)
        # What follows goes on whether or not anybody looks.
        if began is not None:
            await context.write(began)
        async for further in progress:
            await context.write(further)
