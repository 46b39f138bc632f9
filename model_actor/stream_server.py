"""Serves `sana_gateway_internal.v1.Stream`: one pair of streams for each gateway."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Protocol

import grpc
import structlog

from model_actor.engine.live_session import LiveSession
from model_actor.engine.shells import Shell
from sana_gateway_internal.v1 import stream_pb2, stream_pb2_grpc
from scheduler.core.errors import UnauthenticatedError
from scheduler.process.batches import take_batch
from scheduler.process.instruments import QUEUES
from scheduler.process.tokens import LeaseTokens

log = structlog.get_logger(__name__)

CONTROL_QUEUE = 8192
"""Responses that may wait for a gateway; past it the gateway's streams are ended, and it
takes part anew."""
MEDIA_QUEUE = 1024
"""Packets that may wait for a gateway; past it an output's packets are dropped up to its
next keyframe, which is asked for."""
TICK_S = 0.03
"""Shortest time between two messages, unless something is urgent: packets of many sessions
leave together, one that is alone at once. A message costs either end a few times what a packet
does, and packets are encoded some 60 ms before they are due."""
URGENT_S = 0.035
"""A packet whose frame is due within this leaves at once, and what waits with it."""
BATCH_BYTES = 512 * 1024
"""Most bytes in one message; see `take_batch`."""


_CONTROL = QUEUES.kind("gateway_control", CONTROL_QUEUE)
_MEDIA = QUEUES.kind("gateway_media", MEDIA_QUEUE)


class Sessions(Protocol):
    """The sessions of this actor."""

    def get(self, session_id: str) -> LiveSession | Shell | None:
        """Returns a session, or one that waits to go on; None when it is not here."""

    def all(self) -> list[LiveSession | Shell]:
        """Returns all."""


class Link:
    """One gateway's pair of streams."""

    def __init__(self, gateway_id: str) -> None:
        """Prepares the queues."""
        self._gateway_id = gateway_id
        self._ended = False
        self._control = _CONTROL.watch(deque[stream_pb2.ControlResponse]())
        self._media = _MEDIA.watch(deque[stream_pb2.VideoPacket]())
        self._waiting_for_key: set[tuple[str, int, int]] = set()
        self._control_ready = asyncio.Event()
        self._media_ready = asyncio.Event()
        self._tick: asyncio.TimerHandle | None = None
        self._left_at = float("-inf")

    @property
    def gateway_id(self) -> str:
        """The gateway."""
        return self._gateway_id

    def control(self, response: stream_pb2.ControlResponse) -> None:
        """Queues a response; does nothing once the link has ended."""
        if self._ended:
            return
        if len(self._control) >= CONTROL_QUEUE:
            log.warning("gateway.too_slow", gateway_id=self._gateway_id)
            _CONTROL.overflowed()
            self.end()
            return
        self._control.append(response)
        self._control_ready.set()

    def end(self) -> None:
        """Ends both streams."""
        self._ended = True
        self._control_ready.set()
        self._flush()

    def media(self, packet: stream_pb2.VideoPacket, due_at: float) -> bool:
        """Queues a packet; False when it was dropped. See `GatewayLink.media`."""
        key = (packet.session_id, packet.output.codec, packet.output.rung)
        if packet.keyframe:
            self._waiting_for_key.discard(key)
        if len(self._media) >= MEDIA_QUEUE:
            _MEDIA.overflowed()
            self._waiting_for_key.add(key)
        if key in self._waiting_for_key:
            return False
        self._media.append(packet)
        loop = asyncio.get_running_loop()
        now = loop.time()
        if due_at - now <= URGENT_S or now - self._left_at >= TICK_S:
            self._flush()
        elif self._tick is None:
            self._tick = loop.call_at(self._left_at + TICK_S, self._flush)
        return True

    def _flush(self) -> None:
        """Lets what waits leave."""
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        self._left_at = asyncio.get_running_loop().time()
        self._media_ready.set()

    def forget(self, session_id: str) -> None:
        """The gateway takes part in a session no longer: its outputs wait for no keyframe."""
        self._waiting_for_key = {key for key in self._waiting_for_key if key[0] != session_id}

    async def controls(self) -> AsyncIterator[stream_pb2.ControlResponse]:
        """Yields the queued responses as they come, until the link ends."""
        while not self._ended:
            await self._control_ready.wait()
            self._control_ready.clear()
            while self._control:
                batch = take_batch(self._control, _message_size, BATCH_BYTES)
                yield batch[0] if len(batch) == 1 else stream_pb2.ControlResponse(more=batch)

    async def packets(self) -> AsyncIterator[stream_pb2.MediaResponse]:
        """Yields the queued packets when they are to leave, all that wait in one message."""
        while not self._ended:
            await self._media_ready.wait()
            self._media_ready.clear()
            while self._media:
                batch = take_batch(self._media, _packet_size, BATCH_BYTES)
                yield stream_pb2.MediaResponse(packets=batch)


class StreamServicer(stream_pb2_grpc.StreamServicer):
    """The data plane of an actor."""

    def __init__(self, sessions: Sessions, tokens: LeaseTokens) -> None:
        """Serves `sessions`; leases are checked with `tokens`."""
        self._sessions = sessions
        self._tokens = tokens
        self._links: dict[str, Link] = {}

    async def Control(  # noqa: N802 - the generated name
        self,
        request_iterator: AsyncIterator[stream_pb2.ControlRequest],
        context: grpc.aio.ServicerContext[stream_pb2.ControlRequest, stream_pb2.ControlResponse],
    ) -> AsyncIterator[stream_pb2.ControlResponse]:
        """Commands in; messages, chunks and events out."""
        first = await anext(request_iterator, None)
        if first is None or first.WhichOneof("request") != "hello" or not first.hello.gateway_id:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the first request must be hello")
        link = Link(first.hello.gateway_id)
        self._replace(link)
        reader = asyncio.create_task(self._read(link, request_iterator))
        reader.add_done_callback(lambda _: link.end())
        try:
            async for response in link.controls():
                yield response
        finally:
            reader.cancel()
            self._drop(link)

    async def Media(  # noqa: N802 - the generated name
        self,
        request_iterator: AsyncIterator[stream_pb2.MediaRequest],
        context: grpc.aio.ServicerContext[stream_pb2.MediaRequest, stream_pb2.MediaResponse],
    ) -> AsyncIterator[stream_pb2.MediaResponse]:
        """Camera frames in; frames of outputs out."""
        metadata = {str(key): value for key, value in context.invocation_metadata() or ()}
        link = self._links.get(str(metadata.get("gateway-id", "")))
        if link is None:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "open control first")
        reader = asyncio.create_task(self._read_media(link, request_iterator))
        try:
            async for batch in link.packets():
                yield batch
        finally:
            reader.cancel()

    async def _read(self, link: Link, requests: AsyncIterator[stream_pb2.ControlRequest]) -> None:
        async for request in requests:
            for each in request.more or (request,):
                self._handle(link, each)

    def _handle(self, link: Link, request: stream_pb2.ControlRequest) -> None:
        kind = request.WhichOneof("request")
        handler = self._HANDLERS.get(kind or "")
        if handler is not None:
            try:
                handler(self, link, request)
            except Exception as error:  # one session's affair must not end all others'
                log.error("request.failed", kind=kind, error=type(error).__name__)

    async def _read_media(
        self, link: Link, requests: AsyncIterator[stream_pb2.MediaRequest]
    ) -> None:
        async for request in requests:
            for packet in request.packets:
                session = self._joined(link, packet.session_id)
                if session is not None:
                    try:
                        session.camera_packet(link.gateway_id, packet)
                    except Exception as error:  # one session's affair
                        log.error("camera.failed", error=type(error).__name__)

    def _open(self, link: Link, request: stream_pb2.ControlRequest) -> None:
        wanted = request.open
        try:
            claims = self._tokens.verify(wanted.token)
        except UnauthenticatedError:
            self._refuse(link, wanted.session_id, "the lease is not valid")
            return
        session = self._sessions.get(wanted.session_id)
        if session is None:
            self._refuse(link, wanted.session_id, "the session is not on this actor")
        elif (claims.session, claims.gateway) != (wanted.session_id, link.gateway_id):
            self._refuse(link, wanted.session_id, "the lease is made out to somebody else")
        elif claims.epoch != session.placement.epoch:
            self._refuse(link, wanted.session_id, "the lease is of another epoch")
        elif isinstance(session, Shell):
            session.open(link, wanted)
        elif wanted.standby:
            session.stand_by(link)
        else:
            session.open(link, revision=wanted.restore.revision)

    def _refuse(self, link: Link, session_id: str, reason: str) -> None:
        refused = stream_pb2.Refused(session_id=session_id, reason=reason)
        link.control(stream_pb2.ControlResponse(refused=refused))

    def _leave(self, link: Link, request: stream_pb2.ControlRequest) -> None:
        link.forget(request.leave.session_id)
        session = self._sessions.get(request.leave.session_id)
        if session is not None:
            session.leave(link.gateway_id)

    def _command(self, link: Link, request: stream_pb2.ControlRequest) -> None:
        session = self._live(link, request.command.session_id)
        if session is not None:
            session.command(link.gateway_id, request.command)

    def _playout(self, link: Link, request: stream_pb2.ControlRequest) -> None:
        session = self._joined(link, request.playout.session_id)
        if session is not None:
            session.playout(link.gateway_id, request.playout)

    def _commit(self, link: Link, request: stream_pb2.ControlRequest) -> None:
        session = self._live(link, request.commit.session_id)
        if session is not None:
            session.commit(link.gateway_id, request.commit)

    def _output(self, link: Link, request: stream_pb2.ControlRequest) -> None:
        session = self._joined(link, request.output.session_id)
        if session is not None:
            session.demand(link.gateway_id, request.output)

    def _camera(self, link: Link, request: stream_pb2.ControlRequest) -> None:
        session = self._joined(link, request.camera.session_id)
        if session is not None:
            session.camera_status(link.gateway_id, request.camera)

    def _hand_over(self, link: Link, request: stream_pb2.ControlRequest) -> None:
        session = self._live(link, request.hand_over.session_id)
        if session is not None:
            session.hand_over(request.hand_over)
        else:
            # It is not here any more, or was never more than a shell: nothing to go on from.
            refused = stream_pb2.HandedOver(session_id=request.hand_over.session_id)
            link.control(stream_pb2.ControlResponse(handed_over=refused))

    def _copy(self, link: Link, request: stream_pb2.ControlRequest) -> None:
        session = self._live(link, request.copy.session_id)
        if session is not None:
            session.copy(link.gateway_id, request.copy)
        else:
            failure = "the session is not on this actor"
            refused = stream_pb2.Copied(session_id=request.copy.session_id, failure=failure)
            link.control(stream_pb2.ControlResponse(copied=refused))

    def _keep_content(self, link: Link, request: stream_pb2.ControlRequest) -> None:
        session = self._live(link, request.keep_content.session_id)
        if session is not None:
            session.keep_content()

    _HANDLERS = {  # noqa: RUF012 - a constant table of methods
        "open": _open,
        "leave": _leave,
        "command": _command,
        "playout": _playout,
        "commit": _commit,
        "output": _output,
        "camera": _camera,
        "hand_over": _hand_over,
        "copy": _copy,
        "keep_content": _keep_content,
    }

    def _live(self, link: Link, session_id: str) -> LiveSession | None:
        """Returns a session that the gateway takes part in, unless it waits to go on."""
        session = self._joined(link, session_id)
        return session if isinstance(session, LiveSession) else None

    def _joined(self, link: Link, session_id: str) -> LiveSession | Shell | None:
        """Returns a session that the gateway takes part in, or waits for."""
        session = self._sessions.get(session_id)
        return session if session is not None and session.has_gateway(link.gateway_id) else None

    def _replace(self, link: Link) -> None:
        """A gateway that comes again has lost its old streams."""
        old = self._links.get(link.gateway_id)
        if old is not None:
            self._drop(old)
            old.end()
        self._links[link.gateway_id] = link

    def _drop(self, link: Link) -> None:
        if self._links.get(link.gateway_id) is link:
            del self._links[link.gateway_id]
            for session in self._sessions.all():
                session.leave(link.gateway_id)


def _message_size(response: stream_pb2.ControlResponse) -> int:
    return response.ByteSize()


def _packet_size(packet: stream_pb2.VideoPacket) -> int:
    return len(packet.data)
