"""Running: windows, chunks, pause and resume, completion, replay, failure."""

from __future__ import annotations

import pytest

from scheduler.core.commands import (
    Pause,
    RejectReason,
    Reset,
    Resume,
    SetPrompt,
    SetVideo,
    Start,
)
from scheduler.core.effects import Abandon
from scheduler.core.errors import InvariantError
from scheduler.core.geometry import OutwardChunk
from scheduler.core.messages import (
    ChunkComplete,
    CommandError,
    GenerationComplete,
    Phase,
    State,
)
from scheduler.core.run import WindowPlan
from scheduler.core.session_table import STARTED
from tests.unit.scheduler.session_driver import (
    CLIP,
    FRAMES,
    SessionDriver,
    error,
    in_phase,
    kinds,
    live,
    only,
    said,
    state,
)

pytestmark = pytest.mark.unit


# Windows and chunks


def test_a_clip_is_cut_into_a_first_window_of_33_then_24_and_a_short_last_one() -> None:
    driver = in_phase(Phase.RUNNING)
    plans = [driver.make_window() for _ in range(3)]
    common = {"run": 1, "prompt": "as an oil painting", "seed": 7}
    assert plans == [
        WindowPlan(
            index=0,
            first_frame=0,
            source_frames=33,
            frames=33,
            chunks=(OutwardChunk(0, 0, 9), OutwardChunk(1, 9, 24)),
            last=False,
            **common,  # type: ignore[arg-type]
        ),
        WindowPlan(
            index=1,
            first_frame=33,
            source_frames=24,
            frames=24,
            chunks=(OutwardChunk(2, 33, 24),),
            last=False,
            **common,  # type: ignore[arg-type]
        ),
        WindowPlan(
            index=2,
            first_frame=57,
            source_frames=24,
            frames=10,
            chunks=(OutwardChunk(3, 57, 10),),
            last=True,
            **common,  # type: ignore[arg-type]
        ),
    ]
    assert driver.session.next_window is None


def test_a_camera_has_no_last_window() -> None:
    driver = live(windows=0)
    plans = [driver.make_window() for _ in range(5)]
    assert [plan.frames for plan in plans] == [33, 24, 24, 24, 24]
    assert not any(plan.last for plan in plans)


@pytest.mark.parametrize(("frames", "windows"), [(33, 1), (34, 2), (57, 2), (58, 3)])
def test_every_source_frame_is_answered(frames: int, windows: int) -> None:
    driver = SessionDriver()
    driver.stage_clip(frames)
    driver.start()
    plans = [driver.make_window() for _ in range(windows)]
    assert [plan.last for plan in plans] == [False] * (windows - 1) + [True]
    assert sum(chunk.frames for plan in plans for chunk in plan.chunks) == frames


@pytest.mark.parametrize(
    "phase", [phase for phase in Phase if phase not in (Phase.RUNNING, Phase.PAUSING)]
)
def test_no_window_is_offered_without_compute(phase: Phase) -> None:
    driver = in_phase(phase)
    assert driver.session.next_window is None
    with pytest.raises(InvariantError):
        driver.dispatch()


def test_one_window_of_a_session_runs_at_a_time() -> None:
    driver = in_phase(Phase.RUNNING)
    driver.dispatch()
    assert driver.session.next_window is None


def test_a_later_dispatch_says_nothing() -> None:
    driver = in_phase(Phase.RUNNING)
    driver.make_window()
    assert driver.dispatch() == []


def test_the_end_of_a_window_that_is_not_under_way_is_our_own_error() -> None:
    driver = in_phase(Phase.RUNNING)
    driver.dispatch()
    with pytest.raises(InvariantError):
        driver.session.generated(1, 1, driver.now)
    with pytest.raises(InvariantError):
        driver.session.failed(1, 1, driver.now)
    driver.session.generated(1, 0, driver.now)
    with pytest.raises(InvariantError):
        driver.session.generated(1, 0, driver.now)


def test_a_shown_chunk_is_told_by_chunk_complete_then_a_state() -> None:
    driver = in_phase(Phase.RUNNING)
    driver.make_window()
    effects = driver.commit(0)
    assert kinds(effects) == ["ChunkComplete", "State"]
    (told,) = said(effects, ChunkComplete)
    assert told.message.payload == ChunkComplete(0, 9, "as an oil painting")
    assert told.asker is None
    assert state(effects).current_chunk == 1


def test_a_repeated_acknowledgement_says_nothing() -> None:
    driver = in_phase(Phase.RUNNING)
    driver.make_window()
    driver.commit(0)
    assert driver.commit(0) == []


def test_a_lost_acknowledgement_is_implied_by_the_next() -> None:
    driver = in_phase(Phase.RUNNING)
    driver.make_window()
    effects = driver.commit(1)
    assert kinds(effects) == ["ChunkComplete", "State", "ChunkComplete", "State"]
    counts = [each.message.payload.current_chunk for each in said(effects, State)]  # type: ignore[union-attr]
    assert counts == [1, 2]


def test_an_acknowledgement_of_a_chunk_never_made_is_our_own_error() -> None:
    driver = in_phase(Phase.RUNNING)
    driver.make_window()
    with pytest.raises(InvariantError):
        driver.commit(2)


# Prompts


def test_a_prompt_lands_in_the_next_window_and_not_in_the_one_under_way() -> None:
    driver = in_phase(Phase.RUNNING)
    driver.dispatch()
    driver.say(SetPrompt("in snow"))
    driver.session.generated(1, 0, driver.now)
    assert driver.make_window().prompt == "in snow"
    told = [said(driver.commit(chunk), ChunkComplete)[0] for chunk in range(3)]
    assert [each.message.payload.active_prompt for each in told] == [  # type: ignore[union-attr]
        "as an oil painting",
        "as an oil painting",
        "in snow",
    ]


def test_the_state_shows_the_prompt_last_accepted_whatever_is_shown() -> None:
    driver = in_phase(Phase.RUNNING)
    driver.make_window()
    driver.say(SetPrompt("in snow"))
    effects = driver.commit(0)
    assert state(effects).current_prompt == "in snow"
    (told,) = said(effects, ChunkComplete)
    assert told.message.payload == ChunkComplete(0, 9, "as an oil painting")


# Pause and resume


def test_pause_shows_at_once_and_running_ends_with_the_window_under_way() -> None:
    driver = in_phase(Phase.RUNNING)
    driver.dispatch()
    paused = driver.say(Pause())
    assert kinds(paused) == ["State", "Ack"]
    assert (state(paused).paused, state(paused).running) == (True, True)
    finished = driver.session.generated(1, 0, driver.now)
    assert kinds(finished) == ["Unbook", "State"]
    assert (state(finished).paused, state(finished).running) == (True, False)
    assert driver.session.phase is Phase.PAUSED


def test_pause_between_windows_halts_at_once() -> None:
    driver = in_phase(Phase.RUNNING)
    driver.make_window()
    effects = driver.say(Pause())
    assert kinds(effects) == ["Unbook", "State", "Ack"]
    assert (state(effects).paused, state(effects).running) == (True, False)


@pytest.mark.parametrize("phase", [Phase.IDLE, Phase.AWAITING_SOURCE, Phase.PAUSING, Phase.PAUSED])
def test_pause_is_refused_where_nothing_is_to_be_paused(phase: Phase) -> None:
    refusal = error(in_phase(phase).say(Pause()))
    assert refusal.code is RejectReason.WRONG_PHASE
    assert refusal.allowed_phases == (Phase.AWAITING_COMPUTE, Phase.RUNNING)


@pytest.mark.parametrize(
    "phase", [phase for phase in Phase if phase not in (Phase.PAUSING, Phase.PAUSED)]
)
def test_resume_is_refused_unless_paused(phase: Phase) -> None:
    refusal = error(in_phase(phase).say(Resume()))
    assert refusal.code is RejectReason.WRONG_PHASE
    assert refusal.allowed_phases == (Phase.PAUSING, Phase.PAUSED)


def test_resume_before_the_window_is_finished_goes_on_as_if_nothing_was() -> None:
    driver = in_phase(Phase.PAUSING)
    effects = driver.say(Resume())
    assert kinds(effects) == ["State", "Ack"]
    assert (state(effects).paused, state(effects).running) == (False, True)
    assert driver.session.generated(1, 0, driver.now) == []
    assert driver.plan().index == 1


def test_resume_asks_for_compute_and_the_next_window_shows_running() -> None:
    driver = in_phase(Phase.RUNNING)
    driver.make_window()
    driver.say(Pause())
    asked = driver.say(Resume())
    assert kinds(asked) == ["Book", "State", "Ack"]
    assert not state(asked).running
    assert not state(driver.booked(asked)).running
    assert driver.plan().index == 1
    dispatched = driver.dispatch()
    assert kinds(dispatched) == ["State"]
    assert state(dispatched).running


def test_frames_already_made_play_out_while_paused() -> None:
    driver = in_phase(Phase.RUNNING)
    driver.make_window()
    driver.say(Pause())
    effects = driver.commit(0)
    assert kinds(effects) == ["ChunkComplete", "State"]
    assert state(effects).current_chunk == 1
    assert driver.session.phase is Phase.PAUSED


# Completion and replay


def test_a_run_whose_frames_ran_out_before_its_clip_goes_on() -> None:
    driver = in_phase(Phase.RUNNING)
    driver.make_window()
    driver.commit(0)
    assert kinds(driver.commit(1)) == ["ChunkComplete", "State"]
    assert driver.session.phase is Phase.RUNNING
    assert driver.plan().index == 1


def test_a_run_that_is_made_but_not_yet_shown_is_not_complete() -> None:
    driver = in_phase(Phase.RUNNING)
    for _ in range(3):
        driver.make_window()
    assert kinds(driver.commit(2)) == ["ChunkComplete", "State"] * 3
    assert driver.session.phase is Phase.RUNNING
    assert said(driver.commit(3), GenerationComplete)


def test_a_clip_played_through_is_told_and_everything_stays_staged() -> None:
    driver = in_phase(Phase.RUNNING)
    effects = driver.play_clip()
    assert kinds(effects)[-4:] == ["ChunkComplete", "State", "GenerationComplete", "State"]
    (complete,) = said(effects, GenerationComplete)
    assert complete.message.payload == GenerationComplete(4)
    final = state(effects)
    assert (final.phase, final.started, final.running) == (Phase.IDLE, False, False)
    assert (final.has_video, final.num_source_frames) == (True, FRAMES)
    assert (final.current_prompt, final.seed) == ("as an oil painting", 7)
    assert final.current_chunk == 4


def test_an_acknowledgement_repeated_after_completion_says_nothing() -> None:
    driver = in_phase(Phase.RUNNING)
    driver.play_clip()
    assert driver.commit(3) == []


def test_compute_is_given_back_with_the_last_window_while_its_frames_still_play() -> None:
    driver = in_phase(Phase.RUNNING)
    for _ in range(2):
        driver.make_window()
    driver.dispatch()
    assert kinds(driver.session.generated(1, 2, driver.now)) == ["Unbook"]
    assert driver.session.state().running
    assert driver.session.phase is Phase.RUNNING


def test_a_last_chunk_shown_before_its_window_is_finished_completes_the_run() -> None:
    driver = in_phase(Phase.RUNNING)
    driver.make_window()
    driver.make_window()
    driver.dispatch()
    effects = driver.commit(3)
    assert "Unbook" in kinds(effects)
    assert driver.session.phase is Phase.IDLE
    assert driver.session.generated(1, 2, driver.now) == []


def test_a_clip_may_end_while_paused() -> None:
    driver = in_phase(Phase.RUNNING)
    for _ in range(3):
        driver.make_window()
    assert kinds(driver.say(Pause())) == ["State", "Ack"]
    effects = driver.commit(3)
    assert said(effects, GenerationComplete)
    assert driver.session.phase is Phase.IDLE


def test_resume_of_an_exhausted_clip_needs_no_compute() -> None:
    driver = in_phase(Phase.RUNNING)
    for _ in range(3):
        driver.make_window()
    driver.say(Pause())
    effects = driver.say(Resume())
    assert kinds(effects) == ["State", "Ack"]
    assert state(effects).running
    assert driver.session.next_window is None
    assert said(driver.commit(3), GenerationComplete)


def test_start_after_completion_replays_from_the_first_frame_with_the_same_seed() -> None:
    driver = in_phase(Phase.RUNNING)
    first = driver.plan()
    driver.play_clip()
    driver.start()
    again = driver.plan()
    assert again.run == first.run + 1
    assert (again.index, again.first_frame, again.seed) == (0, 0, first.seed)
    assert again.chunks == first.chunks


def test_current_chunk_is_0_from_start_on() -> None:
    driver = in_phase(Phase.RUNNING)
    driver.play_clip()
    effects = driver.say(Start())
    assert state(effects).current_chunk == 0


def test_current_chunk_is_0_while_start_waits_for_a_source() -> None:
    driver = in_phase(Phase.RUNNING)
    driver.play_clip()
    driver.say(SetVideo(CLIP))
    waiting = state(driver.say(Start()))
    assert waiting.phase is Phase.AWAITING_SOURCE
    assert waiting.current_chunk == 0


def test_acknowledgements_of_an_earlier_run_say_nothing() -> None:
    driver = in_phase(Phase.RUNNING)
    driver.play_clip()
    driver.start()
    driver.make_window()
    assert driver.session.committed(1, 0, driver.now) == []
    assert driver.session.state().current_chunk == 0


def test_the_run_number_grows_with_every_start_and_reset() -> None:
    driver = live()
    assert driver.session.run == 1
    assert only(driver.say(Reset()), Abandon).next_run == 2
    driver.say(SetPrompt("in snow"))
    driver.say(Start())
    assert driver.session.run == 3


# Failure


@pytest.mark.parametrize("phase", [Phase.RUNNING, Phase.PAUSING])
def test_a_model_failure_ends_the_run_and_is_told_to_all(phase: Phase) -> None:
    driver = in_phase(phase)
    if phase is Phase.RUNNING:
        driver.dispatch()
    effects = driver.session.failed(1, 0, driver.now)
    assert kinds(effects) == ["Abandon", "Unbook", "CommandError", "State"]
    (told,) = said(effects, CommandError)
    assert told.asker is None
    assert (error(effects).command, error(effects).code) == ("start", RejectReason.MODEL_FAILED)
    final = state(effects)
    assert (final.phase, final.current_chunk) == (Phase.IDLE, 0)
    assert final.has_video
    assert final.has_prompt
    assert only(effects, Abandon).next_run > 1


def test_a_session_can_start_again_after_a_model_failure() -> None:
    driver = in_phase(Phase.RUNNING)
    driver.dispatch()
    driver.session.failed(1, 0, driver.now)
    driver.start()
    assert (driver.plan().index, driver.plan().run) == (0, driver.session.run)


def test_started_phases_are_those_with_a_run() -> None:
    for phase in Phase:
        assert in_phase(phase).session.state().started is (phase in STARTED)
