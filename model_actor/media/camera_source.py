"""Decodes the packets of a camera and brings them to the model's size and rate.

Runs in decode workers only.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import av
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext

from model_actor.media.fitter import Fitter, describe, write_i420
from model_actor.media.resample import Resampler
from model_actor.media.wire import CameraPacket, Decoded, OpenCamera

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

    from model_actor.media.codec import Codec
    from model_actor.media.limits import DecodeLimits

_TIME_BASE = Fraction(1, 1_000_000)


class CameraSource:
    """Turns packets into fitted frames in a ring of shared memory."""

    def __init__(self, settings: OpenCamera, memory: memoryview, limits: DecodeLimits) -> None:
        """Starts with no decoder: the first packet is a keyframe and names the codec."""
        self._settings = settings
        self._memory = memory
        self._frame_bytes = settings.width * settings.height * 3 // 2
        self._max_pixels = limits.max_pixels
        self._head = settings.head
        self._tail = settings.tail
        self._fitter = Fitter(settings.width, settings.height)
        self._size = (0, 0)
        self._unfit = 0
        """1 once a picture of the packet at hand could not be fitted."""
        self.flush()

    def free(self, tail: int) -> None:
        """Notes that all frames before `tail` are no longer in use."""
        self._tail = tail

    def pace(self, frame_rate: float) -> None:
        """Makes frames at another rate from now on."""
        self._settings = replace(self._settings, frame_rate=frame_rate)
        self._resampler.pace(frame_rate)

    def flush(self) -> None:
        """Forgets the stream: the next packet is a keyframe, anywhere in time."""
        self._context: VideoCodecContext | None = None
        self._codec: Codec | None = None
        self._shown: VideoFrame | None = None
        self._resampler = Resampler(self._settings.frame_rate)

    def decode(self, packet: CameraPacket) -> Decoded:
        """Decodes a packet and writes the frames that it makes due."""
        if packet.codec is not self._codec or self._context is None:
            self._context = _decoder(packet.codec, self._max_pixels)
            self._codec = packet.codec
        encoded = av.Packet(packet.data)
        encoded.pts = packet.timestamp_us
        encoded.time_base = _TIME_BASE
        changes = dropped = 0
        errors = self._unfit = 0
        frames: list[VideoFrame] = []
        try:
            frames = self._context.decode(encoded) if packet.data else []
        except av.FFmpegError:
            errors = 1
        times: list[int] = []
        for frame in frames:
            if frame.is_corrupt:
                errors = 1
            size = (frame.width, frame.height)
            changes += self._size not in (size, (0, 0))
            self._size = size
            dropped += self._emit(frame, packet.timestamp_us, times)
        return Decoded(max(errors, self._unfit), changes, dropped, len(frames), tuple(times))

    def _emit(self, frame: VideoFrame, fallback_us: int, times: list[int]) -> int:
        """Writes what a frame makes due; returns for how many no slot was free."""
        due = self._resampler.push(fallback_us if frame.pts is None else frame.pts)
        before = len(times)
        for time_us in due.repeats:
            self._write(time_us, times)
        if due.fresh is not None:
            try:
                self._shown = self._fitter.fit(frame, describe(frame))
            except av.FFmpegError:
                # One that cannot be fitted (a single line, say) is damage: the last one stays.
                self._unfit = 1
            self._write(due.fresh, times)
        wanted = len(due.repeats) + (due.fresh is not None)
        return wanted - (len(times) - before)

    def _write(self, time_us: int, times: list[int]) -> None:
        if self._shown is None or self._head - self._tail >= self._settings.slots:
            return
        slot = self._head % self._settings.slots
        write_i420(self._shown, self._memory, slot * self._frame_bytes)
        self._head += 1
        times.append(time_us)


def _decoder(codec: Codec, max_pixels: int) -> VideoCodecContext:
    context = av.CodecContext.create(codec.value, "r")
    if not isinstance(context, VideoCodecContext):
        raise TypeError("not a video codec")
    context.thread_count = 1
    context.flags |= Flags.low_delay
    context.options = {"max_pixels": str(max_pixels)}
    return context
