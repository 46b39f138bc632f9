"""Where a viewer's frames come from: gRPC Media, or WebRTC through Signal."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import av
import numpy as np
import numpy.typing as npt
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpReceiver, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError
from google.protobuf import json_format

from sana_gateway import Codec, Session, VideoFrame, ViewerStats
from sana_gateway.media import CodecName
from sdk_adapters.harness.delays import Delays
from sdk_adapters.harness.ledger import FrameLedger
from sdk_adapters.harness.marker import Marker, read_marker, session_tag

Clock = Callable[[], float]

STATS_CHANNEL: Final = "sana.stats"
"""Data channel on which the service sends `ViewerStats` as JSON, when a client opens it."""

HOLD_S: Final = 0.2
"""The picture that came last and comes again so much later, by the stream's clock, is held on
purpose: the service sends it anew a quarter of a second after it, and mends it. Sooner it is
a repeat."""

_DECODERS: Final[dict[int, Any]] = {
    Codec.Value("CODEC_H264"): "h264",
    Codec.Value("CODEC_VP8"): "vp8",
}


class MarkerReader:
    """Notes decoded pictures by the marker drawn into them."""

    def __init__(self, ledger: FrameLedger, session_id: str, modulo: int | None) -> None:
        """Stores where to note them.

        Args:
            ledger: Where.
            session_id: Whose pictures are wanted; others are counted as foreign.
            modulo: For canned pictures, which are shared by all sessions and carry only a
                number modulo this; None for pictures drawn for this session.
        """
        self._ledger = ledger
        self._tag = None if modulo else session_tag(session_id)
        self._modulo = modulo
        self._newest: tuple[Marker, float] | None = None
        """The picture that came last, and where it began on the stream's clock."""

    def picture(
        self,
        luma: npt.NDArray[np.uint8],
        arrival_s: float,
        announced: VideoFrame | None = None,
        media_s: float | None = None,
    ) -> Marker | None:
        """Notes a picture; returns its marker if it is one of this session's.

        Args:
            luma: Its Y plane, shape `(height, width)`.
            arrival_s: When it came.
            announced: The stream's own word for it, where it has one.
            media_s: When it belongs on the stream's own clock; by default as it came.
        """
        marker = read_marker(luma)
        if marker is None:
            self._ledger.unreadable += 1
            return None
        self._ledger.video = "canned" if marker.canned else "encoded"
        if self._tag not in (None, marker.session_tag):
            self._ledger.foreign += 1
            return None
        if announced is None:
            if self._holds(marker, arrival_s if media_s is None else media_s):
                self._ledger.held += 1
            else:
                self._ledger.seen(marker.run, marker.frame, arrival_s)
            return marker
        same_run = self._modulo is not None or announced.run % 256 == marker.run
        if not same_run or (announced.frame - marker.frame) % (self._modulo or 2**32):
            self._ledger.mismatched += 1
        self._ledger.seen(announced.run, marker.frame, arrival_s, announced.timestamp_us / 1e6)
        return marker

    def _holds(self, marker: Marker, media_s: float) -> bool:
        """Tells whether a picture is the last one again, where the stream does not say so."""
        if self._newest is None or self._newest[0] != marker:
            self._newest = marker, media_s
            return False
        return media_s - self._newest[1] >= HOLD_S


async def watch_grpc(
    session: Session,
    ledger: FrameLedger,
    codec: CodecName | None,
    reader: MarkerReader | None = None,
    clock: Clock = time.monotonic,
    delays: Delays | None = None,
) -> None:
    """Notes the frames of main_video until the session ends.

    Args:
        session: Whose.
        ledger: Where to note them.
        codec: Codec to watch in.
        reader: Decodes, and goes by the markers; without one the frame numbers that come
            with the packets count, and nothing is decoded.
        clock: Tells the time.
        delays: Where to note how long each took; by its arrival, for nothing is shown here.
    """
    decoder: Any = None
    on_stats = None if delays is None else delays.stats
    async with session.watch(codec, on_stats=on_stats) as frames:
        async for frame in frames:
            arrival_s = clock()
            ledger.held += frame.held
            if delays is not None and not frame.held:
                delays.frame(frame.run, frame.frame, frame.source_us, arrival_s)
            if reader is None:
                if frame.held:
                    continue
                ledger.seen(frame.run, frame.frame, arrival_s, frame.timestamp_us / 1e6)
                continue
            decoder = decoder or _decoder(frame.codec)
            pictures = await asyncio.to_thread(_decoded, decoder, frame.data)
            if not pictures:
                ledger.unreadable += 1
            for luma in () if frame.held else pictures:
                reader.picture(luma, arrival_s, frame)


async def watch_webrtc(
    session: Session,
    codec: CodecName | None,
    reader: MarkerReader,
    clock: Clock = time.monotonic,
    delays: Delays | None = None,
) -> None:
    """Notes the decoded frames of main_video until the track ends.

    aiortc hands out a frame when the first packet of the next one has come: all arrivals
    are later by the same period, which the anchor cancels.

    Args:
        session: Whose.
        codec: Codec to offer; None offers all.
        reader: Notes the pictures.
        clock: Tells the time.
        delays: Where to note how long each took. Source times do not come over WebRTC.
    """
    # Without this, aiortc asks a public STUN server, for seconds where there is none.
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    number = 0
    try:
        transceiver = peer.addTransceiver("video", direction="recvonly")
        if codec is not None:
            able: Any = RTCRtpReceiver.getCapabilities("video")
            wanted = [each for each in able.codecs if each.mimeType.lower() == f"video/{codec}"]
            transceiver.setCodecPreferences(wanted)
        if delays is not None:
            channel = peer.createDataChannel(STATS_CHANNEL)
            channel.on("message", lambda text: delays.stats(json_format.Parse(text, ViewerStats())))
        await peer.setLocalDescription(await peer.createOffer())
        number, answer = await session.offer(
            peer.localDescription.sdp, {str(transceiver.mid): "main_video"}
        )
        await peer.setRemoteDescription(RTCSessionDescription(sdp=answer, type="answer"))
        while True:
            frame: Any = await transceiver.receiver.track.recv()
            arrival_s = clock()
            luma = await asyncio.to_thread(_luma, frame)
            marker = reader.picture(luma, arrival_s, media_s=float(frame.pts * frame.time_base))
            if delays is not None and marker is not None:
                delays.frame(marker.run, marker.frame, None, arrival_s)
    except MediaStreamError:
        return
    finally:
        await peer.close()
        if number and session.end_reason is None:
            await session.hangup(number)


def _decoder(codec: int) -> Any:  # noqa: ANN401 - PyAV's type depends on the codec
    decoder = av.CodecContext.create(_DECODERS[codec], "r")
    # One thread: more would hold frames back.
    decoder.thread_count = 1
    return decoder


def _decoded(decoder: Any, data: bytes) -> list[npt.NDArray[np.uint8]]:  # noqa: ANN401
    try:
        return [_luma(picture) for picture in decoder.decode(av.Packet(data))]
    except av.error.FFmpegError:
        return []


def _luma(picture: Any) -> npt.NDArray[np.uint8]:  # noqa: ANN401 - of PyAV, of either library
    plane = picture.planes[0]
    rows: npt.NDArray[np.uint8] = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    return rows[: picture.height, : picture.width].copy()
