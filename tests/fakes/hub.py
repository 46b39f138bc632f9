"""A scriptable hub behind `gateway.ports`, for tests of the wires.

`FakeHub` makes sessions that are ready at once (or wait until `place()`), record what
the wires ask, and answer commands plausibly: accepted unless `refuse` names them. The
sink is called synchronously, also inside `connect`: the harshest order a wire may see.
`await until(...)` waits for anything the fakes record.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway import ports
from gateway.auth import NoAuth
from gateway.ingress import ChannelHandler, IceServer, IngressServices, IngressSettings
from sana_gateway.v1 import command_pb2, media_pb2, message_pb2, pool_pb2, session_pb2
from sana_gateway_internal.v1 import stream_pb2
from scheduler.core.errors import (
    BadOfferError,
    PublisherTakenError,
    RequestError,
    SessionClosedError,
    UnknownModelError,
    UnknownSessionError,
)
from scheduler.core.ids import Principal
from tests.fakes.drains import Drains
from tests.fakes.uploads import FakeUploads as FakeUploads

JOURNAL = 256
BOTH_CODECS: tuple[media_pb2.Codec.ValueType, ...] = (media_pb2.CODEC_H264, media_pb2.CODEC_VP8)


class Changes:
    """Lets a test wait for what a fake records, without polling."""

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()

    def happened(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def until(self, condition: Callable[[], Any], timeout_s: float = 10.0) -> Any:
        async with asyncio.timeout(timeout_s):
            while not (value := condition()):
                waiter = asyncio.get_running_loop().create_future()
                self._waiters.add(waiter)
                try:
                    await waiter
                finally:
                    self._waiters.discard(waiter)
            return value


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
        command_id = command.command_id
        if isinstance(command, stream_pb2.InvalidCommand):
            error = message_pb2.CommandError(
                command=command.name, reason=command.reason, code=command.code
            )
            return self._rejected(connection, command_id, error)
        name = command.WhichOneof("command") or ""
        refusal = self.refuse.get(name)
        if refusal is not None:
            return self._rejected(connection, command_id, refusal)
        if command_id not in self.handled:
            self.handled[command_id] = True
            self.effects += 1
            _EFFECTS.get(name, _no_effect)(self, connection, command)
        self.publish(state=self.state)
        connection.sink.ack(command_id, accepted=True)
        return None

    def _rejected(
        self, connection: FakeConnection, command_id: str, error: message_pb2.CommandError
    ) -> None:
        connection.sink.message(message_pb2.Message(command_id=command_id, command_error=error))
        self.publish(state=self.state)
        connection.sink.ack(command_id, accepted=False)


def _no_effect(*_: object) -> None:
    """Nothing to do but the state that follows."""


def _set_mode(session: FakeSession, _: FakeConnection, command: command_pb2.Command) -> None:
    session.state.mode = command.set_mode.mode


def _set_video(
    session: FakeSession, connection: FakeConnection, command: command_pb2.Command
) -> None:
    session.state.has_video, session.state.num_source_frames = True, 48
    accepted = message_pb2.VideoAccepted(width=640, height=360, num_frames=48, num_latent_frames=6)
    session.publish(asker=connection, command_id=command.command_id, video_accepted=accepted)


def _set_prompt(
    session: FakeSession, connection: FakeConnection, command: command_pb2.Command
) -> None:
    session.state.has_prompt, session.state.current_prompt = True, command.set_prompt.prompt
    accepted = message_pb2.PromptAccepted(prompt=command.set_prompt.prompt)
    session.publish(asker=connection, command_id=command.command_id, prompt_accepted=accepted)


def _set_seed(session: FakeSession, _: FakeConnection, command: command_pb2.Command) -> None:
    session.state.seed = command.set_seed.seed


def _start(session: FakeSession, connection: FakeConnection, command: command_pb2.Command) -> None:
    session.state.started = session.state.running = True
    session.state.phase = message_pb2.PHASE_RUNNING
    started = message_pb2.GenerationStarted(prompt=session.state.current_prompt)
    session.publish(asker=connection, command_id=command.command_id, generation_started=started)


def _pause(session: FakeSession, *_: object) -> None:
    session.state.paused, session.state.phase = True, message_pb2.PHASE_PAUSING


def _resume(session: FakeSession, *_: object) -> None:
    session.state.paused, session.state.phase = False, message_pb2.PHASE_RUNNING


def _reset(session: FakeSession, connection: FakeConnection, command: command_pb2.Command) -> None:
    session.state = message_pb2.State(
        mode=session.state.mode, seed=session.state.seed, phase=message_pb2.PHASE_IDLE
    )
    done = message_pb2.GenerationReset(reason="reset by the client")
    session.publish(asker=connection, command_id=command.command_id, generation_reset=done)


_EFFECTS: dict[str, Callable[[FakeSession, FakeConnection, command_pb2.Command], None]] = {
    "set_mode": _set_mode,
    "set_video": _set_video,
    "set_prompt": _set_prompt,
    "set_seed": _set_seed,
    "start": _start,
    "pause": _pause,
    "resume": _resume,
    "reset": _reset,
}


class FakeHub:
    """The sessions of one gateway."""

    def __init__(self, models: Sequence[str] = ("painter",), *, ready: bool = True) -> None:
        self.changes = Changes()
        self.until = self.changes.until
        self.models = tuple(models)
        self.ready = ready
        """Whether new sessions are placed at once."""
        self.create_error: RequestError | None = None
        """Raised by the next calls of `create` and `fork`."""
        self.sessions: dict[str, FakeSession] = {}
        self.closed: list[tuple[str, str]] = []
        self.forks = 0
        """Times that a session was to be copied."""
        self._requests: dict[tuple[str, str], FakeSession] = {}
        self._numbers = itertools.count(1)

    @property
    def session(self) -> FakeSession:
        """The latest session."""
        return list(self.sessions.values())[-1]

    def served_models(self) -> Sequence[str]:
        return self.models

    async def create(self, principal: Principal, model: str, request_id: str = "") -> FakeSession:
        if self.create_error is not None:
            raise self.create_error
        if model not in self.models:
            raise UnknownModelError(self.models)
        key = (principal.tenant, request_id)
        if request_id and key in self._requests:
            return self._requests[key]
        session_id = f"session-{next(self._numbers)}"
        session = FakeSession(self.changes, session_id, principal, model, ready=self.ready)
        self.sessions[session_id] = session
        if request_id:
            self._requests[key] = session
        self.changes.happened()
        return session

    async def fork(
        self, principal: Principal, session_id: str, copies: int, request_id: str = ""
    ) -> Sequence[FakeSession]:
        """Makes copies; repeating a request id returns the first ones."""
        if self.create_error is not None:
            raise self.create_error
        source = await self.find(principal, session_id)
        names = [f"{session_id} {request_id or self.forks}/{each}" for each in range(copies)]
        self.forks += 1
        return [await self.create(principal, source.model, name) for name in names]

    async def find(self, principal: Principal, session_id: str) -> FakeSession:
        session = self.sessions.get(session_id)
        if session is None or session.principal.tenant != principal.tenant:
            raise UnknownSessionError("no such session")
        return session

    async def close(self, principal: Principal, session_id: str, reason: str) -> None:
        session = await self.find(principal, session_id)
        self.closed.append((session_id, reason))
        session.end(reason)


@dataclass(eq=False)
class FakePeer:
    """A peer; `fail()` plays a broken transport, `channels` takes data channels."""

    connection: ports.Connection
    sdp: str
    tracks: dict[str, str]
    channels: ChannelHandler | None
    on_closed: Callable[[], None]
    candidates: list[session_pb2.IceCandidate] = field(default_factory=list)
    paused: set[str] = field(default_factory=set)
    keyframe_requests: int = 0
    closed: bool = False

    def pause(self, track: str) -> None:
        self.paused.add(track)

    def resume(self, track: str) -> None:
        self.paused.discard(track)

    def request_camera_keyframe(self) -> None:
        self.keyframe_requests += 1

    async def add_candidates(self, candidates: Sequence[session_pb2.IceCandidate]) -> None:
        self.candidates.extend(candidates)

    async def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.on_closed()

    def fail(self) -> None:
        """The transport breaks."""
        if not self.closed:
            self.closed = True
            self.on_closed()


class FakePeers:
    """Answers every offer but the word "bad"."""

    def __init__(self) -> None:
        self.peers: list[FakePeer] = []
        self.servers: list[IceServer] = []
        """What clients are given."""

    def ice_servers(self) -> Sequence[IceServer]:
        return self.servers

    async def answer(
        self,
        connection: ports.Connection,
        sdp: str,
        tracks: Mapping[str, str],
        *,
        channels: ChannelHandler | None = None,
        on_closed: Callable[[], None],
    ) -> tuple[FakePeer, str]:
        if sdp == "bad":
            raise BadOfferError("the offer has no video")
        peer = FakePeer(connection, sdp, dict(tracks), channels, on_closed)
        self.peers.append(peer)
        return peer, f"answer to {sdp}"


class FakeDataChannel:
    """A data channel; `receive` plays the client, `sent` is what the client got."""

    def __init__(self, label: str) -> None:
        self._label = label
        self.buffered_amount = 0
        self.sent: list[str | bytes] = []
        self._handler: Callable[[str | bytes], None] | None = None
        self._closed: Callable[[], None] | None = None
        self._early: list[str | bytes] = []

    @property
    def label(self) -> str:
        return self._label

    def send(self, data: str | bytes) -> None:
        self.sent.append(data)

    def set_handler(self, handler: Callable[[str | bytes], None]) -> None:
        self._handler = handler
        early, self._early = self._early, []
        for data in early:
            handler(data)

    def set_closed(self, callback: Callable[[], None]) -> None:
        self._closed = callback

    def receive(self, data: str | bytes) -> None:
        if self._handler is None:
            self._early.append(data)
        else:
            self._handler(data)

    def close(self) -> None:
        callback, self._closed = self._closed, None
        if callback is not None:
            callback()


def fake_services(
    hub: FakeHub,
    *,
    uploads: ports.Uploads | None = None,
    peers: FakePeers | None = None,
    settings: IngressSettings | None = None,
    pool: pool_pb2.DescribePoolResponse | None = None,
    drains: Sequence[pool_pb2.DrainActorResponse] = (),
) -> IngressServices:
    """Returns services over the fakes, listening on free ports of the loopback."""

    async def describe() -> pool_pb2.DescribePoolResponse:
        return pool or pool_pb2.DescribePoolResponse()

    return IngressServices(
        hub=hub,
        uploads=uploads or FakeUploads(),
        auth=NoAuth(),
        peers=peers or FakePeers(),
        pool=describe,
        drain=Drains(drains),
        settings=settings
        or IngressSettings(grpc_address="127.0.0.1:0", http_address="127.0.0.1:0"),
    )
