"""Relays of the load harness over real sockets: all bytes come, changed by the network alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from random import Random

import pytest

from scheduler.scenario.load import Network
from sdk_adapters.harness.networks.link import Link
from sdk_adapters.harness.networks.relays import DatagramRelay, StreamRelay
from sdk_adapters.harness.networks.sdp import Address

pytestmark = pytest.mark.integration

HOST = "127.0.0.1"
WAIT_S = 20.0


def links(**changes: float) -> tuple[Link, Link]:
    """Both directions of a network."""
    network = Network.model_validate({"name": "n", "share": 1, **changes})
    return Link(network, Random(1)), Link(network, Random(2))


class Port(asyncio.DatagramProtocol):
    """A socket that keeps what comes."""

    def __init__(self) -> None:
        self.came: asyncio.Queue[tuple[bytes, Address]] = asyncio.Queue()
        self.transport: asyncio.DatagramTransport
        self.address: Address

    @classmethod
    async def open(cls) -> Port:
        """Opens one."""
        loop = asyncio.get_running_loop()
        transport, port = await loop.create_datagram_endpoint(cls, local_addr=(HOST, 0))
        port.transport = transport
        port.address = Address(*transport.get_extra_info("sockname")[:2])
        return port

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.came.put_nowait((data, Address(*addr[:2])))

    async def next(self) -> tuple[bytes, Address]:
        """Waits for a datagram."""
        async with asyncio.timeout(WAIT_S):
            return await self.came.get()


@contextlib.asynccontextmanager
async def relayed(up: Link, down: Link) -> AsyncIterator[tuple[Port, DatagramRelay, Port]]:
    """A user, a relay, and a service behind it."""
    user, service = await Port.open(), await Port.open()
    relay = DatagramRelay(HOST, up, down)
    await relay.open()
    relay.begin_with(user.address)
    relay.service = service.address
    try:
        yield user, relay, service
    finally:
        relay.close()
        user.transport.close()
        service.transport.close()


async def test_datagrams_go_both_ways_and_each_side_sees_the_relay() -> None:
    async with relayed(*links()) as (user, relay, service):
        user.transport.sendto(b"ping", relay.near)
        assert await service.next() == (b"ping", relay.far)
        service.transport.sendto(b"pong", relay.far)
        assert await user.next() == (b"pong", relay.near)


async def test_the_service_may_speak_first() -> None:
    async with relayed(*links()) as (user, relay, service):
        service.transport.sendto(b"check", relay.far)
        assert await user.next() == (b"check", relay.near)


async def test_every_address_of_the_user_has_a_port_of_its_own() -> None:
    async with relayed(*links()) as (user, relay, service):
        other = await Port.open()
        try:
            user.transport.sendto(b"one", relay.near)
            assert await service.next() == (b"one", relay.far)
            seen = Address(HOST, 0)
            while not seen.port:
                # The first one is what opens the port.
                other.transport.sendto(b"two", relay.near)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.2):
                        _, seen = await service.came.get()
            assert seen != relay.far
            service.transport.sendto(b"to two", seen)
            assert (await other.next())[0] == b"to two"
        finally:
            other.transport.close()


async def test_what_the_network_loses_does_not_come() -> None:
    up, down = links(loss=0.5)
    async with relayed(up, down) as (user, relay, service):
        for number in range(100):
            user.transport.sendto(bytes([number]), relay.near)
        user_done = 0
        while up.lost + user_done < 100:
            user_done += len([await service.next()])
        assert 20 < up.lost < 80


async def test_datagrams_take_the_delay_at_least() -> None:
    loop = asyncio.get_running_loop()
    async with relayed(*links(delay_ms=50)) as (user, relay, service):
        began = loop.time()
        user.transport.sendto(b"ping", relay.near)
        await service.next()
        service.transport.sendto(b"pong", relay.far)
        await user.next()
        assert loop.time() - began >= 0.1


async def test_before_the_service_is_known_nothing_is_carried() -> None:
    async with relayed(*links()) as (user, relay, service):
        relay.service = None
        user.transport.sendto(b"early", relay.near)
        relay.begin_with(user.address)
        service.transport.sendto(b"marker", relay.far)
        await user.next()
        relay.service = service.address
        user.transport.sendto(b"late", relay.near)
        assert (await service.next())[0] == b"late"


# -- streams -------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def echoing(up: Link, down: Link) -> AsyncIterator[tuple[StreamRelay, list[bytes]]]:
    """A service that answers what it is sent, turned round, once it is all there."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.read(-1)
        heard.append(data)
        writer.write(data[::-1])
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    port: int = server.sockets[0].getsockname()[1]
    relay = StreamRelay(HOST, port, up, down)
    try:
        yield relay, heard
    finally:
        await relay.close()
        server.close()


async def ask(relay: StreamRelay, data: bytes) -> bytes:
    """Sends, says that this was all, and waits for the answer."""
    host, _, port = relay.address.partition(":")
    async with asyncio.timeout(WAIT_S):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(data)
        writer.write_eof()
        answer = await reader.read(-1)
        writer.close()
        return answer


@pytest.mark.parametrize(
    "network", [{}, {"delay_ms": 20, "jitter_ms": 10, "loss": 0.05}, {"rate_kbit": 40_000}]
)
async def test_every_byte_comes_in_order_both_ways(network: dict[str, float]) -> None:
    data = Random(3).randbytes(300_000)
    async with echoing(*links(**network)) as (relay, heard):
        assert await ask(relay, data) == data[::-1]
        assert heard == [data]


async def test_more_than_may_be_under_way_is_carried_too() -> None:
    data = Random(4).randbytes(3 << 20)
    async with echoing(*links(delay_ms=30)) as (relay, _):
        assert await ask(relay, data) == data[::-1]


async def test_a_narrow_stream_takes_its_time() -> None:
    loop = asyncio.get_running_loop()
    async with echoing(*links(rate_kbit=8000)) as (relay, _):
        began = loop.time()
        await ask(relay, bytes(200_000))
        assert loop.time() - began >= 0.4, "200 kB up and down at 1 MB/s"


async def test_connections_are_apart() -> None:
    async with echoing(*links(delay_ms=5)) as (relay, _):
        answers = await asyncio.gather(*(ask(relay, bytes([each])) for each in range(8)))
        assert answers == [bytes([each]) for each in range(8)]


async def test_a_service_that_is_gone_ends_the_connection() -> None:
    port = await Port.open()
    port.transport.close()
    relay = StreamRelay(HOST, port.address.port, *links())
    try:
        with contextlib.suppress(ConnectionError):
            assert await ask(relay, b"hello") == b""
    finally:
        await relay.close()
