"""From the packets of an output to its viewers, at the moment each is due.

Packets come from the actor up to about 120 ms before they are due and leave in order.
One that comes late leaves at once; one encoded anew while the picture holds (for a
viewer who has just joined) too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from gateway.playout import Due
from gateway.ports import EncodedFrame, Viewer
from sana_gateway.v1 import media_pb2
from sana_gateway_internal.v1 import stream_pb2

CODECS = (media_pb2.CODEC_H264, media_pb2.CODEC_VP8)
"""What outputs are made in."""

JOIN_CACHE_S = 0.5
"""Packets since the last keyframe are kept while younger than this, for who joins."""
EARLY_PACKETS = 128
"""Packets that may wait for their time; past it the oldest are dropped up to the next
keyframe, which is asked for. An actor encodes about three ahead."""


MIN_BITRATE = 1_500_000
"""An output is never asked to go below this, in bits per second: one slow viewer is not
to spoil the picture of the others."""
MAX_BITRATE = 4_000_000
"""Nor above this."""
BITRATE_STEP = 0.15
"""Smallest relative change that is passed on; each may cost the encoder a keyframe."""


class Demand(Protocol):
    """Tells the actor what is wanted of an output."""

    def __call__(self, *, wanted: bool, keyframe: bool = False, bitrate: int = 0) -> None:
        """Whether anybody watches, whether a keyframe is needed, bits per second (0: as it is)."""


class OutputFanout:
    """One output of a session and its viewers."""

    def __init__(
        self, codec: media_pb2.Codec.ValueType, demand: Demand, clock: Callable[[], float]
    ) -> None:
        """Prepares an output without viewers.

        Args:
            codec: What its packets are encoded with.
            demand: Tells the actor.
            clock: Seconds, monotonic.
        """
        self.codec = codec
        self._demand = demand
        self._clock = clock
        self._estimates: dict[Viewer, int] = {}
        self._bitrate = 0
        self._early: deque[stream_pb2.VideoPacket] = deque()
        self._cache: list[EncodedFrame] = []
        self._cache_since = float("-inf")
        self._viewers: dict[Viewer, bool] = {}
        self._last_timestamp_us = -1
        self._skip_to_key = False

    def demand_again(self) -> None:
        """Tells a new actor what is wanted."""
        if self._viewers:
            self._early.clear()
            self._demand(wanted=True, keyframe=True, bitrate=self._bitrate)

    def join(self, viewer: Viewer) -> None:
        """Adds a viewer: from the packets at hand if they are fresh, else from a new keyframe."""
        if viewer in self._viewers:
            return
        fresh = bool(self._cache) and self._clock() - self._cache_since <= JOIN_CACHE_S
        self._viewers[viewer] = fresh
        if fresh:
            for frame in self._cache:
                viewer.frame(frame)
        self._demand(wanted=True, keyframe=not fresh)

    def leave(self, viewer: Viewer) -> None:
        """Removes a viewer; without any the output is no longer wanted."""
        self._estimates.pop(viewer, None)
        if self._viewers.pop(viewer, None) is not None and not self._viewers:
            self._early.clear()
            self._cache = []
            self._bitrate = 0
            self._demand(wanted=False)

    def estimate(self, viewer: Viewer, bits_per_second: int) -> None:
        """Takes in what a viewer's network carries: the best viewer's sets the rate."""
        if viewer not in self._viewers:
            return
        self._estimates[viewer] = bits_per_second
        target = min(MAX_BITRATE, max(MIN_BITRATE, *self._estimates.values()))
        if abs(target - self._bitrate) > BITRATE_STEP * max(self._bitrate, 1):
            self._bitrate = target
            self._demand(wanted=True, bitrate=target)

    def keyframe(self, viewer: Viewer) -> None:
        """A viewer has lost the picture: it is given nothing until a keyframe."""
        if viewer in self._viewers:
            self._viewers[viewer] = False
            self._demand(wanted=True, keyframe=True)

    def packet(self, packet: stream_pb2.VideoPacket) -> None:
        """Keeps a packet for its time."""
        if self._skip_to_key and not packet.keyframe:
            return
        self._skip_to_key = False
        self._early.append(packet)
        if len(self._early) > EARLY_PACKETS:
            self.lost()

    def lost(self) -> None:
        """A packet went missing: nothing is handed out until the next keyframe, asked for now."""
        self._early.clear()
        self._skip_to_key = True
        if self._viewers:
            self._demand(wanted=True, keyframe=True)

    def abandon(self) -> None:
        """Drops what waits of a run that is void, and what may still come of it. The next
        run begins with a keyframe without being asked: asked for now, it would be made of
        the held picture, which every viewer has.
        """
        self._early.clear()
        self._cache = []
        self._skip_to_key = True

    def due(
        self,
        frame: Due | None,
        reached: tuple[int, int],
        stamp: Callable[[stream_pb2.VideoPacket], int],
    ) -> bool:
        """Hands out what is due.

        Args:
            frame: The frame that has just become due; None when only late packets are served.
            reached: (run, frame) of the last frame that was due.
            stamp: Returns when a packet belongs on the play-out clock.

        Returns:
            Whether a packet of `frame` left.
        """
        left = False
        while self._early and (
            self._early[0].held or (self._early[0].run, self._early[0].frame) <= reached
        ):
            packet = self._early.popleft()
            timestamp_us = max(stamp(packet), self._last_timestamp_us + 1)
            self._last_timestamp_us = timestamp_us
            encoded = EncodedFrame(
                data=packet.data,
                keyframe=packet.keyframe,
                codec=self.codec,
                timestamp_us=timestamp_us,
                run=packet.run,
                chunk=packet.chunk,
                frame=packet.frame,
                source_us=packet.source_us,
            )
            self._give(encoded)
            left |= frame is not None and (packet.run, packet.frame) == (frame.run, frame.frame)
        return left

    def _give(self, frame: EncodedFrame) -> None:
        now = self._clock()
        if frame.keyframe:
            self._cache = []
            self._cache_since = now
        if now - self._cache_since <= JOIN_CACHE_S:
            self._cache.append(frame)
        else:
            self._cache = []
        for viewer, has_picture in list(self._viewers.items()):
            if has_picture or frame.keyframe:
                self._viewers[viewer] = True
                viewer.frame(frame)
