"""The two codecs of our outputs and cameras, and how to tell their keyframes.

Pure: bytes in, answers out.
"""

from __future__ import annotations

import enum

_START_CODE = b"\x00\x00\x01"
_NAL_SLICE = range(1, 5)
_NAL_IDR = 5
_NAL_SPS = 7
_VP8_START_CODE = b"\x9d\x01\x2a"


class Codec(enum.Enum):
    """Codec of an encoded frame. The value is libavcodec's name of its decoder."""

    H264 = "h264"
    VP8 = "vp8"


def is_keyframe(codec: Codec, data: bytes) -> bool:
    """Returns whether a decoder can begin at an encoded frame.

    H.264 (ITU-T H.264, 7.4.1.2.3): the access unit, in Annex B, holds an IDR slice or
    a sequence parameter set. VP8 (RFC 6386, 9.1): the frame tag says key frame and the
    start code follows it.
    """
    return _KEYFRAME_TESTS[codec](data)


def _h264_keyframe(data: bytes) -> bool:
    at = data.find(_START_CODE)
    while 0 <= at < len(data) - 3:
        kind = data[at + 3] & 0x1F
        if kind in (_NAL_IDR, _NAL_SPS):
            return True
        if kind in _NAL_SLICE:
            return False
        at = data.find(_START_CODE, at + 3)
    return False


def _vp8_keyframe(data: bytes) -> bool:
    return len(data) >= 10 and not data[0] & 1 and data[3:6] == _VP8_START_CODE


_KEYFRAME_TESTS = {Codec.H264: _h264_keyframe, Codec.VP8: _vp8_keyframe}
