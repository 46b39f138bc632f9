"""What is said on the data channels of a Reactor connection, whichever wire carries it.

Two wires say the same: JSON text (`wire_json`) and protobuf (`wire_protobuf`). A third says
more: that of our own client (`wire_typed`). All are pure codecs between channel messages and
the values here.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol


class Label(enum.StrEnum):
    """The two channels of a connection; other labels are nobody's."""

    DATA = "data"
    CONTROL = "control"


@dataclass(frozen=True, slots=True)
class Command:
    """A command to the model, not yet checked."""

    request_id: str
    """Id for the answer; empty on JSON, which has none."""
    name: object
    arguments: object
    uploads: object
    traceparent: str = ""
    """W3C trace context that the client gave; only our own clients do."""


@dataclass(frozen=True, slots=True)
class Ping:
    """A sign of life."""

    request_id: str = ""
    """Id for the answer; only our own clients want one."""


@dataclass(frozen=True, slots=True)
class FileUploaded:
    """An upload is complete. The server knows already."""


@dataclass(frozen=True, slots=True)
class SchemaRequest:
    """Wants the model's schema."""

    request_id: str


@dataclass(frozen=True, slots=True)
class ClipRequest:
    """Wants the last seconds as a clip."""

    request_id: str
    duration_s: object
    """How many, not yet checked."""


@dataclass(frozen=True, slots=True)
class RecordingRequest:
    """Wants all that was recorded as a clip."""

    request_id: str


@dataclass(frozen=True, slots=True)
class PublishTrack:
    """Claims an input track."""

    request_id: str
    name: str


@dataclass(frozen=True, slots=True)
class UnpublishTrack:
    """Gives an input track back."""

    name: str


@dataclass(frozen=True, slots=True)
class PauseTrack:
    """Stops an output track of this connection."""

    name: str


@dataclass(frozen=True, slots=True)
class ResumeTrack:
    """Starts an output track of this connection."""

    name: str


Inbound = (
    Command
    | Ping
    | FileUploaded
    | SchemaRequest
    | ClipRequest
    | RecordingRequest
    | PublishTrack
    | UnpublishTrack
    | PauseTrack
    | ResumeTrack
)
"""From the client."""


@dataclass(frozen=True, slots=True)
class ModelMessage:
    """A message of the model."""

    name: str
    data: Mapping[str, Any] = field(default_factory=dict)
    request_id: str = ""
    """The request it answers; empty for a notification."""


@dataclass(frozen=True, slots=True)
class Ack:
    """A command was accepted and there is no more to say. Exists on protobuf only."""

    request_id: str


@dataclass(frozen=True, slots=True)
class Schema:
    """The model's schema."""

    request_id: str
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ClipReady:
    """A clip can be fetched, now or soon."""

    request_id: str
    session_id: str
    kind: str
    """`snap` or `recording`."""
    start_marker: float
    """Where it begins, in seconds of what was recorded."""
    end_marker: float
    now_marker: float
    """How much was recorded when it was asked for."""
    predicted_ready_at_ms: int
    """When its last segment is expected to be stored, in milliseconds since 1970."""
    playlist_url: str
    """Path of its playlist."""

    def fields(self) -> dict[str, Any]:
        """Returns what travels: all but the id of the request."""
        told = asdict(self)
        del told["request_id"]
        return told


@dataclass(frozen=True, slots=True)
class ClipFailed:
    """There is no clip."""

    request_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class TrackGranted:
    """The connection publishes the track from now on."""

    request_id: str
    name: str


@dataclass(frozen=True, slots=True)
class TrackRefused:
    """It does not."""

    request_id: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """The session has ended; the peer closes next."""

    reason: str


Outbound = (
    ModelMessage
    | Ack
    | Schema
    | ClipReady
    | ClipFailed
    | TrackGranted
    | TrackRefused
    | SessionEnded
)
"""To the client."""


class Wire(Protocol):
    """A codec; the modules `wire_json`, `wire_protobuf` and `wire_typed` are three."""

    NAME: str
    """Name of the wire in logs and metrics."""

    def decode(self, label: Label, payload: str | bytes, /) -> Inbound | None:
        """Returns what a client said; None for what is to be ignored."""

    def encode(self, outbound: Outbound, /) -> tuple[Label, str | bytes] | None:
        """Returns the channel and the message; None for what this wire does not say."""


def is_json(payload: str | bytes) -> bool:
    """Tells the wire of a first message: text, or bytes that begin like a JSON value."""
    return isinstance(payload, str) or payload.lstrip()[:1] in (b"{", b"[")
