"""The pool under any order of events: never over-committed, in order, nothing leaked."""

from __future__ import annotations

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from scheduler.core import pool_events as ev
from scheduler.core.errors import NoCapacityError, RequestError
from scheduler.core.ids import ActorId, Epoch, GatewayId, Principal, SessionId
from scheduler.core.lease import LeaseState
from scheduler.core.placement import LeastLoaded, Pack, Spread
from scheduler.core.pool import NO_CLIENT, WORKER_DIED, Pool

pytestmark = pytest.mark.properties

MODEL = "model"
PRINCIPAL = Principal("tenant", frozenset())
GATEWAY = GatewayId("gateway")
RULES = ev.PoolRules(queue_limit=4)
CHUNK_MS = 200.0
FITTING = 4
"""Sessions of that cost that fit below the ceiling."""

ACTORS = st.sampled_from(["a", "b"])
SESSIONS = st.sampled_from([f"s{number}" for number in range(24)])


class PoolMachine(RuleBasedStateMachine):
    """Plays the actors and the gateways, and keeps its own simple account of both."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.pool = Pool(RULES, Pack())
        self.slots: dict[str, int] = {}
        """Actors that are alive."""
        self.admits: dict[SessionId, ev.Admit] = {}
        """Placements that no actor has answered."""
        self.placed: dict[SessionId, ev.Admit] = {}
        self.waiting: dict[SessionId, int] = {}
        """Sessions in the queue and the position last told."""
        self.allowed_to_end: set[SessionId] = set()
        """Sessions that a client, a timeout or a dead actor may end in this step."""
        self.highest_epoch = 0

    def tell(self, event: ev.Event) -> None:
        try:
            self.pool.apply(event, self.now)
        finally:
            self.conclude()

    def conclude(self) -> None:
        for effect in self.pool.decide(self.now):
            match effect:
                case ev.Admit():
                    self.on_admit(effect)
                case ev.Evict():
                    self.admits.pop(effect.session, None)
                case ev.Waiting():
                    self.admits.pop(effect.session, None)
                    self.waiting[effect.session] = effect.position
                case ev.Placed() if effect.session in self.admits:
                    self.placed[effect.session] = self.admits.pop(effect.session)
                case ev.Ended():
                    self.on_end(effect)
                case ev.Replace():
                    self.slots.pop(effect.actor, None)
        self.allowed_to_end.clear()

    def on_admit(self, admit: ev.Admit) -> None:
        assert admit.epoch > self.highest_epoch
        self.highest_epoch = admit.epoch
        assert admit.actor in self.slots
        self.admits[admit.session] = admit
        self.waiting.pop(admit.session, None)

    def on_end(self, ended: ev.Ended) -> None:
        if ended.session in self.placed:
            assert ended.session in self.allowed_to_end, "a live session was put out"
        for book in (self.placed, self.admits, self.waiting):
            book.pop(ended.session, None)

    def view(self) -> dict[str, ev.ActorView]:
        return {view.actor: view for view in self.pool.describe(self.now).actors}

    @rule(actor=ACTORS, slots=st.integers(1, 6))
    def register(self, actor: str, slots: int) -> None:
        if actor in self.slots:
            return
        self.slots[actor] = slots
        self.tell(
            ev.ActorRegistered(ActorId(actor), (MODEL,), f"unix:/{actor}", slots, CHUNK_MS, 1000.0)
        )

    @rule(actor=ACTORS)
    def die(self, actor: str) -> None:
        self.allow_loss(actor)
        self.slots.pop(actor, None)
        self.tell(ev.ActorDied(ActorId(actor)))

    def allow_loss(self, actor: str) -> None:
        self.allowed_to_end |= {s for s, admit in self.placed.items() if admit.actor == actor}

    @rule(session=SESSIONS, waited=st.sampled_from([0.0, 0.0, 5.0, 50.0]))
    def ask(self, session: str, waited: float) -> None:
        before = len(self.waiting)
        event = ev.PlaceAsked(SessionId(session), MODEL, PRINCIPAL, GATEWAY, waited)
        try:
            self.tell(event)
        except NoCapacityError:
            assert before >= RULES.queue_limit
            assert SessionId(session) not in self.waiting
        except RequestError:
            return
        assert len(self.waiting) <= max(before, RULES.queue_limit)

    @precondition(lambda self: self.admits)
    @rule(data=st.data(), refusal=st.sampled_from(["", "", "", "no memory"]))
    def answer(self, data: st.DataObject, refusal: str) -> None:
        session = data.draw(st.sampled_from(sorted(self.admits)))
        admit = self.admits[session]
        if refusal:
            del self.admits[session]
        self.tell(ev.AdmitAnswered(admit.actor, admit.session, admit.epoch, refusal))

    @rule(session=SESSIONS)
    def release(self, session: str) -> None:
        self.allowed_to_end.add(SessionId(session))
        self.tell(ev.ReleaseAsked(SessionId(session), "closed"))

    @rule(session=SESSIONS, stale=st.booleans())
    def book(self, session: str, stale: bool) -> None:
        epoch = self.epoch(session) - stale
        computing = self.computing()
        try:
            self.tell(ev.BookAsked(SessionId(session), Epoch(epoch)))
        except RequestError:
            assert self.computing() == computing

    @rule(session=SESSIONS)
    def unbook(self, session: str) -> None:
        self.tell(ev.Unbooked(SessionId(session), Epoch(self.epoch(session))))

    def epoch(self, session: str) -> int:
        admit = self.placed.get(SessionId(session))
        return 0 if admit is None else admit.epoch

    def computing(self) -> set[str]:
        return {s.session for s in self.pool.describe(self.now).sessions if s.computing}

    @rule(session=SESSIONS, count=st.integers(0, 2))
    def connect(self, session: str, count: int) -> None:
        self.tell(ev.ConnectionsReported(GATEWAY, {SessionId(session): count}, complete=False))

    @rule()
    def lose_gateway(self) -> None:
        self.tell(ev.GatewayLost(GATEWAY))

    @rule(seconds=st.sampled_from([0.1, 1.0, 6.0, 31.0]), silent=st.sets(ACTORS))
    def wait(self, seconds: float, silent: set[str]) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 0.5)
            for actor in set(self.slots) - silent:
                self.pool.apply(ev.ActorBeat(ActorId(actor)), self.now)
            # A client that is away long enough, or a silent actor, may end any of them.
            detached = {s.session for s in self.pool.describe(self.now).sessions if s.detached}
            self.allowed_to_end |= detached
            for actor in silent:
                self.allow_loss(actor)
            self.conclude()

    @invariant()
    def slots_are_never_over_committed(self) -> None:
        for actor, view in self.view().items():
            assert view.sessions <= view.resident_slots == self.slots[actor]

    @invariant()
    def compute_is_never_over_committed(self) -> None:
        for view in self.view().values():
            assert view.booked_ms_per_s <= max(view.ceiling_ms_per_s, CHUNK_MS)
            assert view.computing <= FITTING

    @invariant()
    def slots_are_those_of_sessions(self) -> None:
        sessions = self.pool.describe(self.now).sessions
        for actor, view in self.view().items():
            assert view.sessions == sum(session.actor == actor for session in sessions)

    @invariant()
    def the_account_agrees(self) -> None:
        by_state: dict[LeaseState, set[str]] = {state: set() for state in LeaseState}
        for session in self.pool.describe(self.now).sessions:
            by_state[session.state].add(session.session)
        assert by_state[LeaseState.QUEUED] == set(self.waiting)
        assert by_state[LeaseState.ASSIGNED] == set(self.admits)
        assert by_state[LeaseState.ACTIVE] == set(self.placed)

    @invariant()
    def positions_are_those_of_the_queue(self) -> None:
        queued = [
            session.session
            for session in self.pool.describe(self.now).sessions
            if session.state is LeaseState.QUEUED
        ]
        assert [self.waiting[SessionId(s)] for s in queued] == list(range(1, len(queued) + 1))

    @invariant()
    def the_queue_is_in_order_of_age(self) -> None:
        ages = [
            session.age
            for session in self.pool.describe(self.now).sessions
            if session.state is LeaseState.QUEUED
        ]
        assert ages == sorted(ages, reverse=True)

    @invariant()
    def time_is_never_overdue(self) -> None:
        deadline = self.pool.next_deadline()
        assert deadline is None or deadline > self.now

    def teardown(self) -> None:
        """Whatever happened: when room comes all are served, and when all end all is free."""
        for actor in list(self.slots):
            self.die(actor)
        waiting = dict(self.waiting)
        self.slots["z"] = 64
        self.tell(ev.ActorRegistered(ActorId("z"), (MODEL,), "unix:/z", 64, 1.0, 1000.0))
        assert self.waiting == {}
        assert set(waiting) <= set(self.admits)
        for session in [s.session for s in self.pool.describe(self.now).sessions]:
            self.release(session)
        self.lose_gateway()
        [view] = self.view().values()
        assert (view.sessions, view.computing, view.booked_ms_per_s) == (0, 0, 0.0)
        assert self.pool.describe(self.now).sessions == ()
        # Nothing is left to wait for but the actor's next beat.
        deadline = self.pool.next_deadline()
        assert deadline is None or math.isclose(deadline, self.now + RULES.actor_timeout)


class SpreadMachine(PoolMachine):
    """The same with sessions spread."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = Pool(RULES, Spread())


class LeastLoadedMachine(PoolMachine):
    """The same with the least loaded first."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = Pool(RULES, LeastLoaded())


TestPack = PoolMachine.TestCase
TestPack.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestSpread = SpreadMachine.TestCase
TestSpread.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestLeastLoaded = LeastLoadedMachine.TestCase
TestLeastLoaded.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_the_reasons_for_people_stay_what_clients_were_promised() -> None:
    assert NO_CLIENT.format(RULES.reconnect_window) == "no client for 30 s"
    assert WORKER_DIED == "its worker died"
