"""A scheduler that knows some sessions and tells some events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from sana_gateway.v1 import event_pb2, pool_pb2
from scheduler.core.errors import UnknownSessionError
from scheduler.core.ids import Principal


class FakeOperations:
    """Answers from what it is made with; see `gateway.ingress.Operations`."""

    def __init__(
        self,
        *sessions: pool_pb2.DescribeSessionResponse,
        words: Sequence[event_pb2.WatchEventsResponse] = (),
    ) -> None:
        self._sessions = {each.session.session_id: each for each in sessions}
        self._words = words
        self.ended: list[tuple[str, str]] = []
        """Sessions that were ended, and why."""
        self.asked: list[tuple[Principal, event_pb2.WatchEventsRequest, str]] = []
        """Who followed what, over which wire."""
        self.over = asyncio.Event()
        """Set once the journal ends, after its words."""

    async def session(self, session_id: str) -> pool_pb2.DescribeSessionResponse:
        if session_id not in self._sessions:
            raise UnknownSessionError("there is no such session")
        return self._sessions[session_id]

    async def end(self, session_id: str, reason: str) -> None:
        await self.session(session_id)
        self.ended.append((session_id, reason))

    async def watch(
        self, principal: Principal, asked: event_pb2.WatchEventsRequest, wire: str
    ) -> AsyncIterator[event_pb2.WatchEventsResponse]:
        self.asked.append((principal, asked, wire))
        for word in self._words:
            yield word
        await self.over.wait()
