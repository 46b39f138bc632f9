"""`sana-gateway simulate`."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from typer.testing import CliRunner, Result

from scheduler.core.errors import ConfigurationError
from scheduler.simulator.command import simulate
from tests.unit.scenario.scenarios import small

pytestmark = pytest.mark.unit


def call(*arguments: str) -> Result:
    return CliRunner().invoke(simulate, list(arguments), env={"COLUMNS": "140"})


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    """A file with a small scenario; YAML is a superset of JSON."""
    path = tmp_path / "small.yaml"
    path.write_text(small(targets={"in_time": 0.9, "of_bound": 50}).model_dump_json())
    return path


def test_a_run_is_told_as_a_table_as_json_and_as_a_drawing(scenario: Path, tmp_path: Path) -> None:
    plot, figures = tmp_path / "small.svg", tmp_path / "small.json"
    result = call(str(scenario), "--json", str(figures), "--plot", str(plot))
    assert result.exit_code == 0, result.output
    for told in ("chunks in time", "GPU-hours / bound", "least loaded", "one session per GPU"):
        assert told in result.output
    (document,) = json.loads(figures.read_text())["runs"]
    assert document["met"] is True
    assert document["figures"]["arrivals"] > 30
    assert len(document["points"]) == 15
    assert len(document["baselines"]) == 3
    assert ET.fromstring(plot.read_text()).tag.endswith("svg")  # noqa: S314 - our own


def test_a_missed_target_ends_with_status_1(tmp_path: Path) -> None:
    path = tmp_path / "hard.yaml"
    path.write_text(small(targets={"of_bound": 1.0}).model_dump_json())
    result = call(str(path))
    assert result.exit_code == 1
    assert "missed" in result.output


def test_another_seed_is_another_day(scenario: Path, tmp_path: Path) -> None:
    arrivals = []
    for seed in ("1", "2"):
        figures = tmp_path / f"{seed}.json"
        call(str(scenario), "--seed", seed, "--json", str(figures))
        arrivals.append(json.loads(figures.read_text())["runs"][0]["figures"]["arrivals"])
    assert arrivals[0] != arrivals[1]


def test_the_presets_are_listed() -> None:
    result = call("--list")
    assert result.exit_code == 0
    for name in ("default", "h200", "wide", "one-slot", "flash-crowd", "spot", "smoke", "soak"):
        assert name in result.output


def test_a_capacity_is_predicted_in_place_of_a_run(tmp_path: Path) -> None:
    path, told = tmp_path / "two.yaml", tmp_path / "capacity.json"
    path.write_text(small(duration="1m", pool__gpus=2).model_dump_json())
    result = call(str(path), "--capacity", "--json", str(told))
    assert result.exit_code == 0, result.output
    (found,) = json.loads(told.read_text())["capacities"]
    assert f"{found['sessions']} sessions on 2 GPUs" in result.output
    assert "does not" in result.output


def test_a_preset_can_be_printed_to_begin_from() -> None:
    assert "chunk_ms: 280" in call("h200", "--show").output


def test_the_schema_is_json() -> None:
    assert json.loads(call("--schema").output)["title"] == "Scenario"


def test_what_has_no_pool_cannot_be_simulated(tmp_path: Path) -> None:
    path = tmp_path / "service.yaml"
    path.write_text("name: service\nworkload: {crowds: [{at: 0s, sessions: 1}]}\n")
    for option in ("--exact", "--capacity"):
        result = call(str(path), option)
        assert isinstance(result.exception, ConfigurationError)
        assert "sana-gateway load" in str(result.exception)


@pytest.mark.parametrize("arguments", [(), ("nothing-like-it",), ("h200", "--plot", "day.png")])
def test_what_cannot_be_run_is_refused_with_a_reason(arguments: tuple[str, ...]) -> None:
    result = call(*arguments)
    assert isinstance(result.exception, ConfigurationError)
