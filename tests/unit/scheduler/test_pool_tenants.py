"""Tenants in the pool: limits, and places in fair turns."""

from __future__ import annotations

import dataclasses

import pytest

from scheduler.core import pool_events as ev
from scheduler.core.errors import LimitError, NoCapacityError
from scheduler.core.ids import SessionId
from scheduler.core.lease import LeaseState
from scheduler.core.tenants import TenantRules
from tests.unit.scheduler.pool_driver import CHEAP, STAYING, PoolDriver, full

pytestmark = pytest.mark.unit


def make(**tenants: TenantRules) -> PoolDriver:
    return PoolDriver(dataclasses.replace(STAYING, tenants=tenants))


def place(driver: PoolDriver, session: str, tenant: str) -> None:
    driver.ask(session, tenant=tenant)
    driver.answer(driver.admitted())
    driver.connect(session)


def test_a_tenant_holds_no_more_places_than_it_may() -> None:
    driver = make(x=TenantRules(max_sessions=2))
    driver.actor("a", slots=8, chunk_ms=CHEAP)
    for session in ("s0", "s1"):
        place(driver, session, "x")
    driver.ask("s2", tenant="x")
    assert driver.session("s2").state is LeaseState.QUEUED
    place(driver, "other", "y")
    driver.release("s0")
    assert driver.admitted().session == "s2"


def test_only_so_many_of_a_tenants_sessions_may_wait() -> None:
    driver = make(x=TenantRules(max_queued=1))
    full(driver)
    driver.ask("s1", tenant="x")
    with pytest.raises(LimitError, match="1 new sessions") as refusal:
        driver.ask("s2", tenant="x")
    assert refusal.value.retry_after_s == 5.0
    driver.ask("y1", tenant="y")
    assert driver.session("y1").state is LeaseState.QUEUED


def test_a_tenant_that_may_not_wait_is_placed_where_there_is_room() -> None:
    driver = make(x=TenantRules(max_queued=0))
    driver.actor("a")
    place(driver, "s", "x")


def test_restored_sessions_are_not_held_back() -> None:
    driver = make(x=TenantRules(max_sessions=1, max_queued=0))
    driver.actor("a")
    place(driver, "s", "x")
    driver.ask("old", tenant="x", restore=True)
    assert driver.admitted().session == "old"


def test_forks_are_held_back_and_refused_as_new_sessions_are() -> None:
    driver = make(x=TenantRules(max_sessions=1, max_queued=1))
    driver.actor("a", slots=8, chunk_ms=CHEAP)
    place(driver, "s", "x")
    driver.ask("fork-1", tenant="x", restore=True, fork=True)
    assert driver.session("fork-1").state is LeaseState.QUEUED
    with pytest.raises(LimitError, match="1 new sessions"):
        driver.ask("fork-2", tenant="x", restore=True, fork=True)
    driver.release("s")
    admit = driver.admitted()
    assert (admit.session, admit.restore, admit.computing) == ("fork-1", True, False)


def test_forks_count_for_the_limit_of_the_queue_and_wait_for_their_turn() -> None:
    driver = PoolDriver(dataclasses.replace(STAYING, queue_limit=2))
    full(driver)
    driver.ask("first")
    driver.ask("fork", restore=True, fork=True)
    with pytest.raises(NoCapacityError):
        driver.ask("third", restore=True, fork=True)
    assert [each.session for each in driver.pool.describe(driver.now).sessions[:2]] == [
        "first",
        "fork",
    ]


def test_a_fork_is_placed_near_the_state_that_it_begins_from() -> None:
    driver = make()
    driver.actor("a", host="h1")
    driver.actor("b", host="h2")
    driver.ask("fork", restore=True, fork=True, near_host="h2")
    assert driver.admitted().actor == "b"


def test_places_go_round_by_weight() -> None:
    driver = make(x=TenantRules(weight=2.0))
    full(driver)
    for number in range(6):
        driver.ask(f"y{number}", tenant="y")
    for number in range(6):
        driver.ask(f"x{number}", tenant="x")
    order = []
    driver.release("s0")
    for _ in range(6):
        admit = driver.admitted()
        order.append(admit.session[0])
        driver.answer(admit)
        driver.release(admit.session)
    assert sorted(order) == ["x"] * 4 + ["y"] * 2


def test_positions_follow_the_turns() -> None:
    driver = make(first=TenantRules(priority=1))
    full(driver)
    driver.ask("late", tenant="z")
    driver.ask("vip", tenant="first")
    assert driver.of(ev.Waiting) == [
        ev.Waiting(SessionId("vip"), 1, 0.0),
        ev.Waiting(SessionId("late"), 2, 0.0),
    ]


def test_a_long_queue_is_told_once_a_second() -> None:
    driver = PoolDriver(dataclasses.replace(STAYING, queue_limit=1000))
    full(driver)
    for number in range(100):
        driver.ask(f"q{number}")
    assert [w.position for w in driver.of(ev.Waiting)] == [100]
    driver.release("q3")
    assert driver.of(ev.Waiting) == []
    driver.wait(1.0)
    assert len(driver.of(ev.Waiting)) == 96
