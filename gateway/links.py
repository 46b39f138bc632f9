"""Links to model actors: one channel each, with a control and a media stream.

A link outlives no break: when a stream ends the link is dead, its sessions are told,
and each finds its actor anew through the scheduler.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Protocol

import grpc
import structlog

from sana_gateway_internal.v1 import stream_pb2, stream_pb2_grpc
from scheduler.core.errors import SanaGatewayError
from scheduler.process.batches import take_batch
from scheduler.process.instruments import QUEUES
from scheduler.process.tls import Wires

log = structlog.get_logger(__name__)

CONTROL_QUEUE = 8192
"""Requests that may wait for an actor; past it the link counts as dead."""
CONTROL_BATCH_BYTES = 256 * 1024
"""Most bytes of requests in one message; see `take_batch`."""
PATIENCE_S = 0.02
"""How long a request that is not urgent waits for others to go with: each message wakes both
processes, which costs more than all that it says."""
CAMERA_QUEUE = 256
"""Camera frames that may wait for an actor; past it a session's frames are dropped up to
its next keyframe."""
CAMERA_BATCH_BYTES = 256 * 1024
"""Most bytes of camera frames in one message; see `take_batch`."""
CAMERA_FRAME_BYTES = 1024 * 1024
"""Longest camera frame. With what shares its message it stays far below what an actor reads: a
message above that would end the link, and with it the streams of all sessions."""
HELLO_TIMEOUT_S = 2.0
"""How long an actor may take to take up a connection; its sessions are sought elsewhere then."""
PING_MS = 750
PING_TIMEOUT_MS = 1_250
"""An actor that is stopped or cut off is noticed within the sum of both. gRPC answers pings on
threads of its own, whatever a model computes."""
MAX_MESSAGE_BYTES = 4 * 1024 * 1024

_CONTROL = QUEUES.kind("actor_control", CONTROL_QUEUE)
_CAMERA = QUEUES.kind("actor_camera", CAMERA_QUEUE)
_READY = grpc.ChannelConnectivity.READY
_FAILED = (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN)


class LinkDeadError(SanaGatewayError):
    """The actor does not answer, or no longer."""


class LinkedSession(Protocol):
    """A session, as its link sees it."""

    def control(self, response: stream_pb2.ControlResponse) -> None:
        """Something happened at the actor."""

    def packet(self, packet: stream_pb2.VideoPacket) -> None:
        """A frame of an output came."""

    def link_lost(self) -> None:
        """The actor's streams ended."""


class ActorLink:
    """One actor, as this gateway sees it."""

    def __init__(self, address: str, gateway_id: str, wires: Wires) -> None:
        """Prepares a link; `start` opens it."""
        self.address = address
        self._gateway_id = gateway_id
        self._channel = wires.dial(
            address,
            [
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                ("grpc.keepalive_time_ms", PING_MS),
                ("grpc.keepalive_timeout_ms", PING_TIMEOUT_MS),
                # What gRPC really waits for, a minute by default.
                ("grpc.http2.ping_timeout_ms", PING_TIMEOUT_MS),
                ("grpc.http2.max_pings_without_data", 0),
            ],
        )
        self._stub = stream_pb2_grpc.StreamStub(self._channel)
        self._sessions: dict[str, LinkedSession] = {}
        self._control = _CONTROL.watch(deque[stream_pb2.ControlRequest]())
        self._control_ready = asyncio.Event()
        self._patience: asyncio.TimerHandle | None = None
        self._camera = _CAMERA.watch(deque[stream_pb2.CameraPacket]())
        self._camera_ready = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._heard = asyncio.Event()
        self.dead = False

    async def start(self, lost: Callable[[ActorLink], None]) -> None:
        """Opens both streams.

        Args:
            lost: Called once when the link has died.

        Raises:
            LinkDeadError: The actor does not answer.
        """
        self._lost = lost
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                await self._reached()
        except (TimeoutError, LinkDeadError):
            await self._channel.close(None)
            self.dead = True
            raise LinkDeadError("the actor does not answer") from None
        self._tasks = [
            asyncio.create_task(self._read_control(), name="control"),
            asyncio.create_task(self._read_media(), name="media"),
        ]
        for task in self._tasks:
            task.add_done_callback(self._ended)

    async def _reached(self) -> None:
        """Returns once there is a connection.

        Raises:
            LinkDeadError: There is nobody at this address, who may have died a moment ago.
        """
        while (state := self._channel.get_state(try_to_connect=True)) is not _READY:
            if state in _FAILED:
                raise LinkDeadError("nobody answers at the actor's address")
            await self._channel.wait_for_state_change(state)

    async def close(self) -> None:
        """Ends the link."""
        self._mark_dead()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._channel.close(None)

    def join(
        self,
        session_id: str,
        session: LinkedSession,
        token: str,
        restore: stream_pb2.Restore | None = None,
        *,
        standby: bool = False,
    ) -> None:
        """Takes part in a session; the actor answers opened or refused.

        Args:
            session_id: Which.
            session: Hears of it, instead of who joined it here before.
            token: Of its lease.
            restore: What it is to go on from, where the actor does not have it.
            standby: Whether only its camera is sent for now.

        Raises:
            LinkDeadError: The link has died.
        """
        if self.dead:
            raise LinkDeadError("the actor's streams have ended")
        self._sessions[session_id] = session
        opening = stream_pb2.Open(
            session_id=session_id, token=token, restore=restore, standby=standby
        )
        self.send(stream_pb2.ControlRequest(open=opening))

    def leave(self, session_id: str, session: LinkedSession) -> None:
        """Takes part no longer, unless somebody else has joined the session since."""
        if self._sessions.get(session_id) is not session:
            return
        del self._sessions[session_id]
        if not self.dead:
            leave = stream_pb2.Leave(session_id=session_id)
            self.send(stream_pb2.ControlRequest(leave=leave))

    def send(self, request: stream_pb2.ControlRequest, *, urgent: bool = True) -> None:
        """Sends on the control stream, in order.

        Args:
            request: What is told.
            urgent: Whether it leaves at once, with all that waits; else within `PATIENCE_S`.
        """
        if self.dead:
            return
        if len(self._control) >= CONTROL_QUEUE:
            _CONTROL.overflowed()
            self._die("control_queue_full")
            return
        self._control.append(request)
        if urgent:
            self._leave_now()
        elif self._patience is None:
            loop = asyncio.get_running_loop()
            self._patience = loop.call_later(PATIENCE_S, self._leave_now)

    def _leave_now(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        self._control_ready.set()

    def camera(self, packet: stream_pb2.CameraPacket) -> bool:
        """Sends a camera frame; False when there was no room for it, or it is too long."""
        if len(self._camera) >= CAMERA_QUEUE:
            _CAMERA.overflowed()
            return False
        if self.dead or len(packet.data) > CAMERA_FRAME_BYTES:
            return False
        self._camera.append(packet)
        self._camera_ready.set()
        return True

    async def _read_control(self) -> None:
        async for response in self._stub.Control(self._controls()):
            self._heard.set()
            for each in response.more or (response,):
                self._told(each)

    def _told(self, response: stream_pb2.ControlResponse) -> None:
        kind = response.WhichOneof("response")
        session = kind and self._sessions.get(getattr(response, kind).session_id)
        if session:
            try:
                session.control(response)
            except Exception as error:  # one session's affair must not end all others'
                log.error("control.failed", kind=kind, error=type(error).__name__)

    async def _read_media(self) -> None:
        # The actor takes media only of gateways whose hello it has read.
        await self._heard.wait()
        metadata = (("gateway-id", self._gateway_id),)
        async for batch in self._stub.Media(self._cameras(), metadata=metadata):
            for packet in batch.packets:
                session = self._sessions.get(packet.session_id)
                if session is not None:
                    try:
                        session.packet(packet)
                    except Exception as error:  # one session's affair
                        log.error("packet.failed", error=type(error).__name__)

    async def _controls(self) -> AsyncIterator[stream_pb2.ControlRequest]:
        # By itself, whatever waits already.
        yield stream_pb2.ControlRequest(hello=stream_pb2.Hello(gateway_id=self._gateway_id))
        # Ends with the link: gRPC would leave it waiting for ever.
        while not self.dead:
            while self._control:
                batch = take_batch(self._control, _request_size, CONTROL_BATCH_BYTES)
                yield batch[0] if len(batch) == 1 else stream_pb2.ControlRequest(more=batch)
            await self._control_ready.wait()
            self._control_ready.clear()

    async def _cameras(self) -> AsyncIterator[stream_pb2.MediaRequest]:
        while not self.dead:
            await self._camera_ready.wait()
            self._camera_ready.clear()
            while self._camera:
                # A frame is handed on when it is complete. Only what came while the one
                # before was being written goes together.
                batch = take_batch(self._camera, _frame_size, CAMERA_BATCH_BYTES)
                yield stream_pb2.MediaRequest(packets=batch)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        reason = error.code().name if isinstance(error, grpc.aio.AioRpcError) else "stream_ended"
        self._die(reason)

    def _die(self, reason: str) -> None:
        if self.dead:
            return
        self._mark_dead()
        log.warning("link.lost", reason=reason)
        sessions, self._sessions = self._sessions, {}
        self._lost(self)
        for session in sessions.values():
            session.link_lost()

    def _mark_dead(self) -> None:
        self.dead = True
        self._leave_now()
        self._camera_ready.set()


class ActorLinks:
    """The links of this gateway, made when first needed."""

    def __init__(self, gateway_id: str, wires: Wires | None = None) -> None:
        """Prepares; nothing is opened yet.

        Args:
            gateway_id: Who links.
            wires: Dials; without, in the clear.
        """
        self._gateway_id = gateway_id
        self._wires = wires or Wires()
        self._links: dict[str, asyncio.Task[ActorLink]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def get(self, address: str) -> ActorLink:
        """Returns the link to an actor, opening it if need be.

        Raises:
            LinkDeadError: The actor does not answer.
        """
        task = self._links.get(address)
        if task is None or (task.done() and (task.exception() or task.result().dead)):
            task = self._links[address] = asyncio.create_task(self._open(address))
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Ends all links."""
        for task in self._links.values():
            task.cancel()
        for result in await asyncio.gather(*self._links.values(), return_exceptions=True):
            if isinstance(result, ActorLink):
                await result.close()
        await asyncio.gather(*self._closing, return_exceptions=True)

    async def _open(self, address: str) -> ActorLink:
        link = ActorLink(address, self._gateway_id, self._wires)
        await link.start(self._link_lost)
        return link

    def _link_lost(self, link: ActorLink) -> None:
        self._links.pop(link.address, None)
        task = asyncio.create_task(link.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _request_size(request: stream_pb2.ControlRequest) -> int:
    return request.ByteSize()


def _frame_size(packet: stream_pb2.CameraPacket) -> int:
    return len(packet.data)
