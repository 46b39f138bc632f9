"""Canned video: a loop of marked keyframes, made once and replayed for every session.

Load tests with it measure the service and not x264. Every frame is encoded alone, so that
the loop may be entered, left and cut anywhere, and is padded with what decoders pass over
to the size that the wanted bitrate grants it:

* H.264: one NAL unit of filler data (ITU-T H.264, 7.3.2.7) after the slices, as encoders
  at a constant rate send it.
* VP8: zeros behind the last partition, which has no length of its own and ends with the
  frame (RFC 6386, 9.5). The decoder stops reading when it has all macroblocks.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from model_actor.media.codec import Codec
from model_actor.media.encoder import EncoderSettings, VideoEncoder
from model_actor.models.simulated.marker import CANNED_FRAMES, CANNED_RUN, CANNED_TAG
from model_actor.models.simulated.picture import Screen
from model_actor.plugin import Frames, ModelInfo
from scheduler.core.errors import InvariantError

BITRATE = 1_000_000
"""What the loop is encoded for, in bits per second. Keyframes alone of a flat ground need
about half of it; at half of it x264 would blur the marker beyond reading."""
_BLOCK = 24
"""Frames drawn at once."""
_GREY = 128
_FILLER = b"\x00\x00\x01\x0c"
_STOP_BIT = b"\x80"


class Reel:
    """The loop, in both codecs. Immutable, and so shared by all sessions."""

    def __init__(self, info: ModelInfo) -> None:
        """Draws and encodes the loop: seconds of computing, megabytes of memory.

        Args:
            info: Size and frame rate.
        """
        self._ground = np.full((info.height * 3 // 2, info.width), _GREY, np.uint8)
        encoders = {
            codec: VideoEncoder(
                EncoderSettings(codec, info.width, info.height, info.frame_rate, BITRATE)
            )
            for codec in Codec
        }
        self._keyframes: dict[Codec, list[bytes]] = {codec: [] for codec in Codec}
        screen = Screen(info.width, info.height)
        blank = self.pictures((_BLOCK, *self._ground.shape))
        for first in range(0, CANNED_FRAMES, _BLOCK):
            for picture in screen.draw(blank, first, CANNED_RUN, CANNED_TAG, prompt=""):
                for codec, encoder in encoders.items():
                    encoded = encoder.encode(picture, keyframe=True)
                    self._keyframes[codec].append(encoded.data)
        for encoder in encoders.values():
            encoder.close()

    @property
    def size_bytes(self) -> int:
        """Memory that the loop takes."""
        packets = sum(len(data) for loop in self._keyframes.values() for data in loop)
        return packets + self._ground.nbytes

    def packet(self, codec: Codec, frame: int, size: int) -> bytes:
        """Returns a frame of the loop, padded.

        Args:
            codec: Which of the two.
            frame: Index of the frame; the loop starts again every 240.
            size: Bytes of the result. A frame that is larger already stays as it is, and
                one of H.264 may be up to four bytes shorter.
        """
        data = self._keyframes[codec][frame % CANNED_FRAMES]
        return data + _PADDING[codec](size - len(data))

    def pictures(self, shape: tuple[int, ...]) -> Frames:
        """Returns what stands for the pictures of a window: a grey one, repeated.

        Args:
            shape: That of the source: `(frames, height * 3 // 2, width)`.

        Returns:
            A read-only view that takes no memory.

        Raises:
            InvariantError: The pictures of the source have another size.
        """
        if shape[1:] != self._ground.shape:
            raise InvariantError(f"a source of {self._ground.shape} is wanted, not {shape[1:]}")
        return np.broadcast_to(self._ground, shape)


def _filler_unit(size: int) -> bytes:
    filling = size - len(_FILLER) - len(_STOP_BIT)
    return _FILLER + b"\xff" * filling + _STOP_BIT if filling >= 0 else b""


def _zeros(size: int) -> bytes:
    return bytes(max(0, size))


_PADDING: dict[Codec, Callable[[int], bytes]] = {Codec.H264: _filler_unit, Codec.VP8: _zeros}
