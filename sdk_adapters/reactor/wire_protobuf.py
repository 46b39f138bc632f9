"""The protobuf wire of the native client (`reactor_wire.v1`, see `reactor_wire.proto`).

`data` carries commands and the model's messages, `control` everything else. Every
REQUEST wants one RESPONSE with its id within 10 s: the native client gives up then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from google.protobuf import struct_pb2
from google.protobuf.message import DecodeError

from sdk_adapters.reactor import reactor_wire_pb2 as pb
from sdk_adapters.reactor import wire

NAME: Final = "protobuf"


def decode(label: wire.Label, payload: str | bytes, /) -> wire.Inbound | None:
    """Returns what a client said; None for what is malformed or unknown."""
    if isinstance(payload, str):
        return None
    try:
        return _DECODERS[label](payload)
    except DecodeError:
        return None


def encode(outbound: wire.Outbound, /) -> tuple[wire.Label, bytes] | None:
    """Returns the channel and the bytes."""
    match outbound:
        case wire.ModelMessage(name=name, data=data, request_id=request_id):
            said = pb.ModelMessage(type=name, data=_struct(data))
            return _data(request_id, message=said)
        case wire.Ack(request_id=request_id):
            return _data(request_id)
        case wire.Schema(request_id=request_id, document=document):
            return _control(request_id, model_schema=pb.ModelSchema(openapi=_struct(document)))
        case wire.ClipReady(request_id=request_id):
            return _control(request_id, clip_ready=pb.ClipReady(**outbound.fields()))
        case wire.ClipFailed(request_id=request_id, reason=reason):
            return _control(request_id, clip_failed=pb.ClipFailed(reason=reason))
        case wire.TrackGranted(request_id=request_id, name=name):
            return _control(request_id, publish_track=pb.PublishTrackResponse(name=name))
        case wire.TrackRefused(request_id=request_id, code=code, message=message):
            return _control(request_id, error=pb.Error(code=code, message=message))
        case wire.SessionEnded(reason=reason):
            return _control("", session_ended=pb.SessionEnded(reason=reason))


def _data(request_id: str, message: pb.ModelMessage | None = None) -> tuple[wire.Label, bytes]:
    framed = pb.DataServerMessage(request_id=request_id, kind=_kind(request_id), message=message)
    return wire.Label.DATA, framed.SerializeToString()


def _control(
    request_id: str,
    *,
    model_schema: pb.ModelSchema | None = None,
    clip_ready: pb.ClipReady | None = None,
    clip_failed: pb.ClipFailed | None = None,
    publish_track: pb.PublishTrackResponse | None = None,
    session_ended: pb.SessionEnded | None = None,
    error: pb.Error | None = None,
) -> tuple[wire.Label, bytes]:
    framed = pb.ControlServerMessage(
        request_id=request_id,
        kind=_kind(request_id),
        model_schema=model_schema,
        clip_ready=clip_ready,
        clip_failed=clip_failed,
        publish_track=publish_track,
        session_ended=session_ended,
        error=error,
    )
    return wire.Label.CONTROL, framed.SerializeToString()


def _kind(request_id: str) -> pb.Kind.ValueType:
    return pb.KIND_RESPONSE if request_id else pb.KIND_NOTIFICATION


def _decode_data(payload: bytes) -> wire.Inbound | None:
    message = pb.DataClientMessage.FromString(payload)
    if message.WhichOneof("payload") != "command":
        return None
    command = message.command
    uploads = {name: _file(reference) for name, reference in command.uploads.items()}
    return wire.Command(message.request_id, command.type, _plain_struct(command.data), uploads)


def _decode_control(payload: bytes) -> wire.Inbound | None:
    message = pb.ControlClientMessage.FromString(payload)
    made = _CONTROL.get(message.WhichOneof("payload") or "")
    return made(message) if made is not None else None


def _file(reference: pb.UploadReference) -> dict[str, object]:
    return {
        "upload_id": reference.upload_id,
        "name": reference.name,
        "mime_type": reference.mime_type,
        "size": reference.size,
    }


def _struct(data: Mapping[str, Any]) -> struct_pb2.Struct:
    struct = struct_pb2.Struct()
    struct.update(data)
    return struct


def _plain_struct(struct: struct_pb2.Struct) -> dict[str, object]:
    return {name: _plain(value) for name, value in struct.fields.items()}


def _plain(value: struct_pb2.Value) -> object:
    match value.WhichOneof("kind"):
        case "struct_value":
            return _plain_struct(value.struct_value)
        case "list_value":
            return [_plain(each) for each in value.list_value.values]
        case "null_value" | None:
            return None
        case scalar:
            return getattr(value, scalar)


_CONTROL: Final[dict[str, Callable[[pb.ControlClientMessage], wire.Inbound]]] = {
    "ping": lambda _: wire.Ping(),
    "file_uploaded": lambda _: wire.FileUploaded(),
    "request_schema": lambda message: wire.SchemaRequest(message.request_id),
    "request_clip": lambda message: wire.ClipRequest(
        message.request_id, message.request_clip.duration_seconds
    ),
    "request_recording": lambda message: wire.RecordingRequest(message.request_id),
    "publish_track": lambda message: wire.PublishTrack(
        message.request_id, message.publish_track.name
    ),
    "unpublish_track": lambda message: wire.UnpublishTrack(message.unpublish_track.name),
    "pause_track": lambda message: wire.PauseTrack(message.pause_track.name),
    "resume_track": lambda message: wire.ResumeTrack(message.resume_track.name),
}
_DECODERS: Final[dict[wire.Label, Callable[[bytes], wire.Inbound | None]]] = {
    wire.Label.DATA: _decode_data,
    wire.Label.CONTROL: _decode_control,
}
