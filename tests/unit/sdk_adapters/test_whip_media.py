"""Offers that are in use, answered by real peers; and publishers that send no candidates."""

from __future__ import annotations

import random
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from gateway.webrtc.peer import AiortcPeers, PeerSettings
from tests.fakes.webrtc_client import Camera, encode, grey
from tests.unit.sdk_adapters.whip_offers import FFMPEG, OBS, PLAYER
from tests.unit.sdk_adapters.whip_site import WhipSite

pytestmark = pytest.mark.unit

H264_HIGH = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=64001f"


@pytest.fixture
async def peers() -> AsyncIterator[AiortcPeers]:
    made = AiortcPeers(PeerSettings(joins_per_second=1000.0))
    yield made
    await made.close()


@pytest.fixture
async def real(serve_whip: Callable[..., Any], peers: AiortcPeers) -> WhipSite:
    """The wire over a fake hub and real peers."""
    made: WhipSite = await serve_whip(peers=peers)
    return made


def sections(answer: str) -> tuple[str, list[str]]:
    """Returns the session part of an SDP, and its media sections."""
    session, *media = answer.split("m=")
    return session, media


@pytest.mark.parametrize(("offer", "payload_type"), [(OBS, 96), (FFMPEG, 106)])
async def test_a_publisher_gets_video_and_no_sound(
    real: WhipSite, offer: str, payload_type: int
) -> None:
    answer = await real.offer("/whip/painter", offer)
    assert answer.status == 201, answer.text
    session, (sound, video) = sections(answer.text)
    assert "a=group:BUNDLE 0 1" in session or "a=group:BUNDLE 1 0" in session
    assert sound.startswith("audio ")
    assert "a=inactive" in sound
    assert video.startswith("video ")
    assert "a=recvonly" in video
    assert f"a=rtpmap:{payload_type} H264/90000" in video
    assert "a=candidate:" in answer.text
    assert "a=end-of-candidates" in answer.text
    assert f"a=rtcp-fb:{payload_type} nack pli" in video or offer is FFMPEG


async def test_a_profile_is_answered_as_it_was_offered(real: WhipSite) -> None:
    answer = await real.offer("/whip/painter", FFMPEG)
    assert f"a=fmtp:106 {H264_HIGH}\r\n" in answer.text


@pytest.mark.parametrize(("offer", "role"), [(OBS, "passive"), (FFMPEG, "active")])
async def test_we_are_the_server_of_dtls_unless_the_client_is(
    real: WhipSite, offer: str, role: str
) -> None:
    answer = await real.offer("/whip/painter", offer)
    assert set(re.findall(r"a=setup:(\w+)", answer.text)) == {role}


async def test_a_player_is_sent_video_and_no_sound(real: WhipSite) -> None:
    session_id = (await real.publish()).headers["Sana-Session-Id"]
    answer = await real.offer(f"/whep/{session_id}", PLAYER)
    assert answer.status == 201
    _, (sound, video) = sections(answer.text)
    assert "a=inactive" in sound
    assert "a=sendonly" in video


async def test_a_publisher_of_no_codec_of_ours_is_refused(real: WhipSite) -> None:
    offer = OBS.replace("H264/90000", "AV1/90000")
    answer = await real.offer("/whip/painter", offer)
    assert answer.status == 422
    assert not real.hub.sessions


class Client:
    """An aiortc client that says nothing of its addresses, as OBS does not."""

    def __init__(self) -> None:
        self.pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.pictures = 0

    async def offer(self) -> str:
        await self.pc.setLocalDescription(await self.pc.createOffer())
        lines = self.pc.localDescription.sdp.splitlines()
        hidden = ("a=candidate:", "a=end-of-candidates")
        return "\r\n".join(line for line in lines if not line.startswith(hidden)) + "\r\n"

    async def accept(self, answer: str) -> None:
        await self.pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))


async def test_a_camera_reaches_the_session_and_its_pictures_a_player(real: WhipSite) -> None:
    publisher, player, camera = Client(), Client(), Camera()
    seen: list[Any] = []
    try:
        publisher.pc.addTransceiver("audio", direction="sendonly")
        publisher.pc.addTransceiver(camera, direction="sendonly")
        made = await real.offer("/whip/painter", await publisher.offer())
        await publisher.accept(made.text)
        session = real.hub.session
        (connection,) = session.connections
        for _ in range(3):
            camera.show(grey(90))
        await session.changes.until(lambda: len(connection.frames) >= 2)
        player.pc.addTransceiver("audio", direction="recvonly")
        player.pc.addTransceiver("video", direction="recvonly")
        player.pc.on("track", seen.append)
        watched = await real.offer(f"/whep/{session.session_id}", await player.offer())
        await player.accept(watched.text)
        watching = session.connections[1]
        await session.changes.until(
            lambda: bool(watching.subscriptions) and not watching.subscriptions[0].paused
        )
        (track,) = [each for each in seen if each.kind == "video"]
        (subscription,) = watching.subscriptions
        for frame in encode(subscription.codec, 3):
            subscription.viewer.frame(frame)
        picture = await track.recv()
        assert (picture.width, picture.height) == (320, 176)
        # A publisher that leaves without a word is noticed by its transport.
        await publisher.pc.close()
        await session.changes.until(lambda: connection.closed)
        assert (await real.ask("DELETE", made.location)).status == 200
        assert (await real.ask("DELETE", watched.location)).status == 200
        await session.changes.until(lambda: watching.closed)
        assert session.end_reason is None
    finally:
        await publisher.pc.close()
        await player.pc.close()


async def test_garbled_offers_are_refused_or_answered_and_never_a_fault(real: WhipSite) -> None:
    draw = random.Random(7)
    for _ in range(60):
        lines = draw.choice([OBS, FFMPEG]).splitlines()
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(len(lines))
            line = lines[at]
            lines[at] = draw.choice(
                [
                    line[: len(line) // 2],
                    line.replace(":", " "),
                    line + line,
                    line.replace("1", "999999999999"),
                    "a=candidate:" + line,
                    "",
                ]
            )
        answer = await real.offer("/whip/painter", "\r\n".join(lines) + "\r\n")
        assert answer.status in (201, 400, 422), answer.text
        if answer.status == 201:
            assert (await real.ask("DELETE", answer.location)).status == 200
    assert [each.publisher for each in real.hub.sessions.values()].count(None) == len(
        real.hub.sessions
    )
