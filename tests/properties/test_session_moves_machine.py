"""Random lives of an editing session that changes its actor again and again.

The machine plays the clients, the model, the actors and the gateway with its play-out clock.
The model is a function: what a frame is depends on all prompts the model was given before.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from scheduler.core.commands import (
    Command,
    FileRef,
    Mode,
    Pause,
    Reset,
    Resume,
    SetMode,
    SetPrompt,
    SetVideo,
    Start,
)
from scheduler.core.effects import Abandon, Ack, Asker, Book, Effect, Probe, Send, Unbook
from scheduler.core.geometry import Geometry
from scheduler.core.messages import (
    ChunkComplete,
    CommandError,
    Continuity,
    GenerationComplete,
    GenerationStarted,
    Message,
    Phase,
    SessionMoved,
    State,
    VideoAccepted,
)
from scheduler.core.prompts import Blend
from scheduler.core.run import WindowPlan, usable_states
from scheduler.core.session import Session
from scheduler.core.session_table import STARTED
from scheduler.core.snapshot import REMADE_WINDOWS, Resumption
from tests.properties.moves_gateway import (
    Gateway,
    control,
    del_due,
    known_end,
    over_the_wire,
)

pytestmark = pytest.mark.properties

PROMPTS = st.builds(SetPrompt, st.sampled_from(["a", "b", "c"]), st.sampled_from([0, 0, 1, 3]))
COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.sampled_from([Start(), Pause(), Resume()]),
    PROMPTS,
    st.just(SetVideo(FileRef("u1"))),
)

ModelState = tuple[Blend, ...]
"""The prompts that the model was given since it began anew."""
FrameContent = tuple[ModelState, int]


class MovesMachine(RuleBasedStateMachine):
    """The world around a session, with actors that die."""

    geometry = Geometry()

    def __init__(self) -> None:
        super().__init__()
        self.session = Session(self.geometry)
        self.now = 0.0
        self.gateway = Gateway()
        self.newest = self.session.snapshot()
        """The newest snapshot that the gateway has."""
        self.model: ModelState = ()
        self.states: dict[int, ModelState] = {}
        """States of the model in the present run, by windows, since it last began anew."""
        self.states_run = 0
        self.untold: list[tuple[int, int]] = []
        """States that are kept and of which the session has not heard."""
        self.made: dict[int, FrameContent] = {}
        """What the frames of the present run were made to be, where that cannot change."""
        self.plan: WindowPlan | None = None
        self.asked: set[int] = set()
        self.held = False
        self.last_probe = 0
        self.due: dict[str, str] = {}
        self.acks: dict[str, bool] = {}
        self.ids = 0
        self.moves = 0

    # Clients and world

    @initialize(clip=st.booleans(), frames=st.sampled_from([33, 57, 60, 120, 460]))
    def stage(self, clip: bool, frames: int) -> None:
        if clip:
            self.send(SetMode(Mode.FILE))
            self.send(SetVideo(FileRef("u0")))
            self.see(self.session.probe_accepted(self.last_probe, 640, 360, frames, self.now))
        else:
            self.see(self.session.source_flowing(self.now))
        self.send(SetPrompt("a"))

    @rule(command=COMMANDS)
    def send(self, command: Command) -> None:
        self.ids += 1
        asker = Asker(1, f"c{self.ids}")
        effects = self.session.command(asker, command, self.now)
        (ack,) = [each for each in effects if isinstance(each, Ack)]
        self.acks[asker.command_id] = ack.accepted
        if ack.accepted and isinstance(command, Start | SetVideo):
            self.due[asker.command_id] = type(command).__name__
        self.see(effects)

    @rule(prompt=st.sampled_from("abcdef"), transition=st.sampled_from([0, 0, 2, 5]))
    def prompt(self, prompt: str, transition: int = 0) -> None:
        self.send(SetPrompt(prompt, transition))

    @precondition(lambda self: self.plan is not None)
    @rule()
    def latch(self) -> None:
        """The model looks at the prompt; until then it may have become another."""
        assert self.plan is not None
        latched = self.session.latched(self.plan.run, self.plan.index, self.now)
        assert latched is None or latched.index == self.plan.index
        self.plan = latched or self.plan
        self.snap()

    @precondition(lambda self: self.ids % 8 == 7)
    @rule()
    def reset(self) -> None:
        self.send(Reset())

    @precondition(lambda self: self.acks)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        command_id = data.draw(st.sampled_from(list(self.acks)[-200:]))
        asker = Asker(1, command_id)
        assert self.session.command(asker, Reset(), self.now) == [Ack(asker, self.acks[command_id])]

    @precondition(lambda self: "SetVideo" in self.due.values())
    @rule(frames=st.sampled_from([32, 33, 100]))
    def accept_clip(self, frames: int) -> None:
        self.see(self.session.probe_accepted(self.last_probe, 640, 360, frames, self.now))

    @rule(flows=st.booleans())
    def camera(self, flows: bool) -> None:
        session = self.session
        self.see(session.source_flowing(self.now) if flows else session.source_stalled(self.now))

    @precondition(lambda self: self.asked)
    @rule()
    def book(self) -> None:
        (ticket,) = self.asked
        self.asked, self.held = set(), True
        self.see(self.session.compute_booked(ticket, self.now))

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 31.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.see(self.session.tick(self.now))

    # Actor and gateway

    @precondition(lambda self: self.plan is None and self.session.next_window is not None)
    @rule()
    def dispatch(self) -> None:
        plan = self.session.next_window
        assert plan is not None
        if plan.index == 0:
            self.model = ()
            self.states, self.states_run = {}, plan.run
            if plan.skip == 0:
                self.forget_from(plan.answers_from)
        assert len(self.model) == plan.index
        self.plan = plan
        effects = self.session.dispatched(self.now)
        self.see(effects, snapshot=False)

    @precondition(lambda self: self.plan is not None)
    @rule(snapshot=st.booleans())
    def finish(self, snapshot: bool) -> None:
        plan, self.plan = self.plan, None
        assert plan is not None
        if plan.run == self.session.run:
            self.model = (*self.model, Blend(plan.prompt, plan.earlier))
            self.states[plan.index + 1] = self.model
            self.announce(plan)
        self.see(self.session.generated(plan.run, plan.index, self.now), snapshot=snapshot)

    def announce(self, plan: WindowPlan) -> None:
        gateway = self.gateway
        for frame in range(plan.answers_from, plan.answers_from + plan.frames):
            content = (self.model, frame)
            if self.session.mode is Mode.FILE:
                assert self.made.setdefault(frame, content) == content
        if gateway.run != plan.run:
            gateway.begin(plan.run)
        for chunk in plan.chunks:
            first, end = chunk.first_frame, chunk.first_frame + chunk.frames
            first = max(first, plan.answers_from + plan.skip)
            if first < end:
                assert first == gateway.end
                gateway.announced.append((chunk.index, first, end))
                gateway.end = end

    @precondition(lambda self: self.gateway.announced)
    @rule(frames=st.sampled_from([1, 5, 9, 24, 48]))
    def show(self, frames: int) -> None:
        gateway = self.gateway
        for _ in range(frames):
            if not gateway.announced:
                break
            chunk, first, end = gateway.announced.pop(0)
            assert first == gateway.next_frame
            gateway.next_frame += 1
            if first + 1 < end:
                gateway.announced.insert(0, (chunk, first + 1, end))
            else:
                gateway.commits.append(chunk)

    @precondition(lambda self: self.gateway.commits)
    @rule()
    def commit(self) -> None:
        chunk = self.gateway.commits.pop(0)
        self.see(self.session.committed(self.gateway.run, chunk, self.now))

    @rule(steps=st.integers(1, 25))
    def proceed(self, steps: int) -> None:
        """What would happen if nobody interfered."""
        for step in range(steps):
            if step % 5 == 4:
                self.prompt("abcdef"[(self.ids + step) % 6], self.ids % 3)
            if self.plan is not None and step % 2:
                self.latch()
            if self.asked:
                self.book()
            elif self.plan is not None:
                self.finish(snapshot=step % 3 > 0)
                if step % 2:
                    self.keep()
                if step % 4 == 0 and self.untold:
                    self.tell_kept()
            elif self.session.next_window is not None and len(self.gateway.announced) < 3:
                self.dispatch()
            elif self.gateway.announced:
                self.show(20)
            elif self.gateway.commits:
                self.commit()
            elif self.session.phase is Phase.IDLE:
                self.send(Start())

    @precondition(lambda self: self.states)
    @rule()
    def keep(self) -> None:
        if self.states and self.session.run == self.states_run:
            self.untold.append((self.session.run, max(self.states)))

    @precondition(lambda self: self.untold)
    @rule()
    def tell_kept(self) -> None:
        run, windows = self.untold.pop(0)
        self.session.model_kept(run, windows)
        self.snap()

    # Moves

    @property
    def busy(self) -> bool:
        return self.session.phase is not Phase.IDLE or self.ids % 4 == 0

    @property
    def settled(self) -> bool:
        """Whether no window is under way that still matters."""
        return self.plan is None or self.plan.run < self.session.run

    @precondition(lambda self: self.plan is None and self.session.next_window is not None)
    @rule(pause=st.booleans())
    def begin_window(self, pause: bool) -> None:
        self.dispatch()
        if pause:
            self.send(Pause())

    @precondition(lambda self: self.busy)
    @rule(
        before=st.integers(0, 12),
        computing=st.booleans(),
        state=st.sampled_from(["none", "best", "any"]),
        data=st.data(),
        after=st.integers(0, 12),
    )
    def live_on(
        self, before: int, computing: bool, state: str, data: st.DataObject, after: int
    ) -> None:
        self.proceed(before)
        self.die(computing, state, data)
        self.proceed(after)

    @precondition(lambda self: self.plan is None and self.session.next_window is not None)
    @rule(
        shown=st.sampled_from([0, 9, 24, 30, 33, 50]),
        state=st.sampled_from(["none", "best"]),
        data=st.data(),
        after=st.integers(0, 12),
    )
    def die_unheard(self, shown: int, state: str, data: st.DataObject, after: int) -> None:
        """The gateway shows frames of a window that its newest snapshot does not know."""
        self.dispatch()
        self.finish(snapshot=False)
        if self.gateway.announced:
            self.show(shown)
        self.die(computing=True, state=state, data=data)
        self.proceed(after)

    @precondition(lambda self: self.busy)
    @rule(computing=st.booleans(), state=st.sampled_from(["none", "best", "any"]), data=st.data())
    def die(self, computing: bool, state: str, data: st.DataObject) -> None:
        """The actor is gone, with all that was not handed out."""
        gateway, newest = self.gateway, self.newest
        at_hand: int | None = None
        if newest.run is not None and newest.run.number == self.states_run:
            seen = gateway.next_frame if gateway.run == newest.run.number else 0
            usable = usable_states(self.geometry, newest.run, seen)
            kept = (
                sorted(self.states) if state == "any" else [w for w in self.states if w in usable]
            )
            if state == "best" and kept:
                at_hand = kept[-1]
            elif state == "any" and kept:
                at_hand = data.draw(st.sampled_from(kept))
        # What nobody has heard of may be made differently.
        self.forget_from(max(gateway.next_frame, known_end(newest)))
        self.restore(
            Resumption(
                run=gateway.run,
                next_frame=gateway.next_frame,
                revision=gateway.revision,
                handed_over=False,
                kept_windows=at_hand,
                computing=computing,
                reason="its worker was lost",
            )
        )
        gateway.announced, gateway.commits = [], []
        gateway.end = gateway.next_frame
        self.plan = None
        self.untold = []
        run = self.session.snapshot().run
        if run is not None and run.windows:
            assert (
                self.session.phase not in STARTED
                or run.windows == at_hand
                or run.shown == (run.frames)
            )
            self.model = self.states.get(run.windows, self.model)
        self.states = {
            windows: each
            for windows, each in self.states.items()
            if run is not None and windows <= run.windows
        }

    @precondition(lambda self: self.busy and self.settled)
    @rule(computing=st.booleans(), lost=st.booleans())
    def hand_over(self, computing: bool, lost: bool) -> None:
        """The session is moved; commits under way may be lost by that."""
        gateway, before = self.gateway, self.session
        self.plan = None
        self.snap()
        self.restore(
            Resumption(
                run=gateway.run,
                next_frame=gateway.next_frame,
                revision=gateway.revision,
                handed_over=True,
                kept_windows=None,
                computing=computing,
                reason="moved",
            )
        )
        after = self.session
        if not gateway.commits and (computing or not before._computing):
            self.same_in_every_view(before, after)
        gateway.commits = gateway.commits[gateway.commits != [] and lost :]

    def same_in_every_view(self, before: Session, after: Session) -> None:
        def view(session: Session) -> State:
            return replace(session.state(), queue_position=0)

        if before.phase is after.phase:
            assert view(before) == view(after)
            assert before.run == after.run
            old, new = before.next_window, after.next_window
            assert old == new or not before._computing
            assert control(before) == control(after)
        else:
            assert (before.phase, after.phase) in {
                (Phase.RUNNING, Phase.AWAITING_COMPUTE),
                (Phase.AWAITING_COMPUTE, Phase.RUNNING),
            }

    @precondition(lambda self: self.busy and self.settled)
    @rule(computing=st.booleans())
    def fork(self, computing: bool) -> None:
        """Goes on as the copy."""
        self.plan = None
        self.snap()
        before = self.session.snapshot()
        of_run = before.run is not None and before.phase in STARTED
        self.gateway, gateway = Gateway(), self.gateway
        self.due, self.acks = {}, {}
        self.restore(
            Resumption(
                run=0,
                next_frame=0,
                revision=0,
                handed_over=False,
                kept_windows=before.run.windows if of_run and before.run else None,
                computing=computing,
                reason="",
                fork=True,
            ),
            fork=True,
        )
        run = self.session.snapshot().run
        if run is not None and run.number == before.run_number:
            fresh = self.gateway
            fresh.run = run.number
            fresh.begins_at = fresh.next_frame = fresh.end = run.shown
            fresh.told = run.committed
            fresh.told_frames = run.unshown[0][0].first_frame if run.unshown else run.shown
            fresh.started = run.started
            fresh.over = gateway.over or self.session.phase not in STARTED

    def restore(self, resumption: Resumption, *, fork: bool = False) -> None:
        self.moves += 1
        snapshot = over_the_wire(self.newest)
        begun = snapshot.phase in STARTED
        self.session, effects = Session.restored(self.geometry, snapshot, resumption, self.now)
        self.asked, self.held, self.last_probe = set(), resumption.computing, 0
        assert isinstance(effects[-1], Send)
        assert isinstance(effects[-1].message.payload, State)
        moved = [each for each in effects if self.says(each, SessionMoved)]
        existed = snapshot.run is not None or snapshot.phase is not Phase.IDLE
        assert moved == (effects[:1] if existed and not fork else [])
        if moved and begun:
            continuity = self.payload(moved[0]).continuity
            if continuity is not Continuity.EXACT and self.session.mode is Mode.FILE:
                assert continuity is Continuity.RESTARTED
                self.forget_from(resumption.next_frame if not fork else 0)
        self.see(effects, fork=fork)

    def forget_from(self, frame: int) -> None:
        self.made = {at: each for at, each in self.made.items() if at < frame}

    # What must always be true

    def snap(self) -> None:
        self.newest = self.session.snapshot()

    def see(self, effects: list[Effect], *, snapshot: bool = True, fork: bool = False) -> None:
        for effect in effects:
            match effect:
                case Send(message=Message(revision=0, payload=CommandError()), asker=asker):
                    if asker is not None:
                        del_due(self.due, asker)
                case Send(message=message, asker=asker):
                    assert message.revision == self.gateway.revision + 1
                    self.gateway.revision += 1
                    self.hear(message, asker, fork)
                case Book(ticket):
                    assert not self.asked
                    assert not self.held
                    self.asked = {ticket}
                case Unbook():
                    assert self.asked or self.held
                    self.asked, self.held = set(), False
                case Probe(ticket):
                    self.last_probe = ticket
                case Abandon(next_run):
                    self.gateway.begin(next_run)
                    self.model, self.states, self.made, self.untold = (), {}, {}, []
        if snapshot or any(isinstance(each, Send) for each in effects):
            self.snap()

    def hear(self, message: Message, asker: Asker | None, fork: bool) -> None:
        gateway = self.gateway
        match message.payload:
            case GenerationStarted():
                run = self.session.run
                if gateway.run != run or gateway.over:
                    gateway.begin(run)
                    self.made = {}
                assert not gateway.started
                gateway.started = True
                if asker is not None:
                    del self.due[asker.command_id]
            case VideoAccepted():
                if asker is not None:
                    del self.due[asker.command_id]
            case ChunkComplete(chunk_index, frames):
                assert gateway.started
                assert chunk_index == gateway.told
                gateway.told += 1
                gateway.told_frames += frames
                assert gateway.told_frames <= gateway.next_frame
            case GenerationComplete(total):
                gateway.over = True
                clip = self.session.clip
                assert clip is not None
                if not fork:
                    assert total == gateway.told
                    assert gateway.told_frames == gateway.next_frame == clip.num_frames

    @invariant()
    def nobody_waits_for_what_is_over(self) -> None:
        if self.session.phase is Phase.IDLE:
            assert "Start" not in self.due.values()
        if self.newest.probe is None:
            assert "SetVideo" not in self.due.values()

    @invariant()
    def compute_is_held_only_where_it_is_used(self) -> None:
        phase = self.session.phase
        if phase in (Phase.IDLE, Phase.AWAITING_SOURCE, Phase.PAUSED):
            assert not self.held
        assert not self.asked or phase is Phase.AWAITING_COMPUTE
        if phase is Phase.AWAITING_COMPUTE:
            assert self.asked or self.session.deadline() is not None
        if self.session.next_window is not None:
            assert self.held

    @invariant()
    def a_snapshot_is_small_and_survives_the_wire(self) -> None:
        snapshot = self.session.snapshot()
        assert over_the_wire(snapshot) == snapshot
        if snapshot.run is not None and snapshot.run.kept is not None:
            assert len(snapshot.run.kept.prompts) <= REMADE_WINDOWS

    @staticmethod
    def payload(effect: Effect) -> Any:
        assert isinstance(effect, Send)
        return effect.message.payload

    @staticmethod
    def says(effect: Effect, kind: type) -> bool:
        return isinstance(effect, Send) and isinstance(effect.message.payload, kind)


MovesMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
TestMovesMachine = MovesMachine.TestCase


class AheadMachine(MovesMachine):
    """The same with a model that looks ahead: its windows owe frames to the next one."""

    geometry = Geometry(lag=16)


AheadMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
TestAheadMachine = AheadMachine.TestCase
