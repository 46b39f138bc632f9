"""A sender of aiortc that sends frames as they come. On real sockets: test_peer_sending."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from aiortc import RTCCertificate, RTCIceGatherer, RTCIceTransport, RTCRtpSender
from aiortc.clock import current_ntp_time
from aiortc.codecs import h264_depayload, vp8_depayload
from aiortc.rtcrtpparameters import (
    RTCRtpCodecParameters,
    RTCRtpHeaderExtensionParameters,
    RTCRtpSendParameters,
)
from aiortc.rtp import (
    RTCP_PSFB_APP,
    RTCP_PSFB_FIR,
    RTCP_PSFB_PLI,
    RTCP_RTPFB_NACK,
    RtcpPacket,
    RtcpPsfbPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    RtpPacket,
    pack_remb_fci,
    unwrap_rtx,
)

from gateway.ports import EncodedFrame
from gateway.webrtc.aiortc_adapter import Evidence, FrameSender, Reception
from gateway.webrtc.aiortc_adapter.sending import ASK_INTERVAL_S, ntp_time
from gateway.webrtc.aiortc_adapter.transport import DtlsTransport
from gateway.webrtc.bursts import CAPACITY, FIRST_BURST
from gateway.webrtc.frame_metadata import trailer
from gateway.webrtc.ice import QUIET_S, Liveness
from sana_gateway.v1 import media_pb2

pytestmark = pytest.mark.unit

H264, VP8 = media_pb2.CODEC_H264, media_pb2.CODEC_VP8
START = b"\x00\x00\x00\x01"
RTX = RTCRtpCodecParameters(
    mimeType="video/rtx", clockRate=90_000, payloadType=103, parameters={"apt": 102}
)
FRAME = EncodedFrame(
    data=b"".join(START + unit for unit in (b"\x67sps", b"\x68pps", b"\x65" + b"i" * 4000)),
    keyframe=True,
    codec=H264,
    timestamp_us=1_000_000,
    run=2,
    chunk=0,
    frame=24,
    source_us=5,
)
DELTA = replace(FRAME, keyframe=False, data=START + b"\x41" + b"p" * 100)


def large(packets: int) -> EncodedFrame:
    return replace(FRAME, data=START + b"\x65" + b"i" * (packets * 1100))


class Feedback:
    """Records what the far end says."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def started(self) -> None:
        self.heard.append("started")

    def sent(self, octets: int) -> None:
        """Told with every frame; not of interest here."""

    def keyframe_needed(self) -> None:
        self.heard.append("keyframe")

    def estimated(self, bits_per_second: int) -> None:
        self.heard.append(bits_per_second)

    def reported(self, reception: Reception) -> None:
        self.heard.append(reception)

    def observed(self, seen: Evidence) -> None:
        self.heard.append(seen)


class Clock:
    """A loop whose time stands still until it is moved."""

    def __init__(self, call: Call) -> None:
        self._loop = call.sender._loop
        self.now = self._loop.time()
        call.sender._loop = self  # type: ignore[assignment]

    def time(self) -> float:
        return self.now

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


class Wire:
    """Where packets go instead of the network."""

    def __init__(self) -> None:
        self.packets: list[RtpPacket] = []
        self.dropped = 0
        self._more = asyncio.Event()

    def send(self, packets: list[bytes]) -> None:
        self.packets += [RtpPacket.parse(packet) for packet in packets]
        self._more.set()

    async def sent_marker(self, count: int) -> None:
        """Waits until so many frames have left to their end."""
        while sum(packet.marker for packet in self.packets) < count:
            self._more.clear()
            await self._more.wait()

    def taken(self) -> list[RtpPacket]:
        packets, self.packets = self.packets, []
        return packets


class Call:
    """A connected sender, but for the network."""

    def __init__(self, codec: media_pb2.Codec.ValueType, *, frame_metadata: bool) -> None:
        ice = RTCIceTransport(RTCIceGatherer(iceServers=[]))
        dtls = DtlsTransport(ice, [RTCCertificate.generateCertificate()])
        self.liveness = dtls.ice.liveness = Liveness(0.0)
        self.rtc = RTCRtpSender("video", dtls)
        self.feedback = Feedback()
        self.wire = Wire()
        self.sender = FrameSender(self.rtc, codec, self.feedback, frame_metadata=frame_metadata)

    async def start(self, *codecs: RTCRtpCodecParameters) -> None:
        mime = "video/H264" if self.sender._is_h264 else "video/VP8"
        first = RTCRtpCodecParameters(mimeType=mime, clockRate=90_000, payloadType=102)
        parameters = RTCRtpSendParameters(
            codecs=[first, *codecs],
            headerExtensions=[
                RTCRtpHeaderExtensionParameters(id=1, uri="urn:ietf:params:rtp-hdrext:sdes:mid")
            ],
            muxId="1",
        )
        await self.rtc.send(parameters)
        await asyncio.sleep(0)
        assert self.sender._stream is not None
        self.sender._stream.wire = self.wire  # type: ignore[assignment]

    async def hear(self, packet: Any) -> None:
        await self.rtc._handle_rtcp_packet(packet)

    async def nack(self, *lost: int) -> None:
        await self.hear(
            RtcpRtpfbPacket(fmt=RTCP_RTPFB_NACK, ssrc=1, media_ssrc=self.rtc._ssrc, lost=list(lost))
        )


@pytest.fixture
async def make() -> AsyncIterator[Any]:
    calls: list[Call] = []

    async def make_call(
        *codecs: RTCRtpCodecParameters,
        codec: media_pb2.Codec.ValueType = H264,
        frame_metadata: bool = False,
    ) -> Call:
        calls.append(Call(codec, frame_metadata=frame_metadata))
        await calls[-1].start(*codecs)
        return calls[-1]

    yield make_call
    for call in calls:
        await call.rtc.stop()


# -- frames --------------------------------------------------------------------------------


async def test_a_frame_is_on_its_way_when_the_call_returns(make: Any) -> None:
    call = await make()
    assert call.feedback.heard == ["started"]
    call.sender.frame(FRAME)
    packets = call.wire.packets
    assert b"".join(h264_depayload(packet.payload) for packet in packets) == FRAME.data
    assert [packet.marker for packet in packets] == [0] * (len(packets) - 1) + [1]
    assert {packet.ssrc for packet in packets} == {call.rtc._ssrc}
    assert {packet.payload_type for packet in packets} == {102}


async def test_a_client_that_frames_go_to_needs_no_questions(make: Any) -> None:
    call = await make()
    clock = Clock(call)
    call.liveness.heard(clock.now)
    call.liveness.asked(clock.now)
    clock.now += QUIET_S
    assert call.liveness.must_ask(clock.now)
    call.sender.frame(FRAME)
    assert not call.liveness.must_ask(clock.now)


async def test_packets_are_numbered_without_a_gap_and_timed_by_the_play_out_clock(
    make: Any,
) -> None:
    call = await make()
    call.sender.frame(FRAME)
    call.sender.frame(replace(DELTA, timestamp_us=1_041_667))
    packets = call.wire.packets
    first = packets[0].sequence_number
    assert first < 1 << 15, "SRTP must not wrap around while the first packets are under way"
    assert [packet.sequence_number for packet in packets] == [
        (first + index) & 0xFFFF for index in range(len(packets))
    ]
    assert (packets[-1].timestamp - packets[0].timestamp) & 0xFFFFFFFF == 3750
    assert call.sender.rtp_timestamp(1_000_000) == packets[0].timestamp
    assert call.sender.rtp_timestamp(1_041_667) == packets[-1].timestamp


@pytest.mark.parametrize("codec", [H264, VP8])
async def test_frame_metadata_follows_the_payload(make: Any, codec: int) -> None:
    call = await make(codec=codec, frame_metadata=True)
    call.sender.frame(FRAME)
    depayload = h264_depayload if codec == H264 else vp8_depayload
    whole = b"".join(depayload(packet.payload) for packet in call.wire.packets)
    assert whole == FRAME.data + trailer(2, 24, 5)


async def test_the_picture_id_of_vp8_counts_frames(make: Any) -> None:
    call = await make(codec=VP8)
    call.sender._picture_id = 0x7FFE
    for _ in range(2):
        call.sender.frame(DELTA if call.wire.packets else FRAME)
    numbers = [packet.payload[2:4] for packet in call.wire.packets if packet.payload[0] & 0x10]
    assert numbers == [b"\xff\xff", b"\x80\x00"]


async def test_frames_are_sent_from_a_keyframe_on_which_is_asked_for(make: Any) -> None:
    call = await make()
    call.sender.frame(DELTA)
    call.sender.frame(DELTA)
    assert call.wire.packets == []
    assert call.feedback.heard == ["started", "keyframe"]
    assert call.sender.dropped == 2
    call.sender._asked_at -= ASK_INTERVAL_S
    call.sender.frame(DELTA)
    assert call.feedback.heard == ["started", "keyframe", "keyframe"]
    call.sender.frame(FRAME)
    call.sender.frame(DELTA)
    assert call.sender.dropped == 3
    assert sum(packet.marker for packet in call.wire.packets) == 2


async def test_a_frame_that_is_none_sends_nothing(make: Any) -> None:
    call = await make()
    call.sender.frame(replace(FRAME, data=b"not H.264"))
    assert call.wire.packets == []


async def test_a_large_frame_is_spread_and_the_next_waits_behind_it(make: Any) -> None:
    call = await make()
    call.sender.frame(large(60))
    call.sender.frame(replace(DELTA, timestamp_us=2_000_000))
    assert len(call.wire.packets) == FIRST_BURST
    async with asyncio.timeout(30):
        await call.wire.sent_marker(2)
    packets = call.wire.packets
    assert [index for index, packet in enumerate(packets) if packet.marker] == [
        len(packets) - 2,
        len(packets) - 1,
    ]
    assert packets[-1].timestamp != packets[0].timestamp


async def test_a_viewer_that_falls_behind_goes_on_at_a_keyframe(make: Any) -> None:
    call = await make()
    call.sender.frame(large(60))
    for _ in range(CAPACITY):
        call.sender.frame(DELTA)
    assert call.sender.overflows == 1
    assert call.feedback.heard[1:] == ["keyframe"]
    waited = call.sender._bursts.waiting
    assert 0 < waited < 60, "a frame that has begun to leave leaves whole"
    call.sender.frame(replace(FRAME, timestamp_us=3_000_000))
    assert call.sender._bursts.waiting > waited


async def test_a_keyframe_takes_the_place_of_what_waits(make: Any) -> None:
    call = await make()
    call.sender.frame(large(40))
    while call.sender._bursts.add(0, [b"x"] * 10):
        pass
    call.sender.frame(large(30))
    assert call.sender.overflows == 1
    assert "keyframe" not in call.feedback.heard


async def test_a_restart_forgets_what_waits(make: Any) -> None:
    call = await make()
    call.sender.frame(large(60))
    call.sender.frame(DELTA)
    call.sender.restart()
    assert call.sender.dropped == 1
    call.sender.frame(DELTA)
    assert call.sender.dropped == 2


async def test_a_sender_that_has_ended_sends_nothing(make: Any) -> None:
    call = await make()
    call.sender.frame(large(60))
    sent = len(call.wire.packets)
    await call.rtc.stop()
    call.sender.frame(FRAME)
    await asyncio.sleep(0.01)
    assert len(call.wire.packets) == sent


async def test_without_a_network_packets_are_counted_and_nobody_hurt() -> None:
    call = Call(H264, frame_metadata=False)
    call.sender.frame(FRAME)
    assert call.sender.packets_dropped == 0, "not started: nothing is expected of it"
    await call.rtc.send(
        RTCRtpSendParameters(
            codecs=[RTCRtpCodecParameters("video/H264", clockRate=90_000, payloadType=102)]
        )
    )
    await asyncio.sleep(0)
    call.sender.frame(FRAME)
    assert call.sender.packets_dropped == 5
    await call.rtc.stop()


# -- what the far end says -----------------------------------------------------------------


@pytest.mark.parametrize("fmt", [RTCP_PSFB_PLI, RTCP_PSFB_FIR])
async def test_a_lost_picture_asks_for_a_keyframe(make: Any, fmt: int) -> None:
    call = await make()
    await call.hear(RtcpPsfbPacket(fmt=fmt, ssrc=1, media_ssrc=call.rtc._ssrc))
    await call.hear(RtcpPsfbPacket(fmt=fmt, ssrc=1, media_ssrc=call.rtc._ssrc ^ 1))
    assert call.feedback.heard == ["started", "keyframe"]


async def test_a_full_intra_request_names_its_stream_inside(make: Any) -> None:
    call = await make()
    fci = b"".join(ssrc.to_bytes(4, "big") + b"\x01\0\0\0" for ssrc in (99, call.rtc._ssrc))
    request = RtcpPsfbPacket(fmt=RTCP_PSFB_FIR, ssrc=1, media_ssrc=0, fci=fci)
    assert call.rtc.transport._rtp_router.route_rtcp(request) == {call.rtc}
    await call.hear(request)
    await call.hear(replace(request, fci=fci[:8]))
    await call.hear(replace(request, fci=fci[8:14]))
    assert call.feedback.heard == ["started", "keyframe"]


async def test_the_far_ends_estimate_is_heard(make: Any) -> None:
    call = await make()
    for fci in (
        pack_remb_fci(1_234_432, [7, call.rtc._ssrc]),
        pack_remb_fci(99, [7]),
        b"REMB\x02\0\0\0\0",
        b"",
    ):
        await call.hear(RtcpPsfbPacket(fmt=RTCP_PSFB_APP, ssrc=1, media_ssrc=0, fci=fci))
    assert call.feedback.heard == ["started", 1_234_432]


def report(call: Call, *, lsr: int = 0, dlsr: int = 0) -> RtcpReceiverInfo:
    return RtcpReceiverInfo(
        ssrc=call.rtc._ssrc,
        fraction_lost=64,
        packets_lost=3,
        highest_sequence=9,
        jitter=900,
        lsr=lsr,
        dlsr=dlsr,
    )


async def test_a_receiver_report_tells_of_loss_and_jitter(make: Any) -> None:
    call = await make()
    other = replace(report(call), ssrc=call.rtc._ssrc ^ 1)
    await call.hear(RtcpRrPacket(ssrc=1, reports=[other, report(call)]))
    assert call.feedback.heard == ["started", Reception(0.0, 0.01, None)]


async def test_reports_are_compared_and_what_they_show_is_told(make: Any) -> None:
    call = await make()
    clock = Clock(call)
    call.sender.frame(large(30))
    first = call.wire.packets[0].sequence_number
    before = replace(report(call), highest_sequence=first, packets_lost=2)
    await call.hear(RtcpRrPacket(ssrc=1, reports=[before]))
    clock.now += 1.0
    last = replace(before, highest_sequence=first + 20, packets_lost=7)
    await call.hear(RtcpRrPacket(ssrc=1, reports=[last]))
    reception, seen = call.feedback.heard[-2:]
    assert (reception.fraction_lost, seen.loss) == (0.25, 0.25)
    assert seen.delivered_bps > 0


async def test_the_round_trip_is_measured_from_our_last_report(make: Any) -> None:
    call = await make()
    rtc: Any = call.rtc
    rtc._RTCRtpSender__lsr = 0x12345678
    rtc._RTCRtpSender__lsr_time = time.time() - 1.0
    for lsr, dlsr in ((0x12345678, 0), (0x11111111, 65_536 // 2)):
        await call.hear(RtcpRrPacket(ssrc=1, reports=[report(call, lsr=lsr, dlsr=dlsr)]))
        assert call.feedback.heard[-1].round_trip_s is None
    answer = report(call, lsr=0x12345678, dlsr=round(0.9 * 65_536))
    await call.hear(RtcpRrPacket(ssrc=1, reports=[answer]))
    assert 0.099 < call.feedback.heard[-1].round_trip_s < 5
    lie = report(call, lsr=0x12345678, dlsr=0xFFFFFFFF)
    before = call.feedback.heard[-1].round_trip_s
    await call.hear(RtcpRrPacket(ssrc=1, reports=[lie]))
    assert call.feedback.heard[-1].round_trip_s == before


async def test_a_missed_packet_is_sent_again_in_a_stream_of_its_own(make: Any) -> None:
    call = await make(RTX)
    call.sender.frame(FRAME)
    sent = call.wire.taken()
    await call.nack(sent[1].sequence_number, sent[-1].sequence_number)
    again = call.wire.taken()
    assert {(packet.payload_type, packet.ssrc) for packet in again} == {(103, call.rtc._rtx_ssrc)}
    assert again[1].sequence_number == (again[0].sequence_number + 1) & 0xFFFF
    unwrapped = [unwrap_rtx(packet, payload_type=102, ssrc=call.rtc._ssrc) for packet in again]
    assert [packet.serialize() for packet in unwrapped] == [
        packet.serialize() for packet in (sent[1], sent[-1])
    ]


async def test_without_such_a_stream_the_very_same_packet_is_sent_again(make: Any) -> None:
    call = await make()
    call.sender.frame(FRAME)
    sent = call.wire.taken()
    await call.nack(sent[1].sequence_number)
    assert [packet.serialize() for packet in call.wire.packets] == [sent[1].serialize()]


async def test_a_nack_of_another_stream_or_of_nothing_sends_nothing(make: Any) -> None:
    call = await make(RTX)
    call.sender.frame(FRAME)
    sent = call.wire.taken()
    await call.hear(
        RtcpRtpfbPacket(fmt=RTCP_RTPFB_NACK, ssrc=1, media_ssrc=99, lost=[sent[0].sequence_number])
    )
    await call.nack()
    await call.nack(sent[-1].sequence_number + 1)
    assert call.wire.packets == []


async def test_what_we_do_not_know_is_passed_over(make: Any) -> None:
    call = await make()
    for packet in (SimpleNamespace(), RtcpRtpfbPacket(15, 1, call.rtc._ssrc), object()):
        await call.hear(packet)
    assert call.feedback.heard == ["started"]


@pytest.mark.parametrize("seed", range(20))
async def test_garbage_in_the_shape_of_rtcp_hurts_nobody(make: Any, seed: int) -> None:
    call = await make(RTX)
    call.sender.frame(FRAME)
    noise = random.Random(seed)
    ssrc = call.rtc._ssrc.to_bytes(4, "big")
    for _ in range(200):
        kind, words = noise.choice([201, 205, 206]), noise.randrange(2, 12)
        body = bytearray(noise.randbytes(words * 4))
        at = noise.choice([0, 4, 8, 16])
        body[at : at + 4] = noise.choice([ssrc, b"REMB", bytes(4)])
        data = bytes([0x80 | noise.choice([0, 1, 4, 15]), kind, 0, words]) + bytes(body)
        try:
            packets = RtcpPacket.parse(data[: 4 + words * 4])
        except ValueError:
            continue
        for packet in packets:
            await call.hear(packet)
    call.wire.taken()
    call.sender.frame(DELTA)
    assert len(call.wire.packets) == 1


# -- a congested network -------------------------------------------------------------------


async def congested(make: Any, bits_per_second: int = 400_000) -> tuple[Call, Clock]:
    call = await make(RTX)
    clock = Clock(call)
    call.sender.frame(FRAME)
    call.sender.limit(bits_per_second, congested_until=float("inf"))
    return call, clock


async def test_what_a_congested_network_cannot_carry_is_left_out_up_to_a_keyframe(
    make: Any,
) -> None:
    call, clock = await congested(make)
    call.sender.frame(replace(large(25), keyframe=False))
    call.wire.taken()
    call.sender.frame(DELTA)
    assert call.wire.packets == []
    assert (call.sender.skips, call.sender.dropped) == (1, 1)
    clock.now += 0.45
    call.sender.frame(DELTA)
    assert "keyframe" not in call.feedback.heard, "first the network has to drain"
    clock.now += 0.3
    call.sender.frame(DELTA)
    assert call.feedback.heard.count("keyframe") == 1
    call.sender.frame(FRAME)
    call.sender.frame(DELTA)
    assert {packet.timestamp for packet in call.wire.packets} != set()
    assert sum(packet.marker for packet in call.wire.packets) == 2


async def test_the_keyframe_of_another_rung_always_leaves(make: Any) -> None:
    call, clock = await congested(make)
    call.sender.frame(replace(large(25), keyframe=False))
    clock.now += 0.01
    call.wire.taken()
    call.sender.frame(FRAME)
    assert call.wire.packets == []
    call.sender.frame(replace(FRAME, rung=1))
    assert call.wire.packets[-1].marker


async def test_a_network_that_is_not_congested_is_given_all(make: Any) -> None:
    call, clock = await congested(make, 150_000)
    call.sender.limit(150_000, congested_until=clock.now)
    for _ in range(10):
        call.sender.frame(replace(large(30), keyframe=False))
        clock.now += 0.04
    assert (call.sender.skips, call.sender.dropped) == (0, 0)


async def test_a_congested_network_is_given_no_repetitions(make: Any) -> None:
    call, clock = await congested(make)
    call.sender.frame(replace(large(30), keyframe=False))
    sent = call.wire.taken()
    await call.nack(sent[0].sequence_number)
    assert call.wire.packets == []
    assert call.sender.history.refused == 1
    clock.now += 0.4
    await call.nack(sent[0].sequence_number)
    assert len(call.wire.packets) == 1


async def test_what_was_left_behind_at_a_skip_is_not_sent_again(make: Any) -> None:
    call, clock = await congested(make)
    call.sender.frame(replace(large(25), keyframe=False))
    sent = call.wire.taken()
    call.sender.frame(DELTA)
    clock.now += 10.0
    await call.nack(sent[0].sequence_number)
    assert call.wire.packets == []
    assert "keyframe" not in call.feedback.heard


# -- sender reports ------------------------------------------------------------------------


async def test_the_counters_of_the_sender_reports_are_right(make: Any) -> None:
    call = await make(RTX)
    rtc: Any = call.rtc
    call.sender.frame(FRAME)
    call.sender.frame(replace(DELTA, timestamp_us=1_041_667))
    packets = list(call.wire.packets)
    await call.nack(packets[0].sequence_number)
    assert rtc._RTCRtpSender__packet_count == len(packets)
    assert rtc._RTCRtpSender__octet_count == sum(len(packet.payload) for packet in packets)
    assert rtc._RTCRtpSender__rtp_timestamp == packets[-1].timestamp
    assert 0 <= current_ntp_time() - rtc._RTCRtpSender__ntp_timestamp < 10 << 32


@pytest.mark.parametrize(
    ("wall_ns", "seconds", "fraction"),
    [
        (0, 2_208_988_800, 0),
        (1_500_000_000, 2_208_988_801, 1 << 31),
        (250_000_000, 2_208_988_800, 1 << 30),
    ],
)
def test_wall_time_in_the_words_of_ntp(wall_ns: int, seconds: int, fraction: int) -> None:
    assert ntp_time(wall_ns) == seconds << 32 | fraction
