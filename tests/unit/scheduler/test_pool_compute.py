"""Compute in the pool: bookings, the grace of new sessions, the wait of the others."""

from __future__ import annotations

import pytest

from scheduler.core import pool_events as ev
from scheduler.core.errors import SessionClosedError, UnknownSessionError
from scheduler.core.ids import ActorId, Epoch, SessionId
from scheduler.core.lease import LeaseState
from tests.unit.scheduler.pool_driver import PoolDriver, held

pytestmark = pytest.mark.unit

FOUR = 200.0
"""Chunk cost of which four fit below 850 ms a second."""


@pytest.fixture
def driver() -> PoolDriver:
    return PoolDriver()


def placed(driver: PoolDriver, count: int, chunk_ms: float = FOUR) -> list[Epoch]:
    """An actor with sessions s0, s1, ... that somebody is connected to, past their grace."""
    driver.actor(slots=9, chunk_ms=chunk_ms)
    epochs = []
    for number in range(count):
        epochs.append(driver.place(f"s{number}"))
        driver.connect(f"s{number}")
        driver.wait(30.0)
    return epochs


def answers(driver: PoolDriver) -> dict[str, bool]:
    return {answer.session: answer.booked for answer in driver.of(ev.BookAnswered)}


def test_booking_within_the_ceiling_is_granted_at_once(driver: PoolDriver) -> None:
    epochs = placed(driver, 4)
    for number, epoch in enumerate(epochs):
        assert driver.book(f"s{number}", epoch) == [
            ev.BookAnswered(SessionId(f"s{number}"), epoch, booked=True)
        ]
    assert driver.view().booked_ms_per_s == 800.0
    assert driver.view().computing == 4


def test_booking_over_the_ceiling_waits_for_its_turn(driver: PoolDriver) -> None:
    epochs = placed(driver, 6)
    for number in range(4):
        driver.book(f"s{number}", epochs[number])
    assert driver.book("s4", epochs[4]) == []
    assert driver.book("s5", epochs[5]) == []
    driver.unbook("s1", epochs[1])
    assert answers(driver) == {"s4": True}
    driver.release("s0")
    assert answers(driver) == {"s5": True}


def test_booking_waits_only_so_long(driver: PoolDriver) -> None:
    epochs = placed(driver, 5)
    for number in range(5):
        driver.book(f"s{number}", epochs[number])
    assert driver.wait(29.9) == []
    driver.wait(0.1)
    assert driver.effects == [
        ev.BookAnswered(SessionId("s4"), epochs[4], booked=False, retry_after=5.0)
    ]
    assert driver.session("s4").state is LeaseState.ACTIVE


def test_booking_is_idempotent(driver: PoolDriver) -> None:
    epochs = placed(driver, 5)
    for number in range(4):
        driver.book(f"s{number}", epochs[number])
        assert driver.book(f"s{number}", epochs[number]) != []
    assert driver.view().computing == 4
    driver.book("s4", epochs[4])
    driver.wait(20.0)
    driver.book("s4", epochs[4])
    driver.wait(10.0)
    assert answers(driver) == {"s4": False}


def test_unbooking_is_idempotent_and_ignores_other_epochs(driver: PoolDriver) -> None:
    [epoch] = placed(driver, 1)
    driver.book("s0", epoch)
    driver.unbook("s0", epoch - 1)
    assert driver.view().computing == 1
    for _ in range(2):
        driver.unbook("s0", epoch)
        assert driver.view().computing == 0
    assert driver.unbook("nobody", 1) == []


def test_booking_with_a_void_epoch_is_refused(driver: PoolDriver) -> None:
    [epoch] = placed(driver, 1)
    for other in (epoch - 1, epoch + 1):
        with pytest.raises(SessionClosedError):
            driver.book("s0", other)


def test_booking_for_a_session_that_is_nowhere_is_refused(driver: PoolDriver) -> None:
    with pytest.raises(UnknownSessionError):
        driver.book("nobody", 1)
    [epoch] = placed(driver, 1)
    driver.release("s0")
    with pytest.raises(SessionClosedError):
        driver.book("s0", epoch)


def test_giving_a_wait_up_leaves_the_turn_to_the_next(driver: PoolDriver) -> None:
    epochs = placed(driver, 6)
    for number in range(6):
        driver.book(f"s{number}", epochs[number])
    driver.tell(ev.BookWithdrawn(SessionId("s4"), epochs[4]))
    driver.unbook("s0", epochs[0])
    assert answers(driver) == {"s5": True}


def test_giving_up_does_not_take_back_what_is_booked(driver: PoolDriver) -> None:
    [epoch] = placed(driver, 1)
    driver.book("s0", epoch)
    driver.tell(ev.BookWithdrawn(SessionId("s0"), epoch))
    assert driver.view().computing == 1


def test_unbooking_while_waiting_answers_the_wait(driver: PoolDriver) -> None:
    epochs = placed(driver, 5)
    for number in range(5):
        driver.book(f"s{number}", epochs[number])
    driver.unbook("s4", epochs[4])
    assert answers(driver) == {"s4": False}


def test_a_session_that_ends_while_it_waits_is_answered(driver: PoolDriver) -> None:
    epochs = placed(driver, 5)
    for number in range(5):
        driver.book(f"s{number}", epochs[number])
    driver.release("s4")
    assert answers(driver) == {"s4": False}


def test_a_lone_session_may_take_all_there_is(driver: PoolDriver) -> None:
    epochs = placed(driver, 2, chunk_ms=1000.0)
    assert answers_of(driver, "s0", epochs[0]) == {"s0": True}
    assert answers_of(driver, "s1", epochs[1]) == {}


def answers_of(driver: PoolDriver, session: str, epoch: Epoch) -> dict[str, bool]:
    driver.book(session, epoch)
    return answers(driver)


def test_a_new_session_holds_compute_for_its_grace(driver: PoolDriver) -> None:
    driver.actor(slots=9, chunk_ms=FOUR)
    for number in range(4):
        driver.place(f"s{number}")
        driver.connect(f"s{number}")
    assert driver.view().booked_ms_per_s == 800.0
    assert driver.view().computing == 0
    driver.ask("s4")
    assert driver.session("s4").state is LeaseState.QUEUED
    driver.wait(29.9)
    assert driver.of(ev.Admit) == []
    driver.wait(0.1)
    assert driver.admitted().session == "s4"


def test_the_grace_turns_into_a_booking(driver: PoolDriver) -> None:
    driver.actor(chunk_ms=FOUR)
    epoch = driver.place("s")
    driver.connect("s")
    assert driver.book("s", epoch) == [ev.BookAnswered(SessionId("s"), epoch, booked=True)]
    driver.wait(60.0)
    assert driver.view().computing == 1


def test_the_grace_begins_when_the_session_is_ready(driver: PoolDriver) -> None:
    driver.actor(chunk_ms=FOUR)
    driver.ask("s")
    admit = driver.admitted()
    driver.connect("s")
    driver.wait(4.0)
    driver.answer(admit)
    driver.wait(29.9)
    assert driver.view().booked_ms_per_s == 200.0
    driver.wait(0.1)
    assert driver.view().booked_ms_per_s == 0.0


def test_a_session_may_book_before_its_admission_is_heard(driver: PoolDriver) -> None:
    driver.actor(chunk_ms=FOUR)
    driver.ask("s")
    admit = driver.admitted()
    driver.connect("s")
    driver.book("s", admit.epoch)
    driver.answer(admit)
    driver.wait(60.0)
    assert driver.view().computing == 1


def test_those_who_wait_for_compute_come_before_new_sessions(driver: PoolDriver) -> None:
    epochs = placed(driver, 5)
    for number in range(5):
        driver.book(f"s{number}", epochs[number])
    driver.ask("new")
    driver.unbook("s0", epochs[0])
    assert answers(driver) == {"s4": True}
    assert driver.session("new").state is LeaseState.QUEUED
    driver.unbook("s1", epochs[1])
    assert driver.admitted().session == "new"


def test_a_refused_booking_says_when_a_grace_ends() -> None:
    driver = PoolDriver(ev.PoolRules(start_wait=10.0))
    epochs = placed(driver, 4)
    for number in range(3):
        driver.book(f"s{number}", epochs[number])
    driver.place("new")
    driver.connect("new")
    driver.book("s3", epochs[3])
    driver.wait(10.0)
    assert driver.effects == [
        ev.BookAnswered(SessionId("s3"), epochs[3], booked=False, retry_after=20.0)
    ]


def test_the_cost_follows_what_is_measured(driver: PoolDriver) -> None:
    driver.actor(chunk_ms=100.0)
    driver.place("s")
    driver.connect("s")
    for _ in range(50):
        driver.tell(ev.ActorBeat(ActorId("a"), 400.0))
    assert driver.view().booked_ms_per_s == pytest.approx(400.0, rel=0.01)
    driver.tell(ev.ActorBeat(ActorId("a"), 0.0))
    assert driver.view().booked_ms_per_s == pytest.approx(400.0, rel=0.01)


def test_a_measurement_never_takes_a_booking_away(driver: PoolDriver) -> None:
    epochs = placed(driver, 4)
    for number in range(4):
        driver.book(f"s{number}", epochs[number])
    for _ in range(50):
        assert driver.tell(ev.ActorBeat(ActorId("a"), 900.0)) == []
    assert driver.view().computing == 4


def test_a_cheaper_chunk_lets_those_who_wait_go_on(driver: PoolDriver) -> None:
    epochs = placed(driver, 5)
    for number in range(5):
        driver.book(f"s{number}", epochs[number])
    granted: dict[str, bool] = {}
    for _ in range(20):
        driver.tell(ev.ActorBeat(ActorId("a"), 100.0))
        granted |= answers(driver)
    assert granted == {"s4": True}


def test_computing_sessions_that_an_actor_brings_along_count_at_once(driver: PoolDriver) -> None:
    driver.actor(
        chunk_ms=FOUR, slots=8, held=tuple(held(f"s{n}", n + 1, computing=True) for n in range(5))
    )
    assert driver.view().computing == 5
    driver.ask("new")
    assert driver.session("new").state is LeaseState.QUEUED


def test_registering_again_settles_who_computes(driver: PoolDriver) -> None:
    epochs = placed(driver, 2)
    driver.book("s0", epochs[0])
    driver.actor(
        slots=9, chunk_ms=FOUR, held=(held("s0", epochs[0]), held("s1", epochs[1], computing=True))
    )
    assert not driver.session("s0").computing
    assert driver.session("s1").computing


def test_a_lost_actor_answers_those_who_wait(driver: PoolDriver) -> None:
    epochs = placed(driver, 5)
    for number in range(5):
        driver.book(f"s{number}", epochs[number])
    driver.tell(ev.ActorDied(ActorId("a")))
    assert answers(driver) == {"s4": False}
