"""What differs between the encoders of libav, and opening one of them."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

import av
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import ColorPrimaries, ColorRange, ColorTrc

from model_actor.media.codec import Codec
from scheduler.core.errors import InvariantError

CLOCK_HZ = 90_000
"""Ticks per second of the encoders' clocks."""
SAFETY_GOP_S = 10
"""A keyframe comes at least this often, in seconds, should every request be lost."""
SPC_BT709 = 1
SPC_SMPTE170M = 6
"""Matrix coefficients (ITU-T H.273, table 4)."""


@dataclass(frozen=True, slots=True)
class EncoderSettings:
    """What an encoder makes, and of what."""

    codec: Codec
    width: int
    height: int
    """Of the frames it is given; even."""
    frame_rate: float
    """Frames per second."""
    bitrate: int
    """Bits per second."""
    shrink: int = 1
    """The encoded picture has this part of the width and height."""

    @property
    def coded(self) -> tuple[int, int]:
        """Width and height of the encoded picture; even."""
        return self.width // self.shrink // 2 * 2, self.height // self.shrink // 2 * 2


class Steering(enum.Enum):
    """How the bitrate of an open encoder is changed."""

    BIT_RATE = enum.auto()
    """It follows `bit_rate`, down from the one that it was opened with."""
    CLOCK = enum.auto()
    """It spends `rate / frames per second` on a frame and takes the frame rate from the
    timestamps: time is scaled instead."""


@dataclass(frozen=True, slots=True)
class Library:
    """One encoder of libav, set for low delay."""

    name: str
    """As libav calls it."""
    codec: Codec
    options: Callable[[EncoderSettings, int], Mapping[str, str]]
    """Its private options, of the settings and of the rate that the context is opened with."""
    steering: Steering
    reach: float = 2.0
    """How far the bitrate may move, as a factor up or down, from the one that a context was
    made for."""
    headroom: float = 1.0
    """The rate it is opened with, over the one it is made for."""
    makes_up_s: float = 0.0
    """Seconds of the rate that are granted later when they were not spent in time."""

    def open(self, settings: EncoderSettings) -> VideoCodecContext:
        """Opens an encoder.

        Raises:
            InvariantError: It encodes no video.
            av.FFmpegError: It cannot be opened here.
        """
        context = av.CodecContext.create(self.name, "w")
        if not isinstance(context, VideoCodecContext):
            raise InvariantError("not a video codec")
        rate = round(settings.bitrate * self.headroom)
        context.width, context.height = settings.coded
        context.pix_fmt = "yuv420p"
        context.time_base = Fraction(1, CLOCK_HZ)
        context.framerate = Fraction(settings.frame_rate).limit_denominator(1001)
        context.thread_count = 1
        context.gop_size = round(SAFETY_GOP_S * settings.frame_rate)
        context.color_range = ColorRange.MPEG
        context.color_primaries = ColorPrimaries.BT709
        context.color_trc = ColorTrc.BT709
        context.colorspace = SPC_BT709 if self.codec is Codec.H264 else SPC_SMPTE170M
        context.bit_rate = rate
        context.options = dict(self.options(settings, rate))
        context.open()
        if self.headroom != 1.0:
            context.bit_rate = settings.bitrate
        return context

    def with_options(self, **options: str) -> Library:
        """Returns the library with some options set otherwise, for measurements."""
        base = self.options
        return replace(self, options=lambda settings, rate: {**base(settings, rate), **options})
