"""H.264 on NVIDIA's encoder, where the GPU has one (data-centre parts for training have none)."""

from __future__ import annotations

import math

from model_actor.media.codec import Codec
from model_actor.media.encoding.library import EncoderSettings, Library, Steering

VBV_S = 0.16
"""Seconds of the rate that the decoder's buffer holds."""


def _options(settings: EncoderSettings, rate: int) -> dict[str, str]:
    del settings
    return {
        "preset": "p3",
        "tune": "ull",
        "profile": "baseline",
        "rc": "cbr",
        "bufsize": str(round(rate * VBV_S)),
        "forced-idr": "1",
        "bf": "0",
        # A packet comes out as its frame goes in.
        "delay": "0",
        "zerolatency": "1",
    }


NVENC = Library("h264_nvenc", Codec.H264, _options, Steering.BIT_RATE, reach=math.inf)
"""libav reconfigures it in place, with a keyframe that the device makes of itself."""
