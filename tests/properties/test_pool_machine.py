"""The pool under any order of events: nothing lost, nothing over-committed, nothing leaked."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace

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

from scheduler.core import pool_events as ev
from scheduler.core.errors import LimitError, NoCapacityError, RequestError
from scheduler.core.ids import ActorId, Epoch, SessionId
from scheduler.core.lease import LeaseState
from scheduler.core.placement import LeastLoaded, Pack, PlacementPolicy, Spread
from scheduler.core.pool import NO_CLIENT
from scheduler.core.quality import FULL, NO_COMPUTE
from scheduler.core.quotas import DAY
from scheduler.core.rations import ENDING_S
from tests.properties.pool_world import (
    CHUNK_MS,
    ENCODE_MS,
    FEWER_STEPS,
    FITTING,
    FITTING_DEGRADED,
    GATEWAY,
    RULES,
    STREAMED_S,
    TENANTS,
    World,
)

pytestmark = pytest.mark.properties

WINDOW_MS = {0: CHUNK_MS, **FEWER_STEPS}
ACTORS = st.sampled_from(["a", "b", "c"])
NUMBERS = range(16)
SESSIONS = st.sampled_from([f"s{number}" for number in NUMBERS])
FACE_TO_FACE = frozenset({LeaseState.ACTIVE, LeaseState.MOVING, LeaseState.DRAINING})
WITHOUT_ACTOR = frozenset({LeaseState.QUEUED, LeaseState.LOST, LeaseState.PARKED})


def tenant_of(session: str) -> str:
    return TENANTS[int(session[1:]) % len(TENANTS)]


class PoolMachine(RuleBasedStateMachine):
    """Plays everybody around the pool in any order."""

    policy: type[PlacementPolicy] = Pack
    pool_rules: ev.PoolRules = RULES
    fitting = FITTING

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.policy(), self.pool_rules)
        self.pool = self.world.pool

    @initialize(
        slots=st.lists(st.integers(2, 6), min_size=1, max_size=3),
        encoding=st.sampled_from([1000.0, 1000.0, 250.0]),
        data=st.data(),
    )
    def begin(self, slots: list[int], encoding: float, data: st.DataObject) -> None:
        self.world.encode_capacity = encoding
        for actor, count in zip("abc", slots, strict=False):
            self.world.register(actor, count)
        for number in data.draw(st.lists(st.sampled_from(NUMBERS), unique=True)):
            self.arrive(f"s{number}", computing=data.draw(st.booleans()))

    # Actors

    @rule(actor=ACTORS, slots=st.integers(1, 6))
    def register(self, actor: str, slots: int) -> None:
        if actor not in self.world.alive:
            self.world.register(actor, slots)

    @rule(actor=ACTORS)
    def die(self, actor: str) -> None:
        self.world.die(actor)

    @rule(actor=ACTORS)
    def unlink(self, actor: str) -> None:
        self.world.tell(ev.ActorUnlinked(ActorId(actor)))

    @precondition(lambda self: self.world.admits)
    @rule(data=st.data(), refusal=st.sampled_from(["", "", "", "no memory"]))
    def answer(self, data: st.DataObject, refusal: str) -> None:
        key = data.draw(st.sampled_from(sorted(self.world.admits)))
        self.world.answer(self.world.admits[key], refusal)

    @precondition(lambda self: self.world.parks)
    @rule(data=st.data(), failure=st.sampled_from(["", "", "no space"]))
    def park(self, data: st.DataObject, failure: str) -> None:
        self.world.park(data.draw(st.sampled_from(sorted(self.world.parks))), failure)

    @precondition(lambda self: self.world.moves)
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        self.world.restore(data.draw(st.sampled_from(sorted(self.world.moves))))

    @precondition(lambda self: self.world.tails)
    @rule(data=st.data())
    def depart(self, data: st.DataObject) -> None:
        self.world.depart(data.draw(st.sampled_from(sorted(self.world.tails))))

    @precondition(lambda self: self.world.moves)
    @rule(data=st.data())
    def hand_over(self, data: st.DataObject) -> None:
        self.world.hand_over(data.draw(st.sampled_from(sorted(self.world.moves))))

    @rule(
        actor=ACTORS,
        slots=st.integers(0, 6),
        ending=st.sampled_from(["", "handed over", "undone", "vanished"]),
    )
    def begin_to_move(self, actor: str, slots: int, ending: str) -> None:
        """An actor is drained, its sessions are handed over, and their target may be gone."""
        for other in {"a", "b", "c"} - self.world.alive.keys() if slots else ():
            self.world.register(other, slots)
        self.drain(actor, None)
        for admit in list(self.world.admits.values()):
            self.world.answer(admit)
        for session, (target, _) in list(self.world.moves.items()) if ending else ():
            if session in self.world.moves:
                self.world.hand_over(session)
                if ending != "handed over":
                    self.world.die(target)
                if ending == "vanished" and session in self.world.handed_over:
                    self.world.vanish(session)

    @precondition(lambda self: self.world.handed_over)
    @rule(data=st.data())
    def vanish(self, data: st.DataObject) -> None:
        self.world.vanish(data.draw(st.sampled_from(sorted(self.world.handed_over))))

    @rule(actor=ACTORS, grace=st.sampled_from([None, 15.0, 30.0]))
    def drain(self, actor: str, grace: float | None) -> None:
        if actor in self.world.alive:
            self.world.tell(ev.DrainAsked(ActorId(actor), grace))

    @rule(actor=ACTORS)
    def cancel_drain(self, actor: str) -> None:
        if actor not in self.world.retired:
            self.world.tell(ev.DrainCancelled(ActorId(actor)))

    # Clients and gateways

    @rule(session=SESSIONS, computing=st.booleans())
    def arrive(self, session: str, computing: bool) -> None:
        """A client comes, has its place at once if there is room, and starts."""
        with suppress(RequestError):
            self.world.ask(session, tenant=tenant_of(session))
        for admit in [a for a in self.world.admits.values() if a.session == session]:
            self.world.answer(admit)
        if SessionId(session) in self.world.places:
            self.world.connect(session, 1)
            if computing:
                self.book(session, stale=False)

    @rule()
    def all_answer(self) -> None:
        self.world.settle()

    @rule(session=SESSIONS, waited=st.sampled_from([0.0, 0.0, 5.0, 50.0]), again=st.booleans())
    def ask(self, session: str, waited: float, again: bool) -> None:
        before = self.pool._facts.queue.new_count
        try:
            self.world.ask(session, tenant=tenant_of(session), waited=waited, restore=again)
        except NoCapacityError:
            assert before >= RULES.queue_limit
            assert self.world.state(SessionId(session)) is None
        except LimitError:
            assert tenant_of(session) == "small"
            assert self.world.state(SessionId(session)) is None
        except RequestError:
            return
        else:
            if again and self.world.state(SessionId(session)) is LeaseState.LOST:
                self.world.off.add(SessionId(session))

    @rule(session=SESSIONS)
    def leave(self, session: str) -> None:
        self.world.tell(ev.PlaceLeft(SessionId(session)))

    @rule(session=SESSIONS)
    def release(self, session: str) -> None:
        self.world.release(session)

    @rule(session=SESSIONS, stale=st.booleans())
    def book(self, session: str, stale: bool) -> None:
        epoch = self.epoch(session) - stale
        computing = self.computing()
        try:
            self.world.tell(ev.BookAsked(SessionId(session), Epoch(epoch)))
        except RequestError:
            assert self.computing() == computing

    @rule(session=SESSIONS)
    def unbook(self, session: str) -> None:
        self.world.unbook(session)

    @rule(session=SESSIONS)
    def withdraw(self, session: str) -> None:
        self.world.tell(ev.BookWithdrawn(SessionId(session), Epoch(self.epoch(session))))

    def epoch(self, session: str) -> int:
        place = self.world.places.get(SessionId(session))
        return 0 if place is None else place[1]

    def computing(self) -> set[str]:
        return {s.session for s in self.pool.describe(self.world.now).sessions if s.computing}

    @rule(session=SESSIONS, count=st.integers(0, 2))
    def connect(self, session: str, count: int) -> None:
        self.world.connect(session, count)

    @rule()
    def lose_gateway(self) -> None:
        self.world.tell(ev.GatewayLost(GATEWAY))

    @rule(seconds=st.sampled_from([0.1, 1.0, 6.0, 31.0, 95.0]), silent=st.sets(ACTORS))
    def wait(self, seconds: float, silent: set[str]) -> None:
        self.world.pass_time(seconds, frozenset(silent))

    # What always holds

    @invariant()
    def no_session_is_lost(self) -> None:
        """Whatever existed and was ended by nobody is on one actor, parked, or waits."""
        facts = self.pool._facts
        for session in self.world.off | self.world.places.keys():
            state = self.world.state(session)
            assert state is not None
            if state in FACE_TO_FACE:
                assert session in self.world.places
            elif state is not LeaseState.PARKED:
                assert session in facts.tickets
        for session, lease in facts.leases.items():
            assert (lease.actor is None) == (lease.state in WITHOUT_ACTOR)
            assert (session in facts.queue) == (lease.actor is None and session in facts.tickets)
            assert lease.state is not LeaseState.QUEUED or session in facts.queue
            assert lease.state is not LeaseState.LOST or session in facts.queue
            assert (lease.state is LeaseState.ASSIGNED) == (
                session in facts.tickets and lease.actor is not None
            )

    @invariant()
    def the_account_agrees(self) -> None:
        for session, (actor, epoch) in self.world.places.items():
            lease = self.pool.lease(session)
            assert (lease.actor, lease.epoch) == (actor, epoch)

    @invariant()
    def slots_are_those_of_sessions(self) -> None:
        facts = self.pool._facts
        held: dict[ActorId, set[SessionId]] = {actor: set() for actor in facts.fleet.actors}
        for session, lease in facts.leases.items():
            for actor in (lease.actor, lease.target):
                if actor is not None:
                    held[actor].add(session)
        for key, record in facts.fleet.actors.items():
            assert set(record.resident.sessions) == held[key]
            assert all(facts.tails[session] == key for session in record.resident.leaving)
        placed = sum(lease.actor is not None for lease in facts.leases.values())
        assert facts.usage.total == placed

    @invariant()
    def time_is_counted_while_a_place_is_held_and_ends_sessions_when_used_up(self) -> None:
        facts, now = self.pool._facts, self.world.now
        limited = {
            lease.session
            for lease in facts.leases.values()
            if lease.principal.tenant == "heavy" and lease.actor is not None
        }
        streamed = facts.rations.usage.streamed
        assert set(streamed.running("tenant:heavy")) == limited
        assert streamed.used_s("tenant:heavy", DAY, now) <= STREAMED_S + 1.0 * len(NUMBERS)
        for lease in facts.leases.values():
            if lease.principal.tenant == "first" and lease.principal.ends_at is not None:
                assert now <= lease.principal.ends_at + ENDING_S + 1.0

    @invariant()
    def no_ledger_is_over_committed(self) -> None:
        for view in self.pool.describe(self.world.now).actors:
            assert view.sessions <= min(view.resident_slots, 8)
            assert view.booked_bytes <= view.resident_bytes
            assert view.booked_ms_per_s <= max(view.ceiling_ms_per_s, CHUNK_MS) + 1e-6
            assert view.computing <= self.fitting
        for record in self.pool._facts.fleet.actors.values():
            encode = record.compute.encode
            assert encode is not None
            assert encode.booked <= max(encode.ceiling, ENCODE_MS) + 1e-6

    @invariant()
    def who_computes_was_told_so(self) -> None:
        """No booking outlives its session at an actor, and none is given back twice."""
        booked = set()
        for lease in self.pool._facts.leases.values():
            for actor, epoch in ((lease.actor, lease.epoch), (lease.target, lease.target_epoch)):
                if actor is not None:
                    record = self.pool._facts.fleet.actors[actor]
                    if record.compute.is_computing(lease.session):
                        booked.add((lease.session, epoch))
        assert booked == self.world.computing.keys()

    @invariant()
    def who_computes_runs_as_is_booked(self) -> None:
        for (session, epoch), actor in self.world.computing.items():
            compute = self.pool._facts.fleet.actors[actor].compute
            assert self.world.told[session, epoch] == compute.quality(session)

    @invariant()
    def the_ledgers_are_the_sum_of_the_sessions(self) -> None:
        encoding: dict[str, dict[SessionId, float]] = {}
        for record in self.pool._facts.fleet.actors.values():
            booked = {s: record.compute.quality(s) for s in record.resident.sessions}
            assert set(record.compute.waiting) <= booked.keys()
            cost_ms = sum(each.rate * WINDOW_MS[each.steps] for each in booked.values())
            assert math.isclose(record.compute.booked, cost_ms, abs_tol=1e-9)
            computing = sum(record.compute.is_computing(session) for session in booked)
            assert record.compute.computing == computing
            for session, quality in booked.items():
                assert quality in (FULL, NO_COMPUTE, *record.qualities)
                here = encoding.setdefault(record.host, {})
                here[session] = max(here.get(session, 0.0), ENCODE_MS * quality.rate)
        for record in self.pool._facts.fleet.actors.values():
            encode = record.compute.encode
            assert encode is not None
            assert math.isclose(encode.booked, sum(encoding.get(record.host, {}).values()))

    @invariant()
    def idle_ledgers_are_idle(self) -> None:
        for record in self.pool._facts.fleet.actors.values():
            if not record.resident.sessions:
                assert record.compute.booked == 0.0
                assert not record.compute.anybody_waits()

    @invariant()
    def the_order_of_actors_is_up_to_date(self) -> None:
        fleet = self.pool._facts.fleet
        shelf = fleet.shelf("model")
        assert set(shelf.standings) == set(fleet.actors)
        for key, record in fleet.actors.items():
            assert shelf.standings[key] == fleet._standing(record)
        assert shelf.full == sorted(shelf.full)
        assert shelf.free == sum(standing.free for standing in shelf.standings.values())

    @invariant()
    def positions_are_those_of_the_queue(self) -> None:
        queued = [ticket.lease.session for ticket in self.pool._facts.queue]
        assert [self.world.waiting.get(s) for s in queued] == list(range(1, len(queued) + 1))

    @invariant()
    def restores_are_ahead_and_tenants_in_order(self) -> None:
        queue = self.pool._facts.queue
        assert [ticket.restore for ticket in queue] == sorted(
            (ticket.restore for ticket in queue), reverse=True
        )
        for tenant in TENANTS:
            turns = [ticket.turn for ticket in queue.new() if ticket.tenant == tenant]
            assert turns == sorted(turns)

    @invariant()
    def time_is_never_overdue(self) -> None:
        deadline = self.pool.next_deadline()
        assert deadline is None or deadline > self.world.now

    def teardown(self) -> None:
        """Whatever happened: with room all go on and drains end; with all ended, all is free."""
        world = self.world
        for actor in list(world.alive):
            if actor not in world.retired:
                world.tell(ev.DrainAsked(actor))
        for session in list(world.places):
            world.connect(session, 1)
        # On the same host, though all its encoders may be booked: they are free of the old actors.
        for number, _ in enumerate(NUMBERS):
            world.register(f"y{number}", 6)
        self.go_on()
        for actor in world.alive:
            assert actor.startswith("y") or actor in world.retired, "every drain ends"
        # Those that were lost and want to compute may have to wait for another host.
        world.encode_capacity = 1000.0
        for number, _ in enumerate(NUMBERS):
            world.register(f"z{number}", 6, host=f"host {number}")
        self.go_on()
        for session, lease in self.pool._facts.leases.items():
            assert lease.state in {LeaseState.ACTIVE, LeaseState.PARKED, LeaseState.QUEUED}, session
        for session in list(self.pool._facts.leases):
            world.release(session)
        world.tell(ev.GatewayLost(GATEWAY))
        world.pass_time(0.5)
        for view in self.pool.describe(world.now).actors:
            assert (view.sessions, view.computing, view.booked_ms_per_s) == (0, 0, 0.0)
            assert math.isclose(view.booked_encode_ms_per_s, 0.0)

    def go_on(self) -> None:
        """All do what they are to, for longer than anything has to wait."""
        for _ in range(12):
            self.world.settle()
            self.world.pass_time(6.0)


class SpreadMachine(PoolMachine):
    policy = Spread


class LeastLoadedMachine(PoolMachine):
    policy = LeastLoaded


class DegradingMachine(PoolMachine):
    pool_rules = replace(RULES, degrade=True)
    fitting = FITTING_DEGRADED


TestPack = PoolMachine.TestCase
TestPack.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
TestSpread = SpreadMachine.TestCase
TestSpread.settings = settings(max_examples=50, stateful_step_count=50, deadline=None)
TestLeastLoaded = LeastLoadedMachine.TestCase
TestLeastLoaded.settings = settings(max_examples=50, stateful_step_count=50, deadline=None)
TestDegrading = DegradingMachine.TestCase
TestDegrading.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)


def test_the_reason_for_people_stays_what_clients_were_promised() -> None:
    assert NO_CLIENT.format(RULES.reconnect_window) == "no client for 30 s"
