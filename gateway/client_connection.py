"""One client connected to one session, over whatever wire."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from opentelemetry.trace import SpanKind

from gateway import command_metrics
from gateway.connection import Event, Status, after
from gateway.fanout import CODECS, OutputFanout
from gateway.moderation import Question
from gateway.moderation.asking import Turnstile
from gateway.ports import CameraFrame, CommandLike, Sink, Viewer
from sana_gateway.v1 import media_pb2, message_pb2
from sana_gateway_internal.v1 import stream_pb2
from scheduler.core.errors import (
    BadOfferError,
    LimitError,
    NotReadyError,
    PublisherTakenError,
    SessionClosedError,
)
from scheduler.process.telemetry import context_from, inject, span

if TYPE_CHECKING:
    from gateway.session import GatewaySession

MAX_UNANSWERED = 256
"""Commands of a connection that may wait for their ack."""
MAX_COMMAND_BYTES = 64 * 1024
"""A longer command is answered as one that makes no sense: a message that is too long for an
actor would end the link of all sessions, and again each time that it is repeated."""
MAX_NAME = 64
"""Characters of names that are kept of a command that is too long."""


class ClientConnection:
    """See `gateway.ports.Connection`."""

    def __init__(
        self, connection_id: int, session: GatewaySession, sink: Sink, resume_after: int | None
    ) -> None:
        """Connects `sink`; the session greets it when it is ready."""
        self.sink = sink
        self.resume_after = resume_after
        self.status = after(after(Status.DISCONNECTED, Event.CONNECT), Event.ACCEPTED)
        self._connection_id = connection_id
        self._session = session
        self._unanswered: dict[str, stream_pb2.SessionCommand] = {}
        self._taken: dict[str, tuple[str, float]] = {}
        """Kinds of the unanswered commands, and when they were sent first."""
        self._wire = getattr(sink, "wire_name", command_metrics.OTHER)
        self._turnstile = (
            None
            if session.moderation is None
            else Turnstile(session.moderation, self._question, self._pass_on)
        )
        self._subscriptions: set[OutputSubscription] = set()

    @property
    def connection_id(self) -> int:
        """Number of the connection in its session."""
        return self._connection_id

    @property
    def session(self) -> GatewaySession:
        """The session."""
        return self._session

    def command(self, command: CommandLike, traceparent: str = "") -> None:
        """Sends a command; see `gateway.ports.Connection`."""
        self._must_live()
        if not self._session.is_ready:  # while its actor is found anew, commands are kept
            raise NotReadyError("the session still waits for its place")
        waiting = 0 if self._turnstile is None else len(self._turnstile)
        if len(self._unanswered) + waiting >= MAX_UNANSWERED:
            raise LimitError(f"at most {MAX_UNANSWERED} commands may wait for their answer")
        if command.ByteSize() > MAX_COMMAND_BYTES:
            command = _too_long(command)
        if self._turnstile is None:
            self._pass_on(command, traceparent)
        else:
            self._turnstile.take(command, traceparent)

    def _pass_on(self, command: CommandLike, traceparent: str) -> None:
        """Sends a command that may be sent, to whichever actor has the session."""
        request = stream_pb2.SessionCommand(
            session_id=self._session.session_id, connection_id=self._connection_id
        )
        if isinstance(command, stream_pb2.InvalidCommand):
            request.invalid.CopyFrom(command)
            name = "invalid"
        else:
            request.command.CopyFrom(command)
            name = command.WhichOneof("command") or "invalid"
        with span(
            "gateway.command",
            parent=context_from(traceparent),
            kind=SpanKind.SERVER,
            attributes={"session.id": self._session.session_id, "command.name": name},
        ):
            request.traceparent = inject()
            self._unanswered[command.command_id] = request
            self._taken.setdefault(command.command_id, (name, time.perf_counter()))
            self._session.send(stream_pb2.ControlRequest(command=request))
            self._session.wake()

    @property
    def is_unanswered(self) -> bool:
        """Whether it waits for the ack of a command."""
        return bool(self._unanswered)

    def told(self, event: Event) -> None:
        """Something happened to the session that this connection is part of."""
        self.status = after(self.status, event)

    def acked(self, command_id: str, accepted: bool) -> None:
        """The actor has handled a command."""
        request = self._unanswered.pop(command_id, None)
        if request is not None:
            outcome = "accepted" if accepted else "refused"
            self._measure(command_id, outcome, request.traceparent)
        self.sink.ack(command_id, accepted)

    def _measure(self, command_id: str, outcome: str, traceparent: str = "") -> None:
        taken = self._taken.pop(command_id, None)
        if taken is not None:
            name, began = taken
            took_s = time.perf_counter() - began
            command_metrics.observe(name, self._wire, outcome, took_s, traceparent)

    def resend(self) -> None:
        """Sends again what no actor has acknowledged: repeating a command is safe."""
        for request in self._unanswered.values():
            self._session.send(stream_pb2.ControlRequest(command=request))

    def subscribe(
        self, codecs: Sequence[media_pb2.Codec.ValueType], viewer: Viewer
    ) -> OutputSubscription:
        """Watches main_video; see `gateway.ports.Connection`."""
        self._must_live()
        codec = next((codec for codec in codecs if codec in CODECS), None)
        if codec is None:
            raise BadOfferError("main_video is made in H.264 and VP8; the client takes neither")
        subscription = OutputSubscription(self, self._session.output(codec), viewer)
        self._subscriptions.add(subscription)
        self._session.wake()
        return subscription

    def request_keyframe(self, output: OutputFanout, viewer: Viewer) -> None:
        """A viewer has lost the picture; of a parked session nobody else can make it again."""
        output.keyframe(viewer)
        self._session.wake()

    def claim_camera(self) -> None:
        """Becomes the publisher; see `gateway.ports.Connection`."""
        self._must_live()
        publishing = self._session.publishing
        if publishing.publisher is self:
            return
        if publishing.publisher is not None:
            raise PublisherTakenError("another connection publishes the camera")
        publishing.publish(self)
        self._session.wake()

    def camera(self, frame: CameraFrame) -> None:
        """Hands over a camera frame; see `gateway.ports.Connection`."""
        if self.status is Status.DISCONNECTED:
            return
        publishing = self._session.publishing
        if publishing.publisher is None:
            publishing.publish(self)
            self._session.wake()
        if publishing.publisher is self:
            publishing.frame(frame)

    def release_camera(self) -> None:
        """Publishes no more."""
        publishing = self._session.publishing
        if publishing.publisher is self:
            publishing.publish(None)

    def close(self) -> None:
        """Ends the connection; see `gateway.ports.Connection`."""
        if self.status is Status.DISCONNECTED:
            return
        self.status = after(self.status, Event.CLOSED)
        for command_id in list(self._taken):
            self._measure(command_id, "unanswered")
        if self._turnstile is not None:
            self._turnstile.close()
        for subscription in list(self._subscriptions):
            subscription.close()
        self._session.disconnect(self)

    def forget(self, subscription: OutputSubscription) -> None:
        """A subscription has ended."""
        self._subscriptions.discard(subscription)

    def _question(self, prompt: str) -> Question:
        session = self._session
        return Question(prompt, session.principal.tenant, session.session_id, session.model)

    def _must_live(self) -> None:
        if self.status is Status.DISCONNECTED:
            raise SessionClosedError("the connection has ended")


def _too_long(command: CommandLike) -> stream_pb2.InvalidCommand:
    if isinstance(command, stream_pb2.InvalidCommand):
        name = command.name
    else:
        name = command.WhichOneof("command") or ""
    return stream_pb2.InvalidCommand(
        command_id=command.command_id[:MAX_NAME],
        name=name[:MAX_NAME],
        reason=f"the command has more than {MAX_COMMAND_BYTES:,} bytes",
        code=message_pb2.REJECT_REASON_BAD_ARGUMENT,
    )


class OutputSubscription:
    """See `gateway.ports.Subscription`."""

    def __init__(self, connection: ClientConnection, output: OutputFanout, viewer: Viewer) -> None:
        """Begins to watch."""
        self._connection = connection
        self._output = output
        self._viewer = viewer
        self._closed = False
        output.join(viewer)

    @property
    def codec(self) -> media_pb2.Codec.ValueType:
        """Codec of the frames."""
        return self._output.codec

    def request_keyframe(self) -> None:
        """The picture was lost."""
        self._connection.request_keyframe(self._output, self._viewer)

    def estimate(self, bits_per_second: int) -> None:
        """What the viewer's network is estimated to carry."""
        self._output.estimate(self._viewer, bits_per_second)

    def pause(self) -> None:
        """Stops the frames of this viewer."""
        self._output.leave(self._viewer)

    def resume(self) -> None:
        """Starts them again, unless the subscription has ended: a wire may learn of that late."""
        if not self._closed:
            self._output.join(self._viewer)

    def close(self) -> None:
        """Ends the subscription."""
        self._closed = True
        self._output.leave(self._viewer)
        self._connection.forget(self)
