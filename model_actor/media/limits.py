"""What a clip may be, and the sentences that refuse one. Pure.

A worker, which has touched foreign bytes, names a refusal by its code and numbers;
the sentence is made from this table, in the process that trusts itself.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """Bounds on clips, cameras and the workers that decode them."""

    max_width: int = 4096
    max_height: int = 4096
    max_pixels: int = 4096 * 2304
    """Of one picture, as coded."""
    max_duration_s: float = 600.0
    max_bytes: int = 512 << 20
    """Size of an uploaded clip."""
    max_fps: float = 240.0
    """Average frames per second of a clip."""
    probe_s: float = 8.0
    """Wall time for looking at a clip."""
    window_s: float = 10.0
    """Wall time for decoding one window of a clip."""
    packet_s: float = 3.0
    """Wall time for decoding one camera frame."""
    start_s: float = 30.0
    """Wall time for the start of a worker."""
    address_space_bytes: int = 2 << 30
    """RLIMIT_AS of a worker."""
    cpu_s: int = 20
    """CPU time that a worker may spend on one request before the kernel kills it."""


class Refusal(enum.Enum):
    """Why a clip is refused."""

    NOT_VIDEO = "not_video"
    CUT_SHORT = "cut_short"
    TOO_FEW_FRAMES = "too_few_frames"
    TOO_LARGE = "too_large"
    TOO_MANY_BYTES = "too_many_bytes"
    TOO_LONG = "too_long"
    TOO_FAST = "too_fast"
    TOO_SLOW_TO_PROBE = "too_slow_to_probe"
    TOO_DEMANDING = "too_demanding"


_SENTENCES: dict[Refusal, str] = {
    Refusal.NOT_VIDEO: "this is not a video that can be decoded",
    Refusal.CUT_SHORT: "the file is cut short",
    Refusal.TOO_FEW_FRAMES: "the video has {value} frames; at least {minimum_frames} are needed",
    Refusal.TOO_LARGE: (
        "the picture is too large; at most {max_width} x {max_height} "
        "and {max_pixels} pixels are allowed"
    ),
    Refusal.TOO_MANY_BYTES: "the file is too large; at most {max_mib} MiB are allowed",
    Refusal.TOO_LONG: "the video is too long; at most {max_duration_s:g} s are allowed",
    Refusal.TOO_FAST: (
        "the video has too many frames a second; at most {max_fps:g} are allowed on average"
    ),
    Refusal.TOO_SLOW_TO_PROBE: "probing took longer than {probe_s:g} s",
    Refusal.TOO_DEMANDING: "decoding this video needs more memory or time than is allowed",
}


def sentence(
    refusal: Refusal, limits: DecodeLimits, *, minimum_frames: int = 0, value: int = 0
) -> str:
    """Says for people why a clip is refused and what is allowed."""
    return _SENTENCES[refusal].format(
        value=value,
        minimum_frames=minimum_frames,
        max_width=limits.max_width,
        max_height=limits.max_height,
        max_pixels=limits.max_pixels,
        max_mib=limits.max_bytes >> 20,
        max_duration_s=limits.max_duration_s,
        max_fps=limits.max_fps,
        probe_s=limits.probe_s,
    )


def check_size(limits: DecodeLimits, width: int, height: int) -> Refusal | None:
    """Returns why a picture of this size is refused, or None."""
    fits = (
        0 < width <= limits.max_width
        and 0 < height <= limits.max_height
        and width * height <= limits.max_pixels
    )
    return None if fits else Refusal.TOO_LARGE


def check_frames(
    limits: DecodeLimits, frames: int, duration_us: int, minimum_frames: int
) -> Refusal | None:
    """Returns why a clip of so many frames over so long a time is refused, or None."""
    if duration_us > limits.max_duration_s * 1_000_000:
        return Refusal.TOO_LONG
    if frames < minimum_frames:
        return Refusal.TOO_FEW_FRAMES
    if frames * 1_000_000 > limits.max_fps * max(duration_us, 1):
        return Refusal.TOO_FAST
    return None
