"""The client of a peer as a viewer of main_video."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from aiortc import RTCRtpSender

from gateway import ports
from gateway.webrtc import aiortc_adapter
from gateway.webrtc.rates import DownlinkEstimate
from gateway.webrtc.sdp import Section
from gateway.webrtc.statistics import PeerStatistics
from sana_gateway.v1 import media_pb2
from scheduler.core.errors import BadOfferError

STATS_CHANNEL: Final = "sana.stats"
"""Label of the data channel on which a client is told of its picture (`ViewerStats`)."""

_PREFERENCE: Final = (media_pb2.CODEC_H264, media_pb2.CODEC_VP8)


class PeerViewer:
    """The client as a viewer of main_video. Paused until the transport is connected."""

    def __init__(self, connection: ports.Connection, section: Section) -> None:
        codecs = [codec for codec in _PREFERENCE if codec in section.codecs]
        if not codecs:
            raise BadOfferError("the offer receives video in no codec that we speak")
        self.on_stats: Callable[[media_pb2.ViewerStats], None] | None = None
        """Who is told what the picture has been through; None: nobody."""
        self._sender: aiortc_adapter.FrameSender | None = None
        self._network = DownlinkEstimate()
        self._reception: aiortc_adapter.Reception | None = None
        self._now = asyncio.get_running_loop().time
        self._connected = False
        self._paused = False
        self._subscription: ports.Subscription = connection.subscribe(codecs, self)
        self._subscription.pause()

    @property
    def codec(self) -> media_pb2.Codec.ValueType:
        """Codec of the frames."""
        return self._subscription.codec

    def attach(self, sender: RTCRtpSender, *, frame_metadata: bool) -> None:
        """Sends the frames through a sender."""
        self._sender = aiortc_adapter.FrameSender(
            sender, self.codec, self, frame_metadata=frame_metadata
        )

    def pause(self) -> None:
        """Stops the frames."""
        self._paused = True
        self._subscription.pause()
        if self._sender is not None:
            self._sender.restart()

    def resume(self) -> None:
        """Starts them again."""
        if self._paused:
            self._paused = False
            if self._connected:
                self._subscription.resume()

    def close(self, statistics: PeerStatistics) -> None:
        """Ends the subscription."""
        self._subscription.close()
        if self._sender is not None:
            statistics.viewer_overflows += self._sender.overflows
            statistics.viewer_frames_dropped += self._sender.dropped
            statistics.viewer_packets_repeated += self._sender.history.repeated
            statistics.viewer_repeats_refused += self._sender.history.refused
            statistics.viewer_packets_dropped += self._sender.packets_dropped

    # -- what the session gives ------------------------------------------------------------

    def frame(self, frame: ports.EncodedFrame) -> None:
        """Sends a frame, within this call."""
        if self._sender is not None:
            self._sender.frame(frame)

    def stats(self, stats: media_pb2.ViewerStats) -> None:
        """Tells the client of its picture, with what only this end knows."""
        if self.on_stats is None:
            return
        complete = media_pb2.ViewerStats()
        complete.CopyFrom(stats)
        complete.estimated_bitrate = self._network.value
        if self._sender is not None:
            complete.frames_dropped = self._sender.dropped
            complete.rtp_timestamp = self._sender.rtp_timestamp(stats.timestamp_us)
        if self._reception is not None:
            complete.fraction_lost = self._reception.fraction_lost
            complete.round_trip_us = round((self._reception.round_trip_s or 0) * 1e6)
        self.on_stats(complete)

    # -- what the client says --------------------------------------------------------------

    def started(self) -> None:
        """The transport is connected."""
        self._connected = True
        if not self._paused:
            self._subscription.resume()

    def keyframe_needed(self) -> None:
        """The client lost its picture."""
        self._subscription.request_keyframe()

    def sent(self, octets: int) -> None:
        """A frame goes out."""
        self._network.sent(octets, self._now())

    def estimated(self, bits_per_second: int) -> None:
        """The client estimates its network."""
        self._tell(self._network.estimated(bits_per_second, self._now()))

    def reported(self, reception: aiortc_adapter.Reception) -> None:
        """The client tells how the frames arrive."""
        self._reception = reception

    def observed(self, seen: aiortc_adapter.Evidence) -> None:
        """The client's reports show what its network carries."""
        self._tell(self._network.observed(seen, self._now()))

    def _tell(self, estimate: int | None) -> None:
        if self._sender is not None:
            self._sender.limit(self._network.value, self._network.congested_until)
        if estimate is not None:
            self._subscription.estimate(estimate)
