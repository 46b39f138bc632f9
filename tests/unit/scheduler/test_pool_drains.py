"""Drains: an actor is emptied and no session ends for it."""

from __future__ import annotations

import dataclasses

import pytest

from scheduler.core import pool_events as ev
from scheduler.core.errors import BadArgumentError
from scheduler.core.ids import ActorId, SessionId
from scheduler.core.lease import LeaseState
from tests.unit.scheduler.pool_driver import CHEAP, STAYING, PoolDriver

pytestmark = pytest.mark.unit

A = ActorId("a")
RULES = dataclasses.replace(STAYING, rebalance=False)


def drained(driver: PoolDriver, grace: float | None = None) -> list[ev.Effect]:
    return driver.tell(ev.DrainAsked(A, grace))


def busy(count: int, slots: int = 16) -> PoolDriver:
    """An actor with sessions s0, s1, ... that compute."""
    driver = PoolDriver(RULES)
    driver.actor("a", slots=slots, chunk_ms=CHEAP)
    for number in range(count):
        driver.running(f"s{number}")
    return driver


def finish_moves(driver: PoolDriver) -> None:
    """Plays all moves to their end, also those that follow from them."""
    while admits := driver.of(ev.Admit):
        effects: list[ev.Effect] = []
        for admit in admits:
            old = driver.pool.lease(admit.session)
            old_epoch = old.epoch
            effects += driver.answer(admit)
            effects += driver.tell(ev.SessionRestored(admit.actor, admit.session, admit.epoch))
            effects += driver.tell(ev.SessionDeparted(A, admit.session, old_epoch))
        driver.effects = effects


def test_all_sessions_move_four_at_a_time_and_the_actor_retires() -> None:
    driver = busy(9)
    driver.actor("b", slots=16, chunk_ms=CHEAP)
    drained(driver)
    assert len(driver.of(ev.Admit)) == 4
    assert driver.of(ev.DrainProgress) == [ev.DrainProgress(A, 9, 0)]
    finish_moves(driver)
    assert driver.of(ev.Retire) == [ev.Retire(A)]
    assert driver.of(ev.DrainProgress)[-1] == ev.DrainProgress(A, 0, 0)
    assert driver.view("b").sessions == 9
    assert driver.view("b").computing == 9


def test_a_drained_actor_gets_no_sessions() -> None:
    driver = busy(1)
    drained(driver)
    driver.ask("new")
    assert driver.session("new").state is LeaseState.QUEUED
    assert driver.view("a").draining


def test_an_empty_actor_retires_at_once() -> None:
    driver = busy(0)
    assert drained(driver) == [ev.DrainProgress(A, 0, 0), ev.Retire(A)]
    assert drained(driver) == [ev.DrainProgress(A, 0, 0)]


def test_a_retired_actor_is_not_replaced_by_the_pool() -> None:
    driver = busy(0)
    drained(driver)
    assert driver.die("a") == []
    driver.actor("a", slots=1)
    assert not driver.view("a").draining


def test_a_drained_actor_that_dies_ends_its_drain() -> None:
    driver = busy(1)
    drained(driver)
    effects = driver.die("a")
    assert ev.DrainProgress(A, 0, 0) in effects
    assert ev.Replace(A) in effects


def test_a_drain_of_nothing_is_refused() -> None:
    with pytest.raises(BadArgumentError):
        PoolDriver().tell(ev.DrainAsked(ActorId("x")))


def test_without_room_sessions_stay_and_are_told() -> None:
    driver = busy(2)
    effects = drained(driver)
    assert [(e.session, e.awaits) for e in effects if isinstance(e, ev.AwaitsRoom)] == [
        ("s0", True),
        ("s1", True),
    ]
    assert driver.of(ev.DrainProgress) == [ev.DrainProgress(A, 2, 2)]
    assert driver.session("s0").state is LeaseState.DRAINING
    assert driver.wait(600.0) == []
    driver.actor("b", slots=1)
    assert [(e.session, e.awaits) for e in driver.of(ev.AwaitsRoom)] == [("s0", False)]
    assert driver.admitted().session == "s0"
    assert driver.of(ev.DrainProgress) == [ev.DrainProgress(A, 2, 1)]


def test_sessions_that_are_to_leave_go_before_new_ones() -> None:
    driver = busy(1)
    drained(driver)
    driver.ask("new", waited=100.0)
    driver.actor("b", slots=1)
    assert driver.admitted().session == "s0"


def test_shortly_before_the_end_the_rest_is_parked_and_first_in_line() -> None:
    driver = busy(2)
    drained(driver, grace=60.0)
    driver.ask("new", waited=100.0)
    driver.wait(39.9)
    assert driver.of(ev.Park) == []
    driver.wait(0.1)
    parks = driver.of(ev.Park)
    assert [(park.session, park.store) for park in parks] == [("s0", True), ("s1", True)]
    effects: list[ev.Effect] = []
    for park in parks:
        effects += driver.tell(ev.ParkAnswered(A, park.session, park.epoch))
    told = [e for e in effects if isinstance(e, ev.ParkedTold)]
    assert [(e.session, e.restoring, e.host) for e in told] == [("s0", True, ""), ("s1", True, "")]
    assert ev.Retire(A) in effects
    driver.actor("b", slots=2)
    assert [(a.session, a.computing) for a in driver.of(ev.Admit)] == [("s0", True), ("s1", True)]


def test_a_park_that_fails_at_the_end_is_tried_again() -> None:
    driver = busy(1)
    drained(driver, grace=30.0)
    driver.wait(10.0)
    [park] = driver.of(ev.Park)
    driver.tell(ev.ParkAnswered(A, park.session, park.epoch, failure="no space"))
    driver.wait(5.0)
    assert driver.of(ev.Park) == [park]


def test_an_idle_session_needs_only_a_slot_elsewhere() -> None:
    driver = PoolDriver(RULES)
    driver.actor("a", chunk_ms=600.0)
    driver.place("s")
    driver.connect("s")
    driver.wait(40.0)
    driver.actor("b", chunk_ms=600.0)
    drained(driver)
    assert (driver.admitted().actor, driver.admitted().computing) == ("b", False)


def test_sessions_without_a_client_are_parked() -> None:
    driver = PoolDriver(ev.PoolRules(rebalance=False))
    driver.actor("a")
    epoch = driver.running("s")
    driver.connect("s", 0)
    driver.actor("b")
    drained(driver)
    driver.unbook("s", epoch)
    driver.wait(5.0)
    assert driver.of(ev.Park) == [ev.Park(A, SessionId("s"), epoch, store=False)]
    driver.tell(ev.ParkAnswered(A, SessionId("s"), epoch, "host-a"))
    assert driver.of(ev.Retire) == [ev.Retire(A)]
    assert driver.session("s").state is LeaseState.PARKED


def test_a_cancelled_drain_leaves_all_as_it_was() -> None:
    driver = busy(1)
    drained(driver, grace=60.0)
    effects = driver.tell(ev.DrainCancelled(A))
    assert ev.DrainProgress(A, 1, 0, cancelled=True) in effects
    assert [e.awaits for e in effects if isinstance(e, ev.AwaitsRoom)] == [False]
    assert driver.session("s0").state is LeaseState.ACTIVE
    assert driver.wait(60.0) == []
    driver.place("new")
    assert driver.tell(ev.DrainCancelled(A)) == []


def test_an_actor_whose_process_is_told_to_end_is_drained() -> None:
    driver = busy(1)
    driver.tell(ev.ActorBeat(A, ends_in=60.0))
    assert driver.view("a").draining
    driver.wait(10.0)
    driver.tell(ev.ActorBeat(A, ends_in=50.0))
    driver.wait(30.0)
    assert [park.session for park in driver.of(ev.Park)] == ["s0"]


def test_an_actor_may_come_as_one_that_is_to_end() -> None:
    driver = PoolDriver(RULES)
    assert driver.actor("a", draining=True) == [ev.DrainProgress(A, 0, 0), ev.Retire(A)]


def test_a_session_about_to_come_to_a_drained_actor_stays_where_it_is() -> None:
    driver = busy(1)
    driver.actor("b", slots=16)
    drained(driver)
    [admit] = driver.of(ev.Admit)
    driver.tell(ev.DrainAsked(ActorId("b")))
    assert [e.epoch for e in driver.of(ev.Evict)] == [admit.epoch]
    assert driver.pool.lease(SessionId("s0")).actor == A
    assert driver.of(ev.Retire) == [ev.Retire(ActorId("b"))]


def test_a_session_that_was_being_admitted_moves_on() -> None:
    driver = busy(0)
    driver.ask("s")
    admit = driver.admitted()
    driver.connect("s")
    drained(driver)
    driver.actor("b")
    driver.answer(admit)
    assert driver.admitted().actor == "b"


def test_a_rolling_replacement_of_all_actors_loses_nothing() -> None:
    driver = busy(4)
    for old, new in (("a", "b"), ("b", "c"), ("c", "d")):
        driver.actor(new, slots=16, chunk_ms=CHEAP)
        driver.tell(ev.DrainAsked(ActorId(old)))
        while admits := driver.of(ev.Admit):
            for admit in admits:
                epoch = driver.pool.lease(admit.session).epoch
                driver.answer(admit)
                driver.tell(ev.SessionRestored(admit.actor, admit.session, admit.epoch))
                driver.tell(ev.SessionDeparted(ActorId(old), admit.session, epoch))
        assert driver.of(ev.Retire) == [ev.Retire(ActorId(old))]
        driver.die(old)
    assert driver.view("d").computing == 4
