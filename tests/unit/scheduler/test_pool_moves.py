"""Moves: the old place is the session's until it goes on at the new one."""

from __future__ import annotations

import dataclasses

import pytest

from scheduler.core import pool_events as ev
from scheduler.core.errors import NotReadyError, UnknownSessionError
from scheduler.core.facts import MOVE_UNDONE, MOVED
from scheduler.core.ids import ActorId, Epoch, SessionId
from scheduler.core.lease import LeaseState
from tests.unit.scheduler.pool_driver import PRINCIPAL, STAYING, PoolDriver, held

pytestmark = pytest.mark.unit

A, B, S = ActorId("a"), ActorId("b"), SessionId("s")
RULES = dataclasses.replace(STAYING, rebalance=False)


@pytest.fixture
def driver() -> PoolDriver:
    """A session computes on a; a is drained, and b has been asked to admit it."""
    driver = PoolDriver(RULES)
    driver.actor("a")
    driver.running("s")
    driver.actor("b")
    driver.tell(ev.DrainAsked(A))
    return driver


def told(driver: PoolDriver) -> None:
    """The target admits the session, and gateways are told."""
    driver.answer(driver.admitted())
    assert driver.of(ev.Moves) == [ev.Moves(S)]


def restored(driver: PoolDriver) -> list[ev.Effect]:
    return driver.tell(ev.SessionRestored(B, S, Epoch(2)))


def departed(driver: PoolDriver) -> list[ev.Effect]:
    return driver.tell(ev.SessionDeparted(A, S, Epoch(1)))


def test_a_move_books_at_the_target_first(driver: PoolDriver) -> None:
    assert driver.admitted() == ev.Admit(
        B, S, Epoch(2), PRINCIPAL, "model", restore=True, computing=True
    )
    assert (driver.view("a").computing, driver.view("b").computing) == (1, 1)
    assert driver.session("s").state is LeaseState.MOVING
    with pytest.raises(NotReadyError):
        driver.pool.target(S)


def test_the_target_is_told_once_it_has_admitted(driver: PoolDriver) -> None:
    told(driver)
    target = driver.pool.target(S)
    assert (target.actor, target.epoch) == (B, 2)
    lease = driver.pool.lease(S)
    assert (lease.actor, lease.epoch) == (A, 1)
    with pytest.raises(UnknownSessionError):
        driver.pool.target(SessionId("nobody"))


def test_authority_switches_when_the_session_goes_on(driver: PoolDriver) -> None:
    told(driver)
    restored(driver)
    lease = driver.pool.lease(S)
    assert (lease.actor, lease.epoch, lease.state) == (B, 2, LeaseState.ACTIVE)
    assert (driver.view("a").sessions, driver.view("a").computing) == (1, 0)
    assert (driver.view("b").sessions, driver.view("b").computing) == (1, 1)
    departed(driver)
    assert driver.view("a").sessions == 0
    assert driver.of(ev.Evict) == []


def test_an_actor_that_is_not_rid_of_it_in_time_is_told_to(driver: PoolDriver) -> None:
    told(driver)
    restored(driver)
    driver.wait(10.0)
    assert driver.of(ev.Evict) == [ev.Evict(A, S, Epoch(1), MOVED, goes_on=True)]
    assert driver.view("a").sessions == 0


def test_word_of_the_departure_may_come_first(driver: PoolDriver) -> None:
    told(driver)
    departed(driver)
    assert driver.pool.lease(S).actor == B
    assert driver.view("a").sessions == 0
    assert restored(driver) == []


def test_departing_after_the_move_was_undone_gives_back_what_was_held(driver: PoolDriver) -> None:
    told(driver)
    driver.die("b")
    assert driver.view("a").computing == 1
    departed(driver)
    assert (driver.view("a").sessions, driver.view("a").booked_ms_per_s) == (0, 0.0)
    assert driver.of(ev.ParkedTold) == [ev.ParkedTold(S, Epoch(1), "host-a", restoring=True)]
    assert driver.session("s").state is LeaseState.LOST
    assert departed(driver) == [], "once"
    driver.actor("c")
    assert driver.admitted().computing


def test_departing_before_the_next_target_has_answered_leaves_it_to_that(
    driver: PoolDriver,
) -> None:
    told(driver)
    driver.die("b")
    driver.actor("c")
    driver.wait(5.0)
    admit = driver.admitted()
    departed(driver)
    assert (driver.view("a").sessions, driver.view("a").booked_ms_per_s) == (0, 0.0)
    assert driver.session("s").state is LeaseState.ASSIGNED
    driver.answer(admit)
    assert driver.pool.lease(S).actor == "c"
    assert driver.view("c").computing == 1


def test_a_next_target_that_then_refuses_leaves_it_lost(driver: PoolDriver) -> None:
    told(driver)
    driver.die("b")
    driver.actor("c")
    driver.wait(5.0)
    admit = driver.admitted()
    departed(driver)
    driver.answer(admit, refusal="no memory")
    assert driver.session("s").state is LeaseState.LOST
    assert driver.view("c").booked_ms_per_s == 0.0


def test_a_target_that_refuses_changes_nothing(driver: PoolDriver) -> None:
    driver.answer(driver.admitted(), refusal="no memory")
    assert driver.of(ev.Evict) == []
    lease = driver.pool.lease(S)
    assert (lease.actor, lease.epoch, lease.state) == (A, 1, LeaseState.DRAINING)
    assert driver.view("b").booked_ms_per_s == 0.0
    driver.wait(5.0)
    assert driver.admitted().epoch == 3


def test_a_target_that_does_not_answer_is_given_up(driver: PoolDriver) -> None:
    driver.wait(5.0)
    assert driver.of(ev.Evict) == [ev.Evict(B, S, Epoch(2), MOVE_UNDONE, goes_on=True)]
    assert driver.pool.lease(S).epoch == 1


def test_a_session_that_does_not_go_on_in_time_stays(driver: PoolDriver) -> None:
    told(driver)
    driver.wait(15.0)
    assert driver.of(ev.Evict) == [ev.Evict(B, S, Epoch(2), MOVE_UNDONE, goes_on=True)]
    assert driver.pool.lease(S).actor == A
    assert driver.view("a").computing == 1


def test_after_an_undone_move_a_gateway_that_asks_gets_a_new_place(driver: PoolDriver) -> None:
    told(driver)
    driver.wait(15.0)
    driver.ask("s", restore=True)
    admit = driver.admitted()
    assert (admit.session, admit.restore, admit.computing) == (S, True, True)


def test_a_target_that_dies_changes_nothing(driver: PoolDriver) -> None:
    told(driver)
    driver.die("b")
    assert driver.pool.lease(S).actor == A
    assert driver.of(ev.ParkedTold) == []


def test_a_target_that_comes_back_without_it_changes_nothing(driver: PoolDriver) -> None:
    told(driver)
    driver.actor("b")
    assert driver.pool.lease(S).actor == A


def test_a_target_that_comes_back_with_it_goes_on(driver: PoolDriver) -> None:
    driver.actor("b", held=(held("s", 2),))
    assert driver.of(ev.Moves) == [ev.Moves(S)]


def test_the_target_of_a_session_whose_actor_dies_is_its_new_place(driver: PoolDriver) -> None:
    told(driver)
    driver.die("a")
    assert ev.ParkedTold(S, Epoch(1), "host-a", restoring=True) in driver.effects
    lease = driver.pool.lease(S)
    assert (lease.actor, lease.epoch, lease.state) == (B, 2, LeaseState.ACTIVE)
    assert driver.of(ev.Placed) == [ev.Placed(S)], "or who comes later is told that it is parked"
    assert driver.of(ev.Admit) == []
    assert driver.view("b").computing == 1
    assert driver.ask("s", restore=True) == [ev.Placed(S)]


def test_a_target_has_its_time_to_answer_although_a_gateway_has_lost_the_old_place(
    driver: PoolDriver,
) -> None:
    admit = driver.admitted()
    driver.tell(ev.ActorUnlinked(A))
    driver.ask("s", restore=True)
    assert driver.session("s").state is LeaseState.ASSIGNED
    assert [each.actor for each in driver.of(ev.Evict)] == [A]
    driver.answer(admit)
    assert driver.pool.lease(S).epoch == 2


def test_epochs_begin_above_those_of_schedulers_before() -> None:
    driver = PoolDriver(RULES, first_epoch=41)
    driver.actor("a")
    driver.running("s")
    assert driver.pool.lease(S).epoch == 42


def test_so_it_is_before_the_target_has_answered(driver: PoolDriver) -> None:
    admit = driver.admitted()
    driver.die("a")
    assert driver.session("s").state is LeaseState.ASSIGNED
    driver.answer(admit)
    assert driver.of(ev.Placed) == [ev.Placed(S)]
    assert driver.pool.lease(S).epoch == 2


def test_a_target_that_then_refuses_leaves_it_lost(driver: PoolDriver) -> None:
    admit = driver.admitted()
    driver.die("a")
    driver.answer(admit, refusal="no memory")
    assert driver.session("s").state is LeaseState.LOST
    driver.actor("c")
    assert driver.admitted().computing


def test_releasing_a_session_that_moves_frees_both_places(driver: PoolDriver) -> None:
    told(driver)
    driver.release("s")
    assert {(e.actor, e.epoch) for e in driver.of(ev.Evict)} == {(A, 1), (B, 2)}
    assert driver.view("a").sessions == driver.view("b").sessions == 0
    assert driver.view("b").booked_ms_per_s == 0.0


def test_releasing_a_session_that_has_just_moved_frees_its_old_place(driver: PoolDriver) -> None:
    told(driver)
    restored(driver)
    driver.release("s")
    assert {(e.actor, e.epoch) for e in driver.of(ev.Evict)} == {(A, 1), (B, 2)}
    assert driver.view("a").sessions == 0


def test_the_targets_bookings_are_its_own(driver: PoolDriver) -> None:
    told(driver)
    driver.unbook("s", 2)
    assert (driver.view("a").computing, driver.view("b").computing) == (1, 0)
    driver.book("s", 2)
    assert driver.of(ev.BookAnswered) == [ev.BookAnswered(S, Epoch(2), booked=True)]


def test_a_session_without_a_gateway_does_not_move() -> None:
    driver = PoolDriver(RULES)
    driver.actor("a")
    driver.running("s")
    driver.connect("s", 0)
    driver.actor("b")
    driver.tell(ev.DrainAsked(A))
    assert driver.of(ev.Admit) == []


def test_who_finds_no_compute_moves_to_where_there_is_some() -> None:
    driver = PoolDriver(RULES)
    driver.actor("a", chunk_ms=600.0)
    first = driver.place("s")
    driver.connect("s")
    driver.wait(40.0)
    driver.running("other")
    driver.actor("b", chunk_ms=600.0)
    assert driver.book("s", first) == [
        ev.Admit(B, S, Epoch(3), PRINCIPAL, "model", restore=True, computing=True)
    ]
    driver.answer(driver.admitted())
    driver.tell(ev.SessionRestored(B, S, Epoch(3)))
    assert driver.of(ev.BookAnswered) == [ev.BookAnswered(S, first, booked=False)]
    assert driver.session("s").computing


def test_who_waits_for_compute_moves_when_another_actor_comes() -> None:
    driver = PoolDriver(RULES)
    driver.actor("a", chunk_ms=600.0)
    first = driver.place("s")
    driver.connect("s")
    driver.wait(40.0)
    driver.running("other")
    assert driver.book("s", first) == []
    driver.actor("b", chunk_ms=600.0)
    assert driver.admitted().actor == B
    driver.wait(29.0)
    assert driver.of(ev.BookAnswered) == []
