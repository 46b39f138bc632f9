"""What clients are shown of a session."""

from __future__ import annotations

import pytest

from sana_gateway.v1 import session_pb2
from sdk_adapters.reactor import schema, translate

pytestmark = pytest.mark.unit

SESSION = session_pb2.Session(
    session_id="s",
    model="sana-streaming",
    status=session_pb2.SESSION_STATUS_READY,
    capabilities=session_pb2.Capabilities(
        tracks=[
            session_pb2.Track(name="camera", direction=session_pb2.TRACK_DIRECTION_SEND),
            session_pb2.Track(name="main_video", direction=session_pb2.TRACK_DIRECTION_RECEIVE),
            session_pb2.Track(name="future"),
        ],
        commands=["set_prompt", "start", "brand_new"],
        frame_rate=24,
    ),
)


def test_tracks_keep_their_order_and_unknown_directions_are_left_out() -> None:
    assert schema.tracks(SESSION.capabilities) == [
        {"name": "camera", "kind": "video", "direction": "sendonly"},
        {"name": "main_video", "kind": "video", "direction": "recvonly"},
    ]


def test_every_declared_command_has_a_path_and_every_message_a_webhook() -> None:
    document = schema.openapi(SESSION)
    assert document["openapi"].startswith("3.1")
    assert list(document["paths"]) == ["/events/set_prompt", "/events/start", "/events/brand_new"]
    assert set(document["webhooks"]) == set(translate.MESSAGE_FIELDS)
    assert document["x-reactor"]["tracks"] == schema.tracks(SESSION.capabilities)


def test_payloads_are_typed_as_they_are_sent() -> None:
    state = schema.openapi(SESSION)["webhooks"]["state"]["post"]
    properties = state["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert properties["running"] == {"type": "boolean"}
    assert properties["seed"] == {"type": "integer"}
    assert properties["current_prompt"] == {"type": ["string", "null"]}
    assert len(properties) == 9


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (session_pb2.SESSION_STATUS_WAITING, "PENDING"),
        (session_pb2.SESSION_STATUS_CLOSED, "CLOSED"),
    ],
)
def test_only_ready_sessions_are_shown_in_full(
    status: session_pb2.SessionStatus.ValueType, state: str
) -> None:
    described = session_pb2.Session()
    described.CopyFrom(SESSION)
    described.status = status
    shown = schema.full(described)
    assert shown == schema.slim(described)
    assert shown["state"] == state
