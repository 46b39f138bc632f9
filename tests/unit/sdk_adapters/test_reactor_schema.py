"""What clients are shown of a session."""

from __future__ import annotations

import pytest

from sana_gateway.v1 import session_pb2
from sdk_adapters.reactor import schema

pytestmark = pytest.mark.unit

SESSION = session_pb2.Session(
    session_id="s",
    model="sana-streaming",
    status=session_pb2.SESSION_STATUS_READY,
    capabilities=session_pb2.Capabilities(
        tracks=[session_pb2.Track(name="camera", direction=session_pb2.TRACK_DIRECTION_SEND)],
        commands=["set_prompt", "start", "of_another_wire"],
        frame_rate=24,
    ),
)


def test_commands_are_told_with_what_they_do() -> None:
    told = schema.capabilities(SESSION.capabilities)["commands"]
    assert [each["name"] for each in told] == ["set_prompt", "start"]
    assert all(each["description"] for each in told)


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
