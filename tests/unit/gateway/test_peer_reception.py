"""RTP packets: header, payload formats, statistics and what is asked for again."""

from __future__ import annotations

import random
import struct

import pytest
from aiortc.codecs import h264_depayload, vp8_depayload
from aiortc.codecs.h264 import H264Encoder
from aiortc.codecs.vpx import Vp8Encoder
from aiortc.rtcrtpparameters import RTCRtpHeaderExtensionParameters, RTCRtpParameters
from aiortc.rtp import HeaderExtensionsMap, RtpPacket
from hypothesis import given
from hypothesis import strategies as st

from gateway.webrtc.assembly import CLOCK_RATE, PATIENCE_S
from gateway.webrtc.reception import (
    MAX_ASKS,
    MAX_MISSING,
    MAX_PATIENCE_S,
    RETRY_S,
    MissingPackets,
    ReceptionStatistics,
    h264_part,
    header_extension,
    payload_span,
    vp8_part,
)

pytestmark = pytest.mark.unit

START = b"\x00\x00\x00\x01"


def rtp(payload: bytes = b"payload", *, flags: int = 0x80, after: bytes = b"") -> bytes:
    return struct.pack("!BBHLL", flags, 96, 1, 2, 3) + after + payload


# -- header --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("packet", "payload"),
    [
        (rtp(), b"payload"),
        (rtp(b""), b""),
        (rtp(flags=0x82, after=bytes(8)), b"payload"),
        (rtp(flags=0x90, after=b"\xbe\xde\x00\x01\x10\x30\x00\x00"), b"payload"),
        (rtp(b"payload\x00\x00\x03", flags=0xA0), b"payload"),
        (rtp(b"\x01", flags=0xA0), b""),
    ],
    ids=["plain", "empty", "sources", "extension", "padded", "only-padding"],
)
def test_the_payload_is_what_the_header_leaves(packet: bytes, payload: bytes) -> None:
    start, end = payload_span(packet)
    assert packet[start:end] == payload


@pytest.mark.parametrize(
    "packet",
    [
        rtp(b"", flags=0x8F),
        rtp(b"", flags=0x90),
        rtp(b"", flags=0x90, after=b"\xbe\xde\x00\x09"),
        rtp(b"\x00", flags=0xA0),
        rtp(b"\x09", flags=0xA0),
        rtp(flags=0x40),
        rtp(flags=0x00),
    ],
    ids=["sources", "no-extension", "extension", "no-padding", "padding", "version", "zero"],
)
def test_a_malformed_header_is_refused(packet: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        payload_span(packet)


@given(st.binary(min_size=12, max_size=80))
def test_any_header_is_read_as_aiortc_reads_it_or_refused(packet: bytes) -> None:
    try:
        start, end = payload_span(packet)
    except ValueError:
        return
    if packet[0] & 0x10:  # aiortc also refuses a packet over an extension nobody asked for
        packet = bytes([packet[0] & ~0x10]) + packet[1:12] + packet[start:]
        start, end = payload_span(packet)
    if packet[0] & 0x0F == 0:
        assert packet[start:end] == RtpPacket.parse(packet).payload


@pytest.mark.parametrize(("mid", "identifier"), [("0", 3), ("a-mid-of-more-than-sixteen", 3)])
def test_a_header_extension_is_found_in_either_form(mid: str, identifier: int) -> None:
    extensions = HeaderExtensionsMap()
    extensions.configure(
        RTCRtpParameters(
            headerExtensions=[
                RTCRtpHeaderExtensionParameters(1, "urn:ietf:params:rtp-hdrext:sdes:mid"),
                RTCRtpHeaderExtensionParameters(
                    3, "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"
                ),
            ]
        )
    )
    packet = RtpPacket(payload=b"payload")
    packet.extensions.mid = mid
    packet.extensions.abs_send_time = 0x123456
    data = packet.serialize(extensions)
    assert header_extension(data, identifier) == b"\x12\x34\x56"
    assert header_extension(data, 1) == mid.encode()
    assert header_extension(data, 5) is None
    assert header_extension(rtp(), identifier) is None


@given(st.binary(max_size=40), st.integers(1, 14))
def test_any_header_extension_is_read_without_a_fault(extension: bytes, identifier: int) -> None:
    extension = extension[: len(extension) // 4 * 4]
    for profile in (0xBEDE, 0x1000, 0x1234):
        after = struct.pack("!HH", profile, len(extension) // 4) + extension
        packet = rtp(flags=0x90, after=after)
        payload_span(packet)
        found = header_extension(packet, identifier)
        assert found is None or found in extension


# -- payload formats -----------------------------------------------------------------------


def test_h264_comes_out_as_it_was_cut() -> None:
    units = [b"\x67sps", b"\x68pps", b"\x65" + bytes(4000), b"\x65" + bytes(900)]
    payloads = H264Encoder._packetize(iter(units))
    assert {payload[0] & 0x1F for payload in payloads} >= {24, 28}
    whole = b"".join(h264_part(payload, 0, len(payload)) for payload in payloads)
    assert whole == b"".join(START + unit for unit in units)


def test_vp8_comes_out_as_it_was_cut() -> None:
    frame = bytes(range(256)) * 20
    for picture in (1, 0x7FFF):
        payloads = Vp8Encoder._packetize(frame, picture)
        assert b"".join(vp8_part(payload, 0, len(payload)) for payload in payloads) == frame


@given(st.binary(max_size=60))
def test_any_payload_is_read_as_aiortc_reads_it_or_refused(payload: bytes) -> None:
    for ours, theirs in ((h264_part, h264_depayload), (vp8_part, vp8_depayload)):
        packet = rtp(payload)
        try:
            part = ours(packet, 12, len(packet))
        except ValueError:
            continue
        try:
            assert part == theirs(payload)
        except (ValueError, IndexError):
            assert part in START + payload or part.startswith(START)


# -- statistics ----------------------------------------------------------------------------


def test_a_report_counts_losses_of_its_interval_and_of_all() -> None:
    statistics = ReceptionStatistics()
    for sequence in range(65_500, 65_600):
        if sequence % 4:
            statistics.add(sequence % 65_536, 0, 0.0)
    fraction, lost, highest, _ = statistics.report()
    assert (lost, highest) == (24, 65_599)
    assert fraction == pytest.approx(64, abs=2)
    assert statistics.report()[:3] == (0, 24, 65_599)


def test_packets_that_come_late_or_twice_are_no_loss() -> None:
    statistics = ReceptionStatistics()
    for sequence in (1, 3, 2, 4, 4):
        statistics.add(sequence, 0, 0.0)
    assert statistics.report()[:3] == (0, -1, 4)


def test_a_sequence_that_jumps_begins_a_new_count() -> None:
    statistics = ReceptionStatistics()
    for sequence in (1, 2, 40_000, 40_001):
        statistics.add(sequence, 0, 0.0)
    assert statistics.report()[:3] == (0, 0, 40_001)


def test_jitter_is_that_of_rfc_3550() -> None:
    statistics = ReceptionStatistics()
    expected, chance, before = 0.0, random.Random(5), 0.0
    for index in range(100):
        delay = chance.uniform(0, 0.01)
        statistics.add(index, 2**32 - 30 * 3000 + index * 3000 & 0xFFFFFFFF, index / 30 + delay)
        if index:
            expected += (abs(delay - before) * CLOCK_RATE - expected) / 16
        before = delay
    assert statistics.report()[3] == pytest.approx(expected, abs=1.5)


def test_nothing_received_reports_nothing() -> None:
    assert ReceptionStatistics().report() == (0, 0, 0, 0)


# -- what is asked for again ---------------------------------------------------------------


def test_packets_in_order_ask_for_nothing() -> None:
    missing = MissingPackets()
    for sequence in range(65_530, 65_560):
        assert not missing.received(sequence % 65_536, 0.0)


def test_missing_packets_are_asked_for_at_once_and_twice_more() -> None:
    missing = MissingPackets()
    missing.received(65_534, 0.0)
    asked = [list(missing.received(2, 0.0))]
    now = 0.0
    for sequence in range(3, 40):
        now += RETRY_S / 4
        again = list(missing.received(sequence, now))
        if again:
            asked.append(again)
    assert asked == [[65_535, 0, 1]] * MAX_ASKS
    assert not missing._missing


def test_what_has_come_is_not_asked_for_again() -> None:
    missing = MissingPackets()
    missing.received(1, 0.0)
    assert list(missing.received(4, 0.0)) == [2, 3]
    missing.received(2, 0.01)
    assert list(missing.received(5, 1.0)) == [3]


def test_patience_follows_the_round_trip_within_bounds() -> None:
    missing = MissingPackets()
    assert missing.patience_s == PATIENCE_S
    missing.received(1, 0.0)
    missing.received(3, 0.0)
    missing.received(2, 0.3, again=True)
    assert missing.round_trip_s == pytest.approx(0.3)
    assert missing.patience_s == pytest.approx(0.66)
    missing.received(5, 1.0)
    missing.received(4, 9.0, again=True)
    assert missing.patience_s == MAX_PATIENCE_S


def test_a_packet_that_was_only_late_says_nothing_of_the_round_trip() -> None:
    missing = MissingPackets()
    missing.received(1, 0.0)
    missing.received(3, 0.0)
    missing.received(2, 0.001)
    assert missing.round_trip_s is None


@given(st.lists(st.tuples(st.integers(0, 65_535), st.booleans()), max_size=200))
def test_whatever_comes_what_is_asked_for_is_bounded(packets: list[tuple[int, bool]]) -> None:
    missing = MissingPackets()
    for index, (sequence, again) in enumerate(packets):
        asked = missing.received(sequence, index / 100, again=again)
        assert len(asked) == len(set(asked)) <= MAX_MISSING
        assert sequence not in asked
        assert len(missing._missing) <= MAX_MISSING
