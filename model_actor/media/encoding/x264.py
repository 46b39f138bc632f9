"""H.264 on the CPU."""

from __future__ import annotations

from model_actor.media.codec import Codec
from model_actor.media.encoding.library import EncoderSettings, Library, Steering

VBV_S = 0.16
"""Seconds of the rate it is opened for that the decoder's buffer holds. From 4 down to 1.5 Mbit/s,
opened for 2.5, that is 0.1 to 0.27 s: a keyframe leaves in a quarter of a second."""


def _options(settings: EncoderSettings, rate: int) -> dict[str, str]:
    return {
        "preset": "ultrafast",
        "tune": "zerolatency",
        "profile": "baseline",
        # Gains 0.3 to 1.5 dB for 0.3 ms a frame; `superfast` takes 1 to 2 ms for about one more.
        "x264-params": "no-deblock=0",
        "maxrate": str(rate),
        # In bits, whatever the rate becomes: bounds what a keyframe sends in one go.
        "bufsize": str(round(settings.bitrate * VBV_S)),
        "forced-idr": "1",
    }


X264 = Library(
    "libx264", Codec.H264, _options, Steering.BIT_RATE, reach=2.5, headroom=2.5, makes_up_s=0.3
)
"""It follows a changed rate only while it runs at a constant one, and never above that which
it was opened with; so it is opened at a ceiling and lowered at once.

With a buffer this small it spends 0.75 to 0.9 of what it is asked for, for fear of running
out of it, and at a constant rate it never makes up for that; so it is asked for more."""
