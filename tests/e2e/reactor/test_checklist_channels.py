"""The server's checklist of the Reactor wire, row by row: what is said on the channels.

Every connection is a real one. `test_checklist.py` has the rows about HTTP, and
`test_checklist_media.py` those about media.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from sdk_adapters.reactor import reactor_wire_pb2 as pb
from tests.e2e.driving import WAIT_S, polled
from tests.e2e.reactor.wire_client import (
    KINDS,
    Heard,
    WireClient,
    candidates_of,
    client,
    connected,
)
from tests.stack import Stack

pytestmark = pytest.mark.e2e

WIRES = ["js-2.12", "py-native"]
"""One kind of client for each wire."""
PROMPT = "a watercolour of a harbour"
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
REPLY_WITHIN_S = 10.0
"""Then the native client gives up."""


@pytest.fixture
async def json_client(simulated: Stack) -> AsyncIterator[WireClient]:
    """A client that speaks JSON and is ready."""
    async with connected(simulated.http_url, "js-2.12") as one:
        await one.until_heard("state")
        yield one


@pytest.fixture(params=WIRES)
async def one(simulated: Stack, request: pytest.FixtureRequest) -> AsyncIterator[WireClient]:
    """A client of either wire, ready."""
    async with connected(simulated.http_url, request.param) as made:
        await made.until_heard("state")
        yield made


# Pings accepted silently; watchdog >= 20 s.

WATCHDOG_S = 20.0
LOOKS_S = 2.0


async def _watched(url: str, kind: str, every_s: float | None) -> float | None:
    """Stays connected, with pings or without; returns when it was hung up on, if it was."""
    async with connected(url, kind) as one:
        await one.until_heard("state")
        known = len(one.heard.items)
        loop = asyncio.get_running_loop()
        began = loop.time()
        deadline = began + (WAIT_S if every_s is None else 0) + WATCHDOG_S + LOOKS_S + 3
        while loop.time() < deadline and one.pc.connectionState == "connected":
            await asyncio.sleep(0.5 if every_s is None else every_s)
            if every_s is not None and one.pc.connectionState == "connected":
                one.ping()
        lost_s = None if one.pc.connectionState == "connected" else loop.time() - began
        if lost_s is None:
            assert [each.name for each in one.heard.items[known:]] == [], "a ping was answered"
            await one.reply("set_prompt", prompt=PROMPT)
        else:
            assert (await one.ask("GET", ".")).body["state"] == "ACTIVE", "the session is lost"
        return lost_s


PINGS_S: dict[tuple[str, str], float | None] = {
    ("js-2.12", "pings"): 5.0,
    ("py-native", "pings"): 10.0,
    ("js-2.12", "silent"): None,
    ("py-native", "silent"): None,
}


@pytest.fixture(scope="module", autouse=True)
def watched(simulated: Stack) -> Iterator[dict[tuple[str, str], Future[float | None]]]:
    """When clients were hung up on that ping and that do not; they wait beside the other tests."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    outcomes = {
        (kind, how): asyncio.run_coroutine_threadsafe(
            _watched(simulated.http_url, kind, every_s), loop
        )
        for (kind, how), every_s in PINGS_S.items()
    }
    yield outcomes

    for outcome in outcomes.values():
        outcome.cancel()

    async def end() -> None:
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(tasks)

    # They hang up when they are given up, which takes tasks of its own.
    asyncio.run_coroutine_threadsafe(end(), loop).result(60)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


# State on data-channel open, without the client speaking.


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_every_kind_of_client_is_told_the_state_without_saying_a_word(
    simulated: Stack, kind: str
) -> None:
    async with connected(simulated.http_url, kind) as one:
        state = await one.until_heard("state")
        assert set(state.data) == STATE
        assert state.label == "data"
        assert isinstance(state.raw, bytes if KINDS[kind].binary else str)


@pytest.mark.parametrize("kind", WIRES)
async def test_a_client_that_tells_nothing_of_itself_is_answered_as_it_speaks(
    simulated: Stack, kind: str
) -> None:
    async with client(simulated.http_url, kind) as one:
        one.client_info = None
        await one.create()
        await one.connect()
        assert one.heard.items == []
        one.ping()
        assert set((await one.until_heard("state")).data) == STATE


async def test_the_first_message_overrules_what_the_offer_told(simulated: Stack) -> None:
    async with client(simulated.http_url, "py-native") as one:
        one.client_info = KINDS["js-2.12"].client_info

        def take(label: str, payload: str | bytes) -> None:
            one.heard.add(Heard(label, "text" if isinstance(payload, str) else "bytes", payload))

        one._take = take  # type: ignore[method-assign]
        await one.create()
        await one.connect()
        told = json.loads((await _first(one, "text")).data)
        assert set(told["data"]["data"]) == STATE
        request_id = one.command("set_prompt", prompt=PROMPT)

        def answers() -> list[pb.DataServerMessage]:
            told = [pb.DataServerMessage.FromString(each.data) for each in one.of("bytes")]
            return [each for each in told if each.request_id == request_id]

        (answer,) = await one.heard.until(answers)
        assert answer.message.type == "prompt_accepted"


async def _first(one: WireClient, name: str) -> Heard:
    found: list[Heard] = await one.heard.until(lambda: one.of(name))
    return found[0]


# After each command and chunk: state. Message order.


async def test_the_state_follows_the_reply_to_every_command(one: WireClient) -> None:
    heard = await one.reply("set_prompt", prompt=PROMPT)
    assert [each.name for each in heard] == ["prompt_accepted", "state"]
    assert heard[1].data["current_prompt"] == PROMPT
    heard = await one.reply("set_mode", mode="file")
    assert heard[-1].name == "state"
    heard = await one.reply("start")
    assert [each.name for each in heard] == ["command_error", "state"]
    assert set(heard[0].data) == {"command", "reason"}
    heard = await one.reply("reset")
    assert [each.name for each in heard] == ["generation_reset", "state"]
    assert heard[1].data["has_prompt"] is False


async def test_the_state_follows_every_chunk(one: WireClient) -> None:
    one.publish()
    await one.reply("set_prompt", prompt=PROMPT)
    one.command("start")
    await one.until_heard("chunk_complete", chunk_index=2)
    await one.until_heard("state", current_chunk=3)
    names = [each.name for each in one.heard.items]
    assert names.index("generation_started") < names.index("chunk_complete")
    for at, each in enumerate(one.heard.items):
        if each.name == "chunk_complete":
            follower = one.heard.items[at + 1]
            assert (follower.name, follower.data["current_chunk"]) == (
                "state",
                each.data["chunk_index"] + 1,
            )


# Every protobuf command is answered with its id, once, within 10 s; integers come as floats.

COMMANDS: list[tuple[str, dict[str, Any], str]] = [
    ("start", {}, "command_error"),
    ("set_prompt", {"prompt": PROMPT}, "prompt_accepted"),
    ("set_prompt", {"prompt": ""}, "command_error"),
    ("set_mode", {"mode": "file"}, "ack"),
    ("set_mode", {"mode": "sideways"}, "command_error"),
    ("set_seed", {"seed": 42}, "ack"),
    ("set_seed", {"seed": 0.5}, "command_error"),
    ("set_video", {"video": {"upload_id": "nobody", "size": 3}}, "command_error"),
    ("set_video", {}, "command_error"),
    ("pause", {}, "command_error"),
    ("resume", {}, "command_error"),
    ("no_such_command", {"of": ["tomorrow", None, {"deep": 1}]}, "command_error"),
    ("", {}, "command_error"),
    ("reset", {}, "generation_reset"),
]


async def test_every_protobuf_command_is_answered_once_with_its_id(simulated: Stack) -> None:
    async with connected(simulated.http_url, "py-native") as one:
        await one.until_heard("state")
        since = len(one.heard.items)
        asked = {one.command(name, **data): reply for name, data, reply in COMMANDS}

        def answers() -> dict[str, list[Heard]]:
            answered: dict[str, list[Heard]] = {}
            for each in one.heard.items[since:]:
                if each.request_id:
                    answered.setdefault(each.request_id, []).append(each)
            return answered

        async with asyncio.timeout(REPLY_WITHIN_S):
            await one.heard.until(lambda: len(answers()) == len(COMMANDS))
        await one.until_heard("state", since, has_prompt=False)
        assert {key: [each.name for each in them] for key, them in answers().items()} == {
            key: [reply] for key, reply in asked.items()
        }
        notified = [each.name for each in one.heard.items[since:] if not each.request_id]
        assert set(notified) == {"state"}, "a reply came twice"


async def test_integers_may_come_as_floats(one: WireClient) -> None:
    await one.reply("set_seed", seed=42.0)
    state = one.of("state")[-1]
    assert state.data["seed"] == 42
    assert one.kind.binary or '"seed": 42}' in str(state.raw)
    heard = await one.reply("set_seed", seed=42.5)
    assert heard[0].name == "command_error"


async def test_an_unknown_command_is_refused_by_its_name(one: WireClient) -> None:
    heard = await one.reply("no_such_command")
    assert heard[0].name == "command_error"
    assert heard[0].data["command"] == "no_such_command"


# Channels by label; what is unknown is ignored.

NOISE: list[tuple[str, str | bytes]] = [
    ("data", ""),
    ("data", "no json"),
    ("data", "[]"),
    ("data", '{"scope": "tomorrow", "data": {"type": "start", "data": {}}}'),
    ("data", '{"scope": "runtime", "data": {"type": "tomorrow", "data": {}}}'),
    ("data", '{"scope": "application"}'),
    ("data", b"\x00\xff\xfe"),
    ("control", '{"type": "request", "method": "tomorrow", "request_id": "1", "data": {}}'),
    ("control", '{"type": "notification", "event": "tomorrow", "data": {"name": "camera"}}'),
    ("control", "no json"),
    ("control", b"\xff" * 100),
]
STATISTICS = b"\x10\x03\x9a\x01\x84\x07" + b"\x0a\x81\x07" + b"x" * 897
"""A notification with field 19, of 900 bytes, as the native client sends one every 5 s."""
UNKNOWN = b"\x10\x01\xaa\x06\x03abc"
"""A request with field 101."""


async def test_what_is_unknown_is_ignored_on_json(json_client: WireClient) -> None:
    one = json_client
    for label, payload in NOISE:
        one.send(label, payload)
    one.runtime("fileUploaded", upload_id="x", name="x", mime_type="x", size=1)
    assert [each.name for each in await one.reply("set_mode", mode="live")] == ["state"]


async def test_what_is_unknown_is_ignored_on_protobuf(simulated: Stack) -> None:
    async with connected(simulated.http_url, "py-native") as one:
        await one.until_heard("state")
        one.ping()
        error = pb.Error(code="any", message="thing")
        for label, payload in [
            ("control", STATISTICS),
            ("control", UNKNOWN),
            ("data", UNKNOWN),
            ("data", b"\x00\xff\xfe"),
            ("data", "no protobuf"),
            ("control", pb.ControlClientMessage(error=error).SerializeToString()),
            ("data", pb.DataClientMessage(error=error).SerializeToString()),
        ]:
            one.send(label, payload)
        heard = await one.reply("set_prompt", prompt=PROMPT)
        assert [each.name for each in heard] == ["prompt_accepted", "state"]


async def test_channels_with_other_labels_are_nobodys(simulated: Stack) -> None:
    async with client(simulated.http_url, "js-2.12") as one:
        one.channels["tomorrow"] = one.pc.createDataChannel("tomorrow")
        await one.create()
        await one.connect()
        one.send("tomorrow", {"scope": "application", "data": {"type": "reset", "data": {}}})
        heard = await one.reply("set_prompt", prompt=PROMPT)
        assert "generation_reset" not in [each.name for each in heard]


# Sizes: what clients may send arrives, and what the server says arrives.


async def test_messages_of_250_kilobytes_arrive(one: WireClient) -> None:
    heard = await one.reply("set_prompt", prompt="x" * 250_000)
    assert heard[0].name == "command_error"
    assert "more than" in heard[0].data["reason"]
    # The largest thing that the server says: each of these takes twelve bytes of JSON.
    longest = "\N{WATER WAVE}" * 10_000
    heard = await one.reply("set_prompt", prompt=longest)
    assert heard[0].data["prompt"] == heard[1].data["current_prompt"] == longest


# The camera: one publisher, granted and refused; freed by its loss and by a new offer.


async def test_the_camera_has_one_publisher(simulated: Stack) -> None:
    async with connected(simulated.http_url, "js-2.12") as one:
        granted = one.control("publish_track", "camera")
        assert (await _first(one, "response")).request_id == granted
        async with connected(simulated.http_url, "js-2.12", one.session_id) as second:
            refused = await _asked(second)
            assert refused.data["code"] == "PUBLISHER_SLOT_TAKEN"
            assert refused.data["message"]
            one.control("unpublish_track", "camera")
            await one.reply("set_mode", mode="live")
            assert (await _asked(second)).data == {}
        await _until_granted(one)
        async with connected(simulated.http_url, "py-native", one.session_id) as native:
            refused = await _asked(native)
            assert (refused.name, refused.data["code"]) == ("error", "PUBLISHER_SLOT_TAKEN")
            async with client(simulated.http_url, "js-2.12") as again:
                again.session_id, again.connection_id = one.session_id, one.connection_id
                await again.prepare()
                await again.offer("PUT")
                await again.connected(await again.answered())
                granted_at_last = await _asked(native)
                assert granted_at_last.data == {"name": "camera"}
                again.session_id = ""


async def _asked(one: WireClient) -> Heard:
    """Asks for the camera and returns the answer."""
    request_id = one.control("publish_track", "camera")
    found: list[Heard] = await one.heard.until(
        lambda: [each for each in one.heard.items if each.request_id == request_id]
    )
    assert found[0].label == "control"
    return found[0]


async def _until_granted(one: WireClient) -> None:
    """Asks until the camera is free: the loss of a connection is noticed, not told."""

    async def is_granted() -> bool:
        return bool((await _asked(one)).data == {})

    await polled(is_granted)


async def test_tracks_that_are_not_there_cannot_be_published(one: WireClient) -> None:
    request_id = one.control("publish_track", "microphone")
    refused = await one.heard.until(
        lambda: [each for each in one.heard.items if each.request_id == request_id]
    )
    assert refused[0].data["code"] == "UNKNOWN_TRACK"


# Messages go to every connection; replies carry the id towards the sender alone.


async def test_messages_go_to_all_connections_and_replies_to_one(simulated: Stack) -> None:
    async with (
        connected(simulated.http_url, "py-native") as one,
        connected(simulated.http_url, "py-native", one.session_id) as native,
        connected(simulated.http_url, "py-0.8", one.session_id) as old,
        connected(simulated.http_url, "js-2.9", one.session_id) as browser,
    ):
        for each in (one, native, old, browser):
            await each.until_heard("state")
        request_id = one.command("set_prompt", prompt=PROMPT)
        for each in (one, native, old, browser):
            await each.until_heard("state", current_prompt=PROMPT)
            (accepted,) = each.of("prompt_accepted")
            assert accepted.request_id == (request_id if each is one else "")
        native.command("no_such_command")
        await native.until_heard("command_error")
        await native.until_heard("state")
        assert one.of("command_error") == old.of("command_error") == []


# Platform messages: schema, clips, the end.


async def test_the_schema_is_told_where_it_was_asked_for(one: WireClient) -> None:
    if one.kind.binary:
        asked = pb.ControlClientMessage(
            request_id="ctrl_7", kind=pb.KIND_REQUEST, request_schema=pb.RequestSchema()
        )
        one.send("control", asked.SerializeToString())
        told = await one.until_heard("model_schema")
        assert (told.label, told.request_id) == ("control", "ctrl_7")
        document = told.data["openapi"]
    else:
        one.runtime("requestSchema")
        told = await one.until_heard("modelSchema")
        assert (told.label, told.scope) == ("data", "runtime")
        document = told.data
    assert document["openapi"].startswith("3.1")
    assert "/events/set_prompt" in document["paths"]


async def test_a_server_without_recorder_says_so(one: WireClient) -> None:
    if one.kind.binary:
        for request_id, asked in (
            ("a", {"request_clip": pb.RequestClip(duration_seconds=2)}),
            ("b", {"request_recording": pb.RequestRecording()}),
        ):
            said = pb.ControlClientMessage(
                request_id=request_id,
                kind=pb.KIND_REQUEST,
                **asked,  # type: ignore[arg-type]
            )
            one.send("control", said.SerializeToString())
        refused = await one.heard.until(lambda: len(them := one.of("clip_failed")) == 2 and them)
        assert [each.request_id for each in refused] == ["a", "b"]
    else:
        one.runtime("requestClip", duration_seconds=2)
        one.runtime("requestRecording")
        refused = await one.heard.until(lambda: len(them := one.of("clipFailed")) == 2 and them)
        assert {each.scope for each in refused} == {"runtime"}
    assert [each.data["reason"] for each in refused] == ["recorder disabled"] * 2


async def test_the_end_is_told_before_the_peer_closes(one: WireClient) -> None:
    assert (await one.ask("DELETE", ".")).status in (200, 204)
    name = "session_ended" if one.kind.binary else "sessionEnded"
    ended = await one.until_heard(name)
    assert ended.data["reason"]
    await one.heard.until(lambda: one.pc.connectionState != "connected")
    assert one.heard.items[-1].name == name


# Trickle before the offer was processed; `.local` candidates; none at all.

LOCAL = "candidate:1 1 udp 2113937151 4fe26f52-8e7b-4a9c-9f0e-6d2f5f0c8a11.local 54321 typ host"


async def _reaches(one: WireClient) -> None:
    await one.connected(await one.answered())
    await one.until_heard("state")


@pytest.mark.parametrize("when", ["before the offer", "after the offer", "never"])
async def test_candidates_come_when_they_like(simulated: Stack, when: str) -> None:
    async with client(simulated.http_url, "py-native") as one:
        await one.create()
        await one.register()
        await one.prepare()
        candidates = candidates_of(one.pc.localDescription.sdp)
        assert candidates
        assert "candidate" not in one.sdp
        if when == "before the offer":
            for each in candidates:
                assert (await one.trickle([each], is_final=False)).status == 202
        await one.offer()
        if when == "after the offer":
            assert (await one.trickle(candidates, is_final=True)).status == 202
        await _reaches(one)


@pytest.mark.parametrize("trickled", [True, False])
async def test_names_of_hosts_that_nobody_knows_break_nothing(
    simulated: Stack, *, trickled: bool
) -> None:
    async with client(simulated.http_url, "js-2.12" if trickled else "js-2.9") as one:
        await one.create()
        if trickled:
            await one.register()
        await one.prepare()
        sdp = one.pc.localDescription.sdp
        lines = [f"a={LOCAL}\r\n" if line.startswith("a=candidate") else line + "\r\n"
                 for line in sdp.removesuffix("\r\n").split("\r\n")]  # fmt: skip
        await one.offer(**({} if trickled else {"sdp_offer": "".join(lines)}))
        if trickled:
            known = {"candidate": LOCAL, "sdp_mid": "0", "sdp_mline_index": 0}
            assert (await one.trickle([known], is_final=True)).status == 202
        await _reaches(one)


# The last test: the clients at the top of this file have waited meanwhile.


@pytest.mark.parametrize("kind", WIRES)
def test_a_silent_client_loses_its_connection_but_not_its_session(
    watched: dict[tuple[str, str], Future[float | None]], kind: str
) -> None:
    lost_s = watched[kind, "silent"].result(90)
    assert lost_s is not None, "nobody hung up on it"
    assert lost_s >= WATCHDOG_S - 1


@pytest.mark.parametrize("kind", WIRES)
def test_a_client_that_pings_stays_and_its_pings_are_not_answered(
    watched: dict[tuple[str, str], Future[float | None]], kind: str
) -> None:
    assert watched[kind, "pings"].result(90) is None
