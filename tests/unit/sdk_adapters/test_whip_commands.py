"""Commands as JSON over HTTP, over a real socket and a fake hub."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from gateway.auth import NoAuth
from sana_gateway.v1 import command_pb2, message_pb2
from scheduler.core.commands import RejectReason
from scheduler.core.errors import LimitError
from sdk_adapters.whip import commands, streams
from tests.fakes.hub import FakeHub
from tests.fakes.session import FakeSession
from tests.unit.sdk_adapters.reactor_site import KeyAuth
from tests.unit.sdk_adapters.whip_site import WhipSite

pytestmark = pytest.mark.unit

STATE = {
    "running",
    "started",
    "paused",
    "current_chunk",
    "current_prompt",
    "has_prompt",
    "has_video",
    "num_source_frames",
    "seed",
}


async def new_session(whip: WhipSite) -> FakeSession:
    return await whip.hub.create(NoAuth().authenticate(None), "painter")


async def tell(
    whip: WhipSite, key: str, body: object, **headers: str
) -> tuple[int, dict[str, Any]]:
    answer = await whip.ask("POST", f"/sessions/{key}/commands", json.dumps(body), headers)
    return answer.status, json.loads(answer.text)


async def test_a_command_is_answered_with_its_messages_and_the_state(whip: WhipSite) -> None:
    session = await new_session(whip)
    prompt = {"type": "set_prompt", "data": {"prompt": "a harbour"}}
    status, answer = await tell(whip, session.session_id, prompt)
    assert status == 200
    assert answer["session_id"] == session.session_id
    assert answer["messages"] == [{"type": "prompt_accepted", "data": {"prompt": "a harbour"}}]
    assert set(answer["state"]) == STATE
    assert (answer["state"]["current_prompt"], answer["state"]["has_prompt"]) == ("a harbour", True)


async def test_a_command_may_come_under_the_name_of_the_stream(whip: WhipSite) -> None:
    published = await whip.publish("/whip/painter/~studio")
    status, answer = await tell(whip, "~studio", {"type": "set_seed", "data": {"seed": 7}})
    assert (status, answer["messages"], answer["state"]["seed"]) == (200, [], 7)
    assert answer["session_id"] == published.headers["Sana-Session-Id"]
    assert (await tell(whip, "~other", {"type": "start"}))[0] == 404


@pytest.mark.parametrize("data", [None, {}])
async def test_a_command_may_have_no_data(whip: WhipSite, data: object) -> None:
    session = await new_session(whip)
    status, answer = await tell(whip, session.session_id, {"type": "start", "data": data})
    assert status == 200
    assert [each["type"] for each in answer["messages"]] == ["generation_started"]


async def test_repeating_a_command_id_changes_nothing(whip: WhipSite) -> None:
    session = await new_session(whip)
    start = {"type": "start", "command_id": "once"}
    assert (await tell(whip, session.session_id, start))[0] == 200
    status, answer = await tell(whip, session.session_id, start)
    assert (status, answer["messages"], session.effects) == (200, [], 1)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"type": "fly"}, "UNKNOWN_COMMAND"),
        ({"type": "set_prompt"}, "BAD_ARGUMENT"),
        ({"type": "set_prompt", "data": {"prompt": 5}}, "BAD_ARGUMENT"),
        ({"type": "set_prompt", "data": "a harbour"}, "BAD_ARGUMENT"),
        ({"type": "set_seed", "data": {"seed": -1}}, "BAD_ARGUMENT"),
    ],
)
async def test_what_cannot_be_a_command_is_told_as_one_that_was_refused(
    whip: WhipSite, body: dict[str, Any], reason: str
) -> None:
    session = await new_session(whip)
    status, answer = await tell(whip, session.session_id, body)
    assert (status, answer["reason"]) == (400, reason)
    (message,) = answer["messages"]
    assert message["type"] == "command_error"
    assert message["data"] == {"command": body["type"], "reason": answer["detail"]}
    assert session.effects == 0


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"type": 5},
        {"type": ""},
        {"prompt": "x"},
        {"type": "start", "command_id": 5},
        {"type": "start", "command_id": "x" * 65},
        {"type": "start", "extra": 1},
        [],
        "start",
    ],
)
async def test_what_is_no_command_at_all_is_a_bad_request(whip: WhipSite, body: object) -> None:
    session = await new_session(whip)
    assert (await tell(whip, session.session_id, body))[0] == 400
    assert session.effects == 0


REFUSALS = [
    ("WRONG_PHASE", 409),
    ("NO_PROMPT", 409),
    ("NO_SOURCE", 409),
    ("BAD_VIDEO", 422),
    ("NO_CAPACITY", 503),
    ("MODEL_FAILED", 500),
    ("NOT_ALLOWED", 403),
]


@pytest.mark.parametrize(("code", "status"), REFUSALS)
async def test_a_refusal_has_a_status_and_the_message(
    whip: WhipSite, code: str, status: int
) -> None:
    session = await new_session(whip)
    session.refuse["start"] = message_pb2.CommandError(
        command="start",
        reason="not now",
        code=message_pb2.RejectReason.Value(f"REJECT_REASON_{code}"),
        retry_after_s=3 if code == "NO_CAPACITY" else 0,
    )
    path = f"/sessions/{session.session_id}/commands"
    answer = await whip.ask("POST", path, '{"type": "start"}')
    told = json.loads(answer.text)
    assert (answer.status, told["reason"], told["detail"]) == (status, code, "not now")
    assert told["messages"] == [
        {"type": "command_error", "data": {"command": "start", "reason": "not now"}}
    ]
    assert answer.headers.get("Retry-After") == ("3" if code == "NO_CAPACITY" else None)


def test_every_reason_has_a_status() -> None:
    told = {each.name for each in commands.STATUSES if each is not None}
    at_the_wrong_moment = {"WRONG_PHASE", "NO_PROMPT", "NO_SOURCE", "SUPERSEDED"}
    assert told | at_the_wrong_moment == {each.name for each in RejectReason}


async def test_a_session_that_waits_answers_no_command(serve_whip: Callable[..., Any]) -> None:
    whip = await serve_whip(hub=FakeHub(ready=False))
    session = await new_session(whip)
    session.queue(3, 12.0)
    status, answer = await tell(whip, session.session_id, {"type": "start"})
    assert (status, answer["reason"]) == (409, "NOT_READY")


async def test_a_session_that_is_over_answers_no_command(whip: WhipSite) -> None:
    session = await new_session(whip)
    session.end("over")
    assert (await tell(whip, session.session_id, {"type": "start"}))[0] == 410
    assert (await whip.ask("GET", f"/sessions/{session.session_id}/state")).status == 410
    assert (await tell(whip, "nobodys", {"type": "start"}))[0] == 404


async def test_a_command_that_is_not_answered_is_told_so(
    whip: WhipSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "ANSWER_S", 0.05)
    session = await new_session(whip)
    monkeypatch.setattr(session, "on_command", lambda *_: None)
    assert (await tell(whip, session.session_id, {"type": "start"}))[0] == 504


async def test_commands_are_bounded_by_the_session(whip: WhipSite) -> None:
    session = await new_session(whip)
    session.command_error = LimitError("too many unanswered commands")
    assert (await tell(whip, session.session_id, {"type": "start"}))[0] == 429


async def test_nothing_is_left_of_a_command(whip: WhipSite) -> None:
    session = await new_session(whip)
    await tell(whip, session.session_id, {"type": "start"})
    assert [each.closed for each in session.connections] == [True]


async def test_the_state_can_be_looked_at(whip: WhipSite) -> None:
    session = await new_session(whip)
    session.state.current_chunk = 5
    answer = await whip.ask("GET", f"/sessions/{session.session_id}/state")
    told = json.loads(answer.text)
    assert (answer.status, told["session_id"]) == (200, session.session_id)
    assert set(told["state"]) == STATE
    assert told["state"]["current_chunk"] == 5


async def test_who_looks_at_the_state_is_not_connected(whip: WhipSite) -> None:
    # A connection would wake a session that is parked, and might be one too many.
    session = await new_session(whip)
    session.connect_error = LimitError("too many connections")
    assert (await whip.ask("GET", f"/sessions/{session.session_id}/state")).status == 200
    assert (session.connections, session.refused_connections) == ([], 0)


async def test_a_session_that_has_said_nothing_yet_is_asked_again_later(
    whip: WhipSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await new_session(whip)
    monkeypatch.setattr(session, "state", None)
    assert (await whip.ask("GET", f"/sessions/{session.session_id}/state")).status == 409


async def test_the_state_of_a_session_without_a_place_is_not_there(
    serve_whip: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "PLACE_S", 0.05)
    whip = await serve_whip(hub=FakeHub(ready=False))
    session = await new_session(whip)
    assert (await whip.ask("GET", f"/sessions/{session.session_id}/state")).status == 503


async def test_commands_are_for_the_sessions_own_tenant(serve_whip: Callable[..., Any]) -> None:
    whip = await serve_whip(auth=KeyAuth())
    published = await whip.publish(Authorization="Bearer a")
    session_id, start = published.headers["Sana-Session-Id"], {"type": "start"}
    for headers, status in (
        ({}, 401),
        ({"Authorization": "Bearer b"}, 404),
        ({"Authorization": "Bearer o"}, 403),
        ({"Authorization": "Bearer a"}, 200),
    ):
        assert (await tell(whip, session_id, start, **headers))[0] == status
        assert (
            await whip.ask("GET", f"/sessions/{session_id}/state", headers=headers)
        ).status == status


def test_a_command_of_the_seed_is_the_command_of_the_contract() -> None:
    made = commands.command_of({"type": "set_mode", "data": {"mode": "live"}})
    assert isinstance(made, command_pb2.Command)
    assert made.set_mode.mode == command_pb2.MODE_LIVE
