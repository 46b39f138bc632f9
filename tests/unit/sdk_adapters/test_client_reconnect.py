"""What the client does about lost connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Self

import grpc
import pytest

import sana_gateway as sg
from gateway.grpc_api.queues import OUTBOX_LIMIT
from sana_gateway.attachment import UNANSWERED
from sana_gateway.retry import calling
from sana_gateway.v1 import message_pb2
from scheduler.core.errors import LimitError, UnknownSessionError
from tests.fakes.grpc_gateway import grpc_gateway, settled
from tests.fakes.hub import FakeHub
from tests.fakes.services import fake_services
from tests.fakes.uploads import FakeUploads

pytestmark = pytest.mark.unit

QUICK = sg.RetryPolicy(window=10.0, first=0.01, longest=0.05)


class Wire:
    """A TCP connection that can be cut."""

    def __init__(self, address: str) -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.address = ""
        self.broken = False
        self.connections = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, self._host, 0)
        port = self._server.sockets[0].getsockname()[1]
        self.address = f"{self._host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()
        self._server.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Breaks all connections, without a word."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.broken:
            writer.transport.abort()
            return
        self.connections += 1
        far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            self._writers.add(sink)
            task = asyncio.create_task(self._pump(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
        self._writers.discard(writer)


@pytest.fixture
def hub() -> FakeHub:
    return FakeHub()


@pytest.fixture
def uploads() -> FakeUploads:
    return FakeUploads()


@pytest.fixture
async def wire(hub: FakeHub, uploads: FakeUploads) -> AsyncIterator[Wire]:
    async with grpc_gateway(fake_services(hub, uploads=uploads)) as address, Wire(address) as wire:
        yield wire


@pytest.fixture
async def client(wire: Wire) -> AsyncIterator[sg.Client]:
    async with sg.Client(wire.address, policy=QUICK) as client:
        yield client


async def test_messages_missed_in_between_are_made_up_for_once(
    hub: FakeHub, wire: Wire, client: sg.Client
) -> None:
    session = await client.create_session("painter")
    messages = session.messages()
    await session.set_prompt("one")
    wire.cut()
    await hub.until(lambda: not hub.session.open_connections)
    hub.session.publish(chunk_complete=message_pb2.ChunkComplete(chunk_index=7))
    hub.session.publish(state=hub.session.state)
    await hub.until(lambda: hub.session.open_connections)
    await session.set_prompt("two")
    seen = [await anext(messages) for _ in range(6)]
    assert [each.revision for each in seen] == [1, 2, 3, 4, 5, 6]
    assert [each.replayed for each in seen] == [False, False, True, True, False, False]
    assert (session.gaps, session.end_reason) == (0, None)


async def test_a_gap_is_counted_and_the_snapshot_taken(
    hub: FakeHub, wire: Wire, client: sg.Client
) -> None:
    session = await client.create_session("painter")
    await session.set_seed(1)
    wire.broken = True
    wire.cut()
    await hub.until(lambda: not hub.session.open_connections)
    for seed in range(300):
        hub.session.state.seed = seed
        hub.session.publish(state=hub.session.state)
    wire.broken = False
    state = await session.wait_for(lambda state: state.seed == 299, 30)
    assert state.seed == 299
    assert session.gaps == 1
    assert session.revision == hub.session.revision


async def test_an_unanswered_command_is_sent_again_with_its_id_and_acts_once(
    hub: FakeHub, wire: Wire, client: sg.Client
) -> None:
    session = await client.create_session("painter")
    lost: list[Any] = []

    def acted_but_lost(_: Any, command: Any) -> None:
        hub.session.handled[command.command_id] = True
        hub.session.effects += 1
        lost.append(command.command_id)

    hub.session.on_command = acted_but_lost
    starting = asyncio.create_task(session.start())
    await hub.until(lambda: lost)
    hub.session.on_command = hub.session.respond
    wire.cut()
    await starting
    again = [each.command_id for each in hub.session.connections[-1].commands]
    assert again == lost
    assert hub.session.effects == 1


async def test_commands_given_while_disconnected_are_sent_in_order(
    hub: FakeHub, wire: Wire, client: sg.Client
) -> None:
    session = await client.create_session("painter")
    wire.broken = True
    wire.cut()
    await hub.until(lambda: not hub.session.open_connections)
    setting = [asyncio.create_task(session.set_seed(seed)) for seed in range(5)]
    await asyncio.sleep(0)
    wire.broken = False
    await asyncio.gather(*setting)
    sent = [each.set_seed.seed for each in hub.session.connections[-1].commands]  # type: ignore[union-attr]
    assert sent == [0, 1, 2, 3, 4]


async def test_a_client_too_slow_for_the_server_resumes(hub: FakeHub, client: sg.Client) -> None:
    session = await client.create_session("painter")
    for _ in range(2 * OUTBOX_LIMIT):
        # Without a pause for the server to write, its queue overflows.
        hub.session.publish(prompt_accepted=message_pb2.PromptAccepted(prompt="x" * 1000))
    await hub.until(lambda: len(hub.session.connections) == 2)
    await session.set_seed(5)
    assert session.state is not None
    assert session.state.seed == 5
    assert session.revision == hub.session.revision


async def test_a_refused_attachment_is_tried_again_when_that_may_help(
    hub: FakeHub, client: sg.Client
) -> None:
    session = await client.create_session("painter", wait=False)
    hub.session.connect_error = LimitError("too many connections", retry_after_s=0.01)
    await hub.until(lambda: hub.session.refused_connections == 2)
    hub.session.connect_error = None
    await session.ready(10)


async def test_a_session_that_is_gone_after_the_reconnect_is_an_error(
    hub: FakeHub, wire: Wire, client: sg.Client
) -> None:
    session = await client.create_session("painter")
    messages = session.messages()
    hub.session.connect_error = UnknownSessionError("no such session")
    wire.cut()
    with pytest.raises(sg.UnknownSessionError):
        await session.wait_for(lambda state: state.running, 30)
    with pytest.raises(sg.UnknownSessionError):
        await anext(messages)
    with pytest.raises(sg.UnknownSessionError):
        await session.start()


async def test_a_gateway_that_stays_away_fails_commands_after_the_window(
    wire: Wire,
) -> None:
    policy = sg.RetryPolicy(window=0.1, first=0.01, longest=0.02)
    async with sg.Client(wire.address, policy=policy) as client:
        before = asyncio.all_tasks()
        session = await client.create_session("painter")
        wire.broken = True
        wire.cut()
        with pytest.raises(sg.UnavailableError):
            await session.wait_for(lambda state: state.running, 30)
        with pytest.raises(sg.UnavailableError):
            await session.start()
        await session.detach()
        await settled(before)


async def test_more_commands_than_the_service_takes_wait_their_turn(
    hub: FakeHub, client: sg.Client
) -> None:
    session = await client.create_session("painter")
    hub.session.on_command = lambda *_: None
    sending = [asyncio.create_task(session.set_seed(seed)) for seed in range(UNANSWERED + 10)]
    connection = hub.session.open_connections[0]
    await hub.until(lambda: len(connection.commands) >= UNANSWERED)
    assert len(connection.commands) == UNANSWERED
    hub.session.on_command = hub.session.respond
    for command in tuple(connection.commands):
        hub.session.respond(connection, command)
    await asyncio.gather(*sending)
    assert len(connection.commands) == UNANSWERED + 10


async def test_an_interrupted_upload_goes_on(
    wire: Wire, uploads: FakeUploads, client: sg.Client
) -> None:
    content = bytes(range(256)) * 8192
    cuts = 0

    def progress(sent: int, _: int) -> None:
        nonlocal cuts
        if cuts < 2 and sent > len(content) // 3 * (cuts + 1):
            cuts += 1
            wire.cut()

    session = await client.create_session("painter")
    file = await session.upload(content, progress=progress)
    assert cuts == 2
    assert uploads.uploads[session.session_id, file.upload_id].data == content
    assert len(uploads.uploads) == 1


async def test_unary_calls_survive_a_short_absence(wire: Wire, client: sg.Client) -> None:
    wire.broken = True
    creating = asyncio.create_task(client.create_session("painter"))
    await asyncio.sleep(0)
    wire.broken = False
    assert (await creating).state is not None


async def test_what_must_not_be_repeated_is_not() -> None:
    calls = 0

    async def failing() -> None:
        nonlocal calls
        calls += 1
        empty = grpc.aio.Metadata()
        raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, empty, empty, None, None)

    with pytest.raises(sg.UnavailableError):
        await calling(QUICK, failing, retry=False)
    assert calls == 1


def test_waits_grow_to_a_bound_and_honour_the_server() -> None:
    policy = sg.RetryPolicy(first=0.1, longest=2.0)
    for attempt in range(1, 200):
        assert 0 <= policy.wait(attempt) <= min(2.0, 0.1 * 2 ** min(attempt - 1, 16))
    assert policy.wait(1, asked=5.0) == 5.0
