"""The language of scenarios."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scheduler.core.errors import ConfigurationError
from scheduler.simulator import library
from scheduler.simulator.scenario import Scenario, parse
from tests.unit.simulator.scenarios import small

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("name", library.names())
def test_every_preset_follows_the_schema(name: str) -> None:
    for scenario in library.load(name):
        assert parse(json.loads(scenario.model_dump_json()), name) == scenario


def test_default_stands_for_three_presets() -> None:
    assert [each.name for each in library.load("default")] == ["h200", "wide", "one-slot"]


@pytest.mark.parametrize(("name", "slots"), [("h200", 3), ("wide", 7), ("one-slot", 1)])
def test_presets_compute_as_many_sessions_on_a_gpu_as_they_say(name: str, slots: int) -> None:
    (scenario,) = library.load(name)
    assert scenario.pool.compute_slots == slots


def test_the_bound_counts_one_slot_for_a_gpu_that_is_too_slow_for_any() -> None:
    assert small(pool__model__chunk_ms=1400).pool.compute_slots == 1


def test_a_misspelt_key_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"workload\.sesion_minutes"):
        small(workload__sesion_minutes={"kind": "fixed", "value": 1})


def test_an_unknown_rule_is_named() -> None:
    with pytest.raises(ConfigurationError, match="no_such_rule"):
        small(pool__rules={"no_such_rule": 1})


def test_rules_reach_the_core_with_their_type() -> None:
    rules = small(pool__rules={"queue_limit": 9, "start_grace": 7}).pool.pool_rules()
    assert (rules.queue_limit, rules.start_grace) == (9, 7.0)
    assert isinstance(rules.queue_limit, int)


def test_a_gpu_that_holds_no_session_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="does not fit"):
        small(pool__memory_gb=10)


def test_a_file_is_read_with_paths_relative_to_itself(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "name: mine\nworkload: {arrivals: {kind: trace, path: them.csv}}\n"
        "pool: {gpus: 2, model: {chunk_ms: 100}}\n"
    )
    (scenario,) = library.load(str(tmp_path / "mine.yaml"))
    assert scenario.workload.arrivals.kind == "trace"
    assert scenario.workload.arrivals.path == tmp_path / "them.csv"


def test_what_is_neither_preset_nor_file_is_told_with_the_presets() -> None:
    with pytest.raises(ConfigurationError, match="flash-crowd"):
        library.load("h2000")


def test_what_is_no_yaml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("name: [")
    with pytest.raises(ConfigurationError, match="not YAML"):
        library.load(str(path))


def test_the_schema_describes_every_part() -> None:
    schema = Scenario.model_json_schema()
    assert {"workload", "pool", "targets"} <= schema["properties"].keys()
    assert "failure-storm" in json.dumps(schema)
