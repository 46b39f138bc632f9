"""Encoders beside the model: one I420 frame in, exactly one packet out, no delay.

x264 and libvpx each on the calling thread; libav releases the GIL while it encodes.

The bitrate changes without a keyframe, in a way of its own for each library:

* x264 follows `bit_rate` only while it runs at a constant rate, and never above the
  rate it was opened with. So it is opened at a ceiling and lowered at once.
* libvpx ignores `bit_rate` once opened, but spends `rate / frames per second` on a
  frame and takes the frame rate from the timestamps. So time is scaled instead: a
  stream that seems to run at twice the frame rate gets half the bits. VP8 frames carry
  no timestamps, so nobody else sees that clock.

VP8 is BT.601 by definition (RFC 6386, 9.2), so its frames are converted from the
BT.709 of the model; H.264 says in its parameter sets that it is BT.709.

Beyond a factor of four a new context is made, which begins with a keyframe.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy as np
import numpy.typing as npt
from av.filter import Graph
from av.video.frame import PictureType
from av.video.reformatter import ColorPrimaries, ColorRange, ColorTrc

from model_actor.media.codec import Codec
from model_actor.media.fit import change_matrix
from scheduler.core.errors import InvariantError

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext

__all__ = ["Codec", "Encoded", "EncoderSettings", "VideoEncoder"]

CLOCK_HZ = 90_000
"""Ticks per second of the encoders' clocks."""
IN_PLACE_FACTOR = 4.0
"""How far the bitrate may move from the one a context was made for."""
SAFETY_GOP_S = 10
"""A keyframe comes at least this often, in seconds, should every request be lost."""
_SPC_BT709 = 1
_SPC_SMPTE170M = 6
"""Matrix coefficients (ITU-T H.273, table 4)."""


@dataclass(frozen=True, slots=True)
class EncoderSettings:
    """What an encoder makes."""

    codec: Codec
    width: int
    height: int
    frame_rate: float
    """Frames per second."""
    bitrate: int
    """Bits per second."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One encoded frame."""

    data: bytes
    """Annex B with parameter sets before every keyframe, or a VP8 frame."""
    keyframe: bool


class VideoEncoder:
    """Encodes one output. Not for two threads at once."""

    def __init__(self, settings: EncoderSettings) -> None:
        """Opens the encoder.

        Raises:
            InvariantError: Odd size, or a rate that is not positive.
        """
        if settings.width % 2 or settings.height % 2 or min(settings.width, settings.height) < 2:
            raise InvariantError("an I420 picture has even sides")
        if settings.bitrate <= 0 or settings.frame_rate <= 0:
            raise InvariantError("rates are positive")
        self._settings = settings
        self._shape = (settings.height * 3 // 2, settings.width)
        self._target = settings.bitrate
        self._context: VideoCodecContext | None = _OPEN[settings.codec](settings)
        self._made_for = settings.bitrate
        self._clock = 0
        self._colours = _to_bt601(settings) if settings.codec is Codec.VP8 else None

    def encode(self, frame: npt.NDArray[np.uint8], *, keyframe: bool = False) -> Encoded:
        """Encodes a frame. For H.264 without copying it first.

        Args:
            frame: I420, BT.709, limited range, shape `(height * 3 // 2, width)`,
                contiguous. Not kept.
            keyframe: Whether it must be decodable alone.

        Raises:
            InvariantError: The encoder is closed, or the array has another shape.
        """
        if self._context is None:
            raise InvariantError("the encoder is closed")
        if frame.shape != self._shape or not frame.flags.c_contiguous:
            raise InvariantError(f"expected a contiguous I420 array of shape {self._shape}")
        if not 1 / IN_PLACE_FACTOR <= self._target / self._made_for <= IN_PLACE_FACTOR:
            self._context = _OPEN[self._settings.codec](
                replace(self._settings, bitrate=self._target)
            )
            self._made_for = self._target
        picture = av.VideoFrame.from_numpy_buffer(frame, format="yuv420p")
        if self._colours is not None:
            picture.colorspace, picture.color_range = _SPC_BT709, ColorRange.MPEG
            self._colours.vpush(picture)
            picture = self._colours.vpull()
        picture.time_base = Fraction(1, CLOCK_HZ)
        picture.pts = self._clock
        picture.duration = self._tick()
        picture.pict_type = PictureType.I if keyframe else PictureType.NONE
        self._clock += picture.duration
        packets = self._context.encode(picture)
        if len(packets) != 1:
            raise InvariantError("the encoder delays frames")
        return Encoded(data=bytes(packets[0]), keyframe=packets[0].is_keyframe)

    def set_bitrate(self, bits_per_second: int) -> None:
        """Sets the rate from the next frame on; no keyframe within a factor of four.

        Raises:
            InvariantError: The rate is not positive.
        """
        if bits_per_second <= 0:
            raise InvariantError("rates are positive")
        self._target = bits_per_second
        if self._settings.codec is Codec.H264 and self._context is not None:
            self._context.bit_rate = bits_per_second

    def close(self) -> None:
        """Releases the encoder. Repeating it is no error."""
        self._context = None

    def _tick(self) -> int:
        """Returns how long the encoder believes that the next frame lasts."""
        tick = CLOCK_HZ / self._settings.frame_rate
        if self._settings.codec is Codec.VP8:
            tick *= self._target / self._made_for
        return max(1, round(tick))


def _to_bt601(settings: EncoderSettings) -> Graph:
    graph = Graph()
    graph.threads = 1
    source = graph.add(
        "buffer",
        f"video_size={settings.width}x{settings.height}:pix_fmt=yuv420p"
        ":time_base=1/90000:pixel_aspect=1/1:colorspace=bt709:range=tv",
    )
    change = graph.add(*change_matrix("bt709", "smpte170m"))
    source.link_to(change)
    change.link_to(graph.add("buffersink"))
    graph.configure()
    return graph


def _open_x264(settings: EncoderSettings) -> VideoCodecContext:
    context = _context("libx264", settings)
    ceiling = round(settings.bitrate * IN_PLACE_FACTOR)
    context.bit_rate = ceiling
    context.options = {
        "preset": "ultrafast",
        "tune": "zerolatency",
        "profile": "baseline",
        "maxrate": str(ceiling),
        # A quarter of a second: bounds a keyframe to what a network takes in one go.
        "bufsize": str(settings.bitrate // 4),
        "forced-idr": "1",
    }
    context.open()
    context.bit_rate = settings.bitrate
    return context


def _open_libvpx(settings: EncoderSettings) -> VideoCodecContext:
    context = _context("libvpx", settings)
    rate = settings.bitrate
    context.bit_rate = rate
    context.options = {
        "deadline": "realtime",
        # -8 and beyond save a tenth of the time and lose track of fast motion.
        "cpu-used": "-6",
        "lag-in-frames": "0",
        "error-resilient": "0",
        "noise-sensitivity": "0",
        "minrate": str(rate),
        "maxrate": str(rate),
        "bufsize": str(rate // 2),
        "rc_init_occupancy": str(rate * 4 // 10),
        "undershoot-pct": "100",
        "overshoot-pct": "15",
        "max-intra-rate": "600",
    }
    context.open()
    return context


def _context(name: str, settings: EncoderSettings) -> VideoCodecContext:
    context = av.CodecContext.create(name, "w")
    if not isinstance(context, av.video.codeccontext.VideoCodecContext):
        raise InvariantError("not a video codec")
    context.width, context.height = settings.width, settings.height
    context.pix_fmt = "yuv420p"
    context.time_base = Fraction(1, CLOCK_HZ)
    context.framerate = Fraction(settings.frame_rate).limit_denominator(1001)
    context.thread_count = 1
    context.gop_size = round(SAFETY_GOP_S * settings.frame_rate)
    context.color_range = ColorRange.MPEG
    context.color_primaries = ColorPrimaries.BT709
    context.color_trc = ColorTrc.BT709
    context.colorspace = _SPC_BT709 if settings.codec is Codec.H264 else _SPC_SMPTE170M
    return context


_OPEN: dict[Codec, Callable[[EncoderSettings], VideoCodecContext]] = {
    Codec.H264: _open_x264,
    Codec.VP8: _open_libvpx,
}
