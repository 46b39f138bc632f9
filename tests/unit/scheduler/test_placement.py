"""Placement policies."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest

from scheduler.core.ids import ActorId
from scheduler.core.placement import ActorLoad, LeastLoaded, Pack, PlacementPolicy, Spread
from tests.unit.scheduler.pool_driver import PoolDriver

pytestmark = pytest.mark.unit


def load(name: str, sessions: int, booked: float, slots: int = 8) -> ActorLoad:
    return ActorLoad(ActorId(name), sessions, slots, booked, 850.0)


@pytest.mark.parametrize(
    ("policy", "chosen"), [(Pack(), "full"), (Spread(), "empty"), (LeastLoaded(), "idle")]
)
def test_each_policy_chooses_its_actor(policy: PlacementPolicy, chosen: str) -> None:
    loads = [load("empty", 1, 400.0), load("full", 6, 300.0), load("idle", 4, 0.0)]
    assert policy.choose(loads) == chosen


@pytest.mark.parametrize("policy", [Pack(), Spread(), LeastLoaded()])
def test_equal_actors_are_taken_in_order(policy: PlacementPolicy) -> None:
    assert policy.choose([load("a", 2, 100.0), load("b", 2, 100.0)]) == "a"


def test_shares_count_not_numbers() -> None:
    assert Pack().choose([load("large", 6, 0, slots=64), load("small", 3, 0, slots=4)]) == "small"


def test_compute_decides_between_equally_full_actors() -> None:
    loads = [load("light", 2, 100.0), load("heavy", 2, 500.0)]
    assert Pack().choose(loads) == "heavy"
    assert Spread().choose(loads) == "light"


@pytest.mark.parametrize(("policy", "used"), [(Pack(), {"a"}), (Spread(), {"a", "b"})])
def test_a_pool_follows_its_policy(policy: PlacementPolicy, used: set[str]) -> None:
    driver = PoolDriver(policy=policy)
    driver.actor("a")
    driver.actor("b")
    driver.place("s1")
    driver.place("s2")
    assert {driver.session(s).actor for s in ("s1", "s2")} == used


def test_the_built_in_policies_are_installed_by_name() -> None:
    found = {entry.name: entry.load() for entry in entry_points(group="sana_gateway.placement")}
    assert found == {"pack": Pack, "spread": Spread, "least-loaded": LeastLoaded}
