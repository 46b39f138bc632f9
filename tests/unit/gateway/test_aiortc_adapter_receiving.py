"""The receiver of the camera and its transports, packet by packet. With aiortc around them:
tests/integration.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pylibsrtp
import pytest
from aioice import Candidate, stun
from aiortc import RTCCertificate, RTCPeerConnection, rtcpeerconnection
from aiortc.codecs import CODECS, HEADER_EXTENSIONS
from aiortc.rtcdtlstransport import SRTP_PROFILES
from aiortc.rtcrtpparameters import RTCRtpReceiveParameters
from aiortc.rtp import (
    RTCP_PSFB_APP,
    RTCP_PSFB_PLI,
    RTCP_RTPFB_NACK,
    RtcpPacket,
    RtcpPsfbPacket,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    RtcpSenderInfo,
    RtcpSrPacket,
    unpack_remb_fci,
)

from gateway.webrtc.aiortc_adapter import connection, receiving, transport
from gateway.webrtc.aiortc_adapter.connection import Certificates, PeerConnection
from gateway.webrtc.aiortc_adapter.receiving import FrameReceiver
from gateway.webrtc.aiortc_adapter.transport import IceConnection, _InboundSession
from gateway.webrtc.aiortc_adapter.uplink import UplinkEstimator, send_time_of
from gateway.webrtc.assembly import PATIENCE_S, AssembledFrame
from gateway.webrtc.ice import Liveness
from gateway.webrtc.rates import LIMIT_BPS
from gateway.webrtc.sdp import MAX_CANDIDATES
from gateway.webrtc.statistics import PeerStatistics
from gateway.webrtc.udp import MAX_DATAGRAM, UdpPorts
from scheduler.core.errors import ConfigurationError

pytestmark = pytest.mark.unit

VP8_TYPE, VP8_AGAIN = 97, 98
SSRC, OUR_SSRC = 1000, 7
KEY = b"\x10" + b"\x10\x02\x00\x9d\x01\x2a" + bytes(10)
DELTA = b"\x10" + b"\x11\x02\x00" + bytes(10)


@dataclass
class Transport:
    """A DTLS transport without encryption, and the connection below it."""

    handler: Callable[[bytes], None] | None = None
    sent: list[Any] = field(default_factory=list)
    more: asyncio.Event = field(default_factory=asyncio.Event)
    liveness: Liveness = field(default_factory=lambda: Liveness(0.0))
    ssrc_table: dict[int, object] = field(default_factory=dict)
    forged: bool = False

    @property
    def ice(self) -> Transport:
        return self

    _rtp_router = _rx_srtp = ice

    def receive_rtp(self, handler: Callable[[bytes], None] | None) -> None:
        self.handler = handler

    def unprotect(self, data: bytes) -> bytes:
        if self.forged:
            raise pylibsrtp.Error("authentication failure")
        return data

    def _register_rtp_receiver(self, receiver: object, parameters: object) -> None:
        pass

    def _unregister_rtp_receiver(self, receiver: object) -> None:
        pass

    async def _send_rtp(self, data: bytes) -> None:
        self.sent += RtcpPacket.parse(data)
        self.more.set()

    async def until(self, kind: type, fmt: int | None = None) -> Any:
        """Waits for RTCP of a kind."""
        async with asyncio.timeout(30):
            while True:
                for packet in self.sent:
                    if isinstance(packet, kind) and fmt in (None, getattr(packet, "fmt", None)):
                        return packet
                self.more.clear()
                await self.more.wait()


class Bench:
    """A receiver between a transport and a list."""

    def __init__(self) -> None:
        self.transport, self.statistics = Transport(), PeerStatistics()
        self.frames: list[AssembledFrame] = []
        self.now = 50.0
        self.receiver = FrameReceiver("video", self.transport, statistics=self.statistics)  # type: ignore[arg-type]
        self.receiver._now = lambda: self.now  # type: ignore[assignment]
        self.receiver._set_rtcp_ssrc(OUR_SSRC)
        self.receiver.deliver_to(self.frames.append)
        self._sequence = 0

    async def start(self) -> None:
        parameters = RTCRtpReceiveParameters(
            codecs=CODECS["video"], headerExtensions=HEADER_EXTENSIONS["video"], muxId="0"
        )
        await self.receiver.receive(parameters)

    def give(
        self,
        payload: bytes,
        *,
        sequence: int,
        marker: bool = True,
        kind: int = VP8_TYPE,
        ssrc: int = SSRC,
        timestamp: int | None = None,
    ) -> None:
        assert self.transport.handler is not None
        when = sequence * 3000 if timestamp is None else timestamp
        header = struct.pack("!BBHLL", 0x80, marker << 7 | kind, sequence, when & 0xFFFFFFFF, ssrc)
        self.transport.handler(header + payload)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    await made.start()
    yield made
    await made.receiver.stop()
    assert made.transport.handler is None


async def test_a_frame_is_handed_over_in_the_call_that_brings_its_last_packet(
    bench: Bench,
) -> None:
    bench.give(KEY, sequence=1, marker=False, timestamp=0)
    bench.give(b"\x00" + bytes(20), sequence=2, timestamp=0)
    assert [frame.data for frame in bench.frames] == [KEY[1:] + bytes(20)]
    bench.give(DELTA, sequence=3)
    assert [frame.keyframe for frame in bench.frames] == [True, False]
    assert bench.statistics.camera_packets == 3


async def test_a_missing_packet_is_asked_for_and_taken_from_the_stream_of_repetitions(
    bench: Bench,
) -> None:
    bench.give(KEY, sequence=1)
    bench.give(DELTA, sequence=3)
    nack = await bench.transport.until(RtcpRtpfbPacket, RTCP_RTPFB_NACK)
    assert (nack.ssrc, nack.media_ssrc, nack.lost) == (OUR_SSRC, SSRC, [2])
    assert len(bench.frames) == 1
    again = struct.pack("!H", 2) + DELTA
    bench.give(again, sequence=700, kind=VP8_AGAIN, ssrc=SSRC + 1, timestamp=6000)
    assert len(bench.frames) == 3
    assert not any(frame.discontinuity for frame in bench.frames)
    assert bench.statistics.camera_packets_asked == 1
    assert bench.receiver.keyframe_requests == 0


async def test_a_repetition_before_the_stream_or_out_of_shape_is_dropped(bench: Bench) -> None:
    bench.give(struct.pack("!H", 2) + DELTA, sequence=7, kind=VP8_AGAIN, ssrc=SSRC + 1)
    bench.give(KEY, sequence=1)
    bench.give(b"", sequence=8, kind=VP8_AGAIN, ssrc=SSRC + 1)
    bench.give(b"x", sequence=9, kind=VP8_AGAIN, ssrc=SSRC + 1)
    assert len(bench.frames) == 1
    assert bench.statistics.packets_malformed == 1


async def test_a_loss_for_good_asks_for_a_keyframe_again_and_again_not_too_often(
    bench: Bench,
) -> None:
    bench.give(KEY, sequence=1)
    for sequence in range(3, 63):
        bench.now += PATIENCE_S / 5
        bench.give(DELTA, sequence=sequence)
    assert len(bench.frames) == 1
    pli = await bench.transport.until(RtcpPsfbPacket, RTCP_PSFB_PLI)
    assert (pli.ssrc, pli.media_ssrc) == (OUR_SSRC, SSRC)
    assert bench.receiver.keyframe_requests == pytest.approx(60 * PATIENCE_S / 5 / 0.5, abs=1)
    bench.give(KEY, sequence=63)
    assert bench.frames[-1].discontinuity
    asked = bench.receiver.keyframe_requests
    bench.now += 5
    bench.give(DELTA, sequence=64)
    assert bench.receiver.keyframe_requests == asked
    assert bench.statistics.camera_frames_lost > 0


async def test_a_keyframe_asked_for_early_is_asked_for_when_there_is_somebody(
    bench: Bench,
) -> None:
    bench.receiver.request_keyframe()
    assert bench.receiver.keyframe_requests == 0
    bench.give(DELTA, sequence=1)
    assert bench.receiver.keyframe_requests == 1


async def test_a_stray_stream_does_not_break_into_the_camera(bench: Bench) -> None:
    bench.give(KEY, sequence=1)
    bench.give(KEY, sequence=9000, ssrc=5)
    bench.give(DELTA, sequence=2)
    assert len(bench.frames) == 2
    assert bench.statistics.packets_unknown == 1


async def test_a_replaced_track_of_a_new_stream_takes_over_when_the_old_one_is_silent(
    bench: Bench,
) -> None:
    bench.give(KEY, sequence=1)
    bench.now += 0.2
    bench.give(KEY, sequence=9000, ssrc=5)
    bench.give(DELTA, sequence=9001, ssrc=5)
    assert [frame.discontinuity for frame in bench.frames] == [False, True, False]
    assert [frame.timestamp_us for frame in bench.frames][1] == 200_000
    assert bench.transport.ssrc_table == {5: bench.receiver}


async def test_malformed_and_unknown_packets_are_counted_and_cost_nothing(bench: Bench) -> None:
    bench.give(KEY, sequence=1)
    bench.give(DELTA, sequence=2, kind=127)
    bench.give(b"\x80", sequence=2)
    assert bench.transport.handler is not None
    bench.transport.handler(struct.pack("!BBHLL", 0x9F, VP8_TYPE, 2, 0, SSRC))
    bench.transport.forged = True
    bench.give(DELTA, sequence=2)
    bench.transport.forged = False
    bench.give(DELTA, sequence=2)
    assert len(bench.frames) == 2
    counted = bench.statistics
    assert (counted.packets_unknown, counted.packets_malformed, counted.packets_unauthentic) == (
        1,
        2,
        1,
    )


async def test_only_authentic_packets_are_signs_of_life(bench: Bench) -> None:
    bench.transport.forged = True
    bench.give(KEY, sequence=1)
    assert bench.transport.liveness.gone(bench.now)
    bench.transport.forged = False
    bench.give(KEY, sequence=1)
    bench.transport.liveness.asked(bench.now)
    assert bench.transport.liveness.next_question(bench.now) > 0


async def test_a_fault_of_ours_over_a_frame_is_counted_and_the_next_goes_on(bench: Bench) -> None:
    def fail(_: AssembledFrame) -> None:
        raise ZeroDivisionError

    bench.receiver.deliver_to(fail)
    bench.give(KEY, sequence=1)
    bench.receiver.deliver_to(bench.frames.append)
    bench.give(DELTA, sequence=2)
    assert (len(bench.frames), bench.statistics.camera_failures) == (1, 1)


async def test_the_publisher_is_told_how_its_packets_arrive(bench: Bench) -> None:
    bench.give(KEY, sequence=1)
    bench.give(DELTA, sequence=4)
    sender = RtcpSenderInfo(0x1234_5678_9ABC_DEF0, 0, 2, 2)
    await bench.receiver._handle_rtcp_packet(RtcpSrPacket(SSRC, sender))
    await bench.receiver._handle_rtcp_packet(RtcpSrPacket(SSRC + 9, sender))
    bench.now += 0.5
    report = bench.receiver._report()
    assert (report.ssrc, report.fraction_lost, report.packets_lost) == (SSRC, 128, 2)
    assert report.highest_sequence == 4
    assert (report.lsr, report.dlsr) == (0x56789ABC, 32768)


async def test_reports_go_out_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "REPORT_INTERVAL_S", 0.01)
    bench = Bench()
    bench.receiver._now = asyncio.get_running_loop().time
    await bench.start()
    bench.give(KEY, sequence=1)
    report = await bench.transport.until(RtcpRrPacket)
    assert report.ssrc == OUR_SSRC
    assert [block.ssrc for block in report.reports] == [SSRC]
    await bench.receiver.stop()


async def test_the_rate_is_reported_and_what_waits_to_be_sent_is_bounded(bench: Bench) -> None:
    bench.give(KEY, sequence=1)
    remb = await bench.transport.until(RtcpPsfbPacket, RTCP_PSFB_APP)
    assert unpack_remb_fci(remb.fci) == (pytest.approx(LIMIT_BPS, rel=0.01), [SSRC])
    for sequence in range(3, 600, 2):
        bench.give(DELTA, sequence=sequence)
    assert len(bench.receiver._feedback) <= receiving.MAX_FEEDBACK


async def test_a_receiver_that_nobody_listens_to_does_not_start() -> None:
    bench = Bench()
    bench.receiver._deliver = None
    await bench.start()
    assert bench.transport.handler is None
    await bench.receiver.stop()


# -- the rate of the uplink ----------------------------------------------------------------


def rates(queue_ms_per_frame: float, count: int, *, octets: int = 12_000) -> list[int]:
    """Thirty frames a second, each so much later than the one before."""
    estimator = UplinkEstimator()
    told = []
    for index in range(count):
        sent_ms = index * 1000 / 30
        arrived = round(1_000_000 + sent_ms + queue_ms_per_frame * index)
        rate = estimator.frame(round(sent_ms * (1 << 26) / 1000) & 0xFFFFFFFF, arrived, octets)
        if rate is not None:
            told.append(rate)
    return told


@pytest.mark.parametrize("seconds", [0, 1, 7, 60])
def test_the_send_time_is_the_extensions_or_else_that_of_the_timestamp(seconds: int) -> None:
    extension = (seconds << 18 & 0xFFFFFF).to_bytes(3, "big")
    expected = (seconds << 26) & 0xFFFFFFFF
    assert send_time_of(extension, 5) == expected
    assert send_time_of(None, seconds * 90_000) == expected
    assert send_time_of(b"short", seconds * 90_000) == expected


def test_an_idle_network_is_asked_for_all() -> None:
    told = rates(0.0, 300)
    assert set(told) == {LIMIT_BPS}
    assert len(told) == pytest.approx(20, abs=2)


def test_a_growing_queue_is_asked_for_less_than_arrives_soon() -> None:
    told = rates(5.0, 45)
    assert told[-1] <= 0.9 * 12_000 * 8 * 30


# -- transports ----------------------------------------------------------------------------


def ice(statistics: PeerStatistics | None = None, address: str | None = None) -> IceConnection:
    return IceConnection(
        ports=UdpPorts(None, address),
        statistics=statistics or PeerStatistics(),
        ice_controlling=False,
    )


async def test_behind_a_load_balancer_its_address_is_offered_beside_ones_own() -> None:
    connection = ice(address="203.0.113.7")
    own, public = await connection.get_component_candidates(1, ["127.0.0.1"])
    assert (own.host, own.type) == ("127.0.0.1", "host")
    assert (public.host, public.port, public.type) == ("203.0.113.7", own.port, "srflx")
    assert (public.related_address, public.related_port) == ("127.0.0.1", own.port)
    assert public.priority < own.priority
    assert public.foundation != own.foundation
    await connection.close()
    connection = ice(address="2001:db8::7")
    assert len(await connection.get_component_candidates(1, ["127.0.0.1"])) == 1
    await connection.close()


RTP = struct.pack("!BBHLL", 0x80, 96, 1, 2, 3)


async def test_rtp_is_taken_at_once_and_kept_for_a_receiver_to_come() -> None:
    connection = ice()
    early = [RTP + bytes([index]) for index in range(2 * transport.MAX_EARLY)]
    for data in early:
        connection.data_received(data, 1)
    taken: list[bytes] = []
    connection.receive_rtp(taken.append)
    assert taken == early[: transport.MAX_EARLY]
    assert connection.statistics.packets_unknown == transport.MAX_EARLY
    connection.data_received(RTP + b"now", 1)
    assert taken[-1] == RTP + b"now"
    assert connection._queue.empty()


async def test_dtls_and_rtcp_wait_bounded_and_the_end_gets_through() -> None:
    connection = ice()
    rtcp, dtls = struct.pack("!BBH", 0x80, 200, 6) + bytes(24), bytes([22]) + bytes(20)
    for _ in range(transport.MAX_DATAGRAMS):
        connection.data_received(rtcp, 1)
        connection.data_received(dtls, 1)
    assert connection._queue.qsize() == transport.MAX_DATAGRAMS
    assert connection.statistics.datagrams_dropped == transport.MAX_DATAGRAMS
    await connection.close()
    assert connection._queue.qsize() == transport.MAX_DATAGRAMS + 1


@pytest.mark.parametrize(
    "data", [b"", b"\x80", b"\x80\x60", bytes(11), b"\x05" * 40, b"\xff" * 40, RTP + bytes(1500)]
)
async def test_what_is_no_packet_is_dropped_and_counted(data: bytes) -> None:
    connection = ice()
    connection.receive_rtp(lambda _: pytest.fail("taken"))
    connection.data_received(data, 1)
    assert connection._queue.empty()
    assert connection.statistics.datagrams_dropped == 1
    assert len(RTP + bytes(1500)) > MAX_DATAGRAM


async def test_checks_from_ever_new_addresses_are_bounded() -> None:
    connection = ice()
    (address, *_) = await connection.get_component_candidates(1, ["127.0.0.1"])
    assert isinstance(address, Candidate)
    (protocol,) = connection._protocols
    connection.remote_username, connection.remote_password = "user", "p" * 22
    connection._early_checks_done = True
    for port in range(1, 3 * MAX_CANDIDATES):
        request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
        request.attributes["USERNAME"] = f"{connection.local_username}:user"
        request.attributes["PRIORITY"] = 1
        request.attributes["ICE-CONTROLLING"] = 1
        request.add_message_integrity(connection.local_password.encode())
        protocol.datagram_received(bytes(request), ("192.0.2.9", port))
    assert len(connection._remote_candidates) == MAX_CANDIDATES
    assert len(connection._check_list) == MAX_CANDIDATES
    await connection.close()


async def test_a_check_without_a_priority_breaks_nothing() -> None:
    connection = ice()
    await connection.get_component_candidates(1, ["127.0.0.1"])
    (protocol,) = connection._protocols
    request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    request.attributes["USERNAME"] = f"{connection.local_username}:user"
    request.add_message_integrity(connection.local_password.encode())
    protocol.datagram_received(bytes(request), ("192.0.2.9", 9))
    assert not connection._early_checks
    await connection.close()


class Session:
    """SRTP without encryption."""

    def __init__(self) -> None:
        self.refuses = False

    def unprotect(self, packet: bytes) -> bytes:
        if self.refuses:
            raise pylibsrtp.Error("authentication failure")
        return packet

    unprotect_rtcp = unprotect


def test_streams_of_one_client_are_bounded_and_forged_ones_take_no_place() -> None:
    session = Session()
    bounded = _InboundSession(session)  # type: ignore[arg-type]
    session.refuses = True
    for ssrc in range(1000):
        with pytest.raises(pylibsrtp.Error):
            bounded.unprotect(struct.pack("!BBHLL", 0x80, 96, 1, 2, ssrc))
    session.refuses = False
    taken = 0
    for ssrc in range(1000):
        try:
            bounded.unprotect(struct.pack("!BBHLL", 0x80, 96, 1, 2, ssrc))
            bounded.unprotect_rtcp(struct.pack("!BBHL", 0x80, 200, 1, ssrc))
            taken += 1
        except pylibsrtp.Error:
            break
    assert taken == transport.MAX_STREAMS


# -- peer connection -----------------------------------------------------------------------


def peer_connection(certificates: Certificates) -> PeerConnection:
    return PeerConnection(
        certificate=certificates.current(),
        ports=UdpPorts(None),
        statistics=PeerStatistics(),
        ice_servers=(),
    )


async def test_all_sections_share_one_transport_and_all_peers_one_certificate() -> None:
    certificates = Certificates(lambda: 0.0)
    fingerprints = set()
    for _ in range(2):
        peer = peer_connection(certificates)
        for kind in ("video", "video", "audio"):
            peer.addTransceiver(kind)
        transports = {transceiver.receiver.transport for transceiver in peer.getTransceivers()}
        assert len(transports) == 1
        (shared,) = transports
        fingerprints.add(shared.getLocalParameters().fingerprints[0].value)
        await peer.close()
    assert len(fingerprints) == 1


def test_a_certificate_serves_a_day_and_its_context_is_made_once() -> None:
    now = 0.0
    certificates = Certificates(lambda: now)
    first = certificates.current()
    assert first._create_ssl_context(SRTP_PROFILES) is first._create_ssl_context(SRTP_PROFILES)
    now = connection.CERTIFICATE_LIFE_S - 1
    assert certificates.current() is first
    now = connection.CERTIFICATE_LIFE_S
    second = certificates.current()
    assert second is not first
    assert second._create_ssl_context(SRTP_PROFILES) is not first._create_ssl_context(SRTP_PROFILES)


async def test_other_peer_connections_keep_aiortcs_own_parts() -> None:
    peer = peer_connection(Certificates(lambda: 0.0))
    peer.addTransceiver("video")
    stock = RTCPeerConnection()
    transceiver = stock.addTransceiver("video")
    assert not isinstance(transceiver.receiver, FrameReceiver)
    assert not isinstance(transceiver.receiver.transport.transport._connection, IceConnection)
    assert rtcpeerconnection.RTCCertificate is RTCCertificate
    await peer.close()
    await stock.close()


async def test_an_aiortc_that_does_not_take_our_parts_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = "_RTCPeerConnection__createTransceiver"
    create = getattr(RTCPeerConnection, name)
    receiver = rtcpeerconnection.RTCRtpReceiver

    def with_its_own(self: RTCPeerConnection, **options: object) -> object:
        rtcpeerconnection.RTCRtpReceiver = receiver
        return create(self, **options)

    monkeypatch.setattr(RTCPeerConnection, name, with_its_own)
    peer = peer_connection(Certificates(lambda: 0.0))
    with pytest.raises(ConfigurationError):
        peer.addTransceiver("video")
    assert rtcpeerconnection.RTCRtpReceiver is receiver
    await peer.close()
