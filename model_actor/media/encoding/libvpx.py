"""VP8 on the CPU."""

from __future__ import annotations

from model_actor.media.codec import Codec
from model_actor.media.encoding.library import EncoderSettings, Library, Steering


def _options(settings: EncoderSettings, rate: int) -> dict[str, str]:
    del settings
    return {
        "deadline": "realtime",
        # -4 takes half as long again; -7 and beyond lose track of fast motion.
        "cpu-used": "-5",
        # Leaves out blocks that changed by less than can be seen.
        "static-thresh": "100",
        "lag-in-frames": "0",
        "error-resilient": "0",
        "noise-sensitivity": "0",
        "minrate": str(rate),
        "maxrate": str(rate),
        "bufsize": str(rate * 4 // 10),
        "rc_init_occupancy": str(rate * 3 // 10),
        "undershoot-pct": "100",
        "overshoot-pct": "15",
        "max-intra-rate": "600",
    }


LIBVPX = Library("libvpx", Codec.VP8, _options, Steering.CLOCK, reach=2.5)
"""libav passes no new rate on once it is open. VP8 frames carry no timestamps, so nobody else
sees its clock."""
