"""Drains: an actor is emptied and no session ends for it."""

from __future__ import annotations

import dataclasses

import pytest

from scheduler.core import pool_events as ev
from scheduler.core.errors import BadArgumentError
from scheduler.core.ids import ActorId, SessionId
from scheduler.core.lease import LeaseState
from tests.unit.scheduler.pool_driver import CHEAP, MODEL, STAYING, PoolDriver, held

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
    told = ev.TellDrain(A, ev.ToldToDrain())
    assert drained(driver) == [told, ev.DrainProgress(A, 0, 0), ev.Retire(A)]
    assert drained(driver) == [told, ev.DrainProgress(A, 0, 0)]


def test_a_retired_actor_is_not_replaced_by_the_pool() -> None:
    driver = busy(0)
    drained(driver)
    assert driver.die("a") == []
    driver.actor("a", slots=1)
    assert not driver.view("a").draining


def test_a_drained_actor_that_dies_ends_its_drain_as_lost() -> None:
    driver = busy(1)
    drained(driver)
    effects = driver.die("a")
    assert driver.of(ev.DrainProgress) == [ev.DrainProgress(A, 0, 0, lost=True)]
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


def neighbours(driver: PoolDriver, *names: str, slots: int = 16) -> None:
    """Actors of one host, whose encoders two sessions take."""
    for name in names:
        driver.actor(
            name, host="h", slots=slots, chunk_ms=CHEAP, encode_capacity_ms=1000.0, encode_ms=400.0
        )


def test_sessions_move_within_a_host_whose_encoders_are_all_booked() -> None:
    driver = PoolDriver(RULES)
    neighbours(driver, "a")
    for session in ("s0", "s1"):
        driver.running(session)
    neighbours(driver, "b")
    drained(driver)
    assert driver.of(ev.AwaitsRoom) == []
    finish_moves(driver)
    assert driver.of(ev.Retire) == [ev.Retire(A)]
    assert (driver.view("b").computing, driver.view("b").booked_encode_ms_per_s) == (2, 800.0)


def test_a_move_within_a_host_takes_no_encoding_from_others() -> None:
    driver = PoolDriver(RULES)
    neighbours(driver, "a")
    driver.running("s0")
    neighbours(driver, "b")
    drained(driver)
    [moved] = driver.of(ev.Admit)
    driver.ask("s1")
    assert driver.admitted().actor == "b"
    driver.answer(driver.admitted())
    driver.answer(moved)
    driver.tell(ev.SessionRestored(moved.actor, moved.session, moved.epoch))
    driver.ask("s2")
    assert driver.session("s2").state is LeaseState.QUEUED


def test_a_session_from_another_host_waits_for_its_encoders() -> None:
    driver = PoolDriver(RULES)
    neighbours(driver, "b")
    for session in ("s0", "s1"):
        driver.running(session)
    driver.actor("a", chunk_ms=CHEAP)
    driver.running("s2")
    drained(driver)
    assert [told.session for told in driver.of(ev.AwaitsRoom)] == ["s2"]
    driver.release("s0")
    assert driver.admitted().actor == "b"


def test_a_slot_that_becomes_free_beside_it_is_taken() -> None:
    driver = PoolDriver(RULES)
    neighbours(driver, "b", slots=1)
    driver.running("s0")
    neighbours(driver, "a")
    driver.running("s1")
    drained(driver)
    assert [told.session for told in driver.of(ev.AwaitsRoom)] == ["s1"]
    driver.release("s0")
    assert driver.admitted().actor == "b"


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
    assert driver.of(ev.Park) == [ev.Park(A, SessionId("s"), epoch, store=True)], "its host goes"
    driver.tell(ev.ParkAnswered(A, SessionId("s"), epoch, "host-a"))
    assert driver.of(ev.Retire) == [ev.Retire(A)]
    assert driver.session("s").state is LeaseState.PARKED


def test_a_cancelled_drain_leaves_all_as_it_was() -> None:
    driver = busy(1)
    drained(driver, grace=60.0)
    effects = driver.tell(ev.DrainCancelled(A))
    assert ev.DrainProgress(A, 1, 0, cancelled=True) in effects
    assert [e.awaits for e in effects if isinstance(e, ev.AwaitsRoom)] == [False]
    assert ev.TellDrain(A, None) in effects
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


def restarted(grace: float | None = None, *, draining: bool = True) -> PoolDriver:
    """A scheduler that has just begun, and an actor that one before it drained."""
    driver = PoolDriver(RULES)
    driver.report({"s0": 1})
    driver.tell(
        ev.ActorRegistered(
            A,
            (MODEL,),
            "unix:/a",
            4,
            CHEAP,
            1000.0,
            (dataclasses.replace(held("s0", 1, computing=True), awaits_room=True),),
            "host-a",
            told_to_drain=ev.ToldToDrain(grace) if draining else None,
        )
    )
    return driver


def test_a_scheduler_that_restarted_goes_on_with_a_drain() -> None:
    driver = restarted()
    assert driver.view("a").draining
    assert driver.session("s0").state is LeaseState.DRAINING
    assert driver.of(ev.AwaitsRoom) == [], "it knows"
    driver.actor("b", chunk_ms=CHEAP)
    assert driver.admitted().actor == "b"
    assert [told.awaits for told in driver.of(ev.AwaitsRoom)] == [False]
    finish_moves(driver)
    assert driver.of(ev.Retire) == [ev.Retire(A)]


def test_and_with_what_is_left_of_its_grace() -> None:
    driver = restarted(grace=30.0)
    driver.wait(9.9)
    assert driver.of(ev.Park) == []
    driver.wait(0.1)
    assert [park.session for park in driver.of(ev.Park)] == ["s0"]


def test_a_session_that_waits_for_room_at_no_drained_actor_is_told_that_it_need_not() -> None:
    driver = restarted(draining=False)
    assert [(told.session, told.awaits) for told in driver.of(ev.AwaitsRoom)] == [("s0", False)]


def test_an_actor_that_missed_what_became_of_its_drain_is_told_again() -> None:
    driver = busy(0)
    registered = ev.ActorRegistered(A, (MODEL,), "unix:/a", 4, CHEAP, 1000.0)
    stale = dataclasses.replace(registered, told_to_drain=ev.ToldToDrain())
    assert driver.tell(stale) == [ev.TellDrain(A, None)]
    assert not driver.view("a").draining
    epoch = driver.running("s0")
    drained(driver, grace=60.0)
    driver.wait(5.0)
    driver.tell(dataclasses.replace(registered, held=(held("s0", epoch, computing=True),)))
    assert driver.of(ev.TellDrain) == [ev.TellDrain(A, ev.ToldToDrain(55.0))]


def test_an_actor_that_says_itself_that_it_ends_is_not_told_so() -> None:
    driver = busy(1)
    driver.tell(ev.ActorBeat(A, ends_in=60.0))
    assert driver.of(ev.TellDrain) == []


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
