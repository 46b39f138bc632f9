"""Attach on the wire: order, resume, refusals, slow and vanished clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gateway.grpc_api import interceptors, streams
from sana_gateway.v1 import command_pb2, message_pb2, session_pb2, session_pb2_grpc
from sana_gateway_internal.v1 import stream_pb2
from scheduler.core.errors import LimitError
from tests.fakes.grpc_gateway import drained, failure, grpc_gateway, settled
from tests.fakes.hub import FakeHub
from tests.fakes.services import fake_services

pytestmark = pytest.mark.unit

if TYPE_CHECKING:
    Stub = session_pb2_grpc.SessionServiceAsyncStub

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def hub() -> FakeHub:
    return FakeHub()


@pytest.fixture
async def stub(hub: FakeHub) -> AsyncIterator[Stub]:
    async with (
        grpc_gateway(fake_services(hub)) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield session_pb2_grpc.SessionServiceStub(channel)


async def created(stub: Stub) -> str:
    made = await stub.CreateSession(session_pb2.CreateSessionRequest(model="painter"))
    return made.session.session_id


async def attach(stub: Stub, session_id: str, resume: int | None = None, **metadata: str) -> Any:
    stream: Any = stub.Attach(metadata=tuple(metadata.items()))  # type: ignore[call-arg]
    start = session_pb2.AttachStart(session_id=session_id, resume_after_revision=resume)
    await stream.write(session_pb2.AttachRequest(start=start))
    return stream


async def send(stream: Any, **command: Any) -> None:
    await stream.write(session_pb2.AttachRequest(command=command_pb2.Command(**command)))


async def kinds(stream: Any, count: int) -> list[str]:
    names = []
    for _ in range(count):
        response = await stream.read()
        kind = response.WhichOneof("response")
        names.append(response.message.WhichOneof("payload") if kind == "message" else kind)
    return names


async def test_a_ready_session_attaches_and_shows_its_state(hub: FakeHub, stub: Stub) -> None:
    stream = await attach(stub, await created(stub))
    attached = await stream.read()
    assert attached.attached.connection_id == hub.session.connections[0].connection_id
    assert not attached.attached.gap
    assert (await stream.read()).message.HasField("state")
    stream.cancel()


async def test_a_waiting_session_tells_its_place_until_it_is_ready(
    hub: FakeHub, stub: Stub
) -> None:
    hub.ready = False
    stream = await attach(stub, await created(stub))
    first = await stream.read()
    assert (first.queue.position, first.queue.estimated_wait.ToMilliseconds()) == (1, 1500)
    hub.session.queue(7, 0.0)
    second = await stream.read()
    assert second.queue.position == 7
    assert not second.queue.HasField("estimated_wait")
    hub.session.place()
    assert await kinds(stream, 2) == ["attached", "state"]
    stream.cancel()


async def test_messages_come_before_the_ack_and_only_the_asker_sees_the_id(
    hub: FakeHub, stub: Stub
) -> None:
    session_id = await created(stub)
    asker, other = await attach(stub, session_id), await attach(stub, session_id)
    await kinds(asker, 2)
    await kinds(other, 2)
    await send(asker, command_id="c1", set_prompt=command_pb2.SetPrompt(prompt="p"))
    accepted = await asker.read()
    assert (accepted.message.command_id, accepted.message.revision) == ("c1", 1)
    assert await kinds(asker, 1) == ["state"]
    ack = await asker.read()
    assert (ack.ack.command_id, ack.ack.accepted) == ("c1", True)
    copy = await other.read()
    assert (copy.message.command_id, copy.message.prompt_accepted.prompt) == ("", "p")
    assert await kinds(other, 1) == ["state"]
    assert hub.session.connections[1].commands == []
    asker.cancel()
    other.cancel()


async def test_a_refusal_is_explained_and_acked(hub: FakeHub, stub: Stub) -> None:
    stream = await attach(stub, await created(stub))
    hub.session.refuse["start"] = message_pb2.CommandError(
        command="start", reason="no prompt", code=message_pb2.REJECT_REASON_NO_PROMPT
    )
    await kinds(stream, 2)
    await send(stream, command_id="c", start=command_pb2.Start())
    error = await stream.read()
    assert error.message.command_error == hub.session.refuse["start"]
    assert error.message.command_id == "c"
    assert await kinds(stream, 1) == ["state"]
    assert not (await stream.read()).ack.accepted
    stream.cancel()


async def test_what_is_no_command_reaches_the_session_as_such(hub: FakeHub, stub: Stub) -> None:
    stream = await attach(stub, await created(stub))
    await kinds(stream, 2)
    await send(stream, command_id="c")
    assert await kinds(stream, 3) == ["command_error", "state", "ack"]
    assert isinstance(hub.session.connections[0].commands[0], stream_pb2.InvalidCommand)
    stream.cancel()


async def test_the_trace_of_the_call_goes_with_its_commands(hub: FakeHub, stub: Stub) -> None:
    stream = await attach(stub, await created(stub), traceparent=TRACE)
    await send(stream, command_id="c", start=command_pb2.Start())
    await hub.until(lambda: hub.session.connections and hub.session.connections[0].commands)
    assert hub.session.connections[0].traceparents[0].split("-")[1] == TRACE.split("-")[1]
    stream.cancel()


async def test_a_command_may_have_a_trace_of_its_own(hub: FakeHub, stub: Stub) -> None:
    stream = await attach(stub, await created(stub), traceparent=TRACE)
    own = TRACE.replace("0af7", "1bf8")
    await send(stream, command_id="1", traceparent=own, start=command_pb2.Start())
    await send(stream, command_id="2", pause=command_pb2.Pause())
    connection = (await hub.until(lambda: hub.session.open_connections))[0]
    await hub.until(lambda: len(connection.commands) == 2)
    assert connection.traceparents == [own, TRACE]
    stream.cancel()


async def test_a_call_is_a_span_below_the_clients(
    hub: FakeHub, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(interceptors, "TRACER", provider.get_tracer("test"))
    stream = await attach(stub, await created(stub), traceparent=TRACE)
    await send(stream, command_id="c", set_prompt=command_pb2.SetPrompt(prompt="a secret"))
    await kinds(stream, 5)
    hub.session.end("over")
    await drained(stream)
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert set(spans) == {"gateway.create_session", "gateway.attach"}
    parent = spans["gateway.attach"].parent
    assert parent is not None
    assert f"{parent.span_id:016x}" == TRACE.split("-")[2]
    assert not any("secret" in span.to_json() for span in spans.values())


async def test_resuming_repeats_what_was_missed(hub: FakeHub, stub: Stub) -> None:
    session_id = await created(stub)
    for _ in range(5):
        hub.session.publish(state=hub.session.state)
    stream = await attach(stub, session_id, resume=3)
    attached = await stream.read()
    assert not attached.attached.gap
    missed = [(await stream.read()).message for _ in range(2)]
    assert [(each.revision, each.replayed) for each in missed] == [(4, True), (5, True)]
    stream.cancel()


async def test_resuming_too_late_is_a_gap_and_one_snapshot(hub: FakeHub, stub: Stub) -> None:
    session_id = await created(stub)
    for _ in range(300):
        hub.session.publish(state=hub.session.state)
    stream = await attach(stub, session_id, resume=1)
    assert (await stream.read()).attached.gap
    snapshot = (await stream.read()).message
    assert (snapshot.revision, snapshot.replayed) == (300, False)
    stream.cancel()


async def test_the_end_of_the_session_is_the_last_word(hub: FakeHub, stub: Stub) -> None:
    before = asyncio.all_tasks()
    stream = await attach(stub, await created(stub))
    await kinds(stream, 2)
    hub.session.end("drained")
    assert (await stream.read()).ended.reason == "drained"
    assert await stream.read() is grpc.aio.EOF  # type: ignore[attr-defined]
    assert await stream.code() is grpc.StatusCode.OK
    assert hub.session.open_connections == []
    await settled(before)


async def test_attaching_to_an_ended_session_is_refused(hub: FakeHub, stub: Stub) -> None:
    session_id = await created(stub)
    hub.session.end("over")
    error = await failure(await attach(stub, session_id))
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_a_command_first_is_refused(hub: FakeHub, stub: Stub) -> None:
    await created(stub)
    stream: Any = stub.Attach()  # type: ignore[call-arg]
    await send(stream, command_id="c", start=command_pb2.Start())
    assert (await failure(stream)).code() is grpc.StatusCode.INVALID_ARGUMENT
    assert hub.session.connections == []


@pytest.mark.parametrize("request_", [session_pb2.AttachRequest(), None], ids=["empty", "start"])
async def test_a_second_start_or_nothing_ends_the_stream(
    hub: FakeHub, stub: Stub, request_: session_pb2.AttachRequest | None
) -> None:
    stream = await attach(stub, await created(stub))
    await kinds(stream, 2)
    start = session_pb2.AttachStart(session_id=hub.session.session_id)
    await stream.write(request_ or session_pb2.AttachRequest(start=start))
    assert (await failure(stream)).code() is grpc.StatusCode.INVALID_ARGUMENT
    await hub.until(lambda: not hub.session.open_connections)


async def test_a_stream_without_a_request_is_refused(stub: Stub) -> None:
    stream: Any = stub.Attach()  # type: ignore[call-arg]
    await stream.done_writing()
    assert (await failure(stream)).code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_client_that_never_says_what_it_wants_is_refused(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "FIRST_REQUEST_S", 0.0)
    stream: Any = stub.Attach()  # type: ignore[call-arg]
    assert (await failure(stream)).code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_too_many_unanswered_commands_end_the_stream(hub: FakeHub, stub: Stub) -> None:
    stream = await attach(stub, await created(stub))
    hub.session.command_error = LimitError("too many unanswered commands")
    await send(stream, command_id="c", start=command_pb2.Start())
    assert (await failure(stream)).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await hub.until(lambda: not hub.session.open_connections)


async def test_a_client_that_sends_no_more_still_hears(hub: FakeHub, stub: Stub) -> None:
    stream = await attach(stub, await created(stub))
    await kinds(stream, 2)
    await stream.done_writing()
    hub.session.publish(state=hub.session.state)
    assert await kinds(stream, 1) == ["state"]
    stream.cancel()


@pytest.mark.parametrize("ready", [True, False])
async def test_a_cancelled_stream_leaves_no_task_and_no_connection(
    hub: FakeHub, stub: Stub, *, ready: bool
) -> None:
    hub.ready = ready
    session_id = await created(stub)
    before = asyncio.all_tasks()
    stream = await attach(stub, session_id)
    await stream.read()
    stream.cancel()
    await hub.until(lambda: hub.session.connections and not hub.session.open_connections)
    await settled(before)


async def test_a_client_that_does_not_read_is_ended_and_can_resume(
    hub: FakeHub, stub: Stub
) -> None:
    before = asyncio.all_tasks()
    session_id = await created(stub)
    stream = await attach(stub, session_id)
    await hub.until(lambda: hub.session.open_connections)
    long = message_pb2.PromptAccepted(prompt="x" * 20_000)
    while hub.session.open_connections:
        hub.session.publish(prompt_accepted=long)
        await asyncio.sleep(0)  # lets the server write until the client's window is full
    assert (await failure(stream)).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    again = await attach(stub, session_id, resume=hub.session.revision - 1)
    assert not (await again.read()).attached.gap
    assert (await again.read()).message.revision == hub.session.revision
    again.cancel()
    await hub.until(lambda: not hub.session.open_connections)
    await settled(before)
