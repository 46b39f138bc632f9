"""What operators ask of single sessions, and the event journal, for every wire.

The scheduler keeps the journal, and a reader's place in it is a number: this gateway holds nothing
for who does not read, and goes on by itself where it was when the scheduler has been away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Final

import grpc

from gateway.audit import AuditLog
from gateway.auth import OPERATOR, Access
from gateway.event_words import sequence_of
from gateway.metrics import WATCHERS
from gateway.placement import PlacementClient, retry_pause
from sana_gateway.v1 import event_pb2, pool_pb2
from sana_gateway_internal.v1 import placement_pb2
from scheduler.core.errors import ForbiddenError, LimitError, RequestError
from scheduler.core.ids import Holder, Principal
from scheduler.placement_status import error_of

MOST_WATCHERS: Final = 128
"""Readers of the journal here at once; each is a stream of the scheduler's."""
OPERATORS_ALONE: Final = "chunks, actors and traces are told to operators alone"


class Operations:
    """Asks the scheduler.

    Args:
        placement: The scheduler.
        access: Knows what a caller may use.
        audit: Remembers which operator follows the journal.
    """

    def __init__(
        self, placement: PlacementClient, access: Access, audit: AuditLog | None = None
    ) -> None:
        self._audit = audit or AuditLog()
        self._placement = placement
        self._access = access
        self._calls: set[grpc.aio.UnaryStreamCall[Any, Any]] = set()
        self._watching = 0
        self._stopping = asyncio.Event()

    async def session(self, session_id: str) -> pool_pb2.DescribeSessionResponse:
        """Returns a session of any tenant; see `gateway.ingress.Operations`."""
        return await self._placement.describe_session(session_id)

    async def end(self, session_id: str, reason: str) -> None:
        """Ends a session of any tenant; see `gateway.ingress.Operations`."""
        await self._placement.describe_session(session_id)
        await self._placement.end(session_id, reason)

    async def watch(
        self, principal: Principal, asked: event_pb2.WatchEventsRequest, wire: str
    ) -> AsyncIterator[event_pb2.WatchEventsResponse]:
        """Follows the event journal; see `gateway.ingress.Operations`."""
        is_operator = OPERATOR in principal.scopes
        if not is_operator and (asked.chunks or asked.actor_id or asked.trace):
            raise ForbiddenError(OPERATORS_ALONE)
        if self._watching >= MOST_WATCHERS:
            raise LimitError(f"at most {MOST_WATCHERS} may follow the events of one gateway")
        if is_operator:
            action = "session.trace" if asked.trace else "events.read"
            self._audit.record(principal, action, asked.session_id, wire=wire)
        self._watching += 1
        try:
            with WATCHERS.labels(wire).track_inprogress():
                tenant = "" if is_operator else principal.tenant
                async for told in self._told(asked, tenant):
                    if is_operator or not told.word.HasField("event"):
                        yield told.word
                    elif self._may_know(principal, told):
                        yield _for_tenants(told.word)
        finally:
            self._watching -= 1

    def stop(self) -> None:
        """Ends all who follow."""
        self._stopping.set()
        for call in tuple(self._calls):
            call.cancel()

    async def _told(
        self, asked: event_pb2.WatchEventsRequest, tenant: str
    ) -> AsyncIterator[placement_pb2.WatchEventsResponse]:
        """Yields the words of the scheduler, also of one that was away meanwhile."""
        watch = event_pb2.WatchEventsRequest()
        watch.CopyFrom(asked)
        misses = 0
        while not self._stopping.is_set():
            call = self._placement.watch_events(watch, tenant)
            self._calls.add(call)
            try:
                async for told in call:
                    misses = 0
                    if (reached := sequence_of(told.word)) is not None:
                        watch.after_sequence = reached
                    yield told
            except grpc.aio.AioRpcError as error:
                if (refused := error_of(error)) is not None:
                    raise refused from None
                misses += 1
            except asyncio.CancelledError:
                # The end of the call alone, by `stop`; else it is that of who follows.
                task = asyncio.current_task()
                if not self._stopping.is_set() or (task is not None and task.cancelling()):
                    raise
            finally:
                self._calls.discard(call)
                call.cancel()
            with suppress(TimeoutError):
                async with asyncio.timeout(retry_pause(misses)):
                    await self._stopping.wait()

    def _may_know(self, principal: Principal, told: placement_pb2.WatchEventsResponse) -> bool:
        """Tells whether a session of the caller's tenant is one that it may use."""
        event = told.word.event
        holders = tuple(Holder(name) for name in told.holders)
        owner = Principal(event.tenant, frozenset(), holders)
        try:
            self._access.may_use(principal, event.session_id, owner, event.model)
        except RequestError:
            return False
        return True


def _for_tenants(word: event_pb2.WatchEventsResponse) -> event_pb2.WatchEventsResponse:
    """Leaves out what concerns the operator alone."""
    word.event.actor_id = word.event.from_actor_id = word.event.gateway_id = ""
    return word
