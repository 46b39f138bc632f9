"""The actor's side of `Placement`: it registers, beats, and books compute.

The scheduler may be away for a while (it restarts in seconds): the actor keeps its
sessions running, and presents itself anew when the scheduler answers again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Coroutine, Sequence
from typing import Protocol

import grpc
import structlog
from grpc.aio import Call

from model_actor.engine.services import Placement
from sana_gateway_internal.v1 import placement_pb2, placement_pb2_grpc
from scheduler import wire
from scheduler.core.quality import NO_COMPUTE, Quality
from scheduler.process.followed_spans import SpanReports
from scheduler.process.instruments import QUEUES
from scheduler.process.keepalive import KEEPALIVE
from scheduler.process.telemetry import context_from, inject
from scheduler.process.tls import Wires

log = structlog.get_logger(__name__)

HEARTBEAT_S = 0.5
RETRY_S = 0.5
"""Pause before the actor presents itself anew."""
_AWAY = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
        # A scheduler that has just restarted does not know the session before the actor
        # has presented itself; `start_wait` bounds the asking.
        grpc.StatusCode.NOT_FOUND,
    }
)
"""Answers of a scheduler that is away, or has just come back: it is asked again."""
OUTGOING = 1024
"""Answers to placements that may wait for the scheduler; past it the stream is ended and
the actor presents itself anew, which tells everything."""


class _Outgoing(asyncio.Queue[placement_pb2.EnrollRequest]):
    """What is still to be told."""

    def __len__(self) -> int:
        return self.qsize()


_ANSWERS = QUEUES.kind("scheduler_answers", OUTGOING)
_Order = tuple[str, Coroutine[object, object, None]]
"""Whose it is, and the work."""


class Enrolled(Protocol):
    """The actor that is enrolled."""

    def register(self) -> placement_pb2.Register:
        """Describes itself as it is now."""

    def heartbeat(self) -> placement_pb2.Heartbeat:
        """Tells what it has measured."""

    async def admit(self, placement: Placement) -> str:
        """Takes a session in; returns why not, or an empty string."""

    async def evict(
        self, session_id: str, epoch: int, reason: str, *, goes_on: bool = False
    ) -> None:
        """Gives a session up; what is kept of one that goes on elsewhere stays."""

    async def park(self, session_id: str, epoch: int, *, store: bool) -> placement_pb2.Parked:
        """Keeps a session's state and gives it up."""

    async def awaits_room(self, session_id: str, epoch: int, *, awaits: bool) -> None:
        """There is no room elsewhere for a session that is to leave, or there is again."""

    async def pace(self, session_id: str, epoch: int, quality: Quality) -> None:
        """A session is to run in another quality from now on."""

    async def told_to_drain(self, drain: placement_pb2.Drain) -> None:
        """It is being emptied, or no longer is; it repeats that when it presents itself."""

    async def usage_kept(self, number: int) -> None:
        """What beats up to a number told of usage is written down."""

    async def watch_chunks(self, *, watched: bool) -> None:
        """Heartbeats are to tell of chunks, or no longer."""

    async def retire(self) -> None:
        """It is to take no more sessions and, once it has none, to end."""


class Enrolment:
    """Keeps the actor enrolled; also the ledger that sessions book compute from."""

    def __init__(self, address: str, actor: Enrolled, wires: Wires | None = None) -> None:
        """Prepares.

        Args:
            address: The scheduler.
            actor: Who enrols.
            wires: Dials; without, in the clear.
        """
        # gRPC's own pauses would grow to two minutes.
        options = [*KEEPALIVE, ("grpc.max_reconnect_backoff_ms", 2_000)]
        self._line = (wires or Wires()).line(address, options)
        self._stub = placement_pb2_grpc.PlacementStub(self._line.channel)
        self._actor = actor
        self._orders: dict[str, asyncio.Task[None]] = {}
        """The last order of each session that is being carried out; "" is the actor's own."""
        self._outgoing: asyncio.Queue[placement_pb2.EnrollRequest] | None = None
        """What is still to be told on the present stream; None while there is none."""
        self._call: Call | None = None
        self._spans = SpanReports("actor")

    async def run(self) -> None:
        """Stays enrolled until cancelled."""
        while True:
            try:
                await self._enrol()
            except grpc.aio.AioRpcError as error:
                # A call that was still being prepared turns the cancellation of who waits for
                # it into an error of its own.
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise asyncio.CancelledError from error
                log.warning("enrolment.lost", code=error.code().name)
            await asyncio.sleep(RETRY_S)
            if await self._line.renew():
                self._stub = placement_pb2_grpc.PlacementStub(self._line.channel)

    async def close(self) -> None:
        """Ends the connection to the scheduler."""
        orders = list(self._orders.values())
        for task in orders:
            task.cancel()
        await asyncio.gather(*orders, return_exceptions=True)
        await self._line.close()

    async def book(self, session_id: str, epoch: int) -> tuple[Quality, float]:
        """Books compute; waits for the scheduler when it is away."""
        request = placement_pb2.BookRequest(session_id=session_id, epoch=epoch)
        while True:
            try:
                answer = await self._stub.Book(request, metadata=_trace_metadata())
            except grpc.aio.AioRpcError as error:
                if error.code() not in _AWAY:
                    return NO_COMPUTE, RETRY_S
                await asyncio.sleep(RETRY_S)
            else:
                booked = Quality(answer.rate_share or 1.0, answer.steps)
                quality = booked if answer.booked else NO_COMPUTE
                return quality, answer.retry_after_us / 1e6

    async def unbook(self, session_id: str, epoch: int) -> None:
        """Gives compute back. With the scheduler away nothing is lost: the next
        registration tells who computes.
        """
        request = placement_pb2.UnbookRequest(session_id=session_id, epoch=epoch)
        with contextlib.suppress(grpc.aio.AioRpcError):
            await self._stub.Unbook(request, timeout=5.0)

    def restored(self, session_id: str, epoch: int) -> None:
        """A session that came from elsewhere goes on. With the scheduler away nothing is lost:
        the next registration tells who is here.
        """
        restored = placement_pb2.Restored(session_id=session_id, epoch=epoch)
        self._tell(placement_pb2.EnrollRequest(restored=restored))

    def departed(self, session_id: str, epoch: int) -> None:
        """A session that moved is gone; likewise."""
        departed = placement_pb2.Departed(session_id=session_id, epoch=epoch)
        self._tell(placement_pb2.EnrollRequest(departed=departed))

    async def _enrol(self) -> None:
        outgoing = _ANSWERS.watch(_Outgoing(OUTGOING))
        call = self._stub.Enroll(self._requests(outgoing))
        self._outgoing, self._call = outgoing, call
        try:
            async for response in call:
                kind = response.WhichOneof("response")
                handler = self._ORDERS.get(kind or "")
                if handler is not None:
                    session_id, work = handler(self, response)
                    self._order(session_id, work)
        finally:
            self._outgoing = self._call = None
            self._spans.follow(())

    async def _requests(
        self, outgoing: asyncio.Queue[placement_pb2.EnrollRequest]
    ) -> AsyncIterator[placement_pb2.EnrollRequest]:
        registered = self._actor.register()
        self._spans.name = registered.actor_id
        yield placement_pb2.EnrollRequest(register=registered)
        loop = asyncio.get_running_loop()
        beat_at = loop.time()
        while True:
            if loop.time() >= beat_at:
                beat_at = loop.time() + HEARTBEAT_S
                beat = self._actor.heartbeat()
                beat.spans.sessions.extend(self._spans.take())
                yield placement_pb2.EnrollRequest(heartbeat=beat)
            answer = None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(beat_at):
                    answer = await outgoing.get()
            # Not inside: the timeout would cancel whoever is sending it.
            if answer is not None:
                yield answer

    def _tell(self, request: placement_pb2.EnrollRequest) -> None:
        if self._outgoing is None:
            return
        try:
            self._outgoing.put_nowait(request)
        except asyncio.QueueFull:
            log.warning("enrolment.too_slow")
            _ANSWERS.overflowed()
            if self._call is not None:
                self._call.cancel()

    def _admit(self, response: placement_pb2.EnrollResponse) -> _Order:
        return response.admit.session_id, self._answer_admit(response.admit)

    def _evict(self, response: placement_pb2.EnrollResponse) -> _Order:
        evict = response.evict
        work = self._actor.evict(evict.session_id, evict.epoch, evict.reason, goes_on=evict.goes_on)
        return evict.session_id, work

    def _park(self, response: placement_pb2.EnrollResponse) -> _Order:
        return response.park.session_id, self._answer_park(response.park)

    def _awaits_room(self, response: placement_pb2.EnrollResponse) -> _Order:
        told = response.awaits_room
        work = self._actor.awaits_room(told.session_id, told.epoch, awaits=told.awaits)
        return told.session_id, work

    def _pace(self, response: placement_pb2.EnrollResponse) -> _Order:
        told = response.pace
        quality = Quality(told.rate_share or 1.0, told.steps)
        work = self._actor.pace(told.session_id, told.epoch, quality)
        return told.session_id, work

    def _drain(self, response: placement_pb2.EnrollResponse) -> _Order:
        return "", self._actor.told_to_drain(response.drain)

    def _usage_kept(self, response: placement_pb2.EnrollResponse) -> _Order:
        return "", self._actor.usage_kept(response.usage_kept.number)

    def _watch_chunks(self, response: placement_pb2.EnrollResponse) -> _Order:
        return "", self._actor.watch_chunks(watched=response.watch_chunks.watched)

    def _follow_traces(self, response: placement_pb2.EnrollResponse) -> _Order:
        return "", self._follow(response.follow_traces.session_ids)

    async def _follow(self, sessions: Sequence[str]) -> None:
        self._spans.follow(sessions)

    def _retire(self, _: placement_pb2.EnrollResponse) -> _Order:
        return "", self._actor.retire()

    _ORDERS = {  # noqa: RUF012 - a constant table of methods
        "admit": _admit,
        "evict": _evict,
        "park": _park,
        "awaits_room": _awaits_room,
        "pace": _pace,
        "drain": _drain,
        "retire": _retire,
        "watch_chunks": _watch_chunks,
        "usage_kept": _usage_kept,
        "follow_traces": _follow_traces,
    }

    async def _answer_admit(self, admit: placement_pb2.Admit) -> None:
        refusal = await self._actor.admit(
            Placement(
                session_id=admit.session_id,
                epoch=admit.epoch,
                principal=wire.principal_in(admit.principal),
                model=admit.model,
                context=context_from(admit.traceparent),
                restore=admit.restore,
                computing=admit.computing,
                quality=Quality(admit.rate_share or 1.0, admit.steps),
            )
        )
        admitted = placement_pb2.Admitted(
            session_id=admit.session_id, epoch=admit.epoch, refusal=refusal
        )
        self._tell(placement_pb2.EnrollRequest(admitted=admitted))

    async def _answer_park(self, park: placement_pb2.Park) -> None:
        parked = await self._actor.park(park.session_id, park.epoch, store=park.store)
        self._tell(placement_pb2.EnrollRequest(parked=parked))

    def _order(self, session_id: str, work: Awaitable[None]) -> None:
        """Carries out what the scheduler says of a session, strictly in its order."""
        task = asyncio.create_task(self._after(self._orders.get(session_id), work))
        self._orders[session_id] = task
        task.add_done_callback(lambda done: self._ordered(session_id, done))

    async def _after(self, earlier: asyncio.Task[None] | None, work: Awaitable[None]) -> None:
        if earlier is not None:
            await asyncio.wait([earlier])
        await work

    def _ordered(self, session_id: str, task: asyncio.Task[None]) -> None:
        if self._orders.get(session_id) is task:
            del self._orders[session_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("order.failed", session_id=session_id, error=type(error).__name__)


def _trace_metadata() -> tuple[tuple[str, str], ...]:
    traceparent = inject()
    return (("traceparent", traceparent),) if traceparent else ()
