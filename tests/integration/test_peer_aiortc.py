"""Media between our WebRTC peers and a plain aiortc client, over real sockets."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiortc.rtp import RTCP_PSFB_PLI, RtpPacket, is_rtcp

from gateway.webrtc.frame_metadata import frame_id
from gateway.webrtc.peer import AiortcPeers, PeerSettings
from gateway.webrtc.sdp import FRAME_METADATA
from tests.fakes.hub import FakeHub
from tests.fakes.webrtc_client import (
    FRAME_RATE,
    H264,
    PERIOD_US,
    VP8,
    Client,
    RunningCamera,
    connect,
    decode,
    encode,
    grey,
    joined,
    level_at,
    level_of,
    our_ssrc,
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


# -- main_video ----------------------------------------------------------------------------


@CODECS
async def test_every_encoded_frame_reaches_a_viewer_as_it_was_encoded(
    hub: FakeHub, peers: AiortcPeers, codec: int
) -> None:
    frames = encode(codec, 61)
    async with joined(hub, peers, codec=codec) as call:
        assert call.subscription.codec == codec
        for index, frame in enumerate(frames):
            await call.show(frame)
            # This client's own jitter buffer holds a frame until the next one begins.
            await call.until(lambda index=index: len(call.pictures) >= index)
    levels = [level_of(picture) for picture in call.pictures]
    assert levels == pytest.approx([level_at(index) for index in range(60)], abs=2)
    times = [round(picture.pts / 90_000 * FRAME_RATE, 1) for picture in call.pictures]
    assert times == pytest.approx(list(range(60)), abs=0.1)


async def test_a_full_size_frame_of_many_packets_arrives(hub: FakeHub, peers: AiortcPeers) -> None:
    frames = encode(H264, 6, width=1280, height=704, noise=40, every=3)
    assert len(frames[0].data) > 50 * 1300
    async with joined(hub, peers, codec=H264) as call:
        for index, frame in enumerate(frames):
            await call.show(frame)
            await call.until(lambda index=index: len(call.pictures) >= index)
    assert [(picture.width, picture.height) for picture in call.pictures] == [(1280, 704)] * 5


async def test_h264_is_chosen_even_where_the_client_lists_vp8_first(
    hub: FakeHub, peers: AiortcPeers
) -> None:
    async with joined(hub, peers) as call:
        offered = re.findall(r"a=rtpmap:\d+ (\w+)", call.client.pc.localDescription.sdp)
        assert offered[0] == "VP8"
        assert call.subscription.codec == H264
        video = call.answer.split("m=video")[2]
        assert re.findall(r"a=rtpmap:\d+ (\w+)", video)[0] == "H264"
        assert "profile-level-id=42e01f" in video
        assert "packetization-mode=1" in video


async def test_nothing_is_made_for_a_viewer_before_it_is_connected(
    hub: FakeHub, peers: AiortcPeers
) -> None:
    client, connection = Client.new(hub), await connect(hub)
    sdp, tracks = await client.offer()
    peer, answer = await peers.answer(connection, sdp, tracks, on_closed=lambda: None)
    subscription = connection.subscriptions[0]
    assert subscription.paused
    await client.accept(answer)
    await hub.until(lambda: not subscription.paused)
    await peer.close()
    assert subscription.closed
    await client.close()


async def test_a_picture_loss_of_the_client_asks_for_a_keyframe(
    hub: FakeHub, peers: AiortcPeers
) -> None:
    async with joined(hub, peers) as call:
        await call.client.say(RTCP_PSFB_PLI, our_ssrc(call))
        await call.until(lambda: call.subscription.keyframe_requests == 1)


async def test_a_paused_track_resumes_only_when_the_client_asks(
    hub: FakeHub, peers: AiortcPeers
) -> None:
    async with joined(hub, peers) as call:
        call.peer.pause("main_video")
        assert call.subscription.paused
        call.peer.resume("camera")
        call.peer.resume("nothing")
        assert call.subscription.paused
        call.peer.resume("main_video")
        assert not call.subscription.paused


async def test_frame_metadata_is_accepted_and_follows_every_frame(
    hub: FakeHub, peers: AiortcPeers
) -> None:
    def offering(sdp: str) -> str:
        return sdp.replace("t=0 0\r\n", f"t=0 0\r\n{FRAME_METADATA}\r\n", 1)

    frames = encode(VP8, 3)
    async with joined(hub, peers, codec=VP8, edit=offering) as call:
        assert FRAME_METADATA in call.answer.split("m=")[0].splitlines()
        received: list[bytes] = []
        receiver = call.client.pc.getTransceivers()[1].receiver
        handle = receiver._RTCRtpReceiver__jitter_buffer.add

        def spy(packet: Any) -> Any:
            received.append(packet._data)
            hub.changes.happened()
            return handle(packet)

        receiver._RTCRtpReceiver__jitter_buffer.add = spy
        for frame in frames:
            await call.show(frame)
        await call.until(lambda: b"".join(received).count(b"RXMT") == 3)
    whole = b"".join(received)
    assert whole.startswith(frames[0].data)
    assert frame_id(1, 0) == (1 << 32) + 1


async def test_without_an_offer_of_frame_metadata_nothing_is_added(
    hub: FakeHub, peers: AiortcPeers
) -> None:
    async with joined(hub, peers) as call:
        assert "frame-metadata" not in call.answer


# -- camera --------------------------------------------------------------------------------


@CODECS
async def test_camera_frames_arrive_encoded_and_decodable_from_a_keyframe_on(
    hub: FakeHub, peers: AiortcPeers, codec: int
) -> None:
    async with joined(hub, peers, codec=codec) as call:
        for index in range(40):
            call.client.camera.show(grey(level_at(index)))
            # The next picture is not shown before this one is here: frames are released by
            # their marker bit.
            await call.until(lambda index=index: len(call.frames) == index + 1)
    assert call.frames[0].keyframe
    assert not any(frame.discontinuity for frame in call.frames)
    assert {frame.codec for frame in call.frames} == {codec}
    assert [frame.timestamp_us for frame in call.frames] == pytest.approx(
        [index * PERIOD_US for index in range(40)], abs=20
    )
    levels = [level_of(picture) for picture in decode(call.frames)]
    assert levels == pytest.approx([level_at(index) for index in range(40)], abs=3)
    assert call.peer._camera is not None
    assert call.peer._camera.receiver.keyframe_requests == 0


@CODECS
async def test_the_camera_may_change_its_size(hub: FakeHub, peers: AiortcPeers, codec: int) -> None:
    sizes = [(320, 176)] * 3 + [(640, 352)] * 3 + [(160, 96)] * 3
    async with joined(hub, peers, codec=codec) as call:
        for index, (width, height) in enumerate(sizes):
            call.client.camera.show(grey(100, width, height))
            await call.until(lambda index=index: len(call.frames) == index + 1)
    assert [call.frames[index].keyframe for index in (0, 3, 6)] == [True] * 3
    assert [(picture.width, picture.height) for picture in decode(call.frames)] == sizes


async def test_a_keyframe_of_the_camera_can_be_asked_for(hub: FakeHub, peers: AiortcPeers) -> None:
    async with joined(hub, peers, camera=RunningCamera()) as call:
        asked: list[int] = []
        send_keyframe = call.client.sender._send_keyframe

        def spy() -> None:
            asked.append(len(call.frames))
            send_keyframe()
            hub.changes.happened()

        call.client.sender._send_keyframe = spy
        await call.until(lambda: len(call.frames) > 3)
        assert asked == []
        call.peer.request_camera_keyframe()
        await call.until(lambda: asked)
        await call.until(lambda: any(frame.keyframe for frame in call.frames[asked[0] :]))


async def test_the_first_frame_claims_the_camera_and_the_end_releases_it(
    hub: FakeHub, peers: AiortcPeers
) -> None:
    async with joined(hub, peers) as call:
        assert hub.session.publisher is None
        call.client.camera.show(grey(100))
        await call.until(lambda: hub.session.publisher is call.connection)
        await call.peer.close()
        assert hub.session.publisher is None


async def test_a_lost_packet_is_sent_again_and_nothing_is_missing(
    hub: FakeHub, peers: AiortcPeers
) -> None:
    async with joined(hub, peers, camera=RunningCamera()) as call:
        lose_packets(call.client, lambda count, _: count == 20)
        await call.until(lambda: len(call.frames) > 20)
    assert not any(frame.discontinuity for frame in call.frames)
    assert call.peer._camera is not None
    assert call.peer._camera.receiver.keyframe_requests == 0


async def test_a_packet_lost_for_good_costs_the_frames_up_to_a_new_keyframe(
    hub: FakeHub, peers: AiortcPeers
) -> None:
    async with joined(hub, peers, camera=RunningCamera()) as call:
        await call.until(lambda: len(call.frames) > 5)
        lost: list[int] = []

        def for_good(_: int, sequence: int) -> bool:
            if not lost:
                lost.append(sequence)
            return sequence in lost

        lose_packets(call.client, for_good)
        await call.until(lambda: any(frame.discontinuity for frame in call.frames))
        before = next(i for i, frame in enumerate(call.frames) if frame.discontinuity)
        assert call.frames[before].keyframe
        assert call.peer._camera is not None
        assert 1 <= call.peer._camera.receiver.keyframe_requests <= 2
        assert decode(call.frames)


def lose_packets(client: Client, loses: Callable[[int, int], bool]) -> None:
    """Drops what `loses(count, sequence)` names; a retransmission has its first sequence."""
    send = client.transport._send_rtp
    count = 0

    async def lossy(data: bytes) -> None:
        nonlocal count
        if not is_rtcp(data):
            packet = RtpPacket.parse(data)
            retransmission = packet.ssrc == client.sender._rtx_ssrc
            sequence = (
                int.from_bytes(packet.payload[:2], "big")
                if retransmission
                else packet.sequence_number
            )
            count += 1
            if loses(count, sequence):
                return
        await send(data)

    client.transport._send_rtp = lossy
