"""From RTP packets of a camera to whole encoded frames. Pure; nothing is decoded.

A frame is released by its marker bit, not by the next frame's first packet: at 24 frames
a second that is 41 ms sooner. Missing packets are waited for (they are asked for again
by NACK) for `patience_s`; then the frame is given up, and everything after it up to the
next keyframe, because a decoder would only show damage.

Keyframes are found in the payload: RFC 7741 section 4.3 (VP8), ITU-T H.264 table 7-1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from sana_gateway.v1 import media_pb2

CAPACITY: Final = 512
"""Packets that may wait behind a missing one: more than a keyframe without rate control."""
PATIENCE_S: Final = 0.25
"""How long a missing packet is waited for while the round trip is unknown."""
JUMP_S: Final = 5.0
"""A publisher's clock that moves so much more than ours has been set anew."""
MAX_FRAME_BYTES: Final = 1 << 20
"""A larger frame is given up; internal messages are limited to as much."""
CLOCK_RATE: Final = 90_000
"""Ticks of an RTP video timestamp a second."""

_START_CODE: Final = b"\x00\x00\x01"
_SPS, _PPS, _IDR = 7, 8, 5


class RtpPayload(NamedTuple):
    """What one RTP packet carries, without the payload format's own header."""

    ssrc: int
    sequence: int
    """16 bits."""
    timestamp: int
    """32 bits, in ticks of `CLOCK_RATE`."""
    marker: bool
    """Whether it is the last of its frame."""
    codec: media_pb2.Codec.ValueType
    data: bytes
    """Part of the frame; H.264 with start codes. Empty in padding."""


@dataclass(frozen=True, slots=True)
class AssembledFrame:
    """A whole encoded frame."""

    data: bytes
    keyframe: bool
    codec: media_pb2.Codec.ValueType
    timestamp_us: int
    """Unwrapped; 0 for the first frame, never falling."""
    discontinuity: bool
    """Whether frames were lost or discarded before it."""


def is_keyframe(codec: media_pb2.Codec.ValueType, data: bytes) -> bool:
    """Whether a frame can be decoded alone.

    In H.264 that takes both parameter sets and an IDR picture: without the sets in band a
    new decoder could not begin here.
    """
    if codec == media_pb2.CODEC_VP8:
        return len(data) >= 10 and not data[0] & 1 and data[3:6] == b"\x9d\x01\x2a"
    seen: set[int] = set()
    at = data.find(_START_CODE)
    while at >= 0 and at + 3 < len(data):
        unit = data[at + 3] & 0x1F
        if 1 <= unit <= _IDR:
            return unit == _IDR and {_SPS, _PPS} <= seen
        seen.add(unit)
        at = data.find(_START_CODE, at + 3)
    return False


class MediaClock:
    """RTP timestamps as microseconds that never fall.

    Where the publisher's own clock jumps (a new stream, a timestamp that falls or runs
    ahead by more than `JUMP_S`) the time of arrival bridges the gap.
    """

    def __init__(self) -> None:
        self._last: int | None = None
        self._last_us = 0
        self._last_now: float | None = None
        # Time since the last jump in ticks, and what it is counted from.
        self._ticks = 0
        self._base_us = 0

    def restart(self) -> None:
        """Says that the next timestamp has nothing to do with those before it."""
        self._last = None

    def map(self, timestamp: int, now: float) -> int:
        """Returns the time of a frame.

        Args:
            timestamp: 32 bits, wrapping.
            now: Arrival in seconds.
        """
        step = 0 if self._last is None else (timestamp - self._last) & 0xFFFFFFFF
        elapsed_s = 0.0 if self._last_now is None else max(0.0, now - self._last_now)
        # A timestamp that falls looks like one that is more than six hours ahead.
        if self._last is None or step > (elapsed_s + JUMP_S) * CLOCK_RATE:
            self._base_us = self._last_us + round(elapsed_s * 1e6)
            self._ticks = 0
        else:
            self._ticks += step
        self._last, self._last_now = timestamp, now
        self._last_us = self._base_us + self._ticks * 1_000_000 // CLOCK_RATE
        return self._last_us


class FrameAssembler:
    """Packets in, in any order; frames out, in theirs. Begins with a keyframe.

    Holds at most `CAPACITY` packets and one frame. A packet costs the same however many
    wait.
    """

    def __init__(self) -> None:
        self.patience_s = PATIENCE_S
        """How long a missing packet is waited for."""
        self.keyframe_wanted = False
        """Whether frames are discarded until a keyframe comes."""
        self.discarded = 0
        """Frames and gaps that were given up."""
        self._clock = MediaClock()
        self._ssrc: int | None = None
        self._next = 0
        self._codec: media_pb2.Codec.ValueType | None = None
        # In the order of arrival: the first has waited longest.
        self._waiting: dict[int, tuple[RtpPayload, float]] = {}
        self._parts: list[bytes] = []
        self._size = 0
        self._timestamp = 0
        self._broken = True
        self._begun = False

    def add(self, packet: RtpPayload, now: float) -> Sequence[AssembledFrame]:
        """Takes a packet and returns the frames that it completes.

        Args:
            packet: The packet.
            now: Its arrival in seconds.
        """
        if packet.ssrc != self._ssrc:
            self._begin_stream(packet)
        ahead = (packet.sequence - self._next) & 0xFFFF
        if not ahead and not self._waiting:
            return self._take(packet, now)
        if 0x10000 - ahead <= CAPACITY:
            return ()
        if ahead >= CAPACITY:
            self._lose()
            self._begin_at(packet)
        self._waiting.setdefault(packet.sequence, (packet, now))
        frames = self._consume(now)
        while self._waiting and self._waited(now) >= self.patience_s:
            self._skip_gap()
            frames += self._consume(now)
        return frames

    def _begin_stream(self, packet: RtpPayload) -> None:
        """Takes up the publisher's stream, or a new one: it begins with a keyframe unasked."""
        self._clear()
        self._broken = True
        self._ssrc = packet.ssrc
        self._clock.restart()
        self._begin_at(packet)

    def _begin_at(self, packet: RtpPayload) -> None:
        self._next = packet.sequence
        self._waiting.clear()

    def _lose(self) -> None:
        """Gives up the frame under way and what follows up to a keyframe."""
        self._clear()
        self._broken = True
        self.keyframe_wanted = True
        self.discarded += 1

    def _clear(self) -> None:
        self._parts.clear()
        self._size = 0

    def _waited(self, now: float) -> float:
        """How long packets have been waiting for those before them."""
        return now - next(iter(self._waiting.values()))[1]

    def _skip_gap(self) -> None:
        self._lose()
        while self._next not in self._waiting:
            self._next = (self._next + 1) & 0xFFFF

    def _consume(self, now: float) -> list[AssembledFrame]:
        frames: list[AssembledFrame] = []
        while (waiting := self._waiting.pop(self._next, None)) is not None:
            frames += self._take(waiting[0], now)
        return frames

    def _take(self, packet: RtpPayload, now: float) -> Sequence[AssembledFrame]:
        """Takes the packet that is next in sequence."""
        self._next = (packet.sequence + 1) & 0xFFFF
        if not packet.data:
            return ()
        frames: list[AssembledFrame] = []
        if packet.codec != self._codec:
            self._change_codec(packet.codec)
        if self._parts and packet.timestamp != self._timestamp:
            self._release(frames, now)
        self._timestamp = packet.timestamp
        self._parts.append(packet.data)
        self._size += len(packet.data)
        if self._size > MAX_FRAME_BYTES:
            self._lose()
        elif packet.marker:
            self._release(frames, now)
        return frames

    def _change_codec(self, codec: media_pb2.Codec.ValueType) -> None:
        if self._codec is not None:
            self._lose()
        self._codec = codec

    def _release(self, frames: list[AssembledFrame], now: float) -> None:
        """Ends the frame under way: it goes out, or is discarded for want of a keyframe."""
        data = b"".join(self._parts)
        self._clear()
        if self._codec is None:
            return
        keyframe = is_keyframe(self._codec, data)
        if self._broken and not keyframe:
            self.keyframe_wanted = True
            self.discarded += 1
            return
        timestamp_us = self._clock.map(self._timestamp, now)
        lost = self._broken and self._begun
        self._broken = self.keyframe_wanted = False
        self._begun = True
        frames.append(AssembledFrame(data, keyframe, self._codec, timestamp_us, lost))
