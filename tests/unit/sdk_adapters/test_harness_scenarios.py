"""Scenario files as the load harness takes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from scheduler.core.errors import ConfigurationError
from scheduler.scenario import library
from sdk_adapters.harness.plan import plan
from sdk_adapters.harness.scenarios import check, read
from tests.unit.scenario.scenarios import small

pytestmark = pytest.mark.unit

SINGLE = [name for name in library.names() if name != "default"]


@pytest.mark.parametrize("name", SINGLE)
def test_every_preset_asks_only_for_what_is_measured(name: str) -> None:
    assert read(name).name == name


@pytest.mark.parametrize("name", ["smoke", "steady", "flash-crowd", "soak", "chaos"])
def test_presets_for_services_say_what_must_hold(name: str) -> None:
    assert "sessions_lost" in read(name).slo


@pytest.mark.parametrize("name", ["smoke", "steady", "soak", "chaos"])
def test_presets_for_services_have_gpus_that_are_on_no_edge_of_a_slot(name: str) -> None:
    # The scheduler counts with the time that it measures: some milliseconds more than declared.
    spec = read(name).spec
    ceiling, chunk_ms = spec.pool_rules().compute_ceiling, spec.model.chunk_ms
    assert ceiling // (chunk_ms * 0.95) == ceiling // (chunk_ms * 1.05)


def test_a_scenario_of_the_simulator_can_be_put_on_a_service() -> None:
    scenario = read("spot", scale=0.01)
    assert 10 < len(plan(scenario).visits) < 200


def test_another_seed_draws_other_sessions() -> None:
    assert plan(read("steady", seed=8)).visits != plan(read("steady")).visits


def test_several_scenarios_are_not_one() -> None:
    with pytest.raises(ConfigurationError, match="h200, wide, one-slot"):
        read("default")


@pytest.mark.parametrize(
    ("slo", "told"),
    [
        ({"first_frame": {"p95": 1}}, r"slo\.first_frame: no such metric"),
        ({"frames_lost": {"p95": 1}}, r"slo\.frames_lost\.p95: it has total"),
        ({"turned_away": {"total": 1}}, r"slo\.turned_away\.total: it has share"),
        ({"queue_age": {"p99": 1}}, r"slo\.queue_age\.p99: it has max, mean, min"),
        ({"join": {"share": 1}}, r"slo\.join\.share: it has max, mean"),
    ],
)
def test_what_is_not_measured_cannot_be_asked_for(slo: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        check(small(slo=slo).slo, "a test")


def test_a_file_of_ones_own_is_checked_as_well(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: mine\nworkload: {crowds: [{at: 0s, sessions: 4}]}\nslo: {joins: {p95: 1}}\n"
    )
    with pytest.raises(ConfigurationError, match=r"mine\.yaml .* slo\.joins"):
        read(str(path))
