"""Every client-side metric from frames of known times."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from sdk_adapters.harness.generator.chunks import CENSORED_S
from sdk_adapters.harness.generator.watching import ANCHOR_S, FREEZE_S, Watching, Window
from sdk_adapters.harness.records import SessionRecord

pytestmark = pytest.mark.unit

PERIOD = 1 / 24
LATE = pytest.approx
ALWAYS = Window(0.0, 1e9)


@dataclass
class User:
    """A user before a session whose frames come as they are told."""

    window: Window = ALWAYS
    _values: dict[str, list[float]] = field(default_factory=dict)
    late: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.record = SessionRecord(
            0, 0, "grpc", "h264", "", live=False, decoded=False, planned_s=0
        )
        self.watching = Watching(self.record, self.window, self.add, self.late.append)

    def add(self, metric: str, value: float, at: float) -> None:
        if self.window.begin <= at < self.window.end:
            self._values.setdefault(metric, []).append(value)

    @property
    def values(self) -> dict[str, list[float]]:
        """All values so far, by metric."""
        self.watching.settle()
        return self._values

    def plays(
        self,
        frames: range,
        *,
        run: int = 1,
        begin: float = 10.0,
        delay: float = 0.0,
        size: int = 1000,
    ) -> None:
        """Brings frames at their times; the first of the run is due at `begin`."""
        for frame in frames:
            due = begin + frame * PERIOD
            self.watching.frame(due + delay, run, frame, due, size)

    def closed(self, at: float) -> dict[str, float]:
        """Ends it; returns the counts."""
        self.watching.close(at)
        return self.record.counts


def begun(window: Window = ALWAYS) -> User:
    """Returns a user who sent `start` at second 9.5."""
    user = User(window)
    user.watching.starts(9.5)
    return user


def test_a_smooth_run_is_clean() -> None:
    user = begun()
    user.plays(range(48))
    counts = user.closed(12.0)
    assert user.values["start_to_first_frame"] == [LATE(500)]
    assert (counts["frames_shown"], counts["frames_lost"], counts["frames_repeated"]) == (48, 0, 0)
    assert (counts["freezes"], counts["frozen_s"]) == (0, 0)
    assert counts["playing_s"] == LATE(47 * PERIOD)
    assert user.record.values["frame_rate"].avg == LATE(24.0)
    assert user.record.values["bitrate"].avg == LATE(192.0)


def test_a_frame_that_comes_late_shows_as_so_much_lateness() -> None:
    user = begun()
    user.plays(range(24))
    user.plays(range(24, 25), delay=0.2)
    user.plays(range(25, 30))
    assert max(user.late) == LATE(200)
    assert sorted(user.late)[-2] == LATE(0)


def test_lateness_knows_nothing_of_the_distance_of_two_clocks() -> None:
    user = begun()
    for frame in range(48):
        user.watching.frame(10 + frame * PERIOD, 1, frame, 7_000.0 + frame * PERIOD, 1)
    assert max(user.late) == LATE(0, abs=1e-6)


def test_a_clock_that_drifts_makes_no_frame_late_for_ever() -> None:
    user = begun()
    drift = 100e-6
    for frame in range(round(40 * ANCHOR_S * 24)):
        due = frame * PERIOD
        user.watching.frame(10 + due * (1 + drift), 1, frame, due, 1)
        if frame % 24 == 0:
            user.watching.chunk(1, frame // 24, frame, 0, 10 + due)
    assert max(user.late) < 2.5 * ANCHOR_S * drift * 1e3


def test_missing_frames_are_lost_and_those_that_come_after_all_are_not() -> None:
    user = begun()
    user.plays(range(10))
    user.plays(range(15, 20))
    user.watching.frame(11.0, 1, 12, 10 + 12 * PERIOD, 1)
    assert user.watching.numbers.lost == 4
    counts = user.closed(11.1)
    assert (counts["frames_lost"], counts["frames_shown"]) == (4, 16)


def test_a_dropped_frame_counts_once() -> None:
    user = begun()
    for frame in range(48):
        if frame != 20:
            user.plays(range(frame, frame + 1))
    counts = user.closed(12.0)
    assert (counts["frames_lost"], counts["freezes"], counts["frames_repeated"]) == (1, 0, 0)


def test_the_first_frames_of_a_run_and_the_last_of_a_clip_may_not_be_missing() -> None:
    user = begun()
    user.plays(range(3, 20))
    user.watching.completed(24)
    assert user.watching.numbers.lost == 3
    assert user.closed(12.0)["frames_lost"] == 7


def test_the_last_frames_of_a_clip_may_come_after_its_end_was_told() -> None:
    user = begun()
    user.plays(range(20))
    user.watching.completed(24)
    user.watching.starts(11.0)
    user.plays(range(20, 24))
    user.plays(range(5), run=2, begin=12.0)
    counts = user.closed(12.2)
    assert counts["frames_lost"] == 0
    assert user.values["start_to_first_frame"] == [LATE(500), LATE(1000)]


def test_a_frame_that_comes_again_is_repeated() -> None:
    user = begun()
    user.plays(range(10))
    user.plays(range(8, 10))
    assert user.closed(10.5)["frames_repeated"] == 2


def test_the_newest_picture_again_after_a_while_is_held() -> None:
    user = begun()
    user.plays(range(10))
    for repeat in range(3):
        due = 10 + 9 * PERIOD + 0.25 * (repeat + 1)
        assert not user.watching.frame(due, 1, 9, due, 1)
    assert user.closed(11.2)["frames_repeated"] == 0


def test_frames_of_a_run_that_is_over_say_nothing() -> None:
    user = begun()
    user.plays(range(10), run=2)
    assert not user.watching.frame(10.5, 1, 3, 10.5, 1)
    counts = user.closed(10.5)
    assert (counts["frames_repeated"], counts["frames_shown"]) == (0, 10)


@pytest.mark.parametrize(("gap", "freezes"), [(FREEZE_S - 0.01, 0), (FREEZE_S + 0.01, 1), (2.0, 1)])
def test_a_long_time_without_a_frame_is_a_freeze(gap: float, freezes: int) -> None:
    user = begun()
    user.watching.frame(10.0, 1, 0, 10.0, 1)
    user.watching.frame(10.0 + gap, 1, 1, 10.0 + gap, 1)
    counts = user.closed(10.1 + gap)
    assert counts["freezes"] == freezes
    assert counts["frozen_s"] == LATE(gap if freezes else 0)
    assert user.record.freezes == [(LATE(10.0), LATE(10.0 + gap))] * freezes


def test_a_freeze_that_lasts_to_the_end_counts() -> None:
    user = begun()
    user.plays(range(24))
    counts = user.closed(16.0)
    assert (counts["freezes"], counts["frozen_s"]) == (1, LATE(16 - 10 - 23 * PERIOD))
    assert user.record.freezes == [(LATE(10 + 23 * PERIOD), float("inf"))]
    assert counts["playing_s"] == LATE(6.0)


def test_a_freeze_that_lasts_until_the_user_gives_up_and_pauses_counts() -> None:
    user = begun()
    user.plays(range(24))
    last = 10.0 + 23 * PERIOD
    user.watching.stops(last + 5.0)
    counts = user.closed(30.0)
    assert (counts["freezes"], counts["frozen_s"]) == (1, LATE(5.0))
    assert counts["playing_s"] == LATE(23 * PERIOD + 5.0)
    assert user.record.freezes == [(LATE(last), LATE(last + 5.0))]


def test_neither_a_pause_nor_the_end_of_a_clip_is_a_freeze() -> None:
    user = begun()
    user.plays(range(24))
    user.watching.stops()
    user.watching.resumes(15.0, paused=True)
    user.plays(range(24, 48), begin=15.25 - 24 * PERIOD)
    user.watching.completed(48)
    counts = user.closed(30.0)
    assert (counts["freezes"], counts["frames_lost"]) == (0, 0)
    assert user.values["pause_to_resume"] == [LATE(250)]
    assert counts["playing_s"] == LATE(46 * PERIOD)


def test_a_first_frame_that_was_given_up_counts_with_what_was_waited() -> None:
    user = begun()
    user.plays(range(24))
    user.watching.stops(11.0)
    user.watching.resumes(12.0, paused=True)
    user.watching.stops(20.0)
    assert user.values["pause_to_resume"] == [LATE(8000)]


def test_a_resume_before_the_session_paused_is_no_pause() -> None:
    user = begun()
    user.plays(range(24))
    user.watching.stops()
    user.plays(range(24, 30))
    user.watching.resumes(11.3, paused=False)
    user.plays(range(30, 48), delay=0.0)
    assert "pause_to_resume" not in user.values
    assert user.closed(12.0)["freezes"] == 0


def test_who_joins_what_others_play_counts_from_the_first_frame_on() -> None:
    user = User()
    user.watching.joins()
    user.plays(range(24, 48))
    user.watching.stops()
    user.watching.joins()
    # Others paused it for ten seconds.
    user.plays(range(48, 72), begin=20.0)
    counts = user.closed(20.0 + 72 * PERIOD)
    assert (counts["frames_shown"], counts["frames_lost"], counts["freezes"]) == (48, 0, 0)
    assert counts["playing_s"] == LATE(46 * PERIOD)
    assert not {"start_to_first_frame", "pause_to_resume"} & user.values.keys()


def test_chunks_have_intervals_and_the_jitter_of_them() -> None:
    user = begun()
    user.plays(range(9))
    user.watching.chunk(1, 0, 0, 0, 10.0)
    user.plays(range(9, 33), delay=0.2)
    user.watching.chunk(1, 1, 9, 0, 10.6)
    user.plays(range(33, 57))
    user.watching.chunk(1, 2, 33, 1, 11.4)
    assert user.values["chunk_interval"] == [LATE(9 * PERIOD * 1e3 + 200), LATE(800)]
    assert user.values["chunk_jitter"] == [LATE(200), LATE(200)]
    assert user.closed(12.5)["underruns"] == 1


def test_a_chunk_after_a_pause_makes_no_interval() -> None:
    user = begun()
    user.plays(range(24))
    user.watching.chunk(1, 0, 0, 0, 10.0)
    user.watching.stops()
    user.watching.resumes(15.0, paused=True)
    user.plays(range(24, 48), begin=15.25 - 24 * PERIOD)
    user.watching.chunk(1, 1, 24, 0, 15.25)
    assert "chunk_interval" not in user.values


def test_a_prompt_counts_to_the_first_frame_of_the_chunk_made_with_it() -> None:
    user = begun()
    user.plays(range(24))
    user.watching.chunk(1, 0, 0, 0, 10.0)
    user.watching.prompted("first", 1, 10.4)
    user.watching.prompted("second", 2, 10.5)
    user.plays(range(24, 48))
    user.watching.chunk(1, 1, 24, 0, 11.0)
    user.watching.chunk_complete(0, "before", 11.0)
    user.watching.chunk_complete(1, "second", 12.0)
    assert user.values["prompt_to_pixels"] == [LATE(500)]
    user.watching.close(12.0 + 2 * CENSORED_S)
    assert len(user.values["prompt_to_pixels"]) == 1


def test_pictures_that_tell_their_prompt_are_believed() -> None:
    user = begun()
    user.plays(range(24))
    user.watching.chunk(1, 0, 0, 0, 10.0)
    user.watching.prompted("new", 7, 10.3)
    user.watching.picture(3, 10.4)
    user.watching.chunk_complete(0, "new", 11.0)
    user.watching.picture(7, 10.9)
    assert user.values["prompt_to_pixels"] == [LATE(600)]
    assert user.closed(11.0)["by_pixels"] == 1


def test_a_prompt_that_nobody_answered_counts_with_what_it_waited() -> None:
    user = begun()
    user.plays(range(24))
    user.watching.prompted("new", 7, 11.0)
    user.watching.close(19.0)
    assert user.values["prompt_to_pixels"] == [LATE(8000)]


def test_the_longest_gap_around_a_move_is_its_gap() -> None:
    user = begun()
    user.plays(range(24))
    user.plays(range(24, 48), delay=0.3)
    user.watching.moved(11.5)
    user.plays(range(48, 216), delay=0.3)
    user.watching.chunk_complete(8, "", 19.0)
    assert user.values["migration_gap"] == [LATE(300 + PERIOD * 1e3)]
    assert user.closed(19.2)["moves"] == 1


def test_a_move_without_a_gap_cost_a_frame_period() -> None:
    user = begun()
    user.plays(range(24))
    user.watching.moved(10.5)
    user.closed(10.0 + 23.5 * PERIOD)
    assert user.values["migration_gap"] == [LATE(PERIOD * 1e3)]


def test_coming_back_is_measured_to_the_next_new_frame() -> None:
    user = begun()
    user.plays(range(24))
    user.watching.disconnected(11.0)
    user.watching.disconnected(11.2)
    user.watching.connected()
    assert not user.watching.frame(12.4, 1, 23, 0.0, 1)
    user.watching.frame(12.5, 1, 24, 0.1, 1)
    assert user.values["reconnect"] == [LATE(1500)]
    counts = user.closed(12.5)
    assert (counts["frames_repeated"], counts["freezes"]) == (0, 1)


def test_what_lies_outside_the_measured_time_does_not_count() -> None:
    user = begun(Window(10.5, 11.5))
    user.plays(range(5))
    user.plays(range(10, 40))
    user.plays(range(45, 60))
    counts = user.closed(30.0)
    assert "start_to_first_frame" not in user.values
    assert counts["frames_lost"] == 0
    assert counts["frames_shown"] == 24
    assert counts["playing_s"] == LATE(1.0, abs=0.001)
    assert counts["freezes"] == 0


def test_glass_to_glass_goes_by_pixels_once_they_tell() -> None:
    user = begun()
    user.watching.glass(10.0, 11.0)
    user.watching.glass(10.0, 11.2, by_pixels=True)
    user.watching.glass(10.0, 15.0)
    user.watching.glass(20.0, 15.0, by_pixels=True)
    assert user.values["glass_to_glass"] == [LATE(1000), LATE(1200)]
