"""Encoded frames in: a receiver in the place of aiortc's, from encrypted packet to whole frame.

aiortc takes a packet through two queues, two tasks and a decoder's thread. Here it is
decrypted, counted and assembled in the call that reads it from the socket, and what the
publisher has to know (reports, lost packets, its rate) goes out through one task.

Sources: RFC 3550 section 6.4.2 (reports), RFC 4585 (NACK, PLI), RFC 4588 (retransmission),
draft-alvestrand-rmcat-remb-03.
"""

# ruff: noqa: SLF001 - private parts are what this package is about

from __future__ import annotations

import asyncio
import random
import struct
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import pylibsrtp
import structlog
from aiortc import MediaStreamTrack, RTCDtlsTransport, RTCRtpReceiver
from aiortc.rtcdtlstransport import RtpRouter
from aiortc.rtcrtpparameters import RTCRtpCodecParameters, RTCRtpReceiveParameters
from aiortc.rtp import (
    RTCP_PSFB_APP,
    RTCP_PSFB_PLI,
    RTCP_RTPFB_NACK,
    RtcpPsfbPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    RtcpSrPacket,
    pack_remb_fci,
)

from gateway.webrtc.aiortc_adapter.guard import uses
from gateway.webrtc.aiortc_adapter.transport import DtlsTransport
from gateway.webrtc.aiortc_adapter.uplink import UplinkEstimator, send_time_of
from gateway.webrtc.assembly import AssembledFrame, FrameAssembler, RtpPayload
from gateway.webrtc.ice import Liveness
from gateway.webrtc.reception import (
    HEADER,
    MissingPackets,
    ReceptionStatistics,
    h264_part,
    header_extension,
    payload_span,
    vp8_part,
)
from gateway.webrtc.statistics import PeerStatistics
from sana_gateway.v1 import media_pb2

PLI_INTERVAL_S: Final = 0.5
"""Shortest time between two requests for a keyframe to one publisher."""
REPORT_INTERVAL_S: Final = 1.0
"""Time between two receiver reports, give or take a half."""
SWITCH_SILENCE_S: Final = 0.1
"""How long a stream must be silent before another one of the client takes its place."""
MAX_FEEDBACK: Final = 32
"""RTCP packets that may wait for their task; further ones push the oldest out."""

_ABS_SEND_TIME: Final = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"

_Depayload = Callable[[bytes, int, int], bytes]
_FORMATS: Final[dict[str, tuple[media_pb2.Codec.ValueType, _Depayload]]] = {
    "H264": (media_pb2.CODEC_H264, h264_part),
    "VP8": (media_pb2.CODEC_VP8, vp8_part),
}

uses(
    RTCDtlsTransport,
    "_rtp_router",
    "_rx_srtp",
    "_transport",
    _register_rtp_receiver="self receiver parameters",
    _send_rtp="self data",
    _unregister_rtp_receiver="self receiver",
)
uses(RtpRouter, "ssrc_table")
# What a peer connection asks of its receivers.
uses(
    RTCRtpReceiver,
    "_track",
    receive="self parameters",
    setTransport="self transport",
    stop="self",
    _handle_disconnect="self",
    _handle_rtcp_packet="self packet",
    _set_rtcp_ssrc="self ssrc",
)

_log = structlog.get_logger()


class FrameReceiver:
    """Stands where a peer connection has an `RTCRtpReceiver`; hands over encoded frames.

    Asks the publisher for a keyframe when frames were lost, at most once in
    `PLI_INTERVAL_S`, until one has come. Nothing is received before `deliver_to`.
    """

    def __init__(self, kind: str, transport: DtlsTransport, *, statistics: PeerStatistics) -> None:
        self.kind = kind
        self.transport = transport
        self.keyframe_requests = 0
        """Requests sent to the publisher."""
        self._track: MediaStreamTrack | None = None
        self._statistics = statistics
        self._deliver: Callable[[AssembledFrame], None] | None = None
        self._stream = _Stream()
        self._lost = 0
        self._keyframe_wanted = False
        self._asked_at = float("-inf")
        self._now = asyncio.get_running_loop().time
        self._formats: dict[int, tuple[media_pb2.Codec.ValueType, _Depayload]] = {}
        self._repeats: dict[int, int] = {}
        self._send_time_id = 0
        self._our_ssrc = 0
        self._last_report: tuple[int, float] | None = None
        self._feedback: deque[bytes] = deque(maxlen=MAX_FEEDBACK)
        self._more = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._liveness: Liveness

    def deliver_to(self, deliver: Callable[[AssembledFrame], None]) -> None:
        """Says who takes the frames."""
        self._deliver = deliver

    def request_keyframe(self) -> None:
        """Asks the publisher for a keyframe, now or as soon as it may be asked again."""
        self._keyframe_wanted = True
        self._ask(self._now())

    # -- what aiortc asks of a receiver ---------------------------------------------------------

    @property
    def track(self) -> MediaStreamTrack | None:
        """The track that aiortc made for it; nobody reads it."""
        return self._track

    def setTransport(self, transport: DtlsTransport) -> None:  # noqa: N802 - aiortc's name
        """Changes the transport before anything is received."""
        self.transport = transport

    def _set_rtcp_ssrc(self, ssrc: int) -> None:
        self._our_ssrc = ssrc

    async def receive(self, parameters: RTCRtpReceiveParameters) -> None:
        """Begins to receive: the transport is connected."""
        if self._task is not None or self._deliver is None:
            return
        self._learn(parameters)
        self.transport._register_rtp_receiver(self, parameters)
        self._task = asyncio.create_task(self._give_feedback(), name="camera-feedback")
        self._liveness = self.transport.ice.liveness
        self.transport.ice.receive_rtp(self._received)

    async def stop(self) -> None:
        """Receives no more."""
        if self._task is not None:
            self.transport.ice.receive_rtp(None)
            self.transport._unregister_rtp_receiver(self)
            self._count_lost()
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _handle_disconnect(self) -> None:
        """Nothing runs here that would have to end."""

    async def _handle_rtp_packet(self, packet: object, arrival_time_ms: int) -> None:
        """No packet comes this way: they are taken where they are read."""

    async def _handle_rtcp_packet(self, packet: object) -> None:
        if isinstance(packet, RtcpSrPacket) and packet.ssrc == self._stream.ssrc:
            middle = packet.sender_info.ntp_timestamp >> 16 & 0xFFFFFFFF
            self._last_report = (middle, self._now())

    def _learn(self, parameters: RTCRtpReceiveParameters) -> None:
        for codec in parameters.codecs:
            self._learn_codec(codec)
        for extension in parameters.headerExtensions:
            if extension.uri == _ABS_SEND_TIME:
                self._send_time_id = extension.id

    def _learn_codec(self, codec: RTCRtpCodecParameters) -> None:
        original = codec.parameters.get("apt")
        if codec.payloadType is None:
            return
        if codec.name in _FORMATS:
            self._formats[codec.payloadType] = _FORMATS[codec.name]
        elif codec.name.lower() == "rtx" and isinstance(original, int):
            self._repeats[codec.payloadType] = original

    # -- one packet ----------------------------------------------------------------------------

    def _received(self, data: bytes) -> None:
        """Takes one encrypted RTP packet."""
        statistics = self._statistics
        statistics.camera_packets += 1
        payload_type = data[1] & 0x7F
        if payload_type not in self._formats and payload_type not in self._repeats:
            statistics.packets_unknown += 1
            return
        try:
            packet = self.transport._rx_srtp.unprotect(data)
        except pylibsrtp.Error:
            statistics.packets_unauthentic += 1
            return
        now = self._now()
        self._liveness.heard(now)
        try:
            self._accept(packet, payload_type, now)
        except (ValueError, LookupError, struct.error):
            statistics.packets_malformed += 1

    def _accept(self, packet: bytes, payload_type: int, now: float) -> None:
        """Takes one authentic packet.

        Raises:
            ValueError: It is malformed.
            LookupError: It is a retransmission of an unknown format.
        """
        start, end = payload_span(packet)
        _, kind, sequence, timestamp, ssrc = HEADER.unpack_from(packet)
        stream, original = self._stream, self._repeats.get(payload_type)
        if original is not None:
            if end == start or stream.ssrc is None:
                return
            if end < start + 2:
                raise ValueError("truncated retransmission")
            sequence = packet[start] << 8 | packet[start + 1]
            payload_type, ssrc, start = original, stream.ssrc, start + 2
        codec, depayload = self._formats[payload_type]
        data = depayload(packet, start, end) if end > start else b""
        if ssrc != stream.ssrc:
            if now - stream.last_at < SWITCH_SILENCE_S:
                self._statistics.packets_unknown += 1
                return
            stream = self._switch(ssrc)
        if original is None:
            stream.reception.add(sequence, timestamp, now)
            stream.last_at = now
        missing = stream.missing.received(sequence, now, again=original is not None)
        if missing:
            self._report_missing(missing)
        assembler = stream.assembler
        marked = kind > 127
        payload = RtpPayload(ssrc, sequence, timestamp, marked, codec, data)
        for frame in assembler.add(payload, now):
            self._hand_over(frame)
        if original is None:
            stream.octets += len(packet)
            if marked:
                self._estimate(packet, timestamp, now)
        if assembler.keyframe_wanted or self._keyframe_wanted:
            self._count_lost()
            self._ask(now)

    def _switch(self, ssrc: int) -> _Stream:
        """Takes up another stream of the client: its first, or that of a replaced track."""
        table = self.transport._rtp_router.ssrc_table
        table.pop(self._stream.ssrc, None)
        table[ssrc] = self
        self._stream.follow(ssrc)
        self._last_report = None
        return self._stream

    def _count_lost(self) -> None:
        self._statistics.camera_frames_lost += self._stream.assembler.discarded - self._lost
        self._lost = self._stream.assembler.discarded

    def _hand_over(self, frame: AssembledFrame) -> None:
        self._keyframe_wanted = self._keyframe_wanted and not frame.keyframe
        try:
            if self._deliver is not None:
                self._deliver(frame)
        except Exception:
            # A fault of ours over one frame must not cost the client its connection.
            if not self._statistics.camera_failures:
                _log.exception("a camera frame could not be handed on")
            self._statistics.camera_failures += 1

    # -- what the publisher is told -------------------------------------------------------------

    def _ask(self, now: float) -> None:
        if self._stream.ssrc is None or now - self._asked_at < PLI_INTERVAL_S:
            return
        self._asked_at = now
        self.keyframe_requests += 1
        self._statistics.camera_keyframe_requests += 1
        self._tell(
            RtcpPsfbPacket(fmt=RTCP_PSFB_PLI, ssrc=self._our_ssrc, media_ssrc=self._stream.ssrc)
        )

    def _report_missing(self, missing: Sequence[int]) -> None:
        self._statistics.camera_packets_asked += len(missing)
        self._stream.assembler.patience_s = self._stream.missing.patience_s
        packet = RtcpRtpfbPacket(
            fmt=RTCP_RTPFB_NACK, ssrc=self._our_ssrc, media_ssrc=self._stream.ssrc
        )
        packet.lost = sorted(missing)
        self._tell(packet)

    def _estimate(self, packet: bytes, timestamp: int, now: float) -> None:
        """Takes note of the frame that ends with this packet; reports the rate when it is time."""
        stream = self._stream
        sent = header_extension(packet, self._send_time_id) if self._send_time_id else None
        send_time = send_time_of(sent, timestamp)
        rate = stream.uplink.frame(send_time, round(now * 1000), stream.octets)
        stream.octets = 0
        if rate is not None:
            fci = pack_remb_fci(rate, [stream.ssrc])
            self._tell(
                RtcpPsfbPacket(fmt=RTCP_PSFB_APP, ssrc=self._our_ssrc, media_ssrc=0, fci=fci)
            )

    def _tell(self, packet: object) -> None:
        self._feedback.append(bytes(packet))  # type: ignore[call-overload]
        self._more.set()

    async def _give_feedback(self) -> None:
        due = self._now()
        while True:
            due += REPORT_INTERVAL_S * (0.5 + random.random())  # noqa: S311 - spreads reports
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    while True:
                        await self._more.wait()
                        self._more.clear()
                        await self._send_feedback()
            if self._stream.ssrc is not None:
                self._tell(RtcpRrPacket(ssrc=self._our_ssrc, reports=[self._report()]))

    async def _send_feedback(self) -> None:
        while self._feedback:
            with suppress(ConnectionError):
                await self.transport._send_rtp(self._feedback.popleft())

    def _report(self) -> RtcpReceiverInfo:
        fraction, lost, highest, jitter = self._stream.reception.report()
        last, delay = 0, 0
        if self._last_report is not None:
            last = self._last_report[0]
            delay = min(round((self._now() - self._last_report[1]) * 65536), 0xFFFFFFFF)
        return RtcpReceiverInfo(self._stream.ssrc, fraction, lost, highest, jitter, last, delay)


class _Stream:
    """The one stream that is followed."""

    def __init__(self) -> None:
        self.ssrc: Any = None
        self.last_at = float("-inf")
        self.octets = 0
        self.assembler = FrameAssembler()
        self.reception = ReceptionStatistics()
        self.missing = MissingPackets()
        self.uplink = UplinkEstimator()

    def follow(self, ssrc: int) -> None:
        """Begins anew; the assembler sees by itself, and keeps the time."""
        self.ssrc = ssrc
        self.octets = 0
        self.reception = ReceptionStatistics()
        self.missing = MissingPackets()
        self.uplink = UplinkEstimator()
