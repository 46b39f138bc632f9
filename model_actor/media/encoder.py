"""Encoders beside the model: one I420 frame in, exactly one packet out, no delay.

Each runs on the calling thread; libav releases the GIL while it encodes. The libraries, and
how each is told another bitrate without a keyframe, stand in `encoding`.

VP8 is BT.601 by definition (RFC 6386, 9.2), so its frames are converted from the
BT.709 of the model; H.264 says in its parameter sets that it is BT.709.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy as np
import numpy.typing as npt
import structlog
from av.filter import Graph
from av.video.frame import PictureType
from av.video.reformatter import ColorRange

from model_actor.media.codec import Codec
from model_actor.media.encoding.choice import SOFTWARE, Libraries
from model_actor.media.encoding.library import (
    CLOCK_HZ,
    SPC_BT709,
    EncoderSettings,
    Library,
    Steering,
)
from model_actor.media.fit import Filter, change_matrix
from scheduler.core.errors import InvariantError

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext

__all__ = ["Codec", "Encoded", "EncoderSettings", "VideoEncoder"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Encoded:
    """One encoded frame."""

    data: bytes
    """Annex B with parameter sets before every keyframe, or a VP8 frame."""
    keyframe: bool


class VideoEncoder:
    """Encodes one output. Not for two threads at once."""

    def __init__(self, settings: EncoderSettings, libraries: Libraries = SOFTWARE) -> None:
        """Opens the encoder.

        Args:
            settings: Codec, size, rates.
            libraries: What may encode.

        Raises:
            InvariantError: Odd size, or a rate that is not positive.
            av.FFmpegError: None of the libraries can be opened.
        """
        if settings.width % 2 or settings.height % 2 or min(settings.coded) < 2:
            raise InvariantError("an I420 picture has even sides")
        if settings.bitrate <= 0 or settings.frame_rate <= 0:
            raise InvariantError("rates are positive")
        self._settings = settings
        self._library, context = _opened(settings, libraries)
        self._context: VideoCodecContext | None = context
        self._shape = (settings.height * 3 // 2, settings.width)
        self._target = self._made_for = self._asked = settings.bitrate
        self._unspent = 0.0
        """Bits that the library was granted and did not spend."""
        self._clock = 0
        self._filters = _filters(settings)

    def encode(self, frame: npt.NDArray[np.uint8], *, keyframe: bool = False) -> Encoded:
        """Encodes a frame, where nothing has to be changed in it without copying it first.

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
        reach = self._library.reach
        if not 1 / reach <= self._target / self._made_for <= reach:
            self._context = self._library.open(replace(self._settings, bitrate=self._target))
            self._made_for = self._asked = self._target
            self._unspent = 0.0
        if self._library.steering is Steering.BIT_RATE:
            self._steer(self._context)
        picture = av.VideoFrame.from_numpy_buffer(frame, format="yuv420p")
        if self._filters is not None:
            picture.colorspace, picture.color_range = SPC_BT709, ColorRange.MPEG
            self._filters.vpush(picture)
            picture = self._filters.vpull()
        picture.time_base = _TIME_BASE
        picture.pts = self._clock
        picture.duration = self._tick()
        picture.pict_type = PictureType.I if keyframe else PictureType.NONE
        self._clock += picture.duration
        packets = self._context.encode(picture)
        if len(packets) != 1:
            raise InvariantError("the encoder delays frames")
        data = bytes(packets[0])
        granted = self._target / self._settings.frame_rate - len(data) * 8
        self._unspent = max(0.0, self._unspent + granted)
        return Encoded(data, keyframe=packets[0].is_keyframe)

    def set_bitrate(self, bits_per_second: int) -> None:
        """Sets the rate from the next frame on; no keyframe within the library's reach.

        Raises:
            InvariantError: The rate is not positive.
        """
        if bits_per_second <= 0:
            raise InvariantError("rates are positive")
        if bits_per_second < self._target:
            # Asked for less because the network carries less: nothing is made up for.
            self._unspent = 0.0
        self._target = bits_per_second

    def close(self) -> None:
        """Releases the encoder. Repeating it is no error."""
        self._context = None
        self._filters = None

    def _steer(self, context: VideoCodecContext) -> None:
        """Asks for the target, and within a second for what was not spent."""
        self._unspent = min(self._unspent, self._library.makes_up_s * self._target)
        more = 1 + round(self._unspent / self._target / _STEP) * _STEP
        asked = round(min(self._target * more, self._made_for * self._library.reach))
        if asked != self._asked:
            self._asked = context.bit_rate = asked

    def _tick(self) -> int:
        """Returns how long the encoder believes that the next frame lasts."""
        tick = CLOCK_HZ / self._settings.frame_rate
        if self._library.steering is Steering.CLOCK:
            tick *= self._target / self._made_for
        return max(1, round(tick))


_TIME_BASE = Fraction(1, CLOCK_HZ)
_STEP = 0.02
"""Part of the rate below which another one is not worth the encoder's setting itself up."""


def _opened(settings: EncoderSettings, libraries: Libraries) -> tuple[Library, VideoCodecContext]:
    """Opens the first library that can be."""
    *others, last = libraries[settings.codec]
    for library in others:
        try:
            return library, library.open(settings)
        except (av.FFmpegError, OSError, ValueError) as error:
            log.warning("encoder.unavailable", encoder=library.name, error=type(error).__name__)
    return last, last.open(settings)


def _filters(settings: EncoderSettings) -> Graph | None:
    """Returns what brings a frame into the coded picture's size and colours."""
    chain: list[Filter] = []
    if settings.shrink > 1:
        width, height = settings.coded
        chain.append(("scale", f"{width}:{height}:flags=area"))
    if settings.codec is Codec.VP8:
        chain.append(change_matrix("bt709", "smpte170m"))
    if not chain:
        return None
    graph = Graph()
    graph.threads = 1
    last = graph.add(
        "buffer",
        f"video_size={settings.width}x{settings.height}:pix_fmt=yuv420p"
        ":time_base=1/90000:pixel_aspect=1/1:colorspace=bt709:range=tv",
    )
    for name, arguments in chain:
        node = graph.add(name, arguments)
        last.link_to(node)
        last = node
    last.link_to(graph.add("buffersink"))
    graph.configure()
    return graph
