"""Keyframes are told from the bytes alone."""

from __future__ import annotations

import pytest

from model_actor.media.codec import Codec, is_keyframe

pytestmark = pytest.mark.unit

LONG, SHORT = b"\x00\x00\x00\x01", b"\x00\x00\x01"
SPS, PPS, SEI, AUD = b"\x67abc", b"\x68abc", b"\x06abc", b"\x09\x10"
IDR, SLICE = b"\x65abc", b"\x41abc"


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        ([LONG, SPS, LONG, PPS, SHORT, IDR], True),
        ([LONG, AUD, LONG, SEI, SHORT, IDR], True),
        ([SHORT, IDR], True),
        ([LONG, AUD, LONG, SPS, LONG, PPS, LONG, SLICE], True),
        ([LONG, SLICE], False),
        ([LONG, SEI, LONG, SLICE], False),
        ([LONG, SLICE, LONG, IDR], False),
        ([LONG, SEI], False),
        ([LONG], False),
        ([], False),
        ([IDR], False),
    ],
)
def test_h264_keyframes_hold_an_idr_slice_or_parameter_sets(
    units: list[bytes], expected: bool
) -> None:
    assert is_keyframe(Codec.H264, b"".join(units)) is expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x10\x02\x00\x9d\x01\x2a\x80\x02\x60\x01", True),
        (b"\x11\x02\x00\x9d\x01\x2a\x80\x02\x60\x01", False),
        (b"\x10\x02\x00\x9d\x01\x2b\x80\x02\x60\x01", False),
        (b"\x10\x02\x00\x9d\x01\x2a", False),
        (b"", False),
    ],
)
def test_vp8_keyframes_say_so_and_carry_the_start_code(data: bytes, expected: bool) -> None:
    assert is_keyframe(Codec.VP8, data) is expected
