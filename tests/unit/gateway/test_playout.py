"""The play-out clock."""

from __future__ import annotations

from itertools import pairwise

import pytest

from gateway.lead import (
    CALM_CHUNKS,
    FIRST_TRANSIT_S,
    GIVE_BACK_S,
    MAX_LEAD_S,
    SPARE_S,
    TRANSITS_S,
)
from gateway.playout import MAX_CHUNKS, STEP_US, TOLERANCE, Due, Playout
from scheduler.core.errors import InvariantError

pytestmark = pytest.mark.unit

TRANSIT_S = FIRST_TRANSIT_S
PERIOD_S = 1 / 24


def play_all(clock: Playout) -> list[Due]:
    """Hands out what waits, each frame exactly when it is due."""
    frames: list[Due] = []
    while (at := clock.next_due()) is not None:
        frames += clock.due(at)
    return frames


class Model:
    """Makes chunks of 24 frames at times of its own; a viewer's packets take `transit_s`."""

    def __init__(self, transit_s: float = TRANSIT_S) -> None:
        self.clock = Playout()
        self.transit_s = transit_s
        self.chunks = 0
        self.underruns: list[int] = []
        self.shown: list[Due] = []

    def ready(self, now: float) -> float:
        """A chunk is ready now; returns when its first frame is due."""
        while (at := self.clock.next_due()) is not None and at <= now:
            self.shown += self.clock.due(at)
        frames = self.clock.report(now).buffered
        self.clock.chunk(1, self.chunks, self.chunks * 24, 24, 24.0, now)
        self.chunks += 1
        at = self.clock.next_due()
        assert at is not None
        if self.clock.awaited is not None:
            self.clock.arrived(now + self.transit_s)
        self.underruns.append(self.clock.report(now).underruns)
        return at + frames * PERIOD_S


def test_nothing_is_due_before_a_chunk_was_announced() -> None:
    clock = Playout()
    assert clock.due(5.0) == []
    assert clock.next_due() is None


def test_an_announcement_is_answered_with_the_time_that_is_left() -> None:
    clock = Playout()
    assert clock.chunk(1, 0, 0, 24, 24.0, now=10.0) == pytest.approx(TRANSIT_S)
    assert clock.chunk(1, 1, 24, 24, 24.0, now=10.0) == pytest.approx(TRANSIT_S + 1.0)
    assert clock.chunk(1, 1, 24, 24, 24.0, now=10.0) == 0.0, "nothing of it is new"


def test_the_first_frame_is_due_as_soon_as_its_packet_can_be_here() -> None:
    clock = Playout()
    clock.chunk(1, 0, 0, 24, 24.0, now=10.0)
    assert clock.next_due() == pytest.approx(10.0 + TRANSIT_S)
    assert clock.due(10.0 + TRANSIT_S - 0.001) == []
    assert [frame.frame for frame in clock.due(10.0 + TRANSIT_S)] == [0]


def test_frames_follow_one_period_apart_and_the_last_of_each_chunk_is_marked() -> None:
    clock = Playout()
    clock.chunk(1, 0, 0, 9, 24.0, now=0.0)
    clock.chunk(1, 1, 9, 24, 24.0, now=0.0)
    frames = play_all(clock)
    assert [frame.frame for frame in frames] == list(range(33))
    assert [frame.chunk for frame in frames] == [0] * 9 + [1] * 24
    assert [frame.frame for frame in frames if frame.last_of_chunk] == [8, 32]
    for index, frame in enumerate(frames):
        assert frame.due_at == pytest.approx(TRANSIT_S + index * PERIOD_S)
        assert frame.timestamp_us == pytest.approx(index * PERIOD_S * 1e6, abs=1)


def test_a_chunk_announced_in_time_goes_on_without_a_seam() -> None:
    clock = Playout()
    clock.chunk(1, 0, 0, 2, 24.0, now=0.0)
    (_, last) = play_all(clock)
    clock.chunk(1, 1, 2, 1, 24.0, now=last.due_at + 0.7 * PERIOD_S)
    assert clock.next_due() == pytest.approx(last.due_at + PERIOD_S)
    assert clock.report(0.0).underruns == 0


def test_a_chunk_less_than_half_a_period_late_moves_no_deadline() -> None:
    clock = Playout()
    clock.chunk(1, 0, 0, 2, 24.0, now=0.0)
    (_, last) = play_all(clock)
    ready = last.due_at + PERIOD_S - TRANSIT_S + 0.9 * TOLERANCE * PERIOD_S
    clock.chunk(1, 1, 2, 2, 24.0, now=ready)
    (third, fourth) = play_all(clock)
    assert third.due_at == pytest.approx(last.due_at + PERIOD_S)
    assert fourth.due_at == pytest.approx(last.due_at + 2 * PERIOD_S)
    assert clock.report(ready).underruns == 0


def test_a_chunk_that_comes_too_late_is_an_underrun_and_starts_when_it_can_be_here() -> None:
    clock = Playout()
    clock.chunk(1, 0, 0, 2, 24.0, now=0.0)
    (_, last) = play_all(clock)
    now = last.due_at + 3.0
    clock.chunk(1, 1, 2, 2, 24.0, now=now)
    (third, fourth) = play_all(clock)
    assert third.due_at == pytest.approx(now + TRANSIT_S), "an outage is not waited for again"
    assert fourth.due_at == pytest.approx(now + TRANSIT_S + PERIOD_S)
    assert third.timestamp_us == pytest.approx((third.due_at - TRANSIT_S) * 1e6, abs=1)
    assert clock.report(now).underruns == 1


def test_the_chunk_after_a_hold_is_no_underrun() -> None:
    clock = Playout()
    clock.chunk(1, 0, 0, 2, 24.0, now=0.0)
    clock.hold()
    play_all(clock)
    clock.chunk(1, 1, 2, 2, 24.0, now=60.0)
    assert clock.next_due() == pytest.approx(60.0 + TRANSIT_S)
    assert clock.report(60.0).underruns == 0


def test_a_chunk_during_a_hold_that_never_ran_dry_goes_on_without_a_seam() -> None:
    clock = Playout()
    clock.chunk(1, 0, 0, 24, 24.0, now=0.0)
    clock.hold()
    clock.chunk(1, 1, 24, 24, 24.0, now=0.5)
    frames = play_all(clock)
    assert frames[24].due_at == pytest.approx(TRANSIT_S + 1.0)
    clock.chunk(1, 2, 48, 1, 24.0, now=frames[-1].due_at + 1.0)
    assert clock.report(frames[-1].due_at + 1.0).underruns == 1, "the hold was over"


def test_a_model_that_is_ready_just_when_each_chunk_is_due_gains_no_delay() -> None:
    model = Model()
    due = model.ready(0.0)
    for _ in range(100):
        before, due = due, model.ready(due + 1.0)
        assert due == pytest.approx(before + 1.0)
    assert model.underruns[-1] == 0


def test_a_model_that_is_ready_once_a_second_gains_no_delay_either() -> None:
    model = Model()
    for second in range(100):
        assert model.ready(float(second)) == pytest.approx(second + TRANSIT_S)
    assert model.underruns[-1] == 0


def test_a_model_of_uneven_times_comes_to_have_no_underruns_and_a_bounded_delay() -> None:
    model, late = Model(), (0.0, 0.03, 0.09, 0.01, 0.06)
    for second in range(200):
        due = model.ready(second + late[second % len(late)])
    assert model.underruns[-1] == model.underruns[20]
    assert 1 <= model.underruns[-1] <= 4
    assert due - 199 <= max(late) + MAX_LEAD_S


def test_what_a_single_late_chunk_costs_is_given_back() -> None:
    model = Model()
    model.ready(0.0)
    model.ready(1.08)
    assert model.clock.lead.margin_s > 0
    behind = [model.ready(float(second)) - second for second in range(2, 40 * CALM_CHUNKS)]
    assert behind[0] > TRANSIT_S + 0.08
    assert behind[-1] == pytest.approx(TRANSIT_S + SPARE_S)
    assert max(a - b for a, b in pairwise(behind)) <= GIVE_BACK_S + 1e-9, "in small steps"
    assert model.underruns[-1] == 1


def test_a_new_run_owes_nothing_for_the_last_ones_lateness() -> None:
    model = Model()
    model.ready(0.0)
    model.ready(1.08)
    assert model.clock.lead.behind_s > 0
    model.clock.abandon(2)
    model.clock.chunk(2, 0, 0, 24, 24.0, now=3.0)
    assert model.clock.lead.behind_s == 0


def test_a_margin_that_one_chunk_in_many_needs_is_kept() -> None:
    model = Model()
    model.ready(0.0)
    model.ready(1.08)
    margin_s = model.clock.lead.margin_s
    for second in range(2, 20 * CALM_CHUNKS):
        model.ready(second + (0.08 + margin_s if second % (CALM_CHUNKS // 2) == 0 else 0.0))
    assert model.clock.lead.margin_s == margin_s
    assert model.underruns[-1] == 1


def test_the_transit_is_learned_from_the_packets_that_were_wanted_at_once() -> None:
    clock = Playout()
    for run in range(1, 20):
        clock.chunk(run, 0, 0, 1, 24.0, now=float(run))
        assert clock.awaited == (run, 0)
        clock.arrived(run + 0.004)
        play_all(clock)
    assert clock.lead.transit_s == pytest.approx(0.004, abs=0.001)
    clock.chunk(20, 0, 0, 24, 24.0, now=20.0)
    clock.arrived(29.0)
    assert clock.lead.transit_s <= TRANSITS_S[1]
    clock.chunk(20, 1, 24, 24, 24.0, now=20.1)
    assert clock.awaited is None, "it has a second's time"


def test_an_abandoned_run_hands_out_nothing_more() -> None:
    clock = Playout()
    clock.chunk(1, 0, 0, 24, 24.0, now=0.0)
    played = clock.due(0.3)
    clock.abandon(2)
    assert clock.due(9.0) == []
    clock.chunk(1, 1, 24, 24, 24.0, now=0.4)
    assert clock.next_due() is None, "a lower run is void"
    clock.chunk(2, 0, 0, 1, 24.0, now=10.0)
    (frame,) = play_all(clock)
    assert (frame.run, frame.frame) == (2, 0)
    assert frame.due_at == pytest.approx(10.0 + TRANSIT_S)
    assert frame.timestamp_us - played[-1].timestamp_us == pytest.approx(
        (frame.due_at - played[-1].due_at) * 1e6, abs=1
    )


def test_a_chunk_of_a_higher_run_abandons_the_lower_one() -> None:
    clock = Playout()
    clock.chunk(1, 0, 0, 24, 24.0, now=0.0)
    clock.chunk(5, 0, 0, 3, 24.0, now=0.1)
    assert [(frame.run, frame.frame) for frame in play_all(clock)] == [(5, 0), (5, 1), (5, 2)]


def test_the_rate_is_each_chunks_own() -> None:
    clock = Playout()
    clock.chunk(1, 0, 0, 2, 16.0, now=0.0)
    clock.chunk(1, 1, 2, 2, 24.0, now=0.0)
    due = [frame.due_at - TRANSIT_S for frame in play_all(clock)]
    assert due == pytest.approx([0, 1 / 16, 2 / 16, 2 / 16 + 1 / 24])


def test_a_late_caller_gets_what_was_missed_at_once_and_the_anchor_stays() -> None:
    clock = Playout()
    clock.chunk(1, 0, 0, 24, 24.0, now=0.0)
    anchors = clock.anchors
    missed = clock.due(TRANSIT_S + 10.5 * PERIOD_S)
    assert [frame.frame for frame in missed] == list(range(11))
    assert clock.next_due() == pytest.approx(TRANSIT_S + 11 * PERIOD_S)
    assert clock.anchors == anchors


def test_a_caller_that_was_away_too_long_gets_one_frame_not_a_burst() -> None:
    clock = Playout()
    clock.chunk(1, 0, 0, 24, 24.0, now=0.0)
    (first,) = clock.due(TRANSIT_S)
    anchors = clock.anchors
    (second,) = clock.due(10.0)
    assert second.due_at == 10.0
    assert second.timestamp_us == pytest.approx((10.0 - first.due_at) * 1e6, abs=1)
    assert clock.next_due() == pytest.approx(10.0 + PERIOD_S)
    assert clock.anchors == anchors + 1, "the actor has to hear of it"


def test_an_actor_that_repeats_what_was_announced_changes_nothing() -> None:
    clock = Playout()
    clock.chunk(1, 0, 0, 24, 24.0, now=0.0)
    clock.chunk(1, 0, 0, 24, 24.0, now=0.0)
    clock.chunk(1, 1, 12, 24, 24.0, now=0.0)
    assert [frame.frame for frame in play_all(clock)] == list(range(36))


def test_after_withdrawal_the_next_actor_starts_at_the_first_frame_not_shown() -> None:
    clock = Playout()
    clock.chunk(1, 0, 0, 24, 24.0, now=0.0)
    shown = clock.due(TRANSIT_S + 4.5 * PERIOD_S)
    clock.withdraw()
    assert clock.next_due() is None
    assert clock.report(1.0).next_frame == len(shown) == 5
    clock.chunk(1, 0, 5, 19, 24.0, now=4.0)
    frames = play_all(clock)
    assert [frame.frame for frame in frames] == list(range(5, 24))
    assert frames[-1].last_of_chunk
    assert clock.report(4.0).underruns == 1


def test_the_report_says_where_the_clock_stands() -> None:
    clock = Playout()
    fresh = clock.report(3.0)
    assert (fresh.run, fresh.next_frame, fresh.buffered, fresh.underruns) == (0, 0, 0, 0)
    assert fresh.due_in_s == TRANSIT_S
    clock.chunk(2, 0, 0, 2, 24.0, now=3.0)
    clock.due(3.0 + TRANSIT_S)
    report = clock.report(3.0 + TRANSIT_S)
    assert (report.run, report.next_frame, report.buffered) == (2, 1, 1)
    assert report.due_in_s == pytest.approx(PERIOD_S)
    play_all(clock)
    assert clock.report(13.0 + TRANSIT_S).due_in_s == pytest.approx(2 * PERIOD_S - 10.0)
    assert clock.report(13.0).next_frame == 2


def test_a_run_taken_over_in_the_middle_begins_where_it_was() -> None:
    clock = Playout()
    clock.chunk(3, 7, 177, 24, 24.0, now=0.0)
    assert clock.report(0.0).next_frame == 177
    assert play_all(clock)[0].frame == 177


def test_a_run_taken_over_after_a_chunk_that_was_shown_goes_on_behind_it() -> None:
    clock = Playout()
    clock.chunk(3, 7, 201, 0, 24.0, now=0.0)
    assert clock.next_due() is None
    assert clock.report(0.0).next_frame == 201
    clock.chunk(3, 8, 201, 2, 24.0, now=0.0)
    assert [frame.frame for frame in play_all(clock)] == [201, 202]


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
def test_a_rate_that_is_none_is_our_own_mistake(rate: float) -> None:
    with pytest.raises(InvariantError):
        Playout().chunk(1, 0, 0, 24, rate, now=0.0)


def test_more_chunks_than_an_actor_can_hold_are_our_own_mistake() -> None:
    clock = Playout()
    for chunk in range(MAX_CHUNKS):
        clock.chunk(1, chunk, chunk, 1, 24.0, now=0.0)
    with pytest.raises(InvariantError):
        clock.chunk(1, MAX_CHUNKS, MAX_CHUNKS, 1, 24.0, now=0.0)


def test_the_position_of_a_held_picture_runs_on() -> None:
    clock = Playout()
    clock.chunk(1, 0, 0, 2, 24.0, now=0.0)
    (_, last) = play_all(clock)
    assert clock.position_us(last.due_at + 5.0) == pytest.approx(
        last.timestamp_us + 5_000_000, abs=1
    )
    assert clock.position_us(0.0) == 0
    assert clock.due_at(last.timestamp_us) == pytest.approx(last.due_at, abs=1e-6)


def test_a_picture_held_before_anything_played_begins_the_timestamps() -> None:
    clock = Playout()
    assert clock.position_us(3.0) == 0
    clock.chunk(1, 0, 0, 1, 24.0, now=5.0)
    (frame,) = play_all(clock)
    assert frame.timestamp_us == pytest.approx((2.0 + TRANSIT_S) * 1e6, abs=1)


def test_two_timestamps_are_never_in_one_tick_of_a_media_clock() -> None:
    clock = Playout()
    clock.chunk(1, 0, 0, 1, 24.0, now=0.0)
    (first,) = play_all(clock)
    clock.chunk(2, 0, 0, 1, 24.0, now=-1.0)
    (second,) = clock.due(first.due_at)
    assert second.timestamp_us - first.timestamp_us >= STEP_US
