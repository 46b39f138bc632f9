"""A scriptable session behind `gateway.ports`, and its connections.

It records what the wires ask. The sink is called synchronously, also inside `connect`: the
harshest order a wire may see.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway import ports
from gateway.recording.errors import ClipFailedError
from sana_gateway.v1 import command_pb2, media_pb2, message_pb2, session_pb2
from scheduler.core.errors import (
    BadOfferError,
    PublisherTakenError,
    RequestError,
    SessionClosedError,
)
from scheduler.core.ids import Principal
from tests.fakes import answers
from tests.fakes.changes import Changes

JOURNAL = 256
BOTH_CODECS: tuple[media_pb2.Codec.ValueType, ...] = (media_pb2.CODEC_H264, media_pb2.CODEC_VP8)


@dataclass(eq=False)
class FakeSubscription:
    """One viewer; give it frames with `viewer.frame(...)`."""

    connection: FakeConnection
    viewer: ports.Viewer
    codec: media_pb2.Codec.ValueType
    keyframe_requests: int = 0
    estimates: list[int] = field(default_factory=list)
    paused: bool = False
    closed: bool = False

    def request_keyframe(self) -> None:
        self.keyframe_requests += 1
        self.connection.changes.happened()

    def estimate(self, bits_per_second: int) -> None:
        self.estimates.append(bits_per_second)
        self.connection.changes.happened()

    def pause(self) -> None:
        self.paused = True
        self.connection.changes.happened()

    def resume(self) -> None:
        self.paused = False
        self.connection.changes.happened()

    def close(self) -> None:
        self.closed = True
        self.connection.changes.happened()


class FakeConnection:
    """One connection, and everything its wire did with it."""

    def __init__(self, session: FakeSession, connection_id: int, sink: ports.Sink) -> None:
        self._session = session
        self._connection_id = connection_id
        self.sink = sink
        self.changes = session.changes
        self.commands: list[ports.CommandLike] = []
        self.traceparents: list[str] = []
        self.subscriptions: list[FakeSubscription] = []
        self.frames: list[ports.CameraFrame] = []
        self.closed = False

    @property
    def connection_id(self) -> int:
        return self._connection_id

    @property
    def session(self) -> FakeSession:
        return self._session

    def command(self, command: ports.CommandLike, traceparent: str = "") -> None:
        if self._session.end_reason is not None:
            raise SessionClosedError("the session has ended")
        if self._session.command_error is not None:
            raise self._session.command_error
        self.commands.append(command)
        self.traceparents.append(traceparent)
        self._session.on_command(self, command)
        self.changes.happened()

    def subscribe(
        self, codecs: Sequence[media_pb2.Codec.ValueType], viewer: ports.Viewer
    ) -> FakeSubscription:
        made = [codec for codec in codecs if codec in self._session.codecs]
        if not made:
            raise BadOfferError("none of these codecs is made here")
        subscription = FakeSubscription(self, viewer, made[0])
        self.subscriptions.append(subscription)
        self.changes.happened()
        return subscription

    def claim_camera(self) -> None:
        if self._session.publisher not in (None, self):
            raise PublisherTakenError("another connection publishes the camera")
        self._session.publisher = self
        self.changes.happened()

    def camera(self, frame: ports.CameraFrame) -> None:
        if self._session.publisher is None:
            self.claim_camera()
        if self._session.publisher is self:
            self.frames.append(frame)
            self.changes.happened()

    def release_camera(self) -> None:
        if self._session.publisher is self:
            self._session.publisher = None
        self.changes.happened()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.release_camera()
            for subscription in self.subscriptions:
                subscription.close()
            self.changes.happened()


class FakeSession:
    """One session. Script it with `place`, `queue`, `publish`, `refuse`, `end`."""

    def __init__(
        self, changes: Changes, session_id: str, principal: Principal, model: str, *, ready: bool
    ) -> None:
        self.changes = changes
        self._session_id = session_id
        self._principal = principal
        self.model = model
        self.codecs: tuple[media_pb2.Codec.ValueType, ...] = BOTH_CODECS
        self.state = message_pb2.State(mode=command_pb2.MODE_LIVE, phase=message_pb2.PHASE_IDLE)
        self.revision = 0
        self.journal: list[message_pb2.Message] = []
        self.connections: list[FakeConnection] = []
        self.publisher: FakeConnection | None = None
        self.refuse: dict[str, message_pb2.CommandError] = {}
        """Refusals by name of the command."""
        self.command_error: RequestError | None = None
        """Raised by the next calls of `Connection.command`."""
        self.connect_error: RequestError | None = None
        """Raised by the next calls of `connect`."""
        self.refused_connections = 0
        self.on_command: Callable[[FakeConnection, ports.CommandLike], None] = self.respond
        """Replace it to answer by hand."""
        self.handled: dict[str, bool] = {}
        self.effects = 0
        """Commands that took effect, repeats not counted."""
        self.clip: ports.Clip | str = "recorder disabled"
        """What `request_clip` gives, or why it gives none."""
        self.clips_asked: list[float | None] = []
        self.position = 0 if ready else 1
        self.ready = ready
        self.end_reason: str | None = None
        self._numbers = itertools.count(1002)

    @property
    def session_id(self) -> str:
        return self._session_id

    @property
    def principal(self) -> Principal:
        return self._principal

    @property
    def open_connections(self) -> list[FakeConnection]:
        return [each for each in self.connections if not each.closed]

    def keep_journal_content(self) -> None:
        self.keeps_journal_content = True

    def request_clip(self, duration_s: float | None) -> ports.Clip:
        self.clips_asked.append(duration_s)
        if isinstance(self.clip, str):
            raise ClipFailedError(self.clip)
        return self.clip

    def describe(self) -> session_pb2.Session:
        if self.end_reason is not None:
            status = session_pb2.SESSION_STATUS_CLOSED
        elif self.ready:
            status = session_pb2.SESSION_STATUS_READY
        else:
            status = session_pb2.SESSION_STATUS_WAITING
        described = session_pb2.Session(
            session_id=self._session_id,
            model=self.model,
            status=status,
            queue_position=self.position,
            close_reason=self.end_reason or "",
        )
        described.create_time.FromSeconds(1_700_000_000)
        if self.ready:
            described.capabilities.CopyFrom(
                session_pb2.Capabilities(
                    tracks=[
                        session_pb2.Track(
                            name="main_video", direction=session_pb2.TRACK_DIRECTION_RECEIVE
                        ),
                        session_pb2.Track(
                            name="camera", direction=session_pb2.TRACK_DIRECTION_SEND
                        ),
                    ],
                    commands=[each.name for each in command_pb2.Command.DESCRIPTOR.fields[1:]],
                    frame_rate=24.0,
                    width=1280,
                    height=704,
                    minimum_frames=33,
                )
            )
        return described

    async def wait_ready(self) -> None:
        await self.changes.until(lambda: self.ready or self.end_reason is not None, 60.0)
        if self.end_reason is not None:
            raise SessionClosedError("the session has ended")

    def connect(
        self, sink: ports.Sink, *, resume_after: int | None = None
    ) -> tuple[FakeConnection, bool]:
        if self.end_reason is not None:
            raise SessionClosedError("the session has ended")
        if self.connect_error is not None:
            self.refused_connections += 1
            self.changes.happened()
            raise self.connect_error
        connection = FakeConnection(self, next(self._numbers), sink)
        self.connections.append(connection)
        first_kept = self.journal[0].revision if self.journal else self.revision + 1
        gap = resume_after is not None and resume_after + 1 < first_kept
        if self.ready:
            sink.ready()
            self._catch_up(sink, None if gap else resume_after)
        else:
            sink.queued(self.position, 1.5)
        self.changes.happened()
        return connection, gap

    def _catch_up(self, sink: ports.Sink, resume_after: int | None) -> None:
        if resume_after is None:
            sink.message(message_pb2.Message(revision=self.revision, state=self.state))
            return
        for message in self.journal:
            if message.revision > resume_after:
                again = message_pb2.Message(replayed=True)
                again.MergeFrom(message)
                sink.message(again)

    def queue(self, position: int, estimated_wait_s: float = 1.5) -> None:
        """Moves the session in the queue and tells its connections."""
        self.position = position
        for connection in self.open_connections:
            connection.sink.queued(position, estimated_wait_s)

    def place(self) -> None:
        """Makes a waiting session ready."""
        self.ready, self.position = True, 0
        for connection in self.open_connections:
            connection.sink.ready()
            self._catch_up(connection.sink, None)
        self.changes.happened()

    def end(self, reason: str) -> None:
        """Ends the session and tells its connections."""
        if self.end_reason is None:
            self.end_reason = reason
            for connection in self.open_connections:
                connection.sink.ended(reason)
            self.changes.happened()

    def publish(
        self, *, asker: FakeConnection | None = None, command_id: str = "", **payload: Any
    ) -> None:
        """Sends one message to all connections, e.g. `publish(state=session.state)`."""
        self.revision += 1
        message = message_pb2.Message(revision=self.revision, **payload)
        self.journal = [*self.journal, message][-JOURNAL:]
        for connection in self.open_connections:
            mine = message_pb2.Message()
            mine.CopyFrom(message)
            mine.command_id = command_id if connection is asker else ""
            connection.sink.message(mine)

    def respond(self, connection: FakeConnection, command: ports.CommandLike) -> None:
        """Answers a command: accepted unless `refuse` says otherwise; repeats do nothing."""
        answers.respond(self, connection, command)
