"""A session as this gateway sees it: its lease, its journal, who is connected.

The gateway stores the latest snapshot and never decides from it: commands go to the
actor, whose session machine is the only authority. What the session shows is the affair of
`gateway.showing`, its camera of `gateway.publishing`.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

import structlog
from google.protobuf import duration_pb2, timestamp_pb2

from gateway.client_connection import ClientConnection
from gateway.connection import Event
from gateway.fanout import OutputFanout
from gateway.links import ActorLink
from gateway.pacing import Pacing
from gateway.ports import Sink
from gateway.publishing import Publishing
from gateway.showing import Showing
from gateway.viewer_stats import ViewerClock
from sana_gateway.v1 import command_pb2, media_pb2, message_pb2, session_pb2
from sana_gateway_internal.v1 import placement_pb2, stream_pb2
from scheduler.core.errors import LimitError, SessionClosedError
from scheduler.core.ids import Principal

log = structlog.get_logger(__name__)

JOURNAL = 256
"""Messages kept for who reconnects."""
FIRST_CONNECTION = 1002
"""Connections are numbered from here; 1001 belongs to the oldest Reactor clients."""
LAST_CONNECTION = 9999


class SessionEvents(Protocol):
    """Whom a session tells what."""

    def connections_changed(self, session: GatewaySession) -> None:
        """A connection came or went."""

    def link_lost(self, session: GatewaySession) -> None:
        """Its actor's streams ended."""

    def over(self, session: GatewaySession, reason: str) -> None:
        """The actor says that it has ended."""


class GatewaySession:
    """One session of this gateway."""

    def __init__(
        self,
        session_id: str,
        model: str,
        principal: Principal,
        events: SessionEvents,
        *,
        max_connections: int,
        pacing: Pacing,
    ) -> None:
        """Begins waiting for a place.

        Args:
            session_id: Its id.
            model: The model that was asked for.
            principal: Who created it.
            events: Who hears of it.
            max_connections: Connections at once.
            pacing: What paces the sessions of this process.
        """
        self.model = model
        self.status: session_pb2.SessionStatus.ValueType = session_pb2.SESSION_STATUS_WAITING
        self.created_at = time.time()
        self.last_connected_at = time.monotonic()
        self.lease: placement_pb2.Lease | None = None
        self._session_id = session_id
        self._principal = principal
        self._events = events
        self._max_connections = max_connections
        self._log = log.bind(session_id=session_id)
        self._queue = (0, 0.0)
        self._close_reason = ""
        self._settled = asyncio.Event()
        self._link: ActorLink | None = None
        self._connections: dict[int, ClientConnection] = {}
        self._next_connection = FIRST_CONNECTION
        self._journal: deque[message_pb2.Message] = deque(maxlen=JOURNAL)
        self._state: message_pb2.Message | None = None
        clock, times = asyncio.get_running_loop().time, ViewerClock()
        self._showing = Showing(session_id, self.send, pacing, times, clock)
        self.publishing = Publishing(session_id, times, clock)

    # -- what wires see -------------------------------------------------------------------------

    @property
    def session_id(self) -> str:
        """Its id."""
        return self._session_id

    @property
    def principal(self) -> Principal:
        """Who created it."""
        return self._principal

    @property
    def connection_count(self) -> int:
        """Connections to it here."""
        return len(self._connections)

    def describe(self) -> session_pb2.Session:
        """Returns it as the public contract shows it."""
        session = session_pb2.Session(
            session_id=self._session_id,
            model=self.model,
            status=self.status,
            queue_position=self._queue[0],
            create_time=timestamp_pb2.Timestamp(seconds=int(self.created_at)),
            close_reason=self._close_reason,
        )
        if self._queue[1] > 0:
            wait = duration_pb2.Duration()
            wait.FromMicroseconds(int(self._queue[1] * 1e6))
            session.estimated_wait.CopyFrom(wait)
        if self.lease is not None and self.status == session_pb2.SESSION_STATUS_READY:
            session.capabilities.CopyFrom(self.lease.capabilities)
        return session

    async def wait_ready(self) -> None:
        """Returns once the session is placed.

        Raises:
            SessionClosedError: It ended first.
        """
        await self._settled.wait()
        if self.status == session_pb2.SESSION_STATUS_CLOSED:
            raise SessionClosedError(f"the session has ended: {self._close_reason}")

    def connect(
        self, sink: Sink, *, resume_after: int | None = None
    ) -> tuple[ClientConnection, bool]:
        """Adds a connection; see `gateway.ports.HubSession`."""
        if self.status == session_pb2.SESSION_STATUS_CLOSED:
            raise SessionClosedError(f"the session has ended: {self._close_reason}")
        if len(self._connections) >= self._max_connections:
            raise LimitError(f"a session has at most {self._max_connections} connections")
        connection = ClientConnection(self._take_number(), self, sink, resume_after)
        self._connections[connection.connection_id] = connection
        self._connections_changed()
        if self.status == session_pb2.SESSION_STATUS_READY:
            if self._link is not None:
                connection.told(Event.OPENED)
            self._greet(connection)
        elif self._queue[0]:
            sink.queued(*self._queue)
        return connection, self._gap(resume_after)

    # -- what connections ask -------------------------------------------------------------------

    @property
    def is_ready(self) -> bool:
        """Whether commands are answered."""
        return self.status == session_pb2.SESSION_STATUS_READY

    def send(self, request: stream_pb2.ControlRequest, *, urgent: bool = True) -> None:
        """Sends to the actor; lost while it is being found anew (commands are kept by
        their connections and sent again).
        """
        if self._link is not None:
            self._link.send(request, urgent=urgent)

    def output(self, codec: media_pb2.Codec.ValueType) -> OutputFanout:
        """Returns the output of a codec."""
        return self._showing.output(codec)

    def disconnect(self, connection: ClientConnection) -> None:
        """Removes a connection."""
        if self._connections.pop(connection.connection_id, None) is None:
            return
        if self.publishing.publisher is connection:
            self.publishing.publish(None)
        self._connections_changed()

    # -- what the hub tells ---------------------------------------------------------------------

    def queued(self, position: int, estimated_wait_s: float) -> None:
        """The session moved in the queue."""
        self._queue = (position, estimated_wait_s)
        for connection in list(self._connections.values()):
            connection.sink.queued(position, estimated_wait_s)

    def join(self, lease: placement_pb2.Lease, link: ActorLink) -> None:
        """The session was placed; takes part in it at its actor, unless it has ended."""
        if self.status == session_pb2.SESSION_STATUS_CLOSED:
            return
        self.lease = lease
        self._link = link
        self._showing.joined(lease.epoch)
        self.publishing.linked(link)
        link.join(self._session_id, self, lease.token)

    def close(self, reason: str) -> None:
        """The session has ended."""
        if self.status == session_pb2.SESSION_STATUS_CLOSED:
            return
        self.status = session_pb2.SESSION_STATUS_CLOSED
        self._close_reason = reason
        self._queue = (0, 0.0)
        self._settled.set()
        if self._link is not None:
            self._link.leave(self._session_id)
            self._link = None
            self.publishing.linked(None)
        for connection in list(self._connections.values()):
            connection.sink.ended(reason)
            connection.close()
        # An ended session is still answered for, but keeps nothing of its content.
        self._journal.clear()
        self._state = None
        self._showing.close()
        self._log.info("session.closed", reason=reason)

    # -- what the link tells --------------------------------------------------------------------

    def control(self, response: stream_pb2.ControlResponse) -> None:
        """Something happened at the actor."""
        kind = response.WhichOneof("response")
        handler = self._HANDLERS.get(kind or "")
        if handler is not None:
            handler(self, response)

    def packet(self, packet: stream_pb2.VideoPacket) -> None:
        """A frame of an output came."""
        self._showing.packet(packet)

    def link_lost(self) -> None:
        """The actor's streams ended."""
        self._link = None
        self.publishing.linked(None)
        self._showing.lost()
        for connection in self._connections.values():
            connection.told(Event.LOST)
        self._events.link_lost(self)

    def _opened(self, response: stream_pb2.ControlResponse) -> None:
        first = self.status == session_pb2.SESSION_STATUS_WAITING
        self.status = session_pb2.SESSION_STATUS_READY
        self._queue = (0, 0.0)
        known = self._journal[-1].revision if self._journal else 0
        missed = [message for message in response.opened.journal if message.revision > known]
        for message in missed:
            self._remember(message)
        self._settled.set()
        self.publishing.opened()
        self._showing.opened()
        for connection in list(self._connections.values()):
            connection.told(Event.OPENED)
            if first:
                self._greet(connection)
            else:
                for message in missed:
                    connection.sink.message(message)
            connection.resend()

    def _refused(self, response: stream_pb2.ControlResponse) -> None:
        """The actor does not know the lease: it was placed anew, or has just ended."""
        self._log.warning("session.refused", reason=response.refused.reason)
        if self._link is not None:
            self._link.leave(self._session_id)
        self.link_lost()

    def _message(self, response: stream_pb2.ControlResponse) -> None:
        told = response.message
        message = told.message
        if message.WhichOneof("payload") == "command_error" and told.connection_id:
            asker = self._connections.get(told.connection_id)
            if asker is not None:
                asker.sink.message(message)
            return
        anonymous = message
        if message.command_id:
            anonymous = message_pb2.Message()
            anonymous.CopyFrom(message)
            anonymous.command_id = ""
        self._remember(anonymous)
        if message.HasField("state") and not message.state.running:
            self._showing.hold()
        for number, connection in list(self._connections.items()):
            connection.sink.message(message if number == told.connection_id else anonymous)

    def _ack(self, response: stream_pb2.ControlResponse) -> None:
        connection = self._connections.get(response.ack.connection_id)
        if connection is not None:
            connection.acked(response.ack.command_id, response.ack.accepted)

    _HANDLERS: dict[str, Callable[[GatewaySession, stream_pb2.ControlResponse], None]] = {  # noqa: RUF012
        "opened": _opened,
        "refused": _refused,
        "message": _message,
        "ack": _ack,
        "chunk": lambda self, told: self._showing.chunk(told.chunk),
        "abandoned": lambda self, told: self._showing.abandon(told.abandoned.next_run),
        "camera_keyframe": lambda self, _: self.publishing.ask_keyframe(),
        "closed": lambda self, told: self._events.over(self, told.closed.reason),
    }

    # -- the rest -------------------------------------------------------------------------------

    def _greet(self, connection: ClientConnection) -> None:
        connection.sink.ready()
        resume_after = connection.resume_after
        if resume_after is not None and not self._gap(resume_after):
            for message in self._journal:
                if message.revision > resume_after:
                    replay = message_pb2.Message()
                    replay.CopyFrom(message)
                    replay.replayed = True
                    connection.sink.message(replay)
        elif self._state is not None:
            connection.sink.message(self._state)

    def _gap(self, resume_after: int | None) -> bool:
        if resume_after is None or not self._journal:
            return resume_after is not None and resume_after > 0
        return not self._journal[0].revision - 1 <= resume_after <= self._journal[-1].revision

    def _remember(self, message: message_pb2.Message) -> None:
        if message.revision:
            self._journal.append(message)
        if message.HasField("state"):
            self._state = message
            self.publishing.is_live = message.state.mode != command_pb2.MODE_FILE

    def _take_number(self) -> int:
        for _ in range(LAST_CONNECTION - FIRST_CONNECTION + 1):
            number = self._next_connection
            self._next_connection = number + 1 if number < LAST_CONNECTION else FIRST_CONNECTION
            if number not in self._connections:
                return number
        raise LimitError("no connection number is free")

    def _connections_changed(self) -> None:
        self.last_connected_at = time.monotonic()
        self._events.connections_changed(self)
