"""One client's conversation: its two data channels on one side, its session on the other.

The wire is guessed from the offer's `client_info`, so that the server can speak first,
and settled by the first message. Until the data channel is open only the newest `state`
is kept: it is the single source of truth, and it is what a client is told on connect.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Callable
from functools import partial
from typing import Final

import structlog

from gateway import ports
from gateway.ingress import DataChannel, Peer
from sana_gateway.v1 import message_pb2
from scheduler.core.errors import (
    LimitError,
    NotReadyError,
    PublisherTakenError,
    SessionClosedError,
)
from sdk_adapters.reactor import (
    clips,
    openapi,
    replies,
    translate,
    wire,
    wire_json,
    wire_protobuf,
    wire_typed,
)

_log = structlog.get_logger(__name__)

MAX_MESSAGE_BYTES: Final = 256 * 1024
"""Largest message taken; the clients send no larger ones."""

MAX_BUFFERED_BYTES: Final = 4 * 1024 * 1024
"""What may wait for a client that does not read; then its connection is closed."""

PUBLISHER_SLOT_TAKEN: Final = "PUBLISHER_SLOT_TAKEN"
UNKNOWN_TRACK: Final = "UNKNOWN_TRACK"
CAMERA: Final = "camera"


def wire_of(client_info: object) -> wire.Wire | None:
    """Returns the wire that a client will speak, by the `client_info` of its offer.

    JavaScript clients and Python before 1.0 speak JSON, Python from 1.0 on protobuf. Our own
    client speaks a wire of its own.
    """
    if not isinstance(client_info, dict):
        return None
    if client_info.get("sdk_type") == wire_typed.SDK_TYPE:
        return wire_typed
    if client_info.get("sdk_type") == "js":
        return wire_json
    major, _, _ = str(client_info.get("sdk_version", "")).partition(".")
    if client_info.get("sdk_type") == "python" and major.isdecimal():
        return wire_json if int(major) == 0 else wire_protobuf
    return None


class Conversation:
    """The sink of one connection, and the handler of its channels.

    Everything runs on the event loop. It never closes anything itself: `on_broken`
    asks the owner to, `on_ended` tells it that the session has ended.
    """

    wire_name = "reactor"

    def __init__(
        self,
        session: ports.HubSession,
        guess: wire.Wire | None,
        *,
        now: Callable[[], float],
        on_broken: Callable[[str], None],
        on_ended: Callable[[], None],
    ) -> None:
        """Prepares a conversation that nobody takes part in yet.

        Args:
            session: What it is about.
            guess: The wire that the client is expected to speak.
            now: Monotonic clock in seconds.
            on_broken: Called with a reason when the connection should be closed.
            on_ended: Called when the session has ended and the client has been told.
        """
        self._session = session
        self._wire = guess
        self._settled = False
        self._now = now
        self._on_broken = on_broken
        self._on_ended = on_ended
        self._channels: dict[wire.Label, DataChannel] = {}
        self._connection: ports.Connection | None = None
        self._peer: Peer | None = None
        self._state: wire.ModelMessage | None = None
        self._replies = replies.Replies()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._numbers = itertools.count(1)
        # Command ids are unique in the session, also after a reconnect elsewhere.
        self._prefix = secrets.token_hex(6)
        self._closed = False
        self.resume_after: int | None = None
        """Revision after which the client wants to be told what it missed; None: the state."""
        self.last_heard: float | None = None
        """When the client last gave a sign of life; None before its data channel is open."""

    @property
    def buffered_amount(self) -> int:
        """Bytes that have not left yet."""
        return sum(channel.buffered_amount for channel in self._channels.values())

    def joined(self, connection: ports.Connection, *, gap: bool = False) -> None:  # noqa: ARG002
        """Says which connection the commands go to. Messages may have come before.

        Args:
            connection: The connection.
            gap: Whether messages that the client asked for are lost.
        """
        self._connection = connection

    def connected(self, peer: Peer) -> None:
        """Says which peer carries the media."""
        self._peer = peer

    def close(self) -> None:
        """Says and hears nothing any more."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    # From the peer.

    def opened(self, channel: DataChannel) -> None:
        """Takes a channel that the client opened."""
        if channel.label not in set(wire.Label):
            channel.set_handler(_ignore)
            return
        label = wire.Label(channel.label)
        self._channels[label] = channel
        channel.set_handler(partial(self._received, label))
        if label is wire.Label.DATA:
            self.last_heard = self._now()
            self._say_state()

    def _received(self, label: wire.Label, payload: str | bytes) -> None:
        self.last_heard = self._now()
        if self._closed or len(payload) > MAX_MESSAGE_BYTES:
            return
        self._settle(payload)
        said = self._wire.decode(label, payload) if self._wire is not None else None
        if said is not None:
            self._handle(said)

    def _settle(self, payload: str | bytes) -> None:
        if self._settled:
            return
        guess, self._settled = self._wire, True
        self._wire = wire_json if wire.is_json(payload) else wire_protobuf
        _log.debug("reactor.wire", session_id=self._session.session_id, wire=self._wire.NAME)
        if self._wire is not guess:
            self._say_state()

    def _handle(self, said: wire.Inbound) -> None:
        match said:
            case wire.Command():
                self._command(said)
            case wire.PublishTrack(request_id=request_id, name=name):
                self._publish(request_id, name)
            case wire.UnpublishTrack(name=name):
                if self._connection is not None and name == CAMERA:
                    self._connection.release_camera()
            case wire.PauseTrack(name=name):
                if self._peer is not None:
                    self._peer.pause(name)
            case wire.ResumeTrack(name=name):
                if self._peer is not None:
                    self._peer.resume(name)
            case wire.SchemaRequest(request_id=request_id):
                described = self._session.describe()
                document = openapi.document(described.model, described.capabilities)
                self._say(wire.Schema(request_id, document))
            case wire.ClipRequest() | wire.RecordingRequest():
                self._say(clips.answer(self._session, said))
            case wire.Ping() | wire.FileUploaded():
                pass

    def _command(self, said: wire.Command) -> None:
        if self._connection is None:
            return
        command_id = f"{self._prefix}-{next(self._numbers)}"
        command = translate.command(command_id, said.name, said.arguments, said.uploads)
        name = translate.name_of(command)
        try:
            if said.request_id:
                self._replies.expect(command_id, said.request_id, name)
            self._connection.command(command)
        except (LimitError, NotReadyError) as error:
            self._replies.forget(command_id)
            refusal = {"command": name, "reason": str(error)}
            self._say(wire.ModelMessage("command_error", refusal, said.request_id))
            self._say_state()
        except SessionClosedError:
            self._replies.forget(command_id)
        if self._replies.awaits(command_id):
            loop = asyncio.get_running_loop()
            self._timers[command_id] = loop.call_later(
                replies.REPLY_WITHIN_S, self._overdue, command_id
            )

    def _publish(self, request_id: str, name: str) -> None:
        if self._connection is None:
            return
        if name != CAMERA:
            refusal = "the session takes no such track"
            self._say(wire.TrackRefused(request_id, UNKNOWN_TRACK, refusal))
            return
        try:
            self._connection.claim_camera()
        except PublisherTakenError as error:
            self._say(wire.TrackRefused(request_id, PUBLISHER_SLOT_TAKEN, str(error)))
        except SessionClosedError as error:
            self._say(wire.TrackRefused(request_id, error.reason, str(error)))
        else:
            self._say(wire.TrackGranted(request_id, name))

    # From the hub.

    def queued(self, position: int, estimated_wait_s: float) -> None:
        """Says nothing: on this wire a client that waits polls."""

    def ready(self) -> None:
        """Says nothing: the state that follows does."""

    def message(self, message: message_pb2.Message) -> None:
        """Passes a message of the session on, as the reply to a request where it is one."""
        translated = translate.message(message)
        if translated is None:
            return
        name, payload = translated
        request_id = self._replies.message(message.command_id, name)
        said = wire.ModelMessage(name, payload, request_id)
        if name == "state":
            self._state = said
        self._say(said)

    def ack(self, command_id: str, accepted: bool) -> None:
        """Answers the request with a bare ack, unless its reply is still to come."""
        request_id = self._replies.ack(command_id, accepted=accepted)
        if request_id is not None:
            self._say(wire.Ack(request_id))

    def camera_keyframe(self) -> None:
        """Asks the publisher of the camera for a keyframe."""
        if self._peer is not None:
            self._peer.request_camera_keyframe()

    def ended(self, reason: str) -> None:
        """Tells the client that the session has ended."""
        self._say(wire.SessionEnded(reason))
        self._on_ended()

    def _overdue(self, command_id: str) -> None:
        del self._timers[command_id]
        request_id = self._replies.overdue(command_id)
        if request_id is not None:
            self._say(wire.Ack(request_id))

    # To the client.

    def _say_state(self) -> None:
        if self._state is not None:
            self._say(wire.ModelMessage(self._state.name, self._state.data))

    def _say(self, said: wire.Outbound) -> None:
        encoded = self._wire.encode(said) if self._wire is not None else None
        if encoded is not None:
            self._send(*encoded)

    def _send(self, label: wire.Label, payload: str | bytes) -> None:
        channel = self._channels.get(label) if not self._closed else None
        if channel is None:
            return
        if self.buffered_amount > MAX_BUFFERED_BYTES:
            self._on_broken("the client does not read")
            return
        channel.send(payload)


def _ignore(_: str | bytes) -> None:
    """Channels with other labels are nobody's."""
