"""The wire of our own TypeScript client: its codec, and what it says of every message."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sana_gateway.v1 import command_pb2, message_pb2
from sdk_adapters.reactor import translate, wire, wire_typed
from sdk_adapters.reactor.wire import Label

pytestmark = pytest.mark.unit

VIDEO = {"upload_id": "u1", "name": "clip.mp4", "mime_type": "video/mp4", "size": 69763}


def said(payload: wire_typed.Outbound) -> dict[str, Any]:
    """Returns what is sent."""
    encoded = wire_typed.encode(payload)
    assert encoded is not None
    label, text = encoded
    assert label is Label.DATA
    value: dict[str, Any] = json.loads(text)
    return value


@pytest.mark.parametrize(
    ("payload", "meaning"),
    [
        (
            {"type": "command", "id": "c1", "name": "set_prompt", "arguments": {"prompt": "p"}},
            wire.Command("c1", "set_prompt", {"prompt": "p"}, {}),
        ),
        (
            {"type": "command", "id": "c1", "name": "start", "traceparent": "00-1-2-01"},
            wire.Command("c1", "start", {}, {}, "00-1-2-01"),
        ),
        ({"type": "ping", "id": "p"}, wire.Ping("p")),
        ({"type": "schema", "id": "s"}, wire.SchemaRequest("s")),
        ({"type": "publish", "id": "r", "track": "camera"}, wire.PublishTrack("r", "camera")),
        ({"type": "unpublish", "track": "camera"}, wire.UnpublishTrack("camera")),
        ({"type": "pause_track", "track": "main_video"}, wire.PauseTrack("main_video")),
        ({"type": "resume_track", "track": "main_video"}, wire.ResumeTrack("main_video")),
    ],
)
def test_what_the_client_says_is_understood(payload: object, meaning: wire.Inbound) -> None:
    assert wire_typed.decode(Label.DATA, json.dumps(payload)) == meaning
    assert wire_typed.decode(Label.DATA, json.dumps(payload).encode()) == meaning
    assert wire_typed.decode(Label.CONTROL, json.dumps(payload)) is None


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "no json",
        "[]",
        "{}",
        '{"type":7}',
        '{"type":"something_new"}',
        '{"type":"ping","id":NaN}',
        "[" * 100_000,
        b"\xff\xfe",
        '{"scope":"application","data":{"type":"start","data":{}}}',
    ],
)
def test_unknown_and_malformed_is_ignored(payload: str | bytes) -> None:
    assert wire_typed.decode(Label.DATA, payload) is None


@pytest.mark.parametrize("given_id", [None, 7, "x" * 65, "\ud800", "nön-ASCII", ["a"]])
def test_an_id_that_is_no_short_plain_text_is_none(given_id: object) -> None:
    payload = json.dumps({"type": "command", "id": given_id, "name": "start"})
    assert wire_typed.decode(Label.DATA, payload) == wire.Command("", "start", {}, {})


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.integers(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
NAMES = st.sampled_from([each.name for each in command_pb2.Command.DESCRIPTOR.fields[1:]])
TYPES = st.sampled_from(["command", "ping", "schema", "publish", "unpublish", "pause_track"])
MESSAGES = st.fixed_dictionaries(
    {"type": TYPES | JSON},
    optional={
        "id": JSON,
        "name": NAMES | JSON,
        "track": JSON,
        "traceparent": JSON,
        "arguments": JSON
        | st.fixed_dictionaries(
            {},
            optional={"mode": JSON, "prompt": JSON, "seed": JSON, "video": JSON | st.just(VIDEO)},
        ),
    },
)


def _survives(decoded: wire.Inbound | None) -> None:
    if isinstance(decoded, wire.Command):
        made = translate.command("c", decoded.name, decoded.arguments, decoded.uploads)
        made.SerializeToString()


@given(payload=st.binary() | st.text(), label=st.sampled_from(Label))
def test_no_bytes_break_the_decoder(payload: str | bytes, label: Label) -> None:
    _survives(wire_typed.decode(label, payload))


@given(message=MESSAGES)
def test_no_message_breaks_the_decoder_or_what_is_made_of_it(message: dict[str, Any]) -> None:
    _survives(wire_typed.decode(Label.DATA, json.dumps(message)))


def test_a_state_has_all_fields_of_the_contract() -> None:
    state = message_pb2.State(
        seed=2**53 - 1,
        mode=command_pb2.MODE_FILE,
        phase=message_pb2.PHASE_AWAITING_COMPUTE,
        queue_position=2,
        degraded_frame_rate=12.5,
        awaiting_room=True,
    )
    message = message_pb2.Message(revision=7, command_id="c", replayed=True, state=state)
    told = said(wire_typed.Told(message))
    assert set(told["data"]) == set(message_pb2.State.DESCRIPTOR.fields_by_name)
    assert told | {"data": None} == {
        "type": "message",
        "name": "state",
        "revision": 7,
        "command_id": "c",
        "replayed": True,
        "data": None,
    }
    assert told["data"]["seed"] == 2**53 - 1
    assert told["data"]["current_prompt"] is None
    assert (told["data"]["mode"], told["data"]["phase"]) == ("file", "awaiting_compute")
    assert (told["data"]["degraded_frame_rate"], told["data"]["awaiting_room"]) == (12.5, True)


def test_a_refusal_tells_code_phases_and_when_to_try_again() -> None:
    error = message_pb2.CommandError(
        command="resume",
        reason="nothing is paused",
        code=message_pb2.REJECT_REASON_WRONG_PHASE,
        allowed_phases=[message_pb2.PHASE_PAUSED, message_pb2.PHASE_PAUSING],
        phase=message_pb2.PHASE_IDLE,
        retry_after_s=1.5,
    )
    assert said(wire_typed.Told(message_pb2.Message(command_error=error)))["data"] == {
        "command": "resume",
        "reason": "nothing is paused",
        "code": "wrong_phase",
        "allowed_phases": ["paused", "pausing"],
        "phase": "idle",
        "retry_after_s": 1.5,
    }


PAYLOADS = message_pb2.Message.DESCRIPTOR.oneofs_by_name["payload"].fields


@pytest.mark.parametrize("name", [each.name for each in PAYLOADS])
def test_every_message_of_the_contract_is_said_in_full(name: str) -> None:
    message = message_pb2.Message()
    payload = getattr(message, name)
    payload.SetInParent()
    told = said(wire_typed.Told(message))
    assert told["name"] == name
    assert set(told["data"]) == set(payload.DESCRIPTOR.fields_by_name)


def test_a_value_that_this_build_does_not_know_is_unspecified() -> None:
    phases = message_pb2.Phase.DESCRIPTOR
    assert wire_typed.name_of(phases, 99) == "unspecified"
    assert {wire_typed.name_of(phases, each.number) for each in phases.values} == {
        each.name.removeprefix("PHASE_").lower() for each in phases.values
    }


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        (
            wire_typed.Attached(1002, gap=True),
            {"type": "attached", "connection_id": 1002, "gap": True},
        ),
        (wire_typed.Answered("c", accepted=False), {"type": "ack", "id": "c", "accepted": False}),
        (wire_typed.Queued(3, 4.5), {"type": "queue", "position": 3, "eta_seconds": 4.5}),
        (wire_typed.Queued(3, None), {"type": "queue", "position": 3, "eta_seconds": None}),
        (wire_typed.Pong("p"), {"type": "pong", "id": "p"}),
        (wire.TrackGranted("r", "camera"), {"type": "published", "id": "r", "track": "camera"}),
        (
            wire.TrackRefused("r", "PUBLISHER_SLOT_TAKEN", "taken"),
            {"type": "refused", "id": "r", "code": "publisher_slot_taken", "reason": "taken"},
        ),
        (
            wire.Schema("s", {"openapi": "3.1.0"}),
            {"type": "schema", "id": "s", "document": {"openapi": "3.1.0"}},
        ),
        (wire.SessionEnded("over"), {"type": "ended", "reason": "over"}),
    ],
)
def test_everything_else_is_said(payload: wire_typed.Outbound, told: object) -> None:
    assert said(payload) == told


@pytest.mark.parametrize("payload", [wire.Ack("c"), wire_typed.Told(message_pb2.Message())])
def test_what_this_wire_has_no_words_for_is_not_said(payload: wire_typed.Outbound) -> None:
    assert wire_typed.encode(payload) is None


@pytest.mark.parametrize(
    ("client_info", "revision"),
    [
        ({"resume_after": 17}, 17),
        ({"resume_after": 0}, 0),
        ({"resume_after": True}, None),
        ({"resume_after": -1}, None),
        ({"resume_after": 2**64}, None),
        ({"resume_after": 17.0}, None),
        ({"resume_after": "17"}, None),
        ({}, None),
        (None, None),
    ],
)
def test_the_offer_tells_what_was_seen(client_info: object, revision: int | None) -> None:
    assert wire_typed.resume_after(client_info) == revision
