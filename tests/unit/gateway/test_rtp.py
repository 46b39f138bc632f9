"""Frames cut into RTP packets, against what aiortc's own parser makes of them."""

from __future__ import annotations

import random
from typing import Any

import pytest
from aiortc import rtp as aiortc_rtp
from aiortc.codecs import h264_depayload, vp8_depayload
from aiortc.codecs.h264 import H264Encoder, H264PayloadDescriptor
from aiortc.codecs.vpx import VpxPayloadDescriptor
from aiortc.rtcrtpparameters import RTCRtpHeaderExtensionParameters, RTCRtpParameters
from aiortc.rtp import (
    HeaderExtensions,
    HeaderExtensionsMap,
    RtpPacket,
)
from hypothesis import given
from hypothesis import strategies as st

from gateway.webrtc.rtp import (
    MAX_PACKET,
    PacketHeader,
    cut_h264,
    cut_vp8,
    sequence_of,
)

pytestmark = pytest.mark.unit

ROOM = 1176
START = b"\x00\x00\x00\x01"
MID_URI = "urn:ietf:params:rtp-hdrext:sdes:mid"
TIME_URI = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"
NUMBER_URI = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
NOW = 1_764_000_000.123


def unit(kind: int, size: int, seed: int = 1) -> bytes:
    """A NAL unit without a start code inside."""
    body = random.Random(seed).randbytes(size - 1).replace(b"\x00", b"\x7f")
    return bytes([0x60 | kind]) + body


def annex_b(*units: bytes) -> bytes:
    return b"".join(START + each for each in units)


def known(extensions: dict[str, int]) -> HeaderExtensionsMap:
    """The table of negotiated header extensions that aiortc itself uses."""
    table = HeaderExtensionsMap()
    parameters = RTCRtpParameters(
        headerExtensions=[
            RTCRtpHeaderExtensionParameters(id=number, uri=uri)
            for uri, number in extensions.items()
        ]
    )
    table.configure(parameters)
    return table


# -- H.264 ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "units",
    [
        [unit(1, 500)],
        [unit(1, ROOM)],
        [unit(1, ROOM + 1)],
        [unit(1, 13_000)],
        [unit(7, 20), unit(8, 6), unit(5, 30_000)],
        [unit(7, 20), unit(8, 6), unit(6, 700), unit(5, 400)],
        [unit(1, 3000, 1), unit(1, 3000, 2), unit(1, 10, 3)],
        [unit(6, ROOM - 2), unit(1, 900)],
        [unit(6, 30, seed) for seed in range(25)],
    ],
    ids=lambda units: "-".join(str(len(each)) for each in units)[:30],
)
def test_the_payloads_of_h264_give_the_frame_back(units: list[bytes]) -> None:
    payloads = cut_h264(annex_b(*units), ROOM)
    assert b"".join(map(h264_depayload, payloads)) == annex_b(*units)
    assert max(map(len, payloads)) <= ROOM


@given(st.lists(st.integers(2, 5000), min_size=1, max_size=8), st.integers(60, 1200))
def test_any_units_come_through_any_room(sizes: list[int], room: int) -> None:
    units = [unit(1 + index % 8, size, size) for index, size in enumerate(sizes)]
    payloads = cut_h264(annex_b(*units), room)
    assert b"".join(map(h264_depayload, payloads)) == annex_b(*units)
    assert max(map(len, payloads)) <= room


def test_parameter_sets_share_a_packet_as_aiortc_makes_it() -> None:
    sets = [unit(7, 20), unit(8, 6)]
    ours = cut_h264(annex_b(*sets, unit(5, 4000)), ROOM)[0]
    theirs = H264Encoder._packetize(iter([*sets, unit(5, 4000)]))[0]
    assert ours == theirs
    assert ours[0] & 0x1F == 24


def test_fragments_are_of_one_length_but_the_last() -> None:
    payloads = cut_h264(annex_b(unit(1, 13_003)), ROOM)
    sizes = [len(payload) for payload in payloads]
    assert len(set(sizes[:-1])) == 1
    assert sizes[0] - len(sizes) < sizes[-1] <= sizes[0]
    firsts = [H264PayloadDescriptor.parse(payload)[0].first_fragment for payload in payloads]
    assert firsts == [True] + [False] * (len(payloads) - 1)
    assert [bool(payload[1] & 0x40) for payload in payloads] == [False] * (len(sizes) - 1) + [True]


def test_short_start_codes_and_zeros_between_units_are_understood() -> None:
    first, second = unit(1, 50, 1), unit(1, 60, 2)
    frame = b"\x00\x00\x01" + first + b"\x00\x00\x00\x00\x01" + second
    payloads = cut_h264(frame, ROOM)
    assert b"".join(map(h264_depayload, payloads)) == annex_b(first, second)


@pytest.mark.parametrize("frame", [b"", b"\x00\x00\x01", b"\x00\x00\x01\x00\x00\x01", b"no units"])
def test_a_frame_without_units_has_no_payloads(frame: bytes) -> None:
    assert cut_h264(frame, ROOM) == []


def test_what_follows_a_frame_is_kept_to_the_last_bit() -> None:
    tail = b"\x0c\x00\x00\x00RXMT\x00\x00"
    frame = annex_b(unit(7, 20), unit(5, 3000))
    payloads = cut_h264(frame, ROOM, tail)
    assert b"".join(map(h264_depayload, payloads)) == frame + tail


# -- VP8 -----------------------------------------------------------------------------------


@given(st.binary(min_size=1, max_size=20_000), st.integers(0, 0x7FFF), st.integers(50, 1200))
def test_the_payloads_of_vp8_give_the_frame_back(frame: bytes, picture_id: int, room: int) -> None:
    payloads = cut_vp8(frame, room, picture_id, b"tail")
    assert b"".join(map(vp8_depayload, payloads)) == frame + b"tail"
    assert max(map(len, payloads)) <= room
    assert len({len(payload) for payload in payloads[:-1]}) <= 1
    descriptors = [VpxPayloadDescriptor.parse(payload)[0] for payload in payloads]
    assert {each.picture_id for each in descriptors} == {picture_id}
    assert [each.partition_start for each in descriptors] == [1] + [0] * (len(payloads) - 1)
    assert {each.partition_id for each in descriptors} == {0}


# -- headers -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("extensions", "mid"),
    [
        ({}, None),
        ({MID_URI: 1}, "1"),
        ({TIME_URI: 2}, None),
        ({MID_URI: 1, TIME_URI: 2}, "0"),
        ({MID_URI: 4, TIME_URI: 3}, "video-section"),
        ({MID_URI: 1, TIME_URI: 2}, "a section with a rather long name"),
        ({MID_URI: 1, TIME_URI: 22}, "1"),
    ],
)
def test_packets_are_to_the_last_byte_what_aiortc_would_send(
    extensions: dict[str, int], mid: str | None
) -> None:
    header = PacketHeader(
        102,
        0xDEADBEEF,
        mid=None if mid is None else (extensions[MID_URI], mid),
        abs_send_time=extensions.get(TIME_URI),
    )
    payloads = [b"first", b"second", b"third"]
    ours = header.packets(payloads, 65_535, 123_456, NOW)
    sent = int(NOW * (1 << 18)) & 0xFFFFFF
    for index, payload in enumerate(payloads):
        theirs = RtpPacket(102, int(index == 2), (65_535 + index) & 0xFFFF, 123_456, 0xDEADBEEF)
        theirs.payload = payload
        theirs.extensions = HeaderExtensions(mid=mid, abs_send_time=sent)
        assert ours[index] == theirs.serialize(known(extensions))
        assert header.size == len(ours[index]) - len(payload)
        assert sequence_of(ours[index]) == theirs.sequence_number


@pytest.mark.parametrize(
    "extensions",
    [
        {NUMBER_URI: 3},
        {MID_URI: 1, TIME_URI: 2, NUMBER_URI: 3},
        {MID_URI: 1, NUMBER_URI: 3},
        {TIME_URI: 14, NUMBER_URI: 15},
    ],
)
def test_every_packet_has_its_number_among_all_of_the_transport(extensions: dict[str, int]) -> None:
    of_them: dict[str, Any] = {
        "mid": (extensions[MID_URI], "1") if MID_URI in extensions else None,
        "abs_send_time": extensions.get(TIME_URI),
        "transport_number": extensions[NUMBER_URI],
    }
    header = PacketHeader(102, 7, **of_them)
    again = PacketHeader(103, 8, **of_them)
    packets = header.packets([b"first", b"last"], 9, 99, NOW, number=65_535)
    packets.append(again.retransmission(packets[0], header, 17, NOW, number=65_537))
    parsed = [RtpPacket.parse(packet, known(extensions)) for packet in packets]
    assert [each.extensions.transport_sequence_number for each in parsed] == [65_535, 0, 1]
    assert {each.extensions.mid for each in parsed} == {"1" if MID_URI in extensions else None}
    timed = [each.extensions.abs_send_time is not None for each in parsed]
    assert timed == [TIME_URI in extensions] * 3
    assert [each.payload for each in parsed] == [b"first", b"last", b"\x00\x09first"]
    assert header.size == len(packets[0]) - len(b"first")


def test_a_part_of_a_frame_has_no_marker() -> None:
    header = PacketHeader(96, 1)
    packets = header.packets([b"a", b"b"], 1, 2, NOW, ends=False)
    assert [RtpPacket.parse(packet).marker for packet in packets] == [0, 0]


def test_a_section_name_that_no_header_can_hold_is_left_out() -> None:
    header = PacketHeader(96, 1, mid=(1, "x" * 300))
    assert header.packets([b"a"], 1, 2, NOW) == PacketHeader(96, 1).packets([b"a"], 1, 2, NOW)


def test_a_whole_packet_fits_the_smallest_ipv6_path() -> None:
    header = PacketHeader(96, 1, mid=(1, "1"), abs_send_time=2)
    payloads = cut_h264(annex_b(unit(1, 100_000)), MAX_PACKET - header.size)
    assert max(map(len, header.packets(payloads, 1, 2, NOW))) <= MAX_PACKET
    assert MAX_PACKET + 2 + 16 + 8 + 40 <= 1280


def test_a_retransmission_is_what_aiortc_unwraps() -> None:
    extensions = {MID_URI: 1, TIME_URI: 2}
    header = PacketHeader(102, 7, mid=(1, "1"), abs_send_time=2)
    again = PacketHeader(103, 8, mid=(1, "1"), abs_send_time=2)
    for packet in header.packets([b"first", b"last"], 65_535, 99, NOW):
        wrapped = again.retransmission(packet, header, 17, NOW + 1)
        parsed = RtpPacket.parse(wrapped, known(extensions))
        assert (parsed.payload_type, parsed.ssrc, parsed.sequence_number) == (103, 8, 17)
        assert parsed.extensions.mid == "1"
        assert parsed.extensions.abs_send_time == int((NOW + 1) * (1 << 18)) & 0xFFFFFF
        original = RtpPacket.parse(packet, known(extensions))
        unwrapped = aiortc_rtp.unwrap_rtx(parsed, payload_type=102, ssrc=7)
        original.extensions = unwrapped.extensions
        assert unwrapped.serialize() == original.serialize()
