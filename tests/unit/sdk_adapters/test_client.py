"""The client library against a real gRPC server over a scriptable hub."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry import trace

import sana_gateway as sg
from sana_gateway.observed import MESSAGES
from sana_gateway.v1 import command_pb2, message_pb2, pool_pb2, session_pb2
from scheduler.core import errors
from tests.fakes.grpc_gateway import grpc_gateway, settled
from tests.fakes.hub import FakeHub
from tests.fakes.peers import FakePeers
from tests.fakes.services import fake_services
from tests.fakes.uploads import FakeUploads

pytestmark = pytest.mark.unit

POOL = pool_pb2.DescribePoolResponse(actors=[pool_pb2.Actor(actor_id="a")])
QUICK = sg.RetryPolicy(window=5.0, first=0.01, longest=0.05)


@pytest.fixture
def hub() -> FakeHub:
    return FakeHub()


@pytest.fixture
def uploads() -> FakeUploads:
    return FakeUploads()


@pytest.fixture
def peers() -> FakePeers:
    return FakePeers()


@pytest.fixture
async def client(hub: FakeHub, uploads: FakeUploads, peers: FakePeers) -> AsyncIterator[sg.Client]:
    services = fake_services(hub, uploads=uploads, peers=peers, pool=POOL)
    async with grpc_gateway(services) as address, sg.Client(address, policy=QUICK) as client:
        yield client


async def test_the_life_of_a_file_mode_session(hub: FakeHub, client: sg.Client) -> None:
    async with await client.create_session("painter") as session:
        assert session.state is not None
        assert session.state.phase == sg.Phase.Value("PHASE_IDLE")
        await session.set_mode("file")
        await session.set_video(await session.upload(b"a clip", name="clip.mp4"))
        await session.set_prompt("a watercolour painting")
        await session.set_seed(42)
        await session.start()
        state = await session.wait_for(lambda state: state.running, 30)
        assert (state.has_video, state.current_prompt, state.seed, state.mode) == (
            True,
            "a watercolour painting",
            42,
            command_pb2.MODE_FILE,
        )
        await session.pause()
        await session.wait_for(lambda state: state.paused, 30)
        await session.resume()
        await session.reset()
        state = await session.wait_for(lambda state: not state.has_prompt, 30)
        assert state.seed == 42
    assert [reason for _, reason in hub.closed] == ["closed by the client"]
    assert session.end_reason == "closed by the client"
    names = [each.WhichOneof("command") for each in hub.session.connections[0].commands]  # type: ignore[arg-type]
    assert names == [
        "set_mode",
        "set_video",
        "set_prompt",
        "set_seed",
        "start",
        "pause",
        "resume",
        "reset",
    ]


async def test_every_command_has_an_id_of_its_own(hub: FakeHub, client: sg.Client) -> None:
    async with await client.create_session("painter") as session:
        await asyncio.gather(*(session.set_seed(seed) for seed in range(20)))
    ids = [each.command_id for each in hub.session.connections[0].commands]
    assert len(set(ids)) == 20
    assert all(1 <= len(each) <= 64 for each in ids)


async def test_a_refused_command_raises_what_the_session_says(
    hub: FakeHub, client: sg.Client
) -> None:
    async with await client.create_session("painter") as session:
        hub.session.refuse["pause"] = message_pb2.CommandError(
            command="pause",
            reason="only while running",
            code=message_pb2.REJECT_REASON_WRONG_PHASE,
            phase=message_pb2.PHASE_IDLE,
            allowed_phases=[message_pb2.PHASE_RUNNING],
            retry_after_s=2.0,
        )
        with pytest.raises(sg.CommandRejected, match="only while running") as caught:
            await session.pause()
        error = caught.value
        assert (error.command, error.code) == ("pause", message_pb2.REJECT_REASON_WRONG_PHASE)
        assert (error.phase, error.allowed_phases) == (
            message_pb2.PHASE_IDLE,
            (message_pb2.PHASE_RUNNING,),
        )
        assert error.retry_after == 2.0
        await session.start()


async def test_an_ack_may_come_before_the_reason(hub: FakeHub, client: sg.Client) -> None:
    def ack_first(connection: Any, command: Any) -> None:
        connection.sink.ack(command.command_id, accepted=False)
        error = message_pb2.CommandError(command="start", reason="later")
        connection.sink.message(
            message_pb2.Message(command_id=command.command_id, command_error=error)
        )

    async with await client.create_session("painter") as session:
        hub.session.on_command = ack_first
        with pytest.raises(sg.CommandRejected, match="later"):
            await session.start()


async def test_a_command_without_an_answer_times_out(hub: FakeHub, client: sg.Client) -> None:
    client.command_timeout = 0.02
    async with await client.create_session("painter") as session:
        hub.session.on_command = lambda *_: None
        with pytest.raises(TimeoutError):
            await session.start()
        client.command_timeout = 10.0
        hub.session.on_command = hub.session.respond
        await session.start()


async def test_messages_and_callbacks_tell_what_happens(hub: FakeHub, client: sg.Client) -> None:
    async with await client.create_session("painter") as session:
        messages = session.messages()
        seen: list[tuple[str, Any]] = []
        remove = session.on("prompt_accepted", lambda each: seen.append(("prompt", each.prompt)))
        session.on("message", lambda each: seen.append(("message", each.revision)))
        await session.set_prompt("one")
        remove()
        remove()
        await session.set_prompt("two")
        assert seen == [
            ("prompt", "one"),
            ("message", 1),
            ("message", 2),
            ("message", 3),
            ("message", 4),
        ]
        assert session.revision == 4
        kinds = [(await anext(messages)).WhichOneof("payload") for _ in range(4)]
        assert kinds == ["prompt_accepted", "state", "prompt_accepted", "state"]
        hub.session.end("over")
        assert [each async for each in messages] == []
        assert [each async for each in session.messages()] == []


async def test_a_failing_callback_does_not_end_the_stream(client: sg.Client) -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError

    reported: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    async with await client.create_session("painter") as session:
        session.on("state", broken)
        await session.start()
        await session.pause()
    assert [type(each["exception"]) for each in reported] == [ZeroDivisionError] * 2


async def test_an_unread_iterator_drops_the_oldest(hub: FakeHub, client: sg.Client) -> None:
    async with await client.create_session("painter") as session:
        messages = session.messages()
        for _ in range(MESSAGES + 5):
            hub.session.publish(state=hub.session.state)
            await asyncio.sleep(0)
        await session.start()
        first = await anext(messages)
        assert messages.dropped >= 5
        assert first.revision == messages.dropped + 1
        messages.close()


async def test_a_waiting_session_tells_its_place(hub: FakeHub, client: sg.Client) -> None:
    hub.ready = False
    places: list[int] = []

    def queued(update: session_pb2.QueueUpdate) -> None:
        places.append(update.position)
        if update.position == 1:
            hub.session.queue(3)
        else:
            hub.session.place()

    async with await client.create_session("painter", on_queue=queued) as session:
        assert session.state is not None
        assert session.queue_position == 0
    assert places == [1, 3]


async def test_giving_up_the_wait_closes_the_session(hub: FakeHub, client: sg.Client) -> None:
    hub.ready = False
    before = asyncio.all_tasks()
    with pytest.raises(TimeoutError):
        await client.create_session("painter", timeout=0.02)
    assert hub.session.end_reason is not None
    await settled(before)


async def test_a_session_that_ends_while_it_waits_says_so(hub: FakeHub, client: sg.Client) -> None:
    hub.ready = False
    session = await client.create_session("painter", wait=False)
    waiting = asyncio.create_task(session.ready())
    await hub.until(lambda: hub.session.open_connections)
    hub.session.end("the queue ticket is too old")
    with pytest.raises(sg.SessionClosedError, match="too old"):
        await waiting


async def test_an_ended_session_refuses_commands(hub: FakeHub, client: sg.Client) -> None:
    ended = asyncio.Event()
    session = await client.create_session("painter")
    session.on("ended", lambda _: ended.set())
    hub.session.on_command = lambda *_: hub.session.end("drained")
    with pytest.raises(sg.SessionClosedError, match="drained"):
        await session.start()
    await ended.wait()
    assert session.end_reason == "drained"
    with pytest.raises(sg.SessionClosedError):
        await session.start()
    with pytest.raises(sg.SessionClosedError):
        await session.wait_for(lambda state: state.running)
    await session.close()


async def test_an_attached_session_is_left_running(hub: FakeHub, client: sg.Client) -> None:
    made = await client.create_session("painter")
    async with await client.attach(made.session_id) as second:
        await second.ready(5)
        await second.start()
        assert len(hub.session.open_connections) == 2
    await hub.until(lambda: len(hub.session.open_connections) == 1)
    assert hub.session.end_reason is None
    assert (await made.describe()).status == session_pb2.SESSION_STATUS_READY


async def test_closing_the_client_detaches_and_leaves_no_task(hub: FakeHub) -> None:
    async with grpc_gateway(fake_services(hub)) as address:
        before = asyncio.all_tasks()
        async with sg.Client(address) as client:
            session = await client.create_session("painter")
            await client.create_session("painter", wait=False)
        await hub.until(lambda: not any(each.open_connections for each in hub.sessions.values()))
        assert session.end_reason == "detached"
        assert hub.closed == []
        await settled(before)


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (errors.UnknownSessionError("x"), sg.UnknownSessionError),
        (errors.UnknownModelError(("painter",)), sg.UnknownModelError),
        (errors.NoCapacityError("x", retry_after_s=1.5), sg.NoCapacityError),
        (errors.BadArgumentError("x"), sg.BadArgumentError),
        (errors.UnauthenticatedError("x"), sg.UnauthenticatedError),
        (errors.ForbiddenError("x"), sg.ForbiddenError),
        (errors.SessionClosedError("x"), sg.SessionClosedError),
        (errors.NotReadyError("x"), sg.NotReadyError),
        (errors.UnknownUploadError("x"), sg.UnknownUploadError),
        (errors.BadUploadError("x"), sg.BadUploadError),
        (errors.PublisherTakenError("x"), sg.PublisherTakenError),
        (errors.BadOfferError("x"), sg.BadOfferError),
        (errors.LimitError("x"), sg.LimitError),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
async def test_every_error_of_the_service_has_its_class(
    hub: FakeHub,
    client: sg.Client,
    raised: errors.RequestError,
    expected: type[sg.CallError],
) -> None:
    hub.create_error = raised
    with pytest.raises(sg.CallError) as caught:
        await client.create_session("painter")
    assert type(caught.value) is expected
    assert caught.value.retry_after == raised.retry_after_s
    assert caught.value.served_models == getattr(raised, "served", ())
    assert str(caught.value) == str(raised)


async def test_an_unknown_session_cannot_be_attached(client: sg.Client) -> None:
    with pytest.raises(sg.UnknownSessionError):
        await client.attach("nobody's")


async def test_the_token_travels_with_every_call(hub: FakeHub) -> None:
    tokens: list[str | None] = []
    services = fake_services(hub)
    authenticate = services.auth.authenticate

    def recorded(token: str | None) -> Any:
        tokens.append(token)
        return authenticate(token)

    object.__setattr__(services.auth, "authenticate", recorded)
    async with (
        grpc_gateway(services) as address,
        sg.Client(address, token="secret") as client,
        await client.create_session("painter") as session,
    ):
        await session.upload(b"x")
    assert set(tokens) == {"secret"}
    assert len(tokens) == 4


async def test_the_callers_trace_goes_with_each_command(hub: FakeHub, client: sg.Client) -> None:
    session = await client.create_session("painter")
    for trace_id in (0xABC, 0xDEF):
        context = trace.SpanContext(trace_id, 1, is_remote=False, trace_flags=trace.TraceFlags(1))
        with trace.use_span(trace.NonRecordingSpan(context)):
            await session.start()
    await session.pause()
    sent = [each.split("-")[1:2] for each in hub.session.connections[0].traceparents]
    assert sent == [[f"{0xABC:032x}"], [f"{0xDEF:032x}"], []]


async def test_the_operator_sees_the_pool(client: sg.Client) -> None:
    assert await client.describe_pool() == POOL


async def test_webrtc_is_signalled(peers: FakePeers, client: sg.Client) -> None:
    async with await client.create_session("painter") as session:
        number, answer = await session.offer("sdp", {"0": "main_video"})
        assert (answer, peers.peers[0].tracks) == ("answer to sdp", {"0": "main_video"})
        candidate = session_pb2.IceCandidate(candidate="candidate:1")
        await session.candidates(number, [candidate])
        assert peers.peers[0].candidates == [candidate]
        await session.offer("again", {"0": "main_video"}, connection_id=number)
        await session.hangup(number)
        assert [each.closed for each in peers.peers] == [True, True]
        with pytest.raises(sg.BadOfferError):
            await session.offer("bad", {"0": "main_video"})


async def test_bytes_and_files_are_uploaded_with_progress(
    uploads: FakeUploads, client: sg.Client, tmp_path: Path
) -> None:
    content = bytes(range(256)) * 4096
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    steps: list[tuple[int, int]] = []
    async with await client.create_session("painter") as session:
        file = await session.upload(path, progress=lambda *step: steps.append(step))
        assert (file.name, file.mime_type, file.size) == ("clip.mp4", "video/mp4", len(content))
        assert uploads.uploads[session.session_id, file.upload_id].data == content
        unnamed = await session.upload(content)
        assert (unnamed.name, unnamed.mime_type) == ("clip", "application/octet-stream")
    assert steps[-1] == (len(content), len(content))
    assert [sent for sent, _ in steps] == sorted({sent for sent, _ in steps})


async def test_a_refused_upload_raises(client: sg.Client, tmp_path: Path) -> None:
    async with await client.create_session("painter") as session:
        with pytest.raises(sg.BadArgumentError):
            await session.upload(b"")
        with pytest.raises(FileNotFoundError):
            await session.upload(tmp_path / "nothing.mp4")


async def test_nobody_listening_is_unavailable_after_the_window() -> None:
    policy = sg.RetryPolicy(window=0.05, first=0.01, longest=0.02)
    async with sg.Client("127.0.0.1:1", policy=policy) as client:
        with pytest.raises(sg.UnavailableError) as caught:
            await client.create_session("painter")
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE


async def test_a_fork_gives_sessions_of_their_own(hub: FakeHub, client: sg.Client) -> None:
    async with await client.create_session("painter") as session:
        first, second = await session.fork(2)
        ids = {session.session_id, first.session_id, second.session_id}
        assert len(ids) == 3
        async with first, second:
            await first.ready(5)
            await first.set_prompt("a charcoal drawing")
            await second.set_prompt("a watercolour painting")
        assert {session_id for session_id, _ in hub.closed} == ids - {session.session_id}


async def test_repeating_a_fork_returns_the_same_copies(hub: FakeHub, client: sg.Client) -> None:
    async with await client.create_session("painter") as session:
        one = await client.fork(session.session_id, 2, request_id="r1")
        two = await client.fork(session.session_id, 2, request_id="r1")
        assert [each.session_id for each in one] == [each.session_id for each in two]
        assert len(hub.sessions) == 3


@pytest.mark.parametrize(
    ("fault", "raised"),
    [
        (errors.NotReadyError("later", retry_after_s=1.0), sg.NotReadyError),
        (errors.CommandRefusedError("the model cannot", command="fork"), sg.CommandRejected),
        (errors.NoCapacityError("the queue is full"), sg.NoCapacityError),
    ],
)
async def test_a_fork_that_is_refused_says_why(
    hub: FakeHub, client: sg.Client, fault: errors.RequestError, raised: type[Exception]
) -> None:
    async with await client.create_session("painter") as session:
        hub.create_error = fault
        with pytest.raises(raised):
            await session.fork(1)
        with pytest.raises(sg.BadArgumentError):
            await client.fork(session.session_id, 1, request_id="x" * 65)


async def test_a_client_hears_that_its_session_moved(hub: FakeHub, client: sg.Client) -> None:
    async with await client.create_session("painter") as session:
        heard: list[message_pb2.SessionMoved] = []
        session.on("session_moved", heard.append)
        moved = message_pb2.SessionMoved(continuity=message_pb2.CONTINUITY_EXACT, reason="moved")
        hub.session.publish(session_moved=moved)
        hub.session.publish(state=message_pb2.State(seed=77))
        await session.wait_for(lambda state: state.seed == 77, 30)
        assert heard == [moved]


async def test_a_drain_tells_how_far_it_has_come(hub: FakeHub) -> None:
    drains = [pool_pb2.DrainActorResponse(remaining=each) for each in (2, 1, 0)]
    services = fake_services(hub, drains=drains)
    async with grpc_gateway(services) as address, sg.Client(address, policy=QUICK) as client:
        told = [each.remaining async for each in client.drain_actor("a", grace=timedelta(60))]
    assert told == [2, 1, 0]
