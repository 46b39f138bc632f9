"""What an editing session consists of, and the steps that several of its inputs share.

`session.py` holds the inputs themselves, and the rules worth knowing first.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from scheduler.core.commands import (
    Command,
    Mode,
    RejectReason,
    Resume,
    Start,
)
from scheduler.core.effects import Abandon, Book, Effect, Send, Unbook
from scheduler.core.errors import InvariantError
from scheduler.core.geometry import Geometry
from scheduler.core.messages import (
    ChunkComplete,
    GenerationComplete,
    Message,
    Phase,
    State,
)
from scheduler.core.outbox import Outbox
from scheduler.core.run import MadeChunk, Run, WindowPlan
from scheduler.core.session_table import STARTED, Trigger, World, targets
from scheduler.core.staging import Clip, Staging

STALL_SHOWS_AFTER = 1.0
"""Seconds of a silent camera after which `running` is false."""
STALL_RELEASES_AFTER = 5.0
"""Seconds of a silent camera after which compute is given back."""
ASK_AGAIN_AFTER = 1.0
"""Seconds after which compute is asked for again where no client waits for it."""

_FALLBACK: dict[type[Command], Phase] = {Start: Phase.IDLE, Resume: Phase.PAUSED}
"""Where a wait ends that was in vain, by the command that waits."""


@dataclass(frozen=True, slots=True)
class Timer:
    """What the session does by itself, and when. It has at most one."""

    at: float
    act: Callable[[], list[Effect]]


class SessionBody:
    """State, views and steps of a session; see `Session`."""

    def __init__(
        self,
        geometry: Geometry,
        *,
        seed: int = 0,
        start_wait: float = 30.0,
        source_wait: float = 2.0,
    ) -> None:
        self._geometry = geometry
        self._start_wait = start_wait
        self._source_wait = source_wait

        self._now = -math.inf
        self._phase = Phase.IDLE
        self._timer: Timer | None = None
        self._waiting: type[Command] | None = None
        """The command for whose sake the session is in a wait; None where no client asked."""
        self._staging = Staging(seed)
        self._outbox = Outbox()

        self._camera_published = False
        self._camera_flows = False

        self._awaits_room = False
        self._degraded_frame_rate = 0.0
        self._degraded_steps = 0

        self._ticket = 0
        self._booking: Book | None = None
        """What was asked for and is not answered."""
        self._computing = False
        """Whether compute is held."""
        self._queue_position = 0

        self._run_number = 0
        self._run: Run | None = None
        self._run_seed = seed
        self._streaming = False
        """Whether windows are being dispatched since compute was booked."""

        self._told = self.state()

    # Views

    @property
    def phase(self) -> Phase:
        """The present phase."""
        return self._phase

    @property
    def mode(self) -> Mode:
        """Where the source video comes from; fixed while a run exists."""
        return self._staging.mode

    @property
    def prompt(self) -> str | None:
        """The prompt last accepted."""
        return self._staging.prompt

    @property
    def seed(self) -> int:
        """The seed of the next start."""
        return self._staging.seed

    @property
    def clip(self) -> Clip | None:
        """The staged clip."""
        return self._staging.clip

    @property
    def run(self) -> int:
        """Number of the present run, or of the last one. Grows with every start and reset."""
        return self._run_number

    @property
    def revision(self) -> int:
        """Revision of the last message to all."""
        return self._outbox.revision

    @property
    def journal(self) -> deque[Message]:
        """The last messages to all, oldest first, at most 256."""
        return self._outbox.journal

    def state(self) -> State:
        """Returns what a `state` message would say now."""
        phase, run, clip = self._phase, self._run, self._staging.clip
        return State(
            running=phase is Phase.PAUSING or (phase is Phase.RUNNING and self._streaming),
            started=phase in STARTED,
            paused=phase in (Phase.PAUSING, Phase.PAUSED),
            current_chunk=0 if run is None or phase is Phase.AWAITING_SOURCE else run.committed,
            current_prompt=self._staging.prompt,
            has_prompt=self._staging.prompt is not None,
            has_video=clip is not None,
            num_source_frames=clip.num_frames if clip is not None else 0,
            seed=self._staging.seed,
            mode=self._staging.mode,
            phase=phase,
            queue_position=self._queue_position,
            degraded_frame_rate=self._degraded_frame_rate,
            degraded_steps=self._degraded_steps,
            awaiting_room=self._awaits_room,
        )

    def deadline(self) -> float | None:
        """Returns when `tick` is to be called; None while nothing is waited for."""
        return self._timer.at if self._timer is not None else None

    @property
    def next_window(self) -> WindowPlan | None:
        """The window that may be dispatched now; None if none may.

        Its prompt is the present one; it is latched by `dispatched`.
        """
        run = self._run
        if self._phase is not Phase.RUNNING or not self._computing or run is None:
            return None
        if run.under_way is not None or run.exhausted or self._staging.prompt is None:
            return None
        return run.plan(self._staging.prompt)

    # The source

    @property
    def _silent(self) -> bool:
        """Whether the source is a camera, and that sends nothing."""
        return self._staging.mode is Mode.LIVE and not self._camera_flows

    # Steps that several inputs share

    def _begin_run(self, trigger: Trigger) -> list[Effect]:
        self._run_number += 1
        clip = self._staging.clip if self._staging.mode is Mode.FILE else None
        frames = clip.num_frames if clip is not None else None
        self._run = Run(self._run_number, self._geometry, self._run_seed, frames)
        return self._await_compute(trigger, Start)

    def _await_compute(self, trigger: Trigger, waiting: type[Command] | None) -> list[Effect]:
        self._enter(Phase.AWAITING_COMPUTE, trigger)
        return self._ask_compute(waiting)

    def _ask_compute(self, waiting: type[Command] | None) -> list[Effect]:
        self._streaming = False
        self._waiting = waiting
        if waiting is not None:
            self._timer = Timer(self._now + self._start_wait, self._start_wait_over)
        return self._book()

    def _watch_camera(self) -> None:
        """Begins to count a stall where one matters, or ends counting."""
        if self._silent and self._computing:
            self._timer = Timer(self._now + STALL_SHOWS_AFTER, self._stall_shows)
        else:
            self._timer = None

    def _stall_shows(self) -> list[Effect]:
        self._streaming = False
        rest = STALL_RELEASES_AFTER - STALL_SHOWS_AFTER
        self._timer = Timer(self._now + rest, self._stall_releases)
        return []

    def _stall_releases(self) -> list[Effect]:
        if self._run is not None and self._run.under_way is not None:
            self._timer = Timer(self._now + STALL_SHOWS_AFTER, self._stall_releases)
            return []
        return self._unbook()

    def _start_wait_over(self) -> list[Effect]:
        return self._no_capacity(self._start_wait)

    def _no_capacity(self, retry_after_s: float) -> list[Effect]:
        reason = f"no capacity, retry in {math.ceil(retry_after_s)} s"
        code = RejectReason.NO_CAPACITY
        return self._give_up(World.COMPUTE_REFUSED, code, reason, retry_after_s)

    def _no_camera(self) -> list[Effect]:
        known = "the camera sends nothing" if self._camera_published else "no camera is published"
        return self._give_up(World.SOURCE_MISSING, RejectReason.NO_SOURCE, known)

    def _give_up(
        self, trigger: Trigger, code: RejectReason, reason: str, retry_after_s: float = 0.0
    ) -> list[Effect]:
        """Ends a wait in vain: its command fails, the phase is as before it."""
        command = self._waiting
        if command is None:
            raise InvariantError("no command waits")
        error = self._outbox.fail(command, code, reason, self._phase, retry_after_s)
        effects = [*self._unbook(), *error]
        self._enter(_FALLBACK[command], trigger)
        return effects

    def _tell_shown(self, chunks: Iterable[MadeChunk]) -> list[Effect]:
        effects: list[Effect] = []
        for shown, prompt in chunks:
            effects.append(self._outbox.tell(ChunkComplete(shown.index, shown.frames, prompt)))
            effects.append(self._tell_state())
        return effects

    def _complete(self, trigger: Trigger) -> list[Effect]:
        """Ends a run that was shown to its end; what is staged and its count stay."""
        chunks = 0 if self._run is None else self._run.committed
        effects = [*self._unbook(), self._outbox.tell(GenerationComplete(chunks))]
        self._enter(Phase.IDLE, trigger)
        return effects

    def _abandon(self) -> list[Effect]:
        self._run_number += 1
        self._run = None
        return [Abandon(self._run_number)]

    def _book(self) -> list[Effect]:
        self._booking = Book(self._next_ticket())
        return [self._booking]

    def _unbook(self) -> list[Effect]:
        if self._booking is None and not self._computing:
            return []
        self._booking, self._computing = None, False
        return [Unbook()]

    def _asked_by(self, ticket: int) -> bool:
        return self._booking is not None and self._booking.ticket == ticket

    def _current(self, run: int) -> Run | None:
        """Returns the run of that number if it is neither over nor abandoned."""
        alive = self._phase in STARTED and run == self._run_number
        return self._run if alive else None

    # Phase and time

    def _applies(self, trigger: Trigger) -> bool:
        return bool(targets(self._phase, trigger))

    def _enter(self, phase: Phase, trigger: Trigger) -> None:
        """Changes the phase, as the table allows. Every wait ends with its phase."""
        if phase not in targets(self._phase, trigger):
            raise InvariantError(f"{trigger} leads from {self._phase} to no {phase}")
        self._phase = phase
        self._timer = None
        self._waiting = None
        self._queue_position = 0
        self._outbox.take(Resume)

    def _advance(self, now: float) -> None:
        self._now = max(self._now, now)

    def _next_ticket(self) -> int:
        self._ticket += 1
        return self._ticket

    # Messages

    def _tell_state(self) -> Send:
        self._told = self.state()
        return self._outbox.tell(self._told)

    def _settled(self, effects: list[Effect]) -> list[Effect]:
        """Adds a `state` if there is something new to show."""
        return effects if self.state() == self._told else [*effects, self._tell_state()]

    def _supersede(self, command: type[Command]) -> list[Effect]:
        reason = "a later command took its place"
        return [*self._outbox.fail(command, RejectReason.SUPERSEDED, reason, self._phase)]
