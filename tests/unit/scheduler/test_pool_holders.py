"""Holders in the pool: keys and tokens have no more sessions than they may, wherever they are."""

from __future__ import annotations

import dataclasses
import time

import pytest

from scheduler import wire
from scheduler.core import pool_events as ev
from scheduler.core.errors import LimitError
from scheduler.core.ids import Epoch, GatewayId, Holder, Principal, SessionId
from scheduler.core.lease import LeaseState
from tests.unit.scheduler.pool_driver import MODEL, PRINCIPAL, PoolDriver

pytestmark = pytest.mark.unit

KEY = Holder("key:web", 2)
TOKEN = Holder("token:1", 1)


def owner(*holders: Holder) -> Principal:
    return dataclasses.replace(PRINCIPAL, holders=holders)


def ask(
    driver: PoolDriver,
    session: str,
    *holders: Holder,
    gateway: str = "gateway",
    waited: float = 0.0,
    restore: bool = False,
    fork: bool = False,
) -> None:
    driver.tell(
        ev.PlaceAsked(
            SessionId(session),
            MODEL,
            owner(*holders),
            GatewayId(gateway),
            waited,
            restore,
            fork=fork,
        )
    )


def held_by(holder: Holder) -> ev.Held:
    return ev.Held(SessionId("s0"), Epoch(1), computing=False, principal=owner(holder), model=MODEL)


@pytest.fixture
def driver() -> PoolDriver:
    made = PoolDriver()
    made.actor("a", slots=2)
    return made


def test_a_key_has_no_more_sessions_than_it_may_through_any_gateway(driver: PoolDriver) -> None:
    ask(driver, "s0", KEY)
    ask(driver, "s1", KEY, gateway="another")
    with pytest.raises(LimitError, match="no more than 2 sessions") as refusal:
        ask(driver, "s2", KEY, gateway="a third")
    assert refusal.value.retry_after_s == driver.pool.rules.retry_after
    ask(driver, "other", Holder("key:other", 2))


def test_a_session_that_ends_makes_room(driver: PoolDriver) -> None:
    ask(driver, "s0", TOKEN)
    driver.release("s0")
    ask(driver, "s1", TOKEN)
    with pytest.raises(LimitError):
        ask(driver, "s2", TOKEN)


def test_all_holders_of_a_session_count_it(driver: PoolDriver) -> None:
    ask(driver, "s0", KEY, TOKEN)
    with pytest.raises(LimitError, match="no more than 1 "):
        ask(driver, "s1", KEY, TOKEN)
    ask(driver, "s1", KEY, Holder("token:2", 1))
    with pytest.raises(LimitError, match="no more than 2 "):
        ask(driver, "s2", KEY, Holder("token:3", 1))


def test_those_that_wait_count_and_a_refused_one_does_not(driver: PoolDriver) -> None:
    for number in range(2):
        ask(driver, f"s{number}")
    ask(driver, "waits", TOKEN)
    assert driver.session("waits").state is LeaseState.QUEUED
    for _ in range(3):
        with pytest.raises(LimitError):
            ask(driver, "refused", TOKEN)
    driver.release("waits")
    ask(driver, "next", TOKEN)


def test_asking_again_for_the_same_session_is_no_second_one(driver: PoolDriver) -> None:
    ask(driver, "s0", TOKEN)
    ask(driver, "s0", TOKEN)
    driver.release("s0")
    ask(driver, "s1", TOKEN)


def test_a_copy_counts_and_what_existed_before_is_never_refused(driver: PoolDriver) -> None:
    ask(driver, "s0", TOKEN)
    with pytest.raises(LimitError):
        ask(driver, "copy", TOKEN, restore=True, fork=True)
    ask(driver, "lost", TOKEN, restore=True)


def test_a_scheduler_that_restarts_counts_what_actors_hold() -> None:
    driver = PoolDriver()
    held = held_by(TOKEN)
    driver.actor("a", slots=4, held=(held,))
    driver.actor("a", slots=4, held=(held,))
    with pytest.raises(LimitError):
        ask(driver, "s1", TOKEN)
    driver.connect("s0")
    driver.release("s0")
    ask(driver, "s1", TOKEN)
    with pytest.raises(LimitError):
        ask(driver, "s2", TOKEN)


def test_a_ticket_that_is_handed_in_again_counts_once_its_actor_has_told_of_it() -> None:
    driver = PoolDriver()
    ask(driver, "s0", TOKEN, waited=3.0)
    driver.actor("a", held=(held_by(TOKEN),))
    driver.connect("s0")
    driver.release("s0")
    ask(driver, "s1", TOKEN)


def test_an_owner_crosses_the_wire(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    sent = dataclasses.replace(owner(KEY, Holder("key:free")), ends_at=160.0)
    written = wire.principal_out(sent)
    assert written.ends_in_us == 60_000_000, "clocks of processes have nothing in common"
    # The other process started 90 s later.
    monkeypatch.setattr(time, "monotonic", lambda: 10.0)
    assert wire.principal_in(written) == dataclasses.replace(sent, ends_at=70.0)
    assert wire.principal_in(wire.principal_out(PRINCIPAL)) == PRINCIPAL


@pytest.mark.parametrize("ends_at", [100.0, 99.0])
def test_an_end_that_is_over_stays_an_end(monkeypatch: pytest.MonkeyPatch, ends_at: float) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    written = wire.principal_out(dataclasses.replace(PRINCIPAL, ends_at=ends_at))
    assert wire.principal_in(written).ends_at is not None
