"""What the gateway's wires and its hub ask of each other.

A *wire* (gRPC, Reactor, WHIP) turns a foreign protocol into calls on a `Hub`. The
hub knows sessions, connections and play-out, and nothing of any wire. Everything
here runs on the gateway's one event loop; callbacks must return at once, and a wire
that cannot keep up bounds its own queue and says what it drops.

The language is the public contract itself (`sana_gateway.v1` messages).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sana_gateway.v1 import command_pb2, media_pb2, message_pb2, session_pb2
from sana_gateway_internal.v1 import stream_pb2
from scheduler.core.ids import Principal

CommandLike = command_pb2.Command | stream_pb2.InvalidCommand
"""A well-formed command, or what a wire could not make one of."""


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """One encoded frame of main_video, handed out when it is due."""

    data: bytes
    keyframe: bool
    codec: media_pb2.Codec.ValueType
    timestamp_us: int
    """Position on the session's play-out clock: continuous across runs and pauses."""
    run: int
    chunk: int
    frame: int
    """Index of the frame in its run."""
    source_us: int
    """Capture time on the publisher's clock, or presentation time in the clip."""
    held: bool = False
    """Made of a picture that was shown before."""
    rung: int = 0
    """Rung of the output: 0 is main, 1 is low."""


@dataclass(frozen=True, slots=True)
class CameraFrame:
    """One encoded frame of a camera, undecoded."""

    data: bytes
    keyframe: bool
    codec: media_pb2.Codec.ValueType
    timestamp_us: int
    """Capture time on the publisher's clock, unwrapped, never falling."""
    discontinuity: bool = False
    """True on the first frame after frames were lost or discarded."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A part of a session's recording. It is whole segments, so it may begin some seconds
    earlier.
    """

    session_id: str
    whole: bool
    """Whether it is all that was recorded and is kept."""
    start_us: int
    """Where it begins, in the time of the recording: what was played, without pauses."""
    end_us: int
    """Where it ends, which is how much was recorded so far."""
    ready_at: float
    """When it is expected to be stored, in seconds since 1970."""


class Sink(Protocol):
    """What a wire gives for one connection: where its session's words go."""

    def queued(self, position: int, estimated_wait_s: float) -> None:
        """The session waits for a place; its position changed."""

    def ready(self) -> None:
        """The session is placed; a state message follows."""

    def message(self, message: message_pb2.Message) -> None:
        """A message for this connection."""

    def ack(self, command_id: str, accepted: bool) -> None:
        """A command of this connection was handled; its messages were given before."""

    def camera_keyframe(self) -> None:
        """The camera's decoder needs a keyframe; only for the publisher."""

    def ended(self, reason: str) -> None:
        """The session has ended; nothing follows. The wire closes its own transport."""


class Viewer(Protocol):
    """Where the frames of one subscription go."""

    def frame(self, frame: EncodedFrame) -> None:
        """A frame, at the moment it is due."""

    def stats(self, stats: media_pb2.ViewerStats) -> None:
        """What the session knows of the chunk whose first frame was just given; the viewer
        completes what only it knows (its network, its drops). Not kept by the caller.
        """


class Subscription(Protocol):
    """One viewer of one output."""

    @property
    def codec(self) -> media_pb2.Codec.ValueType:
        """Codec of the frames."""

    def request_keyframe(self) -> None:
        """The picture was lost, or the viewer fell behind. At most one a 500 ms takes effect."""

    def estimate(self, bits_per_second: int) -> None:
        """What the viewer's network is estimated to carry."""

    def pause(self) -> None:
        """Stops the frames of this viewer."""

    def resume(self) -> None:
        """Starts them again, with a keyframe."""

    def close(self) -> None:
        """Ends the subscription."""


class Connection(Protocol):
    """One client connected to one session, over whatever wire."""

    @property
    def connection_id(self) -> int:
        """Number of the connection in its session, from 1002 (1001 is the Reactor legacy one)."""

    @property
    def session(self) -> HubSession:
        """The session."""

    def command(self, command: CommandLike, traceparent: str = "") -> None:
        """Sends a command. Commands of a connection are handled in order; at most 256
        may wait for their ack.

        Raises:
            LimitError: Too many unanswered commands.
            SessionClosedError: The session has ended.
        """

    def subscribe(
        self, codecs: Sequence[media_pb2.Codec.ValueType], viewer: Viewer
    ) -> Subscription:
        """Watches main_video in the first of `codecs` that we make.

        Raises:
            BadOfferError: None of them is made here.
        """

    def claim_camera(self) -> None:
        """Becomes the session's publisher of `camera`; repeating it is no error.

        Raises:
            PublisherTakenError: Another connection publishes.
        """

    def camera(self, frame: CameraFrame) -> None:
        """Hands over a camera frame. The first frame claims the camera if it is free, and is
        dropped if it is not. Never blocks: on overflow drops up to the next keyframe.
        """

    def release_camera(self) -> None:
        """Publishes no more."""

    def close(self) -> None:
        """Ends the connection, its subscriptions and its claim. Repeating it is no error.

        The session lives on for the reconnect window after its last connection.
        """


class HubSession(Protocol):
    """A session as this gateway sees it."""

    @property
    def session_id(self) -> str:
        """Its id."""

    @property
    def principal(self) -> Principal:
        """Who created it."""

    @property
    def state(self) -> message_pb2.State | None:
        """Its newest snapshot, also while it is on no actor. None before the first, and once it
        has ended. Looking at it is no connection, and wakes nobody.
        """

    def describe(self) -> session_pb2.Session:
        """Returns it as the public contract shows it."""

    async def wait_ready(self) -> None:
        """Returns once the session is placed.

        Raises:
            SessionClosedError: It ended first.
        """

    def connect(self, sink: Sink, *, resume_after: int | None = None) -> tuple[Connection, bool]:
        """Adds a connection, whether or not the session is placed yet.

        As soon as the session is ready the sink gets `ready`, then either the messages
        after revision `resume_after` (marked `replayed`) or, without one or with a gap,
        one state message.

        Returns:
            The connection, and whether messages after `resume_after` are lost.

        Raises:
            SessionClosedError: The session has ended.
            LimitError: Too many connections.
        """

    def keep_journal_content(self) -> None:
        """Has prompts and reference pictures kept in its journal, where one is kept."""

    def request_clip(self, duration_s: float | None) -> Clip:
        """Returns a part of the session's recording up to now.

        Args:
            duration_s: The last so many seconds, at most five minutes; None: all that is kept.

        Raises:
            ClipFailedError: There is none (`gateway.recording.errors`); the text is for the
                client.
        """


class Hub(Protocol):
    """The sessions of this gateway, and through the scheduler all others."""

    def served_models(self) -> Sequence[str]:
        """Names that clients may ask for, as last heard of the scheduler."""

    def capabilities(self, model: str) -> session_pb2.Capabilities | None:
        """Returns what a model can do, as its plugin declares it; None while no actor has it."""

    async def create(self, principal: Principal, model: str, request_id: str = "") -> HubSession:
        """Creates a session and begins to place it. Repeating a request id returns the first.

        Raises:
            UnknownModelError: The model is not served.
            ForbiddenError: The caller's key or token does not allow the model, or creates none.
            LimitError: Its key or token has as many sessions as it may have.
            NoCapacityError: The queue is full.
        """

    async def find(self, principal: Principal, session_id: str) -> HubSession:
        """Returns a session of the caller's tenant, taking part in it if another gateway made it.

        Raises:
            UnknownSessionError: No such session, or not the caller's.
            ForbiddenError: The caller's token is for other sessions or models.
        """

    async def close(self, principal: Principal, session_id: str, reason: str) -> None:
        """Ends a session. Ending an ended one is no error.

        Raises:
            UnknownSessionError: Never heard of, or not the caller's.
        """

    async def fork(
        self, principal: Principal, session_id: str, copies: int, request_id: str = ""
    ) -> Sequence[HubSession]:
        """Makes copies of a session as it is between two windows, and begins to place them.
        Repeating a request id returns the first ones.

        Raises:
            UnknownSessionError: No such session, or not the caller's.
            BadArgumentError: No copies, or too many.
            NotReadyError: The session is at no actor just now.
            CommandRefusedError: It cannot be copied as it is.
            NoCapacityError: The queue is full.
        """


class UploadRecord(Protocol):
    """An upload as the wires see it."""

    @property
    def file(self) -> command_pb2.FileRef:
        """The reference to use with set_video."""

    @property
    def received(self) -> int:
        """Bytes received: the offset to go on at."""

    @property
    def complete(self) -> bool:
        """Whether all bytes are there."""


class Uploads(Protocol):
    """Uploads of sessions into the storage. Keys are `<session_id>/<upload_id>`."""

    async def reserve(self, session_id: str, name: str, mime_type: str, size: int) -> UploadRecord:
        """Makes room for an upload.

        Raises:
            BadArgumentError: Empty name, or a size below 1.
            LimitError: Over the size limit of an upload or of a session.
        """

    def find(self, session_id: str, upload_id: str) -> UploadRecord:
        """Returns an upload.

        Raises:
            UnknownUploadError: No such upload, or not one of this session's.
        """

    async def write(
        self, session_id: str, upload_id: str, offset: int, data: bytes
    ) -> UploadRecord:
        """Appends bytes at `offset`, which must be `received`.

        Raises:
            UnknownUploadError: No such upload, or not one of this session's.
            BadUploadError: Wrong offset, more bytes than announced, or complete already.
        """

    def forget(self, session_id: str) -> None:
        """Drops what a session uploaded."""
