"""Presence in the pool: connections, lost actors, rebuilding."""

from __future__ import annotations

import dataclasses

import pytest

from scheduler.core import pool_events as ev
from scheduler.core.errors import (
    InvariantError,
    NoCapacityError,
)
from scheduler.core.ids import ActorId, Epoch, GatewayId, SessionId
from scheduler.core.lease import LeaseState
from scheduler.core.pool import NO_CLIENT, SUPERSEDED
from scheduler.core.pool_events import PoolRules
from tests.unit.scheduler.pool_driver import (
    CHEAP,
    GATEWAY,
    MODEL,
    PRINCIPAL,
    STAYING,
    PoolDriver,
    full,
    held,
    leave,
)

pytestmark = pytest.mark.unit


@pytest.fixture
def driver() -> PoolDriver:
    return PoolDriver()


# Presence


def test_a_session_is_released_when_nobody_came_back_in_time(driver: PoolDriver) -> None:
    full(driver)
    driver.connect("s0", 0)
    assert driver.session("s0").detached
    assert driver.wait(29.9) == []
    driver.wait(0.1)
    assert driver.of(ev.Ended) == [ev.Ended(SessionId("s0"), NO_CLIENT.format(30))]
    assert driver.view().sessions == 0


def test_coming_back_in_time_keeps_the_session(driver: PoolDriver) -> None:
    full(driver)
    driver.connect("s0", 0)
    driver.wait(29.0)
    driver.connect("s0", 1, gateway="other")
    assert not driver.session("s0").detached
    assert driver.wait(100.0) == []


def test_a_session_that_never_had_a_client_gets_one_window(driver: PoolDriver) -> None:
    driver.actor()
    driver.place("s")
    driver.wait(29.9)
    assert driver.of(ev.Ended) == []
    driver.wait(0.1)
    assert driver.of(ev.Ended) == [ev.Ended(SessionId("s"), "no client for 30 s")]


def test_connections_of_all_gateways_count(driver: PoolDriver) -> None:
    full(driver)
    driver.connect("s0", 2, gateway="other")
    driver.connect("s0", 0)
    assert not driver.session("s0").detached
    driver.tell(ev.GatewayLost(GatewayId("other")))
    assert driver.session("s0").detached


def test_a_complete_report_leaves_nothing_of_the_earlier_one(driver: PoolDriver) -> None:
    full(driver, slots=2)
    driver.report({"s1": 1}, complete=True)
    assert driver.session("s0").detached
    assert not driver.session("s1").detached


def test_a_connection_made_while_waiting_counts_once_placed(driver: PoolDriver) -> None:
    driver.actor()
    driver.ask("s")
    driver.connect("s")
    driver.tell(ev.AdmitAnswered(ActorId("a"), SessionId("s"), Epoch(1)))
    assert driver.wait(100.0) == []


def test_a_complete_report_after_a_broken_one_counts_for_sessions_that_wait(
    driver: PoolDriver,
) -> None:
    full(driver)
    driver.ask("x")
    driver.report({"s0": 1, "x": 1}, complete=True)
    driver.tell(ev.GatewayLost(GATEWAY))
    driver.report({"s0": 1, "x": 1}, complete=True)
    driver.release("s0")
    driver.answer(driver.admitted())
    assert not driver.session("x").detached
    assert driver.wait(100.0) == []


def test_connections_outlive_a_dropped_ticket(driver: PoolDriver) -> None:
    full(driver)
    driver.ask("x")
    driver.connect("x")
    leave(driver, "x")
    driver.wait(10.0)
    driver.ask("x", waited=10.0)
    driver.release("s0")
    driver.answer(driver.admitted())
    assert driver.wait(100.0) == []


def test_connections_outlive_a_refusal() -> None:
    driver = PoolDriver(dataclasses.replace(STAYING, queue_limit=0))
    full(driver)
    driver.connect("x")
    with pytest.raises(NoCapacityError):
        driver.ask("x")
    driver.release("s0")
    driver.place("x")
    assert driver.wait(100.0) == []


def test_a_session_that_asks_for_its_place_is_no_longer_missed(driver: PoolDriver) -> None:
    driver.report({"x": 1}, complete=True)
    driver.ask("x", waited=3.0)
    driver.wait(20.0)
    leave(driver, "x")
    assert driver.wait(30.0) == []
    assert driver.ask("x", waited=53.0) == [ev.Waiting(SessionId("x"), 1, 0.0)]


def test_a_session_that_waits_needs_no_connection(driver: PoolDriver) -> None:
    full(driver)
    driver.ask("x")
    driver.wait(300.0)
    assert driver.session("x").state is LeaseState.QUEUED


def test_a_gateway_that_missed_an_end_is_told_again(driver: PoolDriver) -> None:
    full(driver)
    driver.release("s0", "done")
    assert driver.connect("s0", 1, gateway="late") == [
        ev.Ended(SessionId("s0"), "done", GatewayId("late"))
    ]


def test_a_session_that_no_actor_claims_after_a_restart_waits_to_be_asked_for(
    driver: PoolDriver,
) -> None:
    driver.report({"s": 1}, complete=True)
    assert driver.wait(300.0) == []
    driver.actor()
    driver.ask("s", restore=True)
    assert driver.admitted().restore


def test_a_session_that_only_gateways_know_of_ends_when_its_client_is_gone(
    driver: PoolDriver,
) -> None:
    driver.report({"s": 1}, complete=True)
    driver.connect("s", 0)
    assert driver.wait(29.9) == []
    assert driver.wait(0.1) == [ev.Ended(SessionId("s"), NO_CLIENT.format(30))]


def test_a_session_that_an_actor_claims_after_a_restart_lives_on(driver: PoolDriver) -> None:
    driver.report({"s": 1}, complete=True)
    driver.actor(held=(held("s", 4),))
    assert driver.wait(100.0) == []
    assert driver.session("s").state is LeaseState.ACTIVE


# Actors


def test_a_silent_actor_is_lost_and_its_sessions_wait(driver: PoolDriver) -> None:
    [epoch] = full(driver)
    patience = PoolRules().actor_timeout
    driver.wait(patience - 0.1, beating=False)
    assert driver.effects == []
    driver.wait(0.1, beating=False)
    assert driver.effects == [
        ev.ParkedTold(SessionId("s0"), epoch, "host-a", restoring=True),
        ev.Replace(ActorId("a")),
        ev.Waiting(SessionId("s0"), 1, 0.0),
    ]
    assert driver.session("s0").state is LeaseState.LOST


def test_a_deadline_that_is_set_too_late_excuses_nobody(driver: PoolDriver) -> None:
    full(driver)
    driver.actor("b")
    driver.wait(1.0, beating=False)
    # The last call of so short a drain would have been a while ago.
    driver.tell(ev.ActorBeat(ActorId("a"), ends_in=5.0))
    driver.wait(1.1, beating=False)
    assert driver.of(ev.Replace) == [ev.Replace(ActorId("b"))]


def test_a_scheduler_that_was_away_blames_nobody(driver: PoolDriver) -> None:
    full(driver)
    driver.actor("b")
    driver.now += 60.0
    driver.tell(ev.Overslept())
    driver.tell(ev.ActorBeat(ActorId("b")))
    assert driver.of(ev.Replace) == []
    driver.wait(3.0, beating=False)
    assert len(driver.of(ev.Replace)) == 2


def test_an_actor_that_beats_is_kept(driver: PoolDriver) -> None:
    full(driver)
    assert driver.wait(60.0) == []


def test_an_unlinked_actor_gets_no_sessions_and_may_come_back(driver: PoolDriver) -> None:
    epochs = full(driver, slots=2)
    driver.release("s1")
    driver.tell(ev.ActorUnlinked(ActorId("a")))
    assert not driver.view().healthy
    driver.ask("x")
    assert driver.session("x").state is LeaseState.QUEUED
    driver.wait(1.0)
    driver.actor(slots=2, chunk_ms=CHEAP, held=(held("s0", epochs[0]),))
    assert driver.admitted().session == "x"
    assert driver.session("s0").state is LeaseState.ACTIVE


def test_an_actor_that_stays_away_is_lost(driver: PoolDriver) -> None:
    full(driver)
    driver.tell(ev.ActorUnlinked(ActorId("a")))
    driver.wait(3.0)
    assert driver.of(ev.Replace) == [ev.Replace(ActorId("a"))]


def test_a_session_not_yet_admitted_survives_the_loss_of_its_actor(driver: PoolDriver) -> None:
    driver.actor("a")
    driver.ask("s")
    driver.actor("b")
    driver.tell(ev.ActorDied(ActorId("a")))
    assert driver.of(ev.Ended) == []
    assert driver.admitted() == ev.Admit(ActorId("b"), SessionId("s"), Epoch(2), PRINCIPAL, MODEL)


def test_a_lost_actor_that_comes_back_must_give_up_its_sessions(driver: PoolDriver) -> None:
    [epoch] = full(driver)
    driver.tell(ev.ActorDied(ActorId("a")))
    assert driver.actor(held=(held("s0", epoch),)) == [
        ev.Evict(ActorId("a"), SessionId("s0"), epoch, SUPERSEDED, goes_on=True),
        ev.Admit(ActorId("a"), SessionId("s0"), Epoch(2), PRINCIPAL, MODEL, restore=True),
    ]


def test_word_of_an_unknown_actor_changes_nothing(driver: PoolDriver) -> None:
    for event in (
        ev.ActorBeat(ActorId("x")),
        ev.ActorUnlinked(ActorId("x")),
        ev.ActorDied(ActorId("x")),
        ev.AdmitAnswered(ActorId("x"), SessionId("s"), Epoch(1)),
    ):
        assert driver.tell(event) == []
    with pytest.raises(InvariantError):
        driver.pool.address(ActorId("x"))


# Rebuilding


def test_an_empty_pool_is_rebuilt_from_what_actors_hold(driver: PoolDriver) -> None:
    driver.connect("s1")
    driver.actor(slots=2, held=(held("s1", 7, computing=True), held("s2", 5)))
    assert driver.session("s1").computing
    assert not driver.session("s1").detached
    assert driver.session("s2").detached
    assert driver.view().sessions == 2
    driver.release("s2")
    driver.ask("x")
    assert driver.admitted().epoch == 8


def test_a_ticket_of_a_session_that_an_actor_holds_gets_its_place(driver: PoolDriver) -> None:
    driver.ask("s", waited=1.0)
    assert driver.actor(held=(held("s", 3),)) == [ev.Placed(SessionId("s"))]
    assert driver.pool.lease(SessionId("s")).epoch == 3


def test_registering_again_confirms_what_was_being_admitted(driver: PoolDriver) -> None:
    driver.actor()
    driver.ask("s")
    epoch = driver.admitted().epoch
    assert driver.actor(held=(held("s", epoch),)) == [ev.Placed(SessionId("s"))]


def test_registering_again_without_a_session_that_was_being_admitted_asks_anew(
    driver: PoolDriver,
) -> None:
    driver.actor("a")
    driver.ask("s")
    driver.actor("b")
    driver.actor("a")
    assert driver.admitted().actor == "b"


def test_a_session_that_its_actor_no_longer_has_is_restored(driver: PoolDriver) -> None:
    [epoch] = full(driver)
    assert driver.actor(slots=1) == [
        ev.ParkedTold(SessionId("s0"), epoch, "host-a", restoring=True),
        ev.Admit(ActorId("a"), SessionId("s0"), Epoch(2), PRINCIPAL, MODEL, restore=True),
    ]


def test_of_two_holders_the_higher_epoch_wins(driver: PoolDriver) -> None:
    driver.actor("a", held=(held("s", 5),))
    assert driver.actor("b", held=(held("s", 4),)) == [
        ev.Evict(ActorId("b"), SessionId("s"), Epoch(4), SUPERSEDED, goes_on=True)
    ]
    assert driver.actor("c", held=(held("s", 6),)) == [
        ev.Evict(ActorId("a"), SessionId("s"), Epoch(5), SUPERSEDED, goes_on=True)
    ]
    assert driver.pool.lease(SessionId("s")).actor == "c"
    assert driver.view("a").sessions == 0


def test_an_old_epoch_on_the_same_actor_is_evicted(driver: PoolDriver) -> None:
    driver.actor(held=(held("x", 8),))
    driver.release("x")
    driver.ask("s")
    assert driver.actor(held=(held("s", 2),)) == [
        ev.Evict(ActorId("a"), SessionId("s"), Epoch(2), SUPERSEDED, goes_on=True)
    ]


def test_queued_sessions_are_described_first_and_in_order(driver: PoolDriver) -> None:
    full(driver)
    driver.ask("x")
    driver.ask("y", waited=10.0)
    sessions = driver.pool.describe(driver.now).sessions
    assert [view.session for view in sessions] == ["y", "x", "s0"]
    assert [view.age for view in sessions] == [10.0, 0.0, 0.0]
