"""A session whose prompt becomes another over several chunks: in its windows, and elsewhere."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sana_gateway.v1 import command_pb2
from sana_gateway_internal.v1 import snapshot_pb2
from scheduler import wire
from scheduler.core.commands import MAX_TRANSITION_CHUNKS, Reset, SetPrompt, Start
from scheduler.core.errors import BadArgumentError
from scheduler.core.messages import ChunkComplete, Phase
from scheduler.core.prompts import Blend, Share
from scheduler.core.run import WindowPlan
from scheduler.wire_snapshot import snapshot_in, snapshot_out
from tests.unit.scheduler.session_driver import (
    SessionDriver,
    accepted,
    error,
    in_phase,
    live,
    said,
)

pytestmark = pytest.mark.unit

OLD = "as an oil painting"
LONG = 33 + 20 * 24


def playing(windows: int = 1) -> SessionDriver:
    driver = SessionDriver()
    driver.stage_clip(LONG)
    driver.start()
    for _ in range(windows):
        driver.make_window()
    return driver


def of_old(plan: WindowPlan) -> float:
    """Returns the share of the old prompt in a window."""
    shares = Blend(plan.prompt, plan.earlier).shares
    return sum(each.share for each in shares if each.prompt == OLD)


def test_a_prompt_is_there_at_once_where_nothing_else_was_asked() -> None:
    driver = playing()
    driver.say(SetPrompt("new"))
    plan = driver.make_window()
    assert (plan.prompt, plan.earlier) == ("new", ())


def test_a_transition_takes_so_many_windows_and_says_the_new_prompt_all_along() -> None:
    driver = playing()
    driver.say(SetPrompt("new", 3))
    plans = [driver.make_window() for _ in range(5)]
    assert [of_old(each) for each in plans] == pytest.approx([0.75, 0.5, 0.25, 0.0, 0.0])
    assert {each.prompt for each in plans} == {"new"}
    effects = [effect for chunk in range(3) for effect in driver.commit(chunk)]
    told = [each.message.payload for each in said(effects, ChunkComplete)]
    active = [each.active_prompt for each in told if isinstance(each, ChunkComplete)]
    assert active == [OLD, OLD, "new"]


def test_a_prompt_before_the_start_is_the_prompt_of_the_first_window() -> None:
    driver = SessionDriver()
    driver.stage_clip()
    driver.say(SetPrompt("new", 5))
    driver.start()
    plan = driver.make_window()
    assert (plan.prompt, plan.earlier) == ("new", ())


def test_a_replay_begins_with_the_prompt_that_was_reached() -> None:
    driver = playing()
    driver.say(SetPrompt("new", 5))
    driver.make_window()
    driver.say(Reset())
    driver.stage_clip()
    driver.say(SetPrompt("newer"))
    driver.start()
    plan = driver.make_window()
    assert (plan.prompt, plan.earlier) == ("newer", ())


@pytest.mark.parametrize("chunks", [MAX_TRANSITION_CHUNKS + 1, -1, 10**9])
def test_other_numbers_of_chunks_are_a_bad_argument(chunks: int) -> None:
    driver = playing()
    refused = error(driver.say(SetPrompt("new", chunks)))
    assert str(MAX_TRANSITION_CHUNKS) in refused.reason
    assert driver.session.prompt == OLD


@pytest.mark.parametrize("phase", Phase)
def test_a_transition_may_be_asked_for_at_any_time(phase: Phase) -> None:
    assert accepted(in_phase(phase).say(SetPrompt("new", MAX_TRANSITION_CHUNKS)))


# -- until the model looks at it ----------------------------------------------------------


def test_a_window_that_waits_for_the_model_takes_the_newest_prompt() -> None:
    driver = playing()
    plan = driver.plan()
    driver.dispatch()
    driver.say(SetPrompt("new", 1))
    latched = driver.session.latched(plan.run, plan.index, driver.now)
    assert latched == replace(plan, prompt="new", earlier=(Share(OLD, 0.5),))
    driver.say(SetPrompt("newer"))
    assert driver.session.latched(plan.run, plan.index, driver.now) is None, "the last word"
    driver.session.generated(plan.run, plan.index, driver.now)
    assert driver.plan().prompt == "newer"
    effects = [effect for chunk in range(3) for effect in driver.commit(chunk)]
    told = [each.message.payload for each in said(effects, ChunkComplete)]
    assert isinstance(told[-1], ChunkComplete)
    assert told[-1].active_prompt == "new"


def test_a_window_whose_prompt_did_not_change_stays_as_it_is() -> None:
    driver = playing()
    driver.say(SetPrompt("new", 3))
    plan = driver.plan()
    driver.dispatch()
    assert driver.session.latched(plan.run, plan.index, driver.now) is None
    driver.session.generated(plan.run, plan.index, driver.now)
    assert of_old(driver.plan()) == pytest.approx(0.5)


def test_a_window_of_an_abandoned_run_is_latched_by_nobody() -> None:
    driver = playing()
    plan = driver.plan()
    driver.dispatch()
    driver.say(Reset())
    assert driver.session.latched(plan.run, plan.index, driver.now) is None
    assert driver.session.latched(plan.run + 5, 0, driver.now) is None


def test_a_window_that_is_made_again_keeps_the_prompt_it_was_made_with() -> None:
    driver = playing(windows=2)
    driver.move(computing=True, next_frame=0)
    driver.say(SetPrompt("new"))
    plan = driver.plan()
    driver.dispatch()
    assert (plan.index, plan.prompt) == (0, OLD)
    assert driver.session.latched(plan.run, plan.index, driver.now) is None


# -- elsewhere ----------------------------------------------------------------------------


@pytest.mark.parametrize("lost_after", range(1, 5))
@pytest.mark.parametrize("shown", [0, 33, 57])
def test_a_transition_goes_on_elsewhere_as_if_nothing_had_happened(
    lost_after: int, shown: int
) -> None:
    undisturbed, driver = playing(), playing()
    for each in (undisturbed, driver):
        each.say(SetPrompt("new", 3))
    expected = [undisturbed.make_window() for _ in range(6)]
    for _ in range(lost_after):
        driver.make_window()
    over_the_wire(driver)
    driver.move(computing=True, next_frame=shown)
    plans = [driver.make_window() for _ in range(7)]
    again = [replace(each, skip=0) for each in plans if each.index]
    assert again == [replace(each, skip=0) for each in expected]


def test_a_live_transition_goes_on_elsewhere_from_where_it_stood() -> None:
    driver = live(windows=1)
    driver.say(SetPrompt("new", 3))
    plans = [driver.make_window() for _ in range(2)]
    over_the_wire(driver)
    driver.move(computing=True, kept_windows=3, next_frame=33)
    driver.session.source_flowing(driver.now)
    plans += [driver.make_window() for _ in range(2)]
    assert [of_old(each) for each in plans] == pytest.approx([0.75, 0.5, 0.25, 0.0])


def test_a_snapshot_of_before_there_were_transitions_is_read() -> None:
    driver = playing(windows=2)
    message = snapshot_out(driver.session.snapshot(), session_id="s", epoch=1, host="")
    message.run.ClearField("course")
    run = snapshot_in(message).run
    assert run is not None
    assert run.kept is not None
    assert run.kept.prompts == (Blend(OLD), Blend(OLD))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("windows", MAX_TRANSITION_CHUNKS + 1),
        ("windows", 0),
        ("made", 3),
        ("origin.prompt", ""),
        ("origin.earlier", [("a", 0.5), ("b", 0.5)]),
        ("origin.earlier", [("a", float("nan"))]),
        ("blend.earlier", [("a", -0.5)]),
        ("blend.earlier", [("", 0.5)]),
        ("blend.earlier", [(each, 0.1) for each in "abcd"]),
        ("blend.prompt", "x" * 10_001),
    ],
    ids=str,
)
def test_what_no_transition_could_have_been_is_refused(field: str, value: object) -> None:
    driver = playing()
    driver.say(SetPrompt("new", 3))
    driver.make_window()
    message = snapshot_out(driver.session.snapshot(), session_id="s", epoch=1, host="")
    snapshot_in(message)
    course = message.run.course
    name, _, inner = field.partition(".")
    target = getattr(course, name) if inner else course
    if isinstance(value, list):
        target.ClearField("earlier")
        for prompt, share in value:
            target.earlier.add(prompt=prompt, share=share)
    else:
        setattr(target, inner or name, value)
    with pytest.raises(BadArgumentError):
        snapshot_in(message)


def test_the_field_of_the_contract_is_optional() -> None:
    def read(**fields: object) -> object:
        return wire.command_in(
            command_pb2.Command(set_prompt=command_pb2.SetPrompt(prompt="p", **fields))
        )

    assert read() == SetPrompt("p")
    assert read(transition_chunks=0) == SetPrompt("p", 0)
    assert read(transition_chunks=4) == SetPrompt("p", 4)
    assert isinstance(read(transition_chunks=2**32 - 1), SetPrompt), "the session refuses it"


def over_the_wire(driver: SessionDriver) -> None:
    snapshot = driver.session.snapshot()
    sent = snapshot_out(snapshot, session_id="s", epoch=1, host="").SerializeToString()
    assert snapshot_in(snapshot_pb2.ControlSnapshot.FromString(sent)) == snapshot


def test_a_session_that_never_started_has_no_transition() -> None:
    driver = SessionDriver()
    driver.stage_clip()
    driver.say(SetPrompt("new", 3))
    driver.say(Start())
    over_the_wire(driver)
