"""What Reactor clients are shown of a session, and of what it can do.

`slim` and `full` are the session objects of the HTTP routes; `openapi` answers a schema
request: an OpenAPI 3.1 document with a path per command and a webhook per message.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor

from sana_gateway.v1 import message_pb2, session_pb2
from scheduler.core.commands import MAX_SEED
from sdk_adapters.reactor import translate

_DIRECTIONS: Final = {
    session_pb2.TRACK_DIRECTION_SEND: "sendonly",
    session_pb2.TRACK_DIRECTION_RECEIVE: "recvonly",
}

DESCRIPTIONS: Final[Mapping[str, str]] = {
    "set_mode": "Chooses the source of video: the live camera or an uploaded file.",
    "set_video": "Stages an uploaded clip as the source of file mode.",
    "set_prompt": "Sets or changes the edit prompt; it takes effect at the next chunk.",
    "set_seed": "Sets the noise seed of the next start.",
    "start": "Begins to stream edited video on main_video.",
    "pause": "Halts generation after the chunk under way.",
    "resume": "Goes on after a pause.",
    "reset": "Drops clip, prompt and progress; back to idle.",
}
"""What each command does, for people."""

_FILE: Final = {
    "type": "object",
    "properties": {
        "upload_id": {"type": "string"},
        "name": {"type": "string"},
        "mime_type": {"type": "string"},
        "size": {"type": "integer"},
    },
    "required": ["upload_id", "name", "mime_type", "size"],
}
_ARGUMENTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "set_mode": {"mode": {"type": "string", "enum": ["live", "file"]}},
    "set_video": {"video": _FILE},
    "set_prompt": {"prompt": {"type": "string", "minLength": 1}},
    "set_seed": {"seed": {"type": "integer", "minimum": 0, "maximum": MAX_SEED}},
}
_JSON_TYPES: Final[Mapping[int, str]] = {
    FieldDescriptor.CPPTYPE_INT32: "integer",
    FieldDescriptor.CPPTYPE_INT64: "integer",
    FieldDescriptor.CPPTYPE_BOOL: "boolean",
    FieldDescriptor.CPPTYPE_STRING: "string",
}


VERSION: Final = metadata.version("sana-gateway")
"""Version of this server."""

_STATES: Final = {
    session_pb2.SESSION_STATUS_WAITING: "PENDING",
    session_pb2.SESSION_STATUS_READY: "ACTIVE",
    session_pb2.SESSION_STATUS_CLOSED: "CLOSED",
}


def slim(described: session_pb2.Session) -> dict[str, Any]:
    """Returns a session object without what is known once the session has its place."""
    return {
        "session_id": described.session_id,
        "state": _STATES.get(described.status, "PENDING"),
        "cluster": "local",
        "model": {"name": described.model},
        "server_info": {"server_version": VERSION},
    }


def full(described: session_pb2.Session) -> dict[str, Any]:
    """Returns a session object; clients poll until it shows transport and capabilities."""
    if described.status != session_pb2.SESSION_STATUS_READY:
        return slim(described)
    return slim(described) | {
        "selected_transport": {"protocol": "webrtc", "version": "1.0"},
        "capabilities": capabilities(described.capabilities),
    }


def capabilities(described: session_pb2.Capabilities) -> dict[str, Any]:
    """Returns the `capabilities` of a session object."""
    return {
        "protocol_version": "1.0",
        "tracks": tracks(described),
        "commands": [
            {"name": name, "description": DESCRIPTIONS.get(name, name)}
            for name in described.commands
        ],
        "emission_fps": described.frame_rate,
    }


def openapi(session: session_pb2.Session) -> dict[str, Any]:
    """Returns the schema of a session's model as an OpenAPI 3.1 document."""
    described = session.capabilities
    return {
        "openapi": "3.1.0",
        "info": {"title": session.model, "version": VERSION},
        "paths": {f"/events/{name}": {"post": _command(name)} for name in described.commands},
        "webhooks": {name: {"post": _message(name)} for name in translate.MESSAGE_FIELDS},
        "x-reactor": {"tracks": tracks(described)},
    }


def tracks(described: session_pb2.Capabilities) -> list[dict[str, str]]:
    """Returns the tracks of a session, with directions as the client sees them."""
    return [
        {"name": track.name, "kind": "video", "direction": _DIRECTIONS[track.direction]}
        for track in described.tracks
        if track.direction in _DIRECTIONS
    ]


def _command(name: str) -> dict[str, Any]:
    properties = dict(_ARGUMENTS.get(name, {}))
    return {
        "operationId": name,
        "summary": DESCRIPTIONS.get(name, name),
        "requestBody": _json_body(properties),
        "responses": {"202": {"description": "Accepted"}},
    }


def _message(name: str) -> dict[str, Any]:
    payload = getattr(message_pb2.Message(), name).DESCRIPTOR
    properties = {
        field: _property(payload.fields_by_name[field]) for field in translate.MESSAGE_FIELDS[name]
    }
    return {
        "operationId": name,
        "requestBody": _json_body(properties),
        "responses": {"200": {"description": "Received"}},
    }


def _property(field: FieldDescriptor) -> dict[str, Any]:
    kind = _JSON_TYPES[field.cpp_type]
    return {"type": [kind, "null"] if field.has_presence else kind}


def _json_body(properties: Mapping[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": dict(properties), "required": list(properties)}
    return {"content": {"application/json": {"schema": schema}}}
