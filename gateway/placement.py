"""The gateway's side of `Placement`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Protocol

import grpc
import structlog

from sana_gateway.v1 import event_pb2, pool_pb2, usage_pb2
from sana_gateway_internal.v1 import placement_pb2, placement_pb2_grpc
from scheduler import wire
from scheduler.core.errors import SanaGatewayError
from scheduler.core.ids import Principal
from scheduler.placement_status import error_of
from scheduler.process.followed_spans import SpanReports
from scheduler.process.keepalive import KEEPALIVE
from scheduler.process.telemetry import inject
from scheduler.process.tls import Wires

log = structlog.get_logger(__name__)

FIRST_RETRY_S = 0.5
"""Pause before a scheduler that stopped to answer is asked anew; it grows up to the next."""
MOST_RETRY_S = 10.0
_GROWTH = 1.5
POLL_S = 1.0
"""How often the pool is asked which models it serves."""
SPANS_S = 0.5
"""How often it is told spans, while somebody follows them."""
USAGE_S = 1.0
"""How often the scheduler is told what was used, where that has changed."""
FIRST_POLL_S = 0.1
"""The same while it serves none yet."""

_WITH_ALL = pool_pb2.DescribePoolRequest()
_WITHOUT_SESSIONS = pool_pb2.DescribePoolRequest(sessions=pool_pb2.POOL_SESSIONS_NONE)


class SchedulerAwayError(SanaGatewayError):
    """The scheduler does not answer just now."""


class PoolNews(Protocol):
    """Who hears what becomes of sessions."""

    def ended(self, session_id: str, reason: str) -> None:
        """A session ended."""

    def moves(self, lease: placement_pb2.Lease) -> None:
        """A session is to move to this lease."""

    def parked(self, parked: placement_pb2.SessionParked) -> None:
        """A session is on no actor any more."""


class UsageReports(Protocol):
    """What is known of usage, until the scheduler has kept it."""

    def take(self) -> tuple[int, list[placement_pb2.SessionUsage]]:
        """Returns what is to be told now, and the number of the message."""

    def kept(self, number: int) -> None:
        """The scheduler has written down what it was told up to a message."""

    def again(self) -> None:
        """What it has not is told anew."""


class PlacementClient:
    """Places, finds and releases sessions; reports who is connected, and what was used."""

    usage: UsageReports | None = None
    """What is told of usage; None: nothing."""

    def __init__(self, address: str, gateway_id: str, wires: Wires | None = None) -> None:
        """Prepares a connection to the scheduler.

        Args:
            address: Where it listens.
            gateway_id: Who asks.
            wires: Dials; without, in the clear.
        """
        self._address = address
        # gRPC's own pauses would grow to two minutes.
        options = [*KEEPALIVE, ("grpc.max_reconnect_backoff_ms", 5_000)]
        self._line = (wires or Wires()).line(address, options)
        self._stub = placement_pb2_grpc.PlacementStub(self._line.channel)
        self._gateway_id = gateway_id
        self._spans = SpanReports("gateway", gateway_id)
        self._changed: dict[str, int] = {}
        self._changed_event = asyncio.Event()
        self._presence: object | None = None
        """Stands for the present stream of reports."""
        self.served: tuple[str, ...] = ()
        """Names that clients may ask for, as last heard."""
        self.pool: pool_pb2.DescribePoolResponse | None = None
        """The pool without its sessions, as last heard; None while the scheduler is away."""
        self.tenant_usage: tuple[usage_pb2.UsageRow, ...] = ()
        """What tenants have used, as last heard; see `DescribePoolResponse.usage`."""
        self.serving = asyncio.Event()
        """Set while there is a model to ask for."""
        self._misses = 0
        """Polls without an answer since the last one that had one."""

    async def close(self) -> None:
        """Ends the connection."""
        await self._line.close()

    async def place(
        self,
        session_id: str,
        model: str,
        principal: Principal,
        waited_s: float,
        *,
        restore: bool = False,
        near_host: str = "",
        fork: bool = False,
    ) -> AsyncIterator[placement_pb2.PlaceResponse]:
        """Asks for a place; yields the queue position until the lease, which comes last.

        Args:
            session_id: For which session.
            model: The model that it needs.
            principal: Whose it is.
            waited_s: How long it has waited already.
            restore: Whether it existed before.
            near_host: Host that keeps its state.
            fork: Whether it is a copy that was at no actor yet.

        Raises:
            UnknownModelError: The model is not served.
            UnknownSessionError: It is another tenant's.
            NoCapacityError: The queue is full.
            LimitError: Too many sessions of the tenant wait.
            AskedElsewhereError: Another gateway has asked for its place since.
            SchedulerAwayError: No answer; the caller may ask again, with its time waited.
        """
        request = placement_pb2.PlaceRequest(
            session_id=session_id,
            model=model,
            principal=wire.principal_out(principal),
            gateway_id=self._gateway_id,
            waited_us=int(waited_s * 1e6),
            restore=restore,
            near_host=near_host,
            fork=fork,
        )
        try:
            async for response in self._stub.Place(request, metadata=_metadata()):
                yield response
        except grpc.aio.AioRpcError as error:
            raise self._error(error) from None

    async def find(self, session_id: str, tenant: str = "") -> placement_pb2.Lease:
        """Returns the lease of a session placed through any gateway.

        Args:
            session_id: Which.
            tenant: Whose it has to be; empty: anybody's.

        Raises:
            UnknownSessionError: There is none, or it is another tenant's.
            NotReadyError: It is on no actor: it waits, or is parked.
            SchedulerAwayError: No answer.
        """
        request = placement_pb2.FindRequest(
            session_id=session_id, gateway_id=self._gateway_id, tenant=tenant
        )
        try:
            answer = await self._stub.Find(request, metadata=_metadata(), timeout=5.0)
        except grpc.aio.AioRpcError as error:
            raise self._error(error) from None
        return answer.lease

    async def reserve_upload(self, session_id: str, upload_id: str, size: int) -> None:
        """Has an upload counted for whom its session is counted for.

        Raises:
            LimitError: A quota is used up.
            UnknownSessionError: There is no such session.
            SchedulerAwayError: No answer.
        """
        request = placement_pb2.ReserveUploadRequest(
            session_id=session_id, upload_id=upload_id, size=size
        )
        try:
            await self._stub.ReserveUpload(request, metadata=_metadata(), timeout=5.0)
        except grpc.aio.AioRpcError as error:
            raise self._error(error) from None

    async def release(self, session_id: str, reason: str) -> None:
        """Ends a session. With the scheduler away the reconnect window ends it later."""
        try:
            await self.end(session_id, reason)
        except SanaGatewayError as error:
            log.warning("release.failed", session_id=session_id, error=type(error).__name__)

    async def end(self, session_id: str, reason: str) -> None:
        """Ends a session. Ending one that has ended is no error.

        Raises:
            SchedulerAwayError: No answer.
        """
        request = placement_pb2.ReleaseRequest(session_id=session_id, reason=reason)
        try:
            await self._stub.Release(request, metadata=_metadata(), timeout=5.0)
        except grpc.aio.AioRpcError as error:
            raise self._error(error) from None

    async def describe_pool(
        self, asked: pool_pb2.DescribePoolRequest = _WITH_ALL
    ) -> pool_pb2.DescribePoolResponse:
        """Returns the operator's view.

        Args:
            asked: Which sessions to tell of: there may be thousands.

        Raises:
            SchedulerAwayError: No answer.
        """
        request = placement_pb2.DescribePoolRequest(
            without_sessions=asked.sessions == pool_pb2.POOL_SESSIONS_NONE,
            only_waiting=asked.sessions == pool_pb2.POOL_SESSIONS_WAITING,
        )
        try:
            answer = await self._stub.DescribePool(request, timeout=5.0)
        except grpc.aio.AioRpcError as error:
            raise self._error(error) from None
        self.tenant_usage = tuple(answer.usage)
        return answer.pool

    async def read_usage(self, request: usage_pb2.ReadUsageRequest) -> usage_pb2.ReadUsageResponse:
        """Returns what was used.

        Raises:
            BadArgumentError: The request makes no sense.
            SchedulerAwayError: No answer.
        """
        asked = placement_pb2.ReadUsageRequest(usage=request)
        try:
            answer = await self._stub.ReadUsage(asked, metadata=_metadata(), timeout=30.0)
        except grpc.aio.AioRpcError as error:
            raise self._error(error) from None
        return answer.usage

    async def describe_session(self, session_id: str) -> pool_pb2.DescribeSessionResponse:
        """Returns a session of any tenant, for operators.

        Raises:
            UnknownSessionError: There is none.
            SchedulerAwayError: No answer.
        """
        request = placement_pb2.DescribeSessionRequest(session_id=session_id)
        try:
            answer = await self._stub.DescribeSession(request, metadata=_metadata(), timeout=5.0)
        except grpc.aio.AioRpcError as error:
            raise self._error(error) from None
        return answer.session

    def watch_events(
        self, watch: event_pb2.WatchEventsRequest, tenant: str
    ) -> grpc.aio.UnaryStreamCall[Any, placement_pb2.WatchEventsResponse]:
        """Returns the call that follows the event journal.

        Args:
            watch: What of it.
            tenant: Only events of this tenant's sessions; empty: everything.
        """
        request = placement_pb2.WatchEventsRequest(watch=watch, tenant=tenant)
        return self._stub.WatchEvents(request)

    async def drain(
        self, request: pool_pb2.DrainActorRequest
    ) -> AsyncIterator[pool_pb2.DrainActorResponse]:
        """Empties an actor, or ends that; yields how far it has come. The last word says that
        no session is left, that the drain was cancelled, or that the actor was lost.

        Raises:
            BadArgumentError: There is no such actor.
            SchedulerAwayError: No answer, or none any more; the drain goes on without us.
        """
        asked = placement_pb2.DrainRequest(
            actor_id=request.actor_id,
            # One without time left is a drain with an end, too.
            grace_us=max(1, request.grace.ToMicroseconds()) if request.HasField("grace") else 0,
            cancel=request.cancel,
        )
        try:
            async for progress in self._stub.Drain(asked, metadata=_metadata()):
                yield pool_pb2.DrainActorResponse(
                    remaining=progress.remaining,
                    without_room=progress.without_room,
                    cancelled=progress.cancelled,
                    lost=progress.lost,
                )
        except grpc.aio.AioRpcError as error:
            raise self._error(error) from None

    def connections(self, session_id: str, count: int) -> None:
        """Reports how many connections a session has here."""
        self._changed[session_id] = count
        self._changed_event.set()

    def report_now(self) -> None:
        """Has what is known of usage told now, and not within a second."""
        self._changed_event.set()

    async def run_presence(self, counts: Callable[[], Mapping[str, int]], news: PoolNews) -> None:
        """Keeps the standing report open until cancelled.

        Args:
            counts: All counts as they are now, for the first report of a stream.
            news: Hears what the scheduler tells.
        """
        while True:
            stream = self._presence = object()
            try:
                async for response in self._stub.Presence(self._reports(counts, stream)):
                    if response.HasField("follow_traces"):
                        self._spans.follow(response.follow_traces.session_ids)
                        self._changed_event.set()
                    elif not response.HasField("usage_kept"):
                        _pass_on(response, news)
                    elif self.usage is not None:
                        self.usage.kept(response.usage_kept.number)
            except grpc.aio.AioRpcError as error:
                # The poll tells of a scheduler that is away, once.
                away = error.code() is grpc.StatusCode.UNAVAILABLE
                (log.debug if away else log.warning)("presence.lost", code=error.code().name)
            finally:
                # The old reports would take what the next ones are to tell.
                self._presence = None
                self._spans.follow(())
                self._changed_event.set()
            await asyncio.sleep(retry_pause(self._misses))
            if await self._line.renew():
                self._stub = placement_pb2_grpc.PlacementStub(self._line.channel)

    async def run_poll(self) -> None:
        """Keeps `served` fresh until cancelled."""
        while True:
            try:
                pool = await self.describe_pool(_WITHOUT_SESSIONS)
            except SchedulerAwayError as error:
                self._missed(error)
            else:
                self._heard()
                self.pool = pool
                names = (name for actor in pool.actors if actor.healthy for name in actor.names)
                self.served = tuple(dict.fromkeys([*names, *pool.on_demand]))
            if self.served:
                self.serving.set()
            else:
                self.serving.clear()
            await asyncio.sleep(self._poll_pause())

    def _missed(self, error: SchedulerAwayError) -> None:
        if self._misses == 0:
            log.warning("scheduler.away", address=self._address, error=str(error))
        self._misses += 1
        self.served = ()
        self.pool = None

    def _heard(self) -> None:
        if self._misses > 0:
            log.info("scheduler.back", address=self._address)
        self._misses = 0

    def _poll_pause(self) -> float:
        if self._misses > 0:
            return retry_pause(self._misses)
        return POLL_S if self.served else FIRST_POLL_S

    async def _reports(
        self, counts: Callable[[], Mapping[str, int]], stream: object
    ) -> AsyncIterator[placement_pb2.PresenceRequest]:
        self._changed = dict(counts())
        if self.usage is not None:
            self.usage.again()
        first = True
        while self._presence is stream:
            changed, self._changed = self._changed, {}
            number, usage = (0, []) if self.usage is None else self.usage.take()
            spans = self._spans.take()
            if changed or first or usage or spans:
                first = False
                yield placement_pb2.PresenceRequest(
                    gateway_id=self._gateway_id,
                    connections=[
                        placement_pb2.Connections(session_id=session_id, count=count)
                        for session_id, count in changed.items()
                    ],
                    usage=usage,
                    usage_number=number,
                    spans=placement_pb2.RecordedSpans(sessions=spans) if spans else None,
                )
                if usage:
                    continue  # there may be more
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._report_pause()):
                    await self._changed_event.wait()
            self._changed_event.clear()

    def _report_pause(self) -> float | None:
        """Returns how long a report may wait for something that does not wake it."""
        if self._spans.sessions:
            return SPANS_S
        return None if self.usage is None else USAGE_S

    def _error(self, error: grpc.aio.AioRpcError) -> SanaGatewayError:
        return error_of(error) or SchedulerAwayError(
            f"the scheduler does not answer: {error.code().name}"
        )


def retry_pause(misses: int) -> float:
    """Returns the seconds to wait after so many questions in a row without an answer."""
    # Limited, as a float cannot hold every power.
    return min(MOST_RETRY_S, FIRST_RETRY_S * _GROWTH ** min(max(misses - 1, 0), 50))


def _pass_on(response: placement_pb2.PresenceResponse, news: PoolNews) -> None:
    match response.WhichOneof("response"):
        case "ended":
            news.ended(response.ended.session_id, response.ended.reason)
        case "moves":
            news.moves(response.moves.lease)
        case "parked":
            news.parked(response.parked)


def _metadata() -> tuple[tuple[str, str], ...]:
    traceparent = inject()
    return (("traceparent", traceparent),) if traceparent else ()
