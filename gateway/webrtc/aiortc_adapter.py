"""Encoded frames through aiortc. The one module that touches its private parts.

aiortc encodes and decodes in threads of its own; here both are replaced, so that packets
of encoded frames pass, and what the far end says about them (PLI, FIR, REMB) is heard.
The replaced parts are named in one place each and looked up before they are replaced:
with another aiortc `require_supported` or `_replace` fails, nothing silently falls back.

What is changed, and why (aiortc 1.16):

* sender: the encoder (ours only cuts frames into packets), `_send_keyframe`;
* receiver: the jitter buffer (ours releases by marker bit), the decoder's queue (ours
  ends its thread at once), the rate control of its bandwidth estimator,
  `_handle_rtp_packet` (a bound on the streams it counts);
* transports: the queue of datagrams (ours has a bound, and drops the empty datagram that
  would end the connection), the packet handlers (a malformed packet costs itself only),
  the receive buffer of the sockets;
* for the whole process: the number of sent packets kept for retransmission.
"""

# ruff: noqa: SLF001 - private parts are what this module is about

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final, NoReturn, Protocol

import aiortc
import structlog
from aiortc import (
    MediaStreamTrack,
    RTCIceCandidate,
    RTCPeerConnection,
    RTCRtpReceiver,
    RTCRtpSender,
    rtcrtpsender,
)
from aiortc.codecs.base import Encoder
from aiortc.codecs.h264 import H264Encoder
from aiortc.codecs.vpx import Vp8Encoder
from aiortc.mediastreams import MediaStreamError
from aiortc.rate import BandwidthUsage
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtp import RtpPacket

from gateway.ports import EncodedFrame
from gateway.webrtc.assembly import AssembledFrame, FrameAssembler, RtpPayload
from gateway.webrtc.frame_metadata import trailer
from gateway.webrtc.outgoing import ViewerQueue
from gateway.webrtc.rates import UplinkRate
from gateway.webrtc.sdp import MAX_CANDIDATES, Candidate
from sana_gateway.v1 import media_pb2
from scheduler.core.errors import ConfigurationError, InvariantError

SUPPORTED: Final = "1.16."
"""Releases of aiortc whose private parts are known here."""
RTP_HISTORY: Final = 512
"""Packets kept for retransmission; aiortc's 128 are fewer than one large keyframe."""
RECEIVE_BUFFER: Final = 1 << 20
"""Bytes a socket may hold while the loop is busy."""
MAX_DATAGRAMS: Final = 2048
"""Datagrams that may wait for the DTLS transport; further ones are dropped."""
MAX_STREAMS: Final = 16
"""RTP streams counted for one track; packets of further ones are dropped."""
PLI_INTERVAL_S: Final = 0.5
"""Shortest time between two requests for a keyframe to one publisher."""

_CODECS: Final = {"H264": media_pb2.CODEC_H264, "VP8": media_pb2.CODEC_VP8}
_USED: Final = (
    (RTCRtpSender, ("_send_keyframe", "_next_encoded_frame", "_retransmit")),
    (RTCRtpReceiver, ("_handle_rtp_packet", "_send_rtcp_pli")),
    (H264Encoder, ("_split_bitstream", "_packetize")),
    (Vp8Encoder, ("_packetize",)),
    (rtcrtpsender, ("RTP_HISTORY_SIZE",)),
)


PacketHandler = Callable[..., Awaitable[None]]

_log = structlog.get_logger()


def require_supported() -> None:
    """Passes an aiortc that this module knows, and enlarges its history of sent packets.

    Raises:
        ConfigurationError: Another release is installed.
    """
    known = aiortc.__version__.startswith(SUPPORTED)
    if not known or any(not hasattr(owner, name) for owner, names in _USED for name in names):
        raise ConfigurationError(
            f"WebRTC needs aiortc {SUPPORTED}x, installed is {aiortc.__version__}"
        )
    _replace(rtcrtpsender, "RTP_HISTORY_SIZE", RTP_HISTORY)


class ViewerFeedback(Protocol):
    """What the far end of a sender says."""

    def started(self) -> None:
        """The transport is connected: frames can be sent from now on."""

    def sent(self, octets: int) -> None:
        """A frame of this size goes out."""

    def keyframe_needed(self) -> None:
        """The picture is lost (PLI or FIR), or the viewer fell behind."""

    def estimated(self, bits_per_second: int) -> None:
        """What the network is estimated to carry (REMB)."""


class FrameSource(MediaStreamTrack):
    """The track that a sender reads encoded frames from; the `Viewer` of a subscription.

    Frames before the transport is connected are dropped.
    """

    kind = "video"

    def __init__(self, feedback: ViewerFeedback) -> None:
        super().__init__()
        self.queue = ViewerQueue()
        self._feedback = feedback
        self._started = False
        self._more = asyncio.Event()

    def frame(self, frame: EncodedFrame) -> None:
        """Queues a frame."""
        if self._started and self.queue.put(frame):
            self._feedback.keyframe_needed()
        self._more.set()

    async def recv(self) -> EncodedFrame:  # type: ignore[override]
        """Returns the next frame, in the type that `_Packetizer.pack` takes.

        Raises:
            MediaStreamError: The track has been stopped.
        """
        if not self._started:
            self._started = True
            self._feedback.started()
        while self.readyState == "live":
            frame = self.queue.take()
            if frame is not None:
                self._feedback.sent(len(frame.data))
                return frame
            self._more.clear()
            await self._more.wait()
        raise MediaStreamError


def send_encoded(
    sender: RTCRtpSender,
    source: FrameSource,
    codec: media_pb2.Codec.ValueType,
    feedback: ViewerFeedback,
    *,
    frame_metadata: bool,
) -> None:
    """Makes a sender that is not started yet send the frames of `source` as they are.

    Args:
        sender: The sender.
        source: Where its frames come from.
        codec: Codec of the frames, which the negotiation must put first.
        feedback: Who hears what the far end says.
        frame_metadata: Whether each frame carries the trailer with its number.
    """
    sender.replaceTrack(source)
    _replace(sender, "_send_keyframe", feedback.keyframe_needed)
    packetizer = _Packetizer(codec, feedback.estimated, frame_metadata=frame_metadata)
    _replace(sender, "_RTCRtpSender__encoder", packetizer)


class _Packetizer(Encoder):
    """Stands where aiortc has an encoder: cuts encoded frames into RTP payloads."""

    def __init__(
        self,
        codec: media_pb2.Codec.ValueType,
        estimated: Callable[[int], None],
        *,
        frame_metadata: bool,
    ) -> None:
        self._is_h264 = codec == media_pb2.CODEC_H264
        self._estimated = estimated
        self._frame_metadata = frame_metadata
        self._picture_id = 0

    def encode(self, frame: object, force_keyframe: bool = False) -> NoReturn:  # noqa: ARG002 - aiortc's signature
        raise InvariantError("the gateway encodes nothing")

    def pack(  # type: ignore[override]
        self, packet: EncodedFrame
    ) -> tuple[list[bytes], int]:
        """Returns the payloads of a frame and its RTP timestamp, not yet wrapped."""
        data = packet.data
        if self._frame_metadata:
            data += trailer(packet.run, packet.frame, packet.source_us)
        timestamp = (packet.timestamp_us * 9 + 50) // 100
        if self._is_h264:
            return H264Encoder._packetize(H264Encoder._split_bitstream(data)), timestamp
        self._picture_id = (self._picture_id + 1) & 0x7FFF
        return Vp8Encoder._packetize(data, self._picture_id), timestamp

    @property
    def target_bitrate(self) -> int:
        """Only set by aiortc: the REMB of the far end."""
        return 0

    @target_bitrate.setter
    def target_bitrate(self, bits_per_second: int) -> None:
        self._estimated(bits_per_second)


class FrameReceiver:
    """Makes a receiver that is not started yet hand over whole encoded frames.

    Asks the publisher for a keyframe when frames were lost, at most once in
    `PLI_INTERVAL_S`, until one has come.
    """

    def __init__(self, receiver: RTCRtpReceiver, deliver: Callable[[AssembledFrame], None]) -> None:
        self.assembler = FrameAssembler()
        self.keyframe_requests = 0
        """Requests sent to the publisher."""
        self._receiver = receiver
        self._deliver = deliver
        self._now = asyncio.get_running_loop().time
        self._codecs: dict[int, RTCRtpCodecParameters] = _private(
            receiver, "_RTCRtpReceiver__codecs"
        )
        self._ssrc: int | None = None
        self._streams: set[int] = set()
        self._wanted = False
        self._asked_at = float("-inf")
        self._tasks: set[asyncio.Task[None]] = set()
        self._handle = receiver._handle_rtp_packet
        _replace(receiver, "_handle_rtp_packet", self._handle_rtp_packet)
        _replace(receiver, "_RTCRtpReceiver__jitter_buffer", self)
        _replace(receiver, "_RTCRtpReceiver__decoder_queue", _NoDecoding())
        estimator = _private(receiver, "_RTCRtpReceiver__remote_bitrate_estimator")
        _replace(estimator, "rate_control", _RateControl())

    def request_keyframe(self) -> None:
        """Asks the publisher for a keyframe, now or as soon as it may be asked again."""
        self._wanted = True
        self._ask()

    async def close(self) -> None:
        """Waits for requests under way."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def add(self, packet: RtpPacket) -> tuple[bool, None]:
        """Takes a packet where aiortc has its jitter buffer; both results say: nothing to do."""
        codec = _CODECS.get(self._codecs[packet.payload_type].name)
        if codec is not None:
            self._ssrc = packet.ssrc
            payload = RtpPayload(
                ssrc=packet.ssrc,
                sequence=packet.sequence_number,
                timestamp=packet.timestamp,
                marker=bool(packet.marker),
                codec=codec,
                data=_private(packet, "_data"),
            )
            for frame in self.assembler.add(payload, self._now()):
                self._wanted = self._wanted and not frame.keyframe
                self._deliver(frame)
            if self._wanted or self.assembler.keyframe_wanted:
                self._ask()
        return False, None

    async def _handle_rtp_packet(self, packet: RtpPacket, arrival_time_ms: int) -> None:
        if packet.ssrc not in self._streams:
            if len(self._streams) >= MAX_STREAMS:
                self._receiver.transport._rtp_router.ssrc_table.pop(packet.ssrc, None)
                return
            self._streams.add(packet.ssrc)
        await self._handle(packet, arrival_time_ms=arrival_time_ms)

    def _ask(self) -> None:
        now = self._now()
        if self._ssrc is None or now - self._asked_at < PLI_INTERVAL_S:
            return
        self._asked_at = now
        self.keyframe_requests += 1
        task = asyncio.ensure_future(self._receiver._send_rtcp_pli(self._ssrc))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _RateControl:
    """`UplinkRate` in the place and with the words of aiortc's rate control."""

    def __init__(self) -> None:
        self._rate = UplinkRate()

    def feedback_interval(self) -> int:
        return self._rate.feedback_interval()

    def update(self, usage: BandwidthUsage, received_bps: int | None, now_ms: int) -> int | None:
        return self._rate.update(
            queue_grows=usage == BandwidthUsage.OVERUSING,
            received_bps=received_bps,
            now_ms=now_ms,
        )


class _NoDecoding:
    """The queue of aiortc's decoder thread: tells it to end, takes nothing."""

    def get(self) -> None:
        return None

    def put(self, item: object) -> None:
        """Drops what is put: frames leave through the assembler."""


def protect(peer: RTCPeerConnection) -> None:
    """Bounds what strangers and clients can do to a peer, once its offer is applied."""
    for transport in _private(peer, "_RTCPeerConnection__iceTransports"):
        _replace(transport._connection, "_queue", _DatagramQueue())
    for transport in _private(peer, "_RTCPeerConnection__dtlsTransports"):
        for name in ("_handle_rtp_data", "_handle_rtcp_data"):
            _replace(transport, name, _contained(getattr(transport, name)))


class _DatagramQueue(asyncio.Queue[tuple[bytes, int] | None]):
    """Datagrams on their way to DTLS; drops the newest when full, and empty ones."""

    def put_nowait(self, item: tuple[bytes, int] | None) -> None:
        if item is None or (item[0] and self.qsize() < MAX_DATAGRAMS):
            super().put_nowait(item)


def _contained(handle: PacketHandler) -> PacketHandler:
    """Keeps an exception over one packet from ending the transport; reports the first."""
    reported = False

    async def handle_packet(*args: object, **kwargs: object) -> None:
        nonlocal reported
        try:
            await handle(*args, **kwargs)
        except Exception:
            if not reported:
                _log.exception("a packet could not be handled")
                reported = True

    return handle_packet


def enlarge_receive_buffers(peer: RTCPeerConnection) -> None:
    """Lets the sockets of a peer whose candidates are gathered hold a burst of packets."""
    for transport in _private(peer, "_RTCPeerConnection__iceTransports"):
        for protocol in transport._connection._protocols:
            udp = protocol.transport.get_extra_info("socket")
            if udp is not None:
                with suppress(OSError):
                    udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)


async def add_candidates(peer: RTCPeerConnection, candidates: Sequence[Candidate]) -> None:
    """Adds ways to reach the client, up to `MAX_CANDIDATES` in all. Never raises."""
    for transport in tuple(_private(peer, "_RTCPeerConnection__iceTransports")):
        for candidate in candidates:
            if len(transport.getRemoteCandidates()) >= MAX_CANDIDATES:
                return
            with suppress(ValueError, ConnectionError):
                await transport.addRemoteCandidate(_ice_candidate(candidate))


def _ice_candidate(candidate: Candidate) -> RTCIceCandidate:
    return RTCIceCandidate(
        component=1,
        foundation=candidate.foundation,
        ip=candidate.host,
        port=candidate.port,
        priority=candidate.priority,
        protocol="udp",
        type=candidate.type,
    )


def _private(owner: object, name: str) -> Any:  # noqa: ANN401 - foreign parts have no types
    try:
        return getattr(owner, name)
    except AttributeError:
        raise ConfigurationError(
            f"this aiortc ({aiortc.__version__}) has no {type(owner).__name__}.{name}"
        ) from None


def _replace(owner: object, name: str, value: object) -> None:
    _private(owner, name)
    setattr(owner, name, value)
