"""Random lives of an editing session, held against what must always be true."""

from __future__ import annotations

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
from scheduler.core.effects import Abandon, Ack, Asker, Book, Effect, Probe, Send, Unbook
from scheduler.core.geometry import Geometry
from scheduler.core.messages import (
    ChunkComplete,
    CommandError,
    GenerationComplete,
    GenerationStarted,
    Message,
    Phase,
    State,
    VideoAccepted,
)
from scheduler.core.run import WindowPlan
from scheduler.core.session import Session

pytestmark = pytest.mark.properties

COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.sampled_from([Start(), Pause(), Resume()]),
    st.sampled_from(Mode).map(SetMode),
    st.sampled_from(["a", "b", " ", "x" * 10_001]).map(SetPrompt),
    st.sampled_from([0, 42, MAX_SEED, MAX_SEED + 1, -1]).map(SetSeed),
    st.sampled_from(["u1", "u2", ""]).map(FileRef).map(SetVideo),
    st.just(Invalid("set_pace", "unknown command", RejectReason.UNKNOWN_COMMAND)),
)
REVISIONED_LATE = (GenerationStarted, VideoAccepted)


class SessionMachine(RuleBasedStateMachine):
    """The world around a session, as the engine would play it, only wilder."""

    def __init__(self) -> None:
        super().__init__()
        self.session = Session(Geometry(), start_wait=30.0, source_wait=2.0)
        self.now = 0.0
        self.revision = 0
        self.asked: set[int] = set()
        """Tickets of the bookings that are not answered; at most one."""
        self.held = False
        self.last_book = 0
        self.last_probe = 0
        self.plan: WindowPlan | None = None
        """The window that the compute thread works on, of whatever run."""
        self.made: list[tuple[int, int]] = []
        """(run, chunk) dispatched and not acknowledged, in order."""
        self.next_chunk: dict[int, int] = {}
        self.next_run = 0
        self.ids = 0
        self.acks: dict[str, bool] = {}
        self.due: dict[str, str] = {}
        """Ids of accepted commands whose answer is still to come, with their names."""
        self.journal: list[Message] = []

    # What the world does

    @initialize(clip=st.booleans())
    def stage(self, clip: bool) -> None:
        self.see(self.session.connected(self.now))
        if clip:
            self.send(SetMode(Mode.FILE))
            self.send(SetVideo(FileRef("u0")))
            self.see(self.session.probe_accepted(self.last_probe, 640, 360, 60, self.now))
        else:
            self.see(self.session.source_flowing(self.now))
        self.send(SetPrompt("a"))

    @rule(command=COMMANDS)
    def send(self, command: Command) -> None:
        self.ids += 1
        asker = Asker(1 + self.ids % 2, f"c{self.ids}")
        effects = self.session.command(asker, command, self.now)
        acks = [effect for effect in effects if isinstance(effect, Ack)]
        assert acks == [effects[-1]]
        assert acks[0].asker == asker
        assert len(self.states(effects)) == 1
        assert self.states(effects)[0] == effects[-2]
        refusals = [each for each in self.errors(effects) if each.asker == asker]
        assert len(refusals) == (0 if acks[0].accepted else 1)
        self.acks[asker.command_id] = acks[0].accepted
        if acks[0].accepted and isinstance(command, Start | SetVideo):
            self.due[asker.command_id] = type(command).__name__
        self.see(effects)

    @precondition(lambda self: self.ids % 8 == 0)
    @rule()
    def reset(self) -> None:
        self.send(Reset())
        assert self.session.phase is Phase.IDLE
        assert self.plan is None or self.plan.run < self.session.run
        assert not self.due

    @precondition(lambda self: self.acks)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        recent = list(self.acks)[-200:]
        command_id = data.draw(st.sampled_from(recent))
        asker = Asker(9, command_id)
        before = self.session.state()
        effects = self.session.command(asker, Reset(), self.now)
        assert effects == [Ack(asker, self.acks[command_id])]
        assert self.session.state() == before

    @rule(command=st.sampled_from([Start(), Pause(), Resume()]))
    def drive(self, command: Command) -> None:
        self.send(command)

    @rule(steps=st.integers(1, 8))
    def proceed(self, steps: int) -> None:
        """What would happen if nobody interfered: without it few lives get anywhere."""
        for _ in range(steps):
            if self.asked:
                self.book(stale=0)
            elif self.plan is not None:
                self.finish()
            elif self.session.next_window is not None:
                self.dispatch()
            elif self.made:
                self.commit(skip=0)
            elif self.session.phase is Phase.IDLE:
                self.send(Start())

    @precondition(lambda self: self.plan is None and self.session.next_window is not None)
    @rule(then=st.lists(st.sampled_from([Pause(), Resume(), Reset()]), min_size=1, max_size=4))
    def interrupt_window(self, then: list[Command]) -> None:
        self.dispatch()
        for command in then:
            self.send(command)

    @precondition(lambda self: self.ids % 4 == 0)
    @rule()
    def connect(self) -> None:
        effects = self.session.connected(self.now)
        assert len(effects) == len(self.states(effects)) == 1
        self.see(effects)

    @precondition(lambda self: "SetVideo" in self.due.values() or self.ids % 4 == 0)
    @rule(stale=st.integers(0, 1), frames=st.sampled_from([32, 33, 50, 57, 58]))
    def accept_clip(self, stale: int, frames: int) -> None:
        self.see(self.session.probe_accepted(self.last_probe - stale, 640, 360, frames, self.now))

    @precondition(lambda self: "SetVideo" in self.due.values() or self.ids % 4 == 0)
    @rule(stale=st.integers(0, 1))
    def refuse_clip(self, stale: int) -> None:
        self.see(self.session.probe_refused(self.last_probe - stale, "not a video", self.now))

    @precondition(lambda self: self.ids % 4 == 0)
    @rule(published=st.booleans())
    def publish(self, published: bool) -> None:
        self.see(self.session.camera_published(published, self.now))

    @rule()
    def packets_flow(self) -> None:
        self.see(self.session.source_flowing(self.now))

    @rule()
    def packets_stop(self) -> None:
        self.see(self.session.source_stalled(self.now))

    @precondition(lambda self: self.last_book > 0)
    @rule(stale=st.sampled_from([0, 0, 0, 1]))
    def book(self, stale: int) -> None:
        ticket = self.last_book - stale
        granted = ticket in self.asked
        self.asked.discard(ticket)
        self.held = self.held or granted
        self.see(self.session.compute_booked(ticket, self.now))

    @precondition(lambda self: self.last_book > 0)
    @rule(stale=st.sampled_from([0, 0, 0, 1]))
    def refuse_compute(self, stale: int) -> None:
        ticket = self.last_book - stale
        self.asked.discard(ticket)
        before = self.session.phase
        effects = self.session.compute_refused(ticket, 12.0, self.now)
        self.check_wait_in_vain(before, effects)
        self.see(effects)

    @precondition(lambda self: self.asked)
    @rule(position=st.integers(0, 5))
    def queue(self, position: int) -> None:
        self.see(self.session.queue_position(position, self.now))

    @rule(seconds=st.sampled_from([0.0, 0.3, 1.0, 4.0, 31.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        before = self.session.phase
        effects = self.session.tick(self.now)
        self.check_wait_in_vain(before, effects)
        self.see(effects)
        deadline = self.session.deadline()
        assert deadline is None or deadline > self.now

    # What the engine does

    @precondition(lambda self: self.plan is None and self.session.next_window is not None)
    @rule()
    def dispatch(self) -> None:
        plan = self.session.next_window
        assert plan is not None
        expected = self.next_chunk.setdefault(plan.run, 0)
        assert [chunk.index for chunk in plan.chunks] == [
            expected + offset for offset in range(len(plan.chunks))
        ]
        assert sum(chunk.frames for chunk in plan.chunks) == plan.frames <= plan.source_frames
        self.next_chunk[plan.run] += len(plan.chunks)
        self.plan = plan
        effects = self.session.dispatched(self.now)
        started = [each for each in effects if self.says(each, GenerationStarted)]
        assert len(started) == (1 if plan.index == 0 else 0)
        self.made += [(plan.run, chunk.index) for chunk in plan.chunks]
        self.see(effects)

    @precondition(lambda self: self.plan is not None)
    @rule()
    def finish(self) -> None:
        plan, self.plan = self.plan, None
        assert plan is not None
        abandoned = plan.run < self.next_run
        effects = self.session.generated(plan.run, plan.index, self.now)
        assert not (abandoned and effects)
        self.see(effects)

    @precondition(lambda self: self.plan is not None)
    @rule()
    def fail(self) -> None:
        plan, self.plan = self.plan, None
        assert plan is not None
        abandoned = plan.run < self.next_run
        effects = self.session.failed(plan.run, plan.index, self.now)
        assert not (abandoned and effects)
        for each in self.errors(effects):
            assert each.asker is None
            self.due = {key: name for key, name in self.due.items() if name != "Start"}
        self.see(effects)

    @precondition(lambda self: self.made)
    @rule(skip=st.integers(0, 1))
    def commit(self, skip: int) -> None:
        at = min(skip, len(self.made) - 1)
        run, chunk = self.made[at]
        if any(each != run for each, _ in self.made[: at + 1]):
            at, (run, chunk) = 0, self.made[0]
        effects = self.session.committed(run, chunk, self.now)
        abandoned = run < self.next_run
        told = [self.payload(each) for each in effects if self.says(each, ChunkComplete)]
        expected = [] if abandoned else [index for _, index in self.made[: at + 1]]
        assert [each.chunk_index for each in told] == expected
        del self.made[: at + 1]
        self.see(effects)

    # What must always be true

    def check_wait_in_vain(self, before: Phase, effects: list[Effect]) -> None:
        """A wait that ends where it began is answered, to the one who asked."""
        waits = {Phase.AWAITING_SOURCE: ["start"], Phase.AWAITING_COMPUTE: ["start", "resume"]}
        after = self.session.phase
        errors = self.errors(effects)
        if before in waits and after in (Phase.IDLE, Phase.PAUSED):
            (refusal,) = errors
            assert refusal.asker is not None
            assert self.payload(refusal).command == ("start" if after is Phase.IDLE else "resume")
            assert self.payload(refusal).command in waits[before]
        else:
            assert not errors

    def see(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(message=Message(revision=0, payload=payload), asker=asker):
                    assert isinstance(payload, CommandError)
                    if asker is not None:
                        self.due.pop(asker.command_id, None)
                case Send(message=message, asker=asker):
                    assert not isinstance(message.payload, CommandError)
                    self.revision += 1
                    assert message.revision == self.revision
                    self.journal.append(message)
                    if isinstance(message.payload, REVISIONED_LATE):
                        assert asker is not None
                        del self.due[asker.command_id]
                    if isinstance(message.payload, GenerationComplete):
                        assert message.payload.total_chunks == self.next_chunk[self.session.run]
                case Book(ticket):
                    assert not self.asked
                    assert not self.held
                    assert ticket > self.last_book
                    self.asked = {ticket}
                    self.last_book = ticket
                case Unbook():
                    assert self.asked or self.held
                    self.asked, self.held = set(), False
                case Probe(ticket):
                    assert ticket > self.last_probe
                    self.last_probe = ticket
                case Abandon(next_run):
                    assert next_run > self.next_run
                    self.next_run = next_run
                    if self.plan is not None:
                        assert self.plan.run < next_run
                    self.made = []

    @invariant()
    def booleans_agree_with_the_phase(self) -> None:
        state, phase = self.session.state(), self.session.phase
        unstarted = phase in (Phase.IDLE, Phase.AWAITING_SOURCE)
        assert state.phase is phase
        assert state.started == (not unstarted)
        assert state.paused == (phase in (Phase.PAUSING, Phase.PAUSED))
        assert not state.running or phase in (Phase.RUNNING, Phase.PAUSING)
        assert state.running or phase is not Phase.PAUSING
        assert state.has_prompt == (state.current_prompt is not None)
        assert state.has_video == (state.num_source_frames >= 33)
        assert state.queue_position == 0 or phase is Phase.AWAITING_COMPUTE

    @invariant()
    def what_clients_were_told_is_the_state(self) -> None:
        last = [each.payload for each in self.journal if isinstance(each.payload, State)]
        assert not last or last[-1] == self.session.state()
        assert list(self.session.journal) == self.journal[-256:]
        assert self.session.revision == self.revision

    @invariant()
    def compute_is_held_only_where_it_is_used(self) -> None:
        phase = self.session.phase
        if phase in (Phase.IDLE, Phase.AWAITING_SOURCE, Phase.PAUSED):
            assert not self.held
        if phase is Phase.PAUSING:
            assert self.held
        assert not self.asked or phase is Phase.AWAITING_COMPUTE
        if phase is Phase.AWAITING_COMPUTE:
            assert self.asked or self.session.deadline() is not None

    @invariant()
    def windows_are_offered_only_where_they_may_run(self) -> None:
        plan = self.session.next_window
        if plan is None:
            return
        assert self.held
        assert self.session.phase is Phase.RUNNING
        assert self.plan is None or self.plan.run < self.next_run
        assert plan.run == self.session.run
        assert plan.prompt == self.session.prompt

    @invariant()
    def waits_end(self) -> None:
        deadline = self.session.deadline()
        waiting_for_camera = (
            self.session.phase is Phase.AWAITING_SOURCE and self.session.mode is Mode.LIVE
        )
        assert deadline is not None or not waiting_for_camera
        if self.session.phase in (Phase.IDLE, Phase.PAUSED, Phase.PAUSING):
            assert deadline is None

    @staticmethod
    def payload(effect: Effect) -> Any:
        assert isinstance(effect, Send)
        return effect.message.payload

    @staticmethod
    def says(effect: Effect, kind: type) -> bool:
        return isinstance(effect, Send) and isinstance(effect.message.payload, kind)

    def states(self, effects: list[Effect]) -> list[Effect]:
        return [effect for effect in effects if self.says(effect, State)]

    def errors(self, effects: list[Effect]) -> list[Send]:
        return [
            effect
            for effect in effects
            if isinstance(effect, Send) and isinstance(effect.message.payload, CommandError)
        ]


SessionMachine.TestCase.settings = settings(max_examples=300, stateful_step_count=50, deadline=None)
TestSessionMachine = SessionMachine.TestCase
