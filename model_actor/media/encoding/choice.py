"""Which libraries encode: asked for by the operator, proved by an encode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, cast, get_args

import av
import structlog

from model_actor.media.codec import Codec
from model_actor.media.encoding.library import EncoderSettings, Library
from model_actor.media.encoding.libvpx import LIBVPX
from model_actor.media.encoding.nvenc import NVENC
from model_actor.media.encoding.x264 import X264
from scheduler.core.errors import ConfigurationError

log = structlog.get_logger(__name__)

Wanted = Literal["auto", "software", "nvenc"]
Libraries = Mapping[Codec, tuple[Library, ...]]
"""What encodes each codec, in order of preference: the next one when one cannot be opened."""

SOFTWARE: Libraries = {Codec.H264: (X264,), Codec.VP8: (LIBVPX,)}
"""Always there."""
_PROBE_SIDE = 256
"""Above the least that NVENC takes."""


def wanted(value: str) -> Wanted:
    """Reads the setting.

    Raises:
        ConfigurationError: It has no such value.
    """
    if value not in get_args(Wanted):
        raise ConfigurationError(f"the encoder is one of {', '.join(get_args(Wanted))}")
    return cast(Wanted, value)


def probe(library: Library) -> str:
    """Tries an encoder in two stages: whether libav has it, and whether it encodes here.

    Returns:
        What is missing, for people; empty when it works.
    """
    if library.name not in av.codecs_available:
        return f"this PyAV was built without {library.name}"
    settings = EncoderSettings(library.codec, _PROBE_SIDE, _PROBE_SIDE, 24.0, 1_000_000)
    try:
        context = library.open(settings)
        for number in range(2):
            picture = av.VideoFrame(_PROBE_SIDE, _PROBE_SIDE, "yuv420p")
            for plane in picture.planes:
                plane.update(bytes(plane.buffer_size))
            picture.pts = number
            if len(context.encode(picture)) != 1:
                return f"{library.name} delays frames"
    except (av.FFmpegError, OSError, ValueError) as error:
        return f"{library.name} cannot encode on this machine ({type(error).__name__})"
    return ""


def choose(encoder: Wanted, missing: Callable[[Library], str] = probe) -> Libraries:
    """Returns what encodes, and logs it once. Takes some time where there is a GPU.

    Args:
        encoder: What the operator wants.
        missing: Tells what an encoder lacks; empty when it works.

    Raises:
        ConfigurationError: NVENC is demanded and does not work.
    """
    lacks = "" if encoder == "software" else missing(NVENC)
    if encoder == "nvenc" and lacks:
        raise ConfigurationError(
            f"--encoder nvenc: {lacks}. It needs an NVIDIA GPU that has an encoder (A100, H100 "
            "and H200 have none), its driver with libnvidia-encode, and in a container "
            "NVIDIA_DRIVER_CAPABILITIES with `video`. Or take --encoder auto or software"
        )
    use_nvenc = encoder != "software" and not lacks
    log.info("encoder.chosen", h264=NVENC.name if use_nvenc else X264.name, lacks=lacks or None)
    if not use_nvenc:
        return SOFTWARE
    # Demanded, nothing stands in for it; else the CPU does where the GPU takes no more streams.
    h264 = (NVENC,) if encoder == "nvenc" else (NVENC, X264)
    return {**SOFTWARE, Codec.H264: h264}
