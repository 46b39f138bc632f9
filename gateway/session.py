"""A session as this gateway sees it: its lease, its journal, its clock, who is connected.

The gateway stores the latest snapshot and never decides from it: commands go to the
actor, whose session machine is the only authority.
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
from gateway.fanout import CODECS, Demand, OutputFanout
from gateway.links import ActorLink
from gateway.playout import Due, Playout
from gateway.ports import CameraFrame, Sink
from sana_gateway.v1 import media_pb2, message_pb2, session_pb2
from sana_gateway_internal.v1 import placement_pb2, stream_pb2
from scheduler.core.errors import InvariantError, LimitError, SessionClosedError
from scheduler.core.ids import Principal
from scheduler.process.telemetry import context_from, span

log = structlog.get_logger(__name__)

JOURNAL = 256
"""Messages kept for who reconnects."""
FIRST_CONNECTION = 1002
"""Connections are numbered from here; 1001 belongs to the oldest Reactor clients."""
LAST_CONNECTION = 9999
STAMPS = 128
"""Timestamps of frames kept for packets that come late."""


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
    ) -> None:
        """Begins waiting for a place."""
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
        self._playout = Playout()
        self._timer: asyncio.TimerHandle | None = None
        self._outputs = {
            codec: OutputFanout(codec, self._demand_of(codec), _now) for codec in CODECS
        }
        self._reached = (0, -1)
        self._next_run = 0
        self._stamps: dict[tuple[int, int], int] = {}
        self._awaited_packet: dict[tuple[int, int], str] = {}
        self._publisher: ClientConnection | None = None
        self._camera_skips = False

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

    def send(self, request: stream_pb2.ControlRequest) -> None:
        """Sends to the actor; lost while it is being found anew (commands are kept by
        their connections and sent again).
        """
        if self._link is not None:
            self._link.send(request)

    def output(self, codec: media_pb2.Codec.ValueType) -> OutputFanout:
        """Returns the output of a codec."""
        return self._outputs[codec]

    @property
    def publisher(self) -> ClientConnection | None:
        """The connection that publishes the camera."""
        return self._publisher

    def publish(self, connection: ClientConnection | None) -> None:
        """Changes who publishes."""
        self._publisher = connection
        # Another publisher's frames do not follow on: they begin at a keyframe.
        self._camera_skips = True
        self._tell_camera()

    def camera(self, frame: CameraFrame) -> None:
        """Hands a frame of the publisher on, or drops up to the next keyframe."""
        link = self._link
        if link is None:
            self._camera_skips = True
            return
        if self._camera_skips and not frame.keyframe:
            return
        packet = stream_pb2.CameraPacket(
            session_id=self._session_id,
            codec=frame.codec,
            keyframe=frame.keyframe,
            timestamp_us=frame.timestamp_us,
            data=frame.data,
            discontinuity=frame.discontinuity or self._camera_skips,
        )
        sent = link.camera(packet)
        if not sent and not self._camera_skips and self._publisher is not None:
            self._publisher.sink.camera_keyframe()
        self._camera_skips = not sent

    def disconnect(self, connection: ClientConnection) -> None:
        """Removes a connection."""
        if self._connections.pop(connection.connection_id, None) is None:
            return
        if self._publisher is connection:
            self.publish(None)
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
        link.join(self._session_id, self, lease.token)

    def close(self, reason: str) -> None:
        """The session has ended."""
        if self.status == session_pb2.SESSION_STATUS_CLOSED:
            return
        self.status = session_pb2.SESSION_STATUS_CLOSED
        self._close_reason = reason
        self._queue = (0, 0.0)
        self._settled.set()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._link is not None:
            self._link.leave(self._session_id)
            self._link = None
        for connection in list(self._connections.values()):
            connection.sink.ended(reason)
            connection.close()
        # An ended session is still answered for, but keeps nothing of its content.
        self._journal.clear()
        self._state = None
        self._outputs.clear()
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
        if self.lease is None or packet.epoch < self.lease.epoch:
            return
        output = self._outputs.get(packet.output.codec)
        if output is None:
            return
        if packet.run < self._next_run and not packet.held:
            output.abandon()
            return
        output.packet(packet)
        if packet.held or (packet.run, packet.frame) <= self._reached:
            self._hand_out(None)

    def link_lost(self) -> None:
        """The actor's streams ended."""
        self._link = None
        self._playout.withdraw()
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
        if self._publisher is not None:
            self._tell_camera()
        for output in self._outputs.values():
            output.demand_again()
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
            self._playout.hold()
        for number, connection in list(self._connections.items()):
            connection.sink.message(message if number == told.connection_id else anonymous)

    def _ack(self, response: stream_pb2.ControlResponse) -> None:
        connection = self._connections.get(response.ack.connection_id)
        if connection is not None:
            connection.acked(response.ack.command_id, response.ack.accepted)

    def _chunk(self, response: stream_pb2.ControlResponse) -> None:
        chunk = response.chunk
        now = _now()
        try:
            self._playout.chunk(
                chunk.run, chunk.chunk, chunk.first_frame, chunk.frames, chunk.frame_rate, now
            )
        except InvariantError as error:
            self._log.error("chunk.unusable", error=str(error))
            return
        self._next_run = max(self._next_run, chunk.run)
        if chunk.answers_command and chunk.traceparent:
            self._awaited_packet = {(chunk.run, chunk.chunk): chunk.traceparent}
        self._report(now)
        played = self._playout.report(now)
        if (chunk.run, chunk.first_frame + chunk.frames) <= (played.run, played.next_frame):
            # An actor that lost our commit announces the chunk again.
            self._commit(chunk.run, chunk.chunk)
        self._arm()

    def _abandoned(self, response: stream_pb2.ControlResponse) -> None:
        next_run = response.abandoned.next_run
        self._next_run = max(self._next_run, next_run)
        self._playout.abandon(next_run, _now())
        self._awaited_packet.clear()
        for output in self._outputs.values():
            output.abandon()
        self._arm()

    def _camera_keyframe(self, _: stream_pb2.ControlResponse) -> None:
        if self._publisher is not None:
            self._publisher.sink.camera_keyframe()

    def _closed(self, response: stream_pb2.ControlResponse) -> None:
        self._events.over(self, response.closed.reason)

    _HANDLERS: dict[str, Callable[[GatewaySession, stream_pb2.ControlResponse], None]] = {  # noqa: RUF012
        "opened": _opened,
        "refused": _refused,
        "message": _message,
        "ack": _ack,
        "chunk": _chunk,
        "abandoned": _abandoned,
        "camera_keyframe": _camera_keyframe,
        "closed": _closed,
    }

    # -- play-out -------------------------------------------------------------------------------

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due_at = self._playout.next_due()
        if due_at is not None:
            self._timer = asyncio.get_running_loop().call_at(due_at, self._play)

    def _play(self) -> None:
        self._timer = None
        for due in self._playout.due(_now()):
            self._reached = (due.run, due.frame)
            self._stamps[due.run, due.frame] = due.timestamp_us
            if len(self._stamps) > STAMPS:
                del self._stamps[next(iter(self._stamps))]
            self._hand_out(due)
            if due.last_of_chunk:
                self._commit(due.run, due.chunk)
                self._report(_now())
        self._arm()

    def _commit(self, run: int, chunk: int) -> None:
        commit = stream_pb2.Commit(session_id=self._session_id, run=run, chunk=chunk)
        self.send(stream_pb2.ControlRequest(commit=commit))

    def _hand_out(self, due: Due | None) -> None:
        left = False
        for output in self._outputs.values():
            left |= output.due(due, self._reached, self._stamp)
        if left and due is not None and self._awaited_packet:
            traceparent = self._awaited_packet.pop((due.run, due.chunk), "")
            if traceparent:
                with span(
                    "gateway.first_packet",
                    parent=context_from(traceparent),
                    attributes={"session.id": self._session_id, "chunk.index": due.chunk},
                ):
                    pass

    def _stamp(self, packet: stream_pb2.VideoPacket) -> int:
        """Returns when a packet belongs on the play-out clock: a held picture, to now."""
        stamp = None if packet.held else self._stamps.get((packet.run, packet.frame))
        return stamp if stamp is not None else self._playout.position_us(_now())

    def _report(self, now: float) -> None:
        report = self._playout.report(now)
        playout = stream_pb2.Playout(
            session_id=self._session_id,
            run=report.run,
            next_frame=report.next_frame,
            due_in_us=int(report.due_in_s * 1e6),
            buffered=report.buffered,
            underruns=report.underruns,
        )
        self.send(stream_pb2.ControlRequest(playout=playout))

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

    def _demand_of(self, codec: media_pb2.Codec.ValueType) -> Demand:
        def demand(*, wanted: bool, keyframe: bool = False, bitrate: int = 0) -> None:
            demand = stream_pb2.OutputDemand(
                session_id=self._session_id,
                output=stream_pb2.Output(codec=codec, rung=0),
                wanted=wanted,
                keyframe=keyframe,
                bitrate=bitrate,
            )
            self.send(stream_pb2.ControlRequest(output=demand))

        return demand

    def _tell_camera(self) -> None:
        status = stream_pb2.CameraStatus(
            session_id=self._session_id, published=self._publisher is not None
        )
        self.send(stream_pb2.ControlRequest(camera=status))

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


def _now() -> float:
    return asyncio.get_running_loop().time()
