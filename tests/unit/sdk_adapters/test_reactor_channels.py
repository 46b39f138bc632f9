"""One conversation: channels on one side, a session on the other."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from sana_gateway.v1 import command_pb2, message_pb2
from sana_gateway_internal.v1 import stream_pb2
from scheduler.core.errors import LimitError, SessionClosedError
from scheduler.core.ids import Principal
from sdk_adapters.reactor import channels, replies, wire_json, wire_protobuf
from sdk_adapters.reactor import reactor_wire_pb2 as pb
from sdk_adapters.reactor.channels import Conversation, wire_of
from tests.fakes.changes import Changes
from tests.fakes.peers import FakeDataChannel, FakePeer
from tests.fakes.session import FakeConnection, FakeSession

pytestmark = pytest.mark.unit

JS = {"sdk_type": "js", "sdk_version": "2.12.3"}
NATIVE = {"sdk_type": "python", "sdk_version": "1.13.0"}


class Talk:
    """A conversation with fakes all around."""

    def __init__(self, client_info: object, session: FakeSession | None = None) -> None:
        self.session = session or FakeSession(
            Changes(), "s", Principal("t", frozenset()), "painter", ready=True
        )
        self.now = 100.0
        self.broken: list[str] = []
        self.ended = 0
        self.conversation = Conversation(
            self.session,
            wire_of(client_info),
            now=lambda: self.now,
            on_broken=self.broken.append,
            on_ended=self._on_ended,
        )
        self.connection: FakeConnection
        self.connection, _ = self.session.connect(self.conversation)
        self.conversation.joined(self.connection)
        self.peer = FakePeer(self.connection, "", {}, None, lambda: None)
        self.conversation.connected(self.peer)
        self.data = FakeDataChannel("data")
        self.control = FakeDataChannel("control")

    async def until_sent(self) -> None:
        async with asyncio.timeout(30):
            while not self.data.sent:  # noqa: ASYNC110 - the fake has no event
                await asyncio.sleep(0)

    def _on_ended(self) -> None:
        self.ended += 1

    def open(self) -> Talk:
        self.conversation.opened(self.data)
        self.conversation.opened(self.control)
        return self

    # JSON

    def say(self, name: str, scope: str = "application", **inner: Any) -> None:
        envelope = {"scope": scope, "data": {"type": name, "data": {}, **inner}}
        self.data.receive(json.dumps(envelope))

    def heard(self) -> list[tuple[str, Any]]:
        """Returns what a JSON client got since it last looked."""
        sent, self.data.sent = self.data.sent, []
        inner = [json.loads(each)["data"] for each in sent]
        return [(each["type"], each["data"]) for each in inner]

    # Protobuf

    def request(self, request_id: str, name: str, **arguments: Any) -> None:
        command = pb.Command(type=name)
        command.data.update(arguments)
        sent = pb.DataClientMessage(request_id=request_id, kind=pb.KIND_REQUEST, command=command)
        self.data.receive(sent.SerializeToString())

    def frames(self) -> list[tuple[str, str]]:
        """Returns request id and message name of what a protobuf client got since."""
        sent, self.data.sent = self.data.sent, []
        parsed = [pb.DataServerMessage.FromString(each) for each in sent]  # type: ignore[arg-type]
        for each in parsed:
            assert each.kind == (pb.KIND_RESPONSE if each.request_id else pb.KIND_NOTIFICATION)
        return [(each.request_id, each.message.type) for each in parsed]


@pytest.mark.parametrize(
    ("client_info", "wire"),
    [
        (JS, wire_json),
        ({"sdk_type": "python", "sdk_version": "0.8.0"}, wire_json),
        (NATIVE, wire_protobuf),
        ({"sdk_type": "python", "sdk_version": "2.0"}, wire_protobuf),
        ({"sdk_type": "python", "sdk_version": "dev"}, None),
        ({"sdk_type": "python"}, None),
        ({"sdk_type": "rust", "sdk_version": "1.0"}, None),
        ({}, None),
        (None, None),
        ("js", None),
    ],
)
def test_the_offer_tells_which_wire_to_expect(client_info: object, wire: object) -> None:
    assert wire_of(client_info) is wire


async def test_state_is_said_as_soon_as_the_data_channel_opens() -> None:
    talk = Talk(JS)
    talk.session.publish(state=message_pb2.State(seed=5))
    talk.open()
    assert [name for name, _ in talk.heard()] == ["state"]


async def test_before_the_channel_opens_only_the_newest_state_is_kept() -> None:
    talk = Talk(JS)
    talk.session.publish(chunk_complete=message_pb2.ChunkComplete())
    for seed in (1, 2, 3):
        talk.session.publish(state=message_pb2.State(seed=seed))
    talk.open()
    ((name, state),) = talk.heard()
    assert (name, state["seed"]) == ("state", 3)


@pytest.mark.parametrize("first_says_json", [True, False])
async def test_without_client_info_the_first_message_decides(*, first_says_json: bool) -> None:
    talk = Talk(None).open()
    assert talk.data.sent == []
    if first_says_json:
        talk.say("ping", "runtime")
        assert [name for name, _ in talk.heard()] == ["state"]
    else:
        talk.control.receive(bytes.fromhex("10035200"))
        assert talk.frames() == [("", "state")]


async def test_the_first_message_overrules_the_client_info() -> None:
    talk = Talk(NATIVE).open()
    talk.data.sent.clear()
    talk.say("ping", "runtime")
    assert [name for name, _ in talk.heard()] == ["state"]


async def test_the_wire_is_latched_by_the_first_message() -> None:
    talk = Talk(JS).open()
    talk.say("ping", "runtime")
    talk.heard()
    talk.request("data_1", "start")
    assert talk.connection.commands == []
    assert talk.heard() == []


async def test_json_commands_reach_the_session_and_messages_come_back() -> None:
    talk = Talk(JS).open()
    talk.heard()
    talk.say("set_prompt", data={"prompt": "p"})
    assert talk.connection.commands[0].set_prompt.prompt == "p"
    assert [name for name, _ in talk.heard()] == ["prompt_accepted", "state"]


async def test_command_ids_differ_between_connections_and_commands() -> None:
    one = Talk(JS).open()
    other = Talk(JS, one.session).open()
    for talk in (one, other):
        talk.say("pause")
        talk.say("pause")
    ids = [each.command_id for talk in (one, other) for each in talk.connection.commands]
    assert len(set(ids)) == 4
    assert all(1 <= len(each) <= 64 for each in ids)


async def test_every_protobuf_request_gets_exactly_one_answer() -> None:
    talk = Talk(NATIVE).open()
    talk.frames()
    for number, (name, arguments, answer) in enumerate(
        [
            ("set_mode", {"mode": "live"}, ""),
            ("set_seed", {"seed": 42}, ""),
            ("set_prompt", {"prompt": "p"}, "prompt_accepted"),
            ("start", {}, ""),
            ("pause", {}, ""),
            ("resume", {}, ""),
            ("reset", {}, "generation_reset"),
            ("no_such_command", {}, "command_error"),
            ("set_seed", {"seed": "no"}, "command_error"),
        ]
    ):
        talk.request(f"data_{number}", name, **arguments)
        frames = talk.frames()
        assert [message for request, message in frames if request] == [answer], name
        assert ("", "state") in frames
        if answer:
            assert ("", answer) not in frames
    assert isinstance(talk.connection.commands[-1], stream_pb2.InvalidCommand)


async def test_a_protobuf_refusal_is_a_correlated_command_error() -> None:
    talk = Talk(NATIVE).open()
    talk.session.refuse["start"] = message_pb2.CommandError(command="start", reason="no prompt")
    talk.frames()
    talk.request("data_1", "start")
    assert talk.frames() == [("data_1", "command_error"), ("", "state")]


async def test_replies_of_others_are_notifications() -> None:
    asker = Talk(NATIVE).open()
    other = Talk(NATIVE, asker.session).open()
    asker.frames(), other.frames()
    asker.request("data_1", "set_prompt", prompt="p")
    assert ("data_1", "prompt_accepted") in asker.frames()
    assert other.frames() == [("", "prompt_accepted"), ("", "state")]


async def test_a_late_probe_is_acked_in_time_and_told_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replies, "REPLY_WITHIN_S", 0.0)
    talk = Talk(NATIVE)
    acked: list[str] = []

    def accept_only(connection: FakeConnection, command: command_pb2.Command) -> None:
        acked.append(command.command_id)
        connection.sink.ack(command.command_id, accepted=True)

    talk.session.on_command = accept_only  # type: ignore[assignment]
    talk.open()
    talk.frames()
    command = pb.Command(type="set_video", uploads={"video": pb.UploadReference(upload_id="u")})
    sent = pb.DataClientMessage(request_id="data_1", kind=pb.KIND_REQUEST, command=command)
    talk.data.receive(sent.SerializeToString())
    await talk.until_sent()
    assert talk.frames() == [("data_1", "")]
    talk.session.publish(
        asker=talk.connection, command_id=acked[0], video_accepted=message_pb2.VideoAccepted()
    )
    assert talk.frames() == [("", "video_accepted")]


@pytest.mark.parametrize("client_info", [JS, NATIVE])
async def test_too_many_commands_are_refused_to_the_asker(client_info: object) -> None:
    talk = Talk(client_info).open()
    talk.session.command_error = LimitError("too many unanswered commands")
    talk.data.sent.clear()
    if client_info is JS:
        talk.say("pause")
        assert talk.heard()[0] == (
            "command_error",
            {"command": "pause", "reason": "too many unanswered commands"},
        )
    else:
        talk.request("data_1", "pause")
        assert talk.frames() == [("data_1", "command_error"), ("", "state")]


async def test_commands_to_an_ended_session_are_dropped() -> None:
    talk = Talk(JS).open()
    talk.session.command_error = SessionClosedError("ended")
    talk.heard()
    talk.say("pause")
    assert talk.heard() == []


def _control_request(method: str, name: str) -> str:
    return json.dumps(
        {"type": "request", "method": method, "request_id": "c1", "data": {"name": name}}
    )


async def test_one_connection_publishes_and_a_second_is_refused() -> None:
    one = Talk(JS).open()
    other = Talk(JS, one.session).open()
    for talk in (one, other):
        talk.control.receive(_control_request("publish_track", "camera"))
    assert json.loads(one.control.sent[-1])["data"] == {}
    assert json.loads(other.control.sent[-1])["error"]["code"] == "PUBLISHER_SLOT_TAKEN"
    one.control.receive(
        '{"type":"notification","event":"unpublish_track","data":{"name":"camera"}}'
    )
    other.control.receive(_control_request("publish_track", "camera"))
    assert json.loads(other.control.sent[-1])["data"] == {}
    assert one.session.publisher is other.connection


async def test_only_the_camera_can_be_published() -> None:
    talk = Talk(JS).open()
    talk.control.receive(_control_request("publish_track", "main_video"))
    assert json.loads(talk.control.sent[-1])["error"]["code"] == "UNKNOWN_TRACK"
    assert talk.session.publisher is None


async def test_an_output_is_paused_for_this_connection_only() -> None:
    talk = Talk(JS).open()
    other = Talk(JS, talk.session).open()
    for event, paused in (("pause_track", {"main_video"}), ("resume_track", set())):
        told = {"type": "notification", "event": event, "data": {"name": "main_video"}}
        talk.control.receive(json.dumps(told))
        assert talk.peer.paused == paused
        assert other.peer.paused == set()


async def test_the_cameras_keyframe_is_asked_of_the_peer() -> None:
    talk = Talk(JS)
    talk.conversation.camera_keyframe()
    assert talk.peer.keyframe_requests == 1


async def test_recordings_are_refused_in_the_words_clients_know() -> None:
    talk = Talk(JS).open()
    talk.heard()
    talk.say("requestRecording", "runtime")
    assert talk.heard() == [("clipFailed", {"reason": "recorder disabled"})]


async def test_the_schema_is_answered() -> None:
    talk = Talk(JS).open()
    talk.heard()
    talk.say("requestSchema", "runtime")
    ((name, document),) = talk.heard()
    assert name == "modelSchema"
    assert "/events/set_prompt" in document["paths"]


@pytest.mark.parametrize("client_info", [JS, NATIVE])
async def test_the_end_is_announced_before_it_is_passed_on(client_info: object) -> None:
    talk = Talk(client_info).open()
    talk.heard() if client_info is JS else talk.frames()
    talk.session.end("time is up")
    assert talk.ended == 1
    if client_info is JS:
        assert talk.heard() == [("sessionEnded", {"reason": "time is up"})]
    else:
        said = pb.ControlServerMessage.FromString(talk.control.sent[-1])  # type: ignore[arg-type]
        assert said.session_ended.reason == "time is up"


async def test_a_client_that_does_not_read_is_given_up() -> None:
    talk = Talk(JS).open()
    talk.heard()
    talk.data.buffered_amount = channels.MAX_BUFFERED_BYTES + 1
    talk.session.publish(state=talk.session.state)
    assert talk.broken == ["the client does not read"]
    assert talk.data.sent == []


async def test_huge_messages_are_ignored() -> None:
    talk = Talk(JS).open()
    talk.say("set_prompt", data={"prompt": "x" * channels.MAX_MESSAGE_BYTES})
    assert talk.connection.commands == []


async def test_other_channels_are_nobodys() -> None:
    talk = Talk(JS).open()
    talk.heard()
    other = FakeDataChannel("chat")
    talk.conversation.opened(other)
    other.receive('{"scope":"application","data":{"type":"start","data":{}}}')
    assert talk.connection.commands == []


async def test_signs_of_life_are_noted() -> None:
    talk = Talk(JS)
    assert talk.conversation.last_heard is None
    talk.open()
    assert talk.conversation.last_heard == 100.0
    talk.now = 105.0
    talk.say("ping", "runtime")
    assert talk.conversation.last_heard == 105.0


async def test_a_closed_conversation_neither_speaks_nor_listens() -> None:
    talk = Talk(JS).open()
    talk.heard()
    talk.conversation.close()
    talk.say("start")
    talk.session.publish(state=talk.session.state)
    assert talk.connection.commands == []
    assert talk.data.sent == []
