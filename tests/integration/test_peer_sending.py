"""What our peers send, packet by packet, as a plain aiortc client receives it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from aiortc.rtcrtpparameters import RTCRtpHeaderExtensionParameters, RTCRtpParameters
from aiortc.rtp import (
    RTCP_PSFB_APP,
    RTCP_PSFB_FIR,
    HeaderExtensionsMap,
    RtcpSrPacket,
    RtpPacket,
    pack_remb_fci,
)

from gateway import ports
from gateway.fanout import OutputFanout
from gateway.rungs import BITRATES, MAIN
from gateway.webrtc import datagrams
from gateway.webrtc.feedback import EXTENSION_URI
from gateway.webrtc.history import CAPACITY
from gateway.webrtc.peer import AiortcPeers, PeerSettings
from gateway.webrtc.rates import NOMINAL_BPS
from sana_gateway.v1 import media_pb2
from tests.fakes.hub import FakeHub
from tests.fakes.transport_feedback import feedback_content, feedback_packet
from tests.fakes.webrtc_client import (
    H264,
    PERIOD_US,
    VP8,
    Joined,
    encode,
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


class Ear:
    """What reaches the client before its own aiortc sees it; may lose packets on the way."""

    def __init__(
        self, call: Joined, loses: Callable[[int], bool] = lambda count: count < 0
    ) -> None:
        self.packets: list[RtpPacket] = []
        """Every packet of the video's own stream that was sent, also the lost ones."""
        self.lost: list[RtpPacket] = []
        self.repeated: list[RtpPacket] = []
        self.reports: list[RtcpSrPacket] = []
        self._ssrc = our_ssrc(call)
        self._changes = call.client.hub.changes
        self._loses = loses
        self._parse = RtpPacket.parse
        receiver = call.client.pc.getTransceivers()[1].receiver
        transport = receiver.transport
        self._handle_rtp, self._handle_rtcp = (
            transport._handle_rtp_data,
            receiver._handle_rtcp_packet,
        )
        transport._handle_rtp_data = self._rtp
        receiver._handle_rtcp_packet = self._rtcp

    async def _rtp(self, data: bytes, arrival_time_ms: int) -> None:
        packet = self._parse(data)
        if packet.ssrc == self._ssrc:
            self.packets.append(packet)
            if self._loses(len(self.packets)):
                self.lost.append(packet)
                self._changes.happened()
                return
        else:
            self.repeated.append(packet)
        self._changes.happened()
        await self._handle_rtp(data, arrival_time_ms=arrival_time_ms)

    async def _rtcp(self, packet: Any) -> None:
        if isinstance(packet, RtcpSrPacket):
            self.reports.append(packet)
            self._changes.happened()
        await self._handle_rtcp(packet)


def sender_of(call: Joined) -> Any:
    assert call.peer._viewer is not None
    return call.peer._viewer._sender


def big(frame: ports.EncodedFrame, packets: int) -> ports.EncodedFrame:
    """The same frame with a filler NAL unit."""
    filler = b"\x00\x00\x00\x01\x0c" + b"\xff" * (packets * 1150) + b"\x80"
    return replace(frame, data=frame.data + filler)


async def test_the_packets_of_a_frame_are_as_long_as_each_other(
    hub: FakeHub, peers: AiortcPeers
) -> None:
    """Only then can the kernel cut them out of one call."""
    async with joined(hub, peers, codec=H264) as call:
        ear = Ear(call)
        await call.show(big(encode(H264, 1)[0], 10))
        await call.until(lambda: ear.packets and ear.packets[-1].marker)
    sizes = [len(packet.payload) for packet in ear.packets[-10:]]
    assert len(set(sizes[:-1])) == 1
    assert sizes[-1] <= sizes[0]


@CODECS
async def test_without_help_of_the_kernel_every_frame_arrives_too(
    hub: FakeHub, peers: AiortcPeers, codec: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datagrams, "segmentation_offload", lambda: False)
    frames = encode(codec, 6, width=640, height=352, noise=60)
    async with joined(hub, peers, codec=codec) as call:
        for index, frame in enumerate(frames):
            await call.show(frame)
            await call.until(lambda index=index: len(call.pictures) >= index)
    assert [(picture.width, picture.height) for picture in call.pictures] == [(640, 352)] * 5


async def test_frames_carry_when_they_left_and_whose_they_are(
    hub: FakeHub, peers: AiortcPeers
) -> None:
    async with joined(hub, peers, codec=H264) as call:
        ear = Ear(call)
        receiver = call.client.pc.getTransceivers()[1].receiver
        known = receiver.transport._rtp_header_extensions_map
        ear._parse = lambda data: RtpPacket.parse(data, known)
        await call.show(encode(H264, 1)[0])
        await call.until(lambda: ear.packets)
        mid = call.client.pc.getTransceivers()[1].mid
    assert {packet.extensions.mid for packet in ear.packets} == {mid}
    assert all(packet.extensions.abs_send_time is not None for packet in ear.packets)


@CODECS
async def test_lost_packets_are_sent_again_and_every_picture_is_seen(
    hub: FakeHub, peers: AiortcPeers, codec: int
) -> None:
    frames = encode(codec, 31, width=640, height=352, noise=60)
    async with joined(hub, peers, codec=codec) as call:
        # A packet is missed when one after it comes: the last frame ends without a loss.
        shown: list[int] = []
        ear = Ear(call, lambda count: count % 7 == 3 and len(shown) < len(frames) - 1)
        for index, frame in enumerate(frames):
            shown.append(index)
            await call.show(frame)
            await call.until(lambda index=index: len(call.pictures) >= index)
        assert len(ear.lost) > 10
        await call.until(lambda: len(ear.repeated) >= len(ear.lost))
        assert sender_of(call).history.repeated >= len(ear.lost)
    levels = [level_of(picture) for picture in call.pictures]
    assert levels == sorted(levels), "in order, none missing"
    assert levels[0] >= level_at(0)
    assert call.subscription.keyframe_requests == 0


async def test_a_repetition_is_the_packet_that_was_lost(hub: FakeHub, peers: AiortcPeers) -> None:
    """The 350 packets after it are more than aiortc itself remembers."""
    keyframe = big(encode(H264, 1)[0], 360)
    assert CAPACITY > 400
    async with joined(hub, peers, codec=H264) as call:
        ear = Ear(call, lambda count: count == 5)
        await call.show(keyframe)
        await call.until(lambda: ear.packets and ear.packets[-1].marker)
        lost = ear.lost[0]
        receiver = call.client.pc.getTransceivers()[1].receiver
        await call.until(lambda: ear.repeated)
        ear.repeated.clear()
        sender_of(call).history._again_at.clear()
        await receiver._send_rtcp_nack(our_ssrc(call), [lost.sequence_number])
        await call.until(lambda: ear.repeated)
    again = ear.repeated[0]
    assert int.from_bytes(again.payload[:2], "big") == lost.sequence_number
    assert again.payload[2:] == lost.payload
    assert (again.timestamp, again.marker) == (lost.timestamp, lost.marker)


async def test_a_full_intra_request_without_a_media_stream_is_heard(
    hub: FakeHub, peers: AiortcPeers
) -> None:
    async with joined(hub, peers) as call:
        fci = our_ssrc(call).to_bytes(4, "big") + b"\x01\0\0\0"
        await call.client.say(RTCP_PSFB_FIR, 0, fci)
        await call.until(lambda: call.subscription.keyframe_requests == 1)


async def test_the_sender_reports_agree_with_what_was_sent(
    hub: FakeHub, peers: AiortcPeers
) -> None:
    frames = encode(H264, 48)
    async with joined(hub, peers, codec=H264) as call:
        ear = Ear(call)
        origin = None
        for index in range(2):
            for frame in frames[index * 24 : index * 24 + 24]:
                await call.show(frame)
            count = len(ear.reports)
            shown = frames[index * 24 + 23]
            # The first report after these frames may have been on its way before them.
            await call.until(lambda count=count: len(ear.reports) > count + 1)
            last = ear.packets[-1]
            info = ear.reports[-1].sender_info
            assert ear.reports[-1].ssrc == our_ssrc(call)
            assert info.packet_count == len(ear.packets)
            assert info.octet_count == sum(len(packet.payload) for packet in ear.packets)
            assert info.rtp_timestamp == last.timestamp
            if origin is None:
                origin = (last.timestamp, shown.timestamp_us, info.ntp_timestamp)
        assert origin is not None
        ticks = (last.timestamp - origin[0]) & 0xFFFFFFFF
        assert ticks == pytest.approx((shown.timestamp_us - origin[1]) * 0.09, abs=1)
        assert info.ntp_timestamp > origin[2]


async def test_a_viewer_that_loses_many_packets_is_taken_to_have_a_narrow_network(
    hub: FakeHub, peers: AiortcPeers
) -> None:
    frames = encode(H264, 2)
    async with joined(hub, peers, codec=H264) as call:
        Ear(call, lambda count: count % 3 == 0)
        showing = asyncio.ensure_future(show_for_ever(call, frames))
        estimates = call.subscription.estimates
        await call.until(lambda: any(each < NOMINAL_BPS * 0.95 for each in estimates))
        await call.until(lambda: call.peer._viewer._reception.round_trip_s)
        told: list[media_pb2.ViewerStats] = []
        call.peer._viewer.on_stats = told.append
        call.subscription.viewer.stats(media_pb2.ViewerStats(run=1, chunk=2, late_us=3))
        showing.cancel()
    assert (told[0].run, told[0].chunk, told[0].late_us) == (1, 2, 3)
    assert told[0].fraction_lost > 0.1
    assert told[0].round_trip_us > 0
    assert told[0].estimated_bitrate == call.subscription.estimates[-1]


NUMBER_ID = 7


def offering_feedback(sdp: str) -> str:
    """The offer of a client that numbers and tells of every packet, as browsers do."""
    extension = f"\\1\r\na=extmap:{NUMBER_ID} {EXTENSION_URI}"
    numbered = re.sub(r"(m=video .*?(?=\r\n))", extension, sdp)
    told = "\\g<0>\r\na=rtcp-fb:\\1 transport-cc"
    return re.sub(r"a=rtpmap:(\d+) (?:H264|VP8)/90000", told, numbered)


async def test_transport_wide_feedback_is_accepted_for_what_we_send_only(
    hub: FakeHub, peers: AiortcPeers
) -> None:
    async with joined(hub, peers, codec=H264, edit=offering_feedback) as call:
        camera, video = call.answer.split("m=video")[1:]
    for line in (f"a=extmap:{NUMBER_ID} {EXTENSION_URI}", "transport-cc"):
        assert line in video
        assert line not in camera


async def test_without_an_offer_no_packet_is_numbered(hub: FakeHub, peers: AiortcPeers) -> None:
    async with joined(hub, peers, codec=H264) as call:
        assert "transport-cc" not in call.answer
        assert EXTENSION_URI not in call.answer
        assert sender_of(call)._stream.flight is None


async def test_all_packets_of_a_viewer_are_numbered_in_a_row(
    hub: FakeHub, peers: AiortcPeers
) -> None:
    async with joined(hub, peers, codec=H264, edit=offering_feedback) as call:
        ear = Ear(call, lambda count: count == 5)
        known = HeaderExtensionsMap()
        known.configure(
            RTCRtpParameters(
                headerExtensions=[RTCRtpHeaderExtensionParameters(id=NUMBER_ID, uri=EXTENSION_URI)]
            )
        )
        ear._parse = lambda data: RtpPacket.parse(data, known)
        await call.show(big(encode(H264, 1)[0], 40))
        await call.until(lambda: ear.repeated and ear.packets[-1].marker)
    numbers = [each.extensions.transport_sequence_number for each in ear.packets + ear.repeated]
    assert sorted(numbers) == list(range(len(numbers)))


class Owner:
    """A session that notes what its output asks of the actor."""

    def __init__(self, hub: FakeHub) -> None:
        self.demands: list[tuple[int, int]] = []
        self._happened = hub.changes.happened

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def position_us(self) -> int:
        return 0

    def demand(self, codec: int, rung: int, *, wanted: bool, **said: int) -> None:
        self.demands.append((rung, said.get("bitrate", 0)))
        self._happened()


BROKEN = b"\x8f\xcd\x00\x02" + bytes(8)


@pytest.mark.parametrize("broken", [b"", BROKEN], ids=["alone", "after a broken one"])
async def test_one_message_of_a_full_network_reaches_the_actor_with_no_frame_between(
    hub: FakeHub, peers: AiortcPeers, broken: bytes
) -> None:
    async with joined(hub, peers, codec=H264, edit=offering_feedback) as call:
        ear, owner = Ear(call), Owner(hub)
        viewer: Any = call.peer._viewer
        output: Any = OutputFanout(H264, owner)  # type: ignore[arg-type]
        output.join(viewer)
        call.subscription.estimate = partial(output.estimate, viewer)
        frame, arrivals = big(encode(H264, 1)[0], 12), []
        for index in range(4):
            # Packets that leave together are 10 ms apart when they arrive, and frames wait
            # for those before them: the network carries about 1 Mbit/s.
            before = len(ear.packets)
            await call.show(replace(frame, timestamp_us=index * PERIOD_US))
            await call.until(lambda before=before: marked(ear.packets[before:]))
            arrivals += [index * 130_000 + at * 10_000 for at in range(len(ear.packets) - before)]
            await asyncio.sleep(0.03)
        owner.demands.clear()
        if broken:
            await call.client.transport._send_rtp(broken)
        asked = owner.now()
        await call.client.transport._send_rtp(feedback_packet(feedback_content(0, arrivals)))
        await call.until(lambda: owner.demands)
        print(f"in effect after {1e3 * (owner.now() - asked):.1f} ms")
    assert owner.demands == [(MAIN, BITRATES[MAIN][0])]
    assert 500_000 < viewer._network.value < 1_000_000


def marked(packets: list[RtpPacket]) -> bool:
    """Whether a frame has come to its end."""
    return bool(packets) and packets[-1].marker == 1


async def show_for_ever(call: Joined, frames: list[ports.EncodedFrame]) -> None:
    index = 0
    while True:
        frame = big(frames[0 if index % 12 == 0 else 1], 3)
        await call.show(replace(frame, timestamp_us=index * PERIOD_US))
        index += 1
        await asyncio.sleep(0.02)


async def test_a_narrow_networks_estimate_lowers_ours(hub: FakeHub, peers: AiortcPeers) -> None:
    async with joined(hub, peers, codec=H264) as call:
        await call.show(big(encode(H264, 1)[0], 60))
        fci = pack_remb_fci(300_000, [our_ssrc(call)])
        await call.client.say(RTCP_PSFB_APP, 0, fci)
        await call.until(lambda: 300_000 in call.subscription.estimates)
