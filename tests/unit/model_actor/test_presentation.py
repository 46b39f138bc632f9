"""Which frames are presented, and when."""

from __future__ import annotations

import pytest

from model_actor.media.presentation import shown_frames, timeline

pytestmark = pytest.mark.unit

# VP9, profile 0: marker 10, profile 00, show_existing, frame_type, show_frame, resilient.
SHOWN, HIDDEN, EXISTING = b"\x86abc", b"\x84abc", b"\x88"
SHOWN_PROFILE_3, HIDDEN_PROFILE_3 = b"\xb3abc", b"\xb2abc"


def superframe(*frames: bytes) -> bytes:
    marker = bytes([0xC0 | len(frames) - 1])
    index = marker + b"".join(bytes([len(frame)]) for frame in frames) + marker
    return b"".join(frames) + index


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (SHOWN, 1),
        (HIDDEN, 0),
        (EXISTING, 1),
        (SHOWN_PROFILE_3, 1),
        (HIDDEN_PROFILE_3, 0),
        (superframe(HIDDEN, SHOWN), 1),
        (superframe(HIDDEN, HIDDEN), 0),
        (superframe(SHOWN, EXISTING), 2),
        (b"\x86abc\xc1", 1),
        (b"", 0),
    ],
)
def test_vp9_frames_tell_whether_they_are_shown(packet: bytes, expected: int) -> None:
    assert shown_frames("vp9", memoryview(packet)) == expected


@pytest.mark.parametrize(("packet", "expected"), [(b"\x10", 1), (b"\x01", 0), (b"", 0)])
def test_vp8_frames_tell_whether_they_are_shown(packet: bytes, expected: int) -> None:
    assert shown_frames("vp8", memoryview(packet)) == expected


def test_other_codecs_show_every_packet() -> None:
    assert shown_frames("hevc", memoryview(b"\x00")) == 1


def test_times_are_ordered_and_begin_at_zero() -> None:
    line = timeline([40, 160, 80, 120], first_decoded=40, tick_us=1000, frame_us=40_000)
    assert [line.time_us(index) for index in range(4)] == [0, 40_000, 80_000, 120_000]
    assert line.time_us(5) == 200_000
    assert line.duration_us == 160_000
    assert line.aligned


def test_what_precedes_the_first_decodable_frame_is_not_presented() -> None:
    line = timeline([80, 0, 40, 120], first_decoded=80, tick_us=1000, frame_us=40_000)
    assert line.ticks == (80, 120)


def test_times_that_tell_nothing_apart_are_only_counted() -> None:
    assert not timeline([0, 40, 40], first_decoded=0, tick_us=1000, frame_us=40_000).aligned
    unknown = timeline([None, 40, 80], first_decoded=None, tick_us=1000, frame_us=40_000)
    assert not unknown.aligned
    assert len(unknown) == 3
    assert unknown.duration_us == 120_000


def test_one_frame_or_no_known_rate_does_no_harm() -> None:
    assert timeline([7], first_decoded=7, tick_us=1000, frame_us=0).duration_us == 1
    assert len(timeline([None] * 5, first_decoded=None, tick_us=1.0, frame_us=0)) == 5
