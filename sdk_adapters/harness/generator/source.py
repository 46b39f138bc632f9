"""What sessions edit: a clip to upload, and cameras. Both are marked: every frame says its number.

All is drawn and encoded once, before a run, so that publishing costs no encoder: a camera
repeats a loop of frames, each of which is known by its number when it comes back edited.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, NamedTuple

import av
import numpy as np
import numpy.typing as npt

from scheduler.scenario.load import Camera as CameraSpec
from scheduler.scenario.load import Clip
from sdk_adapters.harness.marker import SOURCES, write_source

LOOP_S: Final = 20.0
"""Length of a camera's loop: a frame that is shown later than this is taken for a younger one."""
KEYFRAME_S: Final = 1.0
"""Time between the keyframes of a camera."""
BITRATE: Final = 400_000
"""Most that a camera is encoded with, in bits per second."""
BEHIND_S: Final = 0.5
"""A camera that is so far behind leaves out what it missed instead of sending it all at once."""

_ENCODERS: Final[dict[str, tuple[str, dict[str, str]]]] = {
    "h264": ("libx264", {"preset": "ultrafast", "tune": "zerolatency", "profile": "baseline"}),
    "vp8": ("libvpx", {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"}),
}


@dataclass(frozen=True, slots=True)
class Reel:
    """A loop of encoded frames; frame *n* is marked with *n*."""

    codec: str
    frame_rate: float
    frames: tuple[bytes, ...]
    keyframes: tuple[int, ...]
    """Numbers of those that can be decoded alone, in order; 0 is one."""

    def keyframe_from(self, number: int) -> int:
        """Returns the first keyframe from a frame on; after the last comes the first."""
        return next((each for each in self.keyframes if each >= number), 0)


class Shot(NamedTuple):
    """One frame of a camera."""

    number: int
    """Its number in the loop."""
    data: bytes
    keyframe: bool
    captured_at: float
    """When it was due, in seconds of the monotonic clock."""


class Camera:
    """One session's camera: the loop in real time, from a moment of its own."""

    def __init__(self, reel: Reel, clock: Callable[[], float], *, phase: float = 0.0) -> None:
        """Stands still until `shots` is read.

        Args:
            reel: What it shows.
            clock: Tells the time, as the event loop's timers do.
            phase: Part of a period by which it is behind others, that not all send at once.
        """
        self.reel = reel
        self.left_out = 0
        """Frames that it did not send because this process was too slow."""
        self._clock = clock
        self._phase = phase
        self._captured = [0.0] * len(reel.frames)
        self._asked = False

    def ask_keyframe(self) -> None:
        """The next frame is to be one that can be decoded alone."""
        self._asked = True

    def captured(self, number: int) -> float | None:
        """Returns when the frame of that number was captured last; None: never."""
        if number >= len(self._captured):
            return None
        return self._captured[number] or None

    async def shots(self) -> AsyncIterator[Shot]:
        """Yields frames, each when it is due, beginning with a keyframe."""
        reel, period = self.reel, 1 / self.reel.frame_rate
        due = self._clock() + self._phase * period
        number = 0
        while True:
            if (wait := due - self._clock()) > 0:
                await asyncio.sleep(wait)
            elif -wait > BEHIND_S:
                missed = int(-wait / period)
                self.left_out += missed
                due += missed * period
                self._asked = True
            if self._asked:
                self._asked = False
                number = reel.keyframe_from(number)
            self._captured[number] = due
            yield Shot(number, reel.frames[number], number in reel.keyframes, due)
            number = (number + 1) % len(reel.frames)
            due += period


def reel(codec: str, spec: CameraSpec, seconds: float = LOOP_S) -> Reel:
    """Draws and encodes a camera's loop: about a millisecond of computing a frame."""
    count = min(SOURCES, max(1, round(seconds * spec.frame_rate)))
    every = max(1, round(KEYFRAME_S * spec.frame_rate))
    encoder = _encoder(codec, spec.width, spec.height, spec.frame_rate)
    frames: list[bytes] = []
    for number in range(count):
        picture = _picture(spec.width, spec.height, number, keyframe=number % every == 0)
        (packet,) = encoder.encode(picture)
        frames.append(bytes(packet))
    return Reel(codec, spec.frame_rate, tuple(frames), tuple(range(0, count, every)))


def clip(spec: Clip) -> bytes:
    """Returns a clip as a file: the one that is named, or one that is drawn, in H.264.

    Raises:
        OSError: The file that is named cannot be read.
    """
    if spec.path is not None:
        return spec.path.read_bytes()
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        rate = Fraction(spec.frame_rate).limit_denominator(1001)
        stream: Any = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = spec.width, spec.height, "yuv420p"
        stream.bit_rate, stream.options = BITRATE, {"preset": "ultrafast"}
        stream.codec_context.thread_count = 1
        for number in range(max(1, round(spec.seconds * spec.frame_rate))):
            container.mux(stream.encode(_picture(spec.width, spec.height, number)))
        container.mux(stream.encode(None))
    return file.getvalue()


def _encoder(codec: str, width: int, height: int, frame_rate: float) -> Any:  # noqa: ANN401 - PyAV
    name, options = _ENCODERS[codec]
    context: Any = av.CodecContext.create(name, "w")
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    rate = Fraction(frame_rate).limit_denominator(1001)
    context.framerate, context.time_base = rate, 1 / rate
    context.bit_rate, context.thread_count, context.options = BITRATE, 1, options
    return context


def _picture(width: int, height: int, number: int, *, keyframe: bool = False) -> Any:  # noqa: ANN401
    """Draws a ramp that wanders, and the number."""
    plane: npt.NDArray[np.uint8] = np.full((height * 3 // 2, width), 128, np.uint8)
    plane[:height] = 40 + (np.arange(width) * 2 + 3 * number) % 160
    write_source(plane[:height], number)
    picture: Any = av.VideoFrame.from_ndarray(plane, format="yuv420p")
    picture.pts = number
    if keyframe:
        picture.pict_type = av.video.frame.PictureType.I
    return picture
