"""How an editing session goes on at another actor: snapshots of it, and what to do with one.

How its run goes on is told in `snapshot.py`. Of the rest:

* Every answer that is due stays due, every wait begins anew, a clip that was being examined
  is examined again, and commands handled before are answered as before. Only a fork knows
  nothing of what its original was asked.
* A session that computed goes on where compute is booked for it already; else it asks for
  it, and no client waits. What needs no compute gives back what was booked.
* Of the camera nothing is known until the gateway tells of it anew.
* A gateway may know of a run that the snapshot does not. Who began it, with what, and
  whether it was not reset again is lost, so that run is abandoned: the session is idle, with
  what the snapshot says is staged.
* A window that was under way is lost. A session that paused after it is paused.
"""

from __future__ import annotations

from typing import Self

from scheduler.core.commands import Mode, Resume, Start
from scheduler.core.effects import Effect, Probe, Unbook
from scheduler.core.errors import InvariantError
from scheduler.core.geometry import Geometry
from scheduler.core.messages import Continuity, Phase, SessionMoved
from scheduler.core.outbox import Outbox
from scheduler.core.run import MadeChunk, Run
from scheduler.core.session_body import SessionBody, Timer
from scheduler.core.session_table import STARTED, World
from scheduler.core.snapshot import Resumption, SessionSnapshot
from scheduler.core.staging import Staging


class MovableSession(SessionBody):
    """What of a session is about its moves; see `Session`."""

    def snapshot(self) -> SessionSnapshot:
        """Returns what the session is now. A window under way is not part of it."""
        staging = self._staging
        return SessionSnapshot(
            revision=self._outbox.revision,
            phase=self._phase,
            waiting=self._waiting,
            mode=staging.mode,
            seed=staging.seed,
            prompt=staging.prompt,
            clip=staging.clip,
            probe=None if staging.probe is None else staging.probe.video,
            run_number=self._run_number,
            run_seed=self._run_seed,
            run=None if self._run is None else self._run.snapshot(),
            streaming=self._streaming,
            handled=self._outbox.handled,
            due=self._outbox.due,
        )

    def hear_revision(self, revision: int) -> bool:
        """Clients have seen a message of this revision: numbers go on above it.

        They may have seen more than the snapshot knows that the session went on from. Whoever
        has not finds numbers left out.

        Returns:
            Whether it is above all that was told here.
        """
        ahead = revision > self._outbox.revision
        self._outbox.revision = max(revision, self._outbox.revision)
        return ahead

    def model_kept(self, run: int, windows: int) -> None:
        """The model's state after so many windows of a run is kept, as of now.

        It may come late, when more windows were dispatched. Of an abandoned run it says
        nothing. The state before it is needed until all that this one knows was shown.

        Raises:
            InvariantError: So many windows were never dispatched.
        """
        current = self._current(run)
        if current is not None:
            current.keep(windows)

    @classmethod
    def restored(
        cls,
        geometry: Geometry,
        snapshot: SessionSnapshot,
        resumption: Resumption,
        now: float,
        *,
        start_wait: float = 30.0,
        source_wait: float = 2.0,
    ) -> tuple[Self, list[Effect]]:
        """Goes on with a session that was elsewhere.

        Args:
            geometry: How the model takes and gives frames.
            snapshot: What the session was.
            resumption: What else is known.
            now: The time, in seconds on any clock that does not fall.
            start_wait: Seconds that `start` and `resume` wait for compute.
            source_wait: Seconds that `start` waits for a camera's first packet.

        Returns:
            The session, and what it says and asks for to begin with: `SessionMoved`, unless
            it is a fork or there was nothing to move; the chunks that were shown and never
            told; what is asked for; a `state`.

        Raises:
            InvariantError: A session is handed over with a window under way.
        """
        session = cls(geometry, seed=snapshot.seed, start_wait=start_wait, source_wait=source_wait)
        session._advance(now)
        session._take_on(snapshot, resumption)
        return session, [*session._go_on(snapshot, resumption), session._tell_state()]

    def _take_on(self, snapshot: SessionSnapshot, resumption: Resumption) -> None:
        self._phase = snapshot.phase
        self._waiting = snapshot.waiting
        self._staging = Staging(snapshot.seed, snapshot.mode, snapshot.prompt, snapshot.clip)
        if not resumption.fork:
            revision = max(snapshot.revision, resumption.revision)
            self._outbox = Outbox(revision, snapshot.handled, snapshot.due)
        self._run_number = snapshot.run_number
        self._run_seed = snapshot.run_seed
        self._streaming = snapshot.streaming
        if snapshot.run is not None:
            self._run = Run.restored(self._geometry, snapshot.run)

    def _go_on(self, snapshot: SessionSnapshot, resumption: Resumption) -> list[Effect]:
        lost = not resumption.fork and resumption.run > self._run_number
        existed = lost or self._run is not None or self._phase is not Phase.IDLE
        effects: list[Effect] = []
        continuity, shown = Continuity.RESTARTED, list[MadeChunk]()
        if not lost:
            continuity, shown = self._go_on_with_run(resumption)
        if existed and not resumption.fork:
            effects.append(self._outbox.tell(SessionMoved(continuity, resumption.reason)))
            effects += self._tell_shown(shown)
        if snapshot.probe is not None:
            self._staging.probe = Probe(self._next_ticket(), snapshot.probe)
            effects.append(self._staging.probe)
        effects += self._lose_run(resumption.run) if lost else self._go_on_with_phase(resumption)
        if resumption.computing and not self._computing:
            effects.append(Unbook())
        return effects

    def _go_on_with_run(self, resumption: Resumption) -> tuple[Continuity, list[MadeChunk]]:
        run, prompt = self._run, self._staging.prompt
        if run is None or prompt is None or self._phase not in STARTED:
            return Continuity.EXACT, []
        begun = run.started
        next_frame = resumption.next_frame if resumption.run == run.number else 0
        if resumption.fork:
            next_frame = max(run.answered, run.shown)
        if resumption.handed_over:
            continuity, shown = Continuity.EXACT, run.see(next_frame)
        else:
            continuity, shown = run.go_on(next_frame, prompt, resumption.kept_windows)
            if continuity is Continuity.EXACT and self._camera_is_missed:
                continuity = Continuity.LIVE_EDGE
        if run.started and not begun:
            # Its first frames were seen, so `start` was answered.
            self._outbox.take(Start)
            self._waiting = None
        return continuity, shown

    @property
    def _camera_is_missed(self) -> bool:
        """Whether a camera was being edited, of which some must have been lost."""
        computed = self._phase in (Phase.RUNNING, Phase.PAUSING)
        return computed and self._staging.mode is Mode.LIVE

    def _lose_run(self, run: int) -> list[Effect]:
        self._run_number = run
        effects: list[Effect] = [*self._abandon()]
        for command in (Start, Resume):
            effects += self._supersede(command)
        if self._phase is not Phase.IDLE:
            self._enter(Phase.IDLE, World.MOVED)
        return effects

    def _go_on_with_phase(self, resumption: Resumption) -> list[Effect]:
        run, computing = self._run, resumption.computing
        if self._phase in STARTED and run is not None and run.complete:
            return self._complete(World.MOVED)
        match self._phase:
            case Phase.AWAITING_SOURCE:
                if self._silent:
                    self._timer = Timer(self._now + self._source_wait, self._no_camera)
            case Phase.AWAITING_COMPUTE if computing:
                self._streaming = False
                self._enter(Phase.RUNNING, World.MOVED)
                self._compute()
            case Phase.AWAITING_COMPUTE:
                return self._ask_compute(None if resumption.fork else self._waiting)
            case Phase.RUNNING if run is not None and not run.exhausted:
                if not computing:
                    return self._await_compute(World.MOVED, None)
                self._compute()
            case Phase.PAUSING:
                if resumption.handed_over:
                    raise InvariantError("handed over with a window under way")
                self._enter(Phase.PAUSED, World.MOVED)
        return []

    def _compute(self) -> None:
        self._computing = True
        self._watch_camera()
