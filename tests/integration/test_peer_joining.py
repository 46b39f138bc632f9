"""Joining our WebRTC peers: its limits, its ports, the ICE servers it uses."""

from __future__ import annotations

import asyncio
import gc
import re
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from aioice import stun

from gateway.webrtc import peer
from gateway.webrtc.aiortc_adapter import transport
from gateway.webrtc.peer import AiortcPeers, IceServer, PeerSettings
from scheduler.core.errors import LimitError
from tests.fakes.hub import FakeHub
from tests.fakes.webrtc_client import (
    Client,
    RunningCamera,
    connect,
    joined,
    shows_a_picture_both_ways,
)

pytestmark = pytest.mark.integration

Offered = tuple[str, dict[str, str]]


@pytest.fixture
def hub() -> FakeHub:
    return FakeHub()


@pytest.fixture
async def peers() -> AsyncIterator[AiortcPeers]:
    factory = AiortcPeers(PeerSettings(joins_per_second=1000))
    yield factory
    await factory.close()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# -- limits ------------------------------------------------------------------------------


async def test_no_more_peers_than_allowed(hub: FakeHub) -> None:
    peers = AiortcPeers(PeerSettings(max_peers=1))
    async with joined(hub, peers):
        client = Client.new(hub)
        sdp, tracks = await client.offer()
        with pytest.raises(LimitError):
            await peers.answer(await connect(hub), sdp, tracks, on_closed=lambda: None)
        await client.close()
    async with joined(hub, peers):
        assert peers.statistics.peers == 1


async def test_joins_that_come_too_fast_are_refused_with_a_time_to_come_back(hub: FakeHub) -> None:
    peers = AiortcPeers(PeerSettings(joins_per_second=0.1))
    async with joined(hub, peers):
        client = Client.new(hub)
        sdp, tracks = await client.offer()
        with pytest.raises(LimitError) as refused:
            await peers.answer(await connect(hub), sdp, tracks, on_closed=lambda: None)
        assert refused.value.retry_after_s is not None
        assert 0 < refused.value.retry_after_s <= 10
        await client.close()


async def half_open(hub: FakeHub, peers: AiortcPeers, offer: Offered) -> list[str]:
    """A join that is answered and never goes on; returns what becomes of it."""
    ended: list[str] = []

    def on_closed() -> None:
        ended.append("closed")
        hub.changes.happened()

    await peers.answer(await connect(hub), *offer, on_closed=on_closed)
    return ended


async def test_peers_that_do_not_connect_make_room_oldest_first(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers = AiortcPeers(PeerSettings(joins_per_second=1000, max_half_open=2))
    client = Client.new(hub)
    offer = await client.offer()
    first, second = [await half_open(hub, peers, offer) for _ in range(2)]
    with pytest.raises(LimitError) as refused:
        await half_open(hub, peers, offer)
    assert refused.value.retry_after_s == pytest.approx(peer.HALF_OPEN_GRACE_S, abs=2)
    assert peers.statistics.joins_refused == 1
    monkeypatch.setattr(peer, "HALF_OPEN_GRACE_S", 0.0)
    async with joined(hub, peers) as call:
        assert first == ["closed"]
        assert second == []
        await shows_a_picture_both_ways(call)
        assert peers.statistics.half_open == 1
    await peers.close()
    assert (peers.statistics.peers, peers.statistics.half_open) == (0, 0)
    assert peers.statistics.half_open_evicted == 1
    await client.close()


async def test_a_flood_of_joins_that_never_finish_locks_nobody_out(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer, "HALF_OPEN_GRACE_S", 1.5)
    peers = AiortcPeers(PeerSettings(joins_per_second=300, max_half_open=8))
    client = Client.new(hub)
    offer = await client.offer()
    refused, over = 0, asyncio.Event()

    async def attack() -> None:
        nonlocal refused
        while not over.is_set():
            try:
                await half_open(hub, peers, offer)
            except LimitError:
                refused += 1
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), 0.02)

    async def come_in() -> None:
        """Joins as a client does: refused, it comes back when it was told to."""
        while True:
            try:
                async with joined(hub, peers) as other:
                    return await shows_a_picture_both_ways(other)
            except LimitError as error:
                await asyncio.sleep(error.retry_after_s or 0.1)

    async with joined(hub, peers, camera=RunningCamera()) as call:
        attackers = [asyncio.ensure_future(attack()) for _ in range(4)]
        await shows_a_picture_both_ways(call)
        async with asyncio.timeout(60):
            await come_in()
        over.set()
        await asyncio.gather(*attackers)
        assert refused > 0
        assert peers.statistics.half_open <= 8
        await shows_a_picture_both_ways(call)
    await peers.close()
    assert peers.statistics.peers == 0
    await client.close()


@pytest.mark.parametrize("joins", [100, pytest.param(1000, marks=pytest.mark.slow)])
async def test_joins_that_never_finish_leave_nothing(
    hub: FakeHub, peers: AiortcPeers, joins: int
) -> None:
    client = Client.new(hub)
    offer = await client.offer()

    async def come_and_go() -> None:
        connection = await connect(hub)
        made, _ = await peers.answer(connection, *offer, on_closed=lambda: None)
        await made.close()
        connection.close()
        hub.sessions.clear()

    for _ in range(300):
        await come_and_go()  # until the allocators hold what they hold for good
    gc.collect()
    before, tasks, resident = open_files(), len(asyncio.all_tasks()), resident_bytes()
    for _ in range(joins):
        await come_and_go()
    gc.collect()
    async with asyncio.timeout(30):
        while len(asyncio.all_tasks()) > tasks or open_files() > before:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # the end of a task elsewhere is no event of ours
    assert resident_bytes() - resident < 100 * 50_000, "ten times as many take no more"
    await client.close()


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


# -- ports and ICE servers -----------------------------------------------------------------


async def test_peers_keep_to_their_ports_and_say_when_there_are_none(hub: FakeHub) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        probe.bind(("::", 0))
        port = probe.getsockname()[1]
    peers = AiortcPeers(PeerSettings(joins_per_second=1000, udp_ports=(port, port)))
    async with joined(hub, peers) as call:
        offered = re.findall(r"a=candidate:\S+ 1 udp \d+ \S+ (\d+)", call.answer)
        assert offered
        assert set(offered) == {str(port)}
        await shows_a_picture_both_ways(call)
        client = Client.new(hub)
        with pytest.raises(LimitError, match="UDP ports") as refused:
            await peers.answer(await connect(hub), *await client.offer(), on_closed=lambda: None)
        assert refused.value.retry_after_s
        assert peers.statistics.peers == 1
        await client.close()
    async with joined(hub, peers) as call:
        await shows_a_picture_both_ways(call)
    await peers.close()


class StunServer(asyncio.DatagramProtocol):
    """Answers binding requests as long as it lives."""

    alive = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self.alive:
            request = stun.parse_message(data)
            answer = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, request.transaction_id)
            answer.attributes["XOR-MAPPED-ADDRESS"] = ("198.51.100.1", 4321)
            self.transport.sendto(bytes(answer), addr)


async def test_only_ice_servers_that_answer_are_used_and_named(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    server = StunServer()
    listening, _ = await loop.create_datagram_endpoint(lambda: server, local_addr=("0.0.0.0", 0))
    living = IceServer((f"stun:127.0.0.1:{listening.get_extra_info('sockname')[1]}",))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        dead = IceServer((f"stun:127.0.0.1:{deaf.getsockname()[1]}",))
        peers = AiortcPeers(PeerSettings(ice_servers=(dead, living), joins_per_second=1000))
        assert peers.ice_servers() == ()
        async with joined(hub, peers) as call:
            assert "typ srflx" not in call.answer
        await peers._servers.probed()
        assert peers.ice_servers() == (living,)
        async with joined(hub, peers) as call:
            assert "198.51.100.1 4321 typ srflx" in call.answer
            await shows_a_picture_both_ways(call)
        server.alive = False
        monkeypatch.setattr(transport, "REFLEXIVE_TIMEOUT_S", 0.01)
        async with joined(hub, peers) as call:
            assert "typ srflx" not in call.answer
    before = len(asyncio.all_tasks())
    await peers.close()
    assert len(asyncio.all_tasks()) == before - 1
    listening.close()
