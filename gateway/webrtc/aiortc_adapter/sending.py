"""Encoded frames out: what a sender of aiortc sends, and what the far end says of it.

aiortc keeps what it does once a second or once a call: negotiation, RTCP reports, the
end. What it does for every frame is replaced: a frame is cut, encrypted and on its way
within the call that brings it, with no queue and no task between.
"""

# ruff: noqa: SLF001 - private parts are what this package is about

from __future__ import annotations

import asyncio
import random
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from aiortc import RTCRtpSender
from aiortc.rtcdtlstransport import RtpRouter
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtp import (
    RTCP_PSFB_APP,
    RTCP_PSFB_FIR,
    RTCP_PSFB_PLI,
    RTCP_RTPFB_NACK,
    HeaderExtensionsMap,
    RtcpPsfbPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    RtcpSrPacket,
    unpack_remb_fci,
)

from gateway.ports import EncodedFrame
from gateway.webrtc.aiortc_adapter.guard import private, replace, uses
from gateway.webrtc.aiortc_adapter.wire import Wire
from gateway.webrtc.bursts import INTERVAL_S, Bursts
from gateway.webrtc.evidence import OVERHEAD, Evidence, Flight, Reports
from gateway.webrtc.feedback import Feedback
from gateway.webrtc.frame_metadata import trailer
from gateway.webrtc.history import SentPackets
from gateway.webrtc.ice import Liveness
from gateway.webrtc.rates import Outflow
from gateway.webrtc.rtp import MAX_PACKET, PacketHeader, cut_h264, cut_vp8
from sana_gateway.v1 import media_pb2

ASK_INTERVAL_S: Final = 0.5
"""Time between two requests for a keyframe while one is waited for."""
MAX_WAIT_S: Final = 0.5
"""How long what was sent may take to drain through a congested network: past it frames are
left out, ..."""
DRAINED_S: Final = 0.1
"""... and from here on a keyframe is asked for."""
CLOCK_RATE: Final = 90_000
"""Ticks a second of the RTP timestamps of video."""

_NTP_EPOCH_S: Final = 2_208_988_800
_ROUND_TRIP_WEIGHT: Final = 1 / 8

uses(
    RTCRtpSender,
    "_ssrc",
    "_rtx_ssrc",
    "_RTCRtpSender__lsr",
    "_RTCRtpSender__lsr_time",
    "_RTCRtpSender__mid",
    "_RTCRtpSender__ntp_timestamp",
    "_RTCRtpSender__octet_count",
    "_RTCRtpSender__packet_count",
    "_RTCRtpSender__rtp_exited",
    "_RTCRtpSender__rtp_header_extensions_map",
    "_RTCRtpSender__rtp_started",
    "_RTCRtpSender__rtp_timestamp",
    "_RTCRtpSender__rtx_payload_type",
    _handle_rtcp_packet="self packet",
    _run_rtp="self codec",
)
uses(HeaderExtensionsMap, "_HeaderExtensionsMap__ids")
uses(RtpRouter, register_sender="self sender ssrc")


@dataclass(frozen=True, slots=True)
class Reception:
    """How a viewer receives, as it reports about once a second."""

    fraction_lost: float
    """Share of packets lost of late, 0 to 1."""
    jitter_s: float
    """How unevenly packets arrive."""
    round_trip_s: float | None
    """To the viewer and back, smoothed; None while unknown."""


class ViewerFeedback(Protocol):
    """What the far end of a sender says. Heard at once, on the event loop."""

    def started(self) -> None:
        """The transport is connected: frames are sent from now on."""

    def sent(self, octets: int) -> None:
        """A frame of this size goes out."""

    def keyframe_needed(self) -> None:
        """The picture is lost (PLI or FIR), or the viewer fell behind."""

    def estimated(self, bits_per_second: int) -> None:
        """What the network is estimated to carry (REMB)."""

    def reported(self, reception: Reception) -> None:
        """How the frames arrive (receiver report)."""

    def observed(self, seen: Evidence) -> None:
        """What the packets went through on their way."""


class FrameSender:
    """Makes a sender of aiortc that is not started yet send encoded frames as they are.

    Frames are sent from a keyframe on, and never dropped singly. While the network is
    congested no more is sent than it carries: what it cannot is left out up to a keyframe.
    """

    def __init__(
        self,
        sender: RTCRtpSender,
        codec: media_pb2.Codec.ValueType,
        feedback: ViewerFeedback,
        *,
        frame_metadata: bool,
    ) -> None:
        """Takes over a sender.

        Args:
            sender: The sender.
            codec: Codec of the frames, which the negotiation must put first.
            feedback: Who hears what the far end says.
            frame_metadata: Whether each frame carries the trailer with its number.
        """
        self.overflows = 0
        """Times the viewer fell behind."""
        self.dropped = 0
        """Frames that were not sent for it, or for want of a keyframe."""
        self.skips = 0
        """Times that frames were left out up to a keyframe, for want of room in the network."""
        self.history = SentPackets()
        """The packets sent of late."""
        self._sender: Any = sender
        self._feedback = feedback
        self._is_h264 = codec == media_pb2.CODEC_H264
        self._frame_metadata = frame_metadata
        self._loop = asyncio.get_running_loop()
        self._stream: _Stream | None = None
        self._bursts = Bursts()
        self._timer: asyncio.TimerHandle | None = None
        self._broken = True
        self._asked_at = float("-inf")
        self._picture_id = random.getrandbits(15)
        self._round_trip_s: float | None = None
        self._reports = Reports()
        self._outflow = Outflow()
        self._congested_until = float("-inf")
        self._rung = 0
        replace(sender, "_run_rtp", self._run)
        replace(sender, "_handle_rtcp_packet", self._heard)

    @property
    def packets_dropped(self) -> int:
        """Packets that the network did not take; the far end asks for them again."""
        return 0 if self._stream is None else self._stream.wire.dropped

    def frame(self, frame: EncodedFrame) -> None:
        """Sends a frame, or drops it. What exceeds a burst follows within milliseconds."""
        stream = self._stream
        if stream is None:
            return
        if not self._has_room(frame):
            return
        tail = trailer(frame.run, frame.frame, frame.source_us) if self._frame_metadata else b""
        if self._is_h264:
            payloads = cut_h264(frame.data, stream.room, tail)
        else:
            self._picture_id = (self._picture_id + 1) & 0x7FFF
            payloads = cut_vp8(frame.data, stream.room, self._picture_id, tail)
        if not payloads:
            return
        timestamp = stream.timestamp(frame.timestamp_us)
        if not self._bursts.add(timestamp, payloads):
            self.overflows += 1
            self.restart()
            if not (frame.keyframe and self._bursts.add(timestamp, payloads)):
                self._drop_frame()
                return
        self._broken = False
        self._rung = frame.rung
        self._feedback.sent(len(frame.data))
        self._note_time(timestamp)
        if self._timer is None:
            self._flush(stream)

    def rtp_timestamp(self, time_us: int) -> int:
        """Returns that of a frame, by its position on the play-out clock; 0: not connected yet."""
        return 0 if self._stream is None else self._stream.timestamp(time_us)

    def restart(self) -> None:
        """Forgets what waits; the next frame sent is a keyframe."""
        self.dropped += self._bursts.clear()
        self._broken = True

    def limit(self, bits_per_second: int, congested_until: float) -> None:
        """The network is estimated to carry so much; until then it counts as congested."""
        self._outflow.limit(bits_per_second, self._loop.time())
        self._congested_until = congested_until

    def _has_room(self, frame: EncodedFrame) -> bool:
        """Whether a frame is sent; if not, it is dropped, and a keyframe asked for in time."""
        waits_s = self._waits_s(self._loop.time())
        if frame.keyframe and (frame.rung != self._rung or waits_s < MAX_WAIT_S):
            return True
        if waits_s >= MAX_WAIT_S and not self._broken:
            self.skips += 1
            # Not at once: what drains now may be followed by a rung that fits.
            self._asked_at = self._loop.time()
            self.restart()
            # What precedes the next keyframe is of no use any more.
            self.history.forget()
        if self._broken:
            self._drop_frame(ask=waits_s < DRAINED_S)
        return not self._broken

    def _waits_s(self, now: float) -> float:
        """Returns how long what was sent takes to drain through a congested network."""
        return self._outflow.waits_s(now) if now < self._congested_until else 0.0

    def _drop_frame(self, *, ask: bool = True) -> None:
        self.dropped += 1
        now = self._loop.time()
        if ask and now - self._asked_at >= ASK_INTERVAL_S:
            self._asked_at = now
            self._feedback.keyframe_needed()

    def _note_time(self, timestamp: int) -> None:
        """Notes when a frame is shown on both clocks, as the next sender report tells it."""
        self._sender._RTCRtpSender__ntp_timestamp = ntp_time(time.time_ns())
        self._sender._RTCRtpSender__rtp_timestamp = timestamp

    def _flush(self, stream: _Stream) -> None:
        """Sends what may leave now."""
        packets: list[bytes] = []
        octets = 0
        now = time.time()
        for piece in self._bursts.take(self._loop.time()):
            sequence = stream.sequence
            made = stream.header.packets(
                piece.payloads,
                sequence,
                piece.timestamp,
                now,
                ends=piece.ends,
                number=stream.number + len(packets),
            )
            stream.sequence = (sequence + len(made)) & 0xFFFF
            self.history.add(made, sequence)
            if stream.flight is None:
                self._reports.sent(made, sequence)
            octets += sum(map(len, piece.payloads))
            packets += made
        self._leave(stream, packets)
        self._sender._RTCRtpSender__packet_count += len(packets)
        self._sender._RTCRtpSender__octet_count += octets
        later = self._bursts.waiting > 0
        self._timer = self._loop.call_later(INTERVAL_S, self._flush, stream) if later else None

    def _leave(self, stream: _Stream, packets: list[bytes], *, numbered: bool = True) -> None:
        """Sends packets, and notes that they are on their way."""
        now = self._loop.time()
        if stream.flight is not None and numbered:
            stream.flight.sent(packets, now)
            stream.number += len(packets)
        self._outflow.sent(sum(map(len, packets)) + OVERHEAD * len(packets), now)
        stream.liveness.served(now)
        stream.wire.send(packets)

    async def _run(self, codec: RTCRtpCodecParameters) -> None:
        """Stands where aiortc has the loop that fetches frames: from connected to the end."""
        self._sender._RTCRtpSender__rtp_started.set()
        try:
            # Some clients name no stream when they ask for a keyframe (RFC 5104 section 4.3.1).
            self._sender.transport._rtp_router.register_sender(self._sender, 0)
            self._stream = _Stream(self._sender, codec)
            if self._stream.flight is not None:
                self._sender.transport.on_feedback = self._told
            self._feedback.started()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
        finally:
            self._stream = None
            if self._timer is not None:
                self._timer.cancel()
            self._sender._RTCRtpSender__rtp_exited.set()

    async def _heard(self, packet: object) -> None:
        """Takes an RTCP packet of the far end."""
        match packet:
            case RtcpRrPacket(reports=reports) | RtcpSrPacket(reports=reports):
                self._reported(reports)
            case RtcpRtpfbPacket(fmt=fmt) if fmt == RTCP_RTPFB_NACK:
                if packet.media_ssrc == self._sender._ssrc:
                    self._send_again(packet.lost)
            case RtcpPsfbPacket(fmt=fmt) if fmt == RTCP_PSFB_APP:
                self._estimated(packet.fci)
            case RtcpPsfbPacket(fmt=fmt) if fmt in (RTCP_PSFB_PLI, RTCP_PSFB_FIR):
                if self._sender._ssrc in (packet.media_ssrc, *_streams_of_fir(packet.fci)):
                    self._feedback.keyframe_needed()

    def _told(self, feedback: Feedback) -> None:
        """Takes transport-wide feedback."""
        flight = None if self._stream is None else self._stream.flight
        seen = None if flight is None else flight.told(feedback, self._loop.time())
        if seen is not None:
            self._feedback.observed(seen)

    def _reported(self, reports: Iterable[RtcpReceiverInfo]) -> None:
        for report in reports:
            if report.ssrc != self._sender._ssrc:
                continue
            measured = self._measured_round_trip(report)
            seen = self._reports.told(
                report.highest_sequence, report.packets_lost, measured, self._loop.time()
            )
            self._feedback.reported(
                Reception(
                    fraction_lost=self._reports.loss,
                    jitter_s=report.jitter / CLOCK_RATE,
                    round_trip_s=self._round_trip_s,
                )
            )
            if seen is not None and self._stream is not None and self._stream.flight is None:
                self._feedback.observed(seen)

    def _measured_round_trip(self, report: RtcpReceiverInfo) -> float | None:
        """RFC 3550 section 6.4.1: from our report to this one, less its time at the far end."""
        if not report.lsr or not report.dlsr or report.lsr != self._sender._RTCRtpSender__lsr:
            return None
        elapsed = time.time() - self._sender._RTCRtpSender__lsr_time
        measured = float(elapsed - report.dlsr / 65536)
        if measured < 0:
            # While no frame is sent reports look alike: this answers an earlier one, or lies.
            return None
        if self._round_trip_s is None:
            self._round_trip_s = measured
        else:
            self._round_trip_s += _ROUND_TRIP_WEIGHT * (measured - self._round_trip_s)
        return measured

    def _estimated(self, fci: bytes) -> None:
        try:
            bits_per_second, streams = unpack_remb_fci(fci)
        except (ValueError, struct.error):
            return
        if self._sender._ssrc in streams:
            self._feedback.estimated(bits_per_second)

    def _send_again(self, lost: list[int]) -> None:
        stream = self._stream
        if stream is None:
            return
        now = self._loop.time()
        if self._waits_s(now) >= MAX_WAIT_S:
            # They would only make the queue longer; a viewer asks again.
            self.history.refused += len(lost)
            return
        unknown = self.history.unknown
        packets = self.history.again(lost, now, self._round_trip_s or 0.0)
        if packets:
            self._leave(stream, stream.repeated(packets), numbered=stream.repeats_apart)
        if self.history.unknown > unknown:
            # What is not kept any more cannot be mended: only a new picture can.
            self._feedback.keyframe_needed()


class _Stream:
    """What is fixed once a sender is connected, and where its counters stand."""

    def __init__(self, sender: Any, codec: RTCRtpCodecParameters) -> None:  # noqa: ANN401 - see `FrameSender`
        extensions = private(
            sender._RTCRtpSender__rtp_header_extensions_map, "_HeaderExtensionsMap__ids"
        )
        mid = sender._RTCRtpSender__mid
        with_mid = (extensions.mid, mid) if extensions.mid and mid else None
        timed = extensions.abs_send_time
        number = extensions.transport_sequence_number
        self.header = PacketHeader(
            codec.payloadType or 0,
            sender._ssrc,
            mid=with_mid,
            abs_send_time=timed,
            transport_number=number,
        )
        self.flight = Flight() if number else None
        """Packets on their way, where the far end tells of each."""
        self.number = 0
        """Number of the next packet among all of the transport."""
        self.room = MAX_PACKET - self.header.size
        self.wire = Wire(sender.transport)
        self.liveness: Liveness = sender.transport.ice.liveness
        # In the lower half, so that SRTP does not wrap around while the first are under way.
        self.sequence = random.getrandbits(15)
        self._origin = random.getrandbits(32)
        repeats = sender._RTCRtpSender__rtx_payload_type
        self._repeats: PacketHeader | None = None
        if repeats is not None:
            self._repeats = PacketHeader(
                repeats,
                sender._rtx_ssrc,
                mid=with_mid,
                abs_send_time=timed,
                transport_number=number,
            )
        self._repeats_sequence = random.getrandbits(15)

    @property
    def repeats_apart(self) -> bool:
        """Whether repetitions have a stream, and so numbers, of their own."""
        return self._repeats is not None

    def timestamp(self, time_us: int) -> int:
        """Returns the RTP timestamp of a position on the play-out clock."""
        return (self._origin + (time_us * 9 + 50) // 100) & 0xFFFFFFFF

    def repeated(self, packets: list[bytes]) -> list[bytes]:
        """Returns what is sent for packets that were lost.

        Without a stream of its own for repetitions the same packets leave again, to the
        last bit: SRTP must never encrypt two packets of one number.
        """
        header = self._repeats
        if header is None:
            return packets
        first, now = self._repeats_sequence + 1, time.time()
        self._repeats_sequence = (self._repeats_sequence + len(packets)) & 0xFFFF
        return [
            header.retransmission(
                packet, self.header, first + index & 0xFFFF, now, self.number + index
            )
            for index, packet in enumerate(packets)
        ]


def ntp_time(wall_ns: int) -> int:
    """Returns a wall time in the 64 bits of NTP: seconds since 1900, with 32 bits of fraction."""
    seconds, nanoseconds = divmod(wall_ns, 1_000_000_000)
    return (seconds + _NTP_EPOCH_S) << 32 | (nanoseconds << 32) // 1_000_000_000


def _streams_of_fir(fci: bytes) -> list[int]:
    """Returns the streams that a Full Intra Request names (RFC 5104 section 4.3.1.1)."""
    return [int.from_bytes(fci[at : at + 4], "big") for at in range(0, len(fci) - 7, 8)]
