"""What each command does, where it is refused, and how it is answered."""

from __future__ import annotations

import dataclasses

import pytest

from scheduler.core.commands import (
    MAX_SEED,
    Command,
    FileRef,
    Invalid,
    Mode,
    Pause,
    RejectReason,
    Reset,
    Resume,
    SetMode,
    SetPrompt,
    SetSeed,
    SetVideo,
    Start,
)
from scheduler.core.effects import Abandon, Ack, Asker, Probe, Send
from scheduler.core.messages import (
    CommandError,
    GenerationReset,
    GenerationStarted,
    Phase,
    PromptAccepted,
    State,
    VideoAccepted,
)
from scheduler.core.session_table import STARTED
from tests.unit.scheduler.session_driver import (
    CLIP,
    FRAMES,
    SessionDriver,
    accepted,
    error,
    in_phase,
    kinds,
    live,
    only,
    said,
    state,
)

pytestmark = pytest.mark.unit

EVERY_COMMAND: list[Command] = [
    SetMode(Mode.LIVE),
    SetMode(Mode.FILE),
    SetVideo(CLIP),
    SetPrompt("in snow"),
    SetPrompt(""),
    SetSeed(3),
    Start(),
    Pause(),
    Resume(),
    Reset(),
    Invalid("set_pace", "unknown command", RejectReason.UNKNOWN_COMMAND),
]
every_phase = pytest.mark.parametrize("phase", Phase)
every_started_phase = pytest.mark.parametrize(
    "phase", [phase for phase in Phase if phase in STARTED]
)


# state


def test_state_starts_with_the_nine_fields_of_the_page() -> None:
    assert [field.name for field in dataclasses.fields(State)][:9] == [
        "running",
        "started",
        "paused",
        "current_chunk",
        "current_prompt",
        "has_prompt",
        "has_video",
        "num_source_frames",
        "seed",
    ]


def test_a_new_session_is_idle_in_live_mode_with_nothing_staged() -> None:
    assert SessionDriver(seed=7).session.state() == State(
        running=False,
        started=False,
        paused=False,
        current_chunk=0,
        current_prompt=None,
        has_prompt=False,
        has_video=False,
        num_source_frames=0,
        seed=7,
        mode=Mode.LIVE,
        phase=Phase.IDLE,
    )


@every_phase
def test_a_connection_is_greeted_by_one_state_of_a_new_revision(phase: Phase) -> None:
    driver = in_phase(phase)
    before = driver.session.revision
    (greeting,) = driver.session.connected(driver.now)
    assert isinstance(greeting, Send)
    assert greeting.asker is None
    assert greeting.message.payload == driver.session.state()
    assert greeting.message.revision == before + 1


@every_phase
@pytest.mark.parametrize("command", EVERY_COMMAND)
def test_every_command_is_answered_by_messages_then_one_state_then_its_ack(
    phase: Phase, command: Command
) -> None:
    effects = in_phase(phase).say(command)
    names = kinds(effects)
    assert names[-2:] == ["State", "Ack"]
    assert names.count("State") == names.count("Ack") == 1


@every_phase
@pytest.mark.parametrize("command", EVERY_COMMAND)
def test_a_refused_command_changes_nothing_but_says_why(phase: Phase, command: Command) -> None:
    driver = in_phase(phase)
    before, run = driver.session.state(), driver.session.run
    effects = driver.say(command, command_id="x")
    if accepted(effects):
        assert Asker(1, "x") not in [each.asker for each in said(effects, CommandError)]
        return
    assert kinds(effects) == ["CommandError", "State", "Ack"]
    assert error(effects).phase is phase
    assert error(effects).reason
    assert driver.session.state() == before
    assert driver.session.run == run


def test_wrong_phase_errors_tell_the_phases_that_the_table_allows() -> None:
    refusal = error(in_phase(Phase.PAUSED).say(Start()))
    assert refusal.code is RejectReason.WRONG_PHASE
    assert refusal.command == "start"
    assert refusal.allowed_phases == (Phase.IDLE,)
    assert refusal.reason == "not possible while paused, only while idle"


def test_other_errors_do_not_blame_the_phase() -> None:
    assert error(SessionDriver().say(Start())).allowed_phases == ()


# Unknown commands, bad arguments, replies


def test_an_invalid_command_gets_its_own_name_code_and_reason_back() -> None:
    driver = SessionDriver()
    effects = driver.say(Invalid("set_pace", "unknown command", RejectReason.UNKNOWN_COMMAND))
    refusal = error(effects)
    assert (refusal.command, refusal.reason) == ("set_pace", "unknown command")
    assert refusal.code is RejectReason.UNKNOWN_COMMAND
    assert not accepted(effects)


def test_an_error_goes_to_its_asker_alone_and_is_not_kept() -> None:
    driver = SessionDriver()
    effects = driver.say(Start(), connection=5, command_id="x")
    (refusal,) = said(effects, CommandError)
    assert refusal.asker == Asker(5, "x")
    assert refusal.message.revision == 0
    assert [type(each.payload) for each in driver.session.journal] == [State]


def test_answers_go_to_all_with_the_id_for_the_asker_and_states_to_all_without() -> None:
    effects = SessionDriver().say(SetPrompt("in snow"), connection=5, command_id="x")
    (answer,), (snapshot,) = said(effects, PromptAccepted), said(effects, State)
    assert answer.asker == Asker(5, "x")
    assert snapshot.asker is None
    assert snapshot.message.revision == answer.message.revision + 1
    assert only(effects, Ack) == Ack(Asker(5, "x"), accepted=True)


def test_the_journal_keeps_the_last_256_messages_to_all() -> None:
    driver = SessionDriver()
    for _ in range(300):
        driver.session.connected(driver.now)
    revisions = [message.revision for message in driver.session.journal]
    assert revisions == list(range(45, 301))


# Repeated commands


def test_a_repeated_command_id_gets_the_same_ack_and_does_nothing() -> None:
    driver = in_phase(Phase.IDLE)
    driver.say(SetSeed(1), command_id="a")
    driver.say(SetSeed(2), command_id="b")
    revision = driver.session.revision
    repeat = driver.say(SetSeed(1), connection=8, command_id="a")
    assert repeat == [Ack(Asker(8, "a"), accepted=True)]
    assert driver.session.seed == 2
    assert driver.session.revision == revision


def test_a_repeated_refusal_stays_refused_even_when_it_would_be_accepted_now() -> None:
    driver = SessionDriver()
    assert not accepted(driver.say(Start(), command_id="a"))
    driver.stage_camera()
    assert not accepted(driver.say(Start(), command_id="a"))
    assert driver.session.phase is Phase.IDLE


def test_the_late_answer_of_a_repeated_command_goes_to_the_connection_that_repeated() -> None:
    driver = SessionDriver()
    asked = driver.say(SetVideo(CLIP), connection=1, command_id="a")
    driver.say(SetVideo(CLIP), connection=2, command_id="a")
    (answer,) = said(driver.probed(asked), VideoAccepted)
    assert answer.asker == Asker(2, "a")


def test_an_empty_command_id_is_never_taken_for_a_repeat() -> None:
    driver = SessionDriver()
    for seed in (1, 2):
        assert accepted(driver.say(SetSeed(seed), command_id=""))
    assert driver.session.seed == 2


def test_the_last_256_command_ids_are_remembered() -> None:
    driver = SessionDriver()
    for number in range(257):
        driver.say(SetSeed(number), command_id=f"s{number}")
    assert kinds(driver.say(SetSeed(9), command_id="s1")) == ["Ack"]
    assert kinds(driver.say(SetSeed(9), command_id="s0")) == ["State", "Ack"]


# set_mode


@every_phase
def test_the_same_mode_again_is_accepted_at_any_time_and_does_nothing(phase: Phase) -> None:
    driver = in_phase(phase)
    before = driver.session.state()
    assert kinds(driver.say(SetMode(driver.session.mode))) == ["State", "Ack"]
    assert driver.session.state() == before


@every_started_phase
def test_the_other_mode_is_refused_while_started(phase: Phase) -> None:
    refusal = error(in_phase(phase).say(SetMode(Mode.LIVE)))
    assert refusal.code is RejectReason.WRONG_PHASE
    assert refusal.command == "set_mode"
    assert refusal.allowed_phases == (Phase.IDLE, Phase.AWAITING_SOURCE)


def test_a_staged_clip_survives_a_mode_switch() -> None:
    driver = in_phase(Phase.IDLE)
    effects = driver.say(SetMode(Mode.LIVE))
    assert state(effects).mode is Mode.LIVE
    assert state(effects).num_source_frames == FRAMES
    driver.say(SetMode(Mode.FILE))
    assert accepted(driver.say(Start()))


def test_a_clip_under_examination_survives_a_mode_switch() -> None:
    driver = SessionDriver()
    asked = driver.say(SetVideo(CLIP))
    driver.say(SetMode(Mode.FILE))
    assert kinds(driver.probed(asked)) == ["VideoAccepted", "State"]


# set_video


@pytest.mark.parametrize("mode", Mode)
def test_a_clip_is_accepted_in_either_mode_and_examined_at_once(mode: Mode) -> None:
    driver = SessionDriver()
    driver.say(SetMode(mode))
    asked = driver.say(SetVideo(CLIP), connection=4, command_id="v")
    assert kinds(asked) == ["Probe", "State", "Ack"]
    assert only(asked, Probe).video == CLIP
    assert not state(asked).has_video

    effects = driver.probed(asked, frames=66)
    assert kinds(effects) == ["VideoAccepted", "State"]
    (answer,) = said(effects, VideoAccepted)
    assert answer.asker == Asker(4, "v")
    assert answer.message.payload == VideoAccepted(1920, 1080, 66, 9)
    assert state(effects).has_video
    assert state(effects).num_source_frames == 66


@pytest.mark.parametrize(("frames", "latents"), [(33, 5), (40, 5), (41, 6), (48, 6), (49, 7)])
def test_latent_frames_follow_from_the_frames(frames: int, latents: int) -> None:
    driver = SessionDriver()
    effects = driver.probed(driver.say(SetVideo(CLIP)), frames)
    (answer,) = said(effects, VideoAccepted)
    assert isinstance(answer.message.payload, VideoAccepted)
    assert answer.message.payload.num_latent_frames == latents


def test_a_clip_of_fewer_than_33_frames_is_refused() -> None:
    driver = SessionDriver()
    effects = driver.probed(driver.say(SetVideo(CLIP)), frames=32)
    assert error(effects).code is RejectReason.BAD_VIDEO
    assert error(effects).command == "set_video"
    assert "33" in error(effects).reason
    assert not driver.session.state().has_video


def test_a_clip_can_be_swapped_without_a_reset() -> None:
    driver = in_phase(Phase.IDLE)
    other = FileRef("upload-2")
    driver.probed(driver.say(SetVideo(other)), frames=50)
    assert driver.session.state().num_source_frames == 50
    assert driver.session.clip is not None
    assert driver.session.clip.video == other


def test_a_refused_clip_leaves_the_staged_one() -> None:
    driver = in_phase(Phase.IDLE)
    before = driver.session.state()
    asked = driver.say(SetVideo(FileRef("upload-2")), connection=4, command_id="v")
    ticket = only(asked, Probe).ticket
    effects = driver.session.probe_refused(ticket, "not a video", driver.now)
    assert kinds(effects) == ["CommandError"]
    (refusal,) = said(effects, CommandError)
    assert refusal.asker == Asker(4, "v")
    assert error(effects).code is RejectReason.BAD_VIDEO
    assert error(effects).reason == "not a video"
    assert driver.session.state() == before
    assert driver.probed(asked) == []
    assert driver.session.probe_refused(ticket, "not a video", driver.now) == []


def test_a_newer_clip_supersedes_one_that_is_still_examined() -> None:
    driver = SessionDriver()
    first = driver.say(SetVideo(CLIP), connection=4, command_id="v")
    second = driver.say(SetVideo(FileRef("upload-2")))
    (refusal,) = said(second, CommandError)
    assert refusal.asker == Asker(4, "v")
    assert error(second).code is RejectReason.SUPERSEDED
    assert accepted(second)
    stale = only(first, Probe).ticket
    assert driver.session.probe_refused(stale, "not a video", driver.now) == []
    assert driver.probed(first) == []
    assert kinds(driver.probed(second)) == ["VideoAccepted", "State"]


def test_a_clip_staged_again_with_the_same_facts_is_still_answered_by_a_state() -> None:
    driver = in_phase(Phase.IDLE)
    assert kinds(driver.probed(driver.say(SetVideo(CLIP)))) == ["VideoAccepted", "State"]


@every_started_phase
def test_a_clip_is_refused_while_started(phase: Phase) -> None:
    refusal = error(in_phase(phase).say(SetVideo(CLIP)))
    assert refusal.code is RejectReason.WRONG_PHASE


def test_a_clip_asked_for_before_a_live_run_is_staged_during_it() -> None:
    driver = SessionDriver()
    driver.stage_camera()
    asked = driver.say(SetVideo(CLIP))
    driver.start()
    assert kinds(driver.probed(asked)) == ["VideoAccepted", "State"]
    assert driver.session.phase is Phase.RUNNING


def test_a_video_without_an_upload_is_a_bad_argument() -> None:
    assert error(SessionDriver().say(SetVideo(FileRef("")))).code is RejectReason.BAD_ARGUMENT


# set_prompt, set_seed


@every_phase
def test_a_prompt_is_accepted_at_any_time(phase: Phase) -> None:
    effects = in_phase(phase).say(SetPrompt("in snow"))
    assert kinds(effects) == ["PromptAccepted", "State", "Ack"]
    assert said(effects, PromptAccepted)[0].message.payload == PromptAccepted("in snow")
    assert state(effects).current_prompt == "in snow"
    assert state(effects).has_prompt


@pytest.mark.parametrize("prompt", ["", " \n\t", "x" * 10_001])
def test_an_empty_or_endless_prompt_is_a_bad_argument(prompt: str) -> None:
    driver = in_phase(Phase.RUNNING)
    effects = driver.say(SetPrompt(prompt))
    assert error(effects).code is RejectReason.BAD_ARGUMENT
    assert state(effects).current_prompt == "as an oil painting"


def test_the_longest_prompt_is_accepted() -> None:
    assert accepted(SessionDriver().say(SetPrompt("x" * 10_000)))


def test_no_error_repeats_the_prompt() -> None:
    assert "secret" not in error(SessionDriver().say(SetPrompt("secret" * 2000))).reason


@every_phase
def test_a_seed_shows_at_once_in_any_phase(phase: Phase) -> None:
    assert state(in_phase(phase).say(SetSeed(42))).seed == 42


@pytest.mark.parametrize("seed", [0, MAX_SEED])
def test_the_extreme_seeds_are_accepted(seed: int) -> None:
    assert accepted(SessionDriver().say(SetSeed(seed)))


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1, True])
def test_other_seeds_are_bad_arguments(seed: int) -> None:
    driver = SessionDriver(seed=7)
    assert error(driver.say(SetSeed(seed))).code is RejectReason.BAD_ARGUMENT
    assert driver.session.seed == 7


def test_a_seed_is_used_by_the_next_start() -> None:
    driver = in_phase(Phase.RUNNING)
    driver.say(SetSeed(42))
    assert driver.plan().seed == 7
    driver.play_clip()
    driver.start()
    assert driver.plan().seed == 42


def test_a_seed_set_while_start_waits_is_not_yet_used() -> None:
    driver = in_phase(Phase.IDLE)
    asked = driver.say(Start())
    driver.say(SetSeed(42))
    driver.booked(asked)
    assert driver.plan().seed == 7


# reset


@every_phase
def test_reset_is_answered_at_once_in_any_phase(phase: Phase) -> None:
    driver = in_phase(phase)
    effects = driver.say(Reset(), connection=3, command_id="r")
    names = [name for name in kinds(effects) if name != "CommandError"]
    assert [name for name in names if name != "Unbook"] == [
        "Abandon",
        "GenerationReset",
        "State",
        "Ack",
    ]
    (answer,) = said(effects, GenerationReset)
    assert answer.asker == Asker(3, "r")
    assert answer.message.payload == GenerationReset("reset by command")
    assert driver.session.phase is Phase.IDLE


@every_phase
def test_reset_drops_clip_prompt_and_progress_and_keeps_mode_and_seed(phase: Phase) -> None:
    driver = in_phase(phase)
    driver.say(SetSeed(42))
    assert state(driver.say(Reset())) == State(
        running=False,
        started=False,
        paused=False,
        current_chunk=0,
        current_prompt=None,
        has_prompt=False,
        has_video=False,
        num_source_frames=0,
        seed=42,
        mode=Mode.FILE,
        phase=Phase.IDLE,
    )


@pytest.mark.parametrize(
    ("phase", "gives_back"),
    [
        (Phase.IDLE, 0),
        (Phase.AWAITING_SOURCE, 0),
        (Phase.AWAITING_COMPUTE, 1),
        (Phase.RUNNING, 1),
        (Phase.PAUSING, 1),
        (Phase.PAUSED, 0),
    ],
)
def test_reset_gives_compute_back_where_it_is_held_or_asked_for(
    phase: Phase, gives_back: int
) -> None:
    assert kinds(in_phase(phase).say(Reset())).count("Unbook") == gives_back


def test_nothing_of_an_abandoned_run_appears() -> None:
    driver = in_phase(Phase.RUNNING)
    old = driver.make_window()
    driver.commit(0)
    second = driver.plan()
    driver.dispatch()
    effects = driver.say(Reset())
    assert only(effects, Abandon).next_run == driver.session.run > old.run
    now = driver.now
    assert driver.session.committed(old.run, 1, now) == []
    assert driver.session.generated(second.run, second.index, now) == []
    assert driver.session.failed(second.run, second.index, now) == []
    assert driver.session.state().current_chunk == 0


def test_reset_answers_a_clip_that_is_still_examined_as_superseded() -> None:
    driver = SessionDriver()
    asked = driver.say(SetVideo(CLIP), connection=4, command_id="v")
    effects = driver.say(Reset())
    (refusal,) = said(effects, CommandError)
    assert refusal.asker == Asker(4, "v")
    assert error(effects).code is RejectReason.SUPERSEDED
    assert driver.probed(asked) == []


def test_reset_answers_a_start_whose_first_window_was_never_dispatched() -> None:
    driver = in_phase(Phase.IDLE)
    driver.booked(driver.say(Start(), connection=4, command_id="s"))
    effects = driver.say(Reset())
    (refusal,) = said(effects, CommandError)
    assert refusal.asker == Asker(4, "s")
    assert error(effects).code is RejectReason.SUPERSEDED
    assert kinds(effects).index("CommandError") < kinds(effects).index("GenerationReset")


def test_reset_supersedes_no_resume_that_had_its_compute() -> None:
    driver = in_phase(Phase.RUNNING)
    driver.make_window()
    driver.say(Pause())
    driver.booked(driver.say(Resume()))
    assert not said(driver.say(Reset()), CommandError)


def test_after_reset_source_and_prompt_are_needed_again() -> None:
    driver = in_phase(Phase.RUNNING)
    driver.say(Reset())
    assert error(driver.say(Start())).code is RejectReason.NO_PROMPT
    driver.say(SetPrompt("in snow"))
    assert error(driver.say(Start())).code is RejectReason.NO_SOURCE


def test_a_camera_that_is_still_published_is_a_source_after_reset() -> None:
    driver = live()
    driver.say(Reset())
    driver.say(SetPrompt("in snow"))
    assert kinds(driver.say(Start())) == ["Book", "State", "Ack"]


def test_generation_started_of_a_run_after_reset_answers_the_new_start() -> None:
    driver = live()
    driver.say(Reset())
    driver.say(SetPrompt("in snow"))
    driver.booked(driver.say(Start(), connection=4, command_id="s2"))
    (started,) = said(driver.dispatch(), GenerationStarted)
    assert started.asker == Asker(4, "s2")
