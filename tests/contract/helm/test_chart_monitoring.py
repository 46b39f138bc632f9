"""Alerts and dashboards: they ask for what the code measures, and alerts ring when they should."""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.contract.helm import chart
from tests.contract.helm.alert_cases import CASES, QUIET
from tests.required import ROOT, require
from tools.metrics_catalogue import SUFFIXES

pytestmark = pytest.mark.contract

OURS: Final = re.compile(r"\bsana_gateway_[a-z0-9_]+")
ROW: Final = re.compile(r"^\| `(sana_gateway_\w+)` \| (\w+) \|", re.MULTILINE)
PROCESS: Final = {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"}
"""Metrics that prometheus-client itself has of each process."""
WORDS: Final = re.compile(r"\b[a-z][a-z0-9_]*_[a-z0-9_]+\b(?=\{|\[|\)|$| )")


@functools.cache
def exposed() -> frozenset[str]:
    """All names of samples that the code makes: the page is made from it, and held to it."""
    rows = ROW.findall((ROOT / "docs/metrics.md").read_text())
    assert len(rows) > 50
    suffixes = {"histogram": SUFFIXES["histogram"]}
    return frozenset(name + suffix for name, kind in rows for suffix in suffixes.get(kind, ("",)))


def expressions(part: Any) -> Iterator[str]:
    """Yields every query in a dashboard."""
    if isinstance(part, dict):
        for name, each in part.items():
            if name in {"expr", "query"} and isinstance(each, str) and each != "prometheus":
                yield each
            else:
                yield from expressions(each)
    elif isinstance(part, list):
        for each in part:
            yield from expressions(each)


@pytest.fixture
def groups(renderings: dict[str, chart.Rendering]) -> list[chart.Json]:
    return list(renderings["keda"].of("PrometheusRule")["spec"]["groups"])


@pytest.fixture
def rules(groups: list[chart.Json]) -> list[chart.Json]:
    return [rule for group in groups for rule in group["rules"]]


def dashboards() -> list[Path]:
    return sorted((chart.CHART / "dashboards").glob("*.json"))


@pytest.mark.parametrize("path", dashboards(), ids=lambda path: path.stem)
def test_dashboards_ask_for_metrics_that_the_code_makes(path: Path) -> None:
    asked = list(expressions(json.loads(path.read_text())))
    assert len(asked) > 15
    names = {name for each in asked for name in OURS.findall(each)}
    assert names - exposed() == set()
    others = {name for each in asked for name in WORDS.findall(each) if name.startswith("process_")}
    assert others <= PROCESS


@pytest.mark.parametrize("path", dashboards(), ids=lambda path: path.stem)
def test_dashboards_take_their_source_and_namespace_from_variables(path: Path) -> None:
    board = json.loads(path.read_text())
    assert {"datasource", "namespace"} <= {each["name"] for each in board["templating"]["list"]}
    panels = [each for each in board["panels"] if each["type"] != "row"]
    assert {each["datasource"]["uid"] for each in panels} == {"${datasource}"}
    for panel in panels:
        assert all('namespace="$namespace"' in each["expr"] for each in panel["targets"]), panel
        grid = panel["gridPos"]
        assert grid["x"] + grid["w"] <= 24
    assert len({each["id"] for each in board["panels"]}) == len(board["panels"])


def test_the_config_maps_hold_the_dashboards_as_they_are(
    renderings: dict[str, chart.Rendering],
) -> None:
    held = {
        name: text
        for each in renderings["keda"].objects
        if each["kind"] == "ConfigMap" and each["metadata"]["labels"].get("grafana_dashboard")
        for name, text in each["data"].items()
    }
    assert {name: json.loads(text) for name, text in held.items()} == {
        path.name: json.loads(path.read_text()) for path in dashboards()
    }


def test_alerts_ask_for_metrics_that_the_code_makes(rules: list[chart.Json]) -> None:
    names = {name for rule in rules for name in OURS.findall(rule["expr"])}
    assert len(names) > 12
    assert names - exposed() == set()


def test_autoscalers_ask_for_metrics_that_the_code_makes(
    renderings: dict[str, chart.Rendering],
) -> None:
    scaler = renderings["autoscaling"].of("HorizontalPodAutoscaler")["spec"]
    (metric,) = scaler["metrics"]
    (trigger,) = renderings["keda"].of("ScaledObject")["spec"]["triggers"]
    names = {metric["pods"]["metric"]["name"], *OURS.findall(trigger["metadata"]["query"])}
    assert names == {"sana_gateway_sessions"}
    assert names <= exposed()


def test_what_the_drain_waits_for_is_a_metric() -> None:
    from gateway.leaving import CONNECTIONS

    assert CONNECTIONS in exposed()


def test_every_alert_says_what_to_do(rules: list[chart.Json]) -> None:
    page = (ROOT / "docs/alerts.md").read_text()
    sections = set(re.findall(r"^### (\w+)$", page, re.MULTILINE))
    assert {rule["alert"] for rule in rules} == sections
    for rule in rules:
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert {"summary", "description", "runbook_url"} == rule["annotations"].keys()
        link = f"https://runbooks.example.com/sana#{rule['alert'].lower()}"
        assert rule["annotations"]["runbook_url"] == link


def test_promtool_takes_the_rules(groups: list[chart.Json], tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": groups}))
    assert promtool("check", "rules", file) == ""


def test_every_alert_rings_when_it_should_and_only_then(
    groups: list[chart.Json], rules: list[chart.Json], tmp_path: Path
) -> None:
    assert {rule["alert"] for rule in rules} == CASES.keys()
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
    tests = [unit(each.series, {name} | each.beside) for name, each in CASES.items()]
    tests.append(unit((), set()))
    content = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "15s",
        # promtool tells only of the alerts that it is asked for: ask for all, in every case.
        "tests": [with_all(test, sorted(CASES)) for test in tests],
    }
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(content))
    assert promtool("test", "rules", tmp_path / "tests.yaml") == ""


def unit(series: tuple[tuple[str, str], ...], ringing: set[str]) -> chart.Json:
    """Returns a case of promtool: half an hour of samples, and which alerts ring at its end."""
    healthy = {name: values for name, values in QUIET if name not in dict(series)}
    told = {**healthy, **dict(series)}
    return {
        "interval": "15s",
        "input_series": [
            {"series": name, "values": values} for name, values in told.items() if values
        ],
        "ringing": ringing,
    }


def with_all(test: chart.Json, names: list[str]) -> chart.Json:
    """Asks of every alert whether it rings: `ALERTS` has those that do, by name."""
    ringing = test.pop("ringing")
    test["promql_expr_test"] = [
        {
            "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
            "eval_time": "30m",
            "exp_samples": [
                {"labels": f'{{alertname="{name}"}}', "value": 1}
                for name in names
                if name in ringing
            ],
        }
    ]
    return test


def promtool(*arguments: str | Path) -> str:
    """Runs promtool; returns what it complains of."""
    program = shutil.which("promtool") or require(".tools/bin/promtool")
    done = subprocess.run(
        [program, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    return "" if done.returncode == 0 else f"{done.stdout}{done.stderr}"
