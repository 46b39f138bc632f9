"""Beginning, end and abuse of our WebRTC peers, against a plain aiortc client."""

from __future__ import annotations

import asyncio
import json
import random
import re
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import pylibsrtp
import pytest
from aiortc.rtp import RtpPacket

from gateway.ingress import DataChannel
from gateway.webrtc import ice
from gateway.webrtc.peer import AiortcPeers, PeerSettings
from gateway.webrtc.udp import BUFFER_BYTES
from gateway.webrtc.viewer import STATS_CHANNEL
from sana_gateway.v1 import media_pb2, session_pb2
from scheduler.core.errors import BadOfferError
from tests.fakes.hub import FakeHub
from tests.fakes.webrtc_client import (
    Client,
    RunningCamera,
    connect,
    encode,
    grey,
    joined,
    shows_a_picture_both_ways,
)

pytestmark = pytest.mark.integration


@pytest.fixture
def hub() -> FakeHub:
    return FakeHub()


@pytest.fixture
async def peers() -> AsyncIterator[AiortcPeers]:
    factory = AiortcPeers(PeerSettings(joins_per_second=1000))
    yield factory
    await factory.close()


# -- what must not hurt --------------------------------------------------------------------


async def test_garbage_from_strangers_does_not_end_a_call(hub: FakeHub, peers: AiortcPeers) -> None:
    async with joined(hub, peers) as call:
        noise = random.Random(7)
        candidates = re.findall(r"a=candidate:\S+ 1 udp \d+ (\S+) (\d+)", call.answer)
        host, port = next((host, int(port)) for host, port in candidates if "." in host)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for size in (0, 1, 2, 3, 12, 20, 64, 1200):
                for first in (*range(0, 256, 5), 20, 22, 23, 128, 144):
                    datagram = bytes([first]) + noise.randbytes(size) if size else b""
                    stranger.sendto(datagram, (host, port))
                    await asyncio.sleep(0)
        await shows_a_picture_both_ways(call)


async def test_garbage_from_the_client_does_not_end_a_call(
    hub: FakeHub, peers: AiortcPeers
) -> None:
    # Garbage breaks the camera's own picture: it must run on to recover with a keyframe.
    async with joined(hub, peers, camera=RunningCamera()) as call:
        await shows_a_picture_both_ways(call)
        noise = random.Random(11)
        known = [codec.payloadType for codec in call.client.pc.getTransceivers()[0]._codecs]
        for index in range(400):
            packet = RtpPacket(
                payload_type=noise.choice([*known, 127]),
                marker=index % 2,
                sequence_number=noise.randrange(1 << 16),
                timestamp=noise.randrange(1 << 32),
                ssrc=noise.choice([call.client.sender._ssrc ^ 1, noise.randrange(1 << 32)]),
                payload=noise.randbytes(noise.choice([0, 1, 2, 3, 20, 900])),
            )
            with suppress(pylibsrtp.Error):  # some are too wild for the sender's own SRTP
                await call.client.transport._send_rtp(packet.serialize())
            kind = noise.choice([200, 201, 202, 203, 205, 206])
            words = noise.randrange(1, 8)
            feedback = bytes([0x80 | noise.randrange(32), kind, 0, words])
            await call.client.transport._send_rtp(feedback + noise.randbytes(words * 4))
            await asyncio.sleep(0)
        receiver = call.peer._peer.getTransceivers()[0].receiver
        router = receiver.transport._rtp_router
        assert len(router.ssrc_table) <= 20
        await shows_a_picture_both_ways(call)


async def test_a_failure_of_our_own_over_one_frame_does_not_end_a_call(
    hub: FakeHub, peers: AiortcPeers, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with joined(hub, peers) as call:
        failed: list[int] = []

        def fail(_: object) -> None:
            failed.append(1)
            hub.changes.happened()
            raise ZeroDivisionError

        with monkeypatch.context() as patch:
            patch.setattr(call.connection, "camera", fail)
            call.client.camera.show(grey(50))
            await call.until(lambda: failed)
        await shows_a_picture_both_ways(call)


async def test_candidates_of_every_kind_are_tolerated(hub: FakeHub, peers: AiortcPeers) -> None:
    lines = [
        "",
        "garbage",
        "candidate:",
        "candidate:1 1 udp 2122260223 4f2c1e8a-1111.local 50000 typ host",
        "candidate:1 1 tcp 1518280447 192.0.2.7 9 typ host tcptype active",
        "candidate:1 2 udp 2122260223 192.0.2.7 50000 typ host",
        "candidate:1 1 udp nan 192.0.2.7 50000 typ host",
        "a=candidate:1 1 udp 2122260223 192.0.2.7 50000 typ host generation 0 ufrag abcd",
        "candidate:" + "9" * 5000,
    ]
    async with joined(hub, peers) as call:
        batch = [session_pb2.IceCandidate(candidate=line, sdp_mid="0") for line in lines]
        before = open_files()
        await call.peer.add_candidates(batch)
        assert open_files() == before, "a name of the client's network opens no mDNS socket"
        await call.peer.add_candidates([])
        flood = [
            session_pb2.IceCandidate(
                candidate=f"candidate:1 1 udp 1 192.0.2.7 {port} typ host", sdp_mid="nope"
            )
            for port in range(1000, 1500)
        ]
        await call.peer.add_candidates(flood)
        transport = call.peer._peer.getTransceivers()[0].receiver.transport.transport
        assert len(transport.getRemoteCandidates()) <= 64
        await shows_a_picture_both_ways(call)
        await call.peer.close()
        await call.peer.add_candidates(batch)


async def test_a_client_that_only_trickles_is_connected(hub: FakeHub, peers: AiortcPeers) -> None:
    def without(sdp: str) -> str:
        kept = (line for line in sdp.splitlines() if not line.startswith("a=candidate"))
        return "\r\n".join(kept) + "\r\n"

    async with joined(hub, peers, edit=without) as call:
        await shows_a_picture_both_ways(call)


@pytest.mark.parametrize(
    "edit",
    [
        lambda _: "garbage",
        lambda _: "",
        lambda sdp: sdp.split("m=")[0],
        lambda sdp: sdp.replace("VP8/90000", "AV1/90000").replace("H264/90000", "VP9/90000"),
        lambda sdp: sdp.replace("a=ice-pwd", "a=x-nothing"),
        lambda sdp: sdp.replace("a=setup:actpass", "a=setup:perhaps"),
        lambda sdp: sdp.replace("a=fingerprint", "a=x-nothing"),
        lambda sdp: sdp + "a=x" * 100_000,
    ],
    ids=["text", "empty", "no-media", "codecs", "no-ice", "setup", "no-fingerprint", "long"],
)
async def test_a_bad_offer_is_refused_and_leaves_nothing(
    hub: FakeHub, peers: AiortcPeers, edit: Callable[[str], str]
) -> None:
    client, connection = Client.new(hub), await connect(hub)
    sdp, tracks = await client.offer()
    ended: list[str] = []
    with pytest.raises(BadOfferError):
        await peers.answer(connection, edit(sdp), tracks, on_closed=lambda: ended.append("closed"))
    assert ended == []
    assert peers.statistics.peers == 0
    assert all(subscription.closed for subscription in connection.subscriptions)
    await client.close()


async def test_an_offer_without_the_sessions_tracks_is_refused(
    hub: FakeHub, peers: AiortcPeers
) -> None:
    client, connection = Client.new(hub), await connect(hub)
    sdp, _ = await client.offer()
    with pytest.raises(BadOfferError):
        await peers.answer(connection, sdp, {"0": "unknown"}, on_closed=lambda: None)
    await client.close()


# -- beginning and end ---------------------------------------------------------------------


async def test_data_channels_carry_text_and_bytes_both_ways(
    hub: FakeHub, peers: AiortcPeers
) -> None:
    opened: dict[str, DataChannel] = {}
    received: list[str | bytes] = []
    answers: list[str | bytes] = []
    closed: list[str] = []

    class Handler:
        def opened(self, channel: DataChannel) -> None:
            opened[channel.label] = channel
            channel.set_closed(lambda: closed.append(channel.label))
            hub.changes.happened()

    def with_channels(client: Client) -> None:
        for label in ("control", "data"):
            channel = client.pc.createDataChannel(label)
            channel.on("message", lambda data: (answers.append(data), hub.changes.happened()))
            channel.on("open", lambda channel=channel: channel.send(f"hello {channel.label}"))

    async with joined(hub, peers, channels=Handler(), prepare=with_channels) as call:
        await call.until(lambda: len(opened) == 2)
        for channel in opened.values():
            channel.set_handler(lambda data: (received.append(data), hub.changes.happened()))
        await call.until(lambda: sorted(received) == ["hello control", "hello data"])
        opened["data"].send("text")
        opened["data"].send(b"bytes")
        await call.until(lambda: answers == ["text", b"bytes"])
        assert opened["data"].buffered_amount >= 0
    assert sorted(closed) == ["control", "data"]
    opened["data"].send("nobody there")


async def test_data_channels_that_nobody_takes_are_refused(
    hub: FakeHub, peers: AiortcPeers
) -> None:
    closed: list[str] = []

    def with_channel(client: Client) -> None:
        channel = client.pc.createDataChannel("data")
        channel.on("close", lambda: (closed.append("data"), hub.changes.happened()))

    async with joined(hub, peers, prepare=with_channel) as call:
        await call.until(lambda: closed == ["data"])


async def test_a_stats_channel_tells_the_viewer_of_its_picture_and_no_wire(
    hub: FakeHub, peers: AiortcPeers
) -> None:
    told: list[str] = []
    wires: list[str] = []

    class Handler:
        def opened(self, channel: DataChannel) -> None:
            wires.append(channel.label)
            hub.changes.happened()

    def with_channels(client: Client) -> None:
        for label in (STATS_CHANNEL, "data"):
            channel = client.pc.createDataChannel(label)
            channel.on("message", lambda data: (told.append(data), hub.changes.happened()))
            channel.on("open", lambda channel=channel: channel.send("hello"))

    async with joined(hub, peers, channels=Handler(), prepare=with_channels) as call:
        await call.until(lambda: wires == ["data"])
        viewer = call.subscription.viewer
        await call.until(lambda: viewer.on_stats is not None)
        viewer.stats(media_pb2.ViewerStats(run=3, chunk=4, late_us=5))
        await call.until(lambda: told)
        assert json.loads(told[0]).items() >= {"run": 3, "chunk": 4, "lateUs": "5"}.items()
    viewer.stats(media_pb2.ViewerStats(run=3))


async def test_a_client_may_ask_for_statistics_where_no_wire_takes_channels(
    hub: FakeHub, peers: AiortcPeers
) -> None:
    def with_channel(client: Client) -> None:
        client.pc.createDataChannel(STATS_CHANNEL)

    async with joined(hub, peers, prepare=with_channel) as call:
        viewer = call.subscription.viewer
        while viewer.on_stats is None:
            await shows_a_picture_both_ways(call)


async def test_a_client_that_leaves_ends_its_peer_once(hub: FakeHub, peers: AiortcPeers) -> None:
    async with joined(hub, peers) as call:
        await call.client.close()
        await call.until(lambda: call.ended == ["closed"])
        assert call.subscription.closed
        await call.peer.close()
        assert call.ended == ["closed"]
        assert not call.connection.closed


async def test_a_client_that_never_connects_is_given_up(hub: FakeHub) -> None:
    peers = AiortcPeers(PeerSettings(connect_timeout_s=0.05))
    client, connection = Client.new(hub), await connect(hub)
    sdp, tracks = await client.offer()
    ended = asyncio.Event()
    await peers.answer(connection, sdp, tracks, on_closed=ended.set)
    async with asyncio.timeout(30):
        await ended.wait()
    assert peers.statistics.peers == 0
    await client.close()


async def test_peers_that_come_and_go_leave_no_socket_task_or_thread(
    hub: FakeHub, peers: AiortcPeers
) -> None:
    async def come_and_go() -> None:
        async with joined(hub, peers) as call:
            await shows_a_picture_both_ways(call)

    await come_and_go()
    before = (open_files(), len(asyncio.all_tasks()))
    threads = receive_threads()
    for _ in range(20):
        await come_and_go()
    async with asyncio.timeout(30):
        while len(asyncio.all_tasks()) > before[1] or open_files() > before[0]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # the end of a task elsewhere is no event of ours
    assert receive_threads() == threads == []
    assert peers.statistics.peers == 0
    assert peers.statistics.connected == 21


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def receive_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "decoder" in thread.name]


async def test_no_decoder_runs_for_the_camera(hub: FakeHub, peers: AiortcPeers) -> None:
    async with joined(hub, peers) as call:
        await shows_a_picture_both_ways(call)
        # The client, in the same process, decodes main_video in a thread of its own.
        assert len(receive_threads()) == 1


@pytest.mark.parametrize("moving", [True, False], ids=["moving", "still"])
async def test_a_killed_client_is_noticed_by_its_host(
    hub: FakeHub, peers: AiortcPeers, moving: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It must be the refusal that tells, not the silence.
    monkeypatch.setattr(ice, "SILENCE_S", 60.0)
    async with joined(hub, peers) as call:
        await shows_a_picture_both_ways(call)
        for protocol in call.client.transport.transport._connection._protocols:
            protocol.transport.abort()
        frames = encode(call.subscription.codec, 1)
        async with asyncio.timeout(30):
            while call.ended == []:
                if moving:
                    await call.show(frames[0])
                await asyncio.sleep(0.01)  # frames are shown at times of their own
        assert peers.statistics.lost_refused == 1


async def test_a_client_that_falls_silent_is_given_up(
    hub: FakeHub, peers: AiortcPeers, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with joined(hub, peers) as call:
        await shows_a_picture_both_ways(call)
        monkeypatch.setattr(ice, "SILENCE_S", 1.0)
        for protocol in call.client.transport.transport._connection._protocols:
            protocol.transport.sendto = lambda *_: None
        await call.until(lambda: call.ended == ["closed"])
        assert peers.statistics.lost_silent == 1


async def test_a_client_that_only_answers_is_kept(
    hub: FakeHub, peers: AiortcPeers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A viewer whose picture holds sends next to nothing: it is asked, and that suffices."""
    async with joined(hub, peers) as call:
        connection = call.peer._peer.getTransceivers()[0].receiver.transport.ice
        asked: list[float] = []
        ask = connection.liveness.consented
        monkeypatch.setattr(ice, "QUIET_S", 0.02)
        monkeypatch.setattr(ice, "ASK_INTERVAL_S", 0.02)

        def consented(now: float) -> None:
            asked.append(now)
            ask(now)
            hub.changes.happened()

        connection.liveness.consented = consented
        connection.liveness.heard = lambda _: None
        await call.until(lambda: len(asked) > 10)
        assert call.ended == []


async def test_no_stun_server_is_asked_unless_configured(hub: FakeHub, peers: AiortcPeers) -> None:
    async with joined(hub, peers) as call:
        assert "typ srflx" not in call.answer
        gatherer = call.peer._peer.getTransceivers()[0].receiver.transport.transport.iceGatherer
        assert gatherer._connection.stun_server is None


async def test_sockets_hold_a_burst(hub: FakeHub, peers: AiortcPeers) -> None:
    async with joined(hub, peers) as call:
        transport = call.peer._peer.getTransceivers()[0].receiver.transport.transport
        for protocol in transport._connection._protocols:
            udp = protocol.transport.get_extra_info("socket")
            limit = int(Path("/proc/sys/net/core/rmem_max").read_text())
            expected = min(BUFFER_BYTES, limit)
            assert udp.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= expected
