"""Execute on the wire: one command, its answer, and refusals as statuses with details."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

import sana_gateway as sg
from gateway import ports
from gateway.grpc_api import execute, session_service
from gateway.grpc_api.errors import REFUSALS
from sana_gateway.v1 import (
    command_pb2,
    error_pb2,
    message_pb2,
    session_pb2,
    session_pb2_grpc,
)
from scheduler import wire
from scheduler.core.commands import RejectReason
from scheduler.core.errors import LimitError, NotReadyError, SessionClosedError
from scheduler.core.ids import Principal
from tests.fakes.changes import Changes
from tests.fakes.grpc_gateway import grpc_gateway
from tests.fakes.hub import FakeHub
from tests.fakes.services import fake_services
from tests.fakes.session import FakeConnection, FakeSession

pytestmark = pytest.mark.unit

if TYPE_CHECKING:
    Stub = session_pb2_grpc.SessionServiceAsyncStub

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
START = command_pb2.Command(command_id="c", start=command_pb2.Start())
PROMPT = command_pb2.Command(command_id="p", set_prompt=command_pb2.SetPrompt(prompt="a secret"))


@pytest.fixture
def hub() -> FakeHub:
    return FakeHub()


@pytest.fixture
async def address(hub: FakeHub) -> AsyncIterator[str]:
    async with grpc_gateway(fake_services(hub)) as address:
        yield address


@pytest.fixture
async def stub(address: str) -> AsyncIterator[Stub]:
    async with grpc.aio.insecure_channel(address) as channel:
        yield session_pb2_grpc.SessionServiceStub(channel)


@pytest.fixture
async def client(address: str) -> AsyncIterator[sg.Client]:
    async with sg.Client(address) as client:
        yield client


async def created(stub: Stub) -> str:
    made = await stub.CreateSession(session_pb2.CreateSessionRequest(model="painter"))
    return made.session.session_id


def asked(session_id: str, command: command_pb2.Command = START) -> session_pb2.ExecuteRequest:
    return session_pb2.ExecuteRequest(session_id=session_id, command=command)


async def failed(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def details(
    error: grpc.aio.AioRpcError,
) -> tuple[error_details_pb2.ErrorInfo, error_pb2.ErrorDetail, error_details_pb2.RetryInfo | None]:
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    assert status is not None
    info, detail = error_details_pb2.ErrorInfo(), error_pb2.ErrorDetail()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(detail)
    if len(status.details) == 2:
        return info, detail, None
    retry = error_details_pb2.RetryInfo()
    assert status.details[2].Unpack(retry)
    return info, detail, retry


async def test_a_command_returns_its_answer_and_the_state_after_it(
    hub: FakeHub, stub: Stub
) -> None:
    session_id = await created(stub)
    hub.session.publish(state=hub.session.state)
    response = await stub.Execute(asked(session_id, PROMPT))
    assert [each.WhichOneof("payload") for each in response.messages] == ["prompt_accepted"]
    assert response.messages[0].command_id == "p"
    assert response.messages[0].revision == 2
    assert response.state == hub.session.state
    assert response.state.has_prompt
    assert hub.session.open_connections == []


async def test_what_others_do_meanwhile_is_no_answer(hub: FakeHub, stub: Stub) -> None:
    session_id = await created(stub)

    def answer(connection: FakeConnection, command: ports.CommandLike) -> None:
        other = message_pb2.PromptAccepted(prompt="another's")
        hub.session.publish(prompt_accepted=other)
        connection.sink.ack("another", accepted=False)
        hub.session.respond(connection, command)

    hub.session.on_command = answer
    response = await stub.Execute(asked(session_id, PROMPT))
    assert [each.prompt_accepted.prompt for each in response.messages] == ["a secret"]


async def test_a_repeat_is_acknowledged_and_changes_nothing(hub: FakeHub, stub: Stub) -> None:
    session_id = await created(stub)
    first = await stub.Execute(asked(session_id, PROMPT))
    again = await stub.Execute(asked(session_id, PROMPT))
    assert hub.session.effects == 1
    assert not again.messages
    assert again.state == first.state


async def test_a_command_without_an_id_gets_one(hub: FakeHub, stub: Stub) -> None:
    session_id = await created(stub)
    for _ in range(2):
        command = command_pb2.Command(set_prompt=command_pb2.SetPrompt(prompt="p"))
        response = await stub.Execute(asked(session_id, command))
        assert response.messages[0].command_id
    assert hub.session.effects == 2


@pytest.mark.parametrize("code", RejectReason)
async def test_a_refusal_is_a_status_with_reason_phase_and_allowed_phases(
    hub: FakeHub, stub: Stub, code: RejectReason
) -> None:
    hub_error = message_pb2.CommandError(
        command="start",
        reason="why, for people",
        code=wire.REASONS[code],
        phase=message_pb2.PHASE_RUNNING,
        allowed_phases=[message_pb2.PHASE_IDLE, message_pb2.PHASE_PAUSED],
    )
    session_id = await created(stub)
    hub.session.refuse["start"] = hub_error
    error = await failed(stub.Execute(asked(session_id)))
    info, detail, retry = details(error)
    assert (error.code(), error.details()) == (REFUSALS[code], "why, for people")
    assert (info.domain, info.reason) == ("sana-gateway", code.name)
    assert dict(info.metadata) == {
        "command": "start",
        "phase": "RUNNING",
        "allowed_phases": "IDLE,PAUSED",
    }
    assert error_pb2.ErrorReason.Name(detail.reason) == f"ERROR_REASON_{code.name}"
    assert detail.phase == message_pb2.PHASE_RUNNING
    assert list(detail.allowed_phases) == [message_pb2.PHASE_IDLE, message_pb2.PHASE_PAUSED]
    assert retry is None
    assert not detail.HasField("retry_after")
    assert hub.session.open_connections == []


async def test_a_refusal_says_when_to_try_again(hub: FakeHub, stub: Stub) -> None:
    session_id = await created(stub)
    hub.session.refuse["start"] = message_pb2.CommandError(
        command="start", code=message_pb2.REJECT_REASON_NO_CAPACITY, retry_after_s=2.5
    )
    error = await failed(stub.Execute(asked(session_id)))
    _, detail, retry = details(error)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert retry is not None
    assert retry.retry_delay.ToMilliseconds() == 2500
    assert detail.retry_after == retry.retry_delay
    assert detail.phase == message_pb2.PHASE_UNSPECIFIED


async def test_a_late_refusal_before_the_ack_counts(hub: FakeHub, stub: Stub) -> None:
    session_id = await created(stub)

    def answer(connection: FakeConnection, command: ports.CommandLike) -> None:
        refused = message_pb2.CommandError(
            command="start", code=message_pb2.REJECT_REASON_SUPERSEDED
        )
        late = message_pb2.Message(command_id=command.command_id, command_error=refused)
        connection.sink.message(late)
        connection.sink.ack(command.command_id, accepted=True)

    hub.session.on_command = answer
    error = await failed(stub.Execute(asked(session_id)))
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert details(error)[0].reason == "SUPERSEDED"


async def test_the_repeat_of_a_refused_command_is_refused_without_a_cause(
    hub: FakeHub, stub: Stub
) -> None:
    session_id = await created(stub)
    hub.session.on_command = lambda connection, command: connection.sink.ack(
        command.command_id, accepted=False
    )
    error = await failed(stub.Execute(asked(session_id)))
    info, detail, _ = details(error)
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert info.reason == "COMMAND_REFUSED"
    assert detail.reason == error_pb2.ERROR_REASON_COMMAND_REFUSED


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (command_pb2.Command(), "UNKNOWN_COMMAND"),
        (command_pb2.Command(set_mode=command_pb2.SetMode()), "BAD_ARGUMENT"),
        (command_pb2.Command(command_id="x" * 65, start=command_pb2.Start()), "BAD_ARGUMENT"),
    ],
    ids=["no command", "no mode", "long id"],
)
async def test_what_is_no_command_is_an_invalid_argument(
    stub: Stub, command: command_pb2.Command, reason: str
) -> None:
    error = await failed(stub.Execute(asked(await created(stub), command)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details(error)[0].reason == reason


async def test_a_queued_session_is_not_waited_for(hub: FakeHub, stub: Stub) -> None:
    hub.ready = False
    error = await failed(stub.Execute(asked(await created(stub))))
    info, _, retry = details(error)
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert info.reason == "NOT_READY"
    assert retry is not None
    assert retry.retry_delay.ToMilliseconds() == 1500
    assert hub.session.connections[0].commands == []
    assert hub.session.open_connections == []


class Joining(FakeSession):
    """A session that has its place and is being joined: nothing is said yet."""

    def __init__(self) -> None:
        principal = Principal("t", frozenset())
        super().__init__(Changes(), "s", principal, "painter", ready=False)

    def connect(
        self,
        sink: ports.Sink,
        *,
        resume_after: int | None = None,
    ) -> tuple[FakeConnection, bool]:
        connection = FakeConnection(self, 1002, sink)
        self.connections.append(connection)
        self.changes.happened()
        return connection, False


async def test_a_session_that_is_being_joined_is_waited_for() -> None:
    session = Joining()
    call = asyncio.create_task(execute.execute(session, PROMPT, limit_s=10.0))
    await session.changes.until(lambda: session.connections)
    assert session.connections[0].commands == []
    session.place()
    response = await call
    assert response.state.has_prompt
    assert session.open_connections == []


@pytest.mark.parametrize("what", ["queued", "nothing", "ended"])
async def test_a_session_that_is_not_joined_is_not_ready(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Joining()
    if what == "nothing":
        monkeypatch.setattr(execute, "JOIN_S", 0.0)
    call = asyncio.create_task(execute.execute(session, PROMPT, limit_s=10.0))
    await session.changes.until(lambda: session.connections)
    if what == "queued":
        session.queue(3)
    elif what == "ended":
        session.end("drained")
    with pytest.raises(SessionClosedError if what == "ended" else NotReadyError):
        await call
    assert session.connections[0].commands == []
    assert session.open_connections == []


async def test_the_end_of_the_session_ends_the_call(hub: FakeHub, stub: Stub) -> None:
    session_id = await created(stub)
    hub.session.on_command = lambda *_: None
    call = asyncio.ensure_future(stub.Execute(asked(session_id)))
    await hub.until(lambda: hub.session.connections and hub.session.connections[0].commands)
    hub.session.end("drained")
    error = await failed(call)
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert details(error)[0].reason == "SESSION_CLOSED"
    assert details(await failed(stub.Execute(asked(session_id))))[0].reason == "SESSION_CLOSED"


async def test_a_deadline_ends_the_call_and_its_connection(hub: FakeHub, stub: Stub) -> None:
    session_id = await created(stub)
    hub.session.on_command = lambda *_: None
    error = await failed(stub.Execute(asked(session_id), timeout=0.5))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await hub.until(lambda: not hub.session.open_connections)


async def test_a_cancelled_call_leaves_no_connection(hub: FakeHub, stub: Stub) -> None:
    session_id = await created(stub)
    hub.session.on_command = lambda *_: None
    call: Any = stub.Execute(asked(session_id))
    waiting = asyncio.ensure_future(call)
    await hub.until(lambda: hub.session.connections and hub.session.connections[0].commands)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await hub.until(lambda: not hub.session.open_connections)


async def test_a_call_without_a_deadline_has_ours(
    hub: FakeHub, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_service, "ANSWER_S", 0.1)
    session_id = await created(stub)
    hub.session.on_command = lambda *_: None
    error = await failed(stub.Execute(asked(session_id)))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "command_id" in (error.details() or "")
    assert hub.session.open_connections == []


async def test_an_unknown_session_and_too_many_connections_are_refused(
    hub: FakeHub, stub: Stub
) -> None:
    assert details(await failed(stub.Execute(asked("nobody's"))))[0].reason == "UNKNOWN_SESSION"
    session_id = await created(stub)
    hub.session.connect_error = LimitError("too many connections")
    error = await failed(stub.Execute(asked(session_id)))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_the_trace_is_the_commands_own_or_that_of_the_call(hub: FakeHub, stub: Stub) -> None:
    session_id = await created(stub)
    own = command_pb2.Command(command_id="1", traceparent=TRACE, start=command_pb2.Start())
    await stub.Execute(asked(session_id, own))
    metadata = (("traceparent", TRACE.replace("0af7", "1bf8")),)
    await stub.Execute(asked(session_id), metadata=metadata)
    sent = [each.traceparents[0].split("-")[1] for each in hub.session.connections]
    trace_id = TRACE.split("-")[1]
    assert sent == [trace_id, trace_id.replace("0af7", "1bf8")]


async def test_the_client_executes_without_attaching(hub: FakeHub, client: sg.Client) -> None:
    session_id = (
        await hub.create(fake_services(hub).auth.authenticate(None), "painter")
    ).session_id
    command = sg.Command(set_prompt=command_pb2.SetPrompt(prompt="p"))
    response = await client.execute(session_id, command)
    assert response.state.current_prompt == "p"
    assert command.command_id == ""
    assert hub.session.open_connections == []


async def test_the_client_raises_refusals_as_on_a_stream(hub: FakeHub, client: sg.Client) -> None:
    principal = fake_services(hub).auth.authenticate(None)
    session_id = (await hub.create(principal, "painter")).session_id
    said = message_pb2.CommandError(
        command="start",
        reason="not now",
        code=message_pb2.REJECT_REASON_WRONG_PHASE,
        phase=message_pb2.PHASE_RUNNING,
        allowed_phases=[message_pb2.PHASE_IDLE],
        retry_after_s=1.5,
    )
    hub.session.refuse["start"] = said
    with pytest.raises(sg.CommandRejected) as caught:
        await client.execute(session_id, sg.Command(start=command_pb2.Start()))
    refused = caught.value
    assert (refused.command, refused.reason, refused.code) == ("start", "not now", said.code)
    assert (refused.phase, refused.allowed_phases) == (said.phase, tuple(said.allowed_phases))
    assert refused.retry_after == 1.5


async def test_the_client_tells_a_refused_command_from_a_failed_call(
    hub: FakeHub, client: sg.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(sg.UnknownSessionError):
        await client.execute("nobody's", sg.Command(start=command_pb2.Start()))
    principal = fake_services(hub).auth.authenticate(None)
    session_id = (await hub.create(principal, "painter")).session_id
    hub.session.on_command = lambda connection, command: connection.sink.ack(
        command.command_id, accepted=False
    )
    with pytest.raises(sg.CommandRejected) as caught:
        await client.execute(session_id, sg.Command(start=command_pb2.Start()))
    assert caught.value.code == message_pb2.REJECT_REASON_UNSPECIFIED
    hub.session.on_command = lambda *_: None
    monkeypatch.setattr(session_service, "ANSWER_S", 0.1)
    client.command_timeout = 0.5
    with pytest.raises(TimeoutError):
        await client.execute(session_id, sg.Command(start=command_pb2.Start()))
