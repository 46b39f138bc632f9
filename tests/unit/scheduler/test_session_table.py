"""Every change of phase in the table happens, and no other can."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from scheduler.core.commands import (
    NAMES,
    Invalid,
    Mode,
    Pause,
    Reset,
    Resume,
    SetMode,
    SetPrompt,
    Start,
)
from scheduler.core.errors import InvariantError
from scheduler.core.messages import Phase
from scheduler.core.session import Session
from scheduler.core.session_table import (
    TABLE,
    SwitchMode,
    Trigger,
    World,
    allowed_phases,
    targets,
)
from tests.unit.scheduler.session_driver import (
    FRAMES,
    SessionDriver,
    awaiting_after_resume,
    in_phase,
    live,
)

pytestmark = pytest.mark.unit

Edge = tuple[Phase, Trigger, Phase]
Step = Callable[[SessionDriver], object]

IDLE, AWAITING_SOURCE, AWAITING_COMPUTE = Phase.IDLE, Phase.AWAITING_SOURCE, Phase.AWAITING_COMPUTE
RUNNING, PAUSING, PAUSED = Phase.RUNNING, Phase.PAUSING, Phase.PAUSED


def prompted() -> SessionDriver:
    driver = SessionDriver()
    driver.say(SetPrompt("in snow"))
    return driver


def awaiting_camera() -> SessionDriver:
    driver = prompted()
    driver.say(Start())
    return driver


def live_after_long_stall() -> SessionDriver:
    driver = live()
    driver.session.source_stalled(driver.now)
    driver.wait(10.0)
    return driver


def first_window_under_way() -> SessionDriver:
    driver = in_phase(RUNNING)
    driver.dispatch()
    return driver


def all_windows_made() -> SessionDriver:
    driver = in_phase(RUNNING)
    for _ in range(3):
        driver.make_window()
    return driver


def paused_with_all_made() -> SessionDriver:
    driver = all_windows_made()
    driver.say(Pause())
    return driver


def pausing_in_the_last_window() -> SessionDriver:
    driver = in_phase(RUNNING)
    driver.make_window()
    driver.make_window()
    driver.dispatch()
    driver.say(Pause())
    return driver


def finish(driver: SessionDriver) -> object:
    return driver.session.generated(driver.session.run, 0, driver.now)


def fail(driver: SessionDriver) -> object:
    return driver.session.failed(driver.session.run, 0, driver.now)


def book(driver: SessionDriver) -> object:
    return driver.session.compute_booked(driver.session._ticket, driver.now)


def packets(driver: SessionDriver) -> object:
    return driver.session.source_flowing(driver.now)


def move(**known: Any) -> Step:
    return lambda driver: driver.move(**known)


def say(command: Pause | Resume | Reset | Start | SetMode) -> Step:
    return lambda driver: driver.say(command)


def wait(seconds: float) -> Step:
    return lambda driver: driver.wait(seconds)


def commit(chunk: int) -> Step:
    return lambda driver: driver.commit(chunk)


WAYS: dict[Edge, tuple[Callable[[], SessionDriver], Step]] = {
    (IDLE, Start, AWAITING_COMPUTE): (lambda: in_phase(IDLE), say(Start())),
    (IDLE, Start, AWAITING_SOURCE): (prompted, say(Start())),
    (AWAITING_SOURCE, SwitchMode, IDLE): (awaiting_camera, say(SetMode(Mode.FILE))),
    (AWAITING_SOURCE, Reset, IDLE): (awaiting_camera, say(Reset())),
    (AWAITING_SOURCE, World.SOURCE_READY, AWAITING_COMPUTE): (awaiting_camera, packets),
    (AWAITING_SOURCE, World.SOURCE_MISSING, IDLE): (awaiting_camera, wait(2.0)),
    (AWAITING_COMPUTE, Pause, PAUSED): (lambda: in_phase(AWAITING_COMPUTE), say(Pause())),
    (AWAITING_COMPUTE, Reset, IDLE): (lambda: in_phase(AWAITING_COMPUTE), say(Reset())),
    (AWAITING_COMPUTE, World.COMPUTE_BOOKED, RUNNING): (lambda: in_phase(AWAITING_COMPUTE), book),
    (AWAITING_COMPUTE, World.COMPUTE_REFUSED, IDLE): (
        lambda: in_phase(AWAITING_COMPUTE),
        wait(30.0),
    ),
    (AWAITING_COMPUTE, World.COMPUTE_REFUSED, PAUSED): (awaiting_after_resume, wait(30.0)),
    (RUNNING, Pause, PAUSING): (first_window_under_way, say(Pause())),
    (RUNNING, Pause, PAUSED): (lambda: in_phase(RUNNING), say(Pause())),
    (RUNNING, Reset, IDLE): (lambda: in_phase(RUNNING), say(Reset())),
    (RUNNING, World.SOURCE_BACK, AWAITING_COMPUTE): (live_after_long_stall, packets),
    (RUNNING, World.MODEL_FAILED, IDLE): (first_window_under_way, fail),
    (RUNNING, World.CLIP_SHOWN, IDLE): (all_windows_made, commit(3)),
    (PAUSING, Resume, RUNNING): (lambda: in_phase(PAUSING), say(Resume())),
    (PAUSING, Reset, IDLE): (lambda: in_phase(PAUSING), say(Reset())),
    (PAUSING, World.WINDOW_FINISHED, PAUSED): (lambda: in_phase(PAUSING), finish),
    (PAUSING, World.MODEL_FAILED, IDLE): (lambda: in_phase(PAUSING), fail),
    (PAUSING, World.CLIP_SHOWN, IDLE): (pausing_in_the_last_window, commit(3)),
    (PAUSED, Resume, AWAITING_COMPUTE): (lambda: in_phase(PAUSED), say(Resume())),
    (PAUSED, Resume, RUNNING): (paused_with_all_made, say(Resume())),
    (PAUSED, Reset, IDLE): (lambda: in_phase(PAUSED), say(Reset())),
    (PAUSED, World.MODEL_FAILED, IDLE): (lambda: in_phase(PAUSED), fail),
    (AWAITING_COMPUTE, World.MODEL_FAILED, IDLE): (awaiting_after_resume, fail),
    (PAUSED, World.CLIP_SHOWN, IDLE): (paused_with_all_made, commit(3)),
    (AWAITING_SOURCE, World.MOVED, IDLE): (awaiting_camera, move(run=1)),
    (AWAITING_COMPUTE, World.MOVED, RUNNING): (
        lambda: in_phase(AWAITING_COMPUTE),
        move(computing=True),
    ),
    (AWAITING_COMPUTE, World.MOVED, IDLE): (lambda: in_phase(AWAITING_COMPUTE), move(run=2)),
    (RUNNING, World.MOVED, AWAITING_COMPUTE): (lambda: in_phase(RUNNING), move()),
    (RUNNING, World.MOVED, IDLE): (all_windows_made, move(next_frame=FRAMES)),
    (PAUSING, World.MOVED, PAUSED): (lambda: in_phase(PAUSING), move()),
    (PAUSING, World.MOVED, IDLE): (pausing_in_the_last_window, move(next_frame=FRAMES)),
    (PAUSED, World.MOVED, IDLE): (paused_with_all_made, move(next_frame=FRAMES)),
}


def test_the_ways_are_exactly_the_changes_of_phase_in_the_table() -> None:
    changes = {
        (phase, trigger, edge.to)
        for (phase, trigger), edges in TABLE.items()
        for edge in edges
        if edge.to is not phase
    }
    assert set(WAYS) == changes


@pytest.mark.parametrize("edge", WAYS, ids=lambda edge: f"{edge[0].value}-{edge[2].value}")
def test_every_change_of_phase_in_the_table_happens(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, trigger, after = edge
    prepare, act = WAYS[edge]
    driver = prepare()
    assert driver.session.state().phase is before
    entered: list[tuple[Phase, Trigger]] = []
    enter = Session._enter

    def record(session: Session, phase: Phase, by: Trigger) -> None:
        entered.append((phase, by))
        enter(session, phase, by)

    monkeypatch.setattr(Session, "_enter", record)
    act(driver)
    assert entered == [(after, trigger)]
    assert driver.session.state().phase is after


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("trigger", [*NAMES, SwitchMode, *World])
def test_no_other_change_of_phase_is_possible(phase: Phase, trigger: Trigger) -> None:
    for other in set(Phase) - set(targets(phase, trigger)):
        with pytest.raises(InvariantError):
            in_phase(phase).session._enter(other, trigger)


def test_every_command_is_accepted_somewhere_and_what_is_no_command_nowhere() -> None:
    assert all(allowed_phases(command) for command in NAMES)
    assert allowed_phases(Invalid) == ()


def test_where_a_trigger_has_several_edges_each_says_when() -> None:
    for edges in TABLE.values():
        assert len(edges) == 1 or all(edge.when for edge in edges)
