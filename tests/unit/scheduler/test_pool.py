"""Places in the pool: slots, queue, admission, ends."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from scheduler.core import pool_events as ev
from scheduler.core.errors import (
    InvariantError,
    NoCapacityError,
    NotReadyError,
    SessionClosedError,
    UnknownModelError,
    UnknownSessionError,
)
from scheduler.core.ids import ActorId, Epoch, SessionId
from scheduler.core.lease import LeaseState
from scheduler.core.placement import ActorLoad
from scheduler.core.pool import GIVEN_UP, NOT_ADMITTED
from scheduler.core.tenants import TenantRules
from tests.unit.scheduler.pool_driver import (
    CHEAP,
    GATEWAY,
    MODEL,
    PRINCIPAL,
    PoolDriver,
    full,
    held,
    leave,
)

pytestmark = pytest.mark.unit


@pytest.fixture
def driver() -> PoolDriver:
    return PoolDriver()


# Places


def test_a_model_that_is_served_itself_is_not_stood_in_for(driver: PoolDriver) -> None:
    driver.actor("stand-in", models=("painter", "sana-streaming"))
    driver.place("before", model="sana-streaming")
    assert driver.session("before").actor == "stand-in"
    driver.actor("zreal", models=("sana-streaming",))
    driver.place("after", model="sana-streaming")
    assert driver.session("after").actor == "zreal"
    driver.place("own", model="painter")
    assert driver.session("own").actor == "stand-in"


def test_a_session_is_placed_at_once_where_there_is_room(driver: PoolDriver) -> None:
    driver.actor()
    assert driver.ask("s") == [ev.Admit(ActorId("a"), SessionId("s"), Epoch(1), PRINCIPAL, MODEL)]
    assert driver.session("s").state is LeaseState.ASSIGNED
    assert driver.answer(driver.admitted()) == [ev.Placed(SessionId("s"))]
    lease = driver.pool.lease(SessionId("s"))
    assert (lease.actor, lease.epoch, lease.gateway) == ("a", 1, GATEWAY)
    assert driver.pool.address(ActorId("a")) == "unix:/a"


def test_an_unknown_model_is_refused_with_the_names_that_are_served(driver: PoolDriver) -> None:
    driver.actor(models=("x", "alias"))
    with pytest.raises(UnknownModelError) as refusal:
        driver.ask("s", model="other")
    assert refusal.value.served == ("x", "alias")


def test_a_name_waits_while_its_actor_is_replaced(driver: PoolDriver) -> None:
    driver.actor()
    driver.tell(ev.ActorDied(ActorId("a")))
    assert driver.ask("s") == [ev.Waiting(SessionId("s"), 1, 0.0)]
    driver.actor("b")
    assert driver.admitted().actor == "b"


def test_a_session_goes_only_to_an_actor_that_answers_to_its_model(driver: PoolDriver) -> None:
    driver.actor("a", models=("x",))
    driver.actor("b", models=("y",), slots=1, chunk_ms=CHEAP)
    driver.place("s1", model="y")
    driver.ask("s2", model="y")
    assert driver.session("s2").state is LeaseState.QUEUED
    assert driver.session("s1").actor == "b"


def test_a_wait_for_one_model_does_not_hold_up_another(driver: PoolDriver) -> None:
    driver.actor("a", models=("x",), slots=1)
    driver.actor("b", models=("y",))
    driver.place("s1", model="x")
    driver.ask("s2", model="x")
    assert driver.place("s3", model="y")


def test_the_queue_is_served_in_order(driver: PoolDriver) -> None:
    full(driver)
    for session in ("first", "second"):
        driver.ask(session)
    driver.release("s0")
    assert driver.admitted().session == "first"
    driver.answer(driver.admitted())
    driver.release("first")
    assert driver.admitted().session == "second"


def test_nobody_passes_a_session_that_waits_for_the_same_actor(driver: PoolDriver) -> None:
    driver.actor("a", models=("x",), slots=1)
    driver.actor("b", models=("x", "y"), slots=1)
    driver.place("s1", model="x")
    driver.place("s2", model="x")
    driver.ask("first", model="x")
    driver.ask("second", model="y")
    driver.release("s2")
    assert driver.admitted().session == "first"


def test_a_ticket_that_waited_elsewhere_keeps_its_turn(driver: PoolDriver) -> None:
    full(driver)
    driver.ask("late")
    assert driver.ask("early", waited=60.0) == [
        ev.Waiting(SessionId("early"), 1, 0.0),
        ev.Waiting(SessionId("late"), 2, 0.0),
    ]


def test_a_ticket_from_before_may_come_ahead_of_the_actors(driver: PoolDriver) -> None:
    driver.ask("s", waited=3.0)
    driver.actor()
    assert driver.admitted().session == "s"


def test_asking_again_moves_a_ticket_forward_and_never_back(driver: PoolDriver) -> None:
    full(driver)
    driver.ask("x")
    driver.ask("y")
    driver.ask("x")
    assert driver.of(ev.Waiting) == [ev.Waiting(SessionId("x"), 1, 0.0)]
    driver.ask("y", waited=100.0)
    assert ev.Waiting(SessionId("y"), 1, 0.0) in driver.effects


def test_asking_again_for_a_placed_session_tells_its_place(driver: PoolDriver) -> None:
    driver.actor()
    driver.place("s")
    assert driver.ask("s", gateway="other") == [ev.Placed(SessionId("s"))]
    assert driver.pool.lease(SessionId("s")).gateway == "other"


def test_asking_again_while_the_actor_is_asked_places_once(driver: PoolDriver) -> None:
    driver.actor()
    driver.ask("s")
    assert driver.ask("s") == []
    assert driver.view().sessions == 1


def test_positions_are_told_when_they_change_and_only_then(driver: PoolDriver) -> None:
    full(driver)
    driver.ask("x")
    assert driver.ask("y") == [ev.Waiting(SessionId("y"), 2, 0.0)]
    assert driver.wait(1.0) == []
    assert driver.release("x") == [
        ev.Ended(SessionId("x"), "closed"),
        ev.Waiting(SessionId("y"), 1, 0.0),
    ]


def test_the_estimate_follows_the_length_of_earlier_sessions(driver: PoolDriver) -> None:
    full(driver)
    driver.wait(100.0)
    driver.ask("x")
    driver.ask("y")
    driver.release("s0")
    assert driver.of(ev.Waiting) == [ev.Waiting(SessionId("y"), 1, 100.0)]


def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    driver = PoolDriver(ev.PoolRules(queue_limit=2, retry_after=7.0))
    full(driver)
    driver.ask("x")
    driver.ask("y")
    with pytest.raises(NoCapacityError) as refusal:
        driver.ask("z")
    assert refusal.value.retry_after_s == 7.0
    with pytest.raises(UnknownSessionError):
        driver.pool.lease(SessionId("z"))
    driver.release("x")
    assert driver.ask("z") == [ev.Waiting(SessionId("z"), 2, 0.0)]


def test_a_full_queue_does_not_refuse_what_has_room_elsewhere() -> None:
    driver = PoolDriver(ev.PoolRules(queue_limit=1))
    full(driver)
    driver.ask("x")
    driver.actor("b", models=("other",))
    driver.place("y", model="other")
    assert driver.session("y").state is LeaseState.ACTIVE


@pytest.mark.parametrize(("slots", "taken"), [(9, 9), (10, 9), (19, 18), (20, 18)])
def test_new_sessions_leave_the_resume_reserve_free(slots: int, taken: int) -> None:
    driver = PoolDriver()
    driver.actor(slots=slots, chunk_ms=CHEAP)
    for number in range(slots):
        driver.ask(f"s{number}")
        for admit in driver.of(ev.Admit):
            driver.answer(admit)
    assert driver.view().sessions == taken


def test_the_reserve_counts_the_slots_of_all_actors_that_serve_the_model() -> None:
    driver = PoolDriver()
    for actor in ("a", "b"):
        driver.actor(actor, slots=5, chunk_ms=CHEAP)
    for number in range(9):
        driver.place(f"s{number}")
    driver.ask("s9")
    assert driver.session("s9").state is LeaseState.QUEUED


def test_a_policy_that_invents_an_actor_is_our_mistake() -> None:
    class Wrong:
        def choose(self, candidates: Sequence[ActorLoad]) -> ActorId:
            assert candidates
            return ActorId("nowhere")

    driver = PoolDriver(policy=Wrong())
    driver.actor()
    with pytest.raises(InvariantError):
        driver.pool.apply(ev.PlaceAsked(SessionId("s"), MODEL, PRINCIPAL, GATEWAY), driver.now)


# What operators see of the queue


def test_those_who_wait_are_told_in_their_turn_with_what_decides_it() -> None:
    rules = ev.PoolRules(tenants={"gold": TenantRules(priority=2)})
    driver = PoolDriver(rules)
    full(driver)
    driver.ask("x")
    driver.ask("y", tenant="gold")
    view = driver.pool.describe(driver.now, "waiting")
    told = [(each.session, each.queue_position, each.priority) for each in view.sessions]
    assert told == [("y", 1, 2), ("x", 2, 0)]
    everybody = driver.pool.describe(driver.now)
    assert everybody.sessions[:2] == view.sessions
    assert {each.queue_position for each in everybody.sessions[2:]} == {0}
    none = driver.pool.describe(driver.now, "none")
    assert (none.sessions, none.counts) == ((), everybody.counts)


# Tickets that nobody waits for


def test_a_ticket_that_is_left_keeps_its_turn_for_a_while(driver: PoolDriver) -> None:
    full(driver)
    driver.ask("x")
    driver.ask("y")
    assert leave(driver, "x") == []
    assert driver.wait(4.9) == []
    assert driver.wait(0.1) == [ev.Waiting(SessionId("y"), 1, 0.0)]
    with pytest.raises(UnknownSessionError):
        driver.pool.lease(SessionId("x"))


def test_coming_back_in_time_keeps_the_turn(driver: PoolDriver) -> None:
    full(driver)
    driver.ask("x")
    driver.ask("y")
    leave(driver, "x")
    driver.wait(4.0)
    assert driver.ask("x", waited=4.0) == [ev.Waiting(SessionId("x"), 1, 0.0)]
    assert driver.wait(60.0) == []


def test_a_left_ticket_is_dropped_although_nothing_else_happens(driver: PoolDriver) -> None:
    driver.ask("x", waited=1.0)
    leave(driver, "x")
    assert driver.pool.next_deadline() == driver.now + 5.0
    driver.wait(5.0, beating=False)
    assert driver.pool.describe(driver.now).sessions == ()
    assert driver.pool.next_deadline() is None


def test_a_dropped_ticket_may_be_submitted_again_with_its_time(driver: PoolDriver) -> None:
    full(driver)
    driver.ask("x")
    driver.wait(1.0)
    driver.ask("y")
    leave(driver, "x")
    driver.wait(10.0)
    assert driver.ask("x", waited=11.0) == [
        ev.Waiting(SessionId("x"), 1, 0.0),
        ev.Waiting(SessionId("y"), 2, 0.0),
    ]


def test_a_session_that_is_placed_while_nobody_waits_is_found_on_asking_again(
    driver: PoolDriver,
) -> None:
    driver.actor()
    driver.ask("s")
    admit = driver.admitted()
    leave(driver, "s")
    driver.answer(admit)
    driver.wait(10.0)
    assert driver.ask("s", waited=10.0) == [ev.Placed(SessionId("s"))]
    assert driver.pool.lease(SessionId("s")).epoch == admit.epoch


def test_a_ticket_dropped_while_its_actor_is_asked_frees_the_place() -> None:
    driver = PoolDriver(ev.PoolRules(ticket_grace=1.0))
    driver.actor()
    driver.ask("s")
    admit = driver.admitted()
    leave(driver, "s")
    assert driver.wait(1.0) == [
        ev.Evict(admit.actor, SessionId("s"), admit.epoch, GIVEN_UP, goes_on=True)
    ]
    assert (driver.view().sessions, driver.view().booked_ms_per_s) == (0, 0.0)
    assert driver.answer(admit) == []


def test_a_session_released_after_its_ticket_was_left_is_over(driver: PoolDriver) -> None:
    full(driver)
    driver.ask("x")
    leave(driver, "x")
    assert driver.release("x") == [ev.Ended(SessionId("x"), "closed")]
    with pytest.raises(SessionClosedError):
        driver.ask("x", waited=1.0)


def test_leaving_a_placed_or_unknown_session_changes_nothing(driver: PoolDriver) -> None:
    full(driver)
    assert leave(driver, "s0") == leave(driver, "x") == []
    assert driver.wait(60.0) == []


# Admission by the actor


def test_a_refused_session_is_offered_to_the_next_actor(driver: PoolDriver) -> None:
    driver.actor("a")
    driver.actor("b")
    driver.ask("s")
    driver.answer(driver.admitted(), refusal="no memory")
    assert driver.admitted().actor == "b"
    assert driver.admitted().epoch == 2
    assert driver.view("a").sessions == 0
    assert driver.view("a").booked_ms_per_s == 0.0


def test_a_session_that_all_refuse_waits_and_lets_others_pass(driver: PoolDriver) -> None:
    driver.actor()
    driver.ask("s")
    driver.answer(driver.admitted(), refusal="no memory")
    assert driver.session("s").state is LeaseState.QUEUED
    driver.place("other")
    driver.wait(5.0)
    assert driver.admitted().session == "s"


def test_an_actor_that_does_not_answer_is_passed_over(driver: PoolDriver) -> None:
    driver.actor("a")
    driver.actor("b")
    driver.ask("s")
    late = driver.admitted()
    driver.wait(5.0)
    assert driver.effects == [
        ev.Evict(ActorId("a"), SessionId("s"), Epoch(1), NOT_ADMITTED, goes_on=True),
        ev.Admit(ActorId("b"), SessionId("s"), Epoch(2), PRINCIPAL, MODEL),
    ]
    assert driver.answer(late) == []
    assert driver.session("s").state is LeaseState.ASSIGNED


def test_a_session_that_is_asked_for_is_not_ready(driver: PoolDriver) -> None:
    full(driver)
    driver.ask("x")
    with pytest.raises(NotReadyError):
        driver.pool.lease(SessionId("x"))


# Ends


def test_a_release_frees_the_place_and_tells_everybody(driver: PoolDriver) -> None:
    [epoch] = full(driver)
    assert driver.release("s0", "done") == [
        ev.Evict(ActorId("a"), SessionId("s0"), epoch, "done"),
        ev.Ended(SessionId("s0"), "done"),
    ]
    assert driver.view().sessions == 0
    with pytest.raises(SessionClosedError, match="done"):
        driver.pool.lease(SessionId("s0"))


def test_a_release_is_idempotent(driver: PoolDriver) -> None:
    full(driver)
    driver.release("s0")
    assert driver.release("s0", "again") == []
    with pytest.raises(SessionClosedError, match="closed"):
        driver.ask("s0")


def test_releasing_an_assigned_session_takes_it_from_the_actor(driver: PoolDriver) -> None:
    driver.actor()
    driver.ask("s")
    admit = driver.admitted()
    driver.release("s")
    assert driver.of(ev.Evict) == [ev.Evict(ActorId("a"), SessionId("s"), admit.epoch, "closed")]
    assert driver.answer(admit) == []


def test_a_session_released_before_its_actor_came_is_evicted_when_it_does(
    driver: PoolDriver,
) -> None:
    driver.release("s")
    assert driver.actor(held=(held("s", 4),)) == [
        ev.Evict(ActorId("a"), SessionId("s"), Epoch(4), "closed")
    ]


def test_only_so_many_ended_sessions_are_remembered() -> None:
    driver = PoolDriver(ev.PoolRules(ended_kept=2))
    for session in ("x", "y", "z"):
        driver.release(session)
    with pytest.raises(UnknownSessionError):
        driver.pool.lease(SessionId("x"))
    with pytest.raises(SessionClosedError):
        driver.pool.lease(SessionId("y"))
