"""The play buttons: what a user wants against what the session does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from sana_gateway import Phase
from sdk_adapters.harness.generator.playing import AGAIN_S, PATIENCE_S, Player
from sdk_adapters.harness.generator.watching import Watching, Window
from sdk_adapters.harness.records import SessionRecord

pytestmark = pytest.mark.unit

IDLE, RUNNING, PAUSING, PAUSED, AWAITING = (
    Phase.Value(f"PHASE_{name}")
    for name in ("IDLE", "RUNNING", "PAUSING", "PAUSED", "AWAITING_COMPUTE")
)


class Desk:
    """A player, the buttons that were pressed, and timers that ring when they are told."""

    def __init__(self) -> None:
        self.now = 100.0
        self.pressed: list[tuple[str, float]] = []
        self.timers: list[tuple[float, Callable[[], None]]] = []
        record = SessionRecord(0, 0, "grpc", "h264", "", live=False, decoded=False, planned_s=0)
        self.watching = Watching(record, Window(0, 1e9), lambda *_: None, lambda _: None)
        press = self.pressed.append
        self.player = Player(
            self.watching, lambda *each: press(each), lambda: self.now, self._later
        )

    async def answer(self, *, accepted: bool = True, phase: int | None = None) -> None:
        """Answers the newest button; the session is in a phase then."""

        async def told() -> bool:
            return accepted

        if not accepted:
            self.player.refused(None)
        await self.player.sent(told())
        if phase is not None:
            self.player.told(phase)

    def after(self, seconds: float) -> None:
        """Lets time go by."""
        self.now += seconds
        due = [call for at, call in self.timers if at <= self.now]
        self.timers = [each for each in self.timers if each[0] > self.now]
        for call in due:
            call()

    def _later(self, seconds: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        self.timers.append((self.now + seconds, call))
        return asyncio.TimerHandle(0.0, call, (), asyncio.get_running_loop())


@pytest.fixture
async def desk() -> Desk:
    return Desk()


async def test_who_wants_to_play_starts_once(desk: Desk) -> None:
    desk.player.play(99.0)
    desk.player.told(IDLE)
    await desk.answer(phase=AWAITING)
    desk.player.told(RUNNING)
    assert desk.pressed == [("start", 99.0)]


async def test_a_clip_that_has_ended_is_started_again_at_once(desk: Desk) -> None:
    desk.player.play(99.0)
    await desk.answer(phase=RUNNING)
    desk.player.completed()
    desk.now = 130.0
    desk.player.told(IDLE)
    assert desk.pressed == [("start", 99.0), ("start", 130.0)]


async def test_pause_and_resume_follow_what_is_wanted(desk: Desk) -> None:
    desk.player.play(99.0)
    await desk.answer(phase=RUNNING)
    desk.player.halt(101.0)
    await desk.answer(phase=PAUSING)
    desk.player.told(PAUSED)
    desk.player.play(105.0)
    await desk.answer(phase=RUNNING)
    assert desk.pressed == [("start", 99.0), ("pause", 101.0), ("resume", 105.0)]


async def test_frames_are_due_again_where_a_pause_is_never_answered(desk: Desk) -> None:
    desk.player.play(99.0)
    await desk.answer(phase=RUNNING)
    desk.watching.frame(100.5, 1, 0, 0.0, 1)
    desk.player.halt(101.0)
    assert not desk.watching.due
    desk.now = 105.0
    desk.player.play(105.0)
    assert desk.watching.playing
    # The service is dead: what the user looks at stands from then on.
    desk.watching.close(120.0)
    assert desk.watching.freezes == 1
    assert [name for name, _ in desk.pressed] == ["start", "pause"]


async def test_a_pause_that_is_answered_late_is_a_pause_all_the_same(desk: Desk) -> None:
    desk.player.play(99.0)
    await desk.answer(phase=RUNNING)
    desk.watching.frame(100.5, 1, 0, 0.0, 1)
    desk.player.halt(101.0)
    desk.now = 105.0
    desk.player.play(105.0)
    await desk.answer(phase=PAUSED)
    assert [name for name, _ in desk.pressed] == ["start", "pause", "resume"]
    assert desk.watching.due
    assert not desk.watching.playing, "the first frame after it is waited for"


async def test_who_stops_before_the_first_frame_and_goes_on_waits_for_it(desk: Desk) -> None:
    desk.player.play(99.0)
    desk.player.halt(99.5)
    desk.player.play(99.8)
    await desk.answer(phase=RUNNING)
    assert desk.watching.due
    desk.watching.frame(101.0, 1, 0, 0.0, 1)
    assert desk.watching.playing


async def test_a_pause_before_the_start_is_answered_waits_for_it(desk: Desk) -> None:
    desk.player.play(99.0)
    desk.player.halt(99.5)
    assert desk.pressed == [("start", 99.0)]
    await desk.answer(phase=RUNNING)
    assert desk.pressed == [("start", 99.0), ("pause", 99.5)]


async def test_what_was_refused_is_tried_again_after_a_while(desk: Desk) -> None:
    desk.player.play(99.0)
    await desk.answer(accepted=False)
    desk.player.told(AWAITING)
    desk.player.told(IDLE)
    assert len(desk.pressed) == 1
    desk.after(AGAIN_S + 0.1)
    assert [name for name, _ in desk.pressed] == ["start", "start"]


async def test_a_phase_that_is_slow_to_show_is_waited_for(desk: Desk) -> None:
    desk.player.play(99.0)
    await desk.answer()
    desk.player.told(IDLE)
    desk.after(PATIENCE_S / 2)
    assert len(desk.pressed) == 1
    desk.after(PATIENCE_S)
    assert len(desk.pressed) == 2


async def test_a_closed_player_presses_nothing(desk: Desk) -> None:
    desk.player.play(99.0)
    await desk.answer(phase=RUNNING)
    desk.player.close()
    desk.player.told(IDLE)
    desk.after(10.0)
    assert len(desk.pressed) == 1
