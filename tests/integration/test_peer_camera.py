"""Cameras of every kind, from plain aiortc publishers to whole encoded frames at the hub."""

from __future__ import annotations

import asyncio
import fractions
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import av
import pytest
from aiortc.rtp import RTP_HISTORY_SIZE, is_rtcp

from gateway.webrtc.aiortc_adapter import receiving
from gateway.webrtc.peer import AiortcPeers, PeerSettings
from tests.fakes.hub import FakeHub
from tests.fakes.webrtc_client import (
    H264,
    VP8,
    Camera,
    Client,
    Joined,
    RunningCamera,
    Sink,
    decode,
    grey,
    joined,
    level_at,
    level_of,
)

pytestmark = pytest.mark.integration

CODECS = pytest.mark.parametrize("codec", [H264, VP8], ids=["h264", "vp8"])


@pytest.fixture
def hub() -> FakeHub:
    return FakeHub()


@pytest.fixture
async def peers() -> AsyncIterator[AiortcPeers]:
    factory = AiortcPeers(PeerSettings(joins_per_second=1000))
    yield factory
    await factory.close()


async def shown(call: Joined, *levels: int) -> None:
    """Shows pictures, each when the one before has arrived."""
    for level in levels:
        seen = len(call.frames)
        call.client.camera.show(grey(level))
        await call.until(lambda seen=seen: len(call.frames) > seen)


# -- what cameras send ---------------------------------------------------------------------


class EncodedCamera(Camera):
    """A track that the test gives encoded frames to."""

    def send(self, packet: av.Packet) -> None:
        self._pictures.put_nowait(packet)  # type: ignore[arg-type]


def encoded(slices: int, pictures: int) -> Iterator[av.Packet]:
    """H.264 in several slices a frame, as hardware encoders make it."""
    context = av.CodecContext.create("libx264", "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt = 640, 352, "yuv420p"
    context.time_base, context.thread_count = fractions.Fraction(1, 90_000), 1
    context.options = {
        "preset": "ultrafast",
        "tune": "zerolatency",
        "profile": "baseline",
        "x264-params": f"sliced-threads=0:slices={slices}:repeat-headers=1:keyint=10",
    }
    for index in range(pictures):
        picture = grey(level_at(index), 640, 352, noise=30)
        picture.pts, picture.time_base = index * 3000, context.time_base
        yield from context.encode(picture)


async def test_frames_of_many_slices_with_aggregated_parameter_sets_arrive_whole(
    hub: FakeHub, peers: AiortcPeers
) -> None:
    camera = EncodedCamera()
    async with joined(hub, peers, codec=H264, camera=camera) as call:
        sent = []
        for index, packet in enumerate(encoded(4, 20)):
            sent.append(bytes(packet))
            camera.send(packet)
            await call.until(lambda index=index: len(call.frames) == index + 1)
    assert [frame.keyframe for frame in call.frames] == [index % 10 == 0 for index in range(20)]
    slices = re.findall(rb"\x00\x00\x01[\x41\x61\x01\x21]", call.frames[1].data)
    assert len(slices) == 4
    levels = [level_of(picture) for picture in decode(call.frames)]
    assert levels == [
        level_of(picture) for picture in decode([_like(call.frames[0], data) for data in sent])
    ]


def _like(frame: Any, data: bytes) -> Any:
    return type(frame)(**{**{name: getattr(frame, name) for name in frame.__slots__}, "data": data})


async def test_a_browser_that_prefers_high_profile_sends_what_we_decode(
    hub: FakeHub, peers: AiortcPeers
) -> None:
    """Safari and Chrome list 640c1f and 64001f beside 42e01f, and several modes of each."""

    def browsers(sdp: str) -> str:
        high = "".join(
            f"a=rtpmap:{number} H264/90000\r\na=rtcp-fb:{number} nack pli\r\n"
            f"a=fmtp:{number} level-asymmetry-allowed=1;packetization-mode={mode};"
            f"profile-level-id={profile}\r\n"
            for number, mode, profile in ((120, 1, "640c1f"), (121, 0, "42e01f"))
        )
        session, camera, video, *rest = re.split(r"(?=m=)", sdp)
        camera = re.sub(r"(m=video \d+ \S+) ", r"\1 120 121 ", camera) + high
        return "".join((session, camera, video, *rest))

    async with joined(hub, peers, codec=H264, edit=browsers) as call:
        camera = re.split(r"(?=m=)", call.answer)[1]
        profiles = re.findall(r"profile-level-id=(\w+)", camera)
        assert profiles
        assert set(profiles) <= {"42e01f", "42001f"}
        await shown(call, 60, 90)
    assert {frame.codec for frame in call.frames} == {H264}


@pytest.mark.parametrize("rate", [10, 24, 60])
async def test_any_frame_rate_keeps_its_time(hub: FakeHub, peers: AiortcPeers, rate: int) -> None:
    async with joined(hub, peers) as call:
        for index in range(12):
            picture = grey(60)
            call.client.camera.show(picture)
            picture.pts = index * 1_000_000 // rate
            await call.until(lambda index=index: len(call.frames) == index + 1)
    assert [frame.timestamp_us for frame in call.frames] == pytest.approx(
        [index * 1_000_000 // rate for index in range(12)], abs=20
    )


@CODECS
async def test_a_muted_camera_goes_on_where_it_stopped(
    hub: FakeHub, peers: AiortcPeers, codec: int
) -> None:
    async with joined(hub, peers, codec=codec) as call:
        await shown(call, 60, 70)
        # Browsers send black while a track is disabled, and nothing once it is muted; a
        # network may bring what follows in one burst.
        await shown(call, 16, 16)
        call.client.camera._count += 60 * 24
        await shown(call, 80)
        for level in (90, 100, 110):
            call.client.camera.show(grey(level))
        await call.until(lambda: len(call.frames) == 8)
    levels = [level_of(picture) for picture in decode(call.frames)]
    assert levels == pytest.approx([60, 70, 16, 16, 80, 90, 100, 110], abs=3)
    assert not any(frame.discontinuity for frame in call.frames)


@CODECS
async def test_another_track_in_the_cameras_place_is_taken_as_it_comes(
    hub: FakeHub, peers: AiortcPeers, codec: int
) -> None:
    async with joined(hub, peers, codec=codec) as call:
        await shown(call, 60, 70, 80)
        call.client.camera._count += 100
        await shown(call, 90)
        call.client.camera = replaced = Camera()
        # libvpx takes no time that falls.
        replaced._count = 0 if codec == H264 else 10_000
        old = call.client.sender.track
        call.client.sender.replaceTrack(replaced)
        # aiortc waits in the old track's recv until it gives one more picture.
        assert isinstance(old, Camera)
        old.show(grey(95))
        await call.until(lambda: len(call.frames) == 5)
        await shown(call, 100, 110)
    times = [frame.timestamp_us for frame in call.frames]
    assert times == sorted(times)
    levels = [level_of(picture) for picture in decode(call.frames)]
    assert levels == pytest.approx([60, 70, 80, 90, 95, 100, 110], abs=3)


@CODECS
async def test_a_new_stream_of_the_client_replaces_the_camera_at_its_keyframe(
    hub: FakeHub, peers: AiortcPeers, codec: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "SWITCH_SILENCE_S", 0.0)
    async with joined(hub, peers, codec=codec) as call:
        await shown(call, 60, 70)
        call.client.sender._ssrc ^= 0x5555
        call.client.sender._send_keyframe()
        await shown(call, 80, 90)
    assert [frame.discontinuity for frame in call.frames] == [False, False, True, False]
    assert call.frames[2].keyframe
    assert [level_of(picture) for picture in decode(call.frames)] == pytest.approx(
        [60, 70, 80, 90], abs=3
    )


async def test_a_second_publisher_is_refused_and_keeps_its_view(
    hub: FakeHub, peers: AiortcPeers
) -> None:
    async with joined(hub, peers) as first:
        await shown(first, 60)
        other = Client.new(hub)
        connection, _ = hub.session.connect(Sink())
        sdp, tracks = await other.offer()
        peer, answer = await peers.answer(connection, sdp, tracks, on_closed=lambda: None)
        await other.accept(answer)
        received = peers.statistics.camera_packets
        other.camera.show(grey(200))
        await shown(first, 70, 80)
        while peers.statistics.camera_packets < received + 3:
            await shown(first, 90)
        assert connection.frames == []
        assert hub.session.publisher is first.connection
        assert other.pc.connectionState == "connected"
        await peer.close()
        assert hub.session.publisher is first.connection
        await shown(first, 100)
        await other.close()


# -- what networks do to it ----------------------------------------------------------------


def through(client: Client, network: Callable[[bytes], list[bytes]]) -> None:
    """Lets `network` decide which datagrams arrive instead of each encrypted RTP packet."""
    ice = client.transport.transport
    send: Callable[[bytes], Awaitable[None]] = ice._send

    async def sent(data: bytes) -> None:
        media = 127 < data[0] < 192 and not is_rtcp(data)
        for datagram in network(data) if media else [data]:
            await send(datagram)

    ice._send = sent


@CODECS
async def test_loss_disorder_and_duplicates_within_reach_of_repetition_cost_no_frame(
    hub: FakeHub, peers: AiortcPeers, codec: int
) -> None:
    chance, held = random.Random(3), []

    def network(data: bytes) -> list[bytes]:
        """Loses 3 %, doubles 10 %, lets 10 % be overtaken by the next."""
        out = [data, *held]
        held.clear()
        draw = chance.random()
        if draw < 0.03:
            return out[1:]
        if draw < 0.13:
            return [data, *out]
        if draw < 0.23:
            held.append(data)
            return out[1:]
        return out

    async with joined(hub, peers, codec=codec, camera=RunningCamera()) as call:
        await call.until(lambda: call.frames)
        through(call.client, network)
        await call.until(lambda: len(call.frames) > 80, timeout_s=30)
        assert peers.statistics.camera_packets_asked > 0
        assert peers.statistics.packets_unauthentic > 0, "duplicates are replays to SRTP"
    times = [frame.timestamp_us for frame in call.frames]
    assert len(set(times)) == len(times)
    assert times == sorted(times)
    assert len(decode(call.frames)) >= len(call.frames) - 1
    broken = sum(frame.discontinuity for frame in call.frames)
    assert broken <= 2, "a packet may be lost four times in a row"


@CODECS
async def test_a_network_that_loses_a_fifth_gives_whole_frames_from_keyframes_on(
    hub: FakeHub, peers: AiortcPeers, codec: int
) -> None:
    chance = random.Random(4)
    async with joined(hub, peers, codec=codec, camera=RunningCamera()) as call:
        await call.until(lambda: call.frames)
        through(call.client, lambda data: [data] if chance.random() > 0.2 else [])
        await call.until(lambda: len(call.frames) > 40, timeout_s=60)
    assert all(frame.keyframe for frame in call.frames if frame.discontinuity)
    assert len(decode(call.frames)) >= len(call.frames) - 1


async def test_a_dead_network_that_comes_back_begins_at_a_keyframe(
    hub: FakeHub, peers: AiortcPeers
) -> None:
    async with joined(hub, peers, camera=RunningCamera()) as call:
        await call.until(lambda: len(call.frames) > 5)
        ice = call.client.transport.transport
        send, lost = ice._send, 0

        def dead(_: bytes) -> list[bytes]:
            nonlocal lost
            lost += 1
            hub.changes.happened()
            return []

        # More than the client remembers: what it repeats cannot fill the gap.
        through(call.client, dead)
        await call.until(lambda: lost > 2 * RTP_HISTORY_SIZE, timeout_s=30)
        ice._send = send
        seen = len(call.frames)
        await call.until(lambda: len(call.frames) > seen + 5)
        assert call.ended == []
    assert call.frames[seen].keyframe
    assert call.frames[seen].discontinuity


async def test_the_rate_that_a_camera_is_told_falls_on_a_network_whose_queue_grows(
    hub: FakeHub, peers: AiortcPeers
) -> None:
    told: list[int] = []
    async with joined(hub, peers, camera=RunningCamera()) as call:
        handle = call.client.sender._handle_rtcp_packet

        async def spy(packet: Any) -> None:
            await handle(packet)
            encoder = call.client.sender._RTCRtpSender__encoder
            if encoder is not None:
                told.append(encoder.target_bitrate)
                hub.changes.happened()

        call.client.sender._handle_rtcp_packet = spy
        await call.until(lambda: told)
        start = told[-1]
        loop, queue = asyncio.get_running_loop(), 0.0
        ice = call.client.transport.transport
        send = ice._send

        async def slow(data: bytes) -> None:
            nonlocal queue
            queue += 0.004
            loop.call_later(queue, lambda: asyncio.ensure_future(send(data)))

        ice._send = slow
        await call.until(lambda: told[-1] < start, timeout_s=20)
