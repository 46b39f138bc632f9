"""Commands as JSON: on the data channels of all clients that speak it, and over HTTP."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any, Final

from sana_gateway.v1 import message_pb2
from scheduler.core.errors import BadArgumentError
from sdk_adapters.reactor import translate, wire, wire_json, wire_typed
from sdk_adapters.whip import commands as http_commands
from tests.fuzz import obeying
from tests.fuzz.reader import Reader

CHANNELS: Final = tuple((codec, label) for codec in (wire_json, wire_typed) for label in wire.Label)
PROFILES: Final = len(CHANNELS) + 1
"""What the first byte chooses from; the last is HTTP."""
WORDS: Final = (
    *("type", "data", "scope", "application", "runtime", "uploads", "video", "upload_id", "size"),
    *("name", "mime_type", "prompt", "mode", "live", "file", "seed", "request", "notification"),
    *("method", "event", "publish_track", "pause_track", "request_id", "camera", "command", "id"),
    *("arguments", "traceparent", "track", "set_prompt", "set_mode", "set_seed", "set_video"),
    *("start", "reset", "command_id", "requestClip", "duration_seconds", "publish", "schema"),
)
"""What messages are made of when the first byte says that one is to be made."""
PLAIN: Final = 100
"""So many brackets are not too deep for what is asked here."""


def fuzz_one(data: bytes) -> None:
    """Has a message understood and obeyed, as its profile does."""
    reader = Reader(data)
    first = reader.number()
    profile = first % 128 % PROFILES
    payload = dumped(reader.value(WORDS)) if first & 128 else reader.rest()
    if profile == len(CHANNELS):
        over_http(payload)
        return
    codec, label = CHANNELS[profile]
    on_channel(codec, label, payload)


def on_channel(codec: wire.Wire, label: wire.Label, payload: bytes) -> None:
    """Reads a message as binary and as text; what it means is carried out."""
    said = codec.decode(label, payload)
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        text = None
    # Binary may be in another encoding (RFC 4627, section 3).
    if text is not None and b"\0" not in payload[:4] and not text.startswith("\ufeff"):
        assert same(codec.decode(label, text), said)
    if said is None:
        return
    assert isinstance(said, wire.Inbound)
    if payload.count(b"[") + payload.count(b"{") < PLAIN and is_finite(json.loads(payload)):
        written = json.dumps(json.loads(payload))
        assert same(codec.decode(label, written), said), "written and read again it is the same"
    if isinstance(said, wire.Command):
        # Our own clients make the ids of their commands; for others the conversation does.
        obey(said, said.request_id if codec is wire_typed else "id")
    answer(codec, said)


def over_http(payload: bytes) -> None:
    """Reads the body of a command; see `gateway.http.json_object`."""
    try:
        body = json.loads(payload)
        json.dumps(body, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return
    if not isinstance(body, dict):
        return
    try:
        made = http_commands.command_of(body)
    except BadArgumentError:
        return
    obeying.obey(made)


def obey(said: wire.Command, command_id: str) -> None:
    """Makes a command of what was said, and has a session obey it."""
    made = translate.command(command_id, said.name, said.arguments, said.uploads)
    assert len(translate.name_of(made)) <= 64
    obeying.obey(made)


def answer(codec: wire.Wire, said: wire.Inbound) -> None:
    """Writes what such a message may be answered with; it bears ids of the client's."""
    request_id = getattr(said, "request_id", "")
    name = getattr(said, "name", "")
    refused = wire.TrackRefused(request_id, "UNKNOWN_TRACK", "no such track")
    answers: list[Any] = [refused, wire.Schema(request_id, {}), wire.ClipFailed(request_id, "no")]
    if isinstance(name, str):
        answers.append(wire.TrackGranted(request_id, name))
    if codec is wire_typed:
        refusal = message_pb2.CommandError(command="start", reason="not now")
        told = message_pb2.Message(command_id=request_id, command_error=refusal)
        answers += [wire_typed.Pong(request_id), wire_typed.Told(told)]
        answers.append(wire_typed.Answered(request_id, accepted=False))
    for each in answers:
        encoded = codec.encode(each)
        if encoded is not None:
            assert isinstance(json.loads(encoded[1]), dict)
            encoded[1].encode()  # type: ignore[union-attr]


def same(one: object, other: object) -> bool:
    """Whether two readings are equal; numbers that are none, too, in whichever order."""
    return one == other or ordered(one) == ordered(other)


def ordered(value: object) -> object:
    """Returns what is equal for equal readings."""
    if dataclasses.is_dataclass(value):
        fields = [ordered(getattr(value, each.name)) for each in dataclasses.fields(value)]
        return type(value).__name__, fields
    if isinstance(value, dict):
        return sorted((repr(key), repr(ordered(inner))) for key, inner in value.items())
    return [ordered(each) for each in value] if isinstance(value, list) else repr(value)


def is_finite(value: object) -> bool:
    """Whether no number is larger than JSON can write."""
    match value:
        case float():
            return math.isfinite(value)
        case list():
            return all(map(is_finite, value))
        case dict():
            return all(map(is_finite, value.values()))
        case _:
            return True


def seeds() -> list[bytes]:
    """Returns the messages of real clients, and what is nearly one."""
    reference = {"upload_id": "0123456789abcdef", "name": "a.mp4", "mime_type": "video/mp4"}
    arguments: dict[str, Any] = {
        "set_prompt": {"prompt": "a watercolour \u00e9 \U0001f3a8"},
        "set_mode": {"mode": "live"},
        "set_seed": {"seed": 42.0},
        "set_video": {"video": {**reference, "size": 12}},
        "start": {},
        "pause": {},
        "resume": None,
        "reset": {},
    }
    made: list[bytes] = []
    for name, data in arguments.items():
        uploads = {"video": {**reference, "size": 5}} if name == "set_video" else {}
        inner = {"type": name, "data": data, "uploads": uploads}
        typed = {"type": "command", "id": "c1", "name": name, "arguments": data or {}}
        made += [
            profiled(wire_json, wire.Label.DATA, {"scope": "application", "data": inner}),
            profiled(wire_typed, wire.Label.DATA, typed | {"traceparent": "00-1-2-01"}),
            bytes([len(CHANNELS)]) + dumped({"type": name, "data": data, "command_id": "7"}),
        ]
    for name in ("ping", "fileUploaded", "requestSchema", "requestClip", "requestRecording"):
        inner = {"type": name, "data": {"duration_seconds": 4.5}}
        made.append(profiled(wire_json, wire.Label.DATA, {"scope": "runtime", "data": inner}))
    track = {"name": "camera"}
    asked = {"type": "request", "method": "publish_track", "request_id": "r1", "data": track}
    made.append(profiled(wire_json, wire.Label.CONTROL, asked))
    for name in ("pause_track", "resume_track", "unpublish_track"):
        told = {"type": "notification", "event": name, "data": track}
        made.append(profiled(wire_json, wire.Label.CONTROL, told))
        typed = {"type": name.removesuffix("_track"), "id": "t1", "track": "camera"}
        made.append(profiled(wire_typed, wire.Label.DATA, typed))
        made.append(profiled(wire_typed, wire.Label.DATA, typed | {"type": name}))
    made += [
        profiled(wire_typed, wire.Label.DATA, {"type": name, "id": "p"})
        for name in ("ping", "schema", "publish")
    ]
    made += [bytes([128 | number]) + bytes(range(number, 256, 3)) for number in range(PROFILES)]
    return made + [bytes([profile]) + odd for odd in ODD for profile in range(PROFILES)]


def profiled(codec: Any, label: wire.Label, message: object) -> bytes:
    """Writes a message of a profile."""
    return bytes([CHANNELS.index((codec, label))]) + dumped(message)


def dumped(message: object) -> bytes:
    """Writes JSON, not only in ASCII."""
    return json.dumps(message, ensure_ascii=False).encode()


def nested(depth: int, inside: Callable[[str], str]) -> bytes:
    """Writes lists in lists."""
    return inside("[" * depth + "]" * depth).encode()


ODD: Final = (
    b"",
    b"\xff\xfe{\x00}\x00",
    b'{"type": "set_prompt", "data": {"prompt": "\\ud800"}}',
    b'{"scope": "application", "data": {"type": "set_seed", "data": {"seed": 1e999}}}',
    b'{"scope": "application", "data": {"type": "set_seed", "data": {"seed": NaN}}}',
    b'{"type": "command", "id": "c", "name": "set_seed", "arguments": {"seed": 99999999999999}}',
    nested(900, lambda deep: f'{{"type": {deep}, "data": {{"name": "x"}}}}'),
    nested(900, lambda deep: f'{{"scope": "runtime", "data": {{"type": {deep}}}}}'),
    nested(
        900,
        lambda deep: (
            f'{{"type": "request", "method": "publish_track", '
            f'"request_id": {deep}, "data": {{"name": "camera"}}}}'
        ),
    ),
)
"""What no client sends."""
