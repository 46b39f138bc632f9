"""The play-out clock under any order of announcements, waits, resets and failures."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.lead import CALM_CHUNKS, MAX_LEAD_S, TRANSITS_S
from gateway.playout import MAX_CHUNKS, STEP_US, TOLERANCE, Due, Playout

pytestmark = pytest.mark.properties


@dataclass(frozen=True)
class Step:
    """One thing that happens, `after` seconds after the one before."""

    kind: str
    after: float
    frames: int = 0
    rate: float = 24.0


STEPS = st.lists(
    st.builds(
        Step,
        kind=st.sampled_from(
            ["announce", "announce", "announce", "due", "due", "run", "hold", "arrive", "migrate"]
        ),
        after=st.sampled_from([0.0, 0.001, 1 / 24, 0.3, 1.0, 7.5]),
        frames=st.integers(1, 33),
        rate=st.sampled_from([16.0, 24.0, 30.0, 24000 / 1001]),
    ),
    max_size=60,
)


def replay(steps: list[Step], clock: Playout) -> tuple[list[Due], list[tuple[int, int]]]:
    """Returns what was handed out and which (run, frame) were announced and never voided."""
    now, run, frame, chunk = 100.0, 1, 0, 0
    handed_out: list[Due] = []
    announced: list[tuple[int, int]] = []
    for step in steps:
        now += step.after
        if step.kind == "announce":
            if clock.report(now).buffered == 0 or chunk < MAX_CHUNKS // 2:
                clock.chunk(run, chunk, frame, step.frames, step.rate, now)
                announced += [(run, frame + index) for index in range(step.frames)]
                frame += step.frames
                chunk += 1
        elif step.kind == "run":
            shown = {(due.run, due.frame) for due in handed_out}
            announced = [at for at in announced if at in shown]
            run, frame, chunk = run + 1, 0, 0
            clock.abandon(run)
        elif step.kind == "hold":
            clock.hold()
        elif step.kind == "arrive":
            if clock.awaited is not None:
                clock.arrived(now)
        elif step.kind == "migrate":
            # The actor is gone; the next one announces from the first frame not shown.
            clock.withdraw()
            shown = {(due.run, due.frame) for due in handed_out}
            announced = [at for at in announced if at in shown]
            frame = clock.report(now).next_frame if clock.report(now).run == run else 0
        else:
            due = clock.due(now)
            assert all(one.due_at <= now for one in due)
            handed_out += due
    while (at := clock.next_due()) is not None:
        now = max(now, at)
        handed_out += clock.due(now)
    return handed_out, announced


@given(STEPS)
@settings(deadline=None)
def test_no_announced_frame_is_lost_repeated_or_out_of_order(steps: list[Step]) -> None:
    handed_out, announced = replay(steps, Playout())
    assert [(due.run, due.frame) for due in handed_out] == announced


@given(STEPS)
@settings(deadline=None)
def test_deadlines_never_fall_and_timestamps_strictly_rise(steps: list[Step]) -> None:
    handed_out, _ = replay(steps, Playout())
    for before, after in itertools.pairwise(handed_out):
        assert after.due_at >= before.due_at
        assert after.timestamp_us >= before.timestamp_us + STEP_US


@given(STEPS)
@settings(deadline=None)
def test_timestamps_are_the_distance_of_deadlines(steps: list[Step]) -> None:
    handed_out, _ = replay(steps, Playout())
    for due in handed_out:
        exact = (due.due_at - handed_out[0].due_at) * 1e6
        assert due.timestamp_us == pytest.approx(exact, abs=1 + STEP_US * len(handed_out))


@given(STEPS)
@settings(deadline=None)
def test_the_last_frame_of_every_chunk_is_marked_once(steps: list[Step]) -> None:
    handed_out, _ = replay(steps, Playout())
    last = {(due.run, due.chunk): due.frame for due in handed_out}
    marked = [(due.run, due.chunk, due.frame) for due in handed_out if due.last_of_chunk]
    assert len(marked) == len({at[:2] for at in marked})
    for run, chunk, frame in marked:
        assert last[run, chunk] == frame


@given(
    st.floats(0, 1e6),
    st.sampled_from([16.0, 24.0, 24000 / 1001]),
    st.lists(st.floats(0, 0.02), min_size=1, max_size=40),
)
@settings(max_examples=20, deadline=None)
def test_a_late_loop_never_moves_the_deadlines(
    start: float, rate: float, lateness: list[float]
) -> None:
    clock = Playout()
    clock.chunk(1, 0, 0, len(lateness), rate, start)
    first = clock.next_due()
    assert first is not None
    handed_out: list[Due] = []
    for late in lateness:
        at = clock.next_due()
        if at is not None:
            handed_out += clock.due(at + late)
    for index, due in enumerate(handed_out):
        assert due.due_at == pytest.approx(first + index / rate, abs=1e-6)


def test_a_hundred_thousand_frames_drift_by_nothing() -> None:
    clock = Playout()
    frames, start, chunk = 100_000, 5.0, 20
    clock.chunk(1, 0, 0, chunk, 24.0, start)
    first = clock.next_due()
    assert first is not None
    played = 0
    for index in range(1, frames // chunk + 1):
        if index < frames // chunk:
            clock.chunk(1, index, index * chunk, chunk, 24.0, start + played / 24)
        for _ in range(chunk):
            at = clock.next_due()
            assert at is not None
            (due,) = clock.due(at)
            played += 1
    assert played == frames
    assert due.frame == frames - 1
    assert due.due_at == pytest.approx(first + (frames - 1) / 24, abs=1e-6)
    assert due.timestamp_us == pytest.approx((frames - 1) / 24 * 1e6, abs=1)
    assert clock.report(due.due_at).underruns == 0


TIMES = st.lists(st.floats(0, 0.3), min_size=1, max_size=CALM_CHUNKS // 2)
"""How much later than even chunks become ready, over and over."""


def play_until(clock: Playout, now: float) -> None:
    """Hands out what is due, each frame at its time."""
    while (at := clock.next_due()) is not None and at <= now:
        clock.due(at)


@given(TIMES, st.sampled_from([16.0, 24.0]), st.floats(0, 0.1))
@settings(deadline=None, max_examples=50)
def test_a_model_of_any_rhythm_comes_to_have_no_underruns(
    times: list[float], rate: float, transit_s: float
) -> None:
    clock, frames = Playout(), 24
    period = frames / rate
    underruns: list[int] = []
    for chunk in range(40 * len(times)):
        now = chunk * period + times[chunk % len(times)]
        play_until(clock, now)
        clock.chunk(1, chunk, chunk * frames, frames, rate, now)
        if clock.awaited is not None:
            clock.arrived(now + transit_s)
        report = clock.report(now)
        underruns.append(report.underruns)
        behind = now + report.due_in_s + (report.buffered - frames) / rate - chunk * period
        assert behind <= max(times) + MAX_LEAD_S + 1e-6, "the delay is bounded"
        assert clock.lead.margin_s >= 0
        assert clock.lead.total_s <= MAX_LEAD_S + 1e-9
        assert TRANSITS_S[0] <= clock.lead.transit_s <= TRANSITS_S[1]
    assert underruns[-1] == underruns[len(underruns) // 2]


@given(st.floats(-0.5, 1.0), st.integers(24, 200), st.sampled_from([16.0, 24.0]))
@settings(deadline=None, max_examples=50)
def test_a_model_that_waits_for_its_deadlines_gains_no_delay(
    share: float, chunks: int, rate: float
) -> None:
    clock, frames = Playout(), 8
    clock.chunk(1, 0, 0, frames, rate, 0.0)
    first = clock.next_due()
    assert first is not None
    due = first
    for chunk in range(1, chunks):
        # Ready at the deadline that the clock reports, or a share of its tolerance late.
        now = due + frames / rate + share * TOLERANCE / rate - clock.lead.transit_s
        play_until(clock, now)
        clock.chunk(1, chunk, chunk * frames, frames, rate, now - 1e-6)
        report = clock.report(now)
        due = now + report.due_in_s + (report.buffered - frames) / rate
    assert due == pytest.approx(first + (chunks - 1) * frames / rate, abs=1e-3)
    assert clock.report(due).underruns == 0
