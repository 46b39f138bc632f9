"""The order of chunks on one GPU in virtual time."""

from __future__ import annotations

import pytest

from scheduler.core.chunk_play import LEAD_S, Lane, Member, Rhythm, Tally, play

pytestmark = pytest.mark.unit

H200 = Rhythm(cost_s=0.28, first_cost_s=0.385)


def test_a_session_alone_is_never_late() -> None:
    for live in (True, False):
        lane = Lane(H200)
        lane.start("a", 5.0, live=live)
        tally = lane.run(65.0)
        assert dict(tally.waits) == pytest.approx({"a": 0.385})
        assert 59 <= tally.chunks <= 61
        assert (tally.late, tally.worst_late_s) == (0, 0.0)
        assert tally.busy_s == pytest.approx(0.385 + (tally.chunks - 1) * 0.28)


def test_the_windows_of_a_camera_come_when_its_frames_are_there() -> None:
    lane = Lane(H200)
    lane.start("a", 0.0, live=True)
    assert [lane.run(at).chunks for at in (0.5, 0.99, 1.01, 1.99, 2.01)] == [1, 0, 1, 0, 1]


def test_the_windows_of_a_file_come_as_late_as_they_may() -> None:
    lane = Lane(H200)
    lane.start("a", 0.0, live=False)
    # The first 33 frames are shown from 0.385 on; the next window costs 0.28 and has a margin.
    begin = 0.385 + 33 / 24 - LEAD_S - 0.28 - 0.1
    assert lane.run(begin - 0.01).chunks == 1
    assert lane.run(begin + 0.01).chunks == 1


def test_a_session_that_resumes_has_a_usual_window_first() -> None:
    lane = Lane(H200)
    lane.start("a", 0.0, live=True, first=False)
    assert lane.run(1.0) == Tally(1, 0, 0.0, 0.28, (("a", 0.28),))


def test_a_session_that_stops_has_no_more_windows() -> None:
    lane = Lane(H200)
    lane.start("a", 0.0, live=True)
    lane.run(10.0)
    lane.stop("a")
    lane.stop("never there")
    assert lane.run(20.0) == Tally()
    lane.start("b", 30.0, live=True)
    assert dict(lane.run(31.0).waits) == pytest.approx({"b": 0.385})


def test_a_start_interrupts_a_wait_and_not_a_window() -> None:
    for at, wait in ((1.5, 0.385), (1.1, 0.18 + 0.385)):
        lane = Lane(H200)
        lane.start("a", 0.0, live=True)
        lane.run(at)
        lane.start("b", at, live=False)
        assert dict(lane.run(at + 0.3).waits) == pytest.approx({"b": wait})


def test_a_degraded_session_has_fewer_windows() -> None:
    lane = Lane(H200)
    lane.start("a", 0.0, live=True, rate_share=2 / 3)
    assert lane.run(60.0).chunks == 40


def test_a_gpu_that_is_full_is_in_time_once_its_sessions_have_begun() -> None:
    lane = Lane(H200)
    for number, at in enumerate((0.0, 3.3, 7.6)):
        lane.start(str(number), at, live=number != 1)
    begun = lane.run(15.0)
    assert all(wait < 2.0 for _, wait in begun.waits)
    steady = lane.run(75.0)
    assert (steady.chunks, steady.late) == (180, 0)


def test_more_sessions_than_a_gpu_has_time_for_are_late() -> None:
    lane = Lane(H200)
    for number in range(4):
        lane.start(str(number), 0.0, live=False)
    tally = lane.run(60.0)
    assert tally.late > 30
    assert tally.busy_s == pytest.approx(60.0, abs=0.5)


def test_sessions_that_start_at_once_are_batched() -> None:
    def started(gains: tuple[tuple[int, float], ...]) -> Tally:
        lane = Lane(Rhythm(0.28, 0.4, gains=gains))
        for number in range(3):
            lane.start(str(number), 0.0, live=False)
        return lane.run(0.9)

    assert [wait for _, wait in started(()).waits] == pytest.approx([0.4, 0.8, 1.2])
    batched = started(((2, 1.6), (3, 2.0)))
    assert [wait for _, wait in batched.waits] == pytest.approx([0.6] * 3)
    assert batched.busy_s == pytest.approx(0.6)


def test_windows_of_uneven_times_are_drawn_evenly() -> None:
    lane = Lane(Rhythm(0.2, 0.2, spread=0.5))
    lane.start("a", 0.0, live=True)
    tally = lane.run(1000.0)
    assert tally.busy_s / tally.chunks == pytest.approx(0.2, abs=0.001)
    assert tally.late < 5, "the clock gives way until the slowest fits"


def test_tallies_add() -> None:
    one, other = Tally(2, 1, 0.5, 1.0, (("a", 0.1),)), Tally(3, 0, 0.0, 2.0, (("b", 0.2),))
    assert one + other == Tally(5, 1, 0.5, 3.0, (("a", 0.1), ("b", 0.2)))


def test_a_play_is_found_again() -> None:
    members = (Member(live=True, phase_s=0.0), Member(live=False, phase_s=0.4))
    before = play.cache_info().hits
    assert play(H200, members, 10.0) == play(H200, members, 10.0)
    assert play.cache_info().hits == before + 1
    assert (play(H200, members, 10.0).chunks, play(H200, members, 10.0).late) == (20, 0)


def test_a_play_counts_what_a_start_does_to_those_that_run() -> None:
    members = (Member(live=True, phase_s=0.0), Member(live=True, phase_s=0.3))
    tally = play(H200, members, 10.0, Member(live=True, phase_s=0.0))
    ((_, wait),) = tally.waits
    assert 0.385 <= wait <= 1.5
    assert 28 <= tally.chunks <= 31


def test_a_lane_and_a_play_agree_on_the_steady_state() -> None:
    lane = Lane(H200)
    for number, at in enumerate((0.0, 3.3, 7.6)):
        lane.start(str(number), at, live=True)
    lane.run(20.0)
    exact = lane.run(80.0)
    members = tuple(Member(live=True, phase_s=phase) for phase in (0.0, 0.3, 0.6))
    second = play(H200, members, 1.0)
    assert (exact.chunks, exact.late) == (second.chunks * 60, second.late * 60)
