"""Sessions whose actor is gone: restored elsewhere, ahead of everything new."""

from __future__ import annotations

import dataclasses

import pytest

from scheduler.core import pool_events as ev
from scheduler.core.errors import NotReadyError, UnknownModelError
from scheduler.core.facts import SUPERSEDED, UNREACHABLE
from scheduler.core.ids import ActorId, Epoch, SessionId
from scheduler.core.lease import LeaseState
from scheduler.core.pool import NO_CLIENT
from tests.unit.scheduler.pool_driver import (
    CHEAP,
    MODEL,
    PRINCIPAL,
    STAYING,
    PoolDriver,
    full,
    held,
    leave,
)

pytestmark = pytest.mark.unit

S = SessionId("s")


@pytest.fixture
def driver() -> PoolDriver:
    return PoolDriver()


def test_a_dead_actors_sessions_go_to_others_at_once(driver: PoolDriver) -> None:
    driver.actor("a")
    epoch = driver.running("s")
    driver.actor("b")
    assert driver.die("a") == [
        ev.ParkedTold(S, epoch, "host-a", restoring=True),
        ev.Replace(ActorId("a")),
        ev.Admit(ActorId("b"), S, Epoch(2), PRINCIPAL, MODEL, restore=True, computing=True),
    ]
    driver.answer(driver.admitted())
    assert driver.of(ev.Placed) == [ev.Placed(S)]
    assert driver.pool.lease(S).actor == "b"
    assert driver.session("s").computing


def test_a_session_that_was_idle_is_restored_without_compute(driver: PoolDriver) -> None:
    driver.actor("a")
    driver.place("s")
    driver.connect("s")
    driver.wait(40.0)
    driver.actor("b")
    driver.die("a")
    assert not driver.admitted().computing
    driver.answer(driver.admitted())
    assert not driver.session("s").computing


def test_lost_sessions_are_placed_before_older_new_ones(driver: PoolDriver) -> None:
    full(driver)
    driver.ask("old", waited=500.0)
    driver.die("a")
    assert driver.of(ev.Waiting) == [
        ev.Waiting(SessionId("s0"), 1, 0.0),
        ev.Waiting(SessionId("old"), 2, 0.0),
    ]
    driver.actor("b", slots=1)
    assert driver.admitted().session == "s0"


def test_a_session_that_computed_waits_for_compute_and_not_only_for_a_slot(
    driver: PoolDriver,
) -> None:
    driver.actor("a", chunk_ms=600.0)
    driver.running("s")
    driver.actor("b", chunk_ms=600.0)
    other = driver.running("other")
    assert driver.session("other").actor == "b"
    driver.die("a")
    assert driver.session("s").state is LeaseState.LOST
    driver.unbook("other", other)
    assert driver.admitted().computing


def test_a_session_that_did_not_compute_takes_any_slot(driver: PoolDriver) -> None:
    driver.actor("a", chunk_ms=600.0)
    driver.place("s")
    driver.connect("s")
    driver.wait(40.0)
    driver.actor("b", chunk_ms=600.0)
    driver.running("other")
    driver.die("a")
    assert (driver.admitted().session, driver.admitted().computing) == ("s", False)


def test_lost_sessions_may_take_the_reserve() -> None:
    driver = PoolDriver()
    driver.actor("a", slots=1, chunk_ms=CHEAP)
    driver.running("s")
    driver.actor("b", slots=10, chunk_ms=CHEAP)
    for number in range(9):
        driver.running(f"x{number}")
    driver.die("a")
    assert driver.admitted().session == "s"


def test_a_lost_session_goes_before_those_who_wait_for_compute(driver: PoolDriver) -> None:
    driver.actor("a", chunk_ms=600.0)
    driver.running("s")
    driver.actor("b", chunk_ms=600.0)
    busy = driver.running("busy")
    driver.die("a")
    # It came to its slot while there was compute for nobody.
    driver.tell(ev.ActorRegistered(ActorId("c"), ("x",), "unix:/c", 1, 1.0, 1000.0))
    driver.ask("idle", restore=True)
    driver.answer(driver.admitted())
    driver.connect("idle")
    waiting = driver.pool.lease(SessionId("idle")).epoch
    driver.book("idle", waiting)
    driver.unbook("busy", busy)
    assert [admit.session for admit in driver.of(ev.Admit)] == ["s"]
    assert driver.of(ev.BookAnswered) == []


def test_the_host_that_keeps_the_state_is_preferred(driver: PoolDriver) -> None:
    driver.actor("a", host="h1")
    driver.running("s")
    driver.actor("b", host="h2")
    driver.actor("z", host="h1")
    driver.die("a")
    assert driver.admitted().actor == "z"


def test_a_gateway_may_name_the_host(driver: PoolDriver) -> None:
    driver.actor("a", host="h1")
    driver.actor("b", host="h2")
    driver.ask("s", restore=True, near_host="h2")
    assert driver.admitted().actor == "b"
    driver.ask("t", restore=True, near_host="h3")
    assert driver.admitted().actor == "b", "preferred, not demanded: the fullest one then"


def test_a_lost_session_waits_for_ever_while_somebody_is_connected(driver: PoolDriver) -> None:
    full(driver)
    driver.die("a")
    driver.wait(10_000.0)
    assert driver.session("s0").state is LeaseState.LOST
    with pytest.raises(NotReadyError):
        driver.pool.lease(SessionId("s0"))


def test_a_lost_session_without_a_connection_ends_with_its_window(driver: PoolDriver) -> None:
    full(driver)
    driver.connect("s0", 0)
    driver.wait(10.0)
    driver.die("a")
    assert driver.of(ev.Ended) == []
    assert driver.wait(19.9) == []
    driver.wait(0.1)
    assert driver.of(ev.Ended) == [ev.Ended(SessionId("s0"), NO_CLIENT.format(30))]


def test_a_lost_session_is_placed_although_nobody_asks_and_found_when_somebody_does(
    driver: PoolDriver,
) -> None:
    driver.actor("a")
    driver.running("s")
    driver.actor("b")
    driver.die("a")
    driver.answer(driver.admitted())
    assert driver.ask("s", restore=True) == [ev.Placed(S)]


def test_leaving_the_ticket_of_a_lost_session_keeps_it(driver: PoolDriver) -> None:
    full(driver)
    driver.die("a")
    driver.ask("s0", restore=True)
    leave(driver, "s0")
    driver.wait(60.0)
    driver.actor("b")
    assert driver.admitted().session == "s0"


def test_a_refused_session_stays_lost_and_is_offered_to_the_next(driver: PoolDriver) -> None:
    driver.actor("a")
    driver.running("s")
    driver.actor("b")
    driver.die("a")
    driver.answer(driver.admitted(), refusal="no memory")
    assert driver.session("s").state is LeaseState.LOST
    driver.actor("c")
    admit = driver.admitted()
    assert (admit.actor, admit.restore, admit.computing) == ("c", True, True)


def test_restores_are_not_bounded_by_the_queue() -> None:
    driver = PoolDriver(dataclasses.replace(STAYING, queue_limit=0))
    full(driver)
    driver.die("a")
    driver.ask("fork", restore=True)
    assert [w.position for w in driver.of(ev.Waiting)] == [2]


def test_an_unknown_session_is_restored_ahead_of_the_actors(driver: PoolDriver) -> None:
    driver.ask("s", restore=True)
    driver.actor("a")
    assert driver.admitted().restore
    driver.answer(driver.admitted())
    assert driver.pool.lease(S).epoch == 1
    with pytest.raises(UnknownModelError):
        driver.ask("new", model="other")


def test_an_actor_that_claims_a_session_after_a_restart_keeps_it(driver: PoolDriver) -> None:
    driver.ask("s", restore=True)
    assert driver.actor("a", held=(held("s", 5),)) == [ev.Placed(S)]
    assert driver.pool.lease(S).epoch == 5


def test_what_was_lost_is_void_when_its_actor_comes_back(driver: PoolDriver) -> None:
    driver.actor("a")
    epoch = driver.running("s")
    driver.wait(4.0, beating=False)
    driver.actor("a", held=(held("s", epoch, computing=True),))
    assert driver.of(ev.Evict) == [ev.Evict(ActorId("a"), S, epoch, SUPERSEDED, goes_on=True)]
    assert driver.admitted().epoch == 2


def test_two_witnesses_are_enough(driver: PoolDriver) -> None:
    driver.actor("a")
    epoch = driver.running("s")
    driver.actor("b")
    driver.tell(ev.ActorUnlinked(ActorId("a")))
    driver.ask("s", restore=True)
    assert driver.of(ev.Evict) == [ev.Evict(ActorId("a"), S, epoch, UNREACHABLE, goes_on=True)]
    assert driver.admitted().actor == "b"


def test_an_actor_that_misses_two_beats_gets_nothing_until_it_is_heard_of(
    driver: PoolDriver,
) -> None:
    driver.actor("a")
    driver.wait(1.5, beating=False)
    driver.ask("s")
    assert driver.session("s").state is LeaseState.QUEUED
    driver.tell(ev.ActorBeat(ActorId("a")))
    assert driver.admitted().actor == "a"


def test_a_gateway_is_believed_that_cannot_reach_an_actor_which_misses_beats(
    driver: PoolDriver,
) -> None:
    driver.actor("a")
    epoch = driver.running("s")
    driver.wait(1.0, beating=False)
    driver.actor("b")
    driver.wait(0.5, beating=False)
    driver.ask("s", restore=True)
    assert driver.of(ev.Evict) == [ev.Evict(ActorId("a"), S, epoch, UNREACHABLE, goes_on=True)]
    assert driver.admitted().actor == "b"


def test_a_session_is_not_offered_to_the_actor_at_which_it_was_not_reached(
    driver: PoolDriver,
) -> None:
    driver.actor("a")
    driver.running("s")
    for _ in range(2):
        driver.ask("s", restore=True)
    assert driver.of(ev.Admit) == []
    assert driver.session("s").state is LeaseState.LOST
    driver.actor("b", slots=1)
    assert driver.admitted().actor == "b"


def test_a_session_that_no_other_actor_takes_is_offered_to_the_same_one_in_the_end(
    driver: PoolDriver,
) -> None:
    driver.actor("a")
    driver.running("s")
    for _ in range(2):
        driver.ask("s", restore=True)
    [admit] = [each for each in driver.wait(6.0) if isinstance(each, ev.Admit)]
    assert admit.actor == "a"


def test_one_gateways_word_sends_it_back_once(driver: PoolDriver) -> None:
    driver.actor("a")
    driver.running("s")
    driver.actor("b")
    assert driver.ask("s", restore=True, gateway="g1") == [ev.Placed(S)]
    assert driver.ask("s", restore=True, gateway="g2") == [ev.Placed(S)]
    driver.wait(60.0)
    assert driver.ask("s", restore=True, gateway="g2") == [ev.Placed(S)]
    driver.wait(5.0)
    driver.ask("s", restore=True, gateway="g2")
    assert driver.admitted().restore


def test_an_actor_that_died_while_admitting_a_lost_session_passes_it_on(
    driver: PoolDriver,
) -> None:
    driver.actor("a")
    driver.running("s")
    driver.actor("b")
    driver.die("a")
    driver.actor("c")
    driver.die("b")
    admit = driver.admitted()
    assert (admit.actor, admit.computing, admit.epoch) == ("c", True, 3)
