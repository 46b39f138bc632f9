"""Parking: what needs no actor gives it up, and nothing of it is lost."""

from __future__ import annotations

import pytest

from scheduler.core import pool_events as ev
from scheduler.core.errors import NotReadyError
from scheduler.core.ids import ActorId, Epoch, SessionId
from scheduler.core.lease import LeaseState
from scheduler.core.pool import GIVEN_UP
from tests.unit.scheduler.pool_driver import PoolDriver, full, leave

pytestmark = pytest.mark.unit

A, S = ActorId("a"), SessionId("s")


@pytest.fixture
def driver() -> PoolDriver:
    driver = PoolDriver(ev.PoolRules())
    driver.actor("a")
    return driver


def answer(driver: PoolDriver, failure: str = "") -> list[ev.Effect]:
    [park] = driver.of(ev.Park)
    host = "" if failure else "host-a"
    return driver.tell(ev.ParkAnswered(park.actor, park.session, park.epoch, host, failure))


def idle(driver: PoolDriver) -> Epoch:
    epoch = driver.running("s")
    driver.unbook("s", epoch)
    return epoch


def parked(driver: PoolDriver) -> Epoch:
    epoch = idle(driver)
    driver.wait(60.0)
    answer(driver)
    return epoch


def test_a_session_without_compute_is_parked_after_a_while(driver: PoolDriver) -> None:
    epoch = idle(driver)
    assert driver.wait(59.9) == []
    assert driver.wait(0.1) == [ev.Park(A, S, epoch, store=False)]
    assert answer(driver) == [ev.ParkedTold(S, epoch, "host-a", restoring=False)]
    assert driver.session("s").state is LeaseState.PARKED
    assert driver.view().sessions == 0
    with pytest.raises(NotReadyError, match="parked"):
        driver.pool.lease(S)


def test_a_session_that_never_started_is_parked_after_its_grace(driver: PoolDriver) -> None:
    driver.place("s")
    driver.connect("s")
    assert driver.wait(89.9) == []
    driver.wait(0.1)
    assert driver.of(ev.Park) != []


def test_computing_sessions_are_not_parked(driver: PoolDriver) -> None:
    driver.running("s")
    assert driver.wait(600.0) == []


def test_starting_again_puts_it_off(driver: PoolDriver) -> None:
    epoch = idle(driver)
    driver.wait(50.0)
    driver.book("s", epoch)
    driver.wait(50.0)
    driver.unbook("s", epoch)
    assert driver.wait(59.0) == []


def test_parking_idle_sessions_can_be_switched_off() -> None:
    driver = PoolDriver(ev.PoolRules(park_after=None))
    driver.actor("a")
    idle(driver)
    assert driver.wait(600.0) == []


def test_a_deserted_session_is_parked_soon(driver: PoolDriver) -> None:
    epoch = idle(driver)
    driver.connect("s", 0)
    assert driver.wait(4.9) == []
    assert driver.wait(0.1) == [ev.Park(A, S, epoch, store=False)]


def test_a_deserted_session_that_computes_gives_that_back_first(driver: PoolDriver) -> None:
    epoch = driver.running("s")
    driver.connect("s", 0)
    assert driver.wait(8.0) == []
    assert driver.unbook("s", epoch) == [ev.Park(A, S, epoch, store=False)]
    assert driver.session("s").state is LeaseState.ACTIVE
    assert answer(driver) == [ev.ParkedTold(S, epoch, "host-a", restoring=False)]


def test_the_first_client_may_take_its_time(driver: PoolDriver) -> None:
    driver.place("s")
    assert driver.wait(29.0) == []


def test_a_client_that_comes_back_puts_it_off(driver: PoolDriver) -> None:
    idle(driver)
    driver.connect("s", 0)
    driver.wait(4.0)
    driver.connect("s", 1)
    assert driver.wait(50.0) == []


def test_a_parked_session_without_a_client_ends_with_its_window() -> None:
    driver = PoolDriver(ev.PoolRules(reconnect_window=3 * 86_400.0))
    driver.actor("a")
    idle(driver)
    driver.connect("s", 0)
    driver.wait(5.0)
    answer(driver)
    driver.now += 3 * 86_400.0 - 6.0
    driver.actor("a")
    assert driver.session("s").state is LeaseState.PARKED
    driver.wait(1.0)
    assert [ended.session for ended in driver.of(ev.Ended)] == [S]


def test_a_parked_session_with_a_client_stays(driver: PoolDriver) -> None:
    parked(driver)
    assert driver.wait(10_000.0) == []


def test_a_parked_session_is_restored_where_it_is_kept(driver: PoolDriver) -> None:
    driver.actor("b", host="host-b")
    parked(driver)
    driver.ask("s", restore=True)
    admit = driver.admitted()
    assert (admit.actor, admit.restore, admit.computing) == (A, True, False)
    driver.answer(admit)
    assert driver.book("s", admit.epoch) == [ev.BookAnswered(S, admit.epoch, booked=True)]


def test_a_restored_session_that_needs_no_compute_is_parked_again_soon(driver: PoolDriver) -> None:
    parked(driver)
    driver.ask("s", restore=True)
    driver.answer(driver.admitted())
    driver.wait(64.9)
    assert driver.of(ev.Park) == []
    driver.wait(0.1)
    assert driver.of(ev.Park) != []


def test_a_parked_session_goes_ahead_of_new_ones(driver: PoolDriver) -> None:
    parked(driver)
    full_of = [driver.running(f"x{number}") for number in range(4)]
    driver.ask("new", waited=90.0)
    driver.ask("s", restore=True)
    driver.release("x0")
    assert driver.admitted().session == S
    assert len(full_of) == 4


def test_whoever_leaves_its_ticket_leaves_it_parked(driver: PoolDriver) -> None:
    parked(driver)
    for number in range(4):
        driver.running(f"x{number}")
    driver.ask("s", restore=True)
    leave(driver, "s")
    driver.wait(5.0)
    assert driver.session("s").state is LeaseState.PARKED
    driver.release("x0")
    assert driver.of(ev.Admit) == []


def test_so_it_is_while_an_actor_is_asked() -> None:
    driver = PoolDriver(ev.PoolRules(ticket_grace=1.0))
    driver.actor("a")
    parked(driver)
    driver.ask("s", restore=True)
    admit = driver.admitted()
    leave(driver, "s")
    driver.wait(1.0)
    assert driver.of(ev.Evict) == [ev.Evict(A, S, admit.epoch, GIVEN_UP, goes_on=True)]
    assert driver.session("s").state is LeaseState.PARKED
    assert driver.view().sessions == 0


def test_an_actor_that_refuses_it_leaves_it_parked_and_waiting(driver: PoolDriver) -> None:
    parked(driver)
    driver.ask("s", restore=True)
    driver.answer(driver.admitted(), refusal="no memory")
    assert driver.session("s").state is LeaseState.PARKED
    driver.wait(5.0)
    assert driver.admitted().session == S


def test_a_park_that_fails_is_tried_again_with_a_growing_pause(driver: PoolDriver) -> None:
    idle(driver)
    driver.wait(60.0)
    pauses = []
    for _ in range(3):
        begun = driver.now
        assert answer(driver, failure="no space") == []
        assert driver.session("s").state is LeaseState.ACTIVE
        while not driver.of(ev.Park):
            driver.wait(0.5)
        pauses.append(round(driver.now - begun))
    assert pauses == [5, 10, 20]


def test_a_park_that_is_not_answered_is_tried_again(driver: PoolDriver) -> None:
    idle(driver)
    driver.wait(60.0)
    assert driver.wait(34.9) == []
    driver.wait(0.1)
    assert len(driver.of(ev.Park)) == 1


def test_a_command_that_comes_while_it_is_parked_brings_it_back(driver: PoolDriver) -> None:
    epoch = idle(driver)
    driver.wait(60.0)
    [park] = driver.of(ev.Park)
    driver.book("s", epoch)
    effects = driver.tell(ev.ParkAnswered(A, S, park.epoch, "host-a"))
    assert ev.ParkedTold(S, epoch, "host-a", restoring=True) in effects
    assert driver.admitted().computing


def test_an_actor_that_comes_back_without_what_it_was_to_park_has_parked_it(
    driver: PoolDriver,
) -> None:
    epoch = idle(driver)
    driver.wait(60.0)
    assert driver.actor("a") == [ev.ParkedTold(S, epoch, "host-a", restoring=False)]


def test_an_actor_that_dies_while_it_parks_loses_nothing(driver: PoolDriver) -> None:
    idle(driver)
    driver.wait(60.0)
    driver.die("a")
    assert driver.session("s").state is LeaseState.LOST


def test_word_of_an_old_epoch_parks_nothing(driver: PoolDriver) -> None:
    epoch = idle(driver)
    assert driver.tell(ev.ParkAnswered(A, S, Epoch(epoch + 1), "host-a")) == []
    assert driver.session("s").state is LeaseState.ACTIVE


def test_parking_makes_room() -> None:
    driver = PoolDriver(ev.PoolRules())
    [epoch] = full(driver)
    driver.ask("x")
    driver.unbook("s0", epoch)
    driver.wait(60.0)
    answer(driver)
    assert driver.admitted().session == "x"
