"""One conversation with our own TypeScript client, and the routes that it alone uses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from sana_gateway.v1 import message_pb2
from sana_gateway_internal.v1 import stream_pb2
from scheduler.core.errors import LimitError, SessionClosedError
from scheduler.core.ids import Principal
from sdk_adapters.reactor import typed_channels, wire_typed
from sdk_adapters.reactor.channels import wire_of
from tests.fakes.changes import Changes
from tests.fakes.hub import FakeHub
from tests.fakes.peers import FakeDataChannel, FakePeer
from tests.fakes.session import FakeSession
from tests.unit.sdk_adapters.reactor_site import OFFER, KeyAuth, Site

pytestmark = pytest.mark.unit

INFO = {"sdk_type": "sana-gateway-js", "sdk_version": "0.1.0"}


class Talk:
    """A conversation with fakes all around."""

    def __init__(self, session: FakeSession | None = None, **info: Any) -> None:
        self.session = session or FakeSession(
            Changes(), "s", Principal("t", frozenset()), "painter", ready=True
        )
        self.broken: list[str] = []
        self.ended = 0
        self.conversation = typed_channels.conversation_about(
            self.session,
            {**INFO, **info},
            now=lambda: 1.0,
            on_broken=self.broken.append,
            on_ended=self._on_ended,
        )
        resume_after = self.conversation.resume_after
        self.connection, gap = self.session.connect(self.conversation, resume_after=resume_after)
        self.conversation.joined(self.connection, gap=gap)
        self.peer = FakePeer(self.connection, "", {}, None, lambda: None)
        self.conversation.connected(self.peer)
        self.data = FakeDataChannel("data")

    def _on_ended(self) -> None:
        self.ended += 1

    def open(self) -> Talk:
        self.conversation.opened(self.data)
        return self

    def say(self, **said: Any) -> None:
        self.data.receive(json.dumps(said))

    def command(self, command_id: str, name: str, **arguments: Any) -> None:
        self.say(type="command", id=command_id, name=name, arguments=arguments)

    def heard(self) -> list[dict[str, Any]]:
        """Returns what the client got since it last looked."""
        sent, self.data.sent = self.data.sent, []
        return [json.loads(each) for each in sent]

    def words(self) -> list[str]:
        """Returns the same in short: the type, or the name of the message and its id."""
        return [
            f"{each['name']} {each['command_id']}".strip()
            if each["type"] == "message"
            else each["type"]
            for each in self.heard()
        ]


def test_the_offer_of_our_own_client_chooses_the_wire() -> None:
    assert wire_of(INFO) is wire_typed


def test_a_client_is_greeted_with_its_number_and_the_state() -> None:
    attached, state = Talk().open().heard()
    assert attached == {"type": "attached", "connection_id": 1002, "gap": False}
    assert (state["name"], state["data"]["phase"]) == ("state", "idle")


def test_other_channels_are_not_listened_to() -> None:
    talk = Talk()
    control = FakeDataChannel("control")
    talk.conversation.opened(control)
    control.receive(json.dumps({"type": "ping", "id": "1"}))
    assert control.sent == talk.data.sent == []


def test_what_comes_before_the_channel_is_open_is_kept_in_order() -> None:
    talk = Talk()
    talk.session.publish(chunk_complete=message_pb2.ChunkComplete(chunk_index=1))
    talk.session.publish(state=talk.session.state)
    assert talk.open().words() == ["attached", "state", "chunk_complete", "state"]


def test_who_does_not_open_its_channel_is_told_of_a_gap() -> None:
    talk = Talk()
    for _ in range(typed_channels.MAX_EARLY):
        talk.session.publish(state=talk.session.state)
    heard = talk.open().heard()
    assert heard[0]["gap"] is True
    assert len(heard) == typed_channels.MAX_EARLY + 1
    assert heard[-1]["revision"] == talk.session.revision


def test_who_comes_again_is_told_what_it_missed_and_nothing_twice() -> None:
    first = Talk().open()
    for index in range(3):
        first.session.publish(chunk_complete=message_pb2.ChunkComplete(chunk_index=index))
    first.connection.close()
    again = Talk(first.session, resume_after=1).open()
    attached, *missed = again.heard()
    assert attached["gap"] is False
    assert [(each["revision"], each["replayed"]) for each in missed] == [(2, True), (3, True)]


def test_who_was_away_too_long_is_told_of_a_gap_and_the_state() -> None:
    first = Talk().open()
    for _ in range(300):
        first.session.publish(state=first.session.state)
    again = Talk(first.session, resume_after=3).open()
    attached, state = again.heard()
    assert attached["gap"] is True
    assert state["revision"] == 300


def test_a_command_keeps_its_id_and_is_answered_by_it() -> None:
    talk = Talk().open()
    talk.heard()
    talk.command("mine-1", "set_prompt", prompt="p")
    assert talk.connection.commands[-1].command_id == "mine-1"
    assert talk.words() == ["prompt_accepted mine-1", "state", "ack"]
    talk.command("mine-2", "set_mode", mode="file")
    *_, ack = talk.heard()
    assert ack == {"type": "ack", "id": "mine-2", "accepted": True}


def test_the_trace_of_a_command_is_passed_on() -> None:
    talk = Talk().open()
    talk.say(type="command", id="1", name="start", arguments={}, traceparent="00-a-b-01")
    assert talk.connection.traceparents == ["00-a-b-01"]


def test_a_refusal_is_answered_with_code_and_phase_to_the_asker_alone() -> None:
    talk = Talk().open()
    other = Talk(talk.session).open()
    talk.heard(), other.heard()
    code, phase = message_pb2.REJECT_REASON_NO_PROMPT, message_pb2.PHASE_IDLE
    talk.session.refuse["start"] = message_pb2.CommandError(
        command="start", reason="no prompt", code=code, phase=phase
    )
    talk.command("1", "start")
    error, _, ack = talk.heard()
    assert (error["name"], error["command_id"]) == ("command_error", "1")
    assert (error["data"]["code"], error["data"]["phase"]) == ("no_prompt", "idle")
    assert ack == {"type": "ack", "id": "1", "accepted": False}
    assert other.words() == ["state"]


@pytest.mark.parametrize(
    ("name", "arguments", "code"),
    [
        ("set_mode", {"mode": "both"}, message_pb2.REJECT_REASON_BAD_ARGUMENT),
        ("set_seed", {"seed": -1}, message_pb2.REJECT_REASON_BAD_ARGUMENT),
        ("dance", {}, message_pb2.REJECT_REASON_UNKNOWN_COMMAND),
    ],
)
def test_what_cannot_be_a_command_is_for_the_session_to_refuse(
    name: str, arguments: dict[str, Any], code: int
) -> None:
    talk = Talk().open()
    talk.command("1", name, **arguments)
    (made,) = talk.connection.commands
    assert isinstance(made, stream_pb2.InvalidCommand)
    assert (made.name, made.code) == (name, code)


def test_a_command_without_an_id_is_refused_here() -> None:
    talk = Talk().open()
    talk.heard()
    talk.command("", "start")
    assert talk.connection.commands == []
    error, ack = talk.heard()
    assert (error["data"]["code"], error["data"]["command"]) == ("bad_argument", "start")
    assert ack["accepted"] is False


def test_too_many_commands_are_refused_with_a_time_to_try_again() -> None:
    talk = Talk().open()
    talk.session.command_error = LimitError("at most 256", retry_after_s=None)
    talk.heard()
    talk.command("1", "start")
    error, ack = talk.heard()
    assert (error["command_id"], error["data"]["retry_after_s"]) == ("1", 1.0)
    assert (ack["id"], ack["accepted"]) == ("1", False)


def test_a_command_after_the_end_is_not_answered() -> None:
    talk = Talk().open()
    talk.session.command_error = SessionClosedError("over")
    talk.heard()
    talk.command("1", "start")
    assert talk.heard() == []


def test_a_ping_is_answered() -> None:
    talk = Talk().open()
    talk.heard()
    talk.say(type="ping", id="p7")
    assert talk.heard() == [{"type": "pong", "id": "p7"}]


def test_the_camera_is_claimed_refused_and_given_back() -> None:
    talk = Talk().open()
    other = Talk(talk.session).open()
    talk.heard(), other.heard()
    talk.say(type="publish", id="r1", track="camera")
    other.say(type="publish", id="r2", track="camera")
    other.say(type="publish", id="r3", track="microphone")
    assert talk.heard() == [{"type": "published", "id": "r1", "track": "camera"}]
    assert [each["code"] for each in other.heard()] == ["publisher_slot_taken", "unknown_track"]
    talk.say(type="unpublish", track="camera")
    assert talk.session.publisher is None


def test_the_picture_of_one_client_is_paused_and_goes_on() -> None:
    talk = Talk().open()
    talk.say(type="pause_track", track="main_video")
    assert talk.peer.paused == {"main_video"}
    talk.say(type="resume_track", track="main_video")
    assert talk.peer.paused == set()


def test_the_schema_is_told() -> None:
    talk = Talk().open()
    talk.heard()
    talk.say(type="schema", id="s1")
    (told,) = talk.heard()
    assert (told["type"], told["id"]) == ("schema", "s1")
    assert told["document"]["openapi"].startswith("3.1")


def test_the_place_in_the_queue_and_the_end_are_told() -> None:
    talk = Talk().open()
    talk.heard()
    talk.session.queue(3, 0.0)
    talk.session.end("time is over")
    assert talk.heard() == [
        {"type": "queue", "position": 3, "eta_seconds": None},
        {"type": "ended", "reason": "time is over"},
    ]
    assert talk.ended == 1


def test_a_client_that_does_not_read_is_hung_up_on() -> None:
    talk = Talk().open()
    talk.data.buffered_amount = 5 * 1024 * 1024
    talk.session.publish(state=talk.session.state)
    assert talk.broken == ["the client does not read"]


# -- its routes


async def test_an_offer_says_after_which_revision_to_go_on(serve: Callable[..., Any]) -> None:
    site: Site = await serve()
    path = await site.connection()
    first = site.hub.session
    for _ in range(3):
        first.publish(state=first.state)
    offer = {**OFFER, "client_info": {**INFO, "resume_after": 2}}
    await site.ask("POST", f"{path}/sdp_params", offer)
    status, _ = await site.ask("GET", f"{path}/sdp_params")
    assert status == 200
    channel = FakeDataChannel("data")
    channels = site.peers.peers[-1].channels
    assert channels is not None
    channels.opened(channel)
    attached, missed = [json.loads(each) for each in channel.sent]
    assert attached["type"] == "attached"
    assert (missed["revision"], missed["replayed"]) == (3, True)


async def test_the_place_is_told_at_once_and_again_when_it_changes(
    serve: Callable[..., Any],
) -> None:
    site: Site = await serve(FakeHub(ready=False))
    path = await site.session()
    status, shown = await site.ask("GET", f"{path}/place")
    assert (status, shown["queue"]) == (200, {"position": 1, "eta_seconds": None})
    session = site.hub.session
    asked = asyncio.create_task(site.ask("GET", f"{path}/place?seen=1"))
    await site.hub.until(lambda: session.open_connections, 30.0)
    session.queue(2)
    status, shown = await asked
    assert shown["queue"]["position"] == 2
    asked = asyncio.create_task(site.ask("GET", f"{path}/place?seen=2"))
    await site.hub.until(lambda: session.open_connections, 30.0)
    session.place()
    status, shown = await asked
    assert shown["capabilities"]["tracks"]
    assert "queue" not in shown
    assert session.open_connections == []


async def test_the_end_of_a_session_that_waits_is_told(serve: Callable[..., Any]) -> None:
    site: Site = await serve(FakeHub(ready=False))
    path = await site.session()
    asked = asyncio.create_task(site.ask("GET", f"{path}/place?seen=1"))
    await site.hub.until(lambda: site.hub.session.open_connections, 30.0)
    site.hub.session.end("nobody wants it")
    _, shown = await asked
    assert shown["state"] == "CLOSED"


async def test_a_session_that_takes_no_more_connections_is_shown_as_it_is(
    serve: Callable[..., Any],
) -> None:
    site: Site = await serve(FakeHub(ready=False))
    path = await site.session()
    site.hub.session.connect_error = LimitError("too many")
    status, shown = await site.ask("GET", f"{path}/place?seen=1")
    assert (status, shown["queue"]["position"]) == (200, 1)


@pytest.mark.parametrize("seen", ["-1", "x", "9999999999", ""])
async def test_a_position_is_a_number(serve: Callable[..., Any], seen: str) -> None:
    site: Site = await serve()
    path = await site.session()
    status, _ = await site.ask("GET", f"{path}/place?seen={seen}")
    assert status == 400


async def test_a_session_is_copied(serve: Callable[..., Any]) -> None:
    site: Site = await serve()
    path = await site.session()
    status, made = await site.ask("POST", f"{path}/forks", {"copies": 2, "request_id": "r"})
    assert status == 201
    ids = [each["session_id"] for each in made["sessions"]]
    assert len(set(ids)) == 2
    assert set(ids) <= set(site.hub.sessions)
    _, again = await site.ask("POST", f"{path}/forks", {"copies": 2, "request_id": "r"})
    assert [each["session_id"] for each in again["sessions"]] == ids


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"copies": True},
        {"copies": "2"},
        {"copies": 1, "request_id": 7},
        {"copies": 1, "request_id": "x" * 65},
    ],
)
async def test_copies_that_make_no_sense_are_refused(
    serve: Callable[..., Any],
    body: dict[str, Any],
) -> None:
    site: Site = await serve()
    path = await site.session()
    status, _ = await site.ask("POST", f"{path}/forks", body)
    assert status == 400


async def test_a_session_of_another_tenant_is_unknown(serve: Callable[..., Any]) -> None:
    site: Site = await serve(auth=KeyAuth())
    path = await site.session(Authorization="Bearer a")
    for method, route in (("GET", "place"), ("POST", "forks")):
        body = {"copies": 1} if method == "POST" else None
        status, _ = await site.ask(method, f"{path}/{route}", body, Authorization="Bearer b")
        assert status == 404
        status, _ = await site.ask(method, f"{path}/{route}", body, Authorization="Bearer o")
        assert status == 403
