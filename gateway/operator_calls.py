"""What operators may ask of the service, whichever wire they ask over.

Each call checks what was asked, asks the scheduler, and stands in the audit log. That the caller
is an operator has been seen to before.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from gateway.ingress import IngressServices
from sana_gateway.v1 import pool_pb2
from scheduler.core.errors import BadArgumentError
from scheduler.core.ids import Principal

MOST_REASON: Final = 200
"""Characters of the reason why an operator ends a session."""
ENDED: Final = "ended by an operator"
"""What clients read where the operator gave no reason."""


class OperatorCalls:
    """The calls of `PoolService`.

    Args:
        services: What the scheduler is asked through, and who remembers that it was.
    """

    def __init__(self, services: IngressServices) -> None:
        self._services = services
        self._audit = services.audit

    async def pool(
        self, principal: Principal, asked: pool_pb2.DescribePoolRequest
    ) -> pool_pb2.DescribePoolResponse:
        """Returns the pool as it is now.

        Raises:
            SchedulerAwayError: The scheduler does not answer.
        """
        if asked.sessions == pool_pb2.POOL_SESSIONS_NONE:
            return await self._services.pool(asked)
        # It tells of the sessions of all tenants.
        with self._audit.around(principal, "pool.read"):
            return await self._services.pool(asked)

    async def session(
        self, principal: Principal, session_id: str
    ) -> pool_pb2.DescribeSessionResponse:
        """Returns a session of any tenant, and what became of it lately.

        Raises:
            BadArgumentError: None is named.
            UnknownSessionError: There is no such session.
            SchedulerAwayError: The scheduler does not answer.
        """
        with self._audit.around(principal, "session.read", session_id):
            _given("session_id", session_id)
            return await self._services.operations.session(session_id)

    async def end(self, principal: Principal, session_id: str, reason: str) -> None:
        """Ends a session of any tenant.

        Args:
            principal: Who asks.
            session_id: Which.
            reason: Why; its clients read it. Empty: that an operator did.

        Raises:
            BadArgumentError: None is named, or the reason is none.
            UnknownSessionError: There is no such session.
            SchedulerAwayError: The scheduler does not answer.
        """
        with self._audit.around(principal, "session.end", session_id):
            _given("session_id", session_id)
            if len(reason) > MOST_REASON or not reason.isprintable():
                raise BadArgumentError(f"a reason is one line of {MOST_REASON} characters at most")
            await self._services.operations.end(session_id, reason or ENDED)

    async def drain(
        self, principal: Principal, asked: pool_pb2.DrainActorRequest
    ) -> AsyncIterator[pool_pb2.DrainActorResponse]:
        """Empties an actor, or ends that; yields how far it has come. Leaving ends no drain.

        Raises:
            BadArgumentError: There is no such actor, or the grace is none.
            SchedulerAwayError: The scheduler does not answer.
        """
        action = "actor.drain.cancel" if asked.cancel else "actor.drain"
        grace = asked.HasField("grace") and {"grace_s": asked.grace.ToMilliseconds() / 1e3}
        with self._audit.around(principal, action, asked.actor_id, **(grace or {})):
            _given("actor_id", asked.actor_id)
            if asked.HasField("grace") and asked.grace.ToNanoseconds() < 0:
                raise BadArgumentError("grace is 0 or more")
            progress = self._services.drain(asked)
            began = await anext(progress, None)
        # What follows goes on whether or not anybody looks.
        if began is not None:
            yield began
        async for further in progress:
            yield further


def _given(name: str, value: str) -> None:
    if not value:
        raise BadArgumentError(f"{name} is missing")
