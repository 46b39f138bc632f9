"""The TURN server of the load harness's own service, asked by the client that WebRTC has."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aioice import stun, turn

from scheduler.scenario.pool import ModelCosts, PoolSpec
from sdk_adapters.harness.networks.turn import TurnServer
from sdk_adapters.harness.networks.turn_server import HOST, Relay
from sdk_adapters.harness.stack import StackOptions, own_stack

pytestmark = pytest.mark.integration

WAIT_S = 20.0


class Ends(asyncio.DatagramProtocol):
    """One end of a conversation."""

    def __init__(self) -> None:
        self.came: asyncio.Queue[tuple[bytes, Any]] = asyncio.Queue()
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.came.put_nowait((data, addr))

    async def next(self) -> tuple[bytes, Any]:
        """Waits for a datagram."""
        async with asyncio.timeout(WAIT_S):
            return await self.came.get()

    @property
    def address(self) -> Any:
        """Where it is; of a client, where its peers see it."""
        return self.transport.get_extra_info("sockname")


@contextlib.asynccontextmanager
async def client(url: str, password: str | None = None) -> AsyncIterator[Ends]:
    """A client with an allocation at a server."""
    server = TurnServer.parse(url)
    transport, ends = await turn.create_turn_endpoint(
        Ends,
        server_addr=(server.host, server.port),
        username=server.username,
        password=server.credential if password is None else password,
    )
    try:
        yield ends
    finally:
        transport.close()


@contextlib.asynccontextmanager
async def peer() -> AsyncIterator[Ends]:
    """Somebody elsewhere."""
    loop = asyncio.get_running_loop()
    transport, ends = await loop.create_datagram_endpoint(Ends, local_addr=(HOST, 0))
    try:
        yield ends
    finally:
        transport.close()


async def test_packets_go_both_ways_through_the_server() -> None:
    async with Relay.running() as relay, client(relay.url) as near, peer() as far:
        near.transport.sendto(b"there", far.address)
        assert await far.next() == (b"there", near.address)
        far.transport.sendto(b"and back", near.address)
        assert (await near.next())[0] == b"and back"
        assert (relay.out, relay.back) == (1, 1)


async def test_who_has_no_channel_is_not_heard() -> None:
    async with (
        Relay.running() as relay,
        client(relay.url) as near,
        peer() as far,
        peer() as stranger,
    ):
        near.transport.sendto(b"there", far.address)
        await far.next()
        stranger.transport.sendto(b"listen", near.address)
        far.transport.sendto(b"and back", near.address)
        assert (await near.next())[0] == b"and back"
        assert relay.back == 1


async def test_a_wrong_password_is_refused_and_nonsense_is_passed_over() -> None:
    async with Relay.running() as relay:
        server = TurnServer.parse(relay.url)
        async with peer() as stranger:
            for nonsense in (b"", b"@", b"@@@@", b"\0\3" + b"\0" * 30, bytes(range(256))):
                stranger.transport.sendto(nonsense, (server.host, server.port))
        with pytest.raises(stun.TransactionFailed):
            async with client(relay.url, "wrong"):
                """Does not come to this."""
        async with client(relay.url) as near:
            assert near.address


async def test_what_a_client_gives_back_is_free() -> None:
    async with Relay.running() as relay:
        async with client(relay.url), client(relay.url):
            assert len(relay.allocations) == 2
        async with asyncio.timeout(WAIT_S):
            while relay.allocations:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)


async def test_a_stack_brings_one_of_its_own(tmp_path: Path) -> None:
    pool = PoolSpec(gpus=1, model=ModelCosts(chunk_ms=50))
    async with own_stack(StackOptions(pool, turn=True), tmp_path) as stack:
        async with client(stack.target.turn) as near, peer() as far:
            near.transport.sendto(b"there", far.address)
            assert await far.next() == (b"there", near.address)
        assert any("TURN" in note for note in stack.notes)
