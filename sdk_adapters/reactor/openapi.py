"""What a model can be told and what it says, as an OpenAPI 3.1 document.

A path per command, a webhook per message, and the tracks under `x-reactor`: the form in
which Reactor clients expect a model's schema. It is generated: which commands there are from
what the plugin declares, their arguments and the fields of messages from the public contract.
Here are only the words and limits that a contract in protobuf does not carry.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from sana_gateway.v1 import command_pb2, message_pb2, session_pb2
from scheduler.core.commands import MAX_SEED, MAX_TRANSITION_CHUNKS
from scheduler.core.staging import MAX_PROMPT_CHARACTERS
from sdk_adapters.reactor import replies, translate

VERSION: Final = metadata.version("sana-gateway")
"""Version of this server."""

_DIRECTIONS: Final = {
    session_pb2.TRACK_DIRECTION_SEND: "sendonly",
    session_pb2.TRACK_DIRECTION_RECEIVE: "recvonly",
}
_JSON_TYPES: Final[Mapping[int, str]] = {
    FieldDescriptor.CPPTYPE_INT32: "integer",
    FieldDescriptor.CPPTYPE_INT64: "integer",
    FieldDescriptor.CPPTYPE_BOOL: "boolean",
    FieldDescriptor.CPPTYPE_STRING: "string",
}


@dataclass(frozen=True, slots=True)
class Words:
    """What is said of a command or a message beside its fields."""

    summary: str
    fields: Mapping[str, str] = field(default_factory=dict)
    """What each field is; those that are not named speak for themselves."""
    limits: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """What JSON Schema is told of a field beside its type."""
    commands: tuple[str, ...] = ()
    """Commands that lead to a message; it is shown where one of them is declared. None: always."""


COMMANDS: Final[Mapping[str, Words]] = {
    "set_mode": Words(
        "Chooses the source of video: the live camera or an uploaded file.",
        {"mode": "`live` takes the track `camera`, `file` the clip of set_video."},
    ),
    "set_video": Words(
        "Stages an uploaded clip as the source of file mode.",
        {"video": "The clip, as uploaded to this session."},
    ),
    "set_prompt": Words(
        "Sets or changes the edit prompt; it takes effect at the next chunk.",
        {"prompt": "What to make of the video."},
        {"prompt": {"minLength": 1, "maxLength": MAX_PROMPT_CHARACTERS}},
    ),
    "set_seed": Words(
        "Sets the noise seed of the next start.",
        {"seed": "The same seed makes the same pictures."},
        {"seed": {"minimum": 0, "maximum": MAX_SEED}},
    ),
    "start": Words("Begins to stream edited video on main_video."),
    "pause": Words("Halts generation after the chunk under way."),
    "resume": Words("Goes on after a pause."),
    "reset": Words("Drops clip, prompt and progress; back to idle."),
}
"""The commands of this wire."""

TRANSITION: Final[Mapping[str, object]] = {
    "type": "integer",
    "minimum": 0,
    "maximum": MAX_TRANSITION_CHUNKS,
    "description": "Chunks of a run over which the prompt before becomes this one; 0: at once.",
}
"""What set_prompt may say beside the prompt to a model that can."""

_RUN: Final = ("start",)
MESSAGES: Final[Mapping[str, Words]] = {
    "prompt_accepted": Words("A set_prompt was accepted.", commands=("set_prompt",)),
    "video_accepted": Words(
        "A set_video was accepted.",
        {
            "width": "Displayed width of the clip in pixels.",
            "height": "Displayed height of the clip in pixels.",
            "num_frames": "Frames of the clip.",
            "num_latent_frames": "One, and one for every eight frames after the first.",
        },
        commands=("set_video",),
    ),
    "generation_started": Words(
        "A start was accepted and the first chunk is under way.",
        {"chunk_num": "Always 0.", "frame_num": "Always 0."},
        commands=_RUN,
    ),
    "chunk_complete": Words(
        "A chunk was shown to its last frame.",
        {
            "chunk_index": "Index of the chunk in its run, from 0.",
            "frames_emitted": "Frames of the chunk.",
            "active_prompt": "Prompt that the chunk was made with.",
        },
        commands=_RUN,
    ),
    "generation_complete": Words(
        "A clip was played through to its end.",
        {"total_chunks": "Chunks of the run."},
        commands=_RUN,
    ),
    "generation_reset": Words("The answer to reset.", commands=("reset",)),
    "command_error": Words(
        "A command was refused; nothing else changed. Told to who asked.",
        {"command": "Name of the command.", "reason": "Why, and what to do."},
    ),
    "state": Words(
        "Snapshot of the session: on connecting, after every command and after every chunk.",
        {
            "running": "Frames are being streamed.",
            "started": "A start was accepted and its run is not over.",
            "paused": "A pause was accepted.",
            "current_chunk": "Chunks completed since the start.",
            "current_prompt": "Prompt last accepted.",
            "has_prompt": "A prompt is set.",
            "has_video": "A clip is staged.",
            "num_source_frames": "Frames of the staged clip, else 0.",
            "seed": "Present seed.",
        },
    ),
}
"""The messages of this wire."""

_UPLOAD: Final = "ReactorUploadReference"


def commands(described: session_pb2.Capabilities) -> Iterator[tuple[str, Words]]:
    """Yields the commands that a model declares, as far as this wire can say them."""
    for name in described.commands:
        if (words := COMMANDS.get(name)) is not None:
            yield name, words


def messages(described: session_pb2.Capabilities) -> Iterator[tuple[str, Words]]:
    """Yields the messages that the commands of a model may lead to."""
    declared = {name for name, _ in commands(described)}
    for name, words in MESSAGES.items():
        if not words.commands or not declared.isdisjoint(words.commands):
            yield name, words


def tracks(described: session_pb2.Capabilities) -> list[dict[str, str]]:
    """Returns the tracks of a model, with directions as the client sees them."""
    return [
        {"name": track.name, "kind": "video", "direction": _DIRECTIONS[track.direction]}
        for track in described.tracks
        if track.direction in _DIRECTIONS
    ]


def document(model: str, described: session_pb2.Capabilities) -> dict[str, Any]:
    """Returns the schema of a model.

    Args:
        model: The name that clients ask for.
        described: What its plugin declares.
    """
    told = dict(messages(described))
    schemas = {_component(name): _message(name, words) for name, words in told.items()}
    paths = {
        f"/events/{name}": {"post": _command(name, words, described)}
        for name, words in commands(described)
    }
    if "/events/set_video" in paths:
        schemas[_UPLOAD] = _object(command_pb2.FileRef.DESCRIPTOR, Words(""))
    return {
        "openapi": "3.1.0",
        "info": {"title": model, "version": VERSION},
        "paths": paths,
        "webhooks": {name: {"post": _webhook(name, words)} for name, words in told.items()},
        "components": {"schemas": schemas},
        "x-reactor": {"tracks": tracks(described)},
    }


def _command(name: str, words: Words, described: session_pb2.Capabilities) -> dict[str, Any]:
    argument: Descriptor = getattr(command_pb2.Command(), name).DESCRIPTOR
    said = _object(argument, words)
    if name == "set_prompt" and described.prompt_transitions:
        said["properties"]["transition_chunks"] = TRANSITION
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": words.summary,
        "requestBody": _body(said),
    }
    if name == "set_video":
        least = described.minimum_frames
        operation["description"] = f"A clip has at least {least} frames."
    if (reply := replies.REPLY_OF.get(name)) is not None:
        content = _body(_reference(_component(reply)))["content"]
        operation["responses"] = {"200": {"description": "Accepted", "content": content}}
    else:
        operation["responses"] = {"202": {"description": "Accepted"}}
    return operation


def _webhook(name: str, words: Words) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": words.summary,
        "requestBody": _body(_reference(_component(name))),
        "responses": {"200": {"description": "Received"}},
    }


def _message(name: str, words: Words) -> dict[str, Any]:
    """Returns the schema of a message: the fields that this wire shows, in their order."""
    payload = _payload(name)
    shown = [payload.fields_by_name[each] for each in translate.MESSAGE_FIELDS[name]]
    return _schema({each.name: _property(each, words) for each in shown})


def _object(message: Descriptor, words: Words) -> dict[str, Any]:
    """Returns the schema of what has to be said; what the contract marks optional is our own."""
    said = (each for each in message.fields if each.message_type or not each.has_presence)
    return _schema({each.name: _property(each, words) for each in said})


def _schema(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": dict(properties), "required": list(properties)}


def _property(described: FieldDescriptor, words: Words) -> dict[str, Any]:
    found = _type(described) | dict(words.limits.get(described.name, {}))
    if (what := words.fields.get(described.name)) is not None:
        found["description"] = what
    return found


def _type(described: FieldDescriptor) -> dict[str, Any]:
    if described.message_type is not None:
        return _reference(_UPLOAD)
    if described.enum_type is not None:
        return {"type": "string", "enum": _names(described.enum_type)}
    kind = _JSON_TYPES[described.cpp_type]
    # What the contract marks optional is null here where it is not said.
    return {"type": [kind, "null"] if described.has_presence else kind}


def _names(described: EnumDescriptor) -> list[str]:
    """Returns the values of an enumeration as this wire says them: `MODE_LIVE` is `live`."""
    prefix = f"{described.name.upper()}_"
    return [each.name.removeprefix(prefix).lower() for each in described.values if each.number]


def _payload(name: str) -> Descriptor:
    payload: Descriptor = getattr(message_pb2.Message(), name).DESCRIPTOR
    return payload


def _component(name: str) -> str:
    return str(_payload(name).name)


def _reference(component: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{component}"}


def _body(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": dict(schema)}}}
