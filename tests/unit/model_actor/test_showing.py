"""What is finished and not yet shown, and the clock that it follows."""

from __future__ import annotations

import math

import numpy as np
import pytest

from model_actor.engine.outputs import LEAD_S
from model_actor.engine.showing import Showing
from model_actor.engine.tracing import Answers, WindowTiming
from sana_gateway_internal.v1 import stream_pb2
from scheduler.core.chunks import Candidate, choose
from scheduler.core.geometry import Geometry
from scheduler.core.run import Run, WindowPlan

pytestmark = pytest.mark.unit

RATE = 24.0
START = 100.0


class Finisher:
    """Finishes the windows of a live run one after the other."""

    def __init__(self, run: int = 1) -> None:
        self.showing = Showing("s1", RATE, [])
        self.run = Run(run, Geometry(), 0, None)

    def next_plan(self) -> WindowPlan:
        plan = self.run.plan("a prompt")
        self.run.dispatch(plan)
        self.run.finish(plan.index)
        return plan

    def finish(
        self, now: float = START, asked_at: float | None = None
    ) -> list[stream_pb2.ChunkReady]:
        plan = self.next_plan()
        frames = np.zeros((plan.source_frames, 6, 4), np.uint8)
        return self.showing.finished(
            plan,
            frames,
            range(plan.first_frame, plan.first_frame + plan.source_frames),
            WindowTiming(0.0, 0.0),
            Answers(asked_at),
            now,
        )

    def report(
        self, next_frame: int, due_in_us: int, buffered: int, underruns: int = 0, now: float = START
    ) -> None:
        report = stream_pb2.Playout(
            run=self.run.number,
            next_frame=next_frame,
            due_in_us=due_in_us,
            buffered=buffered,
            underruns=underruns,
        )
        self.showing.report(report, now)

    def announced(self, now: float, unshown: int = 0) -> list[tuple[int, int, int]]:
        chunks = self.showing.announcements(now, unshown=unshown)
        return [(chunk.chunk, chunk.first_frame, chunk.frames) for chunk in chunks]


def test_the_first_frames_of_a_run_are_due_before_anybody_has_said_so() -> None:
    finisher = Finisher(run=3)
    finisher.finish(now=START)
    clock = finisher.showing.clock
    assert clock is not None
    assert (clock.run, clock.next_frame) == (3, 0)
    # Due so soon that its encoding begins now.
    assert clock.due(0) - LEAD_S <= START
    assert finisher.showing.unshown(3, START + 1.0) == 0, "nobody has said that it was shown"


def test_a_later_window_leaves_the_clock_to_its_owner() -> None:
    finisher = Finisher()
    finisher.finish()
    finisher.report(9, 40_000, 24)
    before = finisher.showing.clock
    finisher.finish(now=START + 0.5)
    assert finisher.showing.clock == before


def test_a_chunk_tells_how_long_ago_its_newest_command_came() -> None:
    finisher = Finisher()
    first, second = finisher.finish(now=START, asked_at=START - 0.25)
    assert (first.answers_command, first.command_age_us) == (True, 250_000)
    assert (second.answers_command, second.command_age_us) == (False, 0)
    (third,) = finisher.finish()
    assert (third.answers_command, third.command_age_us) == (False, 0)


def test_the_age_of_a_command_grows_until_a_later_gateway_hears_of_it() -> None:
    finisher = Finisher()
    finisher.finish(now=START, asked_at=START - 0.25)
    again = next(iter(finisher.showing.announcements(START + 1.0)))
    assert again.command_age_us == 1_250_000


def test_who_joins_is_told_of_the_frames_that_are_not_yet_due() -> None:
    finisher = Finisher()
    finisher.finish(asked_at=START)
    finisher.report(0, 0, 33)
    # Frame 12 is due half a second after frame 0.
    now = START + 12.5 / RATE
    unshown = finisher.showing.unshown(1, now)
    assert unshown == 13
    assert finisher.announced(now, unshown) == [(1, 13, 20)]
    assert finisher.announced(now) == [(0, 0, 9), (1, 9, 24)]


def test_the_rest_of_a_chunk_answers_no_command() -> None:
    finisher = Finisher()
    finisher.finish(asked_at=START)
    (rest, _) = finisher.showing.announcements(START, unshown=3)
    assert (rest.first_frame, rest.frames) == (3, 6)
    assert (rest.answers_command, rest.command_age_us) == (False, 0)


def test_the_clock_stands_while_nobody_takes_part() -> None:
    finisher = Finisher()
    finisher.finish()
    finisher.report(0, 0, 33)
    finisher.showing.stand(1, START + 5.5 / RATE)
    clock = finisher.showing.clock
    assert clock is not None
    assert clock.due(6) == math.inf
    assert clock.played(START + 1_000) == 6
    assert finisher.showing.unshown(1, START + 1_000) == 6


def test_who_adopts_goes_on_where_the_clock_stood() -> None:
    finisher = Finisher()
    finisher.finish()
    finisher.report(0, 0, 33)
    finisher.showing.stand(1, START + 5.5 / RATE)
    now = START + 60
    assert finisher.showing.adopt(1, now) is None, "no chunk was shown to its end"
    clock, held = finisher.showing.clock, finisher.showing.store.held
    assert clock is not None
    assert held is not None
    assert held.frame == 5
    assert clock.played(now) == 6, "an output that opens now begins with the first unshown frame"
    assert clock.due(6) - LEAD_S <= now
    assert finisher.announced(now, finisher.showing.unshown(1, now)) == [(0, 6, 3), (1, 9, 24)]


def test_a_chunk_shown_to_its_end_before_its_gateway_was_lost_is_told_of() -> None:
    finisher = Finisher()
    finisher.finish()
    finisher.report(0, 0, 33)
    finisher.showing.stand(1, START + 20.5 / RATE)
    assert finisher.showing.adopt(1, START + 60) == 0
    finisher.showing.commit(1, 0)
    now = START + 60
    assert finisher.announced(now, finisher.showing.unshown(1, now)) == [(1, 21, 12)]


def test_no_more_was_shown_than_the_lost_gateway_had_heard_of() -> None:
    finisher = Finisher()
    finisher.finish()
    finisher.report(0, 0, 9)
    finisher.showing.stand(1, START + 30)
    assert finisher.showing.unshown(1, START + 30) == 9


def test_a_gateway_that_adopts_and_is_lost_without_a_word_has_shown_nothing() -> None:
    finisher = Finisher()
    finisher.finish()
    finisher.report(0, 0, 33)
    finisher.showing.stand(1, START + 5.5 / RATE)
    finisher.showing.adopt(1, START + 10)
    finisher.showing.stand(1, START + 20)
    assert finisher.showing.unshown(1, START + 20) == 6


def test_a_clock_of_an_abandoned_run_says_nothing_of_the_next() -> None:
    finisher = Finisher(run=1)
    finisher.finish()
    finisher.report(0, 0, 33)
    finisher.showing.abandon(2, START + 5.5 / RATE)
    assert finisher.showing.unshown(2, START + 1) == 0
    assert finisher.announced(START + 1) == []
    held = finisher.showing.store.held
    assert held is not None
    assert held.frame == 5


def test_the_first_window_is_wanted_at_once() -> None:
    finisher = Finisher()
    assert finisher.showing.deadline(finisher.run.plan("p"), START) == (-math.inf, 0)


def test_what_the_gateway_reports_at_a_chunk_sets_the_deadline_of_the_next_window() -> None:
    finisher = Finisher()
    finisher.finish()
    finisher.report(9, 100_000, 24, underruns=1)
    deadline, ahead = finisher.showing.deadline(finisher.run.plan("p"), START)
    # Frame 33 is 24 periods after frame 9, which is due in a tenth of a second.
    assert deadline == pytest.approx(START + 0.1 + 24 / RATE - LEAD_S)
    assert ahead == 24
    later = START + 0.1 + 11.5 / RATE
    assert finisher.showing.deadline(finisher.run.plan("p"), later) == (deadline, 12)
    assert finisher.showing.clock is not None
    assert finisher.showing.clock.underruns == 1


def test_an_underrun_makes_a_window_overdue_and_so_the_next_to_run() -> None:
    finisher = Finisher()
    finisher.finish()
    finisher.report(33, -50_000, 0, underruns=1)
    deadline, ahead = finisher.showing.deadline(finisher.run.plan("p"), START)
    assert deadline < START
    assert ahead == 0


def test_a_session_whose_gateways_were_all_lost_is_not_held_back_for_ever() -> None:
    finisher = Finisher()
    for _ in range(4):
        finisher.finish()
    finisher.report(105, 0, 0)
    finisher.showing.commit(1, 4)
    finisher.showing.stand(1, START)
    now = START + 60
    finisher.showing.adopt(1, now)
    deadline, ahead = finisher.showing.deadline(finisher.run.plan("p"), now)
    assert ahead == 0
    candidate = Candidate("s1", now, deadline, live=False, cost_s=0.1, ahead=ahead)
    assert choose([candidate], now).keys == ("s1",)


@pytest.mark.parametrize("follows", [False, True])
def test_what_is_told_of_the_clock_before_the_first_chunk_counts_only_for_who_follows(
    follows: bool,
) -> None:
    finisher = Finisher()
    finisher.showing = Showing("s1", RATE, [], follows=follows)
    # Overdue, and of frames that were announced by an actor that is gone.
    finisher.report(9, -2_000_000, 15)
    finisher.finish(now=START)
    clock = finisher.showing.clock
    assert clock is not None
    assert clock.next_frame == (9 if follows else 0)
    assert (clock.due(clock.next_frame) < START) == follows


@pytest.mark.parametrize(
    ("ready", "finished", "late"),
    [
        (-0.5, -0.1, False),
        (-0.5, 0.4 / RATE, False),
        (-0.5, 0.6 / RATE, True),
        (0.4, 0.6, True),
        (2.0, 2.2, False),
    ],
    ids=["in time", "bridged", "too late", "late, having come late", "after a pause"],
)
def test_a_window_is_late_where_the_clock_has_to_wait_for_it(
    ready: float, finished: float, late: bool
) -> None:
    finisher = Finisher()
    finisher.finish()
    finisher.report(9, 1_000_000, 24)
    # The second window begins with frame 33, 24 after frame 9.
    due = START + 1.0 + 24 / RATE
    plan = finisher.next_plan()
    assert finisher.showing.late(plan, due + ready, due + finished) is late
