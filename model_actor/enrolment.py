"""The actor's side of `Placement`: it registers, beats, and books compute.

The scheduler may be away for a while (it restarts in seconds): the actor keeps its
sessions running, and presents itself anew when the scheduler answers again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import structlog

from model_actor.engine.live_session import Placement
from sana_gateway_internal.v1 import placement_pb2, placement_pb2_grpc
from scheduler import wire
from scheduler.process.telemetry import context_from, inject

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


class Enrolment:
    """Keeps the actor enrolled; also the ledger that sessions book compute from."""

    def __init__(
        self,
        address: str,
        register: Callable[[], placement_pb2.Register],
        measured_chunk_ms: Callable[[], float],
        admit: Callable[[Placement], Awaitable[str]],
        evict: Callable[[str, int, str], Awaitable[None]],
    ) -> None:
        """Prepares.

        Args:
            address: The scheduler.
            register: Describes the actor as it is now.
            measured_chunk_ms: Measured compute of a steady window; 0 while unknown.
            admit: Takes a session in; returns why not, or an empty string.
            evict: Gives a session up.
        """
        # gRPC's own pauses would grow to two minutes.
        options = [("grpc.max_reconnect_backoff_ms", 2_000)]
        self._channel = grpc.aio.insecure_channel(address, options=options)
        self._stub = placement_pb2_grpc.PlacementStub(self._channel)
        self._register = register
        self._measured_chunk_ms = measured_chunk_ms
        self._admit = admit
        self._evict = evict
        self._orders: dict[str, asyncio.Task[None]] = {}
        """The last order of each session that is being carried out."""

    async def run(self) -> None:
        """Stays enrolled until cancelled."""
        while True:
            try:
                await self._enrol()
            except grpc.aio.AioRpcError as error:
                log.warning("enrolment.lost", code=error.code().name)
            await asyncio.sleep(RETRY_S)

    async def close(self) -> None:
        """Ends the connection to the scheduler."""
        orders = list(self._orders.values())
        for task in orders:
            task.cancel()
        await asyncio.gather(*orders, return_exceptions=True)
        await self._channel.close(None)

    async def book(self, session_id: str, epoch: int) -> tuple[bool, float]:
        """Books compute; waits for the scheduler when it is away."""
        request = placement_pb2.BookRequest(session_id=session_id, epoch=epoch)
        while True:
            try:
                answer = await self._stub.Book(request, metadata=_trace_metadata())
            except grpc.aio.AioRpcError as error:
                if error.code() not in _AWAY:
                    return False, RETRY_S
                await asyncio.sleep(RETRY_S)
            else:
                return answer.booked, answer.retry_after_us / 1e6

    async def unbook(self, session_id: str, epoch: int) -> None:
        """Gives compute back. With the scheduler away nothing is lost: the next
        registration tells who computes.
        """
        request = placement_pb2.UnbookRequest(session_id=session_id, epoch=epoch)
        with contextlib.suppress(grpc.aio.AioRpcError):
            await self._stub.Unbook(request, timeout=5.0)

    async def _enrol(self) -> None:
        outgoing: asyncio.Queue[placement_pb2.EnrollRequest] = asyncio.Queue(OUTGOING)
        call = self._stub.Enroll(self._requests(outgoing))
        async for response in call:
            kind = response.WhichOneof("response")
            if kind == "admit":
                admit = response.admit
                self._order(admit.session_id, self._answer(admit, outgoing))
            elif kind == "evict":
                evict = response.evict
                evicting = self._evict(evict.session_id, evict.epoch, evict.reason)
                self._order(evict.session_id, evicting)

    async def _requests(
        self, outgoing: asyncio.Queue[placement_pb2.EnrollRequest]
    ) -> AsyncIterator[placement_pb2.EnrollRequest]:
        yield placement_pb2.EnrollRequest(register=self._register())
        loop = asyncio.get_running_loop()
        beat_at = loop.time()
        while True:
            if loop.time() >= beat_at:
                beat_at = loop.time() + HEARTBEAT_S
                beat = placement_pb2.Heartbeat(chunk_ms=self._measured_chunk_ms())
                yield placement_pb2.EnrollRequest(heartbeat=beat)
            answer = None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(beat_at):
                    answer = await outgoing.get()
            # Not inside: the timeout would cancel whoever is sending it.
            if answer is not None:
                yield answer

    async def _answer(
        self, admit: placement_pb2.Admit, outgoing: asyncio.Queue[placement_pb2.EnrollRequest]
    ) -> None:
        placement = Placement(
            session_id=admit.session_id,
            epoch=admit.epoch,
            principal=wire.principal_in(admit.principal),
            model=admit.model,
            context=context_from(admit.traceparent),
        )
        refusal = await self._admit(placement)
        admitted = placement_pb2.Admitted(
            session_id=admit.session_id, epoch=admit.epoch, refusal=refusal
        )
        await outgoing.put(placement_pb2.EnrollRequest(admitted=admitted))

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
