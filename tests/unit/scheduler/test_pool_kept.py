"""What is kept of sessions on no actor goes when they end, and stays as long as they do."""

from __future__ import annotations

import pytest

from scheduler.core import pool_events as ev
from scheduler.core.ids import ActorId, Epoch, SessionId
from scheduler.core.lease import LeaseState
from tests.unit.scheduler.pool_driver import PoolDriver

pytestmark = pytest.mark.unit

A, B, S = ActorId("a"), ActorId("b"), SessionId("s")


@pytest.fixture
def driver() -> PoolDriver:
    driver = PoolDriver(ev.PoolRules(rebalance=False))
    driver.actor("a")
    return driver


def parked(driver: PoolDriver, host: str = "host-a") -> Epoch:
    """Parks a session, which somebody stays connected to."""
    epoch = driver.running("s")
    driver.unbook("s", epoch)
    driver.wait(60.0)
    [park] = driver.of(ev.Park)
    driver.tell(ev.ParkAnswered(park.actor, S, park.epoch, host))
    assert driver.session("s").state is LeaseState.PARKED
    return epoch


def discarded(driver: PoolDriver, above: int = 0) -> list[ActorId]:
    """Returns who was told to remove what is kept of the session, whatever the epoch."""
    evicts = driver.of(ev.Evict)
    for evict in evicts:
        assert (evict.session, evict.goes_on) == (S, False)
        assert evict.epoch > above, "what every lease has kept goes"
    return [evict.actor for evict in evicts]


def test_what_is_kept_of_a_parked_session_goes_with_it(driver: PoolDriver) -> None:
    driver.actor("b")
    epoch = parked(driver)
    driver.release("s")
    assert discarded(driver, epoch) == [A], "an actor of the host that keeps it"


def test_a_neighbour_sees_to_it_where_the_actor_is_gone() -> None:
    driver = PoolDriver(ev.PoolRules(rebalance=False))
    driver.actor("a", host="shared")
    parked(driver, "shared")
    driver.actor("b", host="shared")
    driver.actor("c", host="elsewhere")
    driver.die("a")
    driver.release("s")
    assert discarded(driver) == [B]


@pytest.mark.parametrize("kept_on", ["host-a", ""])
def test_without_an_actor_of_its_host_another_one_sees_to_the_storage(
    driver: PoolDriver, kept_on: str
) -> None:
    parked(driver, kept_on)
    driver.actor("b")
    driver.die("a")
    driver.release("s")
    assert discarded(driver) == [B]


def test_with_no_actor_nobody_is_told(driver: PoolDriver) -> None:
    parked(driver)
    driver.die("a")
    driver.release("s")
    assert discarded(driver) == []


def test_the_end_of_the_reconnect_window_is_an_end_too() -> None:
    driver = PoolDriver(ev.PoolRules(reconnect_window=3600.0))
    driver.actor("a")
    parked(driver)
    driver.connect("s", 0)
    driver.wait(3600.0)
    assert discarded(driver) == [A]


def test_a_lost_session_that_ends_while_it_waits_leaves_nothing(driver: PoolDriver) -> None:
    driver.running("s")
    driver.actor("b", host="host-a", slots=1, models=("another",))
    driver.die("a")
    assert driver.session("s").state is LeaseState.LOST
    driver.release("s")
    assert discarded(driver) == [B]


def test_the_host_that_a_session_came_from_is_told_beside_its_own_actor(
    driver: PoolDriver,
) -> None:
    parked(driver)
    driver.actor("c", host="host-a", slots=1)
    driver.actor("b")
    driver.tell(ev.DrainAsked(A))
    driver.tell(ev.DrainAsked(ActorId("c")))
    driver.ask("s", restore=True)
    admit = driver.admitted()
    assert admit.actor == B
    driver.answer(admit)
    driver.release("s")
    assert discarded(driver) in (["b", "a"], ["b", "c"])


def test_a_session_that_is_where_it_is_kept_is_put_out_once(driver: PoolDriver) -> None:
    driver.actor("b")
    parked(driver)
    driver.ask("s", restore=True)
    driver.answer(driver.admitted())
    driver.release("s")
    assert discarded(driver) == [A]


def test_a_new_session_that_never_had_a_place_has_nothing_kept(driver: PoolDriver) -> None:
    for number in range(4):
        driver.running(f"x{number}")
    driver.ask("s")
    driver.release("s")
    assert driver.of(ev.Evict) == []


def test_a_copy_that_ends_before_it_has_a_place_leaves_nothing(driver: PoolDriver) -> None:
    driver.actor("b", slots=1, chunk_ms=1e6)
    for number in range(5):
        driver.ask(f"x{number}")
    driver.ask("s", fork=True, near_host="host-b")
    driver.release("s")
    assert discarded(driver) == [B]


def test_of_a_session_that_only_gateways_knew_every_host_is_told() -> None:
    driver = PoolDriver(ev.PoolRules(), first_epoch=100)
    driver.actor("a", host="shared")
    driver.actor("b", host="shared")
    driver.actor("c")
    driver.release("s")
    assert discarded(driver, above=100) == [A, ActorId("c")]
    driver.release("s")
    assert discarded(driver) == [], "once"


def test_a_session_that_is_parked_for_long_is_said_to_be_needed_still(
    driver: PoolDriver,
) -> None:
    epoch = parked(driver)
    driver.wait(6 * 3600.0)
    wanted = [ev.Park(A, S, epoch, store=False)]
    assert driver.of(ev.Park) == wanted
    driver.tell(ev.ParkAnswered(A, S, epoch, ""))
    assert driver.session("s").state is LeaseState.PARKED
    driver.actor("b")
    driver.die("a")
    driver.wait(6 * 3600.0)
    assert driver.of(ev.Park) == [ev.Park(B, S, epoch, store=False)], "it lies in the storage"
    driver.release("s")
    assert driver.wait(7 * 3600.0) == []


def test_a_session_that_came_back_is_not_looked_after(driver: PoolDriver) -> None:
    parked(driver)
    driver.ask("s", restore=True)
    admit = driver.admitted()
    driver.answer(admit)
    driver.book("s", admit.epoch)
    assert driver.wait(7 * 3600.0) == []


def test_what_a_host_keeps_is_stored_when_the_last_of_its_actors_is_drained() -> None:
    driver = PoolDriver(ev.PoolRules(rebalance=False))
    driver.actor("a", host="shared")
    epoch = parked(driver, "shared")
    driver.actor("b", host="shared")
    driver.actor("c", host="elsewhere")
    driver.tell(ev.DrainAsked(A))
    assert driver.of(ev.Park) == [], "the host stays"
    driver.tell(ev.ActorBeat(B, ends_in=60.0))
    assert driver.of(ev.Park) == [ev.Park(A, S, epoch, store=True)]
    driver.tell(ev.ParkAnswered(A, S, epoch, ""))
    driver.tell(ev.ActorBeat(B, ends_in=59.0))
    assert driver.of(ev.Park) == []
    driver.release("s")
    assert discarded(driver) == [A]


def test_what_could_not_be_stored_is_still_where_it_was(driver: PoolDriver) -> None:
    epoch = parked(driver)
    driver.actor("b")
    driver.tell(ev.DrainAsked(A))
    driver.tell(ev.ParkAnswered(A, S, epoch, failure="no space"))
    driver.release("s")
    assert discarded(driver) == [A]
