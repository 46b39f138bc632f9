"""What a client, or bad luck, may do to us: others are unharmed, nothing grows, all comes back."""

from __future__ import annotations

import asyncio
import gc
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiortc.rtcdtlstransport import State
from aiortc.rtcsctptransport import SCTP_DATA_FIRST_FRAG, DataChunk

from gateway.child_process import ChildProcess
from gateway.collecting import spare_what_is_loaded
from gateway.front_door import workers as workers_module
from gateway.front_door.routing import METHODS
from gateway.front_door.workers import MediaWorkers
from gateway.grpc_api.commands import ID_LENGTH
from gateway.ingress import DataChannel
from gateway.settings import GatewaySettings
from gateway.webrtc import peer as peer_module
from gateway.webrtc.aiortc_adapter import messages, transport
from gateway.webrtc.channels import MAX_CHANNELS
from gateway.webrtc.peer import AiortcPeers, PeerSettings
from model_actor.stream_server import CONTROL_QUEUE
from model_actor.stream_server import Link as GatewayLink
from sana_gateway.v1 import command_pb2, session_pb2
from sana_gateway_internal.v1 import stream_pb2
from tests.fakes.changes import Changes
from tests.fakes.gateway_parts import Ear
from tests.fakes.hub import FakeHub
from tests.fakes.webrtc_client import Client, Joined, connect, joined, shows_a_picture_both_ways
from tests.unit.gateway.test_session import VP8, Bench

pytestmark = pytest.mark.integration


@pytest.fixture
def hub() -> FakeHub:
    return FakeHub()


@pytest.fixture
async def peers() -> AsyncIterator[AiortcPeers]:
    factory = AiortcPeers(PeerSettings(joins_per_second=1000))
    yield factory
    await factory.close()


# -- data channels ----------------------------------------------------------------------------


def with_channel(client: Client) -> None:
    client.pc.createDataChannel("data").on("open", client.hub.changes.happened)


def sctp_of(call: Joined) -> Any:
    assert call.peer._peer is not None
    return call.peer._peer.sctp


def ours(call: Joined) -> Any:
    """Our end's transport."""
    assert call.peer._peer is not None
    return call.peer._peer.getTransceivers()[0].receiver.transport


async def established(call: Joined) -> Any:
    await call.until(lambda: sctp_of(call).state == "connected")
    return sctp_of(call)


def part(tsn: int, *, stream: int = 0, first: bool = False, size: int = 1000) -> DataChunk:
    chunk = DataChunk(flags=SCTP_DATA_FIRST_FRAG if first else 0)
    chunk.tsn, chunk.stream_id, chunk.user_data = tsn & 0xFFFFFFFF, stream, bytes(size)
    return chunk


def waiting(sctp: Any) -> int:
    return sum(len(stream.reassembly) for stream in sctp._inbound_streams.values())


@pytest.mark.parametrize("size", [1, 1100])
async def test_a_message_without_end_does_not_grow(
    hub: FakeHub, peers: AiortcPeers, size: int
) -> None:
    async with joined(hub, peers, prepare=with_channel) as call:
        sctp = await established(call)
        begin = sctp._last_received_tsn + 1
        for number in range(3000):
            await sctp._receive_chunk(part(begin + number, first=not number, size=size))
        assert waiting(sctp) <= messages.MAX_PARTS
        await shows_a_picture_both_ways(call)


async def test_parts_behind_a_gap_do_not_grow_and_the_gap_can_be_closed(
    hub: FakeHub, peers: AiortcPeers
) -> None:
    async with joined(hub, peers, prepare=with_channel) as call:
        sctp = await established(call)
        begin = sctp._last_received_tsn + 1
        for number in range(1, 3000):
            await sctp._receive_chunk(part(begin + number, size=1))
            await sctp._receive_chunk(part(begin + number * 1000, size=1))
        assert waiting(sctp) <= messages.MAX_PARTS
        assert len(sctp._sack_misordered) <= messages.MAX_PARTS
        await sctp._receive_chunk(part(begin, first=True))
        assert sctp._last_received_tsn >= begin
        assert waiting(sctp) <= messages.MAX_PARTS + 1


async def test_a_client_sends_on_so_many_streams_and_no_more(
    hub: FakeHub, peers: AiortcPeers
) -> None:
    async with joined(hub, peers, prepare=with_channel) as call:
        sctp = await established(call)
        begin = sctp._last_received_tsn + 1
        for number in range(1000):
            await sctp._receive_chunk(part(begin + number, stream=number, first=True, size=1))
        assert len(sctp._inbound_streams) <= messages.MAX_STREAMS


# -- peers ------------------------------------------------------------------------------------


async def test_a_client_opens_so_many_channels_and_no_more(
    hub: FakeHub, peers: AiortcPeers
) -> None:
    taken: list[str] = []
    closed: list[str] = []

    class Handler:
        def opened(self, channel: DataChannel) -> None:
            taken.append(channel.label)
            hub.changes.happened()

    def with_many(client: Client) -> None:
        for number in range(MAX_CHANNELS + 4):
            channel = client.pc.createDataChannel(str(number))
            label = channel.label
            channel.on("close", lambda label=label: (closed.append(label), hub.changes.happened()))

    async with joined(hub, peers, channels=Handler(), prepare=with_many) as call:
        await call.until(lambda: len(taken) + len(closed) == MAX_CHANNELS + 4)
        assert len(taken) == MAX_CHANNELS
        assert not set(taken) & set(closed)


async def test_a_client_that_vanishes_while_it_is_told_something_is_no_error(
    hub: FakeHub, peers: AiortcPeers
) -> None:
    async with joined(hub, peers, prepare=with_channel) as call:
        sctp = await established(call)
        ours(call)._set_state(State.CLOSED)
        await sctp._send_chunk(part(1))


@pytest.mark.parametrize("fault", ["hangs", "fails"])
async def test_a_peer_that_does_not_close_gives_its_place_and_its_sockets_back(
    hub: FakeHub, peers: AiortcPeers, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(peer_module, "CLOSE_TIMEOUT_S", 0.05)

    calls = 0

    async def close() -> None:
        nonlocal calls
        calls += 1
        if fault == "hangs":
            await asyncio.Event().wait()
        if calls == 1:
            raise RuntimeError(fault)

    async with joined(hub, peers) as call:
        assert call.peer._peer is not None
        protocols = ours(call).ice._protocols
        sockets: list[socket.socket] = [
            each.transport.get_extra_info("socket") for each in protocols
        ]
        monkeypatch.setattr(call.peer._peer, "close", close)
        await call.peer.close()
        assert call.ended == ["closed"]
        assert [each.fileno() for each in sockets] == [-1] * len(sockets)
        assert peers.statistics.peers == 0
        monkeypatch.undo()


async def test_a_client_that_reports_without_end_is_heard_in_part(
    hub: FakeHub, peers: AiortcPeers
) -> None:
    async with joined(hub, peers) as call:
        before = peers.statistics.datagrams_dropped
        # Of what was lost of a stream that is not ours; each names 300 packets.
        header = b"\x81\xcd" + (302).to_bytes(2, "big") + bytes(8)
        report = header + b"".join(
            (17 * each).to_bytes(2, "big") + b"\xff\xff" for each in range(300)
        )
        for _ in range(100):
            await ours(call)._handle_rtcp_data(report)
        heard = 100 - (peers.statistics.datagrams_dropped - before)
        assert 0 < heard <= transport.RTCP_BURST // len(report) + 1
        await shows_a_picture_both_ways(call)


async def test_a_stranger_cannot_end_a_handshake(hub: FakeHub, peers: AiortcPeers) -> None:
    alert = b"\x15\xfe\xfd\0\0\0\0\0\0\0\0\0\x02\x02\x28"
    client, connection = Client.new(hub), await connect(hub)
    sdp, tracks = await client.offer()
    peer, answer = await peers.answer(connection, sdp, tracks, on_closed=lambda: None)
    ports = re.findall(r"a=candidate:\S+ 1 udp \d+ (\S+) (\d+) typ host", answer)

    async def shout() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            while True:
                for host, port in ports:
                    if ":" not in host:
                        stranger.sendto(alert, (host, int(port)))
                await asyncio.sleep(0)

    shouting = asyncio.create_task(shout())
    try:
        async with asyncio.timeout(30):
            await client.accept(answer)
    finally:
        shouting.cancel()
        await peer.close()
        await client.close()


# -- sessions ---------------------------------------------------------------------------------


async def test_a_viewer_that_is_told_late_of_its_end_is_given_nothing_any_more() -> None:
    bench, ear = Bench(), Ear()
    bench.place()
    connection, _ = bench.session.connect(ear)
    subscription = connection.subscribe([VP8], ear)
    subscription.pause()
    connection.close()
    subscription.resume()
    assert [each.wanted for each in bench.link.of("output")] == [True, False]


async def test_a_viewer_that_fails_costs_nobody_else_the_picture() -> None:
    class Broken(Ear):
        def frame(self, frame: Any) -> None:
            raise RuntimeError("a fault of ours")

    bench, broken, whole = Bench(), Broken(), Ear()
    bench.place()
    for ear in (broken, whole):
        bench.session.connect(ear)[0].subscribe([VP8], ear)
    bench.chunk(1, 3)
    for number in range(3):
        bench.packet(1, number, key=number == 0)
    await bench.link.changes.until(lambda: bench.link.of("commit"))
    assert [each.frame for each in whole.frames] == [0, 1, 2]


async def test_a_command_that_is_too_long_reaches_its_actor_as_a_short_one() -> None:
    bench, ear = Bench(), Ear()
    bench.place()
    connection, _ = bench.session.connect(ear)
    prompt = command_pb2.SetPrompt(prompt="x" * 4_000_000)
    connection.command(command_pb2.Command(command_id="c1", set_prompt=prompt))
    (sent,) = bench.link.of("command")
    assert sent.ByteSize() < 500
    assert (sent.invalid.command_id, sent.invalid.name) == ("c1", "set_prompt")


def test_a_gateway_that_does_not_read_is_told_nothing_after_its_end() -> None:
    link = GatewayLink("g1")

    async def flood() -> None:
        for _ in range(CONTROL_QUEUE + 100):
            link.control(stream_pb2.ControlResponse())

    asyncio.run(flood())
    assert len(link._control) == CONTROL_QUEUE


def test_a_front_door_keeps_no_more_of_an_id_than_tells_that_it_is_too_long() -> None:
    method = METHODS["/sana_gateway.v1.SessionService/CreateSession"]
    request = session_pb2.CreateSessionRequest(request_id="x" * 4_000_000)
    assert len(method.route(request.SerializeToString()).key) == ID_LENGTH + 1


# -- processes --------------------------------------------------------------------------------


async def test_a_worker_that_cannot_be_started_just_now_is_started_later(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(workers_module, "MODULE", "tests.fakes.media_worker")
    monkeypatch.setattr(workers_module, "FIRST_PAUSE_S", 0.01)
    changes = Changes()
    workers = MediaWorkers(GatewaySettings(media_workers=1), changes.happened)
    await workers.start(tmp_path)
    running = asyncio.create_task(workers.run())
    (worker,) = workers.all
    start, refusals = ChildProcess.start, iter([True, True])

    async def refused(*arguments: Any) -> Any:
        if next(refusals, False):
            raise OSError(24, "too many open files")
        return await start(*arguments)

    try:
        monkeypatch.setattr(ChildProcess, "start", refused)
        assert worker.child is not None
        worker.child._process.kill()
        await changes.until(lambda: worker.backend is None)
        await changes.until(lambda: worker.backend is not None, 30.0)
        assert not running.done()
    finally:
        running.cancel()
        await workers.stop()


def test_what_is_loaded_is_gone_through_once_and_not_in_the_middle_of_a_video() -> None:
    before = gc.get_freeze_count()
    spare_what_is_loaded()
    try:
        assert gc.get_freeze_count() > before + 10_000
        assert len(gc.get_objects()) < 10_000
    finally:
        gc.unfreeze()
