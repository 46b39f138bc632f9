"""From frames to segments."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from gateway.ports import EncodedFrame
from gateway.recording.cutting import (
    ASK_AHEAD_US,
    KEYFRAME_US,
    LEAST_US,
    MOST_BYTES,
    MOST_US,
    PAUSE_US,
    Cutter,
    Segment,
)
from sana_gateway.v1 import media_pb2

pytestmark = pytest.mark.unit

PERIOD_US = 40_000


def frame(
    number: int, *, key: bool = False, held: bool = False, at_us: int | None = None
) -> EncodedFrame:
    stamp_us = number * PERIOD_US if at_us is None else at_us
    return EncodedFrame(
        b"%d" % number, key, media_pb2.CODEC_H264, stamp_us, 1, 0, number, 0, held=held
    )


class Cut:
    """A cutter and what it gave."""

    def __init__(self, *, number: int = 0, start_us: int = 0) -> None:
        self.cutter = Cutter(number=number, start_us=start_us, period_us=PERIOD_US)
        self.segments: list[Segment] = []

    def show(self, *frames: EncodedFrame, room: bool = True) -> Cut:
        for each in frames:
            self._add(self.cutter.take(each, room=room))
        return self

    def play(self, first: int, count: int, *keys: int, from_us: int | None = None) -> Cut:
        begin_us = first * PERIOD_US if from_us is None else from_us
        return self.show(
            *(
                frame(first + n, key=first + n in keys, at_us=begin_us + n * PERIOD_US)
                for n in range(count)
            )
        )

    def cut(self, *, room: bool = True) -> Cut:
        self._add(self.cutter.cut(room=room))
        return self

    def _add(self, segment: Segment | None) -> None:
        if segment is not None:
            self.segments.append(segment)

    @property
    def numbers(self) -> list[list[int]]:
        return [[int(each.data) for each in segment.samples] for segment in self.segments]

    def is_without_gap(self) -> bool:
        samples = [each for segment in self.segments for each in segment.samples]
        follow = all(a.start_us + a.duration_us == b.start_us for a, b in pairwise(samples))
        counted = [segment.number for segment in self.segments]
        return follow and counted == list(range(counted[0], counted[0] + len(counted)))


def test_a_segment_ends_before_the_keyframe_after_it() -> None:
    cut = Cut().play(0, 120, 0, 100).cut()
    assert cut.numbers == [list(range(100)), list(range(100, 120))]
    assert [each.duration_us for each in cut.segments] == [4_000_000, 800_000]
    assert [each.keyed for each in cut.segments] == [True, True]
    assert cut.is_without_gap()


def test_nothing_is_recorded_before_the_first_keyframe() -> None:
    cut = Cut().play(0, 10, 4).cut()
    assert cut.numbers == [[4, 5, 6, 7, 8, 9]]
    assert cut.segments[0].start_us == 0
    assert cut.cutter.dropped == 4


def test_a_keyframe_is_wanted_a_little_before_four_seconds_have_passed() -> None:
    cut = Cut()
    wanted = []
    for number in range(120):
        cut.show(frame(number, key=number == 0))
        wanted.append(cut.cutter.wants_keyframe)
    first = wanted.index(True)
    assert (first - 1) * PERIOD_US < KEYFRAME_US - ASK_AHEAD_US <= first * PERIOD_US
    assert all(wanted[first:])
    cut.show(frame(120, key=True))
    assert not cut.cutter.wants_keyframe


def test_a_keyframe_for_anothers_sake_begins_no_segment_that_is_too_short() -> None:
    early, late = LEAST_US // PERIOD_US - 1, LEAST_US // PERIOD_US
    assert Cut().play(0, 100, 0, early).cut().numbers == [list(range(100))]
    assert [each[0] for each in Cut().play(0, 100, 0, late).cut().numbers] == [0, late]


def test_a_segment_without_a_further_keyframe_ends_all_the_same() -> None:
    cut = Cut().play(0, MOST_US // PERIOD_US + 2, 0)
    assert [each.duration_us for each in cut.segments] == [MOST_US]
    large = replace(frame(1), data=bytes(MOST_BYTES))
    cut = Cut().show(frame(0, key=True), large, frame(2), frame(3))
    assert [len(each.samples) for each in cut.segments] == [2]


def test_a_cut_in_between_loses_nothing_and_the_next_keyframe_begins_a_segment() -> None:
    cut = Cut().play(0, 10, 0).cut().play(10, 20, 15).cut()
    assert cut.numbers == [list(range(10)), list(range(10, 15)), list(range(15, 30))]
    assert [each.keyed for each in cut.segments] == [True, False, True]
    assert cut.is_without_gap()
    assert Cut().cut().segments == []


def test_held_pictures_are_left_out_and_take_no_time() -> None:
    cut = Cut().play(0, 10, 0)
    cut.show(*(frame(9, key=n == 0, held=True, at_us=700_000 + n * PERIOD_US) for n in range(9)))
    assert cut.numbers == [list(range(10))], "what was played can be had at once"
    assert not cut.cutter.wants_keyframe, "one now would be of the held picture"
    cut.play(10, 10, 10, from_us=60_000_000).cut()
    assert cut.numbers == [list(range(10)), list(range(10, 20))]
    assert cut.is_without_gap()
    assert cut.cutter.position_us == 20 * PERIOD_US


def test_what_builds_on_a_held_picture_is_left_out_up_to_a_keyframe_that_is_wanted() -> None:
    cut = Cut().play(0, 5, 0).show(frame(4, key=True, held=True)).play(5, 3)
    assert cut.cutter.wants_keyframe
    cut.play(8, 2, 8).cut()
    assert cut.numbers == [[0, 1, 2, 3, 4], [8, 9]]
    assert cut.cutter.dropped == 3
    assert cut.is_without_gap()


def test_a_short_wait_counts_and_a_long_one_does_not() -> None:
    cut = Cut().show(frame(0, key=True), frame(1, at_us=PAUSE_US)).cut()
    assert [each.duration_us for each in cut.segments[0].samples] == [PAUSE_US, PERIOD_US]
    cut = Cut().show(frame(0, key=True), frame(1, at_us=PAUSE_US + 1)).cut()
    assert [each.duration_us for each in cut.segments[0].samples] == [PERIOD_US, PERIOD_US]


def test_without_room_a_segment_is_dropped_with_all_up_to_the_next_keyframe() -> None:
    cut = Cut().play(0, 60, 0, 50)
    cut.show(*(frame(n, key=n == 100) for n in range(60, 101)), room=False)
    assert cut.numbers == [list(range(50))]
    assert cut.cutter.dropped == 50
    cut.play(101, 19).cut(room=False)
    assert cut.cutter.dropped == 70
    cut.play(120, 5)
    assert cut.cutter.wants_keyframe
    cut.play(125, 5, 126).cut()
    assert cut.numbers == [list(range(50)), list(range(126, 130))]
    assert cut.cutter.dropped == 76
    assert cut.is_without_gap()


def test_a_recording_goes_on_where_another_gateway_has_stopped() -> None:
    cut = Cut(number=7, start_us=28_000_000).play(500, 10, 500).cut()
    (segment,) = cut.segments
    assert (segment.number, segment.start_us) == (7, 28_000_000)
    assert cut.cutter.position_us == 28_000_000 + 10 * PERIOD_US
