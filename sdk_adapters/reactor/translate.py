"""Between the words of the Reactor wire and the public contract.

Commands come as a name with loosely typed arguments (numbers may be doubles, files
stand apart); what cannot be made a command becomes an `InvalidCommand`, which the
session answers in its turn. Messages go out with exactly the documented fields.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from google.protobuf.message import Message

from gateway import ports
from sana_gateway.v1 import command_pb2, message_pb2
from sana_gateway_internal.v1 import stream_pb2
from scheduler.core.commands import MAX_SEED, MAX_TRANSITION_CHUNKS

_Arguments = Mapping[str, object]
_MAX_NAME: Final = 64
_UPLOAD_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_MODES: Final = {"live": command_pb2.MODE_LIVE, "file": command_pb2.MODE_FILE}


class _ArgumentError(ValueError):
    """An argument cannot be used; the text says which and why, without its value."""


def command(command_id: str, name: object, arguments: object, uploads: object) -> ports.CommandLike:
    """Makes a command of what a client said.

    Args:
        command_id: Id for the answer.
        name: Name of the command; unchecked.
        arguments: Its arguments but the uploads; unchecked. Unknown ones are ignored.
        uploads: File references by argument; unchecked.
    """
    if not isinstance(name, str):
        return _invalid(command_id, "", "the name of a command is a string", _BAD_ARGUMENT)
    build = _BUILDERS.get(name)
    if build is None:
        return _invalid(command_id, name, "there is no such command", _UNKNOWN_COMMAND)
    if not isinstance(arguments, Mapping) or not isinstance(uploads, Mapping):
        return _invalid(command_id, name, "the arguments are not an object", _BAD_ARGUMENT)
    built = command_pb2.Command(command_id=command_id)
    try:
        build(built, arguments, uploads)
    except _ArgumentError as error:
        return _invalid(command_id, name, str(error), _BAD_ARGUMENT)
    return built


def name_of(made: ports.CommandLike) -> str:
    """Returns the name of a command, at most 64 characters of it."""
    if isinstance(made, stream_pb2.InvalidCommand):
        return made.name
    return made.WhichOneof("command") or ""


def message(said: message_pb2.Message) -> tuple[str, dict[str, object]] | None:
    """Returns name and payload of a message as Reactor clients know them; None for those that
    they do not know.
    """
    name = said.WhichOneof("payload")
    fields = MESSAGE_FIELDS.get(name or "")
    if name is None or fields is None:
        return None
    payload = getattr(said, name)
    return name, {field: _field(payload, field) for field in fields}


MESSAGE_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "prompt_accepted": ("prompt",),
    "video_accepted": ("width", "height", "num_frames", "num_latent_frames"),
    "generation_started": ("prompt", "chunk_num", "frame_num"),
    "chunk_complete": ("chunk_index", "frames_emitted", "active_prompt"),
    "generation_complete": ("total_chunks",),
    "generation_reset": ("reason",),
    "command_error": ("command", "reason"),
    "state": (
        "running",
        "started",
        "paused",
        "current_chunk",
        "current_prompt",
        "has_prompt",
        "has_video",
        "num_source_frames",
        "seed",
    ),
}
"""The fields of every message on this wire, in the documented order."""

_UNKNOWN_COMMAND: Final = message_pb2.REJECT_REASON_UNKNOWN_COMMAND
_BAD_ARGUMENT: Final = message_pb2.REJECT_REASON_BAD_ARGUMENT


def _invalid(
    command_id: str, name: str, reason: str, code: message_pb2.RejectReason.ValueType
) -> stream_pb2.InvalidCommand:
    shown = name[:_MAX_NAME].encode(errors="replace").decode()
    return stream_pb2.InvalidCommand(command_id=command_id, name=shown, reason=reason, code=code)


def _field(payload: Message, name: str) -> object:
    descriptor = payload.DESCRIPTOR.fields_by_name[name]
    if descriptor.has_presence and not payload.HasField(name):
        return None
    return getattr(payload, name)


def _set_mode(built: command_pb2.Command, arguments: _Arguments, _: _Arguments) -> None:
    said = arguments.get("mode")
    mode = _MODES.get(said) if isinstance(said, str) else None
    if mode is None:
        raise _ArgumentError('mode must be "live" or "file"')
    built.set_mode.mode = mode


def _set_video(built: command_pb2.Command, arguments: _Arguments, uploads: _Arguments) -> None:
    said = uploads.get("video", arguments.get("video"))
    if not isinstance(said, Mapping):
        raise _ArgumentError("video must be an uploaded file")
    upload_id, size = said.get("upload_id"), _integer(said.get("size", 0))
    if not isinstance(upload_id, str) or not _UPLOAD_ID.fullmatch(upload_id):
        raise _ArgumentError("video is not a file that was uploaded here")
    if size is None or not 0 <= size < 2**63:
        raise _ArgumentError("the size of video must be an integer")
    built.set_video.video.upload_id = upload_id
    built.set_video.video.name = _text(said.get("name", ""), "the name of video")
    built.set_video.video.mime_type = _text(said.get("mime_type", ""), "the type of video")
    built.set_video.video.size = size


def _set_prompt(built: command_pb2.Command, arguments: _Arguments, _: _Arguments) -> None:
    built.set_prompt.prompt = _text(arguments.get("prompt"), "prompt")
    if (said := arguments.get("transition_chunks")) is not None:
        chunks = _integer(said)
        if chunks is None or not 0 <= chunks <= MAX_TRANSITION_CHUNKS:
            most = MAX_TRANSITION_CHUNKS
            raise _ArgumentError(f"transition_chunks must be an integer from 0 to {most}")
        built.set_prompt.transition_chunks = chunks


def _set_seed(built: command_pb2.Command, arguments: _Arguments, _: _Arguments) -> None:
    seed = _integer(arguments.get("seed"))
    if seed is None or not 0 <= seed <= MAX_SEED:
        raise _ArgumentError(f"seed must be an integer from 0 to {MAX_SEED}")
    built.set_seed.seed = seed


def _plain(name: str) -> Callable[[command_pb2.Command, _Arguments, _Arguments], None]:
    def build(built: command_pb2.Command, _: _Arguments, __: _Arguments) -> None:
        getattr(built, name).SetInParent()

    return build


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise _ArgumentError(f"{what} must be a string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _ArgumentError(f"{what} must be valid Unicode") from None
    return value


def _integer(value: object) -> int | None:
    """Returns an integer, also one that travelled as a double."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return None


_BUILDERS: Final[Mapping[str, Callable[[command_pb2.Command, _Arguments, _Arguments], None]]] = {
    "set_mode": _set_mode,
    "set_video": _set_video,
    "set_prompt": _set_prompt,
    "set_seed": _set_seed,
    "start": _plain("start"),
    "pause": _plain("pause"),
    "resume": _plain("resume"),
    "reset": _plain("reset"),
}
