"""The language of scenarios."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scheduler.core.errors import ConfigurationError
from scheduler.scenario import library
from scheduler.scenario.scenario import parse
from scheduler.scenario.workload import ArrivalTrace
from scheduler.simulator.world import World
from tests.unit.scenario.scenarios import small

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
    assert scenario.spec.compute_slots == slots


def test_the_bound_counts_one_slot_for_a_gpu_that_is_too_slow_for_any() -> None:
    assert small(pool__model__chunk_ms=1400).spec.compute_slots == 1


def test_a_misspelt_key_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"workload\.sesion"):
        small(workload__sesion={"kind": "fixed", "value": 1})


def test_an_unknown_rule_is_named() -> None:
    with pytest.raises(ConfigurationError, match="no_such_rule"):
        small(pool__rules={"no_such_rule": 1})


def test_rules_reach_the_core_with_their_type() -> None:
    rules = small(pool__rules={"queue_limit": 9, "start_grace": 7}).spec.pool_rules()
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
    assert isinstance(scenario.workload.arrivals, ArrivalTrace)
    assert scenario.workload.arrivals.path == tmp_path / "them.csv"


def test_what_is_neither_preset_nor_file_is_told_with_the_presets() -> None:
    with pytest.raises(ConfigurationError, match="flash-crowd"):
        library.load("h2000")


def test_what_is_no_yaml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("name: [")
    with pytest.raises(ConfigurationError, match="not YAML"):
        library.load(str(path))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"workload__arrivals": None}, "nobody comes"),
        ({"load__wires": {"grpc": 0, "webrtc": 0}}, "all weights are 0"),
        ({"load__wires": {"carrier-pigeon": 1}}, "carrier-pigeon"),
        ({"load__clip": {"path": "a.mp4", "width": 64}}, "not both"),
        ({"load__networks": [{"name": "far", "share": 1}] * 2}, "the same name"),
        ({"load__networks": [{"name": "far", "share": 1, "los": 0.1}]}, r"networks\.0\.los"),
        ({"load__prompts": []}, r"load\.prompts"),
        ({"slo": {"join": {}}}, "nothing is asked"),
        ({"slo": {"join": {"p96": 1}}}, r"slo\.join\.p96"),
        ({"slo": {"Join!": {"p95": 1}}}, "slo"),
        ({"duration": "10"}, "90s, 10m, 1h30m"),
        ({"workload__crowds": [{"at": "-5s", "sessions": 1}]}, r"crowds\.0\.at"),
        (
            {
                "workload__arrivals": {
                    "kind": "ramp",
                    "from_per_minute": 0,
                    "to_per_minute": 0,
                    "over": "1m",
                }
            },
            "nobody comes",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_where_it_stands(
    changes: dict[str, object], told: str
) -> None:
    with pytest.raises(ConfigurationError, match=told):
        small(**changes)


def test_a_wire_that_is_not_named_is_not_used() -> None:
    assert small(load__wires={"webrtc": 1}).load.wires == {"webrtc": 1}
    assert set(small().load.wires) == {"grpc", "webrtc"}


def test_a_scenario_needs_no_pool_but_to_be_simulated() -> None:
    scenario = small(pool=None)
    with pytest.raises(ConfigurationError, match="small has no `pool`"):
        _ = scenario.spec
    with pytest.raises(ConfigurationError, match="sana-gateway load"):
        World(scenario)


def test_a_clip_of_ones_own_is_found_beside_the_scenario(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "name: mine\nworkload: {crowds: [{at: 0s, sessions: 1}]}\nload: {clip: {path: a.mp4}}\n"
    )
    (scenario,) = library.load(str(tmp_path / "mine.yaml"))
    assert scenario.load.clip.path == tmp_path / "a.mp4"


def test_the_bounds_that_are_asked_are_those_that_are_given() -> None:
    bounds = small(slo={"join": {"p95": 2000, "max": 9000}}).slo["join"]
    assert bounds.asked == {"p95": 2000, "max": 9000}


def test_durations_are_told_as_one_would_write_them() -> None:
    document = json.loads(small().model_dump_json())
    assert (document["duration"], document["workload"]["session"]["mean"]) == ("15m", "6m")
