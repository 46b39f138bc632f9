"""RTP packets to whole frames by their headers, and what is told of them."""

from __future__ import annotations

import random

import pytest
from aiortc.rtp import RtcpPacket, RtcpPsfbPacket, RtcpRrPacket, RtcpRtpfbPacket
from aiortc.rtp import RtcpReceiverInfo as Block

from gateway.webrtc import frame_metadata, sdp
from sdk_adapters.harness.generator.doors import rtcp, trailer
from sdk_adapters.harness.generator.doors.reception import (
    ASKS,
    PATIENCE_S,
    Frame,
    Packet,
    Part,
    Reception,
    Report,
)

pytestmark = pytest.mark.unit

EACH = 4
"""Packets of a frame."""


def stream(frames: int, first: int = 65_530) -> list[Packet]:
    """Returns the packets of frames, the numbers of which wrap."""
    return [
        Packet(
            sequence=(first + frame * EACH + index) & 0xFFFF,
            timestamp=(frame * 3750 + 2**32 - 9_000) & 0xFFFFFFFF,
            marker=index == EACH - 1,
            size=100,
            part=Part(bytes([frame, index]), clear=True),
        )
        for frame in range(frames)
        for index in range(EACH)
    ]


def taken(reception: Reception, packets: list[Packet]) -> list[Frame]:
    return [
        frame
        for number, packet in enumerate(packets)
        for frame in reception.packet(packet, number * 1e-3)
    ]


def numbers(frames: list[Frame]) -> list[int]:
    return [frame.parts[-1].data[0] for frame in frames]


def test_packets_in_order_make_frames() -> None:
    frames = taken(Reception(keep=False), stream(10))
    assert numbers(frames) == list(range(10))
    assert {frame.size for frame in frames} == {100 * EACH}
    assert {len(frame.parts) for frame in frames} == {1}


def test_a_frame_brings_all_its_packets_where_they_are_kept() -> None:
    frames = taken(Reception(keep=True), stream(3))
    assert [[part.data[1] for part in frame.parts] for frame in frames] == [[0, 1, 2, 3]] * 3


def test_packets_that_overtake_one_another_make_the_same_frames() -> None:
    source = random.Random(4)
    packets = stream(40)
    shuffled = packets[:1] + sorted(packets[1:], key=lambda each: source.random() * 6 + _at(each))
    frames = taken(Reception(keep=True), shuffled)
    assert numbers(frames) == list(range(40))
    assert all(len(frame.parts) == EACH for frame in frames)


def _at(packet: Packet) -> int:
    return (packet.sequence - 65_530) & 0xFFFF


def test_a_frame_with_a_missing_packet_waits_for_it_and_so_do_those_behind() -> None:
    reception, packets = Reception(keep=False), stream(4)
    late = packets.pop(5)
    assert numbers(taken(reception, packets)) == [0]
    assert not reception.in_order
    assert numbers(reception.packet(late, 0.1, again=True)) == [1, 2, 3]
    assert reception.in_order
    assert not reception.keyframe_wanted


@pytest.mark.parametrize("index", range(EACH, 2 * EACH))
def test_a_frame_is_given_up_when_its_packet_never_comes(index: int) -> None:
    reception, packets = Reception(keep=False), stream(4)
    del packets[index]
    frames = taken(reception, packets)
    assert reception.overdue(PATIENCE_S) == []
    frames += reception.overdue(0.1 + PATIENCE_S)
    assert numbers(frames) == [0, 2, 3]
    assert reception.keyframe_wanted
    assert reception.in_order


def test_a_frame_whose_beginning_may_be_lost_is_no_frame() -> None:
    reception, packets = Reception(keep=False), stream(4)
    del packets[EACH + 2 : 2 * EACH + 1]
    frames = taken(reception, packets) + reception.overdue(1.0)
    assert numbers(frames) == [0, 3]


def test_duplicates_and_what_was_given_up_are_passed_over() -> None:
    reception, packets = Reception(keep=False), stream(3)
    late = packets.pop(5)
    frames = taken(reception, packets + packets)
    frames += reception.overdue(1.0)
    assert reception.packet(late, 1.0) == []
    assert numbers(frames) == [0, 2]


def test_missing_packets_are_asked_for_a_few_times() -> None:
    reception, packets = Reception(keep=False), stream(3)
    del packets[5:7]
    taken(reception, packets)
    asked = [reception.to_ask(1.0 + 0.1 * turn) for turn in range(10)]
    assert asked == [[65_535, 0]] * ASKS + [[]] * (10 - ASKS)
    assert reception.to_ask(1.0) == []


def test_a_burst_is_as_good_as_its_packets() -> None:
    reception, frames = Reception(keep=False), []
    for first in range(0, 40, EACH):
        group = stream(10)[first : first + EACH]
        head = group[0]
        took = reception.burst(head.sequence, EACH - 1, head.timestamp, 100 * (EACH - 1))
        assert took == (first > 0), "the first packet of all is taken alone"
        for packet in group[EACH - 1 if took else 0 :]:
            frames += reception.packet(packet, 0.0)
    assert numbers(frames) == list(range(10))
    assert {frame.size for frame in frames} == {100 * EACH}
    assert reception.report() == Report(0, 0, 33, 0)


def test_a_burst_behind_a_missing_packet_is_refused() -> None:
    reception, packets = Reception(keep=False), stream(4)
    taken(reception, packets[:5])
    taken(reception, packets[6:8])
    assert not reception.burst(packets[8].sequence, 3, packets[8].timestamp, 300)


def test_a_report_tells_of_lost_packets_even_if_they_came_again() -> None:
    reception, packets = Reception(keep=False), stream(25, first=100)
    assert reception.report() is None
    lost = packets.pop(50)
    taken(reception, packets)
    reception.packet(lost, 0.2, again=True)
    assert reception.report() == Report(2, 1, 199, 0)
    assert reception.report() == Report(0, 1, 199, 0)


def test_jitter_is_told_in_ticks() -> None:
    reception = Reception(keep=False)
    for number in range(500):
        reception.arrived(number * 3750, number / 24 + 0.01 * (number % 2))
    taken(reception, stream(1))
    report = reception.report()
    assert report is not None
    assert report.jitter == pytest.approx(900, rel=0.1)


def test_aiortc_reads_what_is_reported() -> None:
    data = rtcp.receiver_report(7, 9, Report(3, 70_000, 0x10005, 44), (0xABCD, 0.5))
    (packet,) = RtcpPacket.parse(data)
    assert isinstance(packet, RtcpRrPacket)
    assert packet.reports == [
        Block(
            ssrc=9, fraction_lost=3, packets_lost=70_000, highest_sequence=0x10005,
            jitter=44, lsr=0xABCD, dlsr=32_768,
        )
    ]  # fmt: skip


def test_aiortc_reads_what_is_asked_for() -> None:
    asked = [5, 6, 21, 22, 65_535]
    (packet,) = RtcpPacket.parse(rtcp.nack(7, 9, asked))
    assert isinstance(packet, RtcpRtpfbPacket)
    assert (packet.ssrc, packet.media_ssrc, packet.lost) == (7, 9, asked)
    (lost,) = RtcpPacket.parse(rtcp.picture_lost(7, 9))
    assert isinstance(lost, RtcpPsfbPacket)
    assert (lost.fmt, lost.media_ssrc) == (1, 9)


def test_what_a_sender_tells_is_read() -> None:
    from aiortc.rtp import RtcpSenderInfo, RtcpSrPacket

    info = RtcpSenderInfo(ntp_timestamp=0x1111_2222_3333_4444, rtp_timestamp=1, packet_count=2,
                          octet_count=3)  # fmt: skip
    sender = bytes(RtcpSrPacket(ssrc=9, sender_info=info))
    told = list(rtcp.heard(sender + rtcp.nack(1, 2, [3, 9]) + rtcp.picture_lost(1, 2)))
    assert told == [rtcp.SenderReport(9, 0x2222_3333), rtcp.Lost([3, 9]), rtcp.KeyframeAsked()]


@pytest.mark.parametrize("cut", range(0, 60, 3))
def test_damaged_reports_are_passed_over(cut: int) -> None:
    data = rtcp.nack(1, 2, [3]) + rtcp.receiver_report(1, 2, Report(0, 0, 0, 0), None)
    assert list(rtcp.heard(data[:cut])) in ([], [rtcp.Lost([3])])


@pytest.mark.parametrize(
    ("run", "frame", "source_us"), [(1, 0, 0), (3, 77, 123), (9, 2**31, 2**45)]
)
def test_the_trailer_of_the_gateway_is_read(run: int, frame: int, source_us: int) -> None:
    tail = frame_metadata.trailer(run, frame, source_us)
    assert trailer.read(b"picture" + tail) == trailer.Trailer(run, frame, source_us, len(tail))
    assert trailer.read(b"picture" + tail[:-1]) is None
    assert trailer.read(b"RXMT") is None


def test_the_gateway_reads_that_trailers_are_asked_for() -> None:
    assert trailer.asked_for("v=0\r\ns=-\r\nm=video 9").split("\r\n")[2] == sdp.FRAME_METADATA
