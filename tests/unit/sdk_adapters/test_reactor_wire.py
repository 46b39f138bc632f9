"""Both wires: the bytes real clients send, and the bytes they understand."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st

from sdk_adapters.reactor import reactor_wire_pb2 as pb
from sdk_adapters.reactor import translate, wire, wire_json, wire_protobuf
from sdk_adapters.reactor.wire import Label

pytestmark = pytest.mark.unit

UPLOAD = {"upload_id": "u1", "name": "clip.mp4", "mime_type": "video/mp4", "size": 69763}

RECORDED = [
    (Label.CONTROL, "10035200", wire.Ping()),
    (
        Label.CONTROL,
        "10038a010c0a0a6d61696e5f766964656f",
        wire.ResumeTrack("main_video"),
    ),
    (
        Label.CONTROL,
        "0a066374726c5f3110017a080a0663616d657261",
        wire.PublishTrack("ctrl_1", "camera"),
    ),
    (
        Label.DATA,
        "0a06646174615f34100152090a0573746172741200",
        wire.Command("data_4", "start", {}, {}),
    ),
    (
        Label.DATA,
        "0a06646174615f321001521f0a087365745f7365656412130a110a04736565641209110000000000004540",
        wire.Command("data_2", "set_seed", {"seed": 42.0}, {}),
    ),
]


@pytest.mark.parametrize(("label", "recorded", "meaning"), RECORDED)
def test_protobuf_recorded_from_the_native_client_is_understood(
    label: Label, recorded: str, meaning: wire.Inbound
) -> None:
    assert wire_protobuf.decode(label, bytes.fromhex(recorded)) == meaning


def test_protobuf_arguments_of_every_kind_become_plain_values() -> None:
    command = pb.Command(type="anything")
    json_format.ParseDict({"n": None, "b": True, "s": "x", "l": [1, {"a": 2}]}, command.data)
    sent = pb.DataClientMessage(request_id="7", kind=pb.KIND_REQUEST, command=command)
    decoded = wire_protobuf.decode(Label.DATA, sent.SerializeToString())
    assert decoded == wire.Command(
        "7", "anything", {"n": None, "b": True, "s": "x", "l": [1.0, {"a": 2.0}]}, {}
    )


def test_protobuf_uploads_are_kept_apart() -> None:
    command = pb.Command(type="set_video", uploads={"video": pb.UploadReference(**UPLOAD)})
    sent = pb.DataClientMessage(request_id="7", kind=pb.KIND_REQUEST, command=command)
    assert wire_protobuf.decode(Label.DATA, sent.SerializeToString()) == wire.Command(
        "7", "set_video", {}, {"video": UPLOAD}
    )


@pytest.mark.parametrize(
    ("field", "meaning"),
    [
        ("request_schema", wire.SchemaRequest("c")),
        ("request_clip", wire.ClipRequest("c", 0.0)),
        ("request_recording", wire.RecordingRequest("c")),
        ("file_uploaded", wire.FileUploaded()),
        ("pause_track", wire.PauseTrack("")),
        ("unpublish_track", wire.UnpublishTrack("")),
    ],
)
def test_protobuf_control_payloads_are_told_apart(field: str, meaning: wire.Inbound) -> None:
    sent = pb.ControlClientMessage(request_id="c")
    getattr(sent, field).SetInParent()
    assert wire_protobuf.decode(Label.CONTROL, sent.SerializeToString()) == meaning


@pytest.mark.parametrize(
    "payload",
    [
        b"\xff\xff\xff\xff",
        pb.ControlClientMessage(kind=pb.KIND_NOTIFICATION).SerializeToString(),
        # Field 19, the native client's statistics.
        b"\x10\x03\x9a\x01\x02\x0a\x00",
        pb.ControlClientMessage(error=pb.Error(code="x")).SerializeToString(),
        "text",
    ],
)
@pytest.mark.parametrize("label", list(Label))
def test_protobuf_unknown_and_malformed_is_ignored(label: Label, payload: bytes | str) -> None:
    assert wire_protobuf.decode(label, payload) is None


def _data(payload: bytes) -> pb.DataServerMessage:
    return pb.DataServerMessage.FromString(payload)


def test_protobuf_reply_carries_the_id_and_a_notification_none() -> None:
    for request_id, kind in (("data_4", pb.KIND_RESPONSE), ("", pb.KIND_NOTIFICATION)):
        label, payload = wire_protobuf.encode(
            wire.ModelMessage("state", {"seed": 7, "current_prompt": None}, request_id)
        )
        said = _data(payload)
        assert (label, said.request_id, said.kind) == (Label.DATA, request_id, kind)
        assert said.message.type == "state"
        assert json_format.MessageToDict(said.message.data) == {"seed": 7, "current_prompt": None}


def test_protobuf_ack_is_a_response_without_payload() -> None:
    label, payload = wire_protobuf.encode(wire.Ack("data_4"))
    said = _data(payload)
    assert (label, said.request_id, said.kind) == (Label.DATA, "data_4", pb.KIND_RESPONSE)
    assert said.WhichOneof("payload") is None


@pytest.mark.parametrize(
    ("said", "payload"),
    [
        (wire.Schema("c", {"openapi": "3.1.0"}), "model_schema"),
        (
            wire.ClipReady("c", "s1", "snap", 1.5, 3.5, 3.5, 1_790_000_000_000, "/clips?"),
            "clip_ready",
        ),
        (wire.ClipFailed("c", "recorder disabled"), "clip_failed"),
        (wire.TrackGranted("c", "camera"), "publish_track"),
        (wire.TrackRefused("c", "PUBLISHER_SLOT_TAKEN", "taken"), "error"),
        (wire.SessionEnded("over"), "session_ended"),
    ],
)
def test_protobuf_platform_words_go_to_the_control_channel(
    said: wire.Outbound, payload: str
) -> None:
    label, framed = wire_protobuf.encode(said)
    message = pb.ControlServerMessage.FromString(framed)
    assert label == Label.CONTROL
    assert message.WhichOneof("payload") == payload
    ending = isinstance(said, wire.SessionEnded)
    assert message.request_id == ("" if ending else "c")
    assert message.kind == (pb.KIND_NOTIFICATION if ending else pb.KIND_RESPONSE)


def _envelope(scope: str, kind: str, **more: object) -> str:
    return json.dumps({"scope": scope, "data": {"type": kind, "data": {}, **more}})


@pytest.mark.parametrize(
    ("label", "payload", "meaning"),
    [
        (
            Label.DATA,
            _envelope("application", "set_prompt", data={"prompt": "p"}),
            wire.Command("", "set_prompt", {"prompt": "p"}, {}),
        ),
        (
            Label.DATA,
            _envelope("application", "set_video", uploads={"video": UPLOAD}),
            wire.Command("", "set_video", {}, {"video": UPLOAD}),
        ),
        (
            Label.DATA,
            _envelope("application", "start", data=None),
            wire.Command("", "start", {}, {}),
        ),
        (Label.DATA, _envelope("runtime", "ping"), wire.Ping()),
        (Label.DATA, _envelope("runtime", "requestSchema"), wire.SchemaRequest("")),
        (
            Label.DATA,
            _envelope("runtime", "requestClip", data={"duration_seconds": 2.5}),
            wire.ClipRequest("", 2.5),
        ),
        (Label.DATA, _envelope("runtime", "requestClip", data=None), wire.ClipRequest("", None)),
        (Label.DATA, _envelope("runtime", "requestRecording"), wire.RecordingRequest("")),
        (Label.DATA, _envelope("runtime", "fileUploaded"), wire.FileUploaded()),
        (
            Label.CONTROL,
            '{"type":"request","method":"publish_track","request_id":"c1","data":{"name":"camera"}}',
            wire.PublishTrack("c1", "camera"),
        ),
        (
            Label.CONTROL,
            '{"type":"notification","event":"pause_track","data":{"name":"main_video"}}',
            wire.PauseTrack("main_video"),
        ),
        (
            Label.CONTROL,
            '{"type":"notification","event":"resume_track","data":{"name":"main_video"}}',
            wire.ResumeTrack("main_video"),
        ),
        (
            Label.CONTROL,
            '{"type":"notification","event":"unpublish_track","data":{"name":"camera"}}',
            wire.UnpublishTrack("camera"),
        ),
    ],
)
def test_json_is_understood(label: Label, payload: str, meaning: wire.Inbound) -> None:
    assert wire_json.decode(label, payload) == meaning
    assert wire_json.decode(label, payload.encode()) == meaning


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "no json",
        "[]",
        "{}",
        '{"scope":"application"}',
        '{"scope":"runtime","data":{"type":"somethingNew","data":{}}}',
        '{"scope":"elsewhere","data":{"type":"start","data":{}}}',
        '{"scope":"application","data":{"type":"set_seed","data":{"seed":NaN}}}',
        "[" * 100_000,
        b"\xff\xfe",
        '{"type":"request","method":"something_new","request_id":"1","data":{"name":"x"}}',
        '{"type":"notification","event":"pause_track","data":{}}',
        '{"type":"notification","event":"pause_track"}',
    ],
)
@pytest.mark.parametrize("label", list(Label))
def test_json_unknown_and_malformed_is_ignored(label: Label, payload: str | bytes) -> None:
    assert wire_json.decode(label, payload) is None


@pytest.mark.parametrize(
    ("said", "label", "payload"),
    [
        (
            wire.ModelMessage("state", {"seed": 1}, "ignored"),
            Label.DATA,
            {"scope": "application", "data": {"type": "state", "data": {"seed": 1}}},
        ),
        (
            wire.SessionEnded("over"),
            Label.DATA,
            {"scope": "runtime", "data": {"type": "sessionEnded", "data": {"reason": "over"}}},
        ),
        (
            wire.ClipReady("", "s1", "snap", 1.5, 3.5, 3.75, 1_790_000_000_000, "/clips?x=1"),
            Label.DATA,
            {
                "scope": "runtime",
                "data": {
                    "type": "clipReady",
                    "data": {
                        "session_id": "s1",
                        "kind": "snap",
                        "start_marker": 1.5,
                        "end_marker": 3.5,
                        "now_marker": 3.75,
                        "predicted_ready_at_ms": 1_790_000_000_000,
                        "playlist_url": "/clips?x=1",
                    },
                },
            },
        ),
        (
            wire.ClipFailed("", "recorder disabled"),
            Label.DATA,
            {
                "scope": "runtime",
                "data": {"type": "clipFailed", "data": {"reason": "recorder disabled"}},
            },
        ),
        (
            wire.Schema("", {"openapi": "3.1.0"}),
            Label.DATA,
            {"scope": "runtime", "data": {"type": "modelSchema", "data": {"openapi": "3.1.0"}}},
        ),
        (
            wire.TrackGranted("c1", "camera"),
            Label.CONTROL,
            {"type": "response", "method": "publish_track", "request_id": "c1", "data": {}},
        ),
        (
            wire.TrackRefused("c1", "PUBLISHER_SLOT_TAKEN", "taken"),
            Label.CONTROL,
            {
                "type": "response",
                "method": "publish_track",
                "request_id": "c1",
                "error": {"code": "PUBLISHER_SLOT_TAKEN", "message": "taken"},
            },
        ),
    ],
)
def test_json_is_spoken(said: wire.Outbound, label: Label, payload: object) -> None:
    encoded = wire_json.encode(said)
    assert encoded is not None
    assert encoded[0] == label
    assert isinstance(encoded[1], str)
    assert json.loads(encoded[1]) == payload


def test_json_has_no_acks() -> None:
    assert wire_json.encode(wire.Ack("1")) is None


@pytest.mark.parametrize(
    ("payload", "is_json"),
    [
        ("anything", True),
        (b' \n{"a":1}', True),
        (b"[1]", True),
        (b"\x10\x03R\x00", False),
        (b"", False),
    ],
)
def test_the_first_message_tells_the_wire(payload: str | bytes, *, is_json: bool) -> None:
    assert wire.is_json(payload) is is_json


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.integers(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
ENVELOPES = st.fixed_dictionaries(
    {},
    optional={
        "scope": st.sampled_from(["application", "runtime"]) | JSON,
        "type": st.sampled_from(["request", "notification"]) | JSON,
        "method": st.just("publish_track") | JSON,
        "event": st.just("pause_track") | JSON,
        "request_id": JSON,
        "data": JSON
        | st.fixed_dictionaries(
            {},
            optional={
                "type": st.sampled_from(["ping", "set_seed", "set_video", "set_prompt"]) | JSON,
                "data": JSON,
                "uploads": JSON | st.fixed_dictionaries({"video": JSON}),
                "name": JSON,
            },
        ),
    },
)


def _survives(decoded: wire.Inbound | None) -> None:
    if isinstance(decoded, wire.Command):
        translate.command("c", decoded.name, decoded.arguments, decoded.uploads)


@settings(deadline=None, max_examples=50)
@given(payload=st.binary() | st.text(), label=st.sampled_from(Label))
def test_no_bytes_break_a_wire(payload: str | bytes, label: Label) -> None:
    _survives(wire_json.decode(label, payload))
    _survives(wire_protobuf.decode(label, payload))


@settings(deadline=None, max_examples=50)
@given(envelope=ENVELOPES, label=st.sampled_from(Label))
def test_no_json_breaks_the_json_wire(envelope: object, label: Label) -> None:
    _survives(wire_json.decode(label, json.dumps(envelope)))


@settings(deadline=None, max_examples=50)
@given(arguments=st.dictionaries(st.text(), JSON), name=st.text())
def test_protobuf_arguments_survive_their_way(arguments: dict[str, Any], name: str) -> None:
    command = pb.Command(type=name.encode(errors="ignore").decode())
    try:
        command.data.update(arguments)
    except ValueError:  # text that no client can send
        return
    sent = pb.DataClientMessage(request_id="1", command=command)
    _survives(wire_protobuf.decode(Label.DATA, sent.SerializeToString()))
