"""RTCP of viewers: what they say they got, missed and want, and what the sender makes of it."""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import Final

from aiortc.rtp import (
    RTCP_PSFB_APP,
    RtcpPacket,
    RtcpPsfbPacket,
    RtcpRtpfbPacket,
    pack_remb_fci,
    unpack_remb_fci,
)

from gateway.webrtc.aiortc_adapter.sending import _streams_of_fir
from gateway.webrtc.evidence import REPORTS, Evidence, Flight, Reports
from gateway.webrtc.feedback import MAX_STATUSES, parse_feedback, split
from gateway.webrtc.history import BURST, SentPackets
from gateway.webrtc.rates import LEAST_BPS, LIMIT_BPS, USEFUL_BPS, DownlinkEstimate
from tests.fakes.transport_feedback import feedback_content, feedback_packet
from tests.fuzz.reader import Reader, chunk

MOST: Final = 64
"""Most messages of one input, ..."""
MOST_SENT: Final = 300
"""... and most packets that are sent between them."""


class Sender:
    """The memory of a sender, and what it hears."""

    def __init__(self) -> None:
        self.now = 10.0
        self.flight = Flight()
        self.reports = Reports()
        self.history = SentPackets()
        self.estimate = DownlinkEstimate()
        self.sent = 0
        """Packets so far."""
        self._sequence = 65_500

    def send(self, count: int, size: int) -> None:
        """Sends packets."""
        self.sent += count
        packets = [
            struct.pack("!BBHLL", 0x80, 96, self._sequence + at & 0xFFFF, 0, 1) + bytes(size)
            for at in range(count)
        ]
        self.history.add(packets, self._sequence)
        self.reports.sent(packets, self._sequence)
        self.flight.sent(packets, self.now)
        self._sequence = self._sequence + count & 0xFFFF
        self.estimate.sent(count * size, self.now)

    def hear(self, data: bytes) -> None:
        """Takes a datagram of RTCP, as `DtlsTransport` and `FrameSender` do."""
        rest, messages = split(data)
        assert len(rest) + sum(map(len, messages)) + 4 * len(messages) == len(data)
        for message in messages:
            self._hear_feedback(message)
        try:
            packets = RtcpPacket.parse(rest) if rest else []
        except Exception:
            return
        for packet in packets:
            self._hear_packet(packet)

    def _hear_feedback(self, message: bytes) -> None:
        try:
            told = parse_feedback(message)
        except ValueError:
            return
        assert 0 < len(told.arrivals) <= MAX_STATUSES
        self._hear_evidence(self.flight.told(told, self.now))

    def _hear_packet(self, packet: object) -> None:
        for report in getattr(packet, "reports", ()):
            round_trip_s = (report.dlsr & 0xFFFF) / 65536 if report.lsr else None
            seen = self.reports.told(
                report.highest_sequence, report.packets_lost, round_trip_s, self.now
            )
            self._hear_evidence(seen)
            assert 0 <= self.reports.loss <= 1
        if isinstance(packet, RtcpRtpfbPacket):
            again = self.history.again(packet.lost, self.now, 0.05)
            assert sum(map(len, again)) <= BURST
        elif isinstance(packet, RtcpPsfbPacket):
            _streams_of_fir(packet.fci)
            with suppress(ValueError, struct.error):
                self.estimate.estimated(unpack_remb_fci(packet.fci)[0], self.now)

    def _hear_evidence(self, seen: Evidence | None) -> None:
        if seen is not None:
            sound(seen)
            self.estimate.observed(seen, self.now)

    def check(self) -> None:
        """Asks what holds at any time."""
        assert len(self.reports._known) <= REPORTS
        assert LEAST_BPS <= self.estimate.value <= USEFUL_BPS
        lost = range(self._sequence - 40, self._sequence)
        assert sum(map(len, self.history.again(lost, self.now + 100, 0.05))) <= BURST


def sound(seen: Evidence) -> None:
    """Asks whether evidence is of this world."""
    assert 0 <= seen.delivered_bps < float("inf")
    assert 0 <= seen.loss <= 1
    assert seen.queue_s == seen.queue_s, "a number"
    for width in (seen.full_bps, seen.width_bps):
        assert width is None or 0 <= width < float("inf")


def fuzz_one(data: bytes) -> None:
    """Has packets sent, and answered with datagrams of any content."""
    reader, sender = Reader(data), Sender()
    for _ in range(MOST):
        if not reader:
            break
        action = reader.number()
        sender.now += (action & 15) * 0.02
        if action & 16 and sender.sent < MOST_SENT:
            sender.send(reader.number(), action)
        else:
            sender.hear(reader.chunk())
    sender.check()


def seeds() -> list[bytes]:
    """Returns what browsers say, and what is nearly that."""
    arrivals: list[int | None] = [1_000_000 + 900 * each for each in range(60)]
    arrivals[7] = arrivals[8] = None
    feedback = feedback_packet(feedback_content(0, arrivals))
    runs = struct.pack("!LLHHBBBBHH", 1, 2, 0, 40, 0, 0, 1, 0, 40, 0x8000 | 5)
    report = struct.pack("!BBHL", 0x81, 201, 7, 1) + struct.pack(
        "!LBBHLLLL", 1, 5, 0, 9, 65_530, 3, 7, 6553
    )
    nack = struct.pack("!BBHLLHH", 0x81, 205, 3, 1, 1, 65_510, 0xFFFF)
    pli = struct.pack("!BBHLL", 0x81, 206, 2, 1, 1)
    fir = struct.pack("!BBHLLLL", 0x84, 206, 4, 1, 0, 1, 0)
    remb = bytes(
        RtcpPsfbPacket(fmt=RTCP_PSFB_APP, ssrc=1, media_ssrc=0, fci=pack_remb_fci(LIMIT_BPS, [1]))
    )
    sent = bytes([16 | 1, 200])
    heard = [feedback, feedback_packet(runs), report + nack, pli + fir + remb, nack * 9]
    made = [sent + bytes([5]) + chunk(each) for each in heard]
    sequence = b"".join(sent + bytes([9]) + chunk(each) for each in (report, feedback, nack) * 3)
    return [
        *made,
        sequence,
        sent * 2 + bytes([1]) + chunk(feedback),
        *(bytes([1]) + chunk(each) for each in heard),
    ]
