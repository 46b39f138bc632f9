"""The play-out clock."""

from __future__ import annotations

import pytest

from gateway.playout import MAX_CHUNKS, Due, Playout
from scheduler.core.errors import InvariantError

pytestmark = pytest.mark.unit

BUFFER_S = 0.1
LEAD_S = 0.06
PERIOD_S = 1 / 24


def new_clock() -> Playout:
    return Playout(start_buffer_s=BUFFER_S, lead_s=LEAD_S, max_late_s=0.5)


def play_all(clock: Playout) -> list[Due]:
    """Hands out what waits, each frame exactly when it is due."""
    frames: list[Due] = []
    while (at := clock.next_due()) is not None:
        frames += clock.due(at)
    return frames


def test_nothing_is_due_before_a_chunk_was_announced() -> None:
    clock = new_clock()
    assert clock.due(5.0) == []
    assert clock.next_due() is None


def test_the_first_frame_is_due_one_start_buffer_after_the_announcement() -> None:
    clock = new_clock()
    clock.chunk(1, 0, 0, 24, 24.0, now=10.0)
    assert clock.next_due() == pytest.approx(10.0 + BUFFER_S)
    assert clock.due(10.09) == []
    assert [frame.frame for frame in clock.due(10.1)] == [0]


def test_frames_follow_one_period_apart_and_the_last_of_each_chunk_is_marked() -> None:
    clock = new_clock()
    clock.chunk(1, 0, 0, 9, 24.0, now=0.0)
    clock.chunk(1, 1, 9, 24, 24.0, now=0.0)
    frames = play_all(clock)
    assert [frame.frame for frame in frames] == list(range(33))
    assert [frame.chunk for frame in frames] == [0] * 9 + [1] * 24
    assert [frame.frame for frame in frames if frame.last_of_chunk] == [8, 32]
    for index, frame in enumerate(frames):
        assert frame.due_at == pytest.approx(BUFFER_S + index * PERIOD_S)
        assert frame.timestamp_us == pytest.approx(index * PERIOD_S * 1e6, abs=1)


def test_a_chunk_announced_in_time_goes_on_without_a_seam() -> None:
    clock = new_clock()
    clock.chunk(1, 0, 0, 2, 24.0, now=0.0)
    (_, last) = play_all(clock)
    clock.chunk(1, 1, 2, 1, 24.0, now=last.due_at + 0.9 * PERIOD_S)
    assert clock.next_due() == pytest.approx(last.due_at + PERIOD_S)
    assert clock.report(0.0).underruns == 0


def test_a_chunk_that_comes_too_late_is_an_underrun_and_starts_a_lead_later() -> None:
    clock = new_clock()
    clock.chunk(1, 0, 0, 2, 24.0, now=0.0)
    (_, last) = play_all(clock)
    now = last.due_at + 3.0
    clock.chunk(1, 1, 2, 2, 24.0, now=now)
    (third, fourth) = play_all(clock)
    assert third.due_at == pytest.approx(now + LEAD_S)
    assert fourth.due_at == pytest.approx(now + LEAD_S + PERIOD_S)
    assert third.timestamp_us == pytest.approx((third.due_at - BUFFER_S) * 1e6, abs=1)
    assert clock.report(now).underruns == 1


def test_the_chunk_after_a_hold_is_no_underrun() -> None:
    clock = new_clock()
    clock.chunk(1, 0, 0, 2, 24.0, now=0.0)
    clock.hold()
    play_all(clock)
    clock.chunk(1, 1, 2, 2, 24.0, now=60.0)
    assert clock.next_due() == pytest.approx(60.0 + BUFFER_S)
    assert clock.report(60.0).underruns == 0


def test_a_chunk_during_a_hold_that_never_ran_dry_goes_on_without_a_seam() -> None:
    clock = new_clock()
    clock.chunk(1, 0, 0, 24, 24.0, now=0.0)
    clock.hold()
    clock.chunk(1, 1, 24, 24, 24.0, now=0.5)
    frames = play_all(clock)
    assert frames[24].due_at == pytest.approx(BUFFER_S + 1.0)
    clock.chunk(1, 2, 48, 1, 24.0, now=frames[-1].due_at + 1.0)
    assert clock.report(frames[-1].due_at + 1.0).underruns == 1, "the hold was over"


def test_an_abandoned_run_hands_out_nothing_more() -> None:
    clock = new_clock()
    clock.chunk(1, 0, 0, 24, 24.0, now=0.0)
    played = clock.due(0.3)
    clock.abandon(2, now=0.3)
    assert clock.due(9.0) == []
    clock.chunk(1, 1, 24, 24, 24.0, now=0.4)
    assert clock.next_due() is None, "a lower run is void"
    clock.chunk(2, 0, 0, 1, 24.0, now=10.0)
    (frame,) = play_all(clock)
    assert (frame.run, frame.frame) == (2, 0)
    assert frame.due_at == pytest.approx(10.0 + BUFFER_S)
    assert frame.timestamp_us - played[-1].timestamp_us == pytest.approx(
        (frame.due_at - played[-1].due_at) * 1e6, abs=1
    )


def test_a_chunk_of_a_higher_run_abandons_the_lower_one() -> None:
    clock = new_clock()
    clock.chunk(1, 0, 0, 24, 24.0, now=0.0)
    clock.chunk(5, 0, 0, 3, 24.0, now=0.1)
    assert [(frame.run, frame.frame) for frame in play_all(clock)] == [(5, 0), (5, 1), (5, 2)]


def test_the_rate_is_each_chunks_own() -> None:
    clock = new_clock()
    clock.chunk(1, 0, 0, 2, 16.0, now=0.0)
    clock.chunk(1, 1, 2, 2, 24.0, now=0.0)
    due = [frame.due_at - BUFFER_S for frame in play_all(clock)]
    assert due == pytest.approx([0, 1 / 16, 2 / 16, 2 / 16 + 1 / 24])


def test_a_late_caller_gets_what_was_missed_at_once_and_the_anchor_stays() -> None:
    clock = new_clock()
    clock.chunk(1, 0, 0, 24, 24.0, now=0.0)
    missed = clock.due(BUFFER_S + 10.5 * PERIOD_S)
    assert [frame.frame for frame in missed] == list(range(11))
    assert clock.next_due() == pytest.approx(BUFFER_S + 11 * PERIOD_S)


def test_a_caller_that_was_away_too_long_gets_one_frame_not_a_burst() -> None:
    clock = new_clock()
    clock.chunk(1, 0, 0, 24, 24.0, now=0.0)
    (first,) = clock.due(BUFFER_S)
    (second,) = clock.due(10.0)
    assert second.due_at == 10.0
    assert second.timestamp_us == pytest.approx((10.0 - first.due_at) * 1e6, abs=1)
    assert clock.next_due() == pytest.approx(10.0 + PERIOD_S)


def test_an_actor_that_repeats_what_was_announced_changes_nothing() -> None:
    clock = new_clock()
    clock.chunk(1, 0, 0, 24, 24.0, now=0.0)
    clock.chunk(1, 0, 0, 24, 24.0, now=0.0)
    clock.chunk(1, 1, 12, 24, 24.0, now=0.0)
    assert [frame.frame for frame in play_all(clock)] == list(range(36))


def test_after_withdrawal_the_next_actor_starts_at_the_first_frame_not_shown() -> None:
    clock = new_clock()
    clock.chunk(1, 0, 0, 24, 24.0, now=0.0)
    shown = clock.due(BUFFER_S + 4.5 * PERIOD_S)
    clock.withdraw()
    assert clock.next_due() is None
    assert clock.report(1.0).next_frame == len(shown) == 5
    clock.chunk(1, 0, 5, 19, 24.0, now=4.0)
    frames = play_all(clock)
    assert [frame.frame for frame in frames] == list(range(5, 24))
    assert frames[-1].last_of_chunk
    assert clock.report(4.0).underruns == 1


def test_the_report_says_where_the_clock_stands() -> None:
    clock = new_clock()
    fresh = clock.report(3.0)
    assert (fresh.run, fresh.next_frame, fresh.buffered, fresh.underruns) == (0, 0, 0, 0)
    assert fresh.due_in_s == BUFFER_S
    clock.chunk(2, 0, 0, 2, 24.0, now=3.0)
    clock.due(3.0 + BUFFER_S)
    report = clock.report(3.0 + BUFFER_S)
    assert (report.run, report.next_frame, report.buffered) == (2, 1, 1)
    assert report.due_in_s == pytest.approx(PERIOD_S)
    play_all(clock)
    assert clock.report(13.0 + BUFFER_S).due_in_s == pytest.approx(2 * PERIOD_S - 10.0)
    assert clock.report(13.0).next_frame == 2


def test_a_run_taken_over_in_the_middle_begins_where_it_was() -> None:
    clock = new_clock()
    clock.chunk(3, 7, 177, 24, 24.0, now=0.0)
    assert clock.report(0.0).next_frame == 177
    assert play_all(clock)[0].frame == 177


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
def test_a_rate_that_is_none_is_our_own_mistake(rate: float) -> None:
    with pytest.raises(InvariantError):
        new_clock().chunk(1, 0, 0, 24, rate, now=0.0)


def test_more_chunks_than_an_actor_can_hold_are_our_own_mistake() -> None:
    clock = new_clock()
    for chunk in range(MAX_CHUNKS):
        clock.chunk(1, chunk, chunk, 1, 24.0, now=0.0)
    with pytest.raises(InvariantError):
        clock.chunk(1, MAX_CHUNKS, MAX_CHUNKS, 1, 24.0, now=0.0)


def test_the_position_of_a_held_picture_runs_on() -> None:
    clock = new_clock()
    assert clock.position_us(3.0) == 0
    clock.chunk(1, 0, 0, 2, 24.0, now=0.0)
    (_, last) = play_all(clock)
    assert clock.position_us(last.due_at + 5.0) == pytest.approx(
        last.timestamp_us + 5_000_000, abs=1
    )
    assert clock.position_us(0.0) == 0
