"""Starting: what start needs, and how it waits for its source and for compute."""

from __future__ import annotations

import pytest

from scheduler.core.commands import (
    FileRef,
    Mode,
    Pause,
    RejectReason,
    Reset,
    Resume,
    SetMode,
    SetPrompt,
    SetVideo,
    Start,
)
from scheduler.core.effects import Asker, Book, Probe
from scheduler.core.messages import CommandError, GenerationStarted, Phase
from tests.unit.scheduler.session_driver import (
    CLIP,
    SessionDriver,
    accepted,
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


def awaiting_camera() -> SessionDriver:
    driver = SessionDriver()
    driver.say(SetPrompt("in snow"))
    driver.say(Start(), connection=4, command_id="s")
    assert driver.session.state().phase is Phase.AWAITING_SOURCE
    return driver


# What start needs


def test_start_without_a_prompt_is_refused() -> None:
    driver = SessionDriver()
    driver.session.source_flowing(driver.now)
    refusal = error(driver.say(Start()))
    assert (refusal.command, refusal.code) == ("start", RejectReason.NO_PROMPT)


def test_start_in_file_mode_without_a_clip_is_refused_at_once() -> None:
    driver = SessionDriver()
    driver.say(SetMode(Mode.FILE))
    driver.say(SetPrompt("in snow"))
    effects = driver.say(Start())
    assert error(effects).code is RejectReason.NO_SOURCE
    assert not accepted(effects)


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.IDLE])
def test_a_second_start_is_refused(phase: Phase) -> None:
    driver = in_phase(phase)
    effects = driver.say(Start())
    assert error(effects).code is RejectReason.WRONG_PHASE
    assert driver.session.state().phase is phase


# Waiting for a source


def test_start_with_a_camera_that_sends_asks_for_compute_at_once() -> None:
    driver = SessionDriver()
    driver.stage_camera()
    assert kinds(driver.say(Start())) == ["Book", "State", "Ack"]


def test_start_waits_for_the_first_packet_of_a_camera() -> None:
    driver = awaiting_camera()
    shown = driver.session.state()
    assert not shown.started
    assert not shown.running
    driver.wait(1.9)
    assert kinds(driver.session.source_flowing(driver.now)) == ["Book", "State"]
    assert driver.session.state().phase is Phase.AWAITING_COMPUTE
    assert driver.session.state().started
    assert driver.session.deadline() == driver.now + 30.0


@pytest.mark.parametrize("published", [True, False])
def test_start_fails_late_when_no_packet_comes_within_two_seconds(published: bool) -> None:
    driver = awaiting_camera()
    driver.session.camera_published(published, driver.now)
    assert driver.wait(1.9) == []
    effects = driver.wait(0.1)
    assert kinds(effects) == ["CommandError", "State"]
    (refusal,) = said(effects, CommandError)
    assert refusal.asker == Asker(4, "s")
    assert error(effects).code is RejectReason.NO_SOURCE
    assert error(effects).command == "start"
    assert error(effects).phase is Phase.AWAITING_SOURCE
    assert ("published" in error(effects).reason) is not published
    assert driver.session.state().phase is Phase.IDLE
    assert driver.session.deadline() is None


def test_the_wait_for_a_source_blocks_nothing() -> None:
    driver = awaiting_camera()
    assert accepted(driver.say(SetPrompt("as a watercolour")))
    assert accepted(driver.say(SetMode(Mode.LIVE)))
    assert accepted(driver.say(SetVideo(CLIP)))
    assert not accepted(driver.say(Pause()))
    driver.session.source_flowing(driver.now)
    assert driver.session.state().phase is Phase.AWAITING_COMPUTE


@pytest.mark.parametrize("command", [Reset(), SetMode(Mode.FILE)])
def test_reset_and_the_other_mode_end_the_wait_for_a_source(command: Reset | SetMode) -> None:
    driver = awaiting_camera()
    effects = driver.say(command)
    assert accepted(effects)
    (refusal,) = said(effects, CommandError)
    assert refusal.asker == Asker(4, "s")
    assert error(effects).code is RejectReason.SUPERSEDED
    assert error(effects).command == "start"
    assert driver.session.state().phase is Phase.IDLE
    driver.session.source_flowing(driver.now)
    assert driver.wait(60.0) == []
    assert driver.session.state().phase is Phase.IDLE


def test_start_waits_for_a_clip_that_is_still_examined() -> None:
    driver = SessionDriver()
    driver.say(SetMode(Mode.FILE))
    asked = driver.say(SetVideo(CLIP))
    driver.say(SetPrompt("in snow"))
    assert kinds(driver.say(Start())) == ["State", "Ack"]
    assert driver.wait(7.0) == []
    assert kinds(driver.probed(asked)) == ["VideoAccepted", "Book", "State"]
    assert driver.session.state().phase is Phase.AWAITING_COMPUTE
    assert driver.session.deadline() == driver.now + 30.0


def test_start_runs_the_clip_it_waited_for_and_not_the_one_staged_before() -> None:
    driver = in_phase(Phase.IDLE)
    asked = driver.say(SetVideo(FileRef("upload-2")))
    driver.say(Start())
    driver.booked(driver.probed(asked, frames=33))
    assert driver.plan().last


def test_start_fails_with_the_clip_it_waits_for() -> None:
    driver = SessionDriver()
    driver.say(SetMode(Mode.FILE))
    asked = driver.say(SetVideo(CLIP), connection=4, command_id="v")
    driver.say(SetPrompt("in snow"))
    driver.say(Start(), connection=5, command_id="s")
    effects = driver.session.probe_refused(only(asked, Probe).ticket, "no video", driver.now)
    assert kinds(effects) == ["CommandError", "CommandError", "State"]
    assert [each.asker for each in said(effects, CommandError)] == [Asker(4, "v"), Asker(5, "s")]
    assert [each.message.payload.code for each in said(effects, CommandError)] == [  # type: ignore[union-attr]
        RejectReason.BAD_VIDEO,
        RejectReason.NO_SOURCE,
    ]
    assert driver.session.state().phase is Phase.IDLE


def test_a_newer_clip_takes_over_the_wait_of_start() -> None:
    driver = in_phase(Phase.AWAITING_SOURCE)
    newer = driver.say(SetVideo(FileRef("upload-3")))
    assert error(newer).code is RejectReason.SUPERSEDED
    assert error(newer).command == "set_video"
    assert driver.session.state().phase is Phase.AWAITING_SOURCE
    driver.probed(newer)
    assert driver.session.state().phase is Phase.AWAITING_COMPUTE


def test_a_camera_does_not_end_the_wait_for_a_clip_nor_a_clip_that_for_a_camera() -> None:
    for_clip = in_phase(Phase.AWAITING_SOURCE)
    assert for_clip.session.source_flowing(for_clip.now) == []
    assert for_clip.session.state().phase is Phase.AWAITING_SOURCE

    for_camera = awaiting_camera()
    for_camera.probed(for_camera.say(SetVideo(CLIP)))
    assert for_camera.session.state().phase is Phase.AWAITING_SOURCE
    refused = for_camera.say(SetVideo(CLIP))
    ticket = only(refused, Probe).ticket
    assert kinds(for_camera.session.probe_refused(ticket, "no video", for_camera.now)) == [
        "CommandError"
    ]
    assert for_camera.session.state().phase is Phase.AWAITING_SOURCE


# Waiting for compute


def test_a_start_without_compute_is_accepted_and_shows_started_but_not_running() -> None:
    driver = in_phase(Phase.IDLE)
    effects = driver.say(Start())
    assert accepted(effects)
    assert kinds(effects) == ["Book", "State", "Ack"]
    shown = state(effects)
    assert (shown.started, shown.running, shown.paused) == (True, False, False)
    assert shown.phase is Phase.AWAITING_COMPUTE
    assert driver.session.next_window is None


def test_booked_compute_lets_the_first_window_go_and_the_phase_is_told() -> None:
    driver = in_phase(Phase.AWAITING_COMPUTE)
    ticket = driver.session._ticket
    effects = driver.session.compute_booked(ticket, driver.now)
    assert kinds(effects) == ["State"]
    assert state(effects).phase is Phase.RUNNING
    assert not state(effects).running
    assert driver.plan().index == 0


def test_generation_started_comes_with_the_first_dispatch_and_then_a_state() -> None:
    driver = in_phase(Phase.IDLE)
    driver.booked(driver.say(Start(), connection=4, command_id="s"))
    effects = driver.dispatch()
    assert kinds(effects) == ["GenerationStarted", "State"]
    (started,) = said(effects, GenerationStarted)
    assert started.asker == Asker(4, "s")
    assert started.message.payload == GenerationStarted("as an oil painting", 0, 0)
    assert state(effects).running
    assert state(effects).current_chunk == 0


def test_start_fails_late_after_30_seconds_without_compute() -> None:
    driver = in_phase(Phase.IDLE)
    driver.say(Start(), connection=4, command_id="s")
    assert driver.wait(29.9) == []
    effects = driver.wait(0.1)
    assert kinds(effects) == ["Unbook", "CommandError", "State"]
    (refusal,) = said(effects, CommandError)
    assert refusal.asker == Asker(4, "s")
    assert error(effects).code is RejectReason.NO_CAPACITY
    assert error(effects).reason == "no capacity, retry in 30 s"
    assert error(effects).retry_after_s == 30.0
    assert error(effects).phase is Phase.AWAITING_COMPUTE
    assert driver.session.state().phase is Phase.IDLE
    assert accepted(driver.say(Start()))


def test_a_refusal_of_compute_ends_the_wait_at_once_with_its_hint() -> None:
    driver = in_phase(Phase.IDLE)
    ticket = only(driver.say(Start()), Book).ticket
    effects = driver.session.compute_refused(ticket, 11.2, driver.now)
    assert kinds(effects) == ["CommandError", "State"]
    assert error(effects).retry_after_s == 11.2
    assert error(effects).reason == "no capacity, retry in 12 s"
    assert driver.session.state().phase is Phase.IDLE


def test_a_resume_in_vain_leaves_the_session_paused() -> None:
    driver = awaiting_after_resume()
    effects = driver.wait(30.0)
    assert error(effects).command == "resume"
    assert error(effects).code is RejectReason.NO_CAPACITY
    assert driver.session.state().phase is Phase.PAUSED
    assert state(effects).paused


def test_answers_to_withdrawn_requests_are_ignored() -> None:
    driver = in_phase(Phase.IDLE)
    stale = only(driver.say(Start()), Book).ticket
    driver.say(Pause())
    fresh = only(driver.say(Resume()), Book).ticket
    assert fresh > stale
    assert driver.session.compute_booked(stale, driver.now) == []
    assert driver.session.compute_refused(stale, 1.0, driver.now) == []
    assert driver.session.state().phase is Phase.AWAITING_COMPUTE
    driver.session.compute_booked(fresh, driver.now)
    assert driver.session.state().phase is Phase.RUNNING
    assert driver.session.compute_booked(fresh, driver.now) == []


def test_pause_withdraws_the_request_and_the_start_is_answered_after_resume() -> None:
    driver = in_phase(Phase.IDLE)
    driver.say(Start(), connection=4, command_id="s")
    paused = driver.say(Pause())
    assert kinds(paused) == ["Unbook", "State", "Ack"]
    assert driver.session.state().phase is Phase.PAUSED
    assert driver.wait(60.0) == []
    driver.booked(driver.say(Resume()))
    (started,) = said(driver.dispatch(), GenerationStarted)
    assert started.asker == Asker(4, "s")


@pytest.mark.parametrize("resumed", [False, True])
def test_reset_ends_the_wait_for_compute(resumed: bool) -> None:
    driver = in_phase(Phase.PAUSED if resumed else Phase.IDLE)
    if resumed:
        driver.wait(0.0)
        driver.booked(driver.say(Resume()))
        driver.make_window()
        driver.say(Pause())
    driver.say(Resume() if resumed else Start(), connection=4, command_id="w")
    effects = driver.say(Reset())
    (refusal,) = said(effects, CommandError)
    assert refusal.asker == Asker(4, "w")
    assert error(effects).command == ("resume" if resumed else "start")
    assert error(effects).code is RejectReason.SUPERSEDED
    assert kinds(effects) == [
        "Abandon",
        "Unbook",
        "CommandError",
        "GenerationReset",
        "State",
        "Ack",
    ]
    assert driver.wait(60.0) == []


def test_the_place_in_the_queue_shows_while_compute_is_waited_for() -> None:
    driver = in_phase(Phase.IDLE)
    asked = driver.say(Start())
    assert state(driver.session.queue_position(3, driver.now)).queue_position == 3
    assert driver.session.queue_position(3, driver.now) == []
    assert state(driver.booked(asked)).queue_position == 0
    assert driver.session.queue_position(2, driver.now) == []


def test_a_tick_without_a_deadline_does_nothing() -> None:
    driver = in_phase(Phase.RUNNING)
    assert driver.session.deadline() is None
    assert driver.session.tick(driver.now) == []


def test_a_tick_before_the_deadline_does_nothing() -> None:
    driver = awaiting_camera()
    assert driver.session.tick(driver.now) == []
    assert driver.session.deadline() == driver.now + 2.0


# A camera that falls silent


def test_a_stall_shows_after_one_second_and_releases_compute_after_five() -> None:
    driver = live()
    assert driver.session.source_stalled(driver.now) == []
    assert driver.wait(0.9) == []
    shown = driver.wait(0.2)
    assert kinds(shown) == ["State"]
    assert not state(shown).running
    assert state(shown).started
    driver.plan()
    assert driver.wait(3.8) == []
    assert kinds(driver.wait(0.2)) == ["Unbook"]
    assert driver.session.next_window is None
    assert driver.session.state().phase is Phase.RUNNING
    assert driver.wait(600.0) == []


def test_a_short_stall_passes_unseen() -> None:
    driver = live()
    driver.session.source_stalled(driver.now)
    driver.wait(0.9)
    assert driver.session.source_flowing(driver.now) == []
    assert driver.wait(60.0) == []
    assert driver.session.state().running


def test_after_a_stall_of_seconds_the_next_window_shows_running_again() -> None:
    driver = live()
    driver.session.source_stalled(driver.now)
    driver.wait(3.0)
    assert driver.session.source_flowing(driver.now) == []
    effects = driver.dispatch()
    assert kinds(effects) == ["State"]
    assert state(effects).running
    assert driver.wait(60.0) == []


def test_a_window_from_frames_already_there_shows_running_for_another_second() -> None:
    driver = live()
    driver.session.source_stalled(driver.now)
    driver.wait(3.0)
    assert state(driver.dispatch()).running
    assert driver.wait(0.9) == []
    assert not state(driver.wait(0.2)).running


def test_after_a_long_stall_the_session_goes_on_without_a_command() -> None:
    driver = live()
    driver.session.source_stalled(driver.now)
    driver.wait(20.0)
    back = driver.session.source_flowing(driver.now)
    assert kinds(back) == ["Book", "State"]
    assert driver.session.state().phase is Phase.AWAITING_COMPUTE
    assert driver.wait(600.0) == []
    driver.booked(back)
    assert driver.plan().index == 1
    assert kinds(driver.dispatch()) == ["State"]
    assert driver.session.state().running


def test_compute_refused_after_a_stall_is_asked_for_again() -> None:
    driver = live()
    driver.session.source_stalled(driver.now)
    driver.wait(20.0)
    ticket = only(driver.session.source_flowing(driver.now), Book).ticket
    driver.session.queue_position(3, driver.now)
    refused = driver.session.compute_refused(ticket, 30.0, driver.now)
    assert kinds(refused) == ["State"]
    assert state(refused).queue_position == 0
    assert driver.session.state().phase is Phase.AWAITING_COMPUTE
    again = driver.wait(1.0)
    assert kinds(again) == ["Book"]
    driver.booked(again)
    assert driver.session.state().phase is Phase.RUNNING


def test_an_unpublished_camera_is_a_silent_one() -> None:
    driver = live()
    assert driver.session.camera_published(published=False, now=driver.now) == []
    assert not state(driver.wait(1.0)).running


def test_compute_is_not_released_under_a_window() -> None:
    driver = live()
    plan = driver.plan()
    driver.dispatch()
    driver.session.source_stalled(driver.now)
    assert "Unbook" not in kinds(driver.wait(8.0))
    driver.session.generated(plan.run, plan.index, driver.now)
    assert kinds(driver.wait(1.0)) == ["Unbook"]


def test_a_stall_before_compute_is_there_counts_from_then() -> None:
    driver = SessionDriver()
    driver.stage_camera()
    asked = driver.say(Start())
    driver.session.source_stalled(driver.now)
    assert driver.wait(20.0) == []
    driver.booked(asked)
    assert driver.wait(4.9) == []
    assert kinds(driver.wait(0.2)) == ["Unbook"]


def test_a_silent_camera_matters_neither_paused_nor_in_file_mode() -> None:
    paused = live()
    paused.say(Pause())
    paused.session.source_stalled(paused.now)
    assert paused.wait(60.0) == []

    file = in_phase(Phase.RUNNING)
    file.session.source_flowing(file.now)
    file.session.source_stalled(file.now)
    assert file.wait(60.0) == []


def test_resume_with_a_silent_camera_asks_for_compute_when_packets_return() -> None:
    driver = live()
    driver.say(Pause())
    driver.session.source_stalled(driver.now)
    effects = driver.say(Resume())
    assert kinds(effects) == ["State", "Ack"]
    assert state(effects).phase is Phase.RUNNING
    assert not state(effects).running
    assert driver.session.deadline() is None
    assert kinds(driver.session.source_flowing(driver.now)) == ["Book", "State"]


def test_resume_before_the_window_is_finished_counts_the_stall_from_then() -> None:
    driver = live()
    plan = driver.plan()
    driver.dispatch()
    driver.say(Pause())
    driver.session.source_stalled(driver.now)
    driver.wait(3.0)
    assert state(driver.say(Resume())).running
    driver.session.generated(plan.run, plan.index, driver.now)
    assert not state(driver.wait(1.0)).running


def test_a_late_tick_does_what_was_due_and_the_rest_follows() -> None:
    driver = live()
    driver.session.source_stalled(driver.now)
    driver.now += 60.0
    assert kinds(driver.session.tick(driver.now)) == ["State"]
    deadline = driver.session.deadline()
    assert deadline is not None
    assert deadline > driver.now
    assert kinds(driver.wait(10.0)) == ["Unbook"]
    assert driver.session.deadline() is None


def test_a_clock_that_falls_back_is_taken_to_stand_still() -> None:
    driver = awaiting_camera()
    driver.session.connected(driver.now - 50.0)
    driver.say(Reset())
    driver.say(SetPrompt("in snow"))
    driver.now -= 50.0
    driver.say(Start())
    assert driver.session.deadline() == driver.now + 52.0


def test_a_camera_asks_for_no_compute_for_a_clip_that_plays_out() -> None:
    driver = in_phase(Phase.RUNNING)
    for _ in range(3):
        driver.make_window()
    assert driver.session.source_flowing(driver.now) == []
