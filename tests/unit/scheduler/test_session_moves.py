"""Going on at another actor: what is lost, what is made again, what clients are told."""

from __future__ import annotations

import pytest

from scheduler.core.commands import (
    Mode,
    Pause,
    RejectReason,
    Reset,
    Resume,
    SetPrompt,
    SetVideo,
    Start,
)
from scheduler.core.effects import Abandon, Ack, Asker, Effect, Probe
from scheduler.core.errors import InvariantError
from scheduler.core.geometry import Geometry, OutwardChunk
from scheduler.core.messages import (
    ChunkComplete,
    Continuity,
    GenerationComplete,
    GenerationStarted,
    Phase,
    SessionMoved,
    State,
)
from scheduler.core.prompts import Blend
from scheduler.core.run import usable_states
from scheduler.core.session import Session
from scheduler.core.snapshot import REMADE_WINDOWS, KeptModel, RunSnapshot
from tests.unit.scheduler.session_driver import (
    CLIP,
    SessionDriver,
    awaiting_after_resume,
    error,
    in_phase,
    kinds,
    live,
    only,
    said,
    state,
)

pytestmark = pytest.mark.unit

LONG = 33 + 20 * 24


def playing(*, windows: int, frames: int = LONG) -> SessionDriver:
    """Returns a session that made some windows of a clip, each with its own prompt."""
    driver = SessionDriver()
    driver.stage_clip(frames)
    driver.start()
    for window in range(windows):
        driver.say(SetPrompt(f"prompt {window}"))
        driver.make_window()
    return driver


def run_of(driver: SessionDriver) -> RunSnapshot:
    run = driver.session.snapshot().run
    assert run is not None
    return run


def moved(effects: list[Effect]) -> Continuity:
    (told,) = said(effects, SessionMoved)
    assert isinstance(told.message.payload, SessionMoved)
    return told.message.payload.continuity


def completed(effects: list[Effect]) -> list[tuple[int, int]]:
    """Returns index and frames of the chunks that were told to be complete."""
    told = [each.message.payload for each in said(effects, ChunkComplete)]
    return [
        (each.chunk_index, each.frames_emitted) for each in told if isinstance(each, ChunkComplete)
    ]


# What is told


def test_all_are_told_of_a_move_and_then_of_the_state() -> None:
    driver = playing(windows=1)
    effects = driver.move(handed_over=True, computing=True)
    assert kinds(effects) == ["SessionMoved", "State"]
    assert said(effects, SessionMoved)[0].message.payload == SessionMoved(
        Continuity.EXACT, "its worker was lost"
    )


def test_nobody_is_told_of_the_move_of_a_session_that_did_nothing_yet() -> None:
    assert kinds(SessionDriver().move()) == ["State"]


def test_revisions_go_on_above_the_highest_that_anybody_has_seen() -> None:
    driver = playing(windows=1)
    known = driver.session.revision
    driver.move(computing=True)
    assert driver.session.revision == known + 2
    effects = driver.move(computing=True, revision=500)
    assert [each.message.revision for each in said(effects, SessionMoved)] == [501]


def test_a_command_that_was_handled_is_answered_as_before() -> None:
    driver = in_phase(Phase.RUNNING)
    driver.say(Reset(), command_id="r")
    driver.say(Pause(), command_id="refused")
    driver.move()
    assert driver.say(Reset(), command_id="r", connection=9) == [Ack(Asker(9, "r"), accepted=True)]
    assert driver.say(Pause(), command_id="refused") == [Ack(Asker(1, "refused"), accepted=False)]


def test_the_camera_is_unknown_until_the_gateway_tells_of_it() -> None:
    driver = live()
    driver.move(computing=True)
    assert driver.wait(1.0)
    assert not driver.session.state().running


# Handed over


@pytest.mark.parametrize("shown", [0, 20])
def test_a_session_that_was_handed_over_goes_on_with_its_next_window(shown: int) -> None:
    driver = playing(windows=3)
    expected = driver.plan()
    driver.move(handed_over=True, computing=True, next_frame=shown, kept_windows=3)
    assert driver.plan() == expected
    left = completed(driver.commit(3))
    assert left == [(0, 9), (1, 24), (2, 24), (3, 24)][1 if shown else 0 :]


def test_what_was_shown_and_never_acknowledged_is_complete_at_once() -> None:
    driver = playing(windows=2)
    effects = driver.move(handed_over=True, computing=True, next_frame=33)
    assert kinds(effects) == [
        "SessionMoved", "ChunkComplete", "State", "ChunkComplete", "State", "State",
    ]  # fmt: skip
    assert completed(effects) == [(0, 9), (1, 24)]
    assert state(effects).current_chunk == 2


def test_a_clip_that_is_made_and_not_shown_needs_no_compute() -> None:
    driver = playing(windows=2, frames=57)
    assert kinds(driver.move(handed_over=True)) == ["SessionMoved", "State"]
    assert kinds(driver.move(handed_over=True, computing=True))[-2:] == ["Unbook", "State"]
    assert driver.session.phase is Phase.RUNNING
    assert said(driver.commit(2), GenerationComplete)


def test_nothing_is_handed_over_with_a_window_under_way() -> None:
    with pytest.raises(InvariantError):
        in_phase(Phase.PAUSING).move(handed_over=True)


# A clip that is made again


@pytest.mark.parametrize(("kept", "next_frame"), [(0, 0), (0, 40), (2, 57), (2, 60), (3, 99)])
def test_windows_are_made_again_with_the_prompts_they_were_made_with(
    kept: int, next_frame: int
) -> None:
    driver = playing(windows=4)
    driver.say(SetPrompt("new"))
    before = run_of(driver)
    effects = driver.move(computing=True, kept_windows=kept, next_frame=next_frame)
    assert moved(effects) is Continuity.EXACT
    again = [driver.make_window() for _ in range(kept, 4)]
    assert [plan.prompt for plan in again] == [f"prompt {index}" for index in range(kept, 4)]
    assert [plan.index for plan in again] == list(range(kept, 4))
    assert [plan.first_frame for plan in again] == [
        Geometry().window_start(index) for index in range(kept, 4)
    ]
    assert again[-1].chunks[-1] == before.unshown[-1][0]
    assert driver.make_window().prompt == "new"


def test_what_was_shown_before_is_made_again_and_not_shown_again() -> None:
    driver = playing(windows=4)
    driver.move(computing=True, kept_windows=0, next_frame=60)
    assert [driver.make_window().skip for _ in range(5)] == [33, 24, 3, 0, 0]


def test_chunks_are_told_to_be_complete_once() -> None:
    driver = playing(windows=4)
    driver.commit(1)
    effects = driver.move(computing=True, kept_windows=1, next_frame=60)
    assert completed(effects) == [(2, 24)]
    for _ in range(1, 4):
        driver.make_window()
    assert completed(driver.commit(4)) == [(3, 24), (4, 24)]


def test_a_clip_that_moved_ends_with_all_its_frames() -> None:
    driver = playing(windows=3, frames=67)
    effects = driver.move(computing=True, next_frame=30)
    effects += driver.play_clip()
    assert completed(effects) == [(0, 9), (1, 24), (2, 24), (3, 10)]
    assert said(effects, GenerationComplete)[0].message.payload == GenerationComplete(4)


def test_a_clip_that_was_shown_to_its_end_is_complete() -> None:
    driver = playing(windows=3, frames=67)
    effects = driver.move(computing=True, kept_windows=1, next_frame=67)
    assert kinds(effects)[-3:] == ["GenerationComplete", "Unbook", "State"]
    assert driver.session.phase is Phase.IDLE
    assert state(effects).current_chunk == 4


def test_generation_started_is_not_told_again() -> None:
    driver = playing(windows=1)
    assert not said(driver.move(computing=True), GenerationStarted)
    assert driver.plan().index == 0
    assert not said(driver.dispatch(), GenerationStarted)


def test_frames_that_were_shown_count_as_made_even_if_the_snapshot_does_not_know() -> None:
    driver = SessionDriver()
    driver.stage_clip(LONG)
    driver.say(Start())
    effects = driver.move(run=1, next_frame=40)
    assert moved(effects) is Continuity.EXACT
    assert completed(effects) == [(0, 9), (1, 24)]
    assert driver.session.snapshot().due == ()
    driver.booked(effects)
    assert not said(driver.dispatch(), GenerationStarted)
    driver.session.generated(1, 0, driver.now)
    assert driver.make_window().skip == 7
    assert completed(driver.commit(2)) == [(2, 24)]


# Which states of the model are of use


def test_a_state_is_of_use_only_when_all_before_it_was_shown() -> None:
    run = run_of(playing(windows=4))
    assert usable_states(Geometry(), run, 0) == range(1)
    assert usable_states(Geometry(), run, 56) == range(2)
    assert usable_states(Geometry(), run, 57) == range(3)
    assert usable_states(Geometry(), run, 200) == range(5)


def test_a_live_model_counts_on_from_any_state() -> None:
    usable = usable_states(Geometry(), run_of(live(windows=3)), 0)
    assert {1, 3, 9} <= set(usable[:20])
    assert 0 not in usable


def test_the_state_before_is_needed_until_a_later_one_is_shown() -> None:
    driver = playing(windows=4)
    driver.session.model_kept(1, 3)
    assert run_of(driver).kept == KeptModel(
        0, tuple(Blend(f"prompt {index}") for index in range(4))
    )
    driver.commit(3)
    assert run_of(driver).kept == KeptModel(3, (Blend("prompt 3"),))


def test_a_state_that_cannot_be_used_is_not_used() -> None:
    driver = playing(windows=4)
    driver.session.model_kept(1, 2)
    driver.commit(2)
    effects = driver.move(computing=True, kept_windows=4, next_frame=60)
    assert moved(effects) is Continuity.RESTARTED


def test_prompts_are_remembered_for_so_many_windows_only() -> None:
    driver = playing(windows=REMADE_WINDOWS)
    assert run_of(driver).kept is not None
    driver.make_window()
    assert run_of(driver).kept is None
    driver.session.model_kept(1, REMADE_WINDOWS)
    assert run_of(driver).kept == KeptModel(
        REMADE_WINDOWS, (Blend(f"prompt {REMADE_WINDOWS - 1}"),)
    )
    assert moved(driver.move(computing=True)) is Continuity.RESTARTED


def test_of_an_abandoned_run_no_state_is_of_interest() -> None:
    driver = playing(windows=2)
    driver.say(Reset())
    driver.session.model_kept(1, 2)
    assert driver.session.snapshot().run is None


def test_a_state_after_windows_that_were_never_made_is_our_own_error() -> None:
    with pytest.raises(InvariantError):
        playing(windows=2).session.model_kept(1, 3)


# The model begins anew


def restarted(next_frame: int, *, frames: int = LONG) -> tuple[SessionDriver, list[Effect]]:
    """Returns a session whose model is lost, with all that was ever remembered of it."""
    driver = playing(windows=3, frames=frames)
    driver.session.model_kept(1, 1)
    driver.commit(1)
    effects = driver.move(computing=True, next_frame=next_frame)
    assert moved(effects) is Continuity.RESTARTED
    return driver, effects


def test_without_its_state_the_model_begins_anew_at_the_first_frame_not_shown() -> None:
    driver, effects = restarted(next_frame=40)
    assert completed(effects) == [(2, 7)]
    plan = driver.plan()
    assert (plan.index, plan.first_frame, plan.source_frames, plan.frames) == (0, 40, 33, 33)
    assert plan.chunks == (OutwardChunk(3, 40, 9), OutwardChunk(4, 49, 24))
    assert plan.skip == 0
    driver.make_window()
    assert (driver.plan().index, driver.plan().first_frame) == (1, 73)


@pytest.mark.parametrize("next_frame", [34, 57, 66])
def test_fewer_frames_than_a_window_are_padded_to_one(next_frame: int) -> None:
    driver, effects = restarted(next_frame, frames=67)
    plan = driver.plan()
    assert (plan.source_frames, plan.frames, plan.last) == (33, 67 - next_frame, True)
    effects += driver.play_clip()
    assert sum(frames for _, frames in completed(effects)) == 67 - 33
    assert said(effects, GenerationComplete)


def test_after_that_it_can_be_made_again_from_there() -> None:
    driver, _ = restarted(next_frame=40)
    driver.make_window()
    driver.say(SetPrompt("new"))
    effects = driver.move(computing=True, next_frame=50)
    assert moved(effects) is Continuity.EXACT
    assert (driver.plan().first_frame, driver.plan().skip) == (40, 10)
    assert driver.plan().prompt == "prompt 2"


# Live


def test_a_live_session_goes_on_with_what_the_camera_sends_now() -> None:
    driver = live(windows=4)
    effects = driver.move(computing=True, kept_windows=4, next_frame=40)
    assert moved(effects) is Continuity.LIVE_EDGE
    assert completed(effects) == [(0, 9), (1, 24), (2, 7)]
    plan = driver.plan()
    assert (plan.index, plan.first_frame, plan.source_frames) == (4, 40, 24)
    assert plan.chunks == (OutwardChunk(3, 40, 24),)
    assert completed([*driver.dispatch(), *driver.commit(3)]) == [(3, 24)]


def test_its_chunk_of_which_nothing_was_shown_does_not_exist() -> None:
    driver = live(windows=2)
    driver.move(computing=True, kept_windows=1, next_frame=9)
    assert driver.plan().chunks == (OutwardChunk(1, 9, 24),)


def test_a_live_session_without_a_state_begins_anew() -> None:
    driver = live(windows=2)
    assert moved(driver.move(computing=True, next_frame=40)) is Continuity.RESTARTED
    assert (driver.plan().index, driver.plan().first_frame) == (0, 40)
    assert not said(driver.dispatch(), GenerationStarted)


def test_a_live_session_that_was_paused_with_all_shown_lacks_nothing() -> None:
    driver = live(windows=2)
    driver.say(Pause())
    assert moved(driver.move(kept_windows=2, next_frame=57)) is Continuity.EXACT


def test_a_live_session_that_ran_lacks_what_the_camera_sent_meanwhile() -> None:
    driver = live(windows=2)
    effects = driver.move(kept_windows=2, next_frame=57)
    assert moved(effects) is Continuity.LIVE_EDGE


# Phases


def test_compute_that_is_booked_there_lets_it_run_on() -> None:
    driver = playing(windows=1)
    effects = driver.move(computing=True)
    assert kinds(effects) == ["SessionMoved", "State"]
    assert state(effects).running
    assert driver.plan().prompt == "prompt 0"


def test_without_it_compute_is_asked_for_and_no_client_waits() -> None:
    driver = playing(windows=1)
    effects = driver.move()
    assert kinds(effects) == ["SessionMoved", "Book", "State"]
    assert not state(effects).running
    driver.wait(60.0)
    assert driver.session.state().phase is Phase.AWAITING_COMPUTE
    driver.booked(effects)
    assert driver.session.state().phase is Phase.RUNNING


def test_a_start_that_waits_for_compute_is_answered_where_it_goes_on() -> None:
    driver = SessionDriver()
    driver.stage_clip()
    driver.say(Start(), command_id="s")
    effects = driver.move()
    driver.booked(effects)
    (started,) = said(driver.dispatch(), GenerationStarted)
    assert started.asker == Asker(1, "s")


def test_a_wait_for_compute_begins_anew() -> None:
    driver = awaiting_after_resume()
    driver.wait(20.0)
    driver.move()
    assert not driver.wait(29.0)
    assert error(driver.wait(1.0)).code is RejectReason.NO_CAPACITY
    assert driver.session.phase is Phase.PAUSED


def test_a_wait_for_the_camera_begins_anew() -> None:
    driver = SessionDriver()
    driver.say(SetPrompt("in snow"))
    driver.say(Start(), command_id="s")
    driver.wait(1.5)
    assert kinds(driver.move(computing=True)) == ["SessionMoved", "Unbook", "State"]
    assert not driver.wait(1.9)
    assert error(driver.wait(0.1)).code is RejectReason.NO_SOURCE


def test_a_clip_that_was_being_examined_is_examined_again() -> None:
    driver = in_phase(Phase.AWAITING_SOURCE)
    effects = driver.move()
    assert only(effects, Probe).video.upload_id == "upload-2"
    assert "Book" in kinds(driver.probed(effects))


def test_a_session_that_paused_after_a_window_that_is_lost_is_paused() -> None:
    driver = in_phase(Phase.PAUSING)
    effects = driver.move(computing=True)
    assert kinds(effects) == ["SessionMoved", "Unbook", "State"]
    assert (state(effects).phase, state(effects).running) == (Phase.PAUSED, False)
    driver.booked(driver.say(Resume()))
    assert driver.plan().index == 0


@pytest.mark.parametrize("phase", [Phase.IDLE, Phase.PAUSED])
def test_what_needs_no_compute_gives_it_back(phase: Phase) -> None:
    driver = in_phase(phase)
    assert "Unbook" in kinds(driver.move(computing=True))
    assert driver.session.phase is phase


def test_what_is_staged_stays() -> None:
    driver = SessionDriver()
    driver.stage_clip()
    before = driver.session.state()
    driver.move()
    assert driver.session.state() == before
    assert driver.session.clip is not None
    assert driver.session.clip.video == CLIP


# Runs that the snapshot and the gateway know differently


@pytest.mark.parametrize("phase", Phase)
def test_a_run_that_only_the_gateway_knows_is_abandoned(phase: Phase) -> None:
    driver = in_phase(phase)
    effects = driver.move(run=7, next_frame=12, computing=True)
    assert moved(effects) is Continuity.RESTARTED
    assert only(effects, Abandon).next_run == 8
    assert driver.session.phase is Phase.IDLE
    assert driver.session.clip is not None
    assert driver.session.snapshot().due == tuple(
        each for each in driver.session.snapshot().due if each.command is SetVideo
    )
    driver.say(Start())
    assert driver.session.run == (8 if phase is Phase.AWAITING_SOURCE else 9)


def test_of_a_run_that_the_gateway_does_not_know_nothing_was_shown() -> None:
    driver = playing(windows=1, frames=33)
    driver.commit(1)
    driver.start()
    driver.make_window()
    effects = driver.move(run=1, next_frame=33, computing=True)
    assert not completed(effects)
    assert driver.plan().skip == 0


# Forks


def test_a_fork_says_nothing_of_a_move_and_has_revisions_of_its_own() -> None:
    driver = playing(windows=2)
    driver.say(Reset(), command_id="r")
    effects = driver.move(fork=True)
    assert kinds(effects) == ["State"]
    assert [each.message.revision for each in said(effects, State)] == [1]
    assert kinds(driver.say(Reset(), command_id="r"))[0] == "Abandon"


@pytest.mark.parametrize("mode", Mode)
def test_a_fork_begins_after_what_its_original_made(mode: Mode) -> None:
    driver = live(windows=3) if mode is Mode.LIVE else playing(windows=3)
    expected = driver.plan()
    effects = driver.move(fork=True, computing=True, kept_windows=3, next_frame=5, run=99)
    assert not completed(effects)
    assert driver.plan() == expected
    assert state(effects).current_chunk == 4


def test_no_client_waits_for_a_fork() -> None:
    driver = in_phase(Phase.AWAITING_COMPUTE)
    effects = driver.move(fork=True)
    driver.wait(60.0)
    assert driver.session.phase is Phase.AWAITING_COMPUTE
    driver.booked(effects)
    (started,) = said(driver.dispatch(), GenerationStarted)
    assert started.asker is None


# The worker


def test_the_state_shows_that_there_is_no_room_elsewhere() -> None:
    driver = playing(windows=1)
    assert state(driver.session.awaiting_room(awaits=True, now=driver.now)).awaiting_room
    assert driver.session.awaiting_room(awaits=True, now=driver.now) == []
    assert not state(driver.session.awaiting_room(awaits=False, now=driver.now)).awaiting_room


def test_the_state_shows_a_lower_frame_rate() -> None:
    driver = playing(windows=1)
    assert state(driver.session.degraded(16.0, 0, driver.now)).degraded_frame_rate == 16.0
    assert state(driver.session.degraded(0.0, 0, driver.now)).degraded_frame_rate == 0.0


def test_the_state_shows_fewer_steps() -> None:
    driver = playing(windows=1)
    shown = state(driver.session.degraded(0.0, 2, driver.now))
    assert (shown.degraded_steps, shown.degraded_frame_rate) == (2, 0.0)
    assert state(driver.session.degraded(0.0, 0, driver.now)).degraded_steps == 0


def test_neither_moves_along() -> None:
    driver = playing(windows=1)
    driver.session.awaiting_room(awaits=True, now=driver.now)
    driver.session.degraded(16.0, 2, driver.now)
    driver.move()
    shown = driver.session.state()
    assert (shown.awaiting_room, shown.degraded_frame_rate) == (False, 0.0)
    assert shown.degraded_steps == 0


def test_a_snapshot_of_what_was_restored_is_the_same() -> None:
    driver = playing(windows=3)
    driver.commit(1)
    before = driver.session.snapshot()
    session, _ = Session.restored(
        Geometry(), before, driver.resumption(handed_over=True, computing=True), driver.now
    )
    after = session.snapshot()
    assert after.run == before.run
    assert (after.handled, after.due, after.prompt) == (before.handled, before.due, before.prompt)
