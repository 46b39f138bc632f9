"""The wire of our own TypeScript client: what Reactor's wires cannot say, on the same routes.

JSON text on the one channel `data`. Commands carry an id and are each answered with an ack of
that id, or with a `command_error` that tells code and phases; messages carry revision and
every field of the public contract (`docs/typescript.md` describes it message by message).

Names are the contract's, in snake case. Enumerations are the names of their values without
the prefix, in lower case: `PHASE_AWAITING_SOURCE` is `"awaiting_source"`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn, cast

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.message import Message

from sana_gateway.v1 import message_pb2
from sdk_adapters.reactor import wire

NAME: Final = "typed"
SDK_TYPE: Final = "sana-gateway-js"
"""`client_info.sdk_type` of the clients that speak it."""
ID_LENGTH: Final = 64
"""Most characters of an id that a client makes."""


@dataclass(frozen=True, slots=True)
class Attached:
    """The first words of a connection."""

    connection_id: int
    gap: bool
    """Whether messages after the revision that the client named are lost."""


@dataclass(frozen=True, slots=True)
class Told:
    """A message of the session."""

    message: message_pb2.Message


@dataclass(frozen=True, slots=True)
class Answered:
    """A command was handled; what it was answered with was said before."""

    command_id: str
    accepted: bool


@dataclass(frozen=True, slots=True)
class Queued:
    """The session waits for a place."""

    position: int
    eta_s: float | None
    """Estimate of the wait; None: unknown."""


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to a ping."""

    request_id: str


Outbound = wire.Outbound | Attached | Told | Answered | Queued | Pong
"""To the client."""


def decode(label: wire.Label, payload: str | bytes, /) -> wire.Inbound | None:
    """Returns what a client said; None for what is malformed or unknown."""
    if label is not wire.Label.DATA:
        return None
    try:
        said = json.loads(payload, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or not isinstance(said.get("type"), str):
        return None
    made = _DECODERS.get(said["type"])
    return made(said) if made is not None else None


def encode(outbound: Outbound, /) -> tuple[wire.Label, str] | None:
    """Returns the channel and the text; None for what this wire does not say."""
    said = _said(outbound)
    return None if said is None else (wire.Label.DATA, json.dumps(said))


def fields_of(payload: Message) -> dict[str, Any]:
    """Returns all fields of a payload of the contract, as they travel."""
    return {field.name: _value(payload, field.name) for field in payload.DESCRIPTOR.fields}


def name_of(enum: EnumDescriptor, number: int) -> str:
    """Returns the name of a value of an enumeration, as it travels.

    Values that this build does not know are `unspecified`.
    """
    prefix = _prefix(enum)
    value = enum.values_by_number.get(number, enum.values_by_number[0])
    return value.name.removeprefix(prefix).lower()


def resume_after(client_info: object) -> int | None:
    """Returns the highest revision that a client has seen, by the `client_info` of its offer."""
    said = client_info.get("resume_after") if isinstance(client_info, Mapping) else None
    is_revision = isinstance(said, int) and not isinstance(said, bool) and 0 <= said < 2**64
    return said if is_revision else None


def _said(outbound: Outbound) -> dict[str, Any] | None:
    match outbound:
        case Attached(connection_id=connection_id, gap=gap):
            return {"type": "attached", "connection_id": connection_id, "gap": gap}
        case Told(message=message):
            return _message(message)
        case Answered(command_id=command_id, accepted=accepted):
            return {"type": "ack", "id": command_id, "accepted": accepted}
        case Queued(position=position, eta_s=eta_s):
            return {"type": "queue", "position": position, "eta_seconds": eta_s}
        case Pong(request_id=request_id):
            return {"type": "pong", "id": request_id}
        case wire.TrackGranted(request_id=request_id, name=name):
            return {"type": "published", "id": request_id, "track": name}
        case wire.TrackRefused(request_id=request_id, code=code, message=text):
            return {"type": "refused", "id": request_id, "code": code.lower(), "reason": text}
        case wire.Schema(request_id=request_id, document=document):
            return {"type": "schema", "id": request_id, "document": document}
        case wire.SessionEnded(reason=reason):
            return {"type": "ended", "reason": reason}
        case _:
            return None


def _message(message: message_pb2.Message) -> dict[str, Any] | None:
    name = message.WhichOneof("payload")
    if name is None:
        return None
    return {
        "type": "message",
        "name": name,
        "revision": message.revision,
        "command_id": message.command_id,
        "replayed": message.replayed,
        "data": fields_of(getattr(message, name)),
    }


def _value(payload: Message, name: str) -> object:
    field = payload.DESCRIPTOR.fields_by_name[name]
    if field.has_presence and not payload.HasField(name):
        return None
    value, enum = getattr(payload, name), cast("EnumDescriptor | None", field.enum_type)
    if enum is not None and field.is_repeated:
        return [name_of(enum, each) for each in value]
    if enum is not None:
        return name_of(enum, value)
    return list(value) if field.is_repeated else value


def _prefix(enum: EnumDescriptor) -> str:
    """Returns what begins the names of an enumeration's values: its own, in capitals."""
    return enum.values_by_number[0].name.removesuffix("UNSPECIFIED")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _text(value: object) -> str:
    """Returns a short plain text; of anything else, an empty one."""
    is_plain = isinstance(value, str) and len(value) <= ID_LENGTH and value.isascii()
    return str(value) if is_plain else ""


def _command(said: dict[str, Any]) -> wire.Inbound:
    return wire.Command(
        _text(said.get("id")),
        said.get("name"),
        said.get("arguments", {}),
        {},
        _text(said.get("traceparent")),
    )


def _of_track(made: Callable[[str], wire.Inbound]) -> Callable[[dict[str, Any]], wire.Inbound]:
    return lambda said: made(_text(said.get("track")))


_DECODERS: Final[Mapping[str, Callable[[dict[str, Any]], wire.Inbound]]] = {
    "command": _command,
    "ping": lambda said: wire.Ping(_text(said.get("id"))),
    "schema": lambda said: wire.SchemaRequest(_text(said.get("id"))),
    "publish": lambda said: wire.PublishTrack(_text(said.get("id")), _text(said.get("track"))),
    "unpublish": _of_track(wire.UnpublishTrack),
    "pause_track": _of_track(wire.PauseTrack),
    "resume_track": _of_track(wire.ResumeTrack),
}
