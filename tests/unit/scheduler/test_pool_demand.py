"""How many actors the demand needs, of which models, and what counts as demand."""

from __future__ import annotations

import dataclasses

import pytest

from scheduler.core import pool_events as ev
from scheduler.core.errors import NoCapacityError
from scheduler.core.ids import ActorId
from scheduler.core.tenants import TenantRules
from tests.unit.scheduler.pool_driver import CHEAP, STAYING, PoolDriver

pytestmark = pytest.mark.unit

A = ActorId("a")


def make(**rules: object) -> PoolDriver:
    return PoolDriver(dataclasses.replace(STAYING, **rules))  # type: ignore[arg-type]


def wanted(driver: PoolDriver) -> dict[str, int]:
    return dict(driver.pool.signals(driver.now).wanted_by_model)


# What a tenant's limit holds back


def test_what_a_tenants_limit_holds_back_is_no_demand() -> None:
    driver = make(tenants={"small": TenantRules(max_sessions=1)})
    driver.actor("a", slots=2, chunk_ms=CHEAP)
    for number in range(6):
        driver.ask(f"s{number}", tenant="small")
    signals = driver.pool.signals(driver.now)
    assert (signals.queued, signals.actors_wanted) == (5, 1)
    driver.wait(9.0)
    assert driver.pool.signals(driver.now).queue_age == 0.0


def test_nor_does_it_take_another_models_actors() -> None:
    driver = make(models=("x", "y"), tenants={"small": TenantRules(max_sessions=0)})
    for name in ("a", "b"):
        driver.actor(name, models=("x",))
    driver.ask("s", model="y", tenant="small")
    driver.wait(120.0)
    assert driver.of(ev.Repurpose) == []


def test_only_as_much_of_a_tenant_is_demand_as_its_limit_leaves() -> None:
    driver = make(tenants={"small": TenantRules(max_sessions=2)})
    driver.actor("a", slots=1, chunk_ms=CHEAP)
    for number in range(6):
        driver.ask(f"s{number}", tenant="small")
    assert wanted(driver) == {"model": 2}
    driver.wait(3.0)
    assert driver.pool.signals(driver.now).queue_age == 3.0


# Models


def test_a_model_that_nobody_can_serve_takes_no_actor_from_others() -> None:
    driver = make(models=("x",))
    for name in ("a", "b"):
        driver.actor(name, models=("x",))
    # Submitted again after a restart of the scheduler, which may know it again later.
    driver.ask("s", model="withdrawn", waited=30.0)
    driver.wait(120.0)
    assert driver.of(ev.Repurpose) == []
    assert wanted(driver) == {"x": 1}


def test_a_model_without_actors_needs_one_until_it_is_known_how_many_sessions_one_holds() -> None:
    driver = make(models=("x", "y"))
    driver.actor("a", models=("x",))
    for number in range(9):
        driver.ask(f"y{number}", model="y")
    assert wanted(driver) == {"x": 1, "y": 1}
    driver.actor("b", models=("y",), slots=4, chunk_ms=CHEAP)
    assert wanted(driver)["y"] == 3
    driver.die("b")
    assert wanted(driver)["y"] == 3, "it is still known"


# Encoding


def test_encoding_counts_where_it_is_what_binds() -> None:
    driver = make()
    # A host of two actors encodes four sessions: two for each.
    for name in ("a", "b"):
        driver.actor(
            name, host="h", slots=4, chunk_ms=CHEAP, encode_capacity_ms=1000.0, encode_ms=200.0
        )
    for number in range(4):
        driver.running(f"s{number}")
    assert wanted(driver) == {"model": 2}
    driver.ask("s4")
    assert wanted(driver) == {"model": 3}


# A lone session


def test_a_lone_session_runs_at_the_highest_rate_that_keeps_up() -> None:
    driver = make(degrade=True)
    driver.actor("a", chunk_ms=1200.0, rates=(0.8, 0.5))
    driver.ask("s0")
    assert driver.admitted().quality.rate == 0.8


def test_a_lone_session_may_fill_more_than_the_ceiling() -> None:
    driver = make()
    driver.actor("a", chunk_ms=950.0)
    driver.ask("s0")
    assert driver.admitted().quality.rate == 1.0


def test_a_model_that_keeps_up_at_no_permitted_rate_is_refused() -> None:
    driver = make()
    driver.actor("a", chunk_ms=1200.0, rates=(0.5,))
    with pytest.raises(NoCapacityError, match="too slow"):
        driver.ask("s0")


def test_a_measurement_alone_locks_nobody_out() -> None:
    driver = make()
    driver.actor("a", chunk_ms=900.0)
    for _ in range(30):
        driver.tell(ev.ActorBeat(A, 1500.0))
    driver.ask("s0")
    assert driver.admitted().quality.rate == 1.0, "it is corrected by computing alone"
