"""The JSON wire of the JavaScript clients and of the Python client before 1.0.

Commands, messages and everything of the platform travel on `data` in an envelope with
a scope; `control` carries the requests and notifications about tracks. There are no
ids on `data`: replies are ordinary messages.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, NoReturn

from sdk_adapters.reactor import wire

NAME: Final = "json"


def decode(label: wire.Label, payload: str | bytes, /) -> wire.Inbound | None:
    """Returns what a client said; None for what is malformed or unknown."""
    try:
        message = json.loads(payload, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict):
        return None
    return _DECODERS[label](message)


def encode(outbound: wire.Outbound, /) -> tuple[wire.Label, str] | None:
    """Returns the channel and the text; None for an ack, which JSON does not have."""
    match outbound:
        case wire.ModelMessage(name=name, data=data):
            return _data("application", name, data)
        case wire.Ack():
            return None
        case wire.Schema(document=document):
            return _data("runtime", "modelSchema", document)
        case wire.ClipReady():
            return _data("runtime", "clipReady", outbound.fields())
        case wire.ClipFailed(reason=reason):
            return _data("runtime", "clipFailed", {"reason": reason})
        case wire.SessionEnded(reason=reason):
            return _data("runtime", "sessionEnded", {"reason": reason})
        case wire.TrackGranted(request_id=request_id):
            return _response(request_id, data={})
        case wire.TrackRefused(request_id=request_id, code=code, message=message):
            return _response(request_id, error={"code": code, "message": message})


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _data(scope: str, name: str, data: object) -> tuple[wire.Label, str]:
    return wire.Label.DATA, json.dumps({"scope": scope, "data": {"type": name, "data": data}})


def _response(request_id: str, **outcome: object) -> tuple[wire.Label, str]:
    response = {"type": "response", "method": "publish_track", "request_id": request_id}
    return wire.Label.CONTROL, json.dumps(response | outcome)


def _decode_data(envelope: dict[str, Any]) -> wire.Inbound | None:
    inner = envelope.get("data")
    if not isinstance(inner, dict):
        return None
    if envelope.get("scope") == "application":
        return wire.Command(
            "", inner.get("type"), inner.get("data") or {}, inner.get("uploads") or {}
        )
    if envelope.get("scope") == "runtime":
        made = _RUNTIME.get(str(inner.get("type")))
        return made(inner.get("data")) if made is not None else None
    return None


def _clip_request(data: object) -> wire.Inbound:
    return wire.ClipRequest("", data.get("duration_seconds") if isinstance(data, dict) else None)


def _decode_control(message: dict[str, Any]) -> wire.Inbound | None:
    data = message.get("data")
    name = data.get("name") if isinstance(data, dict) else None
    if not isinstance(name, str):
        return None
    kind = message.get("type")
    if kind == "request" and message.get("method") == "publish_track":
        return wire.PublishTrack(str(message.get("request_id", "")), name)
    if kind == "notification" and (made := _NOTIFICATIONS.get(str(message.get("event")))):
        return made(name)
    return None


_RUNTIME: Final[dict[str, Callable[[object], wire.Inbound]]] = {
    "ping": lambda _: wire.Ping(),
    "fileUploaded": lambda _: wire.FileUploaded(),
    "requestSchema": lambda _: wire.SchemaRequest(""),
    "requestClip": _clip_request,
    "requestRecording": lambda _: wire.RecordingRequest(""),
}
_NOTIFICATIONS: Final[dict[str, Callable[[str], wire.Inbound]]] = {
    "pause_track": wire.PauseTrack,
    "resume_track": wire.ResumeTrack,
    "unpublish_track": wire.UnpublishTrack,
}
_DECODERS: Final[dict[wire.Label, Callable[[dict[str, Any]], wire.Inbound | None]]] = {
    wire.Label.DATA: _decode_data,
    wire.Label.CONTROL: _decode_control,
}
