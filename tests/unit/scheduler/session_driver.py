"""Plays the clients, the engine and the clock of one editing session."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any, TypeVar

from scheduler.core.commands import (
    Command,
    FileRef,
    Mode,
    Pause,
    Resume,
    SetMode,
    SetPrompt,
    SetVideo,
    Start,
)
from scheduler.core.effects import Ack, Asker, Book, Effect, Probe, Send
from scheduler.core.geometry import Geometry
from scheduler.core.messages import CommandError, Payload, Phase, State
from scheduler.core.run import WindowPlan
from scheduler.core.session import Session
from scheduler.core.snapshot import Resumption

T = TypeVar("T")

CLIP = FileRef("upload-1")
FRAMES = 33 + 24 + 10
"""A clip of three windows, the last cut short: chunks of 9, 24, 24 and 10 frames."""


class SessionDriver:
    """A session with a clock; every method returns the effects of its one input."""

    def __init__(self, *, seed: int = 7) -> None:
        self.session = Session(Geometry(), seed=seed)
        self.now = 100.0
        self._ids = itertools.count(1)

    def say(
        self, command: Command, *, connection: int = 1, command_id: str | None = None
    ) -> list[Effect]:
        asker = Asker(connection, f"c{next(self._ids)}" if command_id is None else command_id)
        return self.session.command(asker, command, self.now)

    def wait(self, seconds: float) -> list[Effect]:
        """Lets time pass, with a tick at every deadline on the way."""
        until, effects = self.now + seconds, list[Effect]()
        while (deadline := self.session.deadline()) is not None and deadline <= until:
            self.now = max(self.now, deadline)
            effects += self.session.tick(self.now)
        self.now = until
        return effects

    def probed(self, effects: Iterable[Effect], frames: int = FRAMES) -> list[Effect]:
        ticket = only(effects, Probe).ticket
        return self.session.probe_accepted(ticket, 1920, 1080, frames, self.now)

    def booked(self, effects: Iterable[Effect]) -> list[Effect]:
        return self.session.compute_booked(only(effects, Book).ticket, self.now)

    def dispatch(self) -> list[Effect]:
        return self.session.dispatched(self.now)

    def plan(self) -> WindowPlan:
        plan = self.session.next_window
        assert plan is not None
        return plan

    def make_window(self) -> WindowPlan:
        """Dispatches the next window and finishes it."""
        plan = self.plan()
        self.dispatch()
        self.session.generated(plan.run, plan.index, self.now)
        return plan

    def commit(self, chunk: int) -> list[Effect]:
        return self.session.committed(self.session.run, chunk, self.now)

    def play_clip(self) -> list[Effect]:
        """Makes and shows all that is left of the clip."""
        effects: list[Effect] = []
        while self.session.phase is Phase.RUNNING:
            for chunk in self.make_window().chunks:
                effects += self.commit(chunk.index)
        return effects

    def resumption(
        self,
        *,
        run: int | None = None,
        next_frame: int = 0,
        revision: int = 0,
        handed_over: bool = False,
        kept_windows: int | None = None,
        computing: bool = False,
        fork: bool = False,
    ) -> Resumption:
        """Returns what another actor would know of the session."""
        return Resumption(
            run=self.session.run if run is None else run,
            next_frame=next_frame,
            revision=revision,
            handed_over=handed_over,
            kept_windows=kept_windows,
            computing=computing,
            reason="its worker was lost",
            fork=fork,
        )

    def move(self, **known: Any) -> list[Effect]:
        """Goes on at another actor, with what is known there."""
        self.session, effects = Session.restored(
            Geometry(), self.session.snapshot(), self.resumption(**known), self.now
        )
        return effects

    # Ways to get somewhere

    def stage_clip(self, frames: int = FRAMES) -> None:
        self.say(SetMode(Mode.FILE))
        self.probed(self.say(SetVideo(CLIP)), frames)
        self.say(SetPrompt("as an oil painting"))

    def stage_camera(self) -> None:
        self.say(SetPrompt("as an oil painting"))
        self.session.camera_published(published=True, now=self.now)
        self.session.source_flowing(self.now)

    def start(self) -> list[Effect]:
        """Starts, and has compute booked at once."""
        return self.booked(self.say(Start()))


def in_phase(phase: Phase) -> SessionDriver:
    """Returns a session with a staged clip that got into a phase by itself."""
    driver = SessionDriver()
    driver.stage_clip()
    if phase is Phase.AWAITING_SOURCE:
        driver.say(SetVideo(FileRef("upload-2")))
        driver.say(Start())
    elif phase is Phase.AWAITING_COMPUTE:
        driver.say(Start())
    elif phase is not Phase.IDLE:
        driver.start()
    if phase is Phase.PAUSING:
        driver.dispatch()
    if phase in (Phase.PAUSING, Phase.PAUSED):
        driver.say(Pause())
    assert driver.session.phase is phase
    return driver


def awaiting_after_resume() -> SessionDriver:
    """Returns a session whose `resume` waits for compute."""
    driver = in_phase(Phase.PAUSED)
    driver.say(Resume())
    assert driver.session.phase is Phase.AWAITING_COMPUTE
    return driver


def live(*, windows: int = 1) -> SessionDriver:
    """Returns a session that edits a camera and made some windows."""
    driver = SessionDriver()
    driver.stage_camera()
    driver.start()
    for _ in range(windows):
        driver.make_window()
    return driver


# Reading effects


def only(effects: Iterable[Effect], kind: type[T]) -> T:
    """Returns the one effect of a kind."""
    (found,) = (effect for effect in effects if isinstance(effect, kind))
    return found


def kinds(effects: Iterable[Effect]) -> list[str]:
    """Returns the effects by name, messages by the name of what they say."""
    return [
        type(effect.message.payload if isinstance(effect, Send) else effect).__name__
        for effect in effects
    ]


def said(effects: Iterable[Effect], kind: type[Payload]) -> list[Send]:
    """Returns the messages of a kind."""
    return [
        effect
        for effect in effects
        if isinstance(effect, Send) and isinstance(effect.message.payload, kind)
    ]


def error(effects: Iterable[Effect]) -> CommandError:
    """Returns the one error."""
    (found,) = said(effects, CommandError)
    assert isinstance(found.message.payload, CommandError)
    return found.message.payload


def state(effects: Iterable[Effect]) -> State:
    """Returns the last state."""
    found = said(effects, State)[-1].message.payload
    assert isinstance(found, State)
    return found


def accepted(effects: Iterable[Effect]) -> bool:
    return only(effects, Ack).accepted
