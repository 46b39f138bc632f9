"""What is said on the data channels of a Reactor connection, whichever wire carries it.

Two wires say the same: JSON text (`wire_json`) and protobuf (`wire_protobuf`). Both are
pure codecs between channel messages and the values here.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
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


@dataclass(frozen=True, slots=True)
class Ping:
    """A sign of life."""


@dataclass(frozen=True, slots=True)
class FileUploaded:
    """An upload is complete. The server knows already."""


@dataclass(frozen=True, slots=True)
class SchemaRequest:
    """Wants the model's schema."""

    request_id: str


@dataclass(frozen=True, slots=True)
class ClipRequest:
    """Wants a clip or a recording."""

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


Outbound = ModelMessage | Ack | Schema | ClipFailed | TrackGranted | TrackRefused | SessionEnded
"""To the client."""


class Wire(Protocol):
    """A codec; the modules `wire_json` and `wire_protobuf` are two."""

    NAME: str
    """Name of the wire in logs and metrics."""

    def decode(self, label: Label, payload: str | bytes, /) -> Inbound | None:
        """Returns what a client said; None for what is to be ignored."""

    def encode(self, outbound: Outbound, /) -> tuple[Label, str | bytes] | None:
        """Returns the channel and the message; None for what this wire does not say."""


def is_json(payload: str | bytes) -> bool:
    """Tells the wire of a first message: text, or bytes that begin like a JSON value."""
    return isinstance(payload, str) or payload.lstrip()[:1] in (b"{", b"[")
