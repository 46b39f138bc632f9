"""The editing session: the machine behind one client's eight commands.

It is the only authority on what a session does. Commands, facts of the world and the
time go in; effects come out, in order (`effects.py`). It decides by the table in
`session_table.py`: a trigger is looked up there first, then its arguments are checked,
and only then is anything changed, so a refused command leaves no trace but its answer.

Rules worth knowing before reading on:

* The phase is stored, the booleans of `state` are derived from it.
* A command is answered at once by its messages, one `state` and one `Ack`, in this
  order. `set_video`, `start` and `resume` are accepted before all is known; what is
  known later (`video_accepted`, `generation_started`, a `command_error`) carries the
  same asker. `set_video` and `start` are never left without it: what ends them early
  answers them as superseded.
* A fact of the world is followed by a `state` if it changed what `state` shows.
* Compute is asked for in AWAITING_COMPUTE, held in RUNNING and PAUSING, and given back
  by pause, reset, failure, with the last window of a clip, and when a camera has been
  silent for `STALL_RELEASES_AFTER` seconds and no window is under way. A stall is
  counted from the last packet, or from when the session entered RUNNING if that is later.
* Waits end by `tick`, never by an input that happens to come later.

Elsewhere: how a session goes on at another actor (`session_moves.py`), when a window runs
(`chunks.py`), who gets compute (the scheduler), pictures and their clock (the engine and the
gateway).
"""

from __future__ import annotations

from scheduler.core.commands import (
    NAMES,
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
from scheduler.core.effects import Asker, Effect, Probe, Send
from scheduler.core.errors import InvariantError
from scheduler.core.messages import (
    CommandError,
    GenerationReset,
    GenerationStarted,
    Message,
    Phase,
    PromptAccepted,
    VideoAccepted,
)
from scheduler.core.run import WindowPlan
from scheduler.core.session_body import ASK_AGAIN_AFTER, Timer
from scheduler.core.session_moves import MovableSession
from scheduler.core.session_table import SwitchMode, World
from scheduler.core.staging import Clip


class Session(MovableSession):
    """One editing session.

    Times are seconds on any clock that does not fall; every input carries the present.

    Args:
        geometry: How the model takes and gives frames.
        seed: Seed until a client sets one.
        start_wait: Seconds that `start` and `resume` wait for compute.
        source_wait: Seconds that `start` waits for a camera's first packet.
    """

    # Clients

    def connected(self, now: float) -> list[Effect]:
        """A client connected: everybody is told the state."""
        self._advance(now)
        return [self._tell_state()]

    def command(self, asker: Asker, command: Command, now: float) -> list[Effect]:
        """A client asks for something.

        Returns:
            What answers it at once, one `state`, its `Ack`. Only the `Ack` if the command
            id was handled before; late answers then go to the asker of the repeat.
        """
        self._advance(now)
        repeated = self._outbox.repeated(asker)
        if repeated is not None:
            return [repeated]
        refusal = self._staging.refusal(command, self._phase)
        if refusal is not None:
            effects: list[Effect] = [Send(Message(0, refusal), asker)]
        else:
            effects = self._obey(asker, command)
        ack = self._outbox.acknowledge(asker, accepted=refusal is None)
        return [*effects, self._tell_state(), ack]

    # The world: source

    def probe_accepted(
        self, ticket: int, width: int, height: int, num_frames: int, now: float
    ) -> list[Effect]:
        """A clip can be used; the sizes are as displayed, the frames those presented."""
        self._advance(now)
        fewest = self._geometry.first_window
        if num_frames < fewest:
            reason = f"the clip has {num_frames} frames, at least {fewest} are needed"
            return self.probe_refused(ticket, reason, now)
        if self._staging.probe is None or self._staging.probe.ticket != ticket:
            return []
        clip = Clip(self._staging.probe.video, width, height, num_frames)
        self._staging.clip, self._staging.probe = clip, None
        accepted = VideoAccepted(width, height, num_frames, clip.num_latent_frames)
        effects: list[Effect] = [self._outbox.tell(accepted, self._outbox.take(SetVideo))]
        if self._staging.mode is Mode.FILE and self._applies(World.SOURCE_READY):
            effects += self._begin_run(World.SOURCE_READY)
        return [*effects, self._tell_state()]

    def probe_refused(self, ticket: int, reason: str, now: float) -> list[Effect]:
        """A clip cannot be used; what was staged before stays staged."""
        self._advance(now)
        if self._staging.probe is None or self._staging.probe.ticket != ticket:
            return []
        self._staging.probe = None
        effects: list[Effect] = [
            *self._outbox.fail(SetVideo, RejectReason.BAD_VIDEO, reason, self._phase)
        ]
        if self._staging.mode is Mode.FILE and self._applies(World.SOURCE_MISSING):
            effects += self._give_up(
                World.SOURCE_MISSING, RejectReason.NO_SOURCE, "the clip cannot be used"
            )
        return self._settled(effects)

    def camera_published(self, published: bool, now: float) -> list[Effect]:
        """The gateway says whether a camera is published."""
        self._camera_published = published
        return [] if published else self.source_stalled(now)

    def source_flowing(self, now: float) -> list[Effect]:
        """The camera sends: its first packet, or packets return after a stall."""
        self._advance(now)
        if self._camera_flows:
            return []
        self._camera_flows = True
        effects: list[Effect] = []
        if self._staging.mode is Mode.LIVE and self._applies(World.SOURCE_READY):
            effects = self._begin_run(World.SOURCE_READY)
        elif self._staging.mode is Mode.LIVE and self._applies(World.SOURCE_BACK):
            if self._computing:
                self._watch_camera()
            else:
                effects = self._await_compute(World.SOURCE_BACK, None)
        return self._settled(effects)

    def source_stalled(self, now: float) -> list[Effect]:
        """The camera is silent: unpublished, muted, or its publisher is gone."""
        self._advance(now)
        if self._camera_flows:
            self._camera_flows = False
            if self._phase is Phase.RUNNING:
                self._watch_camera()
        return []

    # The world: compute

    def compute_booked(self, ticket: int, now: float) -> list[Effect]:
        """Compute is there."""
        self._advance(now)
        if not self._asked_by(ticket):
            return []
        self._booking, self._computing = None, True
        self._enter(Phase.RUNNING, World.COMPUTE_BOOKED)
        self._watch_camera()
        return self._settled([])

    def compute_refused(self, ticket: int, retry_after_s: float, now: float) -> list[Effect]:
        """There is no compute. Where no client waits, it is asked for again."""
        self._advance(now)
        if not self._asked_by(ticket):
            return []
        self._booking = None
        if self._waiting is None:
            self._queue_position = 0
            self._timer = Timer(self._now + ASK_AGAIN_AFTER, self._book)
            return self._settled([])
        return self._settled(self._no_capacity(retry_after_s))

    def queue_position(self, position: int, now: float) -> list[Effect]:
        """The place in the queue for compute, from 1; shown while it is waited for."""
        self._advance(now)
        if self._booking is not None:
            self._queue_position = position
        return self._settled([])

    def tick(self, now: float) -> list[Effect]:
        """The deadline has passed. Calling it early does nothing."""
        self._advance(now)
        if self._timer is None or self._now < self._timer.at:
            return []
        timer, self._timer = self._timer, None
        return self._settled(timer.act())

    # The world: its worker

    def awaiting_room(self, awaits: bool, now: float) -> list[Effect]:
        """Whether the worker is being emptied while there is no room elsewhere."""
        self._advance(now)
        self._awaits_room = awaits
        return self._settled([])

    def degraded(self, frame_rate: float, steps: int, now: float) -> list[Effect]:
        """The frame rate and the steps that the model runs with for this session; 0: its own."""
        self._advance(now)
        self._degraded_frame_rate, self._degraded_steps = frame_rate, steps
        return self._settled([])

    # Chunks

    def dispatched(self, now: float) -> list[Effect]:
        """The engine starts `next_window`; its prompt is latched.

        Raises:
            InvariantError: There is no next window.
        """
        self._advance(now)
        plan, run = self.next_window, self._run
        if plan is None or run is None:
            raise InvariantError("no window may be dispatched now")
        begun = run.started
        run.dispatch(plan)
        if not self._streaming:
            self._streaming = True
            self._watch_camera()
        if begun:
            return self._settled([])
        started = GenerationStarted(plan.prompt)
        return self._settled([self._outbox.tell(started, self._outbox.take(Start))])

    def latched(self, run: int, index: int, now: float) -> WindowPlan | None:
        """The model is about to look at the prompt of the window under way: the last word.

        Returns:
            The window as it is now, where the prompt has changed since it was dispatched.
        """
        self._advance(now)
        current, prompt = self._current(run), self._staging.prompt
        under_way = None if current is None else current.under_way
        if current is None or under_way is None or under_way.index != index or prompt is None:
            return None
        changed = current.relatch(prompt)
        current.latched()
        return changed

    def generated(self, run: int, index: int, now: float) -> list[Effect]:
        """A window is finished. One of an abandoned run says nothing.

        Raises:
            InvariantError: Another window of the run, or none, is under way.
        """
        self._advance(now)
        current = self._current(run)
        if current is None:
            return []
        current.finish(index)
        effects: list[Effect] = []
        if current.exhausted or self._phase is Phase.PAUSING:
            effects = self._unbook()
        if self._phase is Phase.PAUSING:
            self._enter(Phase.PAUSED, World.WINDOW_FINISHED)
        return self._settled(effects)

    def failed(self, run: int, index: int, now: float) -> list[Effect]:
        """A window cannot be had: the model failed at it, or its source could not be read.

        The run ends, what is staged stays.

        Raises:
            InvariantError: Another window of the run is under way, or comes before it.
        """
        self._advance(now)
        current = self._current(run)
        if current is None:
            return []
        if current.under_way is not None:
            current.finish(index)
        elif index > current.windows:
            raise InvariantError(f"window {index} of run {run} is not the next")
        reason = "the model failed; start again"
        error = CommandError(NAMES[Start], reason, RejectReason.MODEL_FAILED, self._phase)
        effects = [*self._abandon(), *self._unbook(), Send(Message(0, error))]
        self._enter(Phase.IDLE, World.MODEL_FAILED)
        return self._settled(effects)

    def committed(self, run: int, chunk: int, now: float) -> list[Effect]:
        """A chunk was shown to its last frame. One of an abandoned run says nothing.

        Raises:
            InvariantError: The chunk was never dispatched.
        """
        self._advance(now)
        current = self._current(run)
        if current is None:
            return []
        effects = self._tell_shown(current.commit(chunk))
        if current.complete:
            effects += self._complete(World.CLIP_SHOWN)
        return self._settled(effects)

    # Commands, once accepted

    def _obey(self, asker: Asker, command: Command) -> list[Effect]:
        match command:
            case SetMode(mode):
                return self._set_mode(mode)
            case SetVideo(video):
                return self._set_video(asker, video)
            case SetPrompt(prompt, transition):
                self._staging.prompt = prompt
                if self._run is not None:
                    self._run.aim(transition)
                return [self._outbox.tell(PromptAccepted(prompt), asker)]
            case SetSeed(seed):
                self._staging.seed = seed
                return []
            case Start():
                return self._start(asker)
            case Pause():
                return self._pause()
            case Resume():
                return self._resume(asker)
            case Reset():
                return self._reset(asker)
            case Invalid():
                raise InvariantError("an invalid command is never obeyed")

    def _set_mode(self, mode: Mode) -> list[Effect]:
        if mode is self._staging.mode:
            return []
        effects = self._supersede(Start)
        self._enter(Phase.IDLE, SwitchMode)
        self._staging.mode = mode
        return effects

    def _set_video(self, asker: Asker, video: FileRef) -> list[Effect]:
        effects = self._supersede(SetVideo)
        self._outbox.expect(SetVideo, asker)
        self._staging.probe = Probe(self._next_ticket(), video)
        return [*effects, self._staging.probe]

    def _start(self, asker: Asker) -> list[Effect]:
        self._outbox.expect(Start, asker)
        self._run_seed = self._staging.seed
        probing = self._staging.mode is Mode.FILE and self._staging.probe is not None
        if not probing and not self._silent:
            return self._begin_run(Start)
        self._enter(Phase.AWAITING_SOURCE, Start)
        self._waiting = Start
        if self._silent:
            self._timer = Timer(self._now + self._source_wait, self._no_camera)
        return []

    def _pause(self) -> list[Effect]:
        if self._run is not None and self._run.under_way is not None:
            self._enter(Phase.PAUSING, Pause)
            return []
        self._enter(Phase.PAUSED, Pause)
        return self._unbook()

    def _resume(self, asker: Asker) -> list[Effect]:
        exhausted = self._run is not None and self._run.exhausted
        if not (self._computing or exhausted or self._silent):
            effects = self._await_compute(Resume, Resume)
            self._outbox.expect(Resume, asker)
            return effects
        self._streaming = self._computing or exhausted
        self._enter(Phase.RUNNING, Resume)
        self._watch_camera()
        return []

    def _reset(self, asker: Asker) -> list[Effect]:
        effects: list[Effect] = [*self._abandon(), *self._unbook()]
        for command in (SetVideo, Start, Resume):
            effects += self._supersede(command)
        self._staging.clear()
        self._enter(Phase.IDLE, Reset)
        return [*effects, self._outbox.tell(GenerationReset("reset by command"), asker)]
