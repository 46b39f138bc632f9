"""What is known of a recording."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.recording import index as module
from gateway.recording.errors import ClipGoneError, ClipPendingError
from gateway.recording.index import SILENT_S, Beat, Index, Stored

pytestmark = pytest.mark.unit

SECOND = 1_000_000
NOW = 1000.0


def stored(number: int, *, keyed: bool = True, size: int = 10) -> Stored:
    """A segment of four seconds."""
    return Stored(number, number * 4 * SECOND, 4 * SECOND, size, keyed)


def recording(*segments: Stored, recorder: str = "g1", beat_at: float = NOW) -> Index:
    index = Index("me", "painter", ("key",), "secret", beat=Beat(recorder, beat_at))
    return replace(index, segments=segments)


FIVE = tuple(stored(number) for number in range(5))


def named(index: Index, start_s: float, end_s: float) -> list[int]:
    chosen = index.clip(round(start_s * SECOND), round(end_s * SECOND), NOW)
    return [each.number for each in chosen]


def test_it_is_read_as_it_was_written() -> None:
    index = replace(recording(*FIVE, stored(5, keyed=False)), ended_at=7.5, has_header=True)
    assert Index.decoded(index.encoded()) == replace(index, beat=Beat())
    assert Beat.decoded(Beat("g1", 7.5).encoded()) == Beat("g1", 7.5)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"version":2}', b'{"version":1,"x":1}'])
def test_what_makes_no_sense_is_no_recording(data: bytes) -> None:
    assert Index.decoded(data) is None
    assert Beat.decoded(data) is None


def test_what_says_who_records_stays_small_however_long_the_recording_is() -> None:
    index = recording(*(stored(number) for number in range(1000)))
    assert len(index.beat.encoded()) < 100 < len(index.encoded())
    assert b"g1" not in index.encoded()


def test_a_clip_is_the_whole_segments_that_it_touches() -> None:
    index = recording(*FIVE)
    assert named(index, 0, 20) == [0, 1, 2, 3, 4]
    assert named(index, 5, 9) == [1, 2]
    assert named(index, 4, 8) == [1]
    assert named(index, 4, 8.0005) == [1], "clients name times in milliseconds"


@pytest.mark.parametrize("start_ms", [0, 1, 3999, 4000, 4001])
@pytest.mark.parametrize("length_us", [1, 500, 1000, 1001])
def test_a_clip_of_a_millisecond_is_the_segment_that_it_begins_in(
    start_ms: int, length_us: int
) -> None:
    index, start_us = recording(*FIVE), start_ms * 1000
    chosen = index.clip(start_us, start_us + length_us, NOW)
    assert [each.number for each in chosen] == [start_ms // 4000]


def test_a_clip_begins_with_a_segment_that_can_be_played_alone() -> None:
    cut = (*FIVE[:2], stored(2, keyed=False), stored(3, keyed=False), FIVE[4])
    assert named(recording(*cut), 13, 20) == [1, 2, 3, 4]
    assert named(recording(*cut), 16, 20) == [4]


def test_the_end_of_a_clip_may_still_come() -> None:
    with pytest.raises(ClipPendingError):
        recording(*FIVE).clip(0, 21 * SECOND, NOW)
    with pytest.raises(ClipPendingError):
        recording().clip(0, SECOND, NOW)
    assert named(recording(*FIVE, recorder=""), 12, 21) == [3, 4], "it comes no more"
    silent = recording(*FIVE, beat_at=NOW - SILENT_S - 1)
    assert named(silent, 12, 21) == [3, 4], "who recorded is gone"


def test_of_a_clip_that_is_partly_gone_the_rest_is_left_and_of_another_nothing() -> None:
    index = recording(*FIVE[2:])
    assert named(index, 0, 12) == [2]
    with pytest.raises(ClipGoneError):
        index.clip(0, 8 * SECOND, NOW)
    with pytest.raises(ClipGoneError):
        recording(*FIVE, recorder="").clip(21 * SECOND, 25 * SECOND, NOW)


def test_the_oldest_segments_go_first_and_what_needs_them_goes_along() -> None:
    index = recording(stored(0), stored(1, keyed=False), stored(2), stored(3))
    grown, gone = index.with_segment(stored(4), 45)
    assert [each.number for each in gone] == [0, 1]
    assert [each.number for each in grown.segments] == [2, 3, 4]
    assert (grown.size, grown.oldest_us, grown.position_us) == (30, 8 * SECOND, 20 * SECOND)


def test_the_newest_segment_stays_however_large_it_is() -> None:
    grown, gone = recording(*FIVE).with_segment(stored(5, size=1000), 45)
    assert [each.number for each in grown.segments] == [5]
    assert gone == FIVE
    assert grown.next_number == 6


def test_there_is_a_most_of_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SEGMENTS", 3)
    grown, gone = recording(*FIVE[:3]).with_segment(stored(3), 1 << 30)
    assert ([each.number for each in grown.segments], gone) == ([1, 2, 3], FIVE[:1])
