"""The Placement service over gRPC: translates calls to `SchedulerService` and back.

No rule of scheduling is here. Trace context comes in as metadata; waiting for a place and
for compute are one span each.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import grpc
import grpc.aio
from opentelemetry import trace

from sana_gateway.v1 import pool_pb2
from sana_gateway_internal.v1 import placement_pb2, placement_pb2_grpc
from scheduler import placement_wire as wire
from scheduler.core.errors import (
    AskedElsewhereError,
    BadArgumentError,
    ConfigurationError,
    RequestError,
    UnknownSessionError,
)
from scheduler.core.ids import ActorId, Epoch, GatewayId, SessionId
from scheduler.core.pool_view import PoolView, Told
from scheduler.links import Enrollment, Grant, PresenceLink
from scheduler.metering.hearing import Metering
from scheduler.placement_metrics import CALLS
from scheduler.placement_status import RETRY_AFTER_MS, status_of
from scheduler.pool_figures import PoolFigures
from scheduler.process import telemetry
from scheduler.process.footprint import Footprint, LoopLag
from scheduler.process.keepalive import ACCEPTED_PINGS, KEEPALIVE
from scheduler.process.tls import Wires
from scheduler.service import SETTLING_RETRY, SchedulerService, SettlingError

MAX_MESSAGE = 4 * 1024 * 1024
"""Largest message in bytes, either way."""
SERVER_OPTIONS: list[tuple[str, int]] = [
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", MAX_MESSAGE),
    *KEEPALIVE,
    ACCEPTED_PINGS,
    # Two schedulers on one port would each get half of the calls.
    ("grpc.so_reuseport", 0),
]
STOP_GRACE = 0.5
"""Seconds that calls under way get to end."""

_R = TypeVar("_R")
_Context = grpc.aio.ServicerContext[Any, Any]

_tracer = trace.get_tracer("sana_gateway.scheduler")


def _unary(
    method: Callable[[Any, Any, _Context], Awaitable[_R]],
) -> Callable[[Any, Any, _Context], Awaitable[_R]]:
    """Answers our errors with their status."""

    @functools.wraps(method)
    async def call(self: PlacementServicer, request: Any, context: _Context) -> _R:  # noqa: ANN401
        try:
            with _timed(method.__name__):
                return await method(self, request, context)
        except RequestError as error:
            await context.abort(*status_of(error))
            raise
        except SettlingError as error:
            # Without a reason of ours: to the caller it is as if we were still away.
            retry_after = ((RETRY_AFTER_MS, str(round(SETTLING_RETRY * 1000))),)
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error), retry_after)
            raise

    return call


def _stream(
    method: Callable[[Any, Any, _Context], AsyncIterator[_R]],
) -> Callable[[Any, Any, _Context], AsyncIterator[_R]]:
    """Ends a stream with the status of our error."""

    @functools.wraps(method)
    async def call(
        self: PlacementServicer,
        request: Any,  # noqa: ANN401 - one request or an iterator of them
        context: _Context,
    ) -> AsyncIterator[_R]:
        try:
            with _timed(method.__name__):
                async for response in method(self, request, context):
                    yield response
        except (RequestError, AskedElsewhereError) as error:
            await context.abort(*status_of(error))

    return call


@contextmanager
def _timed(method: str) -> Iterator[None]:
    """Measures a call, by how it ends."""
    began, code = time.perf_counter(), grpc.StatusCode.UNKNOWN
    try:
        yield
        code = grpc.StatusCode.OK
    except (RequestError, AskedElsewhereError) as error:
        code = status_of(error)[0]
        raise
    except SettlingError:
        code = grpc.StatusCode.UNAVAILABLE
        raise
    except (asyncio.CancelledError, GeneratorExit):
        code = grpc.StatusCode.CANCELLED
        raise
    finally:
        CALLS.labels(method, code.name).observe(time.perf_counter() - began)


class PlacementServicer(placement_pb2_grpc.PlacementServicer):
    """Answers the calls of gateways and actors.

    Args:
        service: Where they go.
        figures: What is told of the pool beside what the service knows.
        metering: Hears of usage; without, nobody does.
    """

    def __init__(
        self, service: SchedulerService, figures: PoolFigures, metering: Metering | None = None
    ) -> None:
        self._service = service
        self._figures = figures
        self._metering = metering

    @_stream
    async def Place(  # noqa: N802 - named by the contract
        self, request: placement_pb2.PlaceRequest, context: _Context
    ) -> AsyncIterator[placement_pb2.PlaceResponse]:
        """Places a session."""
        asked = wire.place_in(request)
        span = _tracer.start_span(
            "scheduler.place",
            _caller(context),
            kind=trace.SpanKind.SERVER,
            attributes={"session.id": asked.session, "gateway.id": asked.gateway},
        )
        try:
            traceparent = telemetry.inject(trace.set_span_in_context(span))
            async for news in self._service.place(asked, traceparent):
                if isinstance(news, Grant):
                    span.set_attribute("actor.id", news.actor)
                else:
                    span.add_event("queued", {"position": news.position})
                yield wire.place_out(news)
        except RequestError as error:
            span.set_status(trace.StatusCode.ERROR, error.reason)
            raise
        finally:
            span.end()

    @_unary
    async def Find(  # noqa: N802 - named by the contract
        self, request: placement_pb2.FindRequest, context: _Context
    ) -> placement_pb2.FindResponse:
        """Finds a session's lease."""
        del context
        session = SessionId(wire.given("session_id", request.session_id))
        grant = self._service.find(session, GatewayId(request.gateway_id), request.tenant)
        return placement_pb2.FindResponse(lease=wire.lease_out(grant))

    @_unary
    async def Release(  # noqa: N802 - named by the contract
        self, request: placement_pb2.ReleaseRequest, context: _Context
    ) -> placement_pb2.ReleaseResponse:
        """Ends a session."""
        del context
        session = SessionId(wire.given("session_id", request.session_id))
        self._service.release(session, request.reason or "released")
        return placement_pb2.ReleaseResponse()

    @_unary
    async def ReserveUpload(  # noqa: N802 - named by the contract
        self, request: placement_pb2.ReserveUploadRequest, context: _Context
    ) -> placement_pb2.ReserveUploadResponse:
        """Counts an upload."""
        del context
        session = SessionId(wire.given("session_id", request.session_id))
        self._service.reserve_upload(
            session, wire.given("upload_id", request.upload_id), max(0, request.size)
        )
        return placement_pb2.ReserveUploadResponse()

    @_stream
    async def Presence(  # noqa: N802 - named by the contract
        self, requests: AsyncIterator[placement_pb2.PresenceRequest], context: _Context
    ) -> AsyncIterator[placement_pb2.PresenceResponse]:
        """Takes in who is connected, and tells of sessions that end, move or are parked."""
        first = await anext(requests, None)
        if first is None:
            return
        link = self._service.link_gateway(GatewayId(wire.given("gateway_id", first.gateway_id)))
        try:
            self._service.report(link, wire.counts_in(first), complete=True)
            self._hear_more(link, first)
            # The header tells the gateway that its report was taken.
            await context.send_initial_metadata(())
            reader = asyncio.create_task(self._read_presence(link, requests))
            try:
                async for news in link.news:
                    yield wire.news_out(news)
            finally:
                await _finish(reader)
        finally:
            if self._metering is not None:
                self._metering.gateway_left(link)
            self._service.unlink_gateway(link)

    async def _read_presence(
        self, link: PresenceLink, requests: AsyncIterator[placement_pb2.PresenceRequest]
    ) -> None:
        try:
            async for request in requests:
                if request.connections or not request.usage:
                    self._service.report(link, wire.counts_in(request), complete=False)
                self._hear_more(link, request)
        finally:
            link.news.close()

    def _hear_more(self, link: PresenceLink, request: placement_pb2.PresenceRequest) -> None:
        self._service.feed.recorded(request.spans)
        if self._metering is not None:
            self._metering.presence(link, request)

    @_stream
    async def Drain(  # noqa: N802 - named by the contract
        self, request: placement_pb2.DrainRequest, context: _Context
    ) -> AsyncIterator[placement_pb2.DrainResponse]:
        """Empties an actor, or ends that."""
        del context
        actor = ActorId(wire.given("actor_id", request.actor_id))
        if request.cancel:
            self._service.cancel_drain(actor)
            yield placement_pb2.DrainResponse(cancelled=True)
            return
        grace = request.grace_us / 1e6 if request.grace_us > 0 else None
        async for progress in self._service.drain(actor, grace):
            yield wire.drain_out(progress)

    @_unary
    async def DescribePool(  # noqa: N802 - named by the contract
        self, request: placement_pb2.DescribePoolRequest, context: _Context
    ) -> placement_pb2.DescribePoolResponse:
        """Describes the pool."""
        del context
        told: Told = "waiting" if request.only_waiting else "all"
        pool = self._described(self._service.describe("none" if request.without_sessions else told))
        answer = placement_pb2.DescribePoolResponse(pool=pool)
        if self._metering is not None:
            self._metering.describe(answer)
        return answer

    @_unary
    async def ReadUsage(  # noqa: N802 - named by the contract
        self, request: placement_pb2.ReadUsageRequest, context: _Context
    ) -> placement_pb2.ReadUsageResponse:
        """Tells what was used."""
        del context
        if self._metering is None:
            return placement_pb2.ReadUsageResponse()
        return placement_pb2.ReadUsageResponse(usage=await self._metering.read(request.usage))

    @_unary
    async def DescribeSession(  # noqa: N802 - named by the contract
        self, request: placement_pb2.DescribeSessionRequest, context: _Context
    ) -> placement_pb2.DescribeSessionResponse:
        """Describes a session, and what became of it lately."""
        del context
        wanted = wire.given("session_id", request.session_id)
        view = self._service.describe()
        own = tuple(each for each in view.sessions if each.session == wanted)
        if not own:
            raise UnknownSessionError("there is no such session")
        pool = self._described(dataclasses.replace(view, sessions=own))
        session = pool.sessions[0]
        actor = next((each for each in pool.actors if each.actor_id == session.actor_id), None)
        described = pool_pb2.DescribeSessionResponse(
            session=session, actor=actor, events=self._service.feed.of_session(wanted)
        )
        return placement_pb2.DescribeSessionResponse(session=described)

    @_stream
    async def WatchEvents(  # noqa: N802 - named by the contract
        self, request: placement_pb2.WatchEventsRequest, context: _Context
    ) -> AsyncIterator[placement_pb2.WatchEventsResponse]:
        """Follows the event journal."""
        del context
        async for word in self._service.feed.watch(request):
            yield word

    def _described(self, view: PoolView) -> pool_pb2.DescribePoolResponse:
        pool = wire.pool_out(view)
        pool.event_sequence = self._service.feed.sequence
        self._figures.describe(pool)
        for actor in pool.actors:
            if (declared := self._service.capabilities(ActorId(actor.actor_id))) is not None:
                actor.capabilities.CopyFrom(declared)
        return pool

    @_stream
    async def Enroll(  # noqa: N802 - named by the contract
        self, requests: AsyncIterator[placement_pb2.EnrollRequest], context: _Context
    ) -> AsyncIterator[placement_pb2.EnrollResponse]:
        """Takes in an actor, and gives it its orders."""
        first = await anext(requests, None)
        if first is None:
            return
        if first.WhichOneof("request") != "register":
            raise BadArgumentError("the first request must be register")
        enrollment = self._service.enroll(
            wire.register_in(first.register), first.register.capabilities
        )
        self._figures.register(first.register)
        try:
            # The header tells the actor that its registration was taken.
            await context.send_initial_metadata(())
            reader = asyncio.create_task(self._read_actor(enrollment, requests))
            try:
                async for order in enrollment.orders:
                    yield wire.order_out(order)
            finally:
                await _finish(reader)
        finally:
            if self._metering is not None:
                self._metering.actor_left(enrollment)
            self._service.unlink_actor(enrollment)
            # Unless it has come again meanwhile.
            if self._service.capabilities(enrollment.actor) is None:
                self._figures.forget(enrollment.actor)

    async def _read_actor(
        self, enrollment: Enrollment, requests: AsyncIterator[placement_pb2.EnrollRequest]
    ) -> None:
        try:
            async for request in requests:
                if request.HasField("heartbeat"):
                    self._figures.beat(enrollment.actor, request.heartbeat)
                    self._service.feed.made(enrollment.actor, request.heartbeat)
                    if self._metering is not None:
                        self._metering.beat(enrollment, request.heartbeat)
                event = wire.heard_in(enrollment.actor, request)
                if event is not None:
                    self._service.hear(enrollment, event)
        finally:
            enrollment.orders.close()

    @_unary
    async def Book(  # noqa: N802 - named by the contract
        self, request: placement_pb2.BookRequest, context: _Context
    ) -> placement_pb2.BookResponse:
        """Books compute."""
        with _tracer.start_as_current_span(
            "scheduler.book",
            _caller(context),
            kind=trace.SpanKind.SERVER,
            attributes={"session.id": request.session_id},
            record_exception=False,
        ) as span:
            answer = await self._service.book(
                SessionId(wire.given("session_id", request.session_id)), Epoch(request.epoch)
            )
            span.set_attribute("booked", answer.booked)
        return wire.book_out(answer)

    @_unary
    async def Unbook(  # noqa: N802 - named by the contract
        self, request: placement_pb2.UnbookRequest, context: _Context
    ) -> placement_pb2.UnbookResponse:
        """Gives compute back."""
        del context
        self._service.unbook(SessionId(request.session_id), Epoch(request.epoch))
        return placement_pb2.UnbookResponse()


class PlacementServer:
    """A gRPC server with the Placement service.

    Args:
        service: What it serves.
        address: Where it listens: `unix:/path` or `host:port`; port 0 takes a free one.
        wires: Listens; without, in the clear.
        metering: Hears of usage; without, nobody does.
    """

    def __init__(
        self,
        service: SchedulerService,
        address: str,
        wires: Wires | None = None,
        metering: Metering | None = None,
    ) -> None:
        self._asked = address
        self._wires = wires or Wires()
        self._server = grpc.aio.server(options=SERVER_OPTIONS)
        self._lag = LoopLag()
        self._measuring: asyncio.Task[None] | None = None
        servicer = PlacementServicer(service, PoolFigures(Footprint(self._lag)), metering)
        placement_pb2_grpc.add_PlacementServicer_to_server(servicer, self._server)

    async def start(self) -> str:
        """Starts to listen and returns the address.

        Raises:
            ConfigurationError: The address cannot be listened on.
        """
        try:
            port = self._wires.listen(self._server, self._asked)
        except RuntimeError as error:
            raise ConfigurationError(f"cannot listen on {self._asked}") from error
        await self._server.start()
        self._measuring = asyncio.create_task(self._lag.run())
        host, _, asked_port = self._asked.rpartition(":")
        return f"{host}:{port}" if asked_port == "0" else self._asked

    async def stop(self) -> None:
        """Ends the calls under way and stops."""
        if self._measuring is not None:
            await _finish(self._measuring)
        await self._server.stop(STOP_GRACE)


async def _finish(reader: asyncio.Task[None]) -> None:
    """Ends a task that does not end by itself."""
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)


def _caller(context: _Context) -> Any:  # noqa: ANN401 - opentelemetry's Context
    """Returns the trace context of a call."""
    metadata = dict(context.invocation_metadata() or ())
    return telemetry.context_from(str(metadata.get("traceparent", "")))
