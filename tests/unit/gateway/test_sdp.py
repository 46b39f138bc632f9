"""Reading offers and candidates."""

from __future__ import annotations

import pytest

from gateway.webrtc import sdp
from gateway.webrtc.sdp import FRAME_METADATA, Candidate, parse_candidate, parse_offer
from sana_gateway.v1 import media_pb2
from scheduler.core.errors import BadOfferError

pytestmark = pytest.mark.unit

H264, VP8 = media_pb2.CODEC_H264, media_pb2.CODEC_VP8

SESSION = """v=0
o=- 1 1 IN IP4 0.0.0.0
s=-
t=0 0
a=group:BUNDLE 0 1 2
a=x-reactor-frame-metadata:1
a=fingerprint:sha-256 AA:BB
"""
CAMERA = """m=video 9 UDP/TLS/RTP/SAVPF 96 97 98 99 100
a=mid:0
a=sendonly
a=rtpmap:96 VP8/90000
a=rtpmap:97 rtx/90000
a=fmtp:97 apt=96
a=rtpmap:98 H264/90000
a=fmtp:98 level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42e01f
a=rtpmap:99 AV1/90000
a=rtpmap:100 H264/90000
a=fmtp:100 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f
a=candidate:1 1 udp 2122260223 192.0.2.7 50000 typ host generation 0
a=candidate:1 1 tcp 1518280447 192.0.2.7 9 typ host tcptype active
a=candidate:1 1 udp 2122260223 4f2c1e8a.local 50000 typ host
a=end-of-candidates
"""
VIDEO = """m=video 9 UDP/TLS/RTP/SAVPF 96
a=mid:1
a=rtpmap:96 VP8/90000
a=candidate:1 1 udp 2122260223 192.0.2.7 50000 typ host generation 0
"""
DATA = """m=application 9 UDP/DTLS/SCTP webrtc-datachannel
a=mid:2
a=sctp-port:5000
"""
OFFER = SESSION + CAMERA + VIDEO + DATA


def h264_section(parameters: str) -> str:
    section = "m=video 9 UDP/TLS/RTP/SAVPF 100\na=mid:1\na=rtpmap:100 H264/90000\n"
    return SESSION.replace("0 1 2", "1") + section + f"a=fmtp:100 {parameters}\n"


def test_sections_are_read_in_order_with_our_codecs_in_the_clients_order() -> None:
    offer = parse_offer(OFFER)
    assert [(each.mid, each.kind, each.direction) for each in offer.sections] == [
        ("0", "video", "sendonly"),
        ("1", "video", "sendrecv"),
        ("2", "application", "sendrecv"),
    ]
    assert [each.codecs for each in offer.sections] == [(VP8, H264), (VP8,), ()]


def test_usable_candidates_are_taken_out_of_the_text_each_once() -> None:
    offer = parse_offer(OFFER)
    assert offer.candidates == (Candidate("1", 2122260223, "192.0.2.7", 50000, "host"),)
    assert "candidate" not in offer.sdp


def test_a_missing_direction_is_said() -> None:
    section = parse_offer(OFFER).sdp.split("m=video")[2].split("m=")[0]
    assert "a=sendrecv" in section.split("\r\n")


def test_the_bundle_group_follows_the_sections() -> None:
    shuffled = OFFER.replace("BUNDLE 0 1 2", "BUNDLE 2 0 1")
    assert "a=group:BUNDLE 0 1 2\r\n" in parse_offer(shuffled).sdp


def test_the_bundle_group_is_led_by_a_track() -> None:
    offer = parse_offer(SESSION + DATA + CAMERA + VIDEO)
    assert "a=group:BUNDLE 0 1 2\r\n" in offer.sdp
    assert [each.mid for each in offer.sections] == ["2", "0", "1"]


def test_of_a_browsers_profiles_only_the_constrained_one_counts() -> None:
    high = CAMERA.replace("96 97 98 99 100", "101 100 96").replace(
        "a=rtpmap:98 ",
        "a=rtpmap:101 H264/90000\n"
        "a=fmtp:101 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=640c1f\n"
        "a=rtpmap:98 ",
    )
    assert parse_offer(SESSION + high + VIDEO + DATA).sections[0].codecs == (H264, VP8)
    only_high = high.replace("101 100 96", "101 96")
    assert parse_offer(SESSION + only_high + VIDEO + DATA).sections[0].codecs == (VP8,)


def test_the_offer_of_frame_metadata_counts_only_in_the_session_section() -> None:
    assert parse_offer(OFFER).frame_metadata
    without = OFFER.replace(FRAME_METADATA + "\n", "")
    assert not parse_offer(without).frame_metadata
    assert not parse_offer(without + FRAME_METADATA + "\n").frame_metadata


def test_frame_metadata_is_accepted_in_the_session_section() -> None:
    answer = "v=0\r\ns=-\r\nm=video 9 X 96\r\na=mid:0\r\nm=video 9 X 96\r\na=mid:1\r\n"
    assert sdp.with_frame_metadata(answer) == answer.replace(
        "s=-\r\n", f"s=-\r\n{FRAME_METADATA}\r\n"
    )


@pytest.mark.parametrize(
    ("parameters", "usable"),
    [
        ("packetization-mode=1;profile-level-id=42e01f", True),
        ("packetization-mode=1; profile-level-id=42E01F", True),
        ("packetization-mode=1;profile-level-id=42001f", True),
        ("packetization-mode=1", True),
        ("packetization-mode=1;profile-level-id=4d001f", False),
        ("packetization-mode=1;profile-level-id=64001f", False),
        ("packetization-mode=1;profile-level-id=zz", False),
        ("packetization-mode=0;profile-level-id=42e01f", False),
        ("profile-level-id=42e01f", False),
    ],
)
def test_h264_counts_where_the_client_reads_what_we_send(parameters: str, usable: bool) -> None:
    (section,) = parse_offer(h264_section(parameters)).sections
    assert section.codecs == ((H264,) if usable else ())


def publisher_section(parameters: str, *, direction: str = "sendonly") -> str:
    return h264_section(parameters) + f"a={direction}\n"


HIGH = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=64001f"
FOREIGN = [HIGH, "packetization-mode=1;profile-level-id=4d0032", "profile-level-id=42e01f"]


@pytest.mark.parametrize("parameters", FOREIGN)
def test_who_sends_no_other_h264_is_read_all_the_same(parameters: str) -> None:
    offer = parse_offer(publisher_section(parameters))
    assert offer.sections[0].codecs == (H264,)
    assert offer.profiles == (("1", "100", parameters),)
    assert "a=fmtp:100 packetization-mode=1;profile-level-id=42e01f\r\n" in offer.sdp
    assert f"a=fmtp:100 {parameters}\r\n" not in offer.sdp


def test_h264_without_parameters_is_read_too() -> None:
    text = publisher_section("x").replace("a=fmtp:100 x\n", "")
    offer = parse_offer(text)
    assert offer.profiles == (("1", "100", ""),)
    answer = "v=0\r\nm=video 9 X 100\r\na=mid:1\r\na=rtpmap:100 H264/90000\r\n"
    ours = answer + "a=fmtp:100 packetization-mode=1;profile-level-id=42e01f\r\n"
    assert sdp.with_profiles(ours, offer.profiles) == answer


@pytest.mark.parametrize("direction", ["recvonly", "sendrecv"])
def test_who_reads_h264_is_sent_only_a_profile_that_it_names(direction: str) -> None:
    offer = parse_offer(publisher_section(HIGH, direction=direction))
    assert (offer.sections[0].codecs, offer.profiles) == ((), ())


def test_a_profile_that_we_answer_anyway_is_left_alone() -> None:
    offer = parse_offer(OFFER)
    assert offer.profiles == ()
    assert sdp.with_profiles("v=0\r\n", ()) == "v=0\r\n"


def test_a_profile_is_answered_as_it_was_offered() -> None:
    answer = (
        "v=0\r\nm=audio 9 X 0\r\na=mid:0\r\na=fmtp:100 audio\r\n"
        "m=video 9 X 100\r\na=mid:1\r\na=rtpmap:100 H264/90000\r\n"
        "a=fmtp:100 packetization-mode=1;profile-level-id=42e01f\r\na=recvonly\r\n"
    )
    assert sdp.with_profiles(answer, (("1", "100", HIGH),)) == answer.replace(
        "packetization-mode=1;profile-level-id=42e01f", HIGH
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "garbage",
        "v=0",
        SESSION,
        SESSION.replace("0 1 2", "2") + DATA,
        OFFER.replace("v=0", "v=1"),
        OFFER.replace("a=group:BUNDLE 0 1 2", "a=x"),
        OFFER.replace("a=group:BUNDLE 0 1 2", "a=group:BUNDLE 0 1"),
        OFFER.replace("a=fingerprint:sha-256 AA:BB\n", ""),
        OFFER.replace("a=mid:1\n", ""),
        OFFER.replace("a=mid:1\n", "a=mid:0\n"),
        OFFER.replace("m=application 9", "m=message 9"),
        OFFER.replace("m=application 9", "m=application x"),
        SESSION + CAMERA * (sdp.MAX_SECTIONS + 1),
        OFFER + "a=x" * sdp.MAX_OFFER_BYTES,
        OFFER + "a=" + "\u00e9" * (sdp.MAX_OFFER_BYTES * 2 // 3),
    ],
)
def test_what_cannot_be_answered_is_a_bad_offer(text: str) -> None:
    with pytest.raises(BadOfferError):
        parse_offer(text)


@pytest.mark.parametrize(
    ("line", "most"),
    [
        ("a=ssrc:{} cname:x\n", sdp.MAX_SECTION_LINES),
        ("a=rtpmap:{} VP8/90000\n", sdp.MAX_FORMATS),
        ("a=rtcp-fb:* x{}\n", sdp.MAX_FOR_ALL),
    ],
    ids=["streams", "formats", "for-all"],
)
def test_an_offer_that_would_take_long_to_read_is_refused(line: str, most: int) -> None:
    section = h264_section("packetization-mode=1")

    def repeated(count: int) -> str:
        return section + "".join(line.format(number) for number in range(count))

    parse_offer(repeated(most - 8))
    with pytest.raises(BadOfferError, match="too many lines"):
        parse_offer(repeated(most + 1))


def test_what_is_written_for_the_peer_connection_is_within_the_same_bounds() -> None:
    formats = "a=rtpmap:100 H264/90000\n" * 100
    foreign = publisher_section(HIGH) + formats
    parse_offer(foreign)
    # Each of them is given parameters of ours.
    with pytest.raises(BadOfferError, match="too many lines"):
        parse_offer(foreign + "a=x\n" * (sdp.MAX_SECTION_LINES - 120))


def test_an_offer_of_many_long_sections_is_refused() -> None:
    begin = "m=audio 9 UDP/TLS/RTP/SAVPF 111\na=mid:{}\n"
    lines = "a=x\n" * (sdp.MAX_SECTION_LINES - 10)
    many = "".join(begin.format(f"a{number}") + lines for number in range(5))
    with pytest.raises(BadOfferError, match="too many lines"):
        parse_offer(h264_section("packetization-mode=1") + many)


@pytest.mark.parametrize("prefix", ["", "a=", "candidate:", "a=candidate:", "  candidate:"])
def test_a_candidate_is_read_with_or_without_its_prefix(prefix: str) -> None:
    line = "842163049 1 UDP 1677729535 2001:db8::7 40000 typ srflx raddr 192.0.2.9 rport 1"
    assert parse_candidate(prefix + line) == Candidate(
        "842163049", 1677729535, "2001:db8::7", 40000, "srflx"
    )


@pytest.mark.parametrize(
    "line",
    [
        "",
        "candidate:",
        "garbage",
        "1 1 udp 1 192.0.2.7 50000 typ",
        "1 1 udp 1 192.0.2.7 50000 kind host",
        "1 1 udp 1 192.0.2.7 50000 typ guest",
        "1 2 udp 1 192.0.2.7 50000 typ host",
        "1 1 tcp 1 192.0.2.7 50000 typ host tcptype passive",
        "1 1 udp x 192.0.2.7 50000 typ host",
        "1 1 udp 4294967296 192.0.2.7 50000 typ host",
        "1 1 udp 1 192.0.2.7 0 typ host",
        "1 1 udp 1 192.0.2.7 00 typ host",
        "1 1 udp 1 192.0.2.7 65536 typ host",
        "1 1 udp 1 192.0.2.7 -5 typ host",
        "1 1 udp 1 192.0.2.7 \u0665 typ host",
        "1 1 udp 1 4f2c1e8a-22aa.local 50000 typ host",
        "1 1 udp 1 localhost 50000 typ host",
        "1 1 udp 1 fe80::1%eth0 50000 typ host",
        "1 1 udp 1 224.0.0.251 5353 typ host",
        "1 1 udp 1 0.0.0.0 5353 typ host",
        "9" * 33 + " 1 udp 1 192.0.2.7 50000 typ host",
        "1 1 udp " + "9" * 5000 + " 192.0.2.7 50000 typ host",
    ],
)
def test_a_candidate_that_cannot_be_used_is_passed_over(line: str) -> None:
    assert parse_candidate(line) is None


def test_at_most_so_many_candidates_are_taken_from_an_offer() -> None:
    lines = "".join(f"a=candidate:1 1 udp 1 192.0.2.7 {port} typ host\n" for port in range(1, 1000))
    offer = parse_offer(OFFER + lines)
    assert len(offer.candidates) == sdp.MAX_CANDIDATES
